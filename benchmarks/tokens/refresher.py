"""How many tokens a worker of :class:`~pauth.TokenRefresher` refreshes in a second, in stores of a million records."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.contender import Missing
from benchmarks.servers import SERVERS
from benchmarks.tokens.peers import NAMESPACE, fresh_token
from benchmarks.tokens.processes import crew
from benchmarks.tokens.result import Found, Setting
from benchmarks.tokens.worker import open_storage
from benchmarks.workload import KEY
from pauth.core.token import token_to_dict
from pauth.storage.base import CoordinatedTokenStorage, RecordKey, Write

__all__ = ["run"]

_DUE: Final = 20_000
_BATCH: Final = 2000
_AT_ONCE: Final = 3
_STRIDE: Final = 7_368_787
"""A prime: who is due lies anywhere."""

_STORES: Final = ("postgresql", "redis")
_CREWS: Final = ((1, 64), (2, 64), (1, 256))
"""How many workers, and how many refreshes each has under way at once."""


async def run(setting: Setting) -> Found:
    """Refreshes a second, and whose processor time they take."""
    columns = ("storage", "records", "workers", "at once, each", "refreshed", "s", "a second", "by each", "worker's µs for one", "worker busy")
    found = Found("Refreshing a whole store", (*columns, "machine busy"))
    await setting.authority.set(lifetime=3600, delay=0)
    due = min(_DUE, setting.records // 10)
    for kind in _STORES:
        try:
            async with _opened(setting, kind) as (url, storage):
                setting.say(f"tokens: {kind}, writing {setting.records:,} records")
                await _fill(storage, kind, setting.records)
                for turn, (workers, concurrency) in enumerate(_CREWS):
                    setting.say(f"tokens: {kind}, {workers} at {due:,} that are due")
                    users = [_user(kind, number * _STRIDE % setting.records) for number in range(turn * due, (turn + 1) * due)]
                    await _write(storage, users, expires_in=-60.0)
                    done, seconds, busy = await _crew(setting, url, workers, concurrency)
                    refreshed = sum(each["refreshed"] for each in done)
                    worked = sum(each["cpu"] for each in done)
                    rate = refreshed / seconds
                    row = (kind, setting.records, workers, concurrency, refreshed, seconds, rate, rate / workers, worked / max(refreshed, 1) * 1e6)
                    found.rows.append((*row, f"{worked / seconds / workers:.0%}", "" if busy is None else f"{busy:.0%}"))
                    if refreshed != len(users):
                        found.notes.append(f"{kind}: {len(users) - refreshed} of {len(users):,} were not refreshed: {done}")
        except Missing as missing:
            found.absent[kind] = str(missing)
    return found


@asynccontextmanager
async def _opened(setting: Setting, kind: str) -> AsyncGenerator[tuple[str, CoordinatedTokenStorage]]:
    if kind in setting.urls:
        url = setting.urls[kind]
        storage = open_storage(url, KEY.to_string().reveal())
        yield url, storage
        await _clear(storage)
        await storage.aclose()
        return
    folder = setting.folder / f"refresher-{kind}"
    folder.mkdir()
    async with SERVERS[kind](folder) as url:
        storage = open_storage(url, KEY.to_string().reveal())
        yield url, storage
        await storage.aclose()


def _user(kind: str, number: int) -> str:
    return f"{kind}-{number:07}"  # the server knows them apart: it has rotated the tokens of the other store's users


async def _fill(storage: CoordinatedTokenStorage, kind: str, records: int) -> None:
    batches = iter(range(0, records, _BATCH))

    async def write() -> None:
        for start in batches:
            await _write(storage, [_user(kind, number) for number in range(start, min(start + _BATCH, records))], expires_in=86_400.0 * 30)

    await asyncio.gather(*(write() for _ in range(_AT_ONCE)))


async def _write(storage: CoordinatedTokenStorage, users: Sequence[str], *, expires_in: float) -> None:
    for start in range(0, len(users), _BATCH):
        writes: list[Write] = []
        for user in users[start : start + _BATCH]:
            token = fresh_token(user, lifetime=86_400 + expires_in, age=86_400)
            writes.append(Write(RecordKey(NAMESPACE, user), token_to_dict(token), expires_at=token.expires_at, lineage=os.urandom(16)))
        for written in await storage.put_many(writes):
            if isinstance(written, Exception):
                raise written


async def _clear(storage: CoordinatedTokenStorage) -> None:
    while (page := await storage.list_users(NAMESPACE, limit=_BATCH)).items:
        await storage.delete_many([each.key for each in page.items])


async def _crew(setting: Setting, url: str, workers: int, concurrency: int) -> tuple[list[dict[str, Any]], float, float | None]:
    told = {"work": "refresh", "url": url, "key": KEY.to_string().reveal(), "port": int(setting.authority.url.rpartition(":")[2])}
    async with crew(workers, {**told, "concurrency": concurrency}) as made:
        before, began = _busy(), time.perf_counter()
        done = await made.go()
        seconds, after = time.perf_counter() - began, _busy()
    return done, seconds, None if before is None or after is None else (after[0] - before[0]) / max(1, after[1] - before[1])


def _busy() -> tuple[int, int] | None:
    """The time that the processors were busy, and all of it, since the machine was started; ``None`` where it is not told."""
    try:
        fields = [int(each) for each in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    except OSError:
        return None
    return sum(fields) - fields[3] - fields[4], sum(fields)
