"""One task per piece of work (P1), which no caller can cancel (P14), in one event loop or several (P15)."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from pauth.errors import PAuthError, ProviderUnavailable, TokenError
from pauth.refresh import flight as module
from pauth.refresh.flight import Flight, Flights, drain
from tests.refresh.faulty import FaultyStorage
from tests.refresh.kit import KEY, Storage, World, close, settle, stored, until
from tests.refresh.rotating import Rotating

T = TypeVar("T")


class Work:
    """Something to do that waits until it is let go."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.runs = 0
        self.started = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self) -> str:
        self.runs += 1
        self.started.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return f"result {self.runs}"


class LoopThread:
    """An event loop of its own in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def submit(self, coro: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coro, self.loop)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def close(self) -> None:
        if self._thread.is_alive():
            self.stop()
        self.loop.close()


@contextmanager
def another_loop() -> Generator[LoopThread]:
    other = LoopThread()
    try:
        yield other
    finally:
        other.close()


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
    assert _complaints(caplog) == []


def _complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]


async def test_p4_p14_nobody_can_cancel_the_work_from_outside() -> None:
    """As ``asyncio.run`` does to all tasks at the end of a program: it waits for this one, which has sent a refresh token perhaps."""
    flights, begun, work = Flights(), set[Flight](), Work()
    caller = asyncio.create_task(flights.run("key", work, begun=begun))
    await until(lambda: begun)
    (flight,) = begun
    assert not flight.task.cancel()  # before its first step, too
    await work.started.wait()
    assert not flight.task.cancel()
    for task in asyncio.all_tasks() - {asyncio.current_task(), caller}:
        task.cancel("the program ends")
    await settle()
    assert not caller.done()
    assert not flight.task.cancelling()
    work.go.set()
    assert await caller == "result 1"


async def test_p9_timeouts_inside_the_work_end_what_they_are_about() -> None:
    flights = Flights()
    outcomes: list[str] = []

    async def hang() -> None:
        await asyncio.Event().wait()

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

    assert await flights.run("key", work, begun=set()) == "done"
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


async def test_p9_a_caller_on_another_loop_gives_up_when_its_patience_ends() -> None:
    flights, work = Flights(), Work()
    own = asyncio.create_task(flights.run("key", work, begun=set()))
    await work.started.wait()
    with another_loop() as other:
        theirs = other.submit(flights.run("key", work, begun=set(), patience=0.01))
        patient = other.submit(flights.run("key", work, begun=set(), patience=60))
        with pytest.raises(ProviderUnavailable, match="goes on"):
            await asyncio.wrap_future(theirs)
        assert not own.done()
        work.go.set()
        assert await asyncio.gather(own, asyncio.wrap_future(patient)) == ["result 1"] * 2


async def test_work_can_be_begun_without_waiting_for_it() -> None:
    flights, begun, work = Flights(), set[Flight](), Work()
    first = flights.begin("key", work, begun=begun)
    assert flights.begin("key", work, begun=begun) is first
    waiter = asyncio.create_task(flights.run("key", work, begun=begun))
    await work.started.wait()
    work.go.set()
    assert await waiter == "result 1"
    assert (work.runs, begun) == (1, set())


async def test_a_program_that_makes_its_own_tasks_can_cancel_them_before_their_first_step() -> None:
    """Then the flight's own code never runs, and its callers must not hang."""
    asyncio.get_running_loop().set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))  # pyright: ignore
    flights, begun, work = Flights(), set[Flight](), Work()
    caller = asyncio.create_task(flights.run("key", work, begun=begun))
    await until(lambda: begun)
    (flight,) = begun
    assert work.runs == 0
    flight.task.cancel()
    with pytest.raises(ProviderUnavailable, match="shut down"):
        await caller
    assert not begun
    work.go.set()
    assert await flights.run("key", work, begun=begun) == "result 1"


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


async def test_p15_waiters_on_other_loops_get_the_same_result(caplog: pytest.LogCaptureFixture) -> None:
    flights, begun, work = Flights(), set[Flight](), Work()
    own = asyncio.create_task(flights.run("key", work, begun=begun))
    await work.started.wait()
    with another_loop() as other:
        theirs = [other.submit(flights.run("key", work, begun=set())) for _ in range(3)]
        await asyncio.wrap_future(other.submit(settle()))
        theirs[0].cancel()
        await asyncio.wrap_future(other.submit(settle()))
        work.go.set()
        assert await asyncio.gather(own, *map(asyncio.wrap_future, theirs[1:])) == ["result 1"] * 3
    assert work.runs == 1
    assert _complaints(caplog) == []


async def test_p15_an_error_reaches_waiters_on_other_loops_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    flights, work = Flights(), Work(TokenError("no"))
    own = asyncio.create_task(flights.run("key", work, begun=set()))
    await work.started.wait()
    with another_loop() as other:
        theirs = other.submit(flights.run("key", work, begun=set()))
        await asyncio.wrap_future(other.submit(settle()))
        work.go.set()
        errors = await asyncio.gather(own, asyncio.wrap_future(theirs), return_exceptions=True)
    assert [type(error) for error in errors] == [TokenError] * 2
    assert errors[0] is not errors[1]
    assert _complaints(caplog) == []


async def test_p15_a_waiter_whose_loop_is_gone_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    flights, work = Flights(), Work()
    own = asyncio.create_task(flights.run("key", work, begun=set()))
    await work.started.wait()
    with another_loop() as other:
        theirs = other.submit(flights.run("key", work, begun=set()))
        await asyncio.wrap_future(other.submit(settle()))
        theirs.cancel()
        await asyncio.wrap_future(other.submit(settle()))
    work.go.set()
    assert await own == "result 1"
    assert _complaints(caplog) == []


async def _begin_and_stop(flights: Flights, other: LoopThread, begun: set[Flight]) -> Work:
    """Begin a piece of work on another loop, and stop that loop in the middle of it."""
    work = Work()
    other.submit(flights.run("key", work, begun=begun))
    await asyncio.wrap_future(other.submit(work.started.wait()))
    other.stop()
    return work


async def test_p9_a_loop_that_was_stopped_in_the_middle_is_an_error_and_not_a_hang() -> None:
    """Its refresh token may have been sent, so it is not sent again from here."""
    flights, begun, work = Flights(), set[Flight](), Work()
    work.go.set()
    with another_loop() as other:
        theirs = await _begin_and_stop(flights, other, begun)
        with pytest.raises(ProviderUnavailable, match="another event loop") as caught:
            await flights.run("key", work, begun=set())
        assert caught.value.retryable
        assert work.runs == 0
        await drain(begun)
        assert not begun
        _end_tasks(other.loop, theirs)


async def test_p9_a_loop_that_stops_while_others_wait_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.001)
    flights, work = Flights(), Work()
    with another_loop() as other:
        other.submit(flights.run("key", work, begun=set()))
        await asyncio.wrap_future(other.submit(work.started.wait()))
        waiter = asyncio.create_task(flights.run("key", work, begun=set()))
        await settle()
        other.stop()
        with pytest.raises(ProviderUnavailable, match="another event loop"):
            await waiter
        _end_tasks(other.loop, work)


async def test_p15_a_loop_that_was_closed_in_the_middle_is_replaced() -> None:
    """Its task is gone and will never answer."""
    flights, work = Flights(), Work()
    work.go.set()
    with another_loop() as other:
        await _begin_and_stop(flights, other, set())
        tasks = asyncio.all_tasks(other.loop)
        other.loop.close()
        assert await flights.run("key", work, begun=set()) == "result 1"
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def _end_tasks(loop: asyncio.AbstractEventLoop, work: Work) -> None:
    """As ``asyncio.run`` does at its end, when the work can go on; in this thread, which has a running loop, so in another."""

    def end() -> None:
        tasks = asyncio.all_tasks(loop)
        work.go.set()
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()


async def test_p15_closing_waits_for_what_was_begun_on_another_loop() -> None:
    flights, begun, work = Flights(), set[Flight](), Work()
    with another_loop() as other:
        theirs = other.submit(flights.run("key", work, begun=begun))
        await asyncio.wrap_future(other.submit(work.started.wait()))
        draining = asyncio.create_task(drain(begun))
        await settle()
        assert not draining.done()
        other.loop.call_soon_threadsafe(work.go.set)
        await draining
        assert await asyncio.wrap_future(theirs) == "result 1"


async def test_p1_p15_two_event_loops_in_two_threads_share_one_refresh(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    asked, go = asyncio.Event(), asyncio.Event()

    async def answering() -> None:
        asked.set()
        await go.wait()

    rotating.script.append(answering)
    here = [asyncio.create_task(coordinator.get(KEY)) for _ in range(3)]
    await asked.wait()
    with another_loop() as other, another_loop() as third:
        there = [loop.submit(rotating.coordinator(faulty).get(KEY)) for loop in (other, third) for _ in range(3)]
        for loop in (other, third):
            await asyncio.wrap_future(loop.submit(settle()))
        go.set()
        tokens = await asyncio.gather(*here, *map(asyncio.wrap_future, there))
    assert {token.access_token for token in tokens} == {rotating.last and rotating.last.access_token}
    assert len(rotating.sent) == 1


async def test_p1_p15_one_client_used_from_three_loops_makes_one_refresh(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        with another_loop() as other, another_loop() as third:
            there = [loop.submit(client.get_token("alice")) for loop in (other, third) for _ in range(20)]
            tokens = await asyncio.gather(*(client.get_token("alice") for _ in range(20)), *map(asyncio.wrap_future, there))
            await client.aclose()
            await close(storage)  # while the loops that used it run
    assert len({token.access_token for token in tokens}) == 1
    assert [entry.outcome for entry in strict.refreshes] == ["ok"]


async def test_errors_of_a_refresh_are_separate_for_each_caller(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client, strict.client(storage) as other:
        await strict.log_in(client)
        strict.expire()
        strict.server.revoke_user("alice")
        callers: list[Callable[[str], Coroutine[Any, Any, Any]]] = [client.get_token, other.get_token, client.refresh]
        errors = await asyncio.gather(*(callers[number % 3]("alice") for number in range(30)), return_exceptions=True)
    assert len(set(map(id, errors))) == 30
    assert all(isinstance(error, PAuthError) for error in errors)
    assert len(strict.refreshes) == 1
    grant = await stored(storage)
    assert grant is not None
    assert grant.ended == "invalid_grant"
