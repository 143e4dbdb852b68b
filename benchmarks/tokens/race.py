"""Eight processes on one stored token, at a server that rotates refresh tokens and revokes the family when one comes twice."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.contender import Missing
from benchmarks.servers import SERVERS
from benchmarks.tokens.peers import fresh_token, store, stored_form
from benchmarks.tokens.processes import crew
from benchmarks.tokens.result import Aim, Found, Setting
from benchmarks.tokens.worker import open_storage
from benchmarks.workload import KEY

__all__ = ["run"]

_PROCESSES = 8
_LIFETIME = 2
_DELAY = 0.05
_SECONDS = 12.0
_TRIALS = 3
_PEERS = ("Authlib", "requests-oauthlib", "google-auth")


@dataclass(frozen=True, slots=True)
class _Trial:
    lost: bool
    refreshed: int
    refused: int
    failed: int
    seconds: float


async def run(setting: Setting) -> Found:
    """Counts of sessions lost, and of refreshes."""
    found = Found("The race of eight processes", ("contender", "trials", "sessions lost", "refreshes a trial", "refused a trial", "s a trial"))
    trials = 1 if setting.quick else _TRIALS
    lost = 0
    most = 0.0
    for contender, kind in (*(("pauth", kind) for kind in ("sqlite", "files", "postgresql", "redis")), *((name, "") for name in _PEERS)):
        name = f"{contender}, {kind}" if kind else contender
        setting.say(f"tokens: the race, {name}")
        try:
            async with _place(setting, contender, kind) as url:
                done = [await _trial(setting, contender, url, f"race-{len(found.rows)}-{number}-{time.time_ns()}") for number in range(trials)]
        except Missing as missing:
            found.absent[name] = str(missing)
            continue
        refreshed = statistics.mean(each.refreshed for each in done)
        seconds = statistics.mean(each.seconds for each in done)
        sessions = sum(each.lost for each in done)
        found.rows.append((name, trials, sessions, refreshed, statistics.mean(each.refused for each in done), seconds))
        if contender == "pauth":
            lost += sessions
            # a token is refreshed when a tenth or less of its life is left: so many times at most while it lasted
            most = max(most, *(each.refreshed / (each.seconds / (_LIFETIME * 0.9) + 1) for each in done))
    found.aims = [
        Aim("pauth: no session lost", lost, 0, unit=""),
        Aim("pauth: one refresh for each expiry, at most", most, 1, unit=" a time"),
    ]
    found.notes.append(
        f"Tokens live for {_LIFETIME} s, the server takes {_DELAY * 1000:.0f} ms to answer. A trial lasts {_SECONDS:.0f} s, or until the session is "
        "lost. The peers share their token in a row of SQLite, read before each call and written when the library says that it was refreshed."
    )
    return found


@asynccontextmanager
async def _place(setting: Setting, contender: str, kind: str) -> AsyncGenerator[str]:
    """Where the token is kept."""
    async with AsyncExitStack() as stack:
        if contender != "pauth":
            path = setting.folder / f"{contender}.db"
            await asyncio.to_thread(_make_table, path)
            yield str(path)
        elif kind == "sqlite":
            yield f"sqlite:///{setting.folder}/race.db"
        elif kind == "files":
            yield f"file://{setting.folder}/race-files"
        elif kind in setting.urls:
            yield setting.urls[kind]
        else:
            folder = setting.folder / f"race-{kind}"
            folder.mkdir()
            yield await stack.enter_async_context(SERVERS[kind](folder))


def _make_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE tokens (user TEXT PRIMARY KEY, token TEXT)")


def _put(path: str, user: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO tokens VALUES (?, ?)", (user, orjson.dumps(stored_form(user, lifetime=_LIFETIME)).decode()))


async def _trial(setting: Setting, contender: str, url: str, user: str) -> _Trial:
    authority, key = setting.authority, KEY.to_string().reveal()
    await authority.set(lifetime=_LIFETIME, delay=_DELAY)
    before = (await authority.counts())["lost"]
    if contender == "pauth":
        storage = open_storage(url, key)
        await store(storage, user, fresh_token(user, lifetime=_LIFETIME, age=_LIFETIME))
        await storage.aclose()
    else:
        await asyncio.to_thread(_put, url, user)
    told = {"work": "race", "contender": contender, "url": url, "key": key, "port": int(authority.url.rpartition(":")[2]), "user": user}
    async with crew(2 if setting.quick else _PROCESSES, told) as workers:
        began = time.perf_counter()
        running = asyncio.create_task(workers.go(seconds=0.2 if setting.quick else _SECONDS))
        while not running.done() and (await authority.counts())["lost"] == before:
            await asyncio.wait((running,), timeout=0.05)
        seconds = time.perf_counter() - began
        if not running.done():  # it is lost: nothing more to be seen
            running.cancel()
            counts = await authority.counts()
            return _Trial(lost=True, refreshed=counts["refreshed"], refused=counts["refused"], failed=0, seconds=seconds)
        failed = sum(each["failed"] for each in await running)
    counts = await authority.counts()
    return _Trial(lost=counts["lost"] > before, refreshed=counts["refreshed"], refused=counts["refused"], failed=failed, seconds=seconds)
