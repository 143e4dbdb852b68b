"""One SQLAlchemy engine per event loop, with the tables made.

An engine's connections and queues belong to the event loop that used them first; another loop, in another thread or in the next test, needs
its own (P15). Between them the database keeps order, as between processes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import StaticPool

from pauth.errors import ConfigurationError
from pauth.storage import sql

__all__ = ["Engines", "engines_for_engine"]


class _Slot:
    __slots__ = ("engine", "lock", "ready")

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.lock = asyncio.Lock()
        self.ready = False


class Engines:
    """Gives the running event loop its engine.

    :param make: makes an engine.
    :param prepare: blocking work before an engine's first use; called in a worker thread.
    :param shared: ``make`` always gives the same engine, one of the user's: it serves one event loop, and is not disposed here.
    """

    def __init__(self, make: Callable[[], AsyncEngine], *, prepare: Callable[[], None] | None = None, shared: bool = False) -> None:
        self._make = make
        self._prepare = prepare
        self._shared = shared
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
                    await _make_tables(slot.engine)
                    slot.ready = True
        return slot.engine

    async def close(self) -> None:
        """Close the connections of every event loop."""
        with self._mutex:
            slots, self._slots = list(self._slots.values()), {}
        await self._dispose(slots)

    async def _add(self, loop: asyncio.AbstractEventLoop) -> _Slot:
        with self._mutex:
            over = [self._slots.pop(other) for other in tuple(self._slots) if other.is_closed()]
            if self._shared and self._slots:
                raise ConfigurationError("this SQLAlchemy engine serves another event loop; give the storage a URL, or each loop its own engine")
            slot = self._slots[loop] = _Slot(self._make())
        await self._dispose(over)
        return slot

    async def _dispose(self, slots: list[_Slot]) -> None:
        if not self._shared:
            for slot in slots:
                with suppress(SQLAlchemyError):  # what cannot be closed is closed already
                    await slot.engine.dispose()


def engines_for_engine(engine: AsyncEngine) -> Engines:
    """A user's own engine. Its pool and its pragmas stay as they are.

    :raises ConfigurationError: not SQLite on aiosqlite, or one connection shared by all.
    """
    dialect = f"{engine.dialect.name}+{engine.dialect.driver}"
    if dialect != "sqlite+aiosqlite":
        raise ConfigurationError(f"a token database must be sqlite+aiosqlite for now, not {dialect}")
    if isinstance(engine.pool, StaticPool):
        # tasks would commit and roll back each other's work
        raise ConfigurationError("this engine shares one connection between all tasks, as SQLite in memory does; use MemoryTokenStorage() instead")
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    return Engines(lambda: autocommit, shared=True)


async def _make_tables(engine: AsyncEngine) -> None:
    """Make what is missing. Each statement does nothing if it was done before, so two processes may do it at once, and a crash may come between."""
    async with engine.connect() as connection:
        await connection.execute(sql.CREATE_SCHEMA_TABLE)
        found = await connection.scalar(sql.READ_SCHEMA)
        if found is None:
            for statement in sql.CREATE:
                await connection.execute(statement)
            await connection.execute(sql.WRITE_SCHEMA)
            found = await connection.scalar(sql.READ_SCHEMA)
        if found != sql.SCHEMA_VERSION:
            raise ConfigurationError(
                f"the token database has schema version {found}, this version of pauth reads {sql.SCHEMA_VERSION}; "
                "upgrade pauth, or use another database"
            )
