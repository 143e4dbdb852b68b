"""One session for each event loop (P15), closed once and for all; the constructor's arguments."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pauth.errors import ConfigurationError, ProviderUnavailable
from pauth.transport import Transport
from tests.transport.kit import assert_bare, raw_server, secret_request, sending, whole

_KEEP = sending(whole(), close=False)
_LAST = whole(headers="Connection: close\r\n")  # no connection is left over that its loop could have closed


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_a_positive_number(timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        Transport(timeout=timeout)


async def test_connections_are_reused() -> None:
    async with raw_server(_KEEP) as server:
        transport = Transport()
        for _ in range(3):
            await transport.send(secret_request(server.url))
        await transport.aclose()
    assert server.connections == 1
    assert len(server.seen) == 3


async def test_after_closing_nothing_is_sent() -> None:
    async with raw_server(_KEEP) as server:
        transport = Transport()
        await transport.send(secret_request(server.url))
        await transport.aclose()
        await transport.aclose()
        with pytest.raises(ConfigurationError, match="closed") as caught:
            await transport.send(secret_request(server.url))
    assert_bare(caught.value)
    assert len(server.seen) == 1


async def test_a_transport_that_was_never_used_can_be_closed() -> None:
    await Transport().aclose()


async def test_p20_closing_under_a_request_gives_it_a_typed_error() -> None:
    arrived = asyncio.Event()

    async def hold(writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async with raw_server(hold) as server:
        transport = Transport()
        task = asyncio.create_task(transport.send(secret_request(server.url)))
        await arrived.wait()
        await transport.aclose()
        with pytest.raises(ProviderUnavailable) as caught:
            await task
    assert caught.value.request_sent
    assert_bare(caught.value)


class _OtherLoop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    async def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        async def on_that_loop() -> Any:
            return await work()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(on_that_loop(), self.loop))

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def close(self) -> None:
        self.stop()
        self.loop.close()


async def test_p15_each_loop_has_connections_of_its_own() -> None:
    other = _OtherLoop()
    async with raw_server(_KEEP) as server:
        transport = Transport()
        for _ in range(2):
            assert (await transport.send(secret_request(server.url))).status == 200
            assert (await other.run(lambda: transport.send(secret_request(server.url)))).status == 200
        assert server.connections == 2
        await transport.aclose()  # both, the other one in its thread
        with pytest.raises(ConfigurationError, match="closed"):
            await other.run(lambda: transport.send(secret_request(server.url)))
    other.close()


async def test_p15_closing_from_another_loop_than_the_one_that_was_used() -> None:
    other = _OtherLoop()
    async with raw_server(_KEEP) as server:
        transport = Transport()
        await transport.send(secret_request(server.url))
        await other.run(transport.aclose)
        with pytest.raises(ConfigurationError, match="closed"):
            await transport.send(secret_request(server.url))
    other.close()


@pytest.mark.parametrize("ended", ["stopped", "closed"])
async def test_p15_loops_that_have_ended_are_no_hindrance_to_closing(ended: str) -> None:
    other = _OtherLoop()
    async with raw_server(_LAST) as server:
        transport = Transport()
        await other.run(lambda: transport.send(secret_request(server.url)))
        if ended == "stopped":
            other.stop()
        else:
            other.close()
        await transport.aclose()
    other.loop.close()


async def test_p15_a_loop_that_ends_at_the_moment_of_closing_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    other = _OtherLoop()
    async with raw_server(_LAST) as server:
        transport = Transport()
        await other.run(lambda: transport.send(secret_request(server.url)))
        other.close()
        monkeypatch.setattr(other.loop, "is_running", lambda: True)
        await transport.aclose()


async def test_p9_a_loop_that_is_stuck_does_not_hold_closing_up_for_ever() -> None:
    other, entered, go_on = _OtherLoop(), threading.Event(), threading.Event()
    async with raw_server(_LAST) as server:
        transport = Transport(timeout=0.2)
        await other.run(lambda: transport.send(secret_request(server.url)))

        def block() -> None:
            entered.set()
            go_on.wait()

        other.loop.call_soon_threadsafe(block)
        await asyncio.to_thread(entered.wait)
        await transport.aclose()
        go_on.set()
        await other.run(lambda: asyncio.sleep(0))
    other.close()


def test_p19_scripts_that_run_one_loop_after_the_other_leave_no_sessions_behind() -> None:
    transport = Transport()

    async def one_run() -> None:
        async with raw_server(_LAST) as server:
            await transport.send(secret_request(server.url))

    for _ in range(5):
        asyncio.run(one_run())
    assert len(transport._sessions) == 1  # pyright: ignore[reportPrivateUsage]
    asyncio.run(transport.aclose())
