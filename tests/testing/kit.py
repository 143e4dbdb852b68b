"""A client made of plain aiohttp, to look at the server from outside."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

import aiohttp
from yarl import URL

from pauth.testing import AuthorizationServer, Client, ManualClock

CALLBACK = "https://app.example/callback"
VERIFIER = "CANARY-verifier-0123456789-0123456789-0123456789"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def basic(client_id: str, secret: str) -> dict[str, str]:
    """The header of HTTP Basic as RFC 6749 section 2.3.1 wants it."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until ``condition`` holds."""
    while not condition():  # what is waited for has no event
        await asyncio.sleep(0)


def callback_params(callback: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(callback).query, strict_parsing=True))


@dataclass(frozen=True, repr=False)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def error(self) -> str | None:
        error: str | None = self.json.get("error")
        return error


@dataclass(repr=False)
class Driver:
    """One client of one server."""

    server: AuthorizationServer
    client: Client
    http: aiohttp.ClientSession
    clock: ManualClock

    async def send(self, method: str, url: str, **options: Any) -> Answer:
        async with self.http.request(method, URL(url, encoded=True), allow_redirects=False, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    def authorization_url(self, **changes: str | None) -> str:
        params = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid email read",
            "state": "CANARY-state-1",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        } | changes
        return f"{self.server.authorization_endpoint}?{urlencode({name: value for name, value in params.items() if value is not None})}"

    async def code(self, *, user: str = "alice", **changes: str | None) -> str:
        return callback_params(await self.server.authorize(self.authorization_url(**changes), user=user, session=self.http))["code"]

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """POST a form, authenticated as the client by HTTP Basic unless ``headers`` say otherwise."""
        if headers is None:
            assert self.client.client_secret is not None
            headers = basic(self.client.client_id, self.client.client_secret)
        return await self.send("POST", url, data=urlencode(form).encode(), headers={**FORM, **headers})

    async def exchange(self, code: str, /, **changes: str) -> Answer:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER} | changes
        return await self.post(self.server.token_endpoint, {name: value for name, value in form.items() if value})

    async def login(self, user: str = "alice", **changes: str | None) -> dict[str, Any]:
        answer = await self.exchange(await self.code(user=user, **changes))
        assert answer.status == 200, answer.error
        return answer.json

    async def refresh(self, refresh_token: str, **more: str) -> Answer:
        return await self.post(self.server.token_endpoint, {"grant_type": "refresh_token", "refresh_token": refresh_token, **more})

    async def revoke(self, token: str, **more: str) -> Answer:
        return await self.post(self.server.revocation_endpoint, {"token": token, **more})

    async def use(self, access_token: str) -> Answer:
        return await self.send("GET", self.server.resource_url, headers=bearer(access_token))


@asynccontextmanager
async def driving(**options: Any) -> AsyncGenerator[Driver, None]:
    """A server with one confidential client, on a clock that stands still."""
    clock = ManualClock()
    connector = aiohttp.TCPConnector(limit=0)
    async with AuthorizationServer(clock=clock, secret_marker="CANARY-", **options) as server, aiohttp.ClientSession(connector=connector) as http:
        client = server.register_client("client-1", "CANARY-client:secret+%é", redirect_uris=[CALLBACK])
        yield Driver(server, client, http, clock)
