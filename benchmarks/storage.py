"""One run over storages: who takes part, where, and what came of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks.contender import Contender, Entry, Missing, Place, Role, Row
from benchmarks.drivers import files, mariadb, memory, postgresql, redis, sqlite
from benchmarks.goals import GOALS, Goal
from benchmarks.measure import Effort, Figures, Work, measure
from benchmarks.servers import SERVERS
from benchmarks.workload import TOKENS, USERS
from pauth import __version__

__all__ = ["DRIVERS", "Outcome", "Report", "Result", "driver_of", "machine", "run", "versions"]

DRIVERS: Final[Mapping[str, Row]] = MappingProxyType(
    {row.name: row for row in (memory.ROW, sqlite.ROW, redis.ROW, postgresql.ROW, mariadb.ROW, files.ROW)}
)
_SCHEMES: Final = MappingProxyType({"rediss": "redis", "unix": "redis", "valkey": "redis", "postgres": "postgresql", "mysql": "mariadb"})
_PACKAGES: Final = (
    "cryptography",
    "orjson",
    "SQLAlchemy",
    "aiosqlite",
    "redis",
    "hiredis",
    "asyncpg",
    "psycopg",
    "asyncmy",
    "aiomysql",
    "py-key-value-aio",
)
_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Result:
    """What one contender reached in one work."""

    driver: str
    contender: str
    role: Role
    work: Work
    figures: Figures


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a goal."""

    goal: Goal
    ratio: float


@dataclass(slots=True)
class Report:
    """Everything a run found out."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, float | int | None]
    servers: dict[str, str] = field(default_factory=dict[str, str])
    results: list[Result] = field(default_factory=list[Result])
    absent: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """Driver and contender that did not take part, and why."""

    def find(self, driver: str, role: Role, work: Work) -> Figures | None:
        """The figures of the contender with that role."""
        return next((result.figures for result in self.results if (result.driver, result.role, result.work) == (driver, role, work)), None)

    def speedup(self, result: Result) -> float | None:
        """How many times as fast as this contender pauth is: by the median latency with one task, by throughput with more."""
        ours = self.find(result.driver, Role.PAUTH, result.work)
        if ours is None or result.role is Role.PAUTH:
            return None
        return result.figures.p50 / ours.p50 if result.work.tasks == 1 else ours.per_second / result.figures.per_second

    def outcomes(self) -> list[Outcome]:
        """The goals that this run can speak about."""
        found: list[Outcome] = []
        for goal in GOALS:
            ours, theirs = self.find(goal.driver, Role.PAUTH, goal.work), self.find(goal.driver, goal.against, goal.work)
            if ours is not None and theirs is not None:
                found.append(Outcome(goal, goal.ratio(ours, theirs)))
        return found


def driver_of(url: str) -> str:
    """The driver that a URL is for; ``""`` if there is none."""
    scheme = url.partition(":")[0].partition("+")[0]
    name = _SCHEMES.get(scheme, scheme)
    return name if name in DRIVERS else ""


async def run(
    drivers: Sequence[str], *, urls: Mapping[str, str], tasks: Sequence[int], effort: Effort, folder: Path, say: Callable[[str], None]
) -> Report:
    """Measure.

    :param urls: by driver, the servers that are there already.
    :param folder: where files and databases go: on the disk that is to be measured.
    :param say: told what goes on.
    """
    report = Report(
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        machine=machine(),
        versions=versions(),
        settings={"seconds": effort.seconds, "rounds": effort.rounds},
    )
    users = USERS[: max(tasks)] if effort.seconds is None else USERS
    works = [Work(operation, number) for number in tasks for operation in ("save", "get")]
    for name in drivers:
        row = DRIVERS[name]
        place_of_row = folder / name
        place_of_row.mkdir()
        async with AsyncExitStack() as stack:
            try:
                url = urls.get(name) or await _server(name, place_of_row, stack)
            except Missing as missing:
                report.absent += [(name, entry.name, str(missing)) for entry in row.entries]
                continue
            contenders: dict[str, Contender] = {}
            for entry in row.entries:
                opened = await _open(entry, Place(url, place_of_row, users), stack, report, name)
                if opened is not None:
                    contenders[entry.name] = opened
                    if opened.server:
                        report.servers[name] = opened.server
            roles = {entry.name: entry.role for entry in row.entries}
            for work in works if contenders else ():
                say(f"{name}: {work.operation}, {work.tasks} at once")
                figures = await measure(contenders, work, users=users, effort=effort, calls_per_sample=row.calls_per_sample)
                report.results += [Result(name, contender, roles[contender], work, found) for contender, found in figures.items()]
    return report


async def _server(name: str, folder: Path, stack: AsyncExitStack) -> str:
    if name in {"memory", "sqlite", "files"}:
        return ""
    if name not in SERVERS:
        raise Missing(f"no server: name one of yours with --url {name}://user:password@host/database")
    place = folder / "server"
    place.mkdir()
    return await stack.enter_async_context(SERVERS[name](place))


async def _open(entry: Entry, place: Place, stack: AsyncExitStack, report: Report, driver: str) -> Contender | None:
    """The contender with every user's token saved; ``None`` if it cannot take part, which the report says."""
    users = place.users
    try:
        contender = await stack.enter_async_context(entry.open(place))
        for start in range(0, len(users), _AT_ONCE):
            await asyncio.gather(*(contender.save(user) for user in users[start : start + _AT_ONCE]))
        read = await contender.get(users[0])
    except Missing as missing:
        report.absent.append((driver, entry.name, str(missing)))
        return None
    if read is None or (entry.role in {Role.PAUTH, Role.PEER} and read != TOKENS):
        report.absent.append((driver, entry.name, "left out: what it reads is not what was saved"))
        return None
    return contender


def machine() -> dict[str, str]:
    """What the run is on."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "architecture": platform.machine(),
        "processors": str(processors),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_at_start": f"{os.getloadavg()[0]:.1f}",
    }


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Of pauth and of what takes part."""
    found = {"pauth": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
