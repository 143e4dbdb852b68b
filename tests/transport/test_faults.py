"""TE-20: what is known about a request that got no answer. SH-2: the error holds nothing of it."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from pauth.core.wire import HTTPRequest
from pauth.errors import PAuthError, ProviderUnavailable
from pauth.transport import Transport
from tests.transport.kit import Answer, assert_bare, forever, raw_server, secret_request, sending, unused_port, whole


async def _error(url: str, *, deadline: float = 60.0) -> ProviderUnavailable:
    transport = Transport(timeout=deadline)
    try:
        with pytest.raises(PAuthError) as caught:
            await transport.send(secret_request(url))
    finally:
        await transport.aclose()
    assert_bare(caught.value)
    assert isinstance(caught.value, ProviderUnavailable)
    assert caught.value.retryable
    return caught.value


async def test_te20_refused_connection() -> None:
    error = await _error(f"http://127.0.0.1:{unused_port()}/token")
    assert not error.request_sent
    assert "could not connect to 127.0.0.1" in error.message


async def test_te20_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    error = await _error("https://nonexistent.invalid/token")
    assert not error.request_sent
    assert "could not connect to nonexistent.invalid" in error.message


async def test_te20_name_lookup_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*args: object, **kwargs: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    error = await _error("https://as.example/token", deadline=0.05)
    assert not error.request_sent
    assert "as.example did not accept a connection within 0.05 seconds" in error.message


async def test_te20_tls_handshake_that_is_never_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the kernel accepts; nobody speaks
        error = await _error(f"https://127.0.0.1:{listener.getsockname()[1]}/token", deadline=0.05)
    assert not error.request_sent


async def test_te20_no_tls_at_the_port() -> None:
    async def bad_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await sending(whole(b"", status="400 Bad Request"))(writer)

    async with await asyncio.start_server(bad_request, "127.0.0.1", 0) as server:
        error = await _error(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/token")
    assert not error.request_sent


async def test_te20_no_answer_in_time() -> None:
    async with raw_server(forever) as server:
        error = await _error(server.url, deadline=0.1)
    assert error.request_sent
    assert "127.0.0.1 did not answer within 0.1 seconds" in error.message


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(_hang_up, id="closed before the reply"),
        pytest.param(_reset, id="reset before the reply"),
        pytest.param(sending(b"HTTP/1.1 200"), id="closed in the status line"),
        pytest.param(sending(b"HTTP/1.1 200 OK\r\nContent-Ty"), id="closed in the headers"),
        pytest.param(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), id="closed in the body"),
        pytest.param(sending(b"HTTP/1.1 100 Continue\r\n\r\n"), id="closed after an interim answer"),
    ],
)
async def test_te20_connection_lost_after_the_request(answer: Answer) -> None:
    async with raw_server(answer) as server:
        error = await _error(server.url)
    assert error.request_sent
    assert len(server.seen) == 1  # a POST is never repeated


async def test_te20_a_kept_connection_that_the_server_closes_counts_as_used() -> None:
    # The server closes at the moment of the second request; whether it has read it cannot be known.
    async def once(writer: asyncio.StreamWriter) -> None:
        if len(server.seen) == 1:
            await sending(whole(), close=False)(writer)
        else:
            writer.close()

    async with raw_server(once) as server:
        transport = Transport()
        assert (await transport.send(secret_request(server.url))).status == 200
        with pytest.raises(ProviderUnavailable) as caught:
            await transport.send(secret_request(server.url))
        await transport.aclose()
    assert server.connections == 1
    assert caught.value.request_sent
    assert_bare(caught.value)


async def test_te20_a_lookup_is_repeated_by_itself_when_a_connection_breaks() -> None:
    # GET changes nothing (RFC 9110 section 9.2.2); metadata and keys arrive despite a connection that the server has just closed.
    async def first_fails(writer: asyncio.StreamWriter) -> None:
        if len(server.seen) == 1:
            writer.close()
        else:
            await sending(whole())(writer)

    async with raw_server(first_fails) as server:
        transport = Transport()
        assert (await transport.send(HTTPRequest("GET", server.url))).status == 200
        await transport.aclose()
    assert len(server.seen) == 2


async def test_te20_a_lookup_whose_repetition_finds_nobody_was_still_sent() -> None:
    async def once(writer: asyncio.StreamWriter) -> None:
        listening.close()
        writer.close()

    async with raw_server(once) as server:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        transport = Transport()
        with pytest.raises(ProviderUnavailable) as caught:
            await transport.send(HTTPRequest("GET", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"))
        await transport.aclose()
    assert caught.value.request_sent


async def test_p14_a_cancelled_request_is_cancelled() -> None:
    arrived = asyncio.Event()

    async def hold(writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await forever(writer)

    async with raw_server(hold) as server:
        transport = Transport()
        task = asyncio.create_task(transport.send(secret_request(server.url)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await transport.aclose()


async def test_sh8_debug_logging_of_everything_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """The suite's canary searches every log record; here asyncio and aiohttp are at their most talkative."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    caplog.set_level("DEBUG")
    for answer in (_hang_up, sending(whole())):
        async with raw_server(answer) as server:
            transport = Transport()
            try:
                await transport.send(secret_request(server.url))
            except ProviderUnavailable as error:
                assert_bare(error)
            await transport.aclose()
    assert "CANARY" not in caplog.text
