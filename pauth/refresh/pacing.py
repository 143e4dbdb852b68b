"""When the next one may begin, and pauses that end early when it is time to stop."""

from __future__ import annotations

import asyncio

from pauth.clock import Clock

__all__ = ["Pace", "Stop"]


class Stop:
    """Whether to stop, and pauses that end when it is time to."""

    __slots__ = ("_clock", "_event")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = asyncio.Event()

    def set(self) -> None:
        """Stop."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``, or when it is time to stop."""
        pause, stopping = asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait((pause, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            stopping.cancel()


class Pace:
    """So many turns a second, and no more.

    :param rate: ``None`` for as many as are wanted.
    """

    def __init__(self, rate: float | None, stop: Stop, clock: Clock) -> None:
        self._every = 0.0 if rate is None else 1.0 / rate
        self._stop = stop
        self._clock = clock
        self._next = float("-inf")
        self._line = asyncio.Lock()

    async def turn(self) -> None:
        """Return when it is this caller's turn, or time to stop."""
        if not self._every:
            return
        async with self._line:
            wait = self._next - self._clock.monotonic()
            if wait > 0 and not self._stop.is_set():
                await self._stop.sleep(wait)
                self._next += self._every  # from when it was due: who wakes up a little late does not slow the others down
            else:
                self._next = self._clock.monotonic() + self._every
