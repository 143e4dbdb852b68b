"""Rows in a SQLite file: one connection and its thread per event loop, one hop to it per batch.

SQLAlchemy makes and pools the connection and makes the tables. Operations run on the connection itself, in the thread aiosqlite gave it:
through SQLAlchemy each would be several hops.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from pauth.clock import Clock, SystemClock
from pauth.errors import StorageUnavailable, TokenStorageError
from pauth.storage.driver import Delete, ExpiringRow, Lease, Put, Row, UserRow
from pauth.storage.sql import sqlite_statements as statements
from pauth.storage.sql.engines import Engines
from pauth.storage.sql.sqlite_errors import error_for
from pauth.storage.sql.sqlite_forks import opened, opening

__all__ = ["SqliteDriver"]

T = TypeVar("T")

_COLLECT_EVERY_MS: Final = 60_000
_MACHINE_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", None)


class SqliteDriver:
    """Implements :class:`.Driver`.

    :param engines: gives the running event loop its engine.
    :param clock: the time for leases, if it is not the system's: those are on a clock that all processes of the machine share and nobody sets.
    :param shared: the engine is the user's, who may use its connections too: one is taken for each batch.
    :param store_id: see :attr:`.Driver.store_id`.
    """

    checks_owners = False
    """See :attr:`.Driver.checks_owners`."""

    lanes = 1
    """SQLite has one writer, and the connection one thread."""

    def __init__(self, engines: Engines, *, clock: Clock, shared: bool, store_id: tuple[str, ...] | None) -> None:
        self.store_id: tuple[str, ...] | None = store_id
        self._engines = engines
        self._clock = clock
        self._shared = shared
        self._kept: dict[asyncio.AbstractEventLoop, Any] = {}
        self._collect_at = 0

    async def get_many(self, row_ids: Sequence[bytes]) -> Sequence[Row | None]:
        """See :meth:`.Driver.get_many`."""
        return await self._run(statements.get_many, row_ids)

    async def put_many(self, puts: Sequence[Put]) -> Sequence[int | Exception | None]:
        """See :meth:`.Driver.put_many`."""
        return await self._run(statements.put_many, puts)

    async def delete_many(self, deletes: Sequence[Delete]) -> Sequence[bool | Exception]:
        """See :meth:`.Driver.delete_many`."""
        return await self._run(statements.delete_many, deletes)

    async def rewrite_many(self, puts: Sequence[Put]) -> Sequence[bool | Exception]:
        """See :meth:`.Driver.rewrite_many`."""
        return await self._run(statements.rewrite_many, puts)

    async def put_pending(self, row_id: bytes, data: memoryview, *, expires_at: int, now: int) -> None:
        """See :meth:`.Driver.put_pending`. Once a minute, what is over is collected here."""
        await self._run(statements.put_pending, row_id, data, expires_at)
        if now >= self._collect_at:
            self._collect_at = now + _COLLECT_EVERY_MS
            with suppress(TokenStorageError):  # the login is kept; the next minute's will collect
                await self._run(statements.collect, now, self._lease_time)

    async def take_pending(self, row_id: bytes, *, now: int) -> memoryview | None:
        """See :meth:`.Driver.take_pending`."""
        return await self._run(statements.take_pending, row_id, now)

    async def take_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> Lease | None:
        """See :meth:`.Driver.take_lease`."""
        fence = await self._run(statements.take_lease, row_id, owner, ttl_ms, self._lease_time, round(self._clock.time() * 1000))
        return None if fence is None else Lease(fence, ttl_ms)

    async def extend_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> bool:
        """See :meth:`.Driver.extend_lease`."""
        return await self._run(statements.extend_lease, row_id, owner, ttl_ms, self._lease_time)

    async def release_lease(self, row_id: bytes, owner: bytes) -> bool:
        """See :meth:`.Driver.release_lease`."""
        return await self._run(statements.release_lease, row_id, owner, self._lease_time)

    async def list_users(self, namespace: bytes | None, *, after: bytes, limit: int) -> Sequence[UserRow]:
        """See :meth:`.Driver.list_users`."""
        return await self._run(statements.list_users, namespace, after, limit)

    async def list_expiring(self, *, before: int, after: tuple[int, bytes], limit: int) -> Sequence[ExpiringRow]:
        """See :meth:`.Driver.list_expiring`."""
        return await self._run(statements.list_expiring, before, after, limit)

    async def count(self, namespace: bytes | None) -> int:
        """See :meth:`.Driver.count`."""
        return await self._run(statements.count, namespace)

    async def aclose(self) -> None:
        """See :meth:`.Driver.aclose`."""
        self._kept.clear()
        await self._engines.close()

    def _lease_time(self) -> int:
        """Milliseconds."""
        if _MACHINE_CLOCK is not None and isinstance(self._clock, SystemClock):
            return time.clock_gettime_ns(_MACHINE_CLOCK) // 1_000_000  # it goes on while the machine sleeps
        return int(self._clock.monotonic() * 1000)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        """What ``work`` gives for a connection, in its thread."""
        job: _Job[T] = _Job(work, arguments)
        try:
            kept = self._kept.get(asyncio.get_running_loop())
            if kept is None and not self._shared:
                kept = await self._own_connection()
            if kept is not None:
                return await _in_thread(kept, job)
            engine = await self._engines.get()
            async with engine.connect() as connection:
                return await _in_thread(await _driver_connection(connection), job)
        except (SQLAlchemyError, sqlite3.Error) as error:
            failure = error_for(error)
        except ValueError:  # what aiosqlite says of a connection that is closed
            failure = StorageUnavailable("the token database is not available: its connection was closed")
        raise failure  # out here, so that the database's error is not in its context

    async def _own_connection(self) -> Any:
        """This event loop's connection, for its next operations too: back in the pool, where nobody else takes it; the pool closes it."""
        async with opening():
            engine = await self._engines.get()
            async with engine.connect() as connection:
                driver_connection = await _driver_connection(connection)
        for loop in tuple(self._kept):
            if loop.is_closed():
                del self._kept[loop]
        self._kept[asyncio.get_running_loop()] = driver_connection
        return driver_connection


class _Job(Generic[T]):
    """Work for a connection's thread. It does not print its arguments: aiosqlite logs what it runs (SH-1)."""

    __slots__ = ("_arguments", "_work")

    def __init__(self, work: Callable[..., T], arguments: tuple[object, ...]) -> None:
        self._work = work
        self._arguments = arguments

    def __call__(self, driver_connection: Any) -> T:
        return self._work(opened(driver_connection), *self._arguments)

    def __repr__(self) -> str:
        return f"<{self._work.__name__}>"


async def _driver_connection(connection: AsyncConnection) -> Any:
    return (await connection.get_raw_connection()).driver_connection


async def _in_thread(driver_connection: Any, job: _Job[T]) -> T:
    # aiosqlite has no public way to run a function of one's own in its thread, and it is what SQLAlchemy does with it too
    found: T = await driver_connection._execute(job, driver_connection)  # noqa: SLF001
    return found
