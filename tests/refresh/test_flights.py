"""One task per piece of work (P1), which no caller can cancel (P14), in one event loop or several (P15)."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import nullcontext
from typing import TypeVar

import pytest

from pauth.errors import ProviderUnavailable, TokenError
from pauth.refresh.flight import Flight, Flights, drain, uninterruptible
from tests.refresh.kit import settle, until
from tests.refresh.loops import Work, complaints, make_own_tasks

T = TypeVar("T")


async def test_p1_one_key_is_one_task_and_another_key_another() -> None:
    flights, begun, work = Flights(), set[Flight](), Work()
    other = Work()
    same = [asyncio.create_task(flights.run("key", work, begun=begun)) for _ in range(3)]
    different = asyncio.create_task(flights.run("other key", other, begun=begun))
    await settle()
    assert len(begun) == 2
    work.go.set()
    assert await asyncio.gather(*same) == ["result 1"] * 3
    assert not different.done()
    other.go.set()
    assert await different == "result 1"
    assert not begun
    assert await flights.run("key", work, begun=begun) == "result 2"  # nothing is remembered


async def test_each_waiter_gets_an_error_of_its_own() -> None:
    flights = Flights()
    work = Work(TokenError("no", error="invalid_client", status=401))
    waiters = [asyncio.create_task(flights.run("key", work, begun=set())) for _ in range(3)]
    work.go.set()
    errors = await asyncio.gather(*waiters, return_exceptions=True)
    assert len(set(map(id, [*errors, work.error]))) == 4
    for error in errors:
        assert isinstance(error, TokenError)
        assert (error.message, error.error, error.status) == ("no", "invalid_client", 401)


async def test_an_error_that_is_not_pauths_comes_out_as_it_is() -> None:
    work = Work(ZeroDivisionError())
    work.go.set()
    with pytest.raises(ZeroDivisionError):
        await Flights().run("key", work, begun=set())


async def test_p14_a_cancelled_caller_does_not_cancel_the_work() -> None:
    flights, begun, work = Flights(), set[Flight](), Work()
    callers = [asyncio.create_task(flights.run("key", work, begun=begun)) for _ in range(3)]
    await work.started.wait()
    callers[0].cancel()
    await settle()
    work.go.set()
    assert await asyncio.gather(*callers[1:]) == ["result 1"] * 2
    assert callers[0].cancelled()


async def test_an_error_nobody_waits_for_is_not_logged_as_never_retrieved(caplog: pytest.LogCaptureFixture) -> None:
    flights, begun, work = Flights(), set[Flight](), Work(ZeroDivisionError())
    caller = asyncio.create_task(flights.run("key", work, begun=begun))
    await work.started.wait()
    caller.cancel()
    await settle()
    work.go.set()
    await drain(begun)
    del caller, work
    gc.collect()
    await settle()
    assert complaints(caplog) == []


async def test_p4_p14_nobody_cancels_the_work_from_outside_where_it_must_not_be_interrupted() -> None:
    """As ``asyncio.run`` does to all tasks at the end of a program: it waits for this one, which has sent a refresh token perhaps."""
    flights, begun, work = Flights(), set[Flight](), Work()

    async def critical() -> str:
        with uninterruptible():
            with uninterruptible():  # inside of another one
                pass
            return await work()

    caller = asyncio.create_task(flights.run("key", critical, begun=begun))
    await work.started.wait()
    (flight,) = begun
    assert not flight.task.cancel()
    for task in asyncio.all_tasks() - {asyncio.current_task(), caller}:
        task.cancel("the program ends")
    await settle()
    assert not caller.done()
    assert not flight.task.cancelling()
    work.go.set()
    assert await caller == "result 1"


@pytest.mark.parametrize("when", ["before its first step", "before it", "after it"])
async def test_elsewhere_the_work_is_cut_off_and_its_callers_do_not_hang(when: str) -> None:
    """Nothing was sent that could be lost. A task that is cancelled before its first step never runs any of its code."""
    flights, begun = Flights(), set[Flight]()
    waiting, passed = asyncio.Event(), list[str]()

    async def work() -> None:
        if when == "after it":
            with uninterruptible():
                await asyncio.sleep(0)
        waiting.set()
        await asyncio.Event().wait()
        passed.append("the waiting")

    caller = asyncio.create_task(flights.run("key", work, begun=begun))
    await (until(lambda: begun) if when == "before its first step" else waiting.wait())
    (flight,) = begun
    assert flight.task.cancel()
    with pytest.raises(ProviderUnavailable, match="shut down"):
        await caller
    assert (begun, passed) == (set(), [])
    ready = Work()
    ready.go.set()
    assert await flights.run("key", ready, begun=begun) == "result 1"


async def test_p15_what_the_parent_process_has_under_way_is_not_waited_for() -> None:
    """In a forked child, whose loop is another one: it would never land."""
    flight = Flight(asyncio.get_running_loop())
    flight.pid -= 1
    await drain(begun := {flight})
    assert not begun


async def test_a_task_that_is_no_flight_is_cancelled_as_any_other() -> None:
    async def work() -> None:
        with uninterruptible():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await settle()
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_flight_is_a_task_of_its_own_kind_whatever_makes_the_programs_tasks() -> None:
    """A task factory would make one that can be cut off where it must not be."""
    make_own_tasks()
    flights, begun, work = Flights(), set[Flight](), Work()

    async def critical() -> str:
        with uninterruptible():
            return await work()

    caller = asyncio.create_task(flights.run("key", critical, begun=begun))
    await work.started.wait()
    (flight,) = begun
    assert not flight.task.cancel()
    work.go.set()
    assert await caller == "result 1"


@pytest.mark.parametrize("guarded", [True, False])
async def test_p9_timeouts_inside_the_work_end_what_they_are_about(*, guarded: bool) -> None:
    flights = Flights()
    outcomes: list[str] = []

    async def hang() -> None:
        await asyncio.Event().wait()

    async def guard() -> str:
        with uninterruptible() if guarded else nullcontext():
            return await work()

    async def work() -> str:
        try:
            async with asyncio.timeout(0.001):
                await hang()
        except TimeoutError:
            outcomes.append("timeout")
        try:
            await asyncio.wait_for(hang(), 0.001)
        except TimeoutError:
            outcomes.append("wait_for")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(hang())
                raise ZeroDivisionError
        except* ZeroDivisionError:
            outcomes.append("group")
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                group.create_task(hang())
                task = asyncio.current_task()
                assert task is not None
                assert task.cancel()  # its own doing
                await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        return "done"

    assert await flights.run("key", guard, begun=set()) == "done"
    assert outcomes == ["timeout", "wait_for", "group"]


async def test_p9_a_caller_gives_up_when_its_patience_ends_and_the_work_goes_on() -> None:
    flights, begun, work = Flights(), set[Flight](), Work()
    with pytest.raises(ProviderUnavailable, match="goes on") as caught:
        await flights.run("key", work, begun=begun, patience=0.001)
    assert caught.value.retry_after == 1.0
    assert len(begun) == 1
    waiter = asyncio.create_task(flights.run("key", work, begun=begun, patience=60))
    await settle()
    work.go.set()
    assert await waiter == "result 1"
    assert not begun


async def test_work_can_be_begun_without_waiting_for_it() -> None:
    flights, begun, work = Flights(), set[Flight](), Work()
    first = flights.begin("key", work, begun=begun)
    assert flights.begin("key", work, begun=begun) is first
    waiter = asyncio.create_task(flights.run("key", work, begun=begun))
    await work.started.wait()
    work.go.set()
    assert await waiter == "result 1"
    assert (work.runs, begun) == (1, set())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_an_eager_task_factory_does_not_deadlock() -> None:
    """The work begins inside create_task then, and may begin a flight itself."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    flights, begun = Flights(), set[Flight]()

    async def inner() -> str:
        return "inner"

    async def outer() -> str:
        return await flights.run("inner", inner, begun=begun)

    assert await flights.run("outer", outer, begun=begun) == "inner"
    await drain(begun)
    assert not begun
