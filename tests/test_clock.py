"""The machine's own clock. (The one that tests move by hand is tested in tests/testing.)"""

from __future__ import annotations

import time

from pauth.clock import Clock, SystemClock


async def test_the_machines_clock() -> None:
    clock: Clock = SystemClock()
    before = time.time(), time.monotonic()
    now = clock.time(), clock.monotonic()
    await clock.sleep(0.001)
    assert before[0] <= now[0]
    assert before[1] <= now[1] < clock.monotonic()
