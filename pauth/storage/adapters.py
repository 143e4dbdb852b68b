"""From any storage a user gives to the protocol the rest of pauth speaks.

A user's class has three methods. Versions, compare-and-set and pending logins are added here, for this process.
"""

from __future__ import annotations

import contextvars
import dataclasses
import inspect
import os
import threading
import weakref
from asyncio import wrap_future
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NoReturn, TypeVar, cast

from pauth.clock import Clock, SystemClock
from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable, TokenStorageError, UnsupportedRecord
from pauth.storage.arguments import check_lineage, check_version
from pauth.storage.base import (
    AsyncTokenStorage,
    BaseTokenStorage,
    CoordinatedTokenStorage,
    Expiring,
    Lease,
    Listed,
    Page,
    Record,
    RecordKey,
    Write,
)
from pauth.storage.detached import Detached
from pauth.storage.memory import PendingLogins, RetiredVersions
from pauth.storage.payload import check_moment, json_copy
from pauth.storage.threads import Threads

__all__ = ["LINEAGE_MEMBER", "VERSION_MEMBER", "KeyedLocks", "ThreeMethodAdapter", "coordinated"]

VERSION_MEMBER: Final = "pauth_version"
"""The reserved member in which the version of a record rides, in the dict a three-method class is given to save."""

T = TypeVar("T")

LINEAGE_MEMBER: Final = "pauth_lineage"
"""The reserved member for the lineage of a record that has one, in hexadecimal."""

_THREADS: Final = 32
"""How many calls of one blocking class run at once."""

_PATIENCE: Final = 30.0
"""Seconds after which an operation gives up on a user's class."""

_METHODS: Final = ("save_token", "get_token", "delete_token")


def coordinated(storage: object, *, clock: Clock | None = None) -> CoordinatedTokenStorage:
    """``storage`` itself if it is coordinated, else an adapter around it.

    All who give the same object get the same adapter, so that its locks and pending logins are shared.

    :param clock: where an adapter that is made now takes the time from.
    :raises ConfigurationError: not a storage: a class instead of an instance, methods missing, or blocking where they should not be.
    """
    if isinstance(storage, type):
        raise ConfigurationError(f"token_storage must be an instance: write {storage.__name__}(), not {storage.__name__}")
    if isinstance(storage, CoordinatedTokenStorage):
        return storage
    behind = getattr(storage, "__pauth_async__", None)
    if behind is not None:  # a blocking face of one (pauth.sync)
        return cast("CoordinatedTokenStorage", behind())
    if not isinstance(storage, AsyncTokenStorage | BaseTokenStorage):
        raise ConfigurationError(f"{type(storage).__name__} is no token storage: it needs the methods {', '.join(_METHODS)}")
    asynchronous = [name for name in _METHODS if inspect.iscoroutinefunction(getattr(storage, name))]
    if isinstance(storage, BaseTokenStorage) and asynchronous:
        raise ConfigurationError(f"{type(storage).__name__} has async methods; do not derive it from BaseTokenStorage, which is for blocking code")
    with _lock:
        shared = _shared_by(storage)
        adapter = None if shared.adapter is None else shared.adapter()
        if adapter is None:
            adapter = ThreeMethodAdapter(storage, shared, SystemClock() if clock is None else clock)
            shared.adapter = weakref.ref(adapter)
    return adapter


class ThreeMethodAdapter:
    """A user's three-method storage with versions, compare-and-set and pending logins added.

    Compare-and-set holds between all coroutines, threads and event loops of this process, not between processes; pending logins are kept in
    memory. :attr:`Record.stored_at` is 0 and :attr:`Record.expires_at` ``None``: the class has no place for them. Records of different
    namespaces cannot be told apart, since the class gets the plain user id: it serves one client, and a second one is refused.
    """

    has_leases: Final = False
    """Three methods cannot tell one process from another."""

    def __init__(self, storage: AsyncTokenStorage | BaseTokenStorage, shared: _Shared, clock: Clock) -> None:
        self._storage = storage
        self._shared = shared
        self._clock = clock
        self._blocking = isinstance(storage, BaseTokenStorage)

    def __repr__(self) -> str:
        return f"<ThreeMethodAdapter of {type(self._storage).__name__}>"

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        """Keep ``tokens`` for ``user_id``, replacing what was there."""
        record = Record(RecordKey("", user_id), json_copy(tokens), 0, 0.0)
        del tokens  # SH-5: a Record does not print what it holds, where a traceback shows locals
        await self._run(self._write(record, None, None))

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        """The tokens kept for ``user_id``; ``None`` for a user without any."""
        record = await self.load(RecordKey("", user_id))
        return None if record is None else cast("dict[str, Any]", record.tokens)

    async def delete_token(self, user_id: str) -> None:
        """Forget ``user_id``. No error if there is nothing to forget."""
        await self.remove(RecordKey("", user_id))

    async def load(self, key: RecordKey) -> Record | None:
        """See :meth:`.CoordinatedTokenStorage.load`."""
        self._shared.serve(key.namespace)
        tokens, version, lineage = _unpacked(await self._run(self._call("get_token", key.user_id)))
        return Record(key, tokens, version, 0.0, None, lineage) if version else None

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
        if expires_at is not None:
            check_moment(expires_at)
        self._shared.serve(key.namespace)
        record = Record(key, json_copy(tokens), 0, 0.0, None, check_lineage(lineage))
        del tokens  # as above
        return await self._run(self._write(record, check_version(expected_version), check_lineage(expected_lineage)))

    async def remove(self, key: RecordKey, *, expected_version: int | None = None) -> bool:
        """See :meth:`.CoordinatedTokenStorage.remove`."""
        self._shared.serve(key.namespace)
        return await self._run(self._remove(key, check_version(expected_version)))

    async def get_many(self, keys: Sequence[RecordKey]) -> list[Record | TokenStorageError | None]:
        """See :meth:`.CoordinatedTokenStorage.get_many`. One after the other, as all batches here."""
        return [await _or_error(self.load(key)) for key in keys]

    async def put_many(self, writes: Sequence[Write]) -> list[Record | TokenStorageError | None]:
        """See :meth:`.CoordinatedTokenStorage.put_many`."""
        answers: list[Record | TokenStorageError | None] = []
        for each in writes:
            writing = self.replace(
                each.key,
                each.tokens,
                expected_version=each.expected_version,
                expires_at=each.expires_at,
                expected_lineage=each.expected_lineage,
                lineage=each.lineage,
            )
            answers.append(await _or_error(writing))
        return answers

    async def delete_many(self, keys: Sequence[RecordKey]) -> list[bool | TokenStorageError]:
        """See :meth:`.CoordinatedTokenStorage.delete_many`."""
        return [await _or_error(self.remove(key)) for key in keys]

    async def put_pending(self, pending_id: str, payload: Mapping[str, Any], *, expires_at: float) -> None:
        """See :meth:`.CoordinatedTokenStorage.put_pending`. Kept in this process's memory."""
        self._shared.pending.put(pending_id, payload, expires_at=expires_at, now=self._clock.time())

    async def take_pending(self, pending_id: str) -> dict[str, Any] | None:
        """See :meth:`.CoordinatedTokenStorage.take_pending`."""
        return self._shared.pending.take(pending_id, now=self._clock.time())

    async def take_lease(self, key: RecordKey, owner: str, *, ttl: float) -> Lease | None:  # noqa: ARG002
        """Not with three methods."""
        self._cannot("leases")

    async def extend_lease(self, key: RecordKey, owner: str, *, ttl: float) -> bool:  # noqa: ARG002
        """Not with three methods."""
        self._cannot("leases")

    async def release_lease(self, key: RecordKey, owner: str) -> bool:  # noqa: ARG002
        """Not with three methods."""
        self._cannot("leases")

    async def list_users(self, namespace: str | None = None, *, cursor: str | None = None, limit: int = 1000) -> Page[Listed]:  # noqa: ARG002
        """Not with three methods."""
        self._cannot("lists")

    async def list_expiring(self, before: float, *, cursor: str | None = None, limit: int = 1000) -> Page[Expiring]:  # noqa: ARG002
        """Not with three methods."""
        self._cannot("lists")

    async def count(self, namespace: str | None = None) -> int:  # noqa: ARG002
        """Not with three methods."""
        self._cannot("lists")

    def _cannot(self, what: str) -> NoReturn:
        raise ConfigurationError(
            f"{type(self._storage).__name__} has no {what}: it has the three methods {', '.join(_METHODS)}; use one of pauth's own storages for that"
        )

    async def aclose(self) -> None:
        """Does nothing: the user's object is closed by who made it."""

    async def _run(self, operation: Coroutine[Any, Any, T]) -> T:
        return await self._shared.operations.run(operation, patience=_PATIENCE)

    async def _write(self, record: Record, expected_version: int | None, expected_lineage: bytes | None) -> Record | None:
        user_id = record.key.user_id
        async with self._shared.locks.hold(user_id):
            current, lineage = await self._current(user_id, expected_version)
            if expected_version not in (None, current) or expected_lineage not in (None, lineage):
                return None
            version = (current or self._shared.retired.last(("", user_id))) + 1
            reserved: dict[str, object] = {VERSION_MEMBER: version}
            if record.lineage is not None:
                reserved[LINEAGE_MEMBER] = record.lineage.hex()
            # the class may keep the very dict it is given, so it gets one of its own
            await self._call("save_token", user_id, {**json_copy(record.tokens), **reserved})
            if not self._shared.gives_back:
                # once: a class that keeps only the members it knows would lose every refreshed token
                kept = await self._call("get_token", user_id)
                if isinstance(kept, dict) and not reserved.keys() <= cast("dict[str, Any]", kept).keys():
                    del kept
                    raise ConfigurationError(f"{type(self._storage).__name__}.get_token does not give back all members that save_token was given")
                self._shared.gives_back = record.lineage is not None
        return dataclasses.replace(record, version=version)

    async def _remove(self, key: RecordKey, expected_version: int | None) -> bool:
        async with self._shared.locks.hold(key.user_id):
            current, _ = await self._current(key.user_id, expected_version)
            if not current or expected_version not in (None, current):
                return False
            await self._call("delete_token", key.user_id)
            self._shared.retired.remember(("", key.user_id), current)
        return True

    async def _current(self, user_id: str, expected_version: int | None) -> tuple[int, bytes | None]:
        found = await self._call("get_token", user_id)
        try:
            return _unpacked(found)[1:]
        except UnsupportedRecord:
            if expected_version is None:  # a new login, or a deletion, is the way out of a record nobody can read
                return 1, None
            raise

    async def _call(self, name: str, *arguments: object) -> Any:
        try:
            if self._blocking:
                method, context = getattr(self._storage, name), contextvars.copy_context()
                return await self._shared.threads.run(partial(context.run, method, *arguments))
            answer = getattr(self._storage, name)(*arguments)
            if inspect.isawaitable(answer):
                return await answer
            del answer
            failure: PAuthError = ConfigurationError(
                f"{type(self._storage).__name__}.{name} is not a coroutine; derive a class with blocking methods from BaseTokenStorage"
            )
        except PAuthError:
            raise  # a class built on one of pauth's own storages
        except Exception as error:  # noqa: BLE001  # whatever a user's code raises, its text and its locals may hold tokens
            failure = StorageUnavailable(f"{type(self._storage).__name__}.{name} raised {type(error).__name__}")
        del arguments  # as may these (SH-5)
        raise failure


def _unpacked(found: object) -> tuple[dict[str, Any], int, bytes | None]:
    """The tokens, version and lineage in what a user's class gave; version 0 for nothing."""
    if found is None:
        return {}, 0, None
    if not isinstance(found, dict):
        found = type(found).__name__  # SH-5: what was found may hold tokens
        raise UnsupportedRecord(f"the token storage gave a {found}; get_token must return a dict or None")
    tokens = dict(cast("dict[str, Any]", found))
    version = tokens.pop(VERSION_MEMBER, 1)  # saved by another library, or before pauth
    if type(version) is not int or version < 1:
        del found, tokens, version
        raise UnsupportedRecord(f"the token storage gave a dict whose {VERSION_MEMBER!r} is no positive integer")
    lineage = tokens.pop(LINEAGE_MEMBER, None)
    try:
        return tokens, version, None if lineage is None else check_lineage(bytes.fromhex(lineage))
    except (TypeError, ValueError, ConfigurationError):
        del tokens, found
    raise UnsupportedRecord(f"the token storage gave a dict whose {LINEAGE_MEMBER!r} is not what pauth wrote")


async def _or_error(operation: Coroutine[Any, Any, T]) -> T | TokenStorageError:
    try:
        return await operation
    except TokenStorageError as error:
        return error


class KeyedLocks:
    """A lock per key that coroutines of any event loop in any thread can wait for, first come, first served."""

    __slots__ = ("_mutex", "_queues")

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queues: dict[str, deque[Future[None]]] = {}  # a key is here exactly while it is held

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncGenerator[None, None]:
        """Hold the key's lock."""
        await self._acquire(key)
        try:
            yield
        finally:
            self._release(key)

    def __len__(self) -> int:
        return len(self._queues)

    async def _acquire(self, key: str) -> None:
        with self._mutex:
            queue = self._queues.get(key)
            if queue is None:
                self._queues[key] = deque()
                return
            turn: Future[None] = Future()
            queue.append(turn)
        try:
            await wrap_future(turn)
        except BaseException:
            if not turn.cancel():  # cancelled in the moment the lock was handed over: pass it on
                self._release(key)
            raise

    def _release(self, key: str) -> None:
        with self._mutex:
            queue = self._queues[key]
            while queue and not queue[0].set_running_or_notify_cancel():
                queue.popleft()  # who waited has left
            turn = queue.popleft() if queue else None
            if turn is None:
                del self._queues[key]
        if turn is not None:
            turn.set_result(None)


class _Shared:
    """What all adapters of one storage object share. It lives as long as that object, though adapters come and go with their clients."""

    def __init__(self, alive: object) -> None:
        self.alive = alive
        self.namespace: str = ""
        self.gives_back: bool = False
        """What is saved was seen to come back, the reserved members too."""
        # not the default threads of the loop or of anyio: a class that hangs must not take those of the application, nor wait for them
        self.threads: Threads = Threads(_THREADS, "pauth-storage")
        self.adapter: weakref.ref[ThreeMethodAdapter] | None = None
        self.locks: KeyedLocks = KeyedLocks()
        self.operations: Detached = Detached()
        self.pending: PendingLogins = PendingLogins()
        self.retired: RetiredVersions = RetiredVersions()

    def serve(self, namespace: str) -> None:
        """Refuse a second client: the user's class is given user ids only, and would hand the tokens of one client to the other (P13)."""
        if namespace not in ("", self.namespace):
            if self.namespace:
                raise ConfigurationError("a token storage with three methods serves one client; make an instance of it for each client")
            self.namespace = namespace


_lock: Final = threading.RLock()  # re-entrant: the collector may run a weak reference's callback while it is held
_by_identity: Final[dict[int, _Shared]] = {}


def _shared_by(storage: object) -> _Shared:
    # by identity, since a user's class may be unhashable or compare equal to another
    identity = id(storage)
    shared = _by_identity.get(identity)
    if shared is None:

        def forget(_: object) -> None:
            with _lock:
                _by_identity.pop(identity, None)

        try:
            alive: object = weakref.ref(storage, forget)
        except TypeError:
            alive = storage  # __slots__ without __weakref__: kept for good, so that its id stays its own
        shared = _by_identity[identity] = _Shared(alive)
    return shared


def _forget_inherited() -> None:
    """In a forked child: threads, and what holds the locks, are in the parent (P15). Who makes a client there gets an adapter of its own."""
    _of_the_parent.append(dict(_by_identity))
    _by_identity.clear()
    _lock.release()


_of_the_parent: Final[list[object]] = []

if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows has no forks)
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_inherited)
