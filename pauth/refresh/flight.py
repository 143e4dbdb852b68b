"""One task per piece of work in a process, however many callers want its result.

The work runs in a task of its own that no caller can cancel. Callers may sit on different event loops in different threads: the loop of the first
one does the work, the others wait for it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from pauth.errors import PAuthError, ProviderUnavailable

__all__ = ["Flight", "Flights", "drain", "too_long", "uninterruptible"]

_LOOK_EVERY = 1.0
"""Seconds between two looks at whether the other event loop that a caller waits for still runs."""

T = TypeVar("T")


class Flight:
    """One piece of work, under way in the event loop that it was begun in."""

    __slots__ = ("landed", "loop", "pid", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.pid: int = os.getpid()
        self.task: asyncio.Task[Any]
        # Tells other loops when, never what: an error nobody there asks for would be logged.
        self.landed: concurrent.futures.Future[None] = concurrent.futures.Future()
        # a running future refuses cancel(), so that a waiter on another loop who is cancelled cannot cancel it for everybody
        self.landed.set_running_or_notify_cancel()

    async def wait(self, patience: float | None = None) -> None:
        """Return when the work is done.

        :param patience: seconds (of real time).
        :raises ProviderUnavailable: it takes longer, or will never be, as things are: its event loop was stopped in the middle of it.
        """
        if self.loop is asyncio.get_running_loop():
            await asyncio.wait((self.task,), timeout=patience)
            if not self.task.done():
                raise too_long()
            return
        landing = asyncio.wrap_future(self.landed)
        until = None if patience is None else time.monotonic() + patience
        while not self.landed.done():
            if not self.loop.is_running():
                raise ProviderUnavailable("another event loop of this process has begun a request and was stopped; close it, or let it go on")
            if until is not None and time.monotonic() >= until:
                raise too_long()
            await asyncio.wait((landing,), timeout=_LOOK_EVERY if until is None else min(_LOOK_EVERY, until - time.monotonic()))

    def outcome(self) -> Any:
        """What the work gave, or a copy of its error: one instance raised in a thousand tasks would collect a thousand tracebacks."""
        if self.task.cancelled():
            raise ProviderUnavailable("the event loop was shut down while a request was under way; close the client first (aclose)")
        error = self.task.exception()
        if error is not None:
            raise copy.copy(error) if isinstance(error, PAuthError) else error
        return self.task.result()


class Flights:
    """What is under way now, by key."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Flight] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]], *, begun: set[Flight], patience: float | None = None) -> T:
        """Do ``work``, or wait for the one who is doing it under the same ``key``; everybody gets its result or its error.

        Cancelling the caller does not cancel the work.

        :param begun: gets the flight if this call begins one, until it has landed; for :func:`drain`.
        :param patience: seconds (of real time) after which the caller gives up; the work goes on.
        :raises ProviderUnavailable: it took longer.
        """
        flight = self.begin(key, work, begun=begun)
        await flight.wait(patience)
        result: T = flight.outcome()
        return result

    def begin(self, key: Hashable, work: Callable[[], Awaitable[T]], *, begun: set[Flight]) -> Flight:
        """Let ``work`` be done, unless it is being done already under the same ``key``, and do not wait for it."""
        loop = asyncio.get_running_loop()
        if self._pid != os.getpid():  # a forked child: what its parent has under way will never land here, and the lock may have been held
            self._pid, self._lock, self._flights = os.getpid(), threading.Lock(), {}
        with self._lock:
            flight = self._flights.get(key)
            first = flight is None or (flight.loop is not loop and flight.loop.is_closed())
            if flight is None or first:
                flight = self._flights[key] = Flight(loop)
        if first:
            begun.add(flight)
            # Not under the lock: a task factory may run the beginning of the work here and now.
            flight.task = _new_task(loop, _do(work))
            # A callback, not the end of the task's own code: a task that is cancelled before its first step never runs any.
            flight.task.add_done_callback(partial(self._land, key, flight, begun))
        return flight

    def _land(self, key: Hashable, flight: Flight, begun: set[Flight], task: asyncio.Task[Any]) -> None:
        with self._lock:
            del self._flights[key]
        begun.discard(flight)
        if not task.cancelled():
            task.exception()  # asyncio would log it as "never retrieved" if all callers have left
        flight.landed.set_result(None)


async def drain(flights: set[Flight]) -> None:
    """Wait until all ``flights`` have landed; those of event loops that have stopped, and of the process this one was forked from, are given up."""
    while flights:
        for flight in tuple(flights):
            if flight.pid == os.getpid():
                with suppress(ProviderUnavailable):
                    await flight.wait()
            flights.discard(flight)


def too_long() -> ProviderUnavailable:
    """What a caller is told whose patience has ended."""
    return ProviderUnavailable("this takes too long; it goes on, so try again in a moment", retry_after=1.0)


_flying: ContextVar[bool] = ContextVar("_flying", default=False)


class _FlightTask(asyncio.Task[T]):
    """A task that has times in which only its own work can cancel it, as its timeouts do.

    What ``asyncio.run`` does at the end of a program is to cancel all tasks and wait for them. A flight that has sent a refresh token must not be cut
    off there: it is waited for, which takes no longer than its own deadlines.
    """

    uninterruptible = False

    def cancel(self, msg: Any | None = None) -> bool:
        return super().cancel(msg) if not self.uninterruptible or _flying.get() else False


@contextmanager
def uninterruptible() -> Generator[None]:
    """While this lasts nobody else cancels the flight that it is in."""
    task = asyncio.current_task()
    if not isinstance(task, _FlightTask) or task.uninterruptible:
        yield
        return
    task.uninterruptible = True
    try:
        yield
    finally:
        task.uninterruptible = False


def _new_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    return _FlightTask(work, loop=loop)  # not by the loop's task factory, which would make one that can be cut off


async def _do(work: Callable[[], Awaitable[T]]) -> T:
    _flying.set(True)
    return await work()
