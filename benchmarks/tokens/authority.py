"""A token endpoint in a process of its own, so quick that it is not what is measured: ``python -m benchmarks.tokens.authority``.

It is strict: a refresh token is taken once, and when it comes again the whole family is revoked (RFC 9700 section 4.14.2). Refresh tokens say whose
they are and which in line, so that a million users cost it nothing. It trusts everybody: there is no client authentication to be measured here.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

from benchmarks.contender import Missing

__all__ = ["SECRET_TEXT", "Authority", "authority", "refresh_token"]

SECRET_TEXT: Final = "benchmark" * 55
"""Makes tokens as long as those of large providers are: about 500 characters."""

_ROOT: Final = Path(__file__).parents[2]


def refresh_token(user: str, number: int = 0) -> str:
    """The refresh token of a user that is taken if ``number`` refreshes have taken place."""
    return f"rt.{user}.{number}.{SECRET_TEXT[:120]}"


class _State:
    """Who was given what, and what was counted."""

    def __init__(self) -> None:
        self.lifetime = 3600
        self.delay = 0.0
        self.numbers: dict[str, int] = {}
        self.revoked: set[str] = set()
        self.counts = {"refreshed": 0, "refused": 0, "exchanged": 0, "used": 0, "rejected": 0}
        self.sent: dict[str, int] = {}

    def answer(self, path: str, query: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if path == "/token":
            return self._token({name: values[-1] for name, values in parse_qs(body.decode()).items()})
        if path == "/resource":
            self.counts["used"] += 1
            return 200, {"ok": True}
        if path == "/set":
            options = parse_qs(query)
            self.lifetime = int(options.get("lifetime", [str(self.lifetime)])[0])
            self.delay = float(options.get("delay", [str(self.delay)])[0])
            self.counts = dict.fromkeys(self.counts, 0)
            return 200, {}
        if path == "/counts":
            return 200, {**self.counts, "lost": len(self.revoked)}
        return 404, {"error": "not_found"}

    def _token(self, params: dict[str, str]) -> tuple[int, dict[str, Any]]:
        grant = params.get("grant_type")
        if grant == "refresh_token":
            _, user, number, _ = params["refresh_token"].split(".")
            if user in self.revoked or int(number) != self.numbers.get(user, 0):
                self.revoked.add(user)
                self.counts["refused"] += 1
                return 400, {"error": "invalid_grant"}
            self.numbers[user] = int(number) + 1
            self.counts["refreshed"] += 1
            return 200, self._issued(user)
        if grant == "authorization_code":
            self.counts["exchanged"] += 1
            user = params["code"]
            self.numbers[user] = 0
            self.revoked.discard(user)
            return 200, self._issued(user)
        return 200, {"access_token": f"at.{SECRET_TEXT}", "token_type": "Bearer", "expires_in": self.lifetime}

    def _issued(self, user: str) -> dict[str, Any]:
        number = self.numbers[user]
        return {
            "access_token": f"at.{user}.{number}.{SECRET_TEXT}",
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "refresh_token": refresh_token(user, number),
            "scope": "read",
        }


class _Connection(asyncio.Protocol):
    """HTTP/1.1 as clients of ours speak it: a head, a body of known length, and the next request when the answer has come."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # for type checkers
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            lines = head.split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line[:15].lower() == b"content-length:"), 0)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            path, _, query = lines[0].split(b" ")[1].decode().partition("?")
            status, document = self._state.answer(path, query, rest[:length])
            text = json.dumps(document).encode()
            reply = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text), text)
            if path == "/token" and self._state.delay:
                asyncio.get_running_loop().call_later(self._state.delay, self._reply, reply)
            else:
                self._reply(reply)

    def _reply(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)


class Authority:
    """The server, from where its clients are."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.token_endpoint = f"{self.url}/token"
        self.resource_url = f"{self.url}/resource"
        self._port = port

    async def set(self, **options: float) -> None:
        """Set the ``lifetime`` of access tokens (whole seconds) and the ``delay`` (seconds) of answers, and begin to count anew."""
        await self._get(f"/set?{urlencode(options)}")

    async def counts(self) -> dict[str, int]:
        """``refreshed``, ``refused``, ``exchanged``, ``used`` since the last :meth:`set`; ``lost``: families that are revoked."""
        found: dict[str, int] = await self._get("/counts")
        return found

    async def _get(self, path: str) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        writer.close()
        return json.loads(body)


@asynccontextmanager
async def authority() -> AsyncGenerator[Authority]:
    """One that ends with the block, or with this process."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.tokens.authority", stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT
    )
    try:
        assert server.stdout is not None  # noqa: S101  # for type checkers
        line = await server.stdout.readline()
        if not line:
            raise Missing("the token endpoint of the benchmark did not start")
        yield Authority(int(line))
    finally:
        assert server.stdin is not None  # noqa: S101  # for type checkers
        server.stdin.close()
        await server.wait()


async def _serve() -> None:
    state, loop = _State(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())
