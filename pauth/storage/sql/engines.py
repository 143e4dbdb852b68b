"""One SQLAlchemy engine per event loop, with the tables made.

An engine's connections and queues belong to the event loop that used them first; another loop, in another thread or in the next test, needs
its own (P15). Between them the database keeps order, as between processes.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Executable, event
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import StaticPool

from pauth.errors import ConfigurationError
from pauth.storage.sql import tables as sql

__all__ = ["Engines", "engines_for_engine"]


class _Slot:
    """One event loop's engine, and the driver's connections it made, by which it can be closed from elsewhere."""

    __slots__ = ("connections", "engine", "lock", "process", "ready")

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self.lock = asyncio.Lock()
        self.process = os.getpid()
        self.ready = False

    def remember(self, connection: Any, _: object) -> None:
        self.connections.add(connection.driver_connection)


class Engines:
    """Gives the running event loop its engine.

    :param make: makes an engine.
    :param prepare: blocking work before an engine's first use; called in a worker thread.
    :param shared: ``make`` always gives the same engine, one of the user's: it serves one event loop, and is not disposed here.
    :param create: what makes the tables and indexes, each statement doing nothing if that was done before.
    """

    def __init__(
        self,
        make: Callable[[], AsyncEngine],
        *,
        prepare: Callable[[], None] | None = None,
        shared: bool = False,
        create: Sequence[Executable] = sql.CREATE,
    ) -> None:
        self._make = make
        self._prepare = prepare
        self._shared = shared
        self._create = create
        self._slots: dict[asyncio.AbstractEventLoop, _Slot] = {}
        self._mutex = threading.Lock()

    async def get(self) -> AsyncEngine:
        """The running event loop's engine, ready for use.

        :raises ConfigurationError: the tables were made by a newer pauth, the file cannot be used, or a user's engine serves another loop.
        """
        loop = asyncio.get_running_loop()
        slot = self._slots.get(loop) or await self._add(loop)
        if not slot.ready:
            async with slot.lock:
                if not slot.ready:
                    if self._prepare is not None:
                        await asyncio.to_thread(self._prepare)
                    await _make_tables(slot.engine, self._create)
                    slot.ready = True
        return slot.engine

    async def close(self) -> None:
        """Close the connections of every event loop."""
        with self._mutex:
            own = self._slots.pop(asyncio.get_running_loop(), None)
            others = self._take(lambda _: True)
        if not self._shared:
            if own is not None:
                with suppress(SQLAlchemyError):  # what cannot be closed is closed already
                    await own.engine.dispose()
            if others:
                await asyncio.to_thread(_abandon, others)

    async def _add(self, loop: asyncio.AbstractEventLoop) -> _Slot:
        with self._mutex:
            over = self._take(lambda other: other.is_closed())
            if self._shared and self._slots:
                raise ConfigurationError("this SQLAlchemy engine serves another event loop; give the storage a URL, or each loop its own engine")
            slot = self._slots[loop] = _Slot(self._make())
        if not self._shared:
            event.listen(slot.engine.sync_engine, "connect", slot.remember)
            if over:
                await asyncio.to_thread(_abandon, over)
        return slot

    def _take(self, chosen: Callable[[asyncio.AbstractEventLoop], bool]) -> list[_Slot]:
        # what a fork copied is neither used nor touched: its threads are in the parent, its locks may be held for ever
        mine = [loop for loop, slot in self._slots.items() if slot.process == os.getpid() and chosen(loop)]
        return [self._slots.pop(loop) for loop in mine]


def _abandon(slots: list[_Slot]) -> None:
    """Let go of other event loops' connections. Called in a worker thread, where there is no loop.

    Nobody waits for them: the thread of a connection whose loop ended in the middle of an operation is dead, and would not answer.
    """
    for slot in slots:
        for connection in tuple(slot.connections):
            connection.stop()
        slot.engine.sync_engine.dispose(close=False)


def engines_for_engine(engine: AsyncEngine, *, create: Sequence[Executable] = sql.CREATE) -> Engines:
    """A user's own engine. Its pool stays as it is.

    :raises ConfigurationError: one connection shared by all.
    """
    if isinstance(engine.pool, StaticPool):
        # tasks would commit and roll back each other's work
        raise ConfigurationError("this engine shares one connection between all tasks, as SQLite in memory does; use MemoryTokenStorage() instead")
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    return Engines(lambda: autocommit, shared=True, create=create)


async def _make_tables(engine: AsyncEngine, create: Sequence[Executable]) -> None:
    """Make what is missing. Two processes may do it at once, and a crash may come between; where all is there, no right to make tables is needed."""
    async with engine.connect() as connection:
        found: int | None = None
        with suppress(DBAPIError):  # there is no such table, most likely; what else it may be, the next statement will say
            found = await connection.scalar(sql.READ_SCHEMA)
        if found is None:
            for statement in create:
                await connection.execute(statement)
            with suppress(IntegrityError):  # another process was faster
                await connection.execute(sql.WRITE_SCHEMA)
            found = await connection.scalar(sql.READ_SCHEMA)
        if found != sql.SCHEMA_VERSION:
            raise ConfigurationError(
                f"the token database has schema version {found}, this version of pauth reads {sql.SCHEMA_VERSION}; "
                "upgrade pauth, or use another database"
            )
