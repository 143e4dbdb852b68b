"""What one process of a benchmark does: ``python -m benchmarks.tokens.worker``, told by :mod:`benchmarks.tokens.processes`."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import asdict
from typing import Any, TypeAlias

from benchmarks.contender import Missing, optional
from benchmarks.tokens.authority import Authority
from benchmarks.tokens.peers import authlib, google, pauth_client, requests_oauthlib
from benchmarks.tokens.processes import listen, say
from pauth import EncryptionKey, PAuthError, RefreshPolicy, TokenRefresher
from pauth.storage import storage_from_url
from pauth.storage.base import CoordinatedTokenStorage

__all__ = ["open_storage"]

_Get: TypeAlias = Callable[[str], Awaitable[object]]


def open_storage(url: str, key: str) -> CoordinatedTokenStorage:
    """A storage of pauth's, encrypted."""
    return storage_from_url(url, encryption_key=EncryptionKey.from_string(key))


async def main() -> None:
    told = await listen()
    work = {"herd": _herd, "race": _race, "refresh": _refresh}[told["work"]]
    try:
        await work(told, Authority(told["port"]))
    except Missing as missing:
        say(missing=str(missing))


async def _herd(told: Mapping[str, Any], authority: Authority) -> None:
    """At each word, many callers at once."""
    async with _opened(told, authority) as get:
        say(ready=True)
        while True:
            callers = (await listen())["callers"]
            outcomes = await asyncio.gather(*(get(told["user"]) for _ in range(callers)), return_exceptions=True)
            say(failed=sum(isinstance(each, Exception) for each in outcomes))


async def _race(told: Mapping[str, Any], authority: Authority) -> None:
    """Calls again and again, for so many seconds or until the session is lost."""
    async with _opened(told, authority) as get:
        say(ready=True)
        seconds = (await listen())["seconds"]
        until, failed, calls = time.monotonic() + seconds, 0, 0
        while time.monotonic() < until and failed < 5:
            calls += 1
            try:
                await get(told["user"])
            except Exception:  # noqa: BLE001  # each library has its own
                failed += 1
            await asyncio.sleep(random.uniform(0.02, 0.08))  # noqa: S311  # no secret
        say(failed=failed, calls=calls)
        await listen()


@asynccontextmanager
async def _opened(told: Mapping[str, Any], authority: Authority) -> AsyncGenerator[_Get]:
    contender: str = told["contender"]
    if contender != "pauth":
        yield _peer(contender, told["url"], authority)
        return
    storage = open_storage(told["url"], told["key"])
    async with pauth_client(authority, storage, timeout=5.0) as client:
        yield client.get_token
    await storage.aclose()


# --- peers: the token is a row that all share, read for each call and written when it was refreshed, as their users do it


def _load(path: str, user: str) -> dict[str, Any]:
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        (text,) = connection.execute("SELECT token FROM tokens WHERE user = ?", (user,)).fetchone()
    found: dict[str, Any] = json.loads(text)
    return found


def _save(path: str, user: str, token: Mapping[str, Any]) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (user, json.dumps(dict(token))))


def _peer(name: str, path: str, authority: Authority) -> _Get:
    if name == "Authlib":
        authlib(authority)

        async def with_authlib(user: str) -> None:
            async def update(token: Mapping[str, Any], **_: Any) -> None:
                _save(path, user, token)

            token = _load(path, user)
            async with authlib(authority, token, update_token=update, leeway=0) as client:
                await client.ensure_active_token(client.token)

        return with_authlib
    if name == "requests-oauthlib":
        optional("requests_oauthlib", "requests-oauthlib")

        def with_requests(user: str) -> None:
            def update(token: Mapping[str, Any]) -> None:
                _save(path, user, token)

            with requests_oauthlib(authority, _dated(_load(path, user)), token_updater=update) as session:
                session.get(authority.resource_url)

        return lambda user: asyncio.to_thread(with_requests, user)
    request = optional("google.auth.transport.requests", "google-auth[requests]").Request()

    def with_google(user: str) -> None:
        # its own margin is 225 seconds: with tokens that live shorter it refreshes at each call, so its validity is judged by the clock
        token = _load(path, user)
        if token["expires_at"] > time.time():
            return
        credentials = google(authority, token)
        credentials.refresh(request)
        expires_at = credentials.expiry.timestamp() - time.timezone
        _save(path, user, {**token, "access_token": credentials.token, "refresh_token": credentials.refresh_token, "expires_at": expires_at})

    return lambda user: asyncio.to_thread(with_google, user)


def _dated(token: dict[str, Any]) -> dict[str, Any]:
    """As oauthlib takes it, which counts ``expires_in`` from when it is given a token."""
    return {**token, "expires_in": token["expires_at"] - time.time()}


# --- the refresher


async def _refresh(told: Mapping[str, Any], authority: Authority) -> None:
    """One worker of a refresher, once through what is due at each word."""
    storage = open_storage(told["url"], told["key"])
    async with pauth_client(authority, storage, refresh_policy=RefreshPolicy(cache_entries=0)) as client:
        await storage.count(client.namespace)
        say(ready=True)
        while True:
            try:
                await listen()
            except SystemExit:
                break
            refresher = TokenRefresher([client], concurrency=told["concurrency"])
            began, worked = time.perf_counter(), time.process_time()
            try:
                done = await refresher.run_once()
            except PAuthError as error:
                say(missing=f"{type(error).__name__}: {error.message}")
                break
            say(**{**asdict(done), "seconds": time.perf_counter() - began}, cpu=time.process_time() - worked)
    await storage.aclose()


if __name__ == "__main__":
    asyncio.run(main())
