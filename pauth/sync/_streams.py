"""Async iterators and async context managers for callers that cannot await: each is begun, used and closed in one task of the loop.

One task, since what they hold (a timeout, a task group, a context variable) belongs to the task that entered it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

from pauth.errors import ConfigurationError, PAuthError, Remedy
from pauth.sync import _portal

__all__ = ["SyncContext", "SyncIterator"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD: Final = 256
"""How many items are read before they are asked for, if they can be had without waiting."""

_Raised: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class _Handle(Generic[R]):
    """What a caller has of something that lives in a task of the loop, which does not refer to it: it goes when nobody else does."""

    _portal: _portal.Portal | None = None  # here, for the finalizer of what was never made
    _host: asyncio.Task[R] | None = None

    def __init__(self, deadline: float | None) -> None:
        self._deadline = deadline

    def __del__(self) -> None:
        # by whatever thread collects garbage, the loop's own perhaps: it must not wait
        if self._portal is not None and self._host is not None:
            self._portal.soon(self._host.cancel)

    @property
    def _lives(self) -> bool:
        """Whether it was begun, in this process, and the program is not ending."""
        return self._host is not None and _portal.usable(self._portal)

    def _call(self, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What a step gives, in the loop where the first was done."""
        portal = _portal.current()
        if self._portal not in (None, portal):
            raise ConfigurationError("this was begun in the parent process and cannot go on in a forked child; begin another one")
        self._portal = portal
        return portal.call(step(), self._deadline)


class _Feed(Generic[T]):
    """The items of an async iterator, on their way to the caller's thread."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self.items: deque[T] = deque()
        self.ended = False
        self.error: BaseException | None = None
        self._source = source
        self._more = asyncio.Event()  # there are items, or there will be none
        self._room = asyncio.Event()

    async def wait_for_more(self) -> None:
        if not self.items and not self.ended:
            self._more.clear()
        self._room.set()
        await self._more.wait()  # until the task waits for something: by then all that could be had at once is there

    async def run(self) -> None:
        try:
            await self._run()
        except asyncio.CancelledError:
            self.error = PAuthError("the listing was cancelled from inside; begin another one", remedy=Remedy.RETRY)
            raise
        except BaseException as error:  # noqa: BLE001  # it is raised where the items are
            self.error = error
        finally:
            self.ended = True
            self._more.set()

    async def _run(self) -> None:
        try:
            async for item in self._source:
                self.items.append(item)
                self._more.set()
                if len(self.items) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        finally:
            aclose = getattr(self._source, "aclose", None)  # of a generator that was left in its middle
            if aclose is not None:
                await aclose()


class SyncIterator(_Handle[None], Generic[T]):
    """An iterator whose items are fetched in pauth's event loop, some of them ahead. For one thread.

    One that is not used up is closed by :meth:`close`, by ``with``, or when nobody refers to it any more.
    """

    def __init__(self, source: AsyncIterator[T], deadline: float | None) -> None:
        super().__init__(deadline)
        self._feed = _Feed(source)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while not self._feed.items and not self._feed.ended:
            self._call(self._fetch)
        if self._feed.items:
            return self._feed.items.popleft()
        self._raise()
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Fetch no more. What the source raises on its way out is raised. May be called again."""
        if self._lives and not self._feed.ended:
            self._call(self._stop)
        self._feed.ended = True
        self._feed.items.clear()
        self._raise()

    def _raise(self) -> None:
        error, self._feed.error = self._feed.error, None
        if error is None:
            return
        try:
            raise error
        finally:
            del error  # or this frame and the traceback would keep each other alive

    async def _fetch(self) -> None:
        if self._host is None:
            self._host = _portal.current().host(self._feed.run())
        await self._feed.wait_for_more()

    async def _stop(self) -> None:
        host = self._host
        assert host is not None  # noqa: S101  # for type checkers: what lives was begun
        host.cancel()
        await asyncio.wait((host,))
        if host.cancelled():
            self._feed.error = None


class _Held(Generic[T]):
    """An async context manager, entered until it is told to leave."""

    def __init__(self, manager: AbstractAsyncContextManager[T, bool | None]) -> None:
        loop = asyncio.get_running_loop()
        self.entered: asyncio.Future[T] = loop.create_future()
        self.left: asyncio.Future[_Raised] = loop.create_future()
        self._manager = manager

    async def run(self) -> bool:
        self.entered.set_result(await self._manager.__aenter__())
        try:
            raised = await self.left
        except asyncio.CancelledError as stopped:
            await self._manager.__aexit__(type(stopped), stopped, stopped.__traceback__)
            raise
        return bool(await self._manager.__aexit__(*raised))


class SyncContext(_Handle[bool], AbstractContextManager[T, bool | None], Generic[T]):
    """A context manager that is entered and left in pauth's event loop."""

    _held: _Held[T]

    def __init__(self, manager: AbstractAsyncContextManager[T, bool | None], deadline: float | None) -> None:
        super().__init__(deadline)
        self._manager = manager

    def __enter__(self) -> T:
        return self._call(self._enter)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return self._call(lambda: self._leave((kind, error, trace))) if self._lives else None

    async def _enter(self) -> T:
        held = self._held = _Held(self._manager)
        self._host = _portal.current().host(held.run())
        self._host.add_done_callback(_retrieve)
        try:
            await asyncio.wait((self._host, held.entered), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._host.cancel()
            raise
        if self._host.done():
            self._host.result()  # it was not entered: this says why
        return held.entered.result()

    async def _leave(self, raised: _Raised) -> bool | None:
        host = self._host
        assert host is not None  # noqa: S101  # for type checkers: who leaves has entered
        if not self._held.left.done():
            self._held.left.set_result(raised)
        await asyncio.wait((host,))
        if raised[1] is not None and host.exception() is raised[1]:
            return False
        return host.result()


def _retrieve(task: asyncio.Task[bool]) -> None:
    if not task.cancelled():
        task.exception()  # asyncio would log it as "never retrieved" if the caller has left
