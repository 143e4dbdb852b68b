"""An expired token that thousands want in the same moment."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

from benchmarks.contender import Missing
from benchmarks.tokens.authority import Authority
from benchmarks.tokens.peers import authlib, fresh_token, pauth_client, requests_oauthlib, store, stored_form
from benchmarks.tokens.processes import crew
from benchmarks.tokens.result import Aim, Found, Setting
from benchmarks.tokens.worker import open_storage
from benchmarks.workload import KEY
from pauth import MemoryTokenStorage

__all__ = ["run"]

_Herd: TypeAlias = Callable[[], Awaitable[int]]
"""All callers at once; gives how many failed."""

_Open: TypeAlias = Callable[[Authority, str, int], Any]

_LIFETIME = 10.0  # longer than the slowest herd takes, on a busy machine too: or it would expire again meanwhile
_DELAY = 0.1
_EXPIRIES = 2


async def run(setting: Setting) -> Found:
    """Counts, not times: refreshes for each expiry, callers that failed, sessions that were lost."""
    columns = ("what", "contender", "callers", "expiries", "refreshes", "refused", "callers failed", "session", "ms for all")
    found = Found("A herd on an expired token", columns)
    expiries = 1 if setting.quick else _EXPIRIES
    refreshes, failures, expected = 0, 0, 0
    for what, many, contender, opened in _SCENARIOS:
        callers = min(many, 20) if setting.quick else many
        ours = contender.startswith("pauth")
        setting.say(f"tokens: {callers:,} callers, {what}, {contender}")
        try:
            row = await _episodes(setting, opened, f"{len(found.rows)}-{time.time_ns()}", callers, expiries)
        except Missing as missing:
            found.absent[f"{contender}, {what}"] = str(missing)
            continue
        found.rows.append((what, contender, callers, expiries, *row))
        if ours:
            refreshes, failures, expected = refreshes + row[0] + row[1], failures + row[2], expected + expiries
    try:
        row = await _processes(setting, 2 if setting.quick else 16, 2 if setting.quick else 100, expiries)
    except Missing as missing:
        found.absent["pauth, processes"] = str(missing)
    else:
        found.rows.append(("16 processes of 100 coroutines, SQLite", "pauth", 1600, expiries, *row))
        refreshes, failures, expected = refreshes + row[0] + row[1], failures + row[2], expected + expiries
    found.aims = [
        Aim("pauth: one refresh for each expiry", refreshes / expected, 1, unit=" a time"),
        Aim("pauth: no caller fails", failures, 0, unit=""),
    ]
    found.notes.append(f"The server takes {_DELAY * 1000:.0f} ms to answer. Tokens live for {_LIFETIME:.0f} s.")
    return found


async def _episodes(setting: Setting, opened: _Open, user: str, callers: int, expiries: int) -> tuple[int, int, int, str, float]:
    await setting.authority.set(lifetime=int(_LIFETIME), delay=_DELAY)
    lost = (await setting.authority.counts())["lost"]
    failed, took = 0, 0.0
    async with opened(setting.authority, user, callers) as herd:
        for number in range(expiries):
            if number:
                await asyncio.sleep(_LIFETIME + 0.1)
            began = time.perf_counter()
            failed += await herd()
            took += time.perf_counter() - began
    counts = await setting.authority.counts()
    session = "lost" if counts["lost"] > lost else "alive"
    return counts["refreshed"], counts["refused"], failed, session, took / expiries * 1000


async def _processes(setting: Setting, processes: int, callers: int, expiries: int) -> tuple[int, int, int, str, float]:
    await setting.authority.set(lifetime=int(_LIFETIME), delay=_DELAY)
    lost = (await setting.authority.counts())["lost"]
    user, url, key = f"processes-{time.time_ns()}", f"sqlite:///{setting.folder}/herd.db", KEY.to_string().reveal()
    storage = open_storage(url, key)
    await store(storage, user, fresh_token(user, lifetime=_LIFETIME, age=_LIFETIME + 1))
    port = int(setting.authority.url.rpartition(":")[2])
    failed, took = 0, 0.0
    try:
        async with crew(processes, {"work": "herd", "contender": "pauth", "url": url, "key": key, "port": port, "user": user}) as workers:
            for number in range(expiries):
                if number:
                    await asyncio.sleep(_LIFETIME + 0.1)
                began = time.perf_counter()
                failed += sum(each["failed"] for each in await workers.go(callers=callers))
                took += time.perf_counter() - began
    finally:
        await storage.aclose()
    counts = await setting.authority.counts()
    return counts["refreshed"], counts["refused"], failed, "lost" if counts["lost"] > lost else "alive", took / expiries * 1000


async def _all(calls: list[Awaitable[object]]) -> int:
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    return sum(isinstance(outcome, Exception) for outcome in outcomes)


@asynccontextmanager
async def _pauth(authority: Authority, user: str, callers: int) -> AsyncGenerator[_Herd]:
    storage = MemoryTokenStorage()
    await store(storage, user, fresh_token(user, lifetime=_LIFETIME, age=_LIFETIME + 1))
    async with pauth_client(authority, storage) as client:
        yield lambda: _all([client.get_token(user) for _ in range(callers)])


@asynccontextmanager
async def _pauth_each(authority: Authority, user: str, callers: int) -> AsyncGenerator[_Herd]:
    """A client for each request, as frameworks make them."""
    storage = MemoryTokenStorage()
    await store(storage, user, fresh_token(user, lifetime=_LIFETIME, age=_LIFETIME + 1))

    async def call() -> None:
        async with pauth_client(authority, storage) as client:
            await client.get_token(user)

    yield lambda: _all([call() for _ in range(callers)])


@asynccontextmanager
async def _pauth_short(authority: Authority, user: str, callers: int) -> AsyncGenerator[_Herd]:
    """The margin of five minutes is longer than the token lives: 50 callers a round, until it has expired once."""
    storage = MemoryTokenStorage()
    await store(storage, user, fresh_token(user, lifetime=_LIFETIME, age=_LIFETIME + 1))
    async with pauth_client(authority, storage) as client:
        yield lambda: _rounds(lambda: client.get_token(user), callers)


async def _rounds(call: Callable[[], Awaitable[object]], callers: int) -> int:
    failed = 0
    for _ in range(max(1, callers // 50)):
        failed += await _all([call() for _ in range(min(callers, 50))])
    return failed


@asynccontextmanager
async def _authlib(authority: Authority, user: str, callers: int) -> AsyncGenerator[_Herd]:
    async with authlib(authority, stored_form(user, lifetime=_LIFETIME, age=_LIFETIME + 1), leeway=0) as client:
        yield lambda: _all([client.ensure_active_token(client.token) for _ in range(callers)])


@asynccontextmanager
async def _authlib_each(authority: Authority, user: str, callers: int) -> AsyncGenerator[_Herd]:
    held = stored_form(user, lifetime=_LIFETIME, age=_LIFETIME + 1)
    authlib(authority)

    async def update(token: dict[str, Any], **_: Any) -> None:
        held.update(token)

    async def call() -> None:
        async with authlib(authority, held, update_token=update, leeway=0) as client:
            await client.ensure_active_token(client.token)

    yield lambda: _all([call() for _ in range(callers)])


@asynccontextmanager
async def _authlib_short(authority: Authority, user: str, callers: int) -> AsyncGenerator[_Herd]:
    async with authlib(authority, stored_form(user, lifetime=_LIFETIME, age=_LIFETIME + 1)) as client:  # its leeway is 60 seconds
        yield lambda: _rounds(lambda: client.ensure_active_token(client.token), callers)


@asynccontextmanager
async def _pauth_threads(authority: Authority, user: str, callers: int) -> AsyncGenerator[_Herd]:
    """An event loop and a client in each thread."""
    storage = MemoryTokenStorage()
    await store(storage, user, fresh_token(user, lifetime=_LIFETIME, age=_LIFETIME + 1))

    def thread() -> int:
        async def work() -> int:
            async with pauth_client(authority, storage) as client:
                return await _all([client.get_token(user) for _ in range(callers // 32 or 1)])

        return asyncio.run(work())

    yield lambda: _in_threads(thread)


@asynccontextmanager
async def _requests_threads(authority: Authority, user: str, callers: int) -> AsyncGenerator[_Herd]:
    """One session for all threads."""
    form = stored_form(user)
    held: list[object] = []
    session = requests_oauthlib(authority, {**form, "expires_in": -1, "expires_at": time.time() - 1}, token_updater=held.append)

    def thread() -> int:
        failed = 0
        for _ in range(callers // 32 or 1):
            try:
                session.get(authority.resource_url)
            except Exception:  # noqa: BLE001  # oauthlib's own
                failed += 1
        return failed

    yield lambda: _in_threads(thread)


async def _in_threads(work: Callable[[], int]) -> int:
    begin = threading.Barrier(32)
    failed = [0] * 32

    def thread(number: int) -> None:
        with suppress(threading.BrokenBarrierError):
            begin.wait()
        failed[number] = work()

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(32)]
    for each in threads:
        each.start()
    for each in threads:
        await asyncio.to_thread(each.join)
    return sum(failed)


_SCENARIOS: list[tuple[str, int, str, _Open]] = [
    ("coroutines, one client", 10_000, "pauth", _pauth),
    ("coroutines, one client", 10_000, "Authlib", _authlib),
    ("coroutines, a client per request", 10_000, "pauth", _pauth_each),
    ("coroutines, a client per request", 1000, "Authlib", _authlib_each),
    ("a lifetime under the margin", 10_000, "pauth", _pauth_short),
    ("a lifetime under the margin", 100, "Authlib", _authlib_short),  # each refreshes, one after the other: ten thousand take half an hour
    ("32 threads", 3200, "pauth", _pauth_threads),
    ("32 threads, one session", 3200, "requests-oauthlib", _requests_threads),
]
