"""The token endpoint, as fast as it goes: refreshes and code exchanges, alone and 64 at once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import aiohttp

from benchmarks.contender import Missing, optional
from benchmarks.tokens.authority import Authority, refresh_token
from benchmarks.tokens.peers import CLIENT_ID, CLIENT_SECRET, authlib, fresh_token, google, pauth_client, requests_oauthlib, store, stored_form
from benchmarks.tokens.result import Aim, Found, Setting
from benchmarks.tokens.timing import per_second
from pauth import MemoryTokenStorage

__all__ = ["run"]

_Call: TypeAlias = Callable[[int], Awaitable[object]]
_Open: TypeAlias = Callable[[Authority], AbstractAsyncContextManager[_Call]]

_FLOOR = "raw aiohttp: POST, JSON"
_OURS = "pauth"
_TASKS = 64
_REDIRECT = "https://app.example/callback"


async def run(setting: Setting) -> Found:
    """Requests a second."""
    found = Found("The token endpoint", ("work", "contender", "a second @1", "a second @64", "µs @1", "pauth is so many times as fast, @64"))
    await setting.authority.set(lifetime=3600)
    for work, contenders in (("refresh", _REFRESH), ("code exchange", _EXCHANGE)):
        async with AsyncExitStack() as stack:
            calls: dict[str, _Call] = {}
            for name, opened in contenders.items():
                try:
                    calls[name] = await stack.enter_async_context(opened(setting.authority))
                except Missing as missing:
                    found.absent[f"{name}, {work}"] = str(missing)
            setting.say(f"tokens: {work}")
            tasks = _TASKS if setting.seconds is not None else 4
            alone = await per_second(calls, tasks=1, seconds=setting.seconds, rounds=setting.rounds)
            many = await per_second(calls, tasks=tasks, seconds=setting.seconds, rounds=setting.rounds)
        ours = many[_OURS]
        for name in calls:
            times = None if name == _OURS else ours / many[name]
            found.rows.append((work, name, alone[name], many[name], 1e6 / alone[name], times))
        peers = [many[name] for name in calls if name not in {_FLOOR, _OURS}]
        found.aims += [
            Aim(f"{work} @64: at least 0.85x raw aiohttp", ours / many[_FLOOR], 0.85, at_most=False),
            Aim(f"{work} @1: at most 1.25x raw aiohttp's latency", alone[_FLOOR] / alone[_OURS], 1.25),
        ]
        if peers:
            found.aims.append(Aim(f"{work} @64: at least 2.5x the fastest peer", ours / max(peers), 2.5, at_most=False))
    return found


# --- refresh


@asynccontextmanager
async def _aiohttp(authority: Authority) -> AsyncGenerator[_Call]:
    held = _held("aiohttp")
    async with aiohttp.ClientSession() as session:

        async def call(task: int) -> None:
            form = {"grant_type": "refresh_token", "refresh_token": held[task], "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
            async with session.post(authority.token_endpoint, data=form) as response:
                held[task] = (await response.json())["refresh_token"]

        yield call


@asynccontextmanager
async def _pauth(authority: Authority) -> AsyncGenerator[_Call]:
    storage = MemoryTokenStorage()
    async with pauth_client(authority, storage) as client:
        for task in range(_TASKS):
            await store(storage, f"pauth-{task}", fresh_token(f"pauth-{task}"))
        yield lambda task: client.refresh(f"pauth-{task}")


@asynccontextmanager
async def _authlib(authority: Authority) -> AsyncGenerator[_Call]:
    held = _held("authlib")
    async with authlib(authority) as client:

        async def call(task: int) -> None:
            held[task] = (await client.refresh_token(authority.token_endpoint, refresh_token=held[task]))["refresh_token"]

        yield call


@asynccontextmanager
async def _authlib_each(authority: Authority) -> AsyncGenerator[_Call]:
    held = _held("authlib-each")

    async def call(task: int) -> None:
        async with authlib(authority) as client:
            held[task] = (await client.refresh_token(authority.token_endpoint, refresh_token=held[task]))["refresh_token"]

    await call(0)
    yield call


@asynccontextmanager
async def _httpx_oauth(authority: Authority) -> AsyncGenerator[_Call]:
    made = optional("httpx_oauth.oauth2", "httpx-oauth").OAuth2
    client = made(CLIENT_ID, CLIENT_SECRET, f"{authority.url}/authorize", authority.token_endpoint, refresh_token_endpoint=authority.token_endpoint)
    held = _held("httpx-oauth")

    async def call(task: int) -> None:
        held[task] = (await client.refresh_token(held[task]))["refresh_token"]

    yield call


@asynccontextmanager
async def _requests_oauthlib(authority: Authority) -> AsyncGenerator[_Call]:
    sessions = [requests_oauthlib(authority, stored_form(f"requests-{task}")) for task in range(_TASKS)]
    credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    async with _threads(lambda task: sessions[task].refresh_token(authority.token_endpoint, **credentials)) as call:
        yield call
    for session in sessions:
        session.close()


@asynccontextmanager
async def _google(authority: Authority) -> AsyncGenerator[_Call]:
    request = optional("google.auth.transport.requests", "google-auth[requests]").Request
    held = [(google(authority, stored_form(f"google-{task}")), request()) for task in range(_TASKS)]
    async with _threads(lambda task: held[task][0].refresh(held[task][1])) as call:
        yield call
    for _, each in held:
        each.session.close()


@asynccontextmanager
async def _threads(work: Callable[[int], Any]) -> AsyncGenerator[_Call]:
    """Blocking libraries, a thread for each task."""
    with ThreadPoolExecutor(_TASKS) as pool:
        loop = asyncio.get_running_loop()
        yield lambda task: loop.run_in_executor(pool, work, task)


def _held(kind: str) -> list[str]:
    """The refresh token of each task."""
    return [refresh_token(f"{kind}-{task}") for task in range(_TASKS)]


_REFRESH: dict[str, _Open] = {
    _FLOOR: _aiohttp,
    _OURS: _pauth,
    "Authlib, one client for all": _authlib,
    "Authlib, a client per request": _authlib_each,
    "httpx-oauth, as shipped": _httpx_oauth,
    "requests-oauthlib, a thread each": _requests_oauthlib,
    "google-auth, a thread each": _google,
}


# --- code exchange


@asynccontextmanager
async def _aiohttp_code(authority: Authority) -> AsyncGenerator[_Call]:
    async with aiohttp.ClientSession() as session:

        async def call(task: int) -> None:
            form = {
                "grant_type": "authorization_code",
                "code": f"code-{task}",
                "redirect_uri": _REDIRECT,
                "code_verifier": secrets.token_urlsafe(32),
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
            }
            async with session.post(authority.token_endpoint, data=form) as response:
                await response.json()

        yield call


@asynccontextmanager
async def _pauth_code(authority: Authority) -> AsyncGenerator[_Call]:
    """The whole login but the user's part: the callback is checked and the tokens are stored."""
    async with pauth_client(authority) as client:

        async def call(task: int) -> None:
            url = await client.get_authorization_url(user_id=f"pauth-{task}")
            state = parse_qs(urlsplit(url).query)["state"][0]
            await client.handle_callback({"code": f"code-{task}", "state": state})

        yield call


@asynccontextmanager
async def _authlib_code(authority: Authority) -> AsyncGenerator[_Call]:
    async with authlib(authority, redirect_uri=_REDIRECT, code_challenge_method="S256") as client:

        async def call(task: int) -> None:
            verifier = secrets.token_urlsafe(32)
            url, state = client.create_authorization_url(f"{authority.url}/authorize", code_verifier=verifier)
            answer = f"{_REDIRECT}?code=code-{task}&state={state}"
            await client.fetch_token(authority.token_endpoint, authorization_response=answer, state=state, code_verifier=verifier)
            del url

        yield call


@asynccontextmanager
async def _httpx_oauth_code(authority: Authority) -> AsyncGenerator[_Call]:
    made = optional("httpx_oauth.oauth2", "httpx-oauth").OAuth2
    client = made(CLIENT_ID, CLIENT_SECRET, f"{authority.url}/authorize", authority.token_endpoint)

    async def call(task: int) -> None:
        await client.get_authorization_url(_REDIRECT, state="state")
        await client.get_access_token(f"code-{task}", _REDIRECT, code_verifier=secrets.token_urlsafe(32))

    yield call


_EXCHANGE: dict[str, _Open] = {
    _FLOOR: _aiohttp_code,
    _OURS: _pauth_code,
    "Authlib, one client for all": _authlib_code,
    "httpx-oauth, as shipped": _httpx_oauth_code,
}
