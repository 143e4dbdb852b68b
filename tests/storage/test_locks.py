"""The locks that hold between coroutines, event loops and threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pauth.storage.adapters import KeyedLocks


async def test_one_holder_at_a_time_in_the_order_of_asking() -> None:
    locks = KeyedLocks()
    inside: list[int] = []
    order: list[int] = []

    async def hold(number: int) -> None:
        async with locks.hold("key"):
            inside.append(number)
            await asyncio.sleep(0)
            assert inside == [number]
            inside.remove(number)
            order.append(number)

    await asyncio.gather(*(hold(number) for number in range(50)))
    assert order == list(range(50))
    assert len(locks) == 0


async def test_keys_do_not_wait_for_each_other_p9() -> None:
    locks = KeyedLocks()
    async with locks.hold("a"), locks.hold("b"):
        assert len(locks) == 2
    assert len(locks) == 0


async def test_a_lock_is_released_by_an_error() -> None:
    locks = KeyedLocks()
    with pytest.raises(ZeroDivisionError):
        async with locks.hold("key"):
            raise ZeroDivisionError
    async with locks.hold("key"):
        pass


async def test_who_leaves_the_queue_is_passed_over_p14() -> None:
    locks = KeyedLocks()
    got: list[int] = []

    async def hold(number: int) -> None:
        async with locks.hold("key"):
            got.append(number)

    async with locks.hold("key"):
        waiters = [asyncio.create_task(hold(number)) for number in range(6)]
        await asyncio.sleep(0)
        for number in (0, 2, 3, 5):
            waiters[number].cancel()
        await asyncio.sleep(0)
    await asyncio.wait(waiters)
    assert got == [1, 4]
    assert len(locks) == 0


async def test_who_leaves_in_the_moment_of_being_served_passes_the_lock_on_p14() -> None:
    locks = KeyedLocks()
    got: list[str] = []

    async def hold(name: str) -> None:
        async with locks.hold("key"):
            got.append(name)

    async with locks.hold("key"):
        leaving = asyncio.create_task(hold("leaving"))
        patient = asyncio.create_task(hold("patient"))
        await asyncio.sleep(0)
    leaving.cancel()  # the lock is handed over, but its task has not run yet
    await asyncio.wait([leaving, patient])
    assert got == ["patient"]
    assert len(locks) == 0


async def test_who_leaves_last_in_that_moment_frees_the_lock() -> None:
    locks = KeyedLocks()
    async with locks.hold("key"):
        leaving = asyncio.create_task(locks.hold("key").__aenter__())
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    assert len(locks) == 0


def test_threads_with_event_loops_of_their_own_take_turns_p15() -> None:
    locks = KeyedLocks()
    threads = 8
    together = threading.Barrier(threads)
    inside = 0
    entered = 0

    async def hold() -> None:
        nonlocal inside, entered
        for _ in range(50):
            async with locks.hold("key"):
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                entered += 1
                inside -= 1

    def thread(_: int) -> None:
        together.wait()
        asyncio.run(hold())

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(thread, range(threads)))
    assert entered == 50 * threads
    assert len(locks) == 0
