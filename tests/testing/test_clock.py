"""The manual clock: time passes when it is told to (P11)."""

from __future__ import annotations

import asyncio
import threading
from types import CoroutineType

import pytest

from pauth.clock import Clock
from pauth.testing import ManualClock


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_time_stands_still_until_it_is_advanced() -> None:
    clock: Clock = ManualClock(100.0)
    assert (clock.time(), clock.time()) == (100.0, 100.0)
    started = clock.monotonic()
    assert isinstance(clock, ManualClock)
    clock.advance(2.5)
    assert clock.time() == 102.5
    assert clock.monotonic() - started == 2.5


def test_the_wall_clock_jumps_alone() -> None:
    clock = ManualClock(100.0)
    started = clock.monotonic()
    clock.set_wall_time(50.0)
    assert clock.time() == 50.0
    assert clock.monotonic() == started


def test_time_does_not_go_back() -> None:
    clock = ManualClock(100.0)
    with pytest.raises(ValueError, match="set_wall_time"):
        clock.advance(-1.0)
    assert clock.time() == 100.0


async def test_sleepers_wake_in_the_order_of_their_deadlines_and_not_before() -> None:
    clock = ManualClock()
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleep(seconds)) for seconds in (3.0, 1.0, 2.0, 0.3)]
    await turns()
    assert clock.sleepers == 4
    for _ in range(3):
        clock.advance(0.1)  # three times 0.1 is not 0.3 in floats
    await turns()
    assert woken == [0.3]
    clock.advance(1.7)
    await turns()
    assert woken == [0.3, 1.0, 2.0]
    clock.advance(1.0)
    await asyncio.gather(*tasks)
    assert clock.sleepers == 0


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_sleeping_no_time_needs_no_advance(seconds: float) -> None:
    await ManualClock().sleep(seconds)


async def test_a_jump_of_the_wall_clock_wakes_nobody() -> None:
    clock = ManualClock(100.0)
    task = asyncio.create_task(clock.sleep(1.0))
    await turns()
    clock.set_wall_time(10_000.0)
    await turns()
    assert not task.done()
    clock.advance(1.0)
    await task


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1.0))
    await turns()
    task.cancel()
    await asyncio.wait([task])
    assert clock.sleepers == 0


async def test_a_sleeper_cancelled_while_it_wakes_is_no_error() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1.0))
    await turns()
    clock.advance(1.0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_another_thread_may_advance_the_clock() -> None:
    clock = ManualClock()
    task = asyncio.create_task(clock.sleep(1.0))
    await turns()
    thread = threading.Thread(target=clock.advance, args=(1.0,))
    thread.start()
    await task
    thread.join()


def test_a_sleeper_whose_event_loop_is_gone_is_passed_over() -> None:
    clock = ManualClock()
    loop = asyncio.new_event_loop()
    task = loop.create_task(clock.sleep(1.0))
    loop.run_until_complete(turns())
    loop.close()
    clock.advance(1.0)
    assert clock.sleepers == 0
    assert not task.done()
    coroutine = task.get_coro()
    assert isinstance(coroutine, CoroutineType)
    coroutine.close()


def test_repr_tells_the_time() -> None:
    assert repr(ManualClock(5.0)) == "<ManualClock time=5.0 sleepers=0>"
