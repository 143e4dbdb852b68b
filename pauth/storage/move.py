"""Moving house: everything from one storage to another, while it is in use.

The rule of who wins, where both have a record of the same user and they differ: the one that was written later (:attr:`.Record.stored_at`). A copy
keeps the time its original was written at, so what was refreshed in the old store after it was copied is later than the copy, and what was
refreshed in the new store is later than the original. The clocks of the machines that write have to agree better than the time between two writes
of one user.

Versions are each store's own. Tokens, expiry and lineage are carried over; pending logins and leases, which last minutes, are not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pauth.clock import Clock, SystemClock
from pauth.errors import ConfigurationError, StorageUnavailable, TokenStorageError
from pauth.storage.adapters import ThreeMethodAdapter, coordinated
from pauth.storage.arguments import check_limit, milliseconds
from pauth.storage.base import AsyncTokenStorage, BaseTokenStorage, CoordinatedTokenStorage, Record, RecordKey, Write
from pauth.storage.payload import dump

__all__ = ["CopyReport", "copy_storage"]

T = TypeVar("T")

_PASSES: Final = 2
_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True)
class CopyReport:
    """How far a copy has come. It goes through the source twice; what is not a sum is of the newer pass."""

    total: int
    """How many records the source had when it began, or how many users were given."""

    checked: int
    """How many records were compared, in this pass."""

    copied: int
    """How many times a record was written to the target, in both passes."""

    same: int
    """How many records were read from both and found equal, in this pass: those it has written itself among them."""

    kept: int
    """How many records of the target are newer than the source's, or cannot be compared, and were left. Nobody uses the target yet? Then it is 0."""

    failed: int
    """How many could not be read (those are among them of which not even the owner can be told), or not be written, or changed faster than they
    could be copied."""

    removed: int
    """How many were removed from the target because the source has them no more."""

    only_in_target: int
    """How many the target has, still, that the source has not: deleted from the source during the copy, or none of its own."""

    @property
    def verified(self) -> bool:
        """Whether each record of the source was found in the target, equal or newer; of a report that :func:`copy_storage` returned."""
        return not self.failed


async def copy_storage(
    source: CoordinatedTokenStorage | AsyncTokenStorage | BaseTokenStorage,
    target: CoordinatedTokenStorage | AsyncTokenStorage | BaseTokenStorage,
    *,
    users: Iterable[str] | None = None,
    namespace: str | None = None,
    prefer_source: bool = False,
    delete_missing: bool = False,
    batch: int = 256,
    on_progress: Callable[[CopyReport], object] | None = None,
    on_failure: Callable[[RecordKey, TokenStorageError], object] | None = None,
    clock: Clock | None = None,
) -> CopyReport:
    """Copy every record, and check that it arrived. The source is only read.

    It goes through the source twice: once to copy, once to compare everything and catch what changed meanwhile. Killed at any moment, it is
    simply started again; what is there already is not written again. See :mod:`pauth.storage.move` for which record wins.

    A user who logs out of the source during the copy may stay in the target (``only_in_target`` counts them; ``delete_missing=True`` removes
    them). One who logs out of the *target* is brought back by a copy that is started later: run the last one when the programs change over.

    :param source: any storage. One of three methods cannot list its users, and knows no times: what differs in the target is left, unless
        ``prefer_source``.
    :param target: any other storage.
    :param users: only these, by their ids; has to be given for a source of three methods.
    :param namespace: only this one; ``None`` for all. For a source of three methods, the one to read and write under: a client's
        :attr:`~pauth.OAuth2Client.namespace`.
    :param prefer_source: what differs is overwritten, whichever is newer. For a target that nobody uses yet.
    :param delete_missing: remove from the target what the source does not have, unless it was written after the copy began. For a target that is
        for nothing else.
    :param batch: how many records are done at once, up to 10,000.
    :param on_progress: called after each batch.
    :param on_failure: called with what cannot be copied and why, once in each pass.
    :param clock: where the time comes from.
    :raises ConfigurationError: source and target are one store, or the source cannot list its users and ``users`` is not given.
    :raises StorageUnavailable: one of them does not answer. What was copied is copied; call it again.
    """
    origin, destination = coordinated(source), coordinated(target)
    store_id = getattr(origin, "store_id", None)
    if origin is destination or (store_id is not None and store_id == getattr(destination, "store_id", None)):
        raise ConfigurationError("source and target are the same store; a new key for it is what reencrypt() is for")
    if users is None and isinstance(origin, ThreeMethodAdapter):
        raise ConfigurationError(f"{type(source).__name__} has three methods and cannot list its users; say which to copy: users=[...]")
    chosen = None if users is None else [RecordKey(namespace or "", user) for user in users]
    check_limit(batch)
    work = _Copy(origin, destination, chosen, namespace, batch, prefer_source=prefer_source, on_progress=on_progress, on_failure=on_failure)
    began = milliseconds((SystemClock() if clock is None else clock).time())
    work.total = await origin.count(namespace) if chosen is None else len(chosen)
    for _ in range(_PASSES):
        await work.walk()
    if chosen is not None or not isinstance(destination, ThreeMethodAdapter):
        await work.look_for_others(delete_before=began if delete_missing else None)
    return work.report()


class _Copy:
    def __init__(
        self,
        source: CoordinatedTokenStorage,
        target: CoordinatedTokenStorage,
        chosen: Sequence[RecordKey] | None,
        namespace: str | None,
        batch: int,
        *,
        prefer_source: bool,
        on_progress: Callable[[CopyReport], object] | None,
        on_failure: Callable[[RecordKey, TokenStorageError], object] | None,
    ) -> None:
        self._source = source
        self._target = target
        self._chosen = chosen
        self._namespace = namespace
        self._batch = batch
        self._prefer_source = prefer_source
        self._times = not isinstance(source, ThreeMethodAdapter) and not isinstance(target, ThreeMethodAdapter)
        self._on_progress = on_progress
        self._on_failure = on_failure
        self.total = self._checked = self._copied = self._same = self._kept = self._failed = self._removed = self._others = 0

    def report(self) -> CopyReport:
        return CopyReport(self.total, self._checked, self._copied, self._same, self._kept, self._failed, self._removed, self._others)

    async def walk(self) -> None:
        """Go through the source once."""
        self._checked = self._same = self._kept = self._failed = 0
        before = 0 if self._chosen is not None else await self._source.count(self._namespace)
        async for keys in self._batches(self._source):
            await self._carry(keys)
            self._checked += len(keys)
            self._tell()
        if before > self._checked:
            # A record whose owner cannot be read is counted and not listed. (One that was deleted while another one came may look the same, once.)
            self._failed += max(0, min(before, await self._source.count(self._namespace)) - self._checked)

    async def look_for_others(self, *, delete_before: int | None) -> None:
        """Go through the target once, for what the source does not have.

        :param delete_before: remove what was written before this moment (milliseconds); ``None``: nothing.
        """
        async for keys in self._batches(self._target):
            there = await self._source.get_many(keys)
            missing = [key for key, found in zip(keys, there, strict=True) if found is None]
            for key, found in zip(missing, await self._target.get_many(missing), strict=True):
                if delete_before is not None and isinstance(found, Record) and milliseconds(found.stored_at) < delete_before:
                    self._removed += await self._target.remove(key, expected_version=found.version)
                elif found is not None:
                    self._others += 1
            self._tell()

    async def _batches(self, storage: CoordinatedTokenStorage) -> AsyncIterator[Sequence[RecordKey]]:
        if self._chosen is not None:
            for start in range(0, len(self._chosen), self._batch):
                yield self._chosen[start : start + self._batch]
            return
        cursor: str | None = None
        while True:
            page = await storage.list_users(self._namespace, cursor=cursor, limit=self._batch)
            if page.items:
                yield [item.key for item in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _carry(self, keys: Sequence[RecordKey]) -> None:
        """Copy some records, until both storages say the same of each."""
        ours: dict[RecordKey, int] = {}
        for _ in range(_ATTEMPTS):
            writes: list[Write] = []
            for key, found, there in zip(keys, await self._source.get_many(keys), await self._target.get_many(keys), strict=True):
                if isinstance(found, TokenStorageError):
                    self._fail(key, found)
                elif isinstance(there, TokenStorageError):
                    self._fail(key, there)
                elif found is not None:
                    writes += self._writes(found, there, ours.get(key))
                elif there is not None and there.version == ours.get(key):  # deleted a moment after it was read; so is the copy
                    self._removed += await self._target.remove(key, expected_version=there.version)
            if not writes:
                return
            keys = []
            for write, written in zip(writes, await self._target.put_many(writes), strict=True):
                if isinstance(written, TokenStorageError):
                    self._fail(write.key, written)
                    continue
                keys.append(write.key)  # to be compared with what is read, or to be decided anew
                if written is not None:
                    self._copied += 1
                    ours[write.key] = written.version
        for key in keys:
            self._fail(key, TokenStorageError("a record changes faster than it can be copied; start the copy again"))

    def _writes(self, found: Record, there: Record | None, ours: int | None) -> list[Write]:
        """What to write, if anything, so that the target has the newer of two records.

        :param ours: the version this copy has written a moment ago, if any.
        """
        if there is not None and _said(found, times=self._times) == _said(there, times=self._times):
            self._same += 1
            return []
        if there is not None and not (self._prefer_source or there.version == ours or _is_later(found, there)):
            self._kept += 1
            return []
        expected_version = 0 if there is None else there.version
        stored_at = found.stored_at or None
        return [Write(found.key, found.tokens, expected_version, found.expires_at, None, found.lineage, stored_at)]

    def _fail(self, key: RecordKey, error: TokenStorageError) -> None:
        if isinstance(error, StorageUnavailable):
            raise error
        self._failed += 1
        if self._on_failure is not None:
            self._on_failure(key, error)

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.report())


def _said(record: Record, *, times: bool) -> tuple[object, ...]:
    """All that a copy has to say as well. Stores round times to milliseconds.

    :param times: the times too, which a class of three methods has no place for.
    """
    expires_at = None if record.expires_at is None or not times else milliseconds(record.expires_at)
    return *dump(record.tokens), expires_at, record.lineage


def _is_later(found: Record, there: Record) -> bool:
    """Whether a record was written after another, or in the same millisecond. A storage of three methods does not know."""
    return bool(found.stored_at and there.stored_at) and milliseconds(found.stored_at) >= milliseconds(there.stored_at)
