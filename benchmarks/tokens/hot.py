"""A valid token, handed out again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.contender import Missing, optional
from benchmarks.tokens.authority import Authority
from benchmarks.tokens.peers import LONG_LIVED, authlib, fresh_token, google, pauth_client, requests_oauthlib, store, stored_form
from benchmarks.tokens.result import Aim, Found, Setting
from benchmarks.tokens.timing import Batch, per_call
from pauth import MemoryTokenStorage

__all__ = ["run"]

_USER = "user-0001"
_FLOOR = "an awaited no-op that reads a dict"
_ASYNC = "pauth: await get_token"
_SYNC = "pauth: get_token_nowait"


async def run(setting: Setting) -> Found:
    """Microseconds a call."""
    found = Found("A valid token in memory", ("what", "contender", "µs a call", "times the no-op"))
    storage = MemoryTokenStorage()
    async with pauth_client(None, storage, refresh_policy=LONG_LIVED) as client:
        for number in range(1000):
            await store(storage, f"user-{number:04}", fresh_token(f"user-{number:04}"))
            await client.get_token(f"user-{number:04}")
        tokens: dict[str, Batch] = {_FLOOR: _no_op(), _ASYNC: _awaited(client), _SYNC: _plain(lambda: client.get_token_nowait(_USER))}
        took = await per_call(tokens, seconds=setting.seconds, rounds=setting.rounds)
        headers: dict[str, Batch] = {"pauth: await get_token, auth_headers": _awaited_headers(client)}
        for name, make in _PEERS.items():
            try:
                headers[name] = make(setting.authority)
            except Missing as missing:
                found.absent[name] = str(missing)
        attached = await per_call(headers, seconds=setting.seconds, rounds=setting.rounds)
    floor = took[_FLOOR]
    found.rows += [("the token", name, each, each / floor) for name, each in took.items()]
    found.rows += [("attached to a request", name, each, each / floor) for name, each in attached.items()]
    found.aims = [
        Aim("await get_token: at most 3x the no-op", took[_ASYNC] / floor, 3),
        Aim("get_token_nowait: at most 1 µs", took[_SYNC], 1, unit=" µs"),
    ]
    return found


def _no_op() -> Batch:
    held = {_USER: "token"}

    async def read(user: str) -> str:
        return held[user]

    async def batch(count: int) -> float:
        clock = time.perf_counter
        began = clock()
        for _ in range(count):
            await read(_USER)
        return clock() - began

    return batch


def _awaited(client: Any) -> Batch:
    async def batch(count: int) -> float:
        clock, get_token = time.perf_counter, client.get_token
        began = clock()
        for _ in range(count):
            await get_token(_USER)
        return clock() - began

    return batch


def _awaited_headers(client: Any) -> Batch:
    async def batch(count: int) -> float:
        clock = time.perf_counter
        began = clock()
        for _ in range(count):
            (await client.get_token(_USER)).auth_headers()
        return clock() - began

    return batch


def _plain(call: Callable[[], object]) -> Batch:
    async def batch(count: int) -> float:
        clock = time.perf_counter
        began = clock()
        for _ in range(count):
            call()
        return clock() - began

    return batch


def _httpx_oauth(_: Authority) -> Batch:
    token_type = optional("httpx_oauth.oauth2", "httpx-oauth").OAuth2Token
    held = {_USER: token_type(stored_form(_USER))}

    async def batch(count: int) -> float:
        clock = time.perf_counter
        began = clock()
        for _ in range(count):
            token = held[_USER]
            if not token.is_expired():
                headers = {"Authorization": f"Bearer {token['access_token']}"}  # as its users write it
                del headers
        return clock() - began

    return batch


def _requests_oauthlib(authority: Authority) -> Batch:
    session = requests_oauthlib(authority, stored_form(_USER))
    return _plain(lambda: session._client.add_token(authority.resource_url, http_method="GET", body=None, headers={}))  # noqa: SLF001  # what request() calls


def _google(authority: Authority) -> Batch:
    credentials = google(authority, stored_form(_USER))
    return _plain(lambda: credentials.before_request(None, "GET", authority.resource_url, {}))


def _authlib(authority: Authority) -> Batch:
    client = authlib(authority, stored_form(_USER))

    async def batch(count: int) -> float:
        clock = time.perf_counter
        began = clock()
        for _ in range(count):
            await client.ensure_active_token(client.token)
            client.token_auth.prepare(authority.resource_url, {}, "")
        return clock() - began

    return batch


_PEERS: dict[str, Callable[[Authority], Batch]] = {
    "httpx-oauth: is_expired, and a header by hand": _httpx_oauth,
    "requests-oauthlib": _requests_oauthlib,
    "google-auth": _google,
    "Authlib, one client": _authlib,
}
