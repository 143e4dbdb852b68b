"""Flights between event loops and threads (P15): one refresh, whose result all get; nobody waits for a loop that has gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from pauth.errors import PAuthError, ProviderUnavailable, TokenError
from pauth.refresh import flight as module
from pauth.refresh.flight import Flight, Flights, drain
from tests.refresh.faulty import FaultyStorage
from tests.refresh.kit import KEY, Storage, World, close, settle, stored
from tests.refresh.loops import LoopThread, Work, another_loop, complaints
from tests.refresh.rotating import Rotating

T = TypeVar("T")


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
        assert list(await asyncio.gather(own, asyncio.wrap_future(patient))) == ["result 1"] * 2


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
    assert complaints(caplog) == []


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
    assert complaints(caplog) == []


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
    assert complaints(caplog) == []


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
