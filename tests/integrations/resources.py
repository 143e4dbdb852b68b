"""Resource servers that keep a record of what they are sent, and send on, refuse and answer as a test wants."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

REFUSED = 'Bearer realm="api", error="invalid_token"'


@dataclass(frozen=True, repr=False)
class Seen:
    method: str
    path: str
    token: str | None
    body: bytes


@dataclass(repr=False)
class Resource:
    """``/go?to=URL&status=307`` sends on; ``/`` answers 200 to a token that is not among :attr:`refused`."""

    scheme: str
    host: str
    port: int = 0
    refused: set[str] = field(default_factory=set[str])
    refuse_all: bool = False
    challenge: str | None = REFUSED
    status: int = 401
    seen: list[Seen] = field(default_factory=list[Seen])

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def url(self, path: str = "/") -> str:
        return self.origin + path

    def tokens(self, path: str | None = None) -> list[str | None]:
        return [seen.token for seen in self.seen if path in {None, seen.path}]

    async def answer(self, request: web.Request) -> web.Response:
        assert "CANARY" not in request.rel_url.raw_path_qs  # RQ-1
        assert len(request.headers.getall("Authorization", ())) <= 1
        token = request.headers.get("Authorization")
        self.seen.append(Seen(request.method, request.path, token, await request.read()))
        if request.path == "/go":
            return web.Response(status=int(request.query.get("status", "302")), headers={"Location": request.query["to"]})
        if self.refuse_all or token in self.refused:
            headers = {} if self.challenge is None else {"WWW-Authenticate": self.challenge}
            return web.Response(status=self.status, headers=headers, text="no")
        return web.json_response({"token": token is not None})


@asynccontextmanager
async def resource(host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncGenerator[Resource, None]:
    server = Resource("http" if tls is None else "https", host, **options)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", server.port, ssl_context=tls).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
