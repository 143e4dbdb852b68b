"""Making a client, its first request, and closing it, in a process that has done so before."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import aiohttp

from benchmarks.contender import Missing, optional
from benchmarks.tokens.authority import Authority
from benchmarks.tokens.peers import CLIENT_ID, CLIENT_SECRET, authlib, pauth_client
from benchmarks.tokens.result import Aim, Found, Setting
from benchmarks.tokens.timing import Batch, per_call

__all__ = ["run"]

_FLOOR = "raw aiohttp: a session"
_OURS = "pauth: OAuth2Client"
_FORM = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


async def run(setting: Setting) -> Found:
    """Microseconds from nothing to a token of the client's own, and to nothing again."""
    found = Found("Making a client, and its first request", ("contender", "µs", "over raw aiohttp, µs"))
    work: dict[str, Batch] = {}
    for name, once in _CONTENDERS.items():
        batch = _each(once, setting.authority)
        try:
            await batch(1)
        except Missing as missing:
            found.absent[name] = str(missing)
        else:
            work[name] = batch
    took = await per_call(work, seconds=setting.seconds, rounds=setting.rounds)
    floor = took[_FLOOR]
    found.rows = [(name, each, each - floor) for name, each in took.items()]
    found.aims = [Aim("making a client and its first request: at most 100 µs over raw aiohttp", took[_OURS] - floor, 100, unit=" µs")]
    return found


def _each(once: Callable[[Authority], Awaitable[object]], authority: Authority) -> Batch:
    async def batch(count: int) -> float:
        clock = time.perf_counter
        began = clock()
        for _ in range(count):
            await once(authority)
        return clock() - began

    return batch


async def _aiohttp(authority: Authority) -> None:
    async with aiohttp.ClientSession() as session, session.post(authority.token_endpoint, data=_FORM) as response:
        await response.json()


async def _pauth(authority: Authority) -> None:
    async with pauth_client(authority) as client:
        await client.get_client_token()


async def _httpx(authority: Authority) -> None:
    async with optional("httpx").AsyncClient() as client:
        (await client.post(authority.token_endpoint, data=_FORM)).json()


async def _authlib(authority: Authority) -> None:
    async with authlib(authority) as client:
        await client.fetch_token(authority.token_endpoint, grant_type="client_credentials")


async def _httpx_oauth(authority: Authority) -> None:
    made = optional("httpx_oauth.oauth2", "httpx-oauth").OAuth2
    client = made(CLIENT_ID, CLIENT_SECRET, f"{authority.url}/authorize", authority.token_endpoint)
    await client.get_access_token("user-making", "https://app.example/callback")


_CONTENDERS: dict[str, Callable[[Authority], Awaitable[object]]] = {
    _FLOOR: _aiohttp,
    _OURS: _pauth,
    "raw httpx: a client": _httpx,
    "Authlib: AsyncOAuth2Client": _authlib,
    "httpx-oauth, as shipped": _httpx_oauth,
}
