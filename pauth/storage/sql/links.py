"""Connections to a database server, made by its own library: each operation runs on one of them, without SQLAlchemy in between.

Connections belong to the event loop that made them; another loop, in another thread or in the next test, has its own (P15).
"""

from __future__ import annotations

import asyncio
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pauth.errors import ConfigurationError, PAuthError

__all__ = ["EngineLinks", "Late", "Link", "Links", "NotConnected", "OwnLinks"]

T = TypeVar("T")

_MOST: Final = 6
"""Connections of one event loop. Batches use fewer (:attr:`.Driver.lanes`), so that leases and pending logins have some too."""


class Late(Exception):
    """The deadline passed. If anything was asked of the server, it may have been done."""


class NotConnected(Exception):
    """There was no connection to be had, so nothing was asked of the server.

    :param error: the library's error.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Link(ABC):
    """One connection of a library's.

    :param raw: the library's own connection object.
    """

    def __init__(self, raw: Any) -> None:
        self.raw: Any = raw
        self.late: bool = False

    @abstractmethod
    async def fetch(self, statement: str, *parameters: object) -> Sequence[Sequence[Any]]:
        """Run one statement, in a transaction of its own where none is open, and give its rows."""

    @property
    @abstractmethod
    def usable(self) -> bool:
        """Whether it is open, as far as can be told without asking the server, and not in the middle of anything."""

    @abstractmethod
    def cut(self) -> None:
        """Close it at once, from its event loop. Whoever waits for an answer gets an error."""

    @abstractmethod
    async def close(self) -> None:
        """Say goodbye and close it."""

    @property
    def transport(self) -> Any:
        """The event loop's part of it; ``None`` where the library has its own."""
        return None

    def abandon(self) -> None:
        """Close it when its event loop is closed: a transport cannot tell anybody then, and would keep its socket."""
        transport = self.transport
        with suppress(RuntimeError):
            self.cut()
        connection = getattr(transport, "_sock", None)
        if connection is not None:
            connection.close()
            transport._sock = None  # noqa: SLF001  # there is no public way

    def give_up(self) -> None:
        """Cut it since the deadline has passed."""
        self.late = True
        self.cut()


class Links(ABC):
    """Gives operations a connection.

    :param prepare: makes the tables, through the first connection.
    :param timeout: seconds after which an operation is given up.
    """

    def __init__(self, *, prepare: Callable[[Link], Awaitable[None]], timeout: float) -> None:
        self._prepare = prepare
        self._timeout = timeout

    async def run(self, work: Callable[[Link], Awaitable[T]]) -> T:
        """What ``work`` gives for a connection. The library's errors come as they are.

        :raises Late: the deadline passed.
        :raises NotConnected: there was no connection to be had.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        async with self._link(deadline) as link:
            timer = loop.call_at(deadline, link.give_up)
            try:
                return await work(link)
            except Exception:
                if link.late:
                    raise Late from None
                raise
            except BaseException:
                link.cut()  # this event loop ends
                raise
            finally:
                timer.cancel()

    @abstractmethod
    def _link(self, deadline: float) -> AbstractAsyncContextManager[Link]:
        """A context with a link in it."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of all connections."""


class _Pool:
    """The connections of one event loop."""

    __slots__ = ("idle", "lock", "places", "process", "ready")

    def __init__(self) -> None:
        self.idle: list[Link] = []
        self.places = asyncio.Semaphore(_MOST)
        self.lock = asyncio.Lock()
        self.process = os.getpid()
        self.ready = False


class OwnLinks(Links):
    """Connections of pauth's own, kept between operations. One that was closed while idle is replaced before use.

    :param connect: makes a connection.
    """

    def __init__(self, connect: Callable[[], Awaitable[Link]], *, prepare: Callable[[Link], Awaitable[None]], timeout: float) -> None:
        super().__init__(prepare=prepare, timeout=timeout)
        self._connect = connect
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}
        self._mutex = threading.Lock()

    @asynccontextmanager
    async def _link(self, deadline: float) -> AsyncGenerator[Link]:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop) or self._add(loop)
        place = pool.places
        if place.locked():
            await _before(deadline, place.acquire())
        else:
            await place.acquire()  # without a turn of the loop
        try:
            link = self._idle(pool)
            if link is None:
                link = await _before(deadline, self._new(pool))
            try:
                yield link
            finally:
                if link.usable:
                    pool.idle.append(link)
                else:  # most likely the others' server went away too
                    link.cut()
                    while pool.idle:
                        pool.idle.pop().cut()
        finally:
            place.release()

    def _idle(self, pool: _Pool) -> Link | None:
        while pool.idle:
            link = pool.idle.pop()
            if link.usable:
                return link
            link.cut()
        return None

    async def _new(self, pool: _Pool) -> Link:
        link = await self._connect()
        try:
            if not pool.ready:
                async with pool.lock:
                    if not pool.ready:
                        await self._prepare(link)
                        pool.ready = True
        except BaseException:
            link.cut()
            raise
        return link

    def _add(self, loop: asyncio.AbstractEventLoop) -> _Pool:
        with self._mutex:
            self._abandon(lambda other: other.is_closed())
            pool = self._pools[loop] = _Pool()
        return pool

    async def aclose(self) -> None:
        """See :meth:`.Links.aclose`."""
        with self._mutex:
            own = self._pools.pop(asyncio.get_running_loop(), None)
            self._abandon(lambda _: True)
        while own is not None and own.idle:
            link = own.idle.pop()
            try:
                async with asyncio.timeout(self._timeout):
                    await link.close()
            except Exception:  # noqa: BLE001  # what cannot be closed is closed already, or does not answer
                link.cut()

    def _abandon(self, chosen: Callable[[asyncio.AbstractEventLoop], bool]) -> None:
        """Let go of other event loops' connections, each in its own loop where that still runs."""
        for loop in [loop for loop in self._pools if chosen(loop)]:
            pool = self._pools.pop(loop)
            if pool.process != os.getpid():
                continue  # what a fork copied is the parent's
            for link in pool.idle:
                with suppress(RuntimeError):  # the loop has closed in this moment
                    if loop.is_closed():
                        link.abandon()
                    else:
                        loop.call_soon_threadsafe(link.cut)


class EngineLinks(Links):
    """Connections out of a user's own engine, whose pool stays as it is: one for each operation. It serves one event loop.

    :param link: makes a link of the library's connection.
    """

    def __init__(self, engine: AsyncEngine, link: Callable[[Any], Link], *, prepare: Callable[[Link], Awaitable[None]], timeout: float) -> None:
        super().__init__(prepare=prepare, timeout=timeout)
        self._engine = engine
        self._wrap = link
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._ready = False

    @asynccontextmanager
    async def _link(self, deadline: float) -> AsyncGenerator[Link]:
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise ConfigurationError("this SQLAlchemy engine serves another event loop; give the storage a URL, or each loop its own engine")
        self._loop = loop
        connection, link = await _before(deadline, self._checked_out())
        try:
            yield link
        finally:
            await _give_back(connection, link)

    async def _checked_out(self) -> tuple[AsyncConnection, Link]:
        connection = await self._engine.connect()
        link: Link | None = None
        try:
            # not of the engine, as an option: where that fails, SQLAlchemy does not give the connection back
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            link = self._wrap((await connection.get_raw_connection()).driver_connection)
            if not self._ready:
                async with self._lock:
                    if not self._ready:
                        await self._prepare(link)
                        self._ready = True
        except BaseException:
            await _give_back(connection, link)
            raise
        return connection, link

    async def aclose(self) -> None:
        """See :meth:`.Links.aclose`. The engine is the user's to dispose."""
        self._loop = None


async def _before(deadline: float, waited_for: Awaitable[T]) -> T:
    failure: Exception
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            return await waited_for
    except PAuthError:
        raise
    except Exception as error:  # noqa: BLE001  # the libraries raise those of sockets, TLS and their own
        failure = Late() if limit.expired() else NotConnected(error)
    raise failure


async def _give_back(connection: AsyncConnection, link: Link | None) -> None:
    with suppress(Exception):  # its server is gone
        if link is None or not link.usable:
            await connection.invalidate()
        await connection.close()
