"""Tokens in this process's memory: the default, for tests and for programs that may forget."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from pauth.clock import Clock, SystemClock
from pauth.errors import TokenStorageError
from pauth.locks import ForkSafeLock
from pauth.storage.arguments import (
    check_limit,
    check_lineage,
    check_version,
    expiring_cursor,
    milliseconds,
    owner_bytes,
    position_of_expiring,
    position_of_user,
    ttl_milliseconds,
    user_cursor,
)
from pauth.storage.base import Expiring, Lease, Listed, Page, Record, RecordKey, Watch, Write, check_user_id
from pauth.storage.identity import row_id
from pauth.storage.payload import check_moment, json_copy, json_copy_flat
from pauth.storage.watches import LocalWatches

__all__ = ["MemoryTokenStorage", "PendingLogins", "RetiredVersions"]

T = TypeVar("T")

_MAX_PENDING: Final = 10_000
_MAX_RETIRED: Final = 10_000
_MAX_ENDED_LEASES: Final = 1_000


class PendingLogins:
    """Pending logins in memory, bounded (P19): beyond ``limit`` the oldest makes room, whoever starts logins in a loop. Thread-safe."""

    __slots__ = ("_items", "_limit", "_lock")

    def __init__(self, limit: int = _MAX_PENDING) -> None:
        self._limit = limit
        self._items: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lock = ForkSafeLock()

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
        self._lock = ForkSafeLock()

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


class _Leases:
    """Leases in memory. To be used under a lock."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], tuple[bytes, int, float]] = {}  # owner, fence, when it ends
        self._fences = itertools.count(1)  # of all records together, so that a lease that is over leaves nothing behind
        self._sweep_at = _MAX_ENDED_LEASES

    def take(self, identity: tuple[str, str], owner: bytes, ttl: float, now: float) -> int | None:
        holder, fence, until = self._held.get(identity, (owner, 0, now))
        if until <= now:
            fence = next(self._fences)
        elif holder != owner:
            return None
        self._held[identity] = (owner, fence, now + ttl)
        if len(self._held) > self._sweep_at:
            self._held = {each: lease for each, lease in self._held.items() if lease[2] > now}
            self._sweep_at = len(self._held) + _MAX_ENDED_LEASES
        return fence

    def extend(self, identity: tuple[str, str], owner: bytes, ttl: float, now: float) -> bool:
        holder, fence, until = self._held.get(identity, (b"", 0, now))
        if holder != owner or until <= now:
            return False
        self._held[identity] = (owner, fence, now + ttl)
        return True

    def release(self, identity: tuple[str, str], owner: bytes, now: float) -> bool:
        return self.extend(identity, owner, 0.0, now)


class _Entry(NamedTuple):
    tokens: dict[str, Any]
    flat: bool
    """See :func:`.json_copy_flat`."""

    version: int
    stored_at: float
    expires_at: float | None
    lineage: bytes | None
    number: int
    """Rises in the order in which records came to be: a listing goes along it."""

    def copy(self) -> dict[str, Any]:
        """The tokens, for somebody who may do anything to them."""
        return self.tokens.copy() if self.flat else json_copy(self.tokens)


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
        self._entries: dict[tuple[str, str], _Entry] = {}  # in the order of their numbers
        self._numbers = itertools.count(1)
        self._retired = RetiredVersions()
        self._pending = PendingLogins(max_pending)
        self._leases = _Leases()
        self._watches = LocalWatches()
        self._lock = ForkSafeLock()  # never held across an await

    def __repr__(self) -> str:
        return f"<MemoryTokenStorage with {len(self._entries)} records>"

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        """Keep ``tokens`` for ``user_id``, replacing what was there."""
        self._write((self._namespace, check_user_id(user_id)), json_copy_flat(tokens))

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        """The tokens kept for ``user_id``; ``None`` for a user without any."""
        entry = self._entries.get((self._namespace, check_user_id(user_id)))
        return None if entry is None else entry.copy()

    async def delete_token(self, user_id: str) -> None:
        """Forget ``user_id``. No error if there is nothing to forget."""
        self._delete((self._namespace, check_user_id(user_id)), None)

    async def load(self, key: RecordKey) -> Record | None:
        """See :meth:`.CoordinatedTokenStorage.load`."""
        return self._load(key)

    async def replace(
        self,
        key: RecordKey,
        tokens: Mapping[str, Any],
        *,
        expected_version: int | None,
        expires_at: float | None = None,
        expected_lineage: bytes | None = None,
        lineage: bytes | None = None,
    ) -> Record | None:
        """See :meth:`.CoordinatedTokenStorage.replace`."""
        return self._replace(Write(key, tokens, expected_version, expires_at, expected_lineage, lineage))

    async def remove(self, key: RecordKey, *, expected_version: int | None = None) -> bool:
        """See :meth:`.CoordinatedTokenStorage.remove`."""
        return self._delete((key.namespace, key.user_id), check_version(expected_version))

    async def get_many(self, keys: Sequence[RecordKey]) -> list[Record | TokenStorageError | None]:
        """See :meth:`.CoordinatedTokenStorage.get_many`."""
        return [self._load(key) for key in keys]

    async def put_many(self, writes: Sequence[Write]) -> list[Record | TokenStorageError | None]:
        """See :meth:`.CoordinatedTokenStorage.put_many`."""
        return [_or_error(self._replace, write) for write in writes]

    async def delete_many(self, keys: Sequence[RecordKey]) -> list[bool | TokenStorageError]:
        """See :meth:`.CoordinatedTokenStorage.delete_many`."""
        return [self._delete((key.namespace, key.user_id), None) for key in keys]

    async def put_pending(self, pending_id: str, payload: Mapping[str, Any], *, expires_at: float) -> None:
        """See :meth:`.CoordinatedTokenStorage.put_pending`. The oldest pending login makes room for one too many."""
        self._pending.put(pending_id, payload, expires_at=expires_at, now=self._clock.time())

    async def take_pending(self, pending_id: str) -> dict[str, Any] | None:
        """See :meth:`.CoordinatedTokenStorage.take_pending`."""
        return self._pending.take(pending_id, now=self._clock.time())

    async def take_lease(self, key: RecordKey, owner: str, *, ttl: float) -> Lease | None:
        """See :meth:`.CoordinatedTokenStorage.take_lease`."""
        who, seconds = owner_bytes(owner), ttl_milliseconds(ttl) / 1000
        with self._lock:
            fence = self._leases.take((key.namespace, key.user_id), who, seconds, self._clock.monotonic())
        return None if fence is None else Lease(fence, seconds)

    async def extend_lease(self, key: RecordKey, owner: str, *, ttl: float) -> bool:
        """See :meth:`.CoordinatedTokenStorage.extend_lease`."""
        who, seconds = owner_bytes(owner), ttl_milliseconds(ttl) / 1000
        with self._lock:
            return self._leases.extend((key.namespace, key.user_id), who, seconds, self._clock.monotonic())

    async def release_lease(self, key: RecordKey, owner: str) -> bool:
        """See :meth:`.CoordinatedTokenStorage.release_lease`."""
        who = owner_bytes(owner)
        with self._lock:
            return self._leases.release((key.namespace, key.user_id), who, self._clock.monotonic())

    async def list_users(self, namespace: str | None = None, *, cursor: str | None = None, limit: int = 1000) -> Page[Listed]:
        """See :meth:`.CoordinatedTokenStorage.list_users`."""
        after, limit = int.from_bytes(position_of_user(cursor), "big"), check_limit(limit)
        with self._lock:
            found = list(itertools.islice((each for each in self._of(namespace) if each[1].number > after), limit))
        items = [Listed(RecordKey(*identity), entry.version, None) for identity, entry in found]
        return Page(items, user_cursor(found[-1][1].number.to_bytes(8, "big")) if len(found) == limit else None)

    async def list_expiring(self, before: float, *, cursor: str | None = None, limit: int = 1000) -> Page[Expiring]:
        """See :meth:`.CoordinatedTokenStorage.list_expiring`."""
        end, limit = milliseconds(before), check_limit(limit)
        moment, last = position_of_expiring(cursor)
        after = (moment, int.from_bytes(last, "big"))
        with self._lock:
            expiring = (
                (milliseconds(entry.expires_at), entry.number, identity, entry) for identity, entry in self._of(None) if entry.expires_at is not None
            )
            found = heapq.nsmallest(limit, (each for each in expiring if each[0] < end and each[:2] > after))
        items = [Expiring(RecordKey(*identity), entry.version, milliseconds / 1000) for milliseconds, _, identity, entry in found]
        return Page(items, expiring_cursor(found[-1][0], found[-1][1].to_bytes(8, "big")) if len(found) == limit else None)

    async def count(self, namespace: str | None = None) -> int:
        """See :meth:`.CoordinatedTokenStorage.count`."""
        with self._lock:
            return len(self._entries) if namespace is None else sum(1 for _ in self._of(namespace))

    async def watch(self, changed: Callable[[bytes | None], None]) -> Watch:
        """See :meth:`.WatchableTokenStorage.watch`."""
        return self._watches.add(changed)

    async def aclose(self) -> None:
        """Does nothing: there is nothing to let go of, and the records stay."""

    def _of(self, namespace: str | None) -> Iterator[tuple[tuple[str, str], _Entry]]:
        return (each for each in self._entries.items() if namespace is None or each[0][0] == namespace)

    def _load(self, key: RecordKey) -> Record | None:
        entry = self._entries.get((key.namespace, key.user_id))
        return None if entry is None else _record(key, entry)

    def _replace(self, write: Write) -> Record | None:
        if write.expires_at is not None:
            check_moment(write.expires_at)
        check_version(write.expected_version)
        check_lineage(write.expected_lineage)
        check_lineage(write.lineage)
        key = write.key
        entry = self._write(
            (key.namespace, key.user_id),
            json_copy_flat(write.tokens),
            write.expected_version,
            write.expires_at,
            write.expected_lineage,
            write.lineage,
            write.stored_at,
        )
        return None if entry is None else _record(key, entry)

    def _write(
        self,
        identity: tuple[str, str],
        frozen: tuple[dict[str, Any], bool],
        expected_version: int | None = None,
        expires_at: float | None = None,
        expected_lineage: bytes | None = None,
        lineage: bytes | None = None,
        stored_at: float | None = None,
    ) -> _Entry | None:
        now = self._clock.time() if stored_at is None else stored_at
        with self._lock:
            current = self._entries.get(identity)
            version = 0 if current is None else current.version
            if expected_version is not None and expected_version != version:
                return None
            if expected_lineage is not None and (current is None or current.lineage != expected_lineage):
                return None
            number = next(self._numbers) if current is None else current.number
            entry = _Entry(*frozen, (version or self._retired.last(identity)) + 1, now, expires_at, lineage, number)
            self._entries[identity] = entry
        if self._watches.all:
            self._watches.tell(row_id(*identity))
        return entry

    def _delete(self, identity: tuple[str, str], expected_version: int | None) -> bool:
        with self._lock:
            entry = self._entries.get(identity)
            if entry is None or (expected_version is not None and expected_version != entry.version):
                return False
            del self._entries[identity]
            self._retired.remember(identity, entry.version)
        if self._watches.all:
            self._watches.tell(row_id(*identity))
        return True


def _record(key: RecordKey, entry: _Entry) -> Record:
    return Record(key, entry.copy(), entry.version, entry.stored_at, entry.expires_at, entry.lineage)


def _or_error(work: Callable[[Write], T], write: Write) -> T | TokenStorageError:
    try:
        return work(write)
    except TokenStorageError as error:
        return error
