"""What it costs to find out what expires in a store of a million records, as a background refresher does: ``python -m benchmarks scan``.

Records expire a second apart, in an order that has nothing to do with where they lie. All that expire before a moment are listed, page after
page, for moments at which few, some and all of them are due; and once more when those that were due have been written anew, as a refresh does.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson

from benchmarks.contender import Missing, optional
from benchmarks.servers import SERVERS
from benchmarks.storage import machine, versions
from benchmarks.workload import KEY, TOKENS
from pauth.storage.base import CoordinatedTokenStorage, Expiring, RecordKey, Write

__all__ = ["DRIVERS", "LIMITS", "SHARES", "Scan", "ScanReport", "run"]

SHARES: Final = (0.0, 0.001, 0.01, 1.0)
"""How much of the store is due."""

LIMITS: Final = (1000, 10_000)
"""How many records a page may have."""

_REWRITTEN: Final = 0.01
_NAMESPACE: Final = "pauth-benchmark-scan"
_PREFIX: Final = "pauth-benchmark-scan"
_START: Final = 2_000_000_000
"""When the first record expires: seconds since the Unix epoch."""

_STRIDE: Final = 7_368_787
"""A prime, to give neighbours expiries far from each other."""

_BATCH: Final = 2000
_AT_ONCE: Final = 3
_PATIENCE: Final = 120.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scan:
    """One walk over everything that is due. Times in milliseconds."""

    driver: str
    phase: str
    """``first``, or ``again`` when those that were due have been written anew."""

    share: float
    limit: int
    records: int
    """How many were listed."""

    pages: int
    total: float
    page_median: float
    page_worst: float
    loop_held: float
    """The longest time for which nothing else could run on the event loop."""

    server: float | None
    """Processor time of the server, for all pages; ``None`` where it does not tell."""


@dataclass(slots=True)
class ScanReport:
    """Everything a run found out."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    records: int
    filled: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds it took to write all records, by driver."""

    scans: list[Scan] = field(default_factory=list[Scan])
    plans: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """Driver, which page, and how the server went about it."""

    absent: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


async def run(drivers: Sequence[str], *, urls: Mapping[str, str], records: int, limits: Sequence[int], folder: Path, say: Say) -> ScanReport:
    """Fill each store and scan it.

    :param urls: by driver, the servers that are there already. What is written there is deleted again.
    :param say: told what goes on.
    """
    report = ScanReport(dt.datetime.now(dt.UTC).date().isoformat(), machine(), versions(), records)
    for name in drivers:
        async with AsyncExitStack() as stack:
            try:
                place = folder / name / "server"
                place.mkdir(parents=True)
                url = urls[name] if name in urls else await stack.enter_async_context(SERVERS[name](place))
                subject = await stack.enter_async_context(_SUBJECTS[name](url))
            except Missing as missing:
                report.absent.append((name, str(missing)))
                continue
            if name in urls:
                stack.push_async_callback(_clear, subject.storage)
            say(f"{name}: writing {records:,} records")
            report.filled[name] = await _fill(subject.storage, records)
            for share in SHARES:
                for limit in limits:
                    say(f"{name}: {share:.1%} due, pages of {limit:,}")
                    report.scans.append(await _scan(name, subject, "first", records, share, limit))
            for page, position in (("first page", 0), ("in the middle", records // 2)):
                report.plans += [(name, page, plan) for plan in await subject.plans(_START + position, limits[0])]
            say(f"{name}: writing {_REWRITTEN:.0%} anew")
            await _rewrite(subject.storage, records)
            report.scans += [await _scan(name, subject, "again", records, _REWRITTEN, limits[0]) for _ in range(2)]
    return report


def _expiry(number: int, records: int) -> int:
    return _START + number * _STRIDE % records


async def _fill(storage: CoordinatedTokenStorage, records: int) -> float:
    """Write them; in how many seconds."""
    numbers = iter(range(0, records, _BATCH))
    began = time.perf_counter()

    async def write() -> None:
        for start in numbers:
            each = range(start, min(start + _BATCH, records))
            await _put(storage, [Write(_key(number), TOKENS, expires_at=_expiry(number, records)) for number in each])

    await asyncio.gather(*(write() for _ in range(_AT_ONCE)))
    return time.perf_counter() - began


def _key(number: int) -> RecordKey:
    return RecordKey(_NAMESPACE, f"user-{number:07}")


async def _put(storage: CoordinatedTokenStorage, writes: Sequence[Write]) -> None:
    for written in await storage.put_many(writes):
        if isinstance(written, Exception):
            raise written


async def _rewrite(storage: CoordinatedTokenStorage, records: int) -> None:
    """What a refresher does to those that are due: they expire later now."""
    due = [each async for page in _pages(storage, _START + records * _REWRITTEN, LIMITS[0]) for each in page]
    for start in range(0, len(due), _BATCH):
        writes = [Write(each.key, TOKENS, each.version, expires_at=each.expires_at + records) for each in due[start : start + _BATCH]]
        await _put(storage, writes)


async def _clear(storage: CoordinatedTokenStorage) -> None:
    while True:
        page = await storage.list_users(_NAMESPACE, limit=_BATCH)
        if not page.items:
            return
        await storage.delete_many([each.key for each in page.items])


async def _pages(storage: CoordinatedTokenStorage, before: float, limit: int) -> AsyncGenerator[Sequence[Expiring]]:
    cursor: str | None = None
    while True:
        page = await storage.list_expiring(before, cursor=cursor, limit=limit)
        yield page.items
        cursor = page.next_cursor
        if cursor is None:
            return


async def _scan(driver: str, subject: _Subject, phase: str, records: int, share: float, limit: int) -> Scan:
    before = _START + round(records * share)
    listed = 0
    took: list[float] = []
    held = asyncio.create_task(_longest_hold(stop := asyncio.Event()))
    worked = await subject.work()
    began = last = time.perf_counter()
    async for page in _pages(subject.storage, before, limit):
        now = time.perf_counter()
        took.append(now - last)
        listed += len(page)
        last = time.perf_counter()
    total = last - began
    after = await subject.work()
    stop.set()
    server = None if worked is None or after is None else after - worked
    median, worst = statistics.median(took) * 1000, max(took) * 1000
    return Scan(driver, phase, share, limit, listed, len(took), total * 1000, median, worst, await held * 1000, server)


async def _longest_hold(stop: asyncio.Event) -> float:
    """How long a task has had to wait for its turn beyond the millisecond it wanted to, at most; in seconds."""
    longest = 0.0
    while not stop.is_set():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - before - 0.001)
    return longest


# --- the stores


@dataclass(frozen=True, slots=True)
class _Subject:
    """A store, and ways to look at its server."""

    storage: CoordinatedTokenStorage
    work: Callable[[], Awaitable[float | None]]
    """Milliseconds of processor time its server has spent on the commands of scans; ``None`` if it does not tell."""

    plans: Callable[[int, int], Awaitable[list[str]]]
    """How the server goes about a page: given where it begins, in seconds since the Unix epoch, and how many records it has."""


@asynccontextmanager
async def _redis(url: str) -> AsyncGenerator[_Subject]:
    client = None if url.startswith(("redis+cluster:", "redis+sentinel:")) else optional("redis.asyncio", "redis").from_url(url)
    from pauth.storage import RedisTokenStorage

    storage = RedisTokenStorage(url, encryption_key=KEY, prefix=_PREFIX, timeout=_PATIENCE)

    async def work() -> float | None:
        """All of a scan's commands are scripts."""
        if client is None:
            return None
        commands = await client.info("commandstats")
        spent: int = sum(found["usec"] for name, found in commands.items() if name in {"cmdstat_evalsha", "cmdstat_eval"})
        return spent / 1000

    async def plans(position: int, limit: int) -> list[str]:
        del position, limit
        return []  # Redis does what it is told

    try:
        yield _Subject(storage, work, plans)
    finally:
        await storage.aclose()
        if client is not None:
            await client.aclose()


@asynccontextmanager
async def _postgresql(url: str) -> AsyncGenerator[_Subject]:
    connection = await optional("asyncpg").connect("postgresql://" + url.partition("://")[2])
    optional("sqlalchemy")
    from pauth.storage import DatabaseTokenStorage
    from pauth.storage.sql.postgres_statements import LIST_EXPIRING

    storage = DatabaseTokenStorage("postgresql+asyncpg://" + url.partition("://")[2], encryption_key=KEY, timeout=_PATIENCE)

    async def work() -> float | None:
        return None

    async def plans(position: int, limit: int) -> list[str]:
        """The plan for these values, and the one for any, which PostgreSQL may settle for when it has seen a statement five times."""
        found: list[str] = []
        await connection.execute(f"PREPARE scan (bigint, bigint, bytea, bigint) AS {LIST_EXPIRING}")
        for mode in ("custom", "generic"):
            await connection.execute(f"SET plan_cache_mode = force_{mode}_plan")
            explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE scan ({2**62}, {position * 1000}, ''::bytea, {limit})"
            plan: dict[str, Any] = orjson.loads(await connection.fetchval(explained))[0]
            found.append(f"{mode} plan: {_described(plan['Plan'])}, {plan['Execution Time']:.1f} ms")
        await connection.execute("DEALLOCATE scan")
        return found

    try:
        yield _Subject(storage, work, plans)
    finally:
        await storage.aclose()
        await connection.close()


def _described(plan: Mapping[str, Any]) -> str:
    steps = [plan]
    while "Plans" in steps[-1]:
        steps.append(steps[-1]["Plans"][0])
    names = " < ".join(step["Node Type"] + (f" ({step['Index Name']})" if "Index Name" in step else "") for step in steps)
    return f"{names}, {plan['Actual Rows']:.0f} rows, {plan['Shared Hit Blocks'] + plan['Shared Read Blocks']:,} blocks of 8 KiB"


_SUBJECTS: Final[Mapping[str, Callable[[str], AbstractAsyncContextManager[_Subject]]]] = MappingProxyType(
    {"postgresql": _postgresql, "redis": _redis}
)
DRIVERS: Final = tuple(_SUBJECTS)
