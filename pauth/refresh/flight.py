"""One task per piece of work in a process, however many callers want its result.

The work runs in a task of its own that no caller can cancel. Callers may sit on different event loops in different threads: the loop of the first
one does the work, the others wait for it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import threading
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

from pauth.errors import PAuthError, ProviderUnavailable

__all__ = ["Flights"]

T = TypeVar("T")


class _Flight:
    __slots__ = ("landed", "loop", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.landed: concurrent.futures.Future[Any] = concurrent.futures.Future()
        # a running future refuses cancel(), so that a waiter on another loop who is cancelled cannot cancel it for everybody
        self.landed.set_running_or_notify_cancel()
        self.task: asyncio.Task[None] | None = None


class Flights:
    """What is under way now, by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]], *, tasks: set[asyncio.Task[None]]) -> T:
        """Do ``work``, or wait for the one who is doing it under the same ``key``; everybody gets its result or its error.

        Cancelling the caller does not cancel the work.

        :param tasks: keeps the task if this call starts one, until it ends; whoever closes down waits for them.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            flight = self._flights.get(key)
            if flight is None or (flight.loop is not loop and flight.loop.is_closed()):
                flight = self._flights[key] = _Flight(loop)
                flight.task = loop.create_task(self._fly(key, flight, work))
                tasks.add(flight.task)
                flight.task.add_done_callback(tasks.discard)
        if flight.loop is loop and flight.task is not None:
            await asyncio.wait((flight.task,))
        else:
            await asyncio.wait((asyncio.wrap_future(flight.landed),))
        error = flight.landed.exception()
        if error is not None:
            # one instance raised in a thousand tasks would collect a thousand tracebacks
            raise copy.copy(error) if isinstance(error, PAuthError) else error
        result: T = flight.landed.result()
        return result

    async def _fly(self, key: Hashable, flight: _Flight, work: Callable[[], Awaitable[Any]]) -> None:
        error: BaseException | None = None
        result: Any = None
        try:
            result = await work()
        except asyncio.CancelledError:
            error = ProviderUnavailable("the event loop was shut down while a request was under way; close the client first (aclose)")
        except BaseException as exc:  # noqa: BLE001  # whoever waits gets it, whatever it is
            error = exc
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
        if error is not None:
            flight.landed.set_exception(error)
        else:
            flight.landed.set_result(result)
