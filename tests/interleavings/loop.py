"""An event loop on which several processes live, whose steps are put in an order by a seed, and on which time is a number.

Each task belongs to the process in whose context it was begun. Within a process the order is asyncio's; which process takes the next step is drawn.
A process can be killed between any two steps (none of its code runs any more, not even a ``finally``), as by SIGKILL, or stopped for a while, as by
SIGSTOP.
"""

# An event loop of one's own overrides what asyncio's loops have, and looks into handles and tasks as they do.
# mypy: disable-error-code="override,assignment"
# pyright: reportIncompatibleMethodOverride=false, reportAssignmentType=false, reportPrivateUsage=false, reportAttributeAccessIssue=false
# pyright: reportUnknownMemberType=false, reportIncompatibleVariableOverride=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

process: ContextVar[int] = ContextVar("process", default=0)
"""The process that code runs in; 0 is the world around them."""


class Stuck(AssertionError):
    """Nothing is left to do, and the work is not done."""


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.now = 1000.0
        self.steps = 0
        self.order: list[int] = []
        self.dead: set[int] = set()
        self.stopped: dict[int, float] = {}
        self._queues: dict[int, deque[Any]] = {}
        self._timers: list[tuple[float, int, Any]] = []
        self._frozen: list[tuple[float, int, Any]] = []
        self._count = 0
        self.at_step: dict[int, Any] = {}
        """What is to be done to which process before its step of this number (counted over all processes)."""

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        where = context.get(process, 0) if context is not None else process.get()
        queue = self._queues.get(where)
        if queue is None:
            queue = self._queues[where] = deque()
        queue.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        where = context.get(process, 0) if context is not None else process.get()
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, (where, timer)))
        return timer

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: Any) -> None:
        pass

    def kill(self, number: int) -> None:
        self.dead.add(number)

    def stop_until(self, number: int, when: float) -> None:
        self.stopped[number] = when

    def stopping(self, seconds: float) -> Callable[[int], None]:
        """What stops a process for a while."""
        return lambda number: self.stop_until(number, self.now + seconds)

    def finish(self, coroutine: Any) -> Any:
        """What ``coroutine`` gives, in the world around the processes."""
        asyncio._set_running_loop(self)
        try:
            task = asyncio.Task(coroutine, loop=self)
            while not task.done():
                self._step()
            return task.result()
        finally:
            asyncio._set_running_loop(None)

    def wind_up(self) -> None:
        """Let everything end, the dead included: a coroutine that is thrown away in the middle complains."""
        self.dead.clear()
        self.stopped.clear()
        self.at_step.clear()
        for each in self._frozen:
            heapq.heappush(self._timers, each)
        self._frozen.clear()
        asyncio._set_running_loop(self)
        try:
            while self._queues or self._timers:
                self._step()
        except Stuck:
            pass
        finally:
            asyncio._set_running_loop(None)
            self.close()

    def _step(self) -> None:
        ready = [number for number, queue in self._queues.items() if queue and self._runs(number)]
        if not ready:
            self._pass_time()
            return
        number = ready[0] if len(ready) == 1 else self.random.choice(ready)
        if number:
            self.steps += 1
            what = self.at_step.pop(self.steps, None)
            if what is not None:
                what(number)
                return
            self.order.append(number)
        handle = self._queues[number].popleft()
        if not handle._cancelled:
            handle._run()

    def _runs(self, number: int) -> bool:
        until = self.stopped.get(number)
        if until is None:
            return number not in self.dead
        if until > self.now:
            return False
        del self.stopped[number]
        return True

    def _pass_time(self) -> None:
        while self._timers:
            when, _, (number, timer) = self._timers[0]
            if timer._cancelled:
                heapq.heappop(self._timers)
                continue
            if number in self.dead:
                self._frozen.append(heapq.heappop(self._timers))
                continue
            # who is stopped gets his timers when he goes on
            wake = min((until for until in self.stopped.values()), default=float("inf"))
            if wake < when and wake > self.now:
                self.now = wake
                return
            heapq.heappop(self._timers)
            self.now = max(self.now, when)
            self._queues.setdefault(number, deque()).append(timer)
            return
        if self.stopped:
            self.now = min(self.stopped.values())
            return
        raise Stuck
