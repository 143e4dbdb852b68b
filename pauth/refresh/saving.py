"""Getting a rotated token into the store, whatever it takes (P4): write, ask again, keep it in memory, spill it to the journal."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, cast, runtime_checkable

from pauth.clock import Clock
from pauth.core.token import Token, token_from_dict, token_to_dict
from pauth.errors import PAuthError, StorageUnavailable
from pauth.refresh.reports import Report
from pauth.refresh.stored import StoredGrant, write_grant
from pauth.storage.base import CoordinatedTokenStorage, Record, RecordKey
from pauth.storage.journal import SpillJournal

__all__ = ["Saver", "Unsaved"]

_log = logging.getLogger("pauth.refresh")

_PAUSES: Final = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each attempt to store a rotated token; after the last one it is kept in memory, and the error is reported."""

_MAX_MOVES: Final = 20


@dataclass(frozen=True, slots=True, repr=False)
class Unsaved:
    """A rotated token that the store has not taken yet."""

    attempt_id: str
    predecessor: bytes
    """The lineage of the record that it succeeds: what it was obtained with."""

    version: int
    """The version of that record, when it was sent."""

    lineage: bytes
    """Its own, in the store."""

    token: Token
    storage: object
    """The storage it is meant for, which must not go before (P4); an adapter would, with its last client."""

    source: Literal["memory", "journal"] = "memory"
    """Where this process has it from."""

    others: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What else the record holds: :attr:`.StoredGrant.others`."""

    previous: Token | None = None
    """The token that it replaces, if it was obtained in this process."""

    report: Report | None = None
    """Tells of the attempt that it was obtained in, if that was in this process."""

    @property
    def grant(self) -> StoredGrant:
        """What is to be stored."""
        return StoredGrant(self.token, others=self.others)

    def __repr__(self) -> str:
        return f"<Unsaved version={self.version}>"


@runtime_checkable
class _Sealing(Protocol):
    """A storage that can encrypt what is kept elsewhere for it."""

    @property
    def sealed(self) -> bool:
        """Whether it encrypts."""
        ...

    def seal(self, name: str, payload: Mapping[str, Any]) -> bytes:
        """Encrypt, under a name."""
        ...

    def unseal(self, name: str, data: bytes) -> dict[str, Any]:
        """What was encrypted under that name."""
        ...


class _Journal(NamedTuple):
    folder: SpillJournal
    sealing: _Sealing


class Saver:
    """Writes rotated tokens into one store.

    :param journal: the folder of the journal; ``None`` for none. A storage that cannot encrypt for it has none either.
    :param files: where a journal has the token of an attempt; shared by all who write into this store.
    """

    def __init__(self, storage: CoordinatedTokenStorage, *, journal: Path | None, files: dict[str, SpillJournal], clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._journal: _Journal | None = None
        # without a name of its own a store could not tell its files from another's
        store_id = getattr(storage, "store_id", None)
        if journal is not None and store_id is not None and isinstance(storage, _Sealing) and storage.sealed:
            store = hashlib.sha256(repr(store_id).encode()).hexdigest()[:16]
            self._journal = _Journal(SpillJournal(journal, store), storage)
        self._files = files

    async def insist(self, key: RecordKey, unsaved: Unsaved, *, expires_at: float | None) -> Record | None:
        """Write until the store takes it, for a few seconds.

        :returns: the record that now holds the token; ``None`` if the store holds something else, which stays.
        :raises StorageUnavailable: it was not taken. It is in the journal, if there is one.
        """
        pauses = list(_PAUSES)
        interrupted = False
        while pauses:
            pause = pauses.pop(0)
            try:
                if pause:
                    await self._clock.sleep(pause)
                return await self.write(key, unsaved, expires_at=expires_at)
            except Exception as error:  # noqa: BLE001  # a closed storage raises a ConfigurationError, and one of somebody else's whatever it likes
                _log.warning("a refreshed token could not be stored yet (%s)", type(error).__name__)
                await self.spill(key, unsaved)  # at once: this process may be killed while the store is down
            except asyncio.CancelledError:
                # The loop is closing down, and waits for its tasks to end: there is time for one more write, at once, not for a second interruption.
                if interrupted:
                    raise
                interrupted, pauses = True, [0.0]
        raise StorageUnavailable("a refreshed token could not be stored; it is kept, and stored as soon as the store takes it")

    async def write(self, key: RecordKey, unsaved: Unsaved, *, expires_at: float | None) -> Record | None:
        """Write the token over the record it was obtained with, and over nothing else (P6).

        The version may have moved on: somebody has noted an attempt of his own, or its failure, while the refresh token stayed. Then the token is
        as true as it is late. After a lost answer the record found may be our own.

        :returns: as :meth:`insist`.
        :raises TokenStorageError: the store failed.
        """
        version = unsaved.version
        for _ in range(_MAX_MOVES):
            written = await self._storage.replace(
                key,
                write_grant(unsaved.grant),
                expected_version=version,
                expires_at=expires_at,
                expected_lineage=unsaved.predecessor,
                lineage=unsaved.lineage,
            )
            current = written or await self._storage.load(key)
            if written is not None or current is None or current.lineage != unsaved.predecessor:
                await self.forget_file(unsaved)
                if current is not None and current.lineage == unsaved.lineage:
                    return current
                _log.warning("a refreshed token is not stored, since a login, a revocation or another refresh has come before it")
                return None
            version = current.version
        raise StorageUnavailable("a record changed all the time while a refreshed token was to be stored")

    @property
    def has_journal(self) -> bool:
        """Whether there is a journal for this store."""
        return self._journal is not None

    def journaled(self, unsaved: Unsaved) -> bool:
        """Whether the token is in the journal."""
        return unsaved.attempt_id in self._files

    async def spill(self, key: RecordKey, unsaved: Unsaved) -> bool:
        """Put the token into the journal, sealed; gives whether it is there."""
        if self._journal is None:
            return False
        if unsaved.attempt_id in self._files:
            return True
        folder, sealing = self._journal
        name = folder.name_of(unsaved.attempt_id)
        try:
            await folder.write(name, sealing.seal(name, _to_payload(key, unsaved)))
        except PAuthError as error:
            _log.error("a refreshed token that the store does not take could not be written to the journal either: %s", error.message)
            return False
        self._files[unsaved.attempt_id] = folder
        return True

    async def find(self, attempt_id: str) -> Unsaved | None:
        """What the journal has of an attempt: another process on this machine may have its token, and be waiting for the store."""
        if self._journal is None:
            return None
        folder, sealing = self._journal
        name = folder.name_of(attempt_id)
        try:
            data = await folder.read_one(name)
        except PAuthError as error:
            _log.error("the journal of unsaved tokens cannot be read: %s", error.message)
            return None
        opened = None if data is None else self._open(folder, sealing, name, data)
        return None if opened is None else opened[1]

    async def spilled(self) -> list[tuple[RecordKey, Unsaved]]:
        """What the journal holds for this store; what cannot be read stays there."""
        if self._journal is None:
            return []
        folder, sealing = self._journal
        try:
            files = await folder.read()
        except PAuthError as error:
            _log.error("the journal of unsaved tokens cannot be read: %s", error.message)
            return []
        opened = [self._open(folder, sealing, name, data) for name, data in files.items()]
        return [each for each in opened if each is not None]

    def _open(self, folder: SpillJournal, sealing: _Sealing, name: str, data: bytes) -> tuple[RecordKey, Unsaved] | None:
        try:
            key, unsaved = _from_payload(sealing.unseal(name, data), self._storage)
        except (PAuthError, KeyError, TypeError, ValueError, AttributeError) as error:
            _log.error("a file of the journal of unsaved tokens cannot be read (%s); it stays there", type(error).__name__)
            return None
        self._files[unsaved.attempt_id] = folder
        return key, unsaved

    async def forget_file(self, unsaved: Unsaved) -> None:
        """The token waits no more: take its file out of the journal, whoever has put it there."""
        folder = self._files.pop(unsaved.attempt_id, None)
        if folder is None:
            return
        try:
            await folder.remove(folder.name_of(unsaved.attempt_id))
        except PAuthError as error:
            _log.warning("a file of the journal is not needed any more, but could not be removed: %s", error.message)


def _to_payload(key: RecordKey, unsaved: Unsaved) -> dict[str, Any]:
    return {
        "namespace": key.namespace,
        "user_id": key.user_id,
        "attempt_id": unsaved.attempt_id,
        "predecessor": unsaved.predecessor.hex(),
        "version": unsaved.version,
        "lineage": unsaved.lineage.hex(),
        "token": token_to_dict(unsaved.token),
        "others": dict(unsaved.others),
    }


def _from_payload(payload: Mapping[str, Any], storage: object) -> tuple[RecordKey, Unsaved]:
    token = token_from_dict(cast("Mapping[str, Any]", payload["token"]))
    predecessor, lineage = bytes.fromhex(payload["predecessor"]), bytes.fromhex(payload["lineage"])
    others = dict(cast("Mapping[str, Any]", payload.get("others", {})))  # earlier versions did not write them
    unsaved = Unsaved(str(payload["attempt_id"]), predecessor, int(payload["version"]), lineage, token, storage, "journal", others)
    return RecordKey(payload["namespace"], payload["user_id"]), unsaved
