"""Time as an object, so that tests can move it.

This module imports nothing from pauth.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Where pauth takes the time from. All values are seconds."""

    def time(self) -> float:
        """Wall-clock time: seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Time that never jumps, from an arbitrary origin; for deadlines and leases."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` have passed on this clock."""
        ...


_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)  # goes on while the machine sleeps, which Linux's monotonic clock does not


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; time in which the machine was suspended counts."""
        return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` have passed."""
        await asyncio.sleep(seconds)
