"""A clock that a test moves by hand."""

from __future__ import annotations

import asyncio
import threading

__all__ = ["ManualClock"]

_ROUNDING = 1e-6
"""Seconds by which sums of floats may miss a deadline that was meant exactly."""


class ManualClock:
    """A :class:`pauth.clock.Clock` on which time passes only when :meth:`advance` is called. All values are seconds.

    :meth:`sleep` returns once that much time has *been advanced*; real time does not matter to it, so a task that sleeps on a clock nobody
    advances sleeps for ever. :meth:`set_wall_time` moves :meth:`time` alone, as an operator or NTP does; sleepers and deadlines follow
    :meth:`monotonic` and do not notice. Safe to share between threads and event loops.

    :param wall_time: what :meth:`time` says at first, in seconds since the Unix epoch.
    """

    def __init__(self, wall_time: float = 1_767_225_600.0) -> None:
        self._lock = threading.Lock()
        self._wall = wall_time
        self._monotonic = 1_000.0
        self._sleepers: list[tuple[float, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<ManualClock time={self._wall} sleepers={self.sleepers}>"

    @property
    def sleepers(self) -> int:
        """How many tasks sleep on this clock now: what a test waits for before it advances the time."""
        return len(self._sleepers)

    def time(self) -> float:
        """Wall-clock time: seconds since the Unix epoch."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds advanced so far, from an arbitrary origin."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass on both clocks, and wake the tasks whose time has come (they run when the caller next awaits).

        :raises ValueError: ``seconds`` is negative; time goes back only by :meth:`set_wall_time`.
        """
        if seconds < 0:
            raise ValueError("time does not go back; set_wall_time() moves the wall clock alone")
        with self._lock:
            self._wall += seconds
            self._monotonic += seconds
            due = sorted((sleeper for sleeper in self._sleepers if sleeper[0] <= self._monotonic + _ROUNDING), key=lambda sleeper: sleeper[0])
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper not in due]
        for _, loop, waiter in due:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, waiter)

    def set_wall_time(self, seconds: float) -> None:
        """Make :meth:`time` jump to ``seconds`` since the Unix epoch, forwards or back. No sleeper wakes."""
        with self._lock:
            self._wall = seconds

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` have been advanced; at once (after one turn of the event loop) if not positive."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        with self._lock:
            sleeper = (self._monotonic + seconds, loop, waiter)
            self._sleepers.append(sleeper)
        try:
            await waiter
        finally:
            with self._lock:
                if sleeper in self._sleepers:  # cancelled before its time
                    self._sleepers.remove(sleeper)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
