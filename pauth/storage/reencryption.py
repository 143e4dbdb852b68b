"""A whole store to the newest key, while it is in use (VC-5, P16).

Each record is read, encrypted anew, and put back in its place if its version is still the same: a login or a refresh that comes in between always
wins, and is encrypted with the newest key by itself. Nothing else about the record changes, so nobody notices. It may be killed at any moment and
started again: each record is whole at all times, under the old key or the new one, and those that are done are not done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pauth.errors import ConfigurationError, StorageUnavailable, TokenStorageError
from pauth.storage.base import CoordinatedTokenStorage, Record, RecordKey
from pauth.storage.driven import DrivenTokenStorage

__all__ = ["ReencryptionReport", "keys_in_use", "reencrypt"]

_PASSES: Final = 3
_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True)
class ReencryptionReport:
    """How far a re-encryption has come."""

    total: int
    """How many records there were when it began."""

    checked: int
    """How many it has looked at."""

    rewritten: int
    """How many it has encrypted anew."""

    failed: int
    """How many cannot be read, or not be written as pauth does, among them those so damaged that nobody can tell whose they are. They are left as
    they are."""

    remaining: int
    """How many are under an older key still, because somebody who uses that key writes them all the time."""

    @property
    def complete(self) -> bool:
        """Whether every record is under the newest key; of a report that :func:`reencrypt` returned."""
        return not self.failed and not self.remaining


async def reencrypt(
    storage: CoordinatedTokenStorage,
    *,
    namespace: str | None = None,
    batch: int = 256,
    on_progress: Callable[[ReencryptionReport], object] | None = None,
    on_failure: Callable[[RecordKey, TokenStorageError], object] | None = None,
) -> ReencryptionReport:
    """Encrypt every record with the newest key: those under older keys, and those that are Fernet tokens.

    Give each process that uses the store the new key first, in front of the old one, or what it writes meanwhile is under the old key again.
    Memory holds one batch. Pending logins are not rewritten: keep the old key until they are over, ten minutes by default and an hour at most.

    :param storage: one of pauth's that encrypt, with the new key in front of the old ones.
    :param namespace: only this one; ``None`` for all.
    :param batch: how many records are done at once, up to 10,000.
    :param on_progress: called after each batch.
    :param on_failure: called with what cannot be done and why, more than once for the same record perhaps.
    :raises ConfigurationError: the storage does not encrypt.
    :raises StorageUnavailable: the store does not answer. What was done is done; call it again.
    """
    if not isinstance(storage, DrivenTokenStorage):
        raise ConfigurationError(f"{type(storage).__name__} does not encrypt; there is nothing to re-encrypt")
    key_id = storage.key_id
    if key_id is None:
        raise ConfigurationError("this storage keeps plaintext; copy it to an encrypted one with copy_storage()")
    work = _Reencryption(storage, key_id, namespace, batch, on_progress, on_failure)
    work.total = await storage.count(namespace)
    rewritten = 0
    for _ in range(_PASSES):
        rewritten = work.rewritten
        await work.walk()
        if rewritten == work.rewritten and not work.remaining:
            break
    else:  # somebody brings back an older key behind our back: as many may be under it again
        work.remaining += work.rewritten - rewritten
    await storage.renew_secret()
    return work.report()


async def keys_in_use(storage: CoordinatedTokenStorage, *, namespace: str | None = None, batch: int = 1000) -> dict[str | None, int]:
    """How many records are under each key: before a key is removed, there must be none under it (VC-5).

    :param namespace: only this one; ``None`` for all.
    :param batch: how many records are looked at at once, up to 10,000.
    :returns: numbers by key id (:attr:`.EncryptionKey.key_id` in hexadecimal); ``None`` stands for records that pauth has not encrypted.
    """
    found: Counter[str | None] = Counter()
    cursor: str | None = None
    while True:
        page = await storage.list_users(namespace, cursor=cursor, limit=batch)
        found.update(item.key_id for item in page.items)
        cursor = page.next_cursor
        if cursor is None:
            return dict(found)


class _Reencryption:
    def __init__(
        self,
        storage: DrivenTokenStorage,
        key_id: str,
        namespace: str | None,
        batch: int,
        on_progress: Callable[[ReencryptionReport], object] | None,
        on_failure: Callable[[RecordKey, TokenStorageError], object] | None,
    ) -> None:
        self._storage = storage
        self._key_id = key_id
        self._namespace = namespace
        self._batch = batch
        self._on_progress = on_progress
        self._on_failure = on_failure
        self.total = self.checked = self.rewritten = self.failed = self.remaining = 0

    def report(self) -> ReencryptionReport:
        return ReencryptionReport(self.total, self.checked, self.rewritten, self.failed, self.remaining)

    async def walk(self) -> None:
        """Go through the store once."""
        seen = self.failed = self.remaining = 0
        before = await self._storage.count(self._namespace)
        cursor: str | None = None
        while True:
            page = await self._storage.list_users(self._namespace, cursor=cursor, limit=self._batch)
            await self._rewrite([item.key for item in page.items if item.key_id != self._key_id])
            seen += len(page.items)
            self.checked = max(self.checked, seen)
            if self._on_progress is not None:
                self._on_progress(self.report())
            cursor = page.next_cursor
            if cursor is None:
                break
        # A record whose owner cannot be read is counted and not listed. (One that was deleted while another one came may look the same, once.)
        self.failed += max(0, min(before, await self._storage.count(self._namespace)) - seen)

    async def _rewrite(self, keys: Sequence[RecordKey]) -> None:
        for _ in range(_ATTEMPTS):
            if not keys:
                return
            old: list[Record] = []
            for key, found in zip(keys, await self._storage.get_many(keys), strict=True):
                if isinstance(found, TokenStorageError):
                    self._fail(key, found)
                elif found is not None and found.key_id != self._key_id:
                    old.append(found)
            again: list[RecordKey] = []
            for record, done in zip(old, await self._storage.reencrypt_many(old), strict=True):
                if isinstance(done, TokenStorageError):
                    self._fail(record.key, done)
                elif done:
                    self.rewritten += 1
                else:
                    again.append(record.key)
            keys = again
        self.remaining += len(keys)

    def _fail(self, key: RecordKey, error: TokenStorageError) -> None:
        if isinstance(error, StorageUnavailable):
            raise error
        self.failed += 1
        if self._on_failure is not None:
            self._on_failure(key, error)
