"""The deadline of one request (P2, P9): looked at before the first byte leaves; a process that wakes up late still reads what has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pauth.core.wire import HTTPResponse
from pauth.errors import PAuthError, ProviderUnavailable
from pauth.failpoints import arm
from pauth.testing import ManualClock
from pauth.transport import Transport
from tests.transport.kit import RawServer, assert_bare, forever, raw_server, secret_request, sending, whole


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm(None)


@asynccontextmanager
async def opened(**options: Any) -> AsyncGenerator[Transport]:
    transport = Transport(**options)
    try:
        yield transport
    finally:
        await transport.aclose()


async def _error(transport: Transport, server: RawServer, deadline: float | None) -> ProviderUnavailable:
    with pytest.raises(PAuthError) as caught:
        await transport.send(secret_request(server.url), deadline=deadline)
    assert_bare(caught.value)
    assert isinstance(caught.value, ProviderUnavailable)
    return caught.value


def at(name: str, then: Callable[[], object]) -> None:
    """When this failpoint is reached, do ``then``."""

    def hook(reached: str) -> None:
        if reached == name:
            then()

    arm(hook)


@pytest.mark.parametrize("late", [0.0, 0.001, 3600.0])
async def test_p2_a_deadline_that_passes_before_the_first_byte_sends_nothing(late: float) -> None:
    """There is a connection, and then the process is stopped."""
    clock = ManualClock()
    async with raw_server(whole()) as server, opened(clock=clock) as transport:
        at("mid_send", lambda: clock.advance(10 + late))
        error = await _error(transport, server, clock.monotonic() + 10)
        assert not error.request_sent
        assert "did not accept a connection within 10 seconds" in error.message
        assert server.seen == []
        assert server.connections == 1


async def test_p2_until_its_deadline_it_is_sent() -> None:
    clock = ManualClock()
    async with raw_server(whole()) as server, opened(clock=clock) as transport:
        at("mid_send", lambda: clock.advance(9.999))
        response = await transport.send(secret_request(server.url), deadline=clock.monotonic() + 10)
        assert isinstance(response, HTTPResponse)
        assert len(server.seen) == 1


async def test_p2_a_deadline_that_has_passed_already_sends_nothing() -> None:
    clock = ManualClock()
    async with raw_server(whole()) as server, opened(clock=clock) as transport:
        error = await _error(transport, server, clock.monotonic() - 10)
        assert not error.request_sent
        assert "within 0 seconds" in error.message
        assert server.seen == []


async def test_p2_a_deadline_that_passes_after_the_first_byte_is_no_reason_to_say_that_nothing_was_sent() -> None:
    clock = ManualClock()
    async with raw_server(sending(b"")) as server, opened(clock=clock) as transport:
        at("after_send", lambda: clock.advance(3600))
        error = await _error(transport, server, clock.monotonic() + 10)
        assert error.request_sent


@pytest.mark.parametrize(("patience", "deadline"), [(60.0, 0.1), (0.1, 60.0), (0.1, None)])
async def test_p9_the_earlier_of_timeout_and_deadline_counts(patience: float, deadline: float | None) -> None:
    async with raw_server(forever) as server, opened(timeout=patience, clock=ManualClock()) as transport:
        error = await _error(transport, server, None if deadline is None else ManualClock().monotonic() + deadline)
        assert error.request_sent
        assert "did not answer within 0.1 seconds" in error.message


async def test_a_connection_that_was_kept_is_checked_too() -> None:
    """The next request of the same session, on the same connection."""
    clock = ManualClock()
    async with raw_server(sending(whole(), close=False)) as server, opened(clock=clock) as transport:
        await transport.send(secret_request(server.url), deadline=clock.monotonic() + 10)
        at("mid_send", lambda: clock.advance(10))
        assert not (await _error(transport, server, clock.monotonic() + 10)).request_sent
        arm(None)
        await transport.send(secret_request(server.url), deadline=clock.monotonic() + 10)
        assert len(server.seen) == 2


# Waking up late (P6)


class Sleeper:
    """An event loop whose clock can leap, as when its process was stopped or its machine slept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self.offset = 0.0
        now = loop.time
        monkeypatch.setattr(loop, "time", lambda: now() + self.offset)

    async def leap(self, seconds: float) -> None:
        """Let its timers find out."""
        self.offset += seconds
        for _ in range(10):
            await asyncio.sleep(0)


async def test_p6_who_wakes_up_late_reads_the_answer_that_has_come_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold the successor of a refresh token that is used up."""
    sleeper, go = Sleeper(monkeypatch), asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(whole(b'{"a": 1}'))
        await writer.drain()

    async with raw_server(answer) as server, opened(timeout=15) as transport:
        sending_ = asyncio.create_task(transport.send(secret_request(server.url)))
        while not server.seen:
            await asyncio.sleep(0)
        await sleeper.leap(100)
        assert not sending_.done()
        go.set()
        assert (await sending_).body == b'{"a": 1}'


@pytest.mark.parametrize("seconds", [15.01, 15.4])
async def test_p9_who_is_on_time_waits_no_longer(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """A busy loop is late by some milliseconds at each of its timers."""
    sleeper = Sleeper(monkeypatch)
    async with raw_server(forever) as server, opened(timeout=15) as transport:
        sending_ = asyncio.create_task(_error(transport, server, None))
        while not server.seen:
            await asyncio.sleep(0)
        await sleeper.leap(seconds)
        assert sending_.done()
        assert (await sending_).request_sent


async def test_p9_the_moment_of_who_wakes_up_late_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = Sleeper(monkeypatch)
    async with raw_server(forever) as server, opened(timeout=15) as transport:
        sending_ = asyncio.create_task(_error(transport, server, None))
        while not server.seen:
            await asyncio.sleep(0)
        await sleeper.leap(100)
        await sleeper.leap(0.9)
        assert not sending_.done()
        await sleeper.leap(0.2)
        error = await sending_
        assert error.request_sent
        assert "within 15 seconds" in error.message


# Cancelled


async def test_p14_a_cancelled_request_is_cancelled() -> None:
    async with raw_server(forever) as server, opened() as transport:
        sending_ = asyncio.create_task(transport.send(secret_request(server.url)))
        while not server.seen:
            await asyncio.sleep(0)
        sending_.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending_


async def test_p4_what_it_waits_for_is_cancelled_but_not_the_request_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of ``asyncio.run`` cancels the task that looks up the address, and waits for the refresh, which must learn that nothing was sent."""

    async def cancelled(*args: object, **options: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", cancelled)
    async with opened() as transport:
        with pytest.raises(ProviderUnavailable, match="was cut off") as caught:
            await transport.send(secret_request("https://as.example/token"))
    assert not caught.value.request_sent
    assert_bare(caught.value)


async def test_the_failpoints_of_a_request_are_reached_in_their_order() -> None:
    reached: list[tuple[str, int]] = []
    async with raw_server(whole()) as server, opened() as transport:
        arm(lambda name: reached.append((name, len(server.seen))))
        await transport.send(secret_request(server.url))
    assert reached == [("mid_send", 0), ("after_send", 0), ("mid_response", 1)]
