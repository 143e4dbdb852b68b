"""A TCP proxy between a driver and its server that hurts the connection on demand."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

_CHUNK: Final = 1 << 16


class Proxy:
    """Listens on a loopback port and passes on to another one, until told otherwise.

    :param tls: what the proxy shows its clients; it speaks plainly to the server.
    """

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        self.delay = 0.0
        """Seconds each piece of an answer is held back."""
        self.swallow = False
        """Answers vanish; the connection stays open."""
        self.cut_answers = False
        """What comes next is still passed on to the server; then, instead of the answer, the connection ends."""
        self.cut_after: int | None = None
        """How many bytes of answers are passed on before the connection ends."""

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Take no connections any more, and end those there are."""
        await self.close()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def cut(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            ways = [asyncio.create_task(self._requests(reader, upstream)), asyncio.create_task(self._answers(upstream_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for end in (writer, upstream):
                end.close()
                with suppress(OSError, asyncio.CancelledError):
                    await end.wait_closed()

    async def _requests(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            upstream.write(data)
            await upstream.drain()

    async def _answers(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await upstream.read(_CHUNK):
            if self.cut_answers:
                return
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.swallow:
                continue
            if self.cut_after is not None:
                data = data[: self.cut_after]
                self.cut_after -= len(data)
            writer.write(data)
            await writer.drain()
            if self.cut_after == 0:
                return
