"""Tokens in this process's memory: the default, for tests and for programs that may forget."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pauth.clock import Clock, SystemClock
from pauth.storage.base import Record, RecordKey, check_user_id
from pauth.storage.payload import check_moment, json_copy

__all__ = ["MemoryTokenStorage", "PendingLogins", "RetiredVersions"]

_MAX_PENDING: Final = 10_000
_MAX_RETIRED: Final = 10_000


class PendingLogins:
    """Pending logins in memory, bounded (P19): beyond ``limit`` the oldest makes room, whoever starts logins in a loop. Thread-safe."""

    __slots__ = ("_items", "_limit", "_lock")

    def __init__(self, limit: int = _MAX_PENDING) -> None:
        self._limit = limit
        self._items: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def put(self, pending_id: str, payload: Mapping[str, Any], *, expires_at: float, now: float) -> None:
        """Keep a login until ``expires_at``."""
        item = (check_moment(expires_at), json_copy(payload))
        with self._lock:
            self._items.pop(pending_id, None)
            # from the oldest on: lifetimes are alike, so the oldest are the expired ones
            while self._items:
                oldest = next(iter(self._items))
                if len(self._items) < self._limit and self._items[oldest][0] > now:
                    break
                del self._items[oldest]
            self._items[pending_id] = item

    def take(self, pending_id: str, *, now: float) -> dict[str, Any] | None:
        """Remove a login and give it; ``None`` if unknown, taken or expired."""
        with self._lock:
            expires_at, payload = self._items.pop(pending_id, (now, None))
        return payload if expires_at > now else None

    def __len__(self) -> int:
        return len(self._items)


class RetiredVersions:
    """The last versions of deleted records, the newest ``limit`` of them. Thread-safe.

    A record saved anew after its deletion goes on counting from there: if it started at 1 again, a writer that read version 1 before the
    deletion would take it for its predecessor and overwrite a newer login (P6).
    """

    __slots__ = ("_limit", "_lock", "_versions")

    def __init__(self, limit: int = _MAX_RETIRED) -> None:
        self._limit = limit
        self._versions: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def remember(self, identity: tuple[str, str], version: int) -> None:
        """A record was deleted at this version."""
        with self._lock:
            self._versions.pop(identity, None)
            self._versions[identity] = version
            if len(self._versions) > self._limit:
                del self._versions[next(iter(self._versions))]

    def last(self, identity: tuple[str, str]) -> int:
        """The version to go on from; 0 for a record never deleted."""
        return self._versions.get(identity, 0)

    def __len__(self) -> int:
        return len(self._versions)


class _Entry(NamedTuple):
    tokens: dict[str, Any]
    version: int
    stored_at: float
    expires_at: float | None


class MemoryTokenStorage:
    """Keeps tokens in memory, without encryption, until the process ends (VC-7).

    What is saved and what is handed out are copies. Usable from any number of threads and event loops.

    :param namespace: where the three plain methods keep their records.
    :param max_pending: how many pending logins are kept at most.
    :param clock: where the time comes from.
    """

    def __init__(self, *, namespace: str = "", max_pending: int = _MAX_PENDING, clock: Clock | None = None) -> None:
        self._namespace = namespace
        self._clock = SystemClock() if clock is None else clock
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._retired = RetiredVersions()
        self._pending = PendingLogins(max_pending)
        self._lock = threading.Lock()  # held for a few dict operations, never across an await

    def __repr__(self) -> str:
        return f"<MemoryTokenStorage with {len(self._entries)} records>"

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        """Keep ``tokens`` for ``user_id``, replacing what was there."""
        self._write((self._namespace, check_user_id(user_id)), tokens, None, None)

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        """The tokens kept for ``user_id``; ``None`` for a user without any."""
        entry = self._entries.get((self._namespace, check_user_id(user_id)))
        return None if entry is None else json_copy(entry.tokens)

    async def delete_token(self, user_id: str) -> None:
        """Forget ``user_id``. No error if there is nothing to forget."""
        self._delete((self._namespace, check_user_id(user_id)), None)

    async def load(self, key: RecordKey) -> Record | None:
        """See :meth:`.CoordinatedTokenStorage.load`."""
        entry = self._entries.get((key.namespace, key.user_id))
        return None if entry is None else _record(key, entry)

    async def replace(
        self, key: RecordKey, tokens: Mapping[str, Any], *, expected_version: int | None, expires_at: float | None = None
    ) -> Record | None:
        """See :meth:`.CoordinatedTokenStorage.replace`."""
        entry = self._write((key.namespace, key.user_id), tokens, expected_version, expires_at)
        return None if entry is None else _record(key, entry)

    async def remove(self, key: RecordKey, *, expected_version: int | None = None) -> bool:
        """See :meth:`.CoordinatedTokenStorage.remove`."""
        return self._delete((key.namespace, key.user_id), expected_version)

    async def put_pending(self, pending_id: str, payload: Mapping[str, Any], *, expires_at: float) -> None:
        """See :meth:`.CoordinatedTokenStorage.put_pending`. The oldest pending login makes room for one too many."""
        self._pending.put(pending_id, payload, expires_at=expires_at, now=self._clock.time())

    async def take_pending(self, pending_id: str) -> dict[str, Any] | None:
        """See :meth:`.CoordinatedTokenStorage.take_pending`."""
        return self._pending.take(pending_id, now=self._clock.time())

    async def aclose(self) -> None:
        """Does nothing: there is nothing to let go of, and the records stay."""

    def _write(self, identity: tuple[str, str], tokens: Mapping[str, Any], expected_version: int | None, expires_at: float | None) -> _Entry | None:
        frozen = json_copy(tokens)
        if expires_at is not None:
            check_moment(expires_at)
        now = self._clock.time()
        with self._lock:
            current = self._entries.get(identity)
            version = 0 if current is None else current.version
            if expected_version is not None and expected_version != version:
                return None
            entry = _Entry(frozen, (version or self._retired.last(identity)) + 1, now, expires_at)
            self._entries[identity] = entry
        return entry

    def _delete(self, identity: tuple[str, str], expected_version: int | None) -> bool:
        with self._lock:
            entry = self._entries.get(identity)
            if entry is None or (expected_version is not None and expected_version != entry.version):
                return False
            del self._entries[identity]
            self._retired.remember(identity, entry.version)
        return True


def _record(key: RecordKey, entry: _Entry) -> Record:
    return Record(key, json_copy(entry.tokens), entry.version, entry.stored_at, entry.expires_at)
