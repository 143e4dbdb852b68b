"""Each HTTP library with its integration, under one interface: the same tests hold for all of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import httpx
import requests

from pauth import OAuth2Client
from pauth.integrations.aiohttp import TokenMiddleware
from pauth.integrations.httpx import SyncTokenAuth, TokenAuth
from pauth.integrations.requests import TokenAuth as RequestsTokenAuth
from tests.integrations.sources import BlockingSource

LIBRARIES = ("aiohttp", "httpx", "httpx, blocking", "requests")


@dataclass(frozen=True)
class Answer:
    status: int
    url: str


class Caller(Protocol):
    """One user's requests. ``once`` bodies can be sent once only."""

    async def call(
        self, method: str, url: str, *, body: bytes | None = None, once: bool = False, headers: dict[str, str] | None = None
    ) -> Answer: ...

    async def close(self) -> None: ...


def _chunks(body: bytes) -> Iterator[bytes]:
    yield body


async def _async_chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body


class AiohttpCaller:
    def __init__(self, source: OAuth2Client, user_id: str, ca: str | None, **options: Any) -> None:
        bearer = TokenMiddleware(source, user_id, **options)
        tls = ssl.create_default_context(cafile=ca)
        self.session = aiohttp.ClientSession(middlewares=[bearer], cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(ssl=tls))

    async def call(self, method: str, url: str, *, body: bytes | None = None, once: bool = False, headers: dict[str, str] | None = None) -> Answer:
        data: Any = body if body is None or not once else _async_chunks(body)
        async with self.session.request(method, url, data=data, headers=headers) as response:
            await response.read()
            return Answer(response.status, str(response.url))

    async def close(self) -> None:
        await self.session.close()


class HttpxCaller:
    def __init__(self, source: OAuth2Client, user_id: str, ca: str | None, **options: Any) -> None:
        auth = TokenAuth(source, user_id, **options)
        self.client = httpx.AsyncClient(auth=auth, follow_redirects=True, trust_env=False, verify=ssl.create_default_context(cafile=ca))

    async def call(self, method: str, url: str, *, body: bytes | None = None, once: bool = False, headers: dict[str, str] | None = None) -> Answer:
        content = body if body is None or not once else _async_chunks(body)
        response = await self.client.request(method, url, content=content, headers=headers)
        return Answer(response.status_code, str(response.url))

    async def close(self) -> None:
        await self.client.aclose()


class BlockingHttpxCaller:
    def __init__(self, source: OAuth2Client, user_id: str, ca: str | None, **options: Any) -> None:
        auth = SyncTokenAuth(BlockingSource(source), user_id, **options)
        self.client = httpx.Client(auth=auth, follow_redirects=True, trust_env=False, verify=ssl.create_default_context(cafile=ca))

    async def call(self, method: str, url: str, *, body: bytes | None = None, once: bool = False, headers: dict[str, str] | None = None) -> Answer:
        content = body if body is None or not once else _chunks(body)
        response = await asyncio.to_thread(self.client.request, method, url, content=content, headers=headers)
        return Answer(response.status_code, str(response.url))

    async def close(self) -> None:
        self.client.close()


class RequestsCaller:
    def __init__(self, source: OAuth2Client, user_id: str, ca: str | None, **options: Any) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = ca or True
        self.session.auth = RequestsTokenAuth(BlockingSource(source), user_id, **options)

    async def call(self, method: str, url: str, *, body: bytes | None = None, once: bool = False, headers: dict[str, str] | None = None) -> Answer:
        data: bytes | Iterable[bytes] | None = body if body is None or not once else _chunks(body)
        response = await asyncio.to_thread(self.session.request, method, url, data=data, headers=headers)
        return Answer(response.status_code, response.url)

    async def close(self) -> None:
        self.session.close()


CALLERS: dict[str, Callable[..., Caller]] = {
    "aiohttp": AiohttpCaller,
    "httpx": HttpxCaller,
    "httpx, blocking": BlockingHttpxCaller,
    "requests": RequestsCaller,
}


@dataclass(repr=False)
class Calling:
    """Makes callers of one library, which are closed at the end of the test."""

    library: str
    stack: AsyncExitStack
    ca: str | None = None

    def __call__(self, source: OAuth2Client, user_id: str = "alice", **options: Any) -> Caller:
        caller = CALLERS[self.library](source, user_id, self.ca, **options)
        self.stack.push_async_callback(caller.close)
        return caller
