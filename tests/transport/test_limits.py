"""TE-5: no answer costs more than its bounds in size, memory and time."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from typing import Any

import pytest

from pauth.core.wire import MAX_BODY, HTTPResponse
from pauth.errors import MalformedResponse, PAuthError, ProviderUnavailable
from pauth.transport import Transport
from tests.transport.kit import Answer, assert_bare, raw_server, secret_request, whole

MIB = 1 << 20


async def _outcome(answer: Answer | bytes, *, deadline: float = 60.0) -> HTTPResponse | PAuthError:
    async with raw_server(answer) as server:
        transport = Transport(timeout=deadline)
        try:
            return await transport.send(secret_request(server.url))
        except PAuthError as error:
            assert_bare(error)
            return error
        finally:
            await transport.aclose()


def _bomb(encoding: str) -> bytes:
    """64 MiB of zeros in some 64 KiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    return b"".join([packer.compress(bytes(MIB)) for _ in range(64)]) + packer.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_te5_a_bomb_is_refused_and_never_unpacked_whole(encoding: str) -> None:
    answer = whole(_bomb(encoding), headers=f"Content-Encoding: {encoding}\r\n")
    assert len(answer) < MIB
    tracemalloc.start()
    outcome = await _outcome(answer)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome, MalformedResponse)
    assert f"larger than {MAX_BODY} bytes" in outcome.message
    assert peak < 8 * MIB


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP"])
async def test_te5_a_compressed_answer_nobody_asked_for_is_read_all_the_same(encoding: str) -> None:
    packed = zlib.compress(b'{"a": 1}') if encoding == "deflate" else gzip.compress(b'{"a": 1}')
    outcome = await _outcome(whole(packed, headers=f"Content-Encoding: {encoding}\r\n"))
    assert isinstance(outcome, HTTPResponse)
    assert outcome.body == b'{"a": 1}'


@pytest.mark.parametrize("encoding", ["identity", ""])
async def test_te5_no_compression_may_be_named(encoding: str) -> None:
    outcome = await _outcome(whole(b"{}", headers=f"Content-Encoding: {encoding}\r\n"))
    assert isinstance(outcome, HTTPResponse)
    assert outcome.body == b"{}"


async def test_rv1_an_empty_answer_may_claim_to_be_compressed() -> None:
    outcome = await _outcome(whole(b"", headers="Content-Encoding: gzip\r\n"))
    assert isinstance(outcome, HTTPResponse)
    assert outcome.body == b""


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "x"])
async def test_te5_a_compression_that_was_not_asked_for_is_refused(encoding: str) -> None:
    outcome = await _outcome(whole(b"{}", headers=f"Content-Encoding: {encoding}\r\n"))
    assert isinstance(outcome, MalformedResponse)
    assert outcome.status == 200


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(gzip.compress(b'{"access_token": "CANARY"}')[:-9], id="truncated"),
        pytest.param(gzip.compress(b"{}") + gzip.compress(b'{"a": 1}'), id="two members"),
        pytest.param(gzip.compress(b"{}") + b"CANARY", id="something behind it"),
        pytest.param(b"CANARY, not gzip at all", id="not gzip"),
        pytest.param(gzip.compress(b"{}")[:-8] + bytes(8), id="wrong checksum"),
    ],
)
async def test_te5_a_broken_compressed_answer_is_refused(packed: bytes) -> None:
    outcome = await _outcome(whole(packed, headers="Content-Encoding: gzip\r\n"))
    assert isinstance(outcome, MalformedResponse)
    assert "compressed answer" in outcome.message


async def test_te5_an_answer_of_exactly_the_limit_is_read() -> None:
    outcome = await _outcome(whole(bytes(MAX_BODY)))
    assert isinstance(outcome, HTTPResponse)
    assert len(outcome.body) == MAX_BODY


@pytest.mark.parametrize("size", [MAX_BODY + 1, 3 * MAX_BODY])
async def test_te5_an_answer_over_the_limit_is_refused(size: int) -> None:
    assert isinstance(await _outcome(whole(bytes(size))), MalformedResponse)


async def test_te5_compressed_input_is_bounded_too() -> None:
    # Empty deflate blocks: any amount of input, no output.
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(b"{}") + packer.flush(zlib.Z_SYNC_FLUSH) + b"\x00\x00\x00\xff\xff" * (MAX_BODY // 5 + 1)
    outcome = await _outcome(whole(packed, headers="Content-Encoding: gzip\r\n"))
    assert isinstance(outcome, MalformedResponse)
    assert "larger than" in outcome.message


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked\r\n\r\n", b"\r\n"], ids=["chunked", "until the connection closes"])
async def test_te5_an_endless_answer_is_refused(head: bytes) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + head)
        piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        while True:
            writer.write(piece)
            await writer.drain()

    tracemalloc.start()
    outcome = await _outcome(endless)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome, MalformedResponse)
    assert peak < 8 * MIB


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("".join(f"X-{number}: y\r\n" for number in range(10_000)), id="10,000 headers"),
        pytest.param(f"X: {'y' * 100_000}\r\n", id="one huge value"),
        pytest.param(f"{'X' * 100_000}: y\r\n", id="one huge name"),
        pytest.param("X: a\x00b\r\n", id="a NUL"),
        pytest.param("Content-Length: 2\r\nContent-Length: 3\r\n", id="two lengths"),
        pytest.param("Transfer-Encoding: chunked\r\n", id="a length and chunks"),
        pytest.param("no colon\r\n", id="no header"),
    ],
)
async def test_te5_headers_that_are_too_large_or_malformed_are_refused(head: str) -> None:
    outcome = await _outcome(whole(headers=head))
    assert isinstance(outcome, MalformedResponse)
    assert "headers" in outcome.message


@pytest.mark.parametrize(
    "answer",
    [
        b"CANARY\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"\x16\x03\x01\x00\x01\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_an_answer_that_is_not_http_is_refused(answer: bytes) -> None:
    assert isinstance(await _outcome(answer), MalformedResponse)


_CUT = [
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", id="length larger than the body"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", id="cut in a chunk"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", id="no last chunk"),
]


@pytest.mark.parametrize("answer", _CUT)
async def test_te5_te20_an_answer_that_was_cut_off_counts_as_none(answer: bytes) -> None:
    outcome = await _outcome(answer)
    assert isinstance(outcome, ProviderUnavailable)
    assert outcome.retryable
    assert outcome.request_sent
    assert "was cut off" in outcome.message


_STARTS = [b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"]


@pytest.mark.parametrize("start", _STARTS, ids=["status", "header", "body"])
async def test_te5_p9_a_slow_drip_ends_with_the_deadline(start: bytes) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    outcome = await _outcome(drip, deadline=0.1)
    assert isinstance(outcome, ProviderUnavailable)
    assert outcome.request_sent
    assert "within 0.1 seconds" in outcome.message


async def test_te5_p9_interim_answers_do_not_move_the_deadline() -> None:
    async def continues(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.001)

    outcome = await _outcome(continues, deadline=2)
    assert isinstance(outcome, ProviderUnavailable)
    assert outcome.request_sent


async def test_te5_the_deadline_is_not_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # aiohttp's own timeouts above 5 seconds are rounded up to a whole second of the loop's clock.
    loop = asyncio.get_running_loop()
    delays: list[float] = []
    call_at = loop.call_at

    def spy(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        delays.append(when - loop.time())
        return call_at(when, *args, **options)

    monkeypatch.setattr(loop, "call_at", spy)
    assert isinstance(await _outcome(whole(), deadline=14.3), HTTPResponse)
    assert [delay for delay in delays if delay > 10] == [pytest.approx(14.3, abs=0.2)]
