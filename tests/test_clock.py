"""The machine's own clock. (The one that tests move by hand is tested in tests/testing.)"""

from __future__ import annotations

import time
from typing import Any

import pytest

from pauth import clock as module
from pauth.clock import Clock, SystemClock


async def test_the_machines_clock() -> None:
    clock: Clock = SystemClock()
    before = time.time(), clock.monotonic()
    await clock.sleep(0.001)
    now = clock.time(), clock.monotonic()
    assert before[0] <= now[0]
    assert before[1] < now[1]
    assert abs(clock.time() - time.time()) < 60


def test_p11_time_in_which_the_machine_slept_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease ends while a laptop sleeps; Linux's monotonic clock stands still meanwhile, its boot time goes on."""
    assert getattr(time, "CLOCK_BOOTTIME", None) == module._CLOCK  # pyright: ignore[reportPrivateUsage]
    asked: list[int] = []

    def read(clock_id: int) -> float:
        asked.append(clock_id)
        return 1234.5

    monkeypatch.setattr(module, "_CLOCK", 7)
    monkeypatch.setattr(time, "clock_gettime", read, raising=False)
    assert SystemClock().monotonic() == 1234.5
    assert asked == [7]


def test_elsewhere_it_is_pythons_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and Windows have none that is called so; theirs goes on, or nobody can tell."""
    clock: Any = SystemClock()
    monkeypatch.setattr(module, "_CLOCK", None)
    before = time.monotonic()
    assert before <= clock.monotonic() <= time.monotonic()
