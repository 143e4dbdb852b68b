"""A server that does exactly what a test tells it, byte by byte, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from pauth.core.wire import HTTPRequest
from pauth.errors import PAuthError
from tests.support.canary import leaks_in_error

BASIC = "Basic " + base64.b64encode(b"client-1:CANARY-client-secret").decode()
BODY = b"grant_type=refresh_token&refresh_token=CANARY-refresh-token"
FORM = "application/x-www-form-urlencoded;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given == name.lower()]


Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Writes the answer to one request; closes the writer if the connection is to end with it."""


@dataclass(slots=True)
class RawServer:
    answer: Answer
    scheme: str = "http"
    port: int = 0
    seen: list[Seen] = field(default_factory=list[Seen])
    connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/token"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    self.seen.append(await _read(reader))
                    await self.answer(writer)
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(set(self._tasks))


async def _read(reader: asyncio.StreamReader) -> Seen:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers = tuple((name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines))
    body = await reader.readexactly(int(dict(headers).get("content-length", "0")))
    return Seen(line, headers, body)


@asynccontextmanager
async def raw_server(answer: Answer | bytes, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[RawServer]:
    """Listen on loopback. ``bytes`` are sent as they are, then the connection is closed."""
    raw = RawServer(sending(answer) if isinstance(answer, bytes) else answer, "http" if tls is None else "https")
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        await raw.stop()
        await server.wait_closed()


def sending(data: bytes, *, close: bool = True) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return answer


def whole(body: bytes = b"{}", *, status: str = "200 OK", headers: str = "", content_type: str = "application/json") -> bytes:
    """A complete HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


async def forever(writer: asyncio.StreamWriter) -> None:
    """Read the request and never answer."""
    del writer
    await asyncio.Event().wait()


def secret_request(url: str) -> HTTPRequest:
    """A refresh with client authentication: what no error may hold."""
    return HTTPRequest("POST", url, {"Content-Type": FORM, "Authorization": BASIC}, BODY)


def assert_bare(error: PAuthError) -> None:
    """SH-2: nothing hangs on ``error``, and no secret shows in it."""
    assert error.__cause__ is None
    assert error.__context__ is None
    assert list(leaks_in_error(error)) == []


def unused_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
