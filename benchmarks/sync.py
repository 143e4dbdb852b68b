"""What blocking calls cost, beside other ways to run the same coroutine from code that cannot await: ``python -m benchmarks sync``."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import statistics
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from anyio.from_thread import start_blocking_portal

from benchmarks.contender import Missing, optional
from benchmarks.measure import Effort, Figures
from benchmarks.report import between, table
from benchmarks.servers import SERVERS
from benchmarks.storage import machine, versions
from benchmarks.workload import KEY, NAMESPACE, RECORD, TOKENS, USERS
from pauth import MemoryTokenStorage, Providers, Secret, SyncOAuth2Client, SyncTokenStorage, Token
from pauth.refresh.stored import StoredGrant, write_grant
from pauth.storage import CoordinatedTokenStorage, DatabaseTokenStorage, RecordKey, RedisTokenStorage
from pauth.storage.base import Write

__all__ = ["BEGIN", "DRIVERS", "END", "SyncReport", "as_json", "as_text", "into_page", "run"]

DRIVERS: Final = ("token", "memory", "sqlite", "redis")
"""What is called: a client's ``get_token`` of a token in memory, and a storage's save and get."""

PAUTH: Final = "pauth"
PORTAL: Final = "anyio's BlockingPortal, the same coroutine"
FUTURE: Final = "asyncio.run_coroutine_threadsafe, the same coroutine"
DICT: Final = "a dict in a def"

BEGIN: Final = "<!-- sync: begin (written by python -m benchmarks sync --markdown) -->"
END: Final = "<!-- sync: end -->"

_SHARE: Final = 0.6
"""Of BlockingPortal's latency, at most: the goal of a storage call that waits for nothing else."""

_CACHED: Final = 1.0
"""Microseconds more than a dict read, at most: the goal of a token in memory."""

_PER_SAMPLE: Final = 64
"""How many calls of a token in memory are timed together: reading the clock would cost more than the call."""

Operation = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Result:
    """What one contender reached."""

    driver: str
    operation: str
    contender: str
    figures: Figures


@dataclass(slots=True)
class SyncReport:
    """Everything a run found out."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, float | int | None]
    results: list[Result] = field(default_factory=list[Result])
    absent: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Driver that did not take part, and why."""

    def find(self, driver: str, operation: str, contender: str) -> Figures | None:
        """The figures of a contender."""
        key = (driver, operation, contender)
        return next((each.figures for each in self.results if (each.driver, each.operation, each.contender) == key), None)

    def goals(self) -> list[tuple[str, str, float, float]]:
        """What each goal is about, its wording, its bound and what was reached."""
        found: list[tuple[str, str, float, float]] = []
        for operation in ("save", "get"):
            ours, theirs = self.find("memory", operation, PAUTH), self.find("memory", operation, PORTAL)
            if ours is not None and theirs is not None:
                found.append((f"memory {operation}", f"at most {_SHARE:g}x BlockingPortal's latency", _SHARE, ours.p50 / theirs.p50))
        ours, theirs = self.find("token", "get_token", PAUTH), self.find("token", "get_token", DICT)
        if ours is not None and theirs is not None:
            found.append(("token in memory", f"at most {_CACHED:g} µs over a dict read", _CACHED, ours.p50 - theirs.p50))
        return found


def run(drivers: Sequence[str], *, urls: Mapping[str, str], effort: Effort, folder: Path, say: Callable[[str], None]) -> SyncReport:
    """Measure.

    :param urls: of the Redis server, if there is one already.
    """
    settings: dict[str, float | int | None] = {"seconds": effort.seconds, "rounds": effort.rounds}
    report = SyncReport(dt.datetime.now(dt.UTC).date().isoformat(), machine(), versions(), settings)
    users = USERS[:_PER_SAMPLE] if effort.seconds is None else USERS
    for driver in drivers:
        say(f"{driver}: blocking calls")
        place = folder / driver
        place.mkdir()
        with ExitStack() as stack:
            try:
                contenders = _contenders(driver, urls.get(driver), users, place, stack)
            except Missing as missing:
                report.absent.append((driver, str(missing)))
                continue
            per_sample = _PER_SAMPLE if driver == "token" else 1
            for operation in contenders[PAUTH]:
                operations = {name: own[operation] for name, own in contenders.items()}
                for name, figures in _measure(operations, users, effort, per_sample).items():
                    report.results.append(Result(driver, operation, name, figures))
    return report


def _contenders(driver: str, url: str | None, users: Sequence[str], folder: Path, stack: ExitStack) -> dict[str, dict[str, Operation]]:
    portal = stack.enter_context(start_blocking_portal())
    loop = stack.enter_context(_loop())
    if driver == "token":
        client, tokens = _client_with(users, stack)
        inner = client._async  # noqa: SLF001  # what a program without pauth.sync would call  # pyright: ignore[reportPrivateUsage]
        return {
            PAUTH: {"get_token": client.get_token},
            DICT: {"get_token": lambda user: tokens[user]},
            PORTAL: {"get_token": lambda user: portal.call(inner.get_token, user)},
            FUTURE: {"get_token": lambda user: asyncio.run_coroutine_threadsafe(inner.get_token(user), loop).result()},
        }
    if driver == "redis" and url is None:
        url = stack.enter_context(portal.wrap_async_context_manager(SERVERS["redis"](folder)))
    # each has a storage of its own, used in one event loop, so that none pays for another's
    face = SyncTokenStorage(_storage(driver, url, folder / "face.db"))
    stack.callback(face.close)
    in_portal, in_loop = _storage(driver, url, folder / "portal.db"), _storage(driver, url, folder / "loop.db")
    stack.callback(lambda: portal.call(in_portal.aclose))
    stack.callback(lambda: asyncio.run_coroutine_threadsafe(in_loop.aclose(), loop).result())
    found: dict[str, dict[str, Operation]] = {
        PAUTH: {"save": lambda user: face.save_token(user, TOKENS), "get": face.get_token},
        PORTAL: {"save": lambda user: portal.call(in_portal.save_token, user, TOKENS), "get": lambda user: portal.call(in_portal.get_token, user)},
        FUTURE: {
            "save": lambda user: asyncio.run_coroutine_threadsafe(in_loop.save_token(user, TOKENS), loop).result(),
            "get": lambda user: asyncio.run_coroutine_threadsafe(in_loop.get_token(user), loop).result(),
        },
    }
    if url is not None:
        raw = optional("redis").Redis.from_url(url)
        stack.callback(raw.close)
        names = {user: f"{NAMESPACE}-raw:{user}" for user in users}
        stack.callback(lambda: raw.delete(*names.values()))
        found["redis-py, SET PX and GET"] = {"save": lambda user: raw.set(names[user], RECORD, px=600_000), "get": lambda user: raw.get(names[user])}
    for user in users:
        for own in found.values():
            own["save"](user)
    return found


def _storage(driver: str, url: str | None, file: Path) -> CoordinatedTokenStorage:
    if driver == "memory":
        return MemoryTokenStorage(namespace=NAMESPACE)
    if driver == "sqlite":
        return DatabaseTokenStorage(f"sqlite:///{file}", encryption_key=KEY, namespace=NAMESPACE)
    return RedisTokenStorage(str(url), encryption_key=KEY, namespace=NAMESPACE, prefix=f"{NAMESPACE}-{file.stem}", retention=600)


def _client_with(users: Sequence[str], stack: ExitStack) -> tuple[SyncOAuth2Client, dict[str, Token]]:
    """A client with a token of each user in its cache."""
    storage = SyncTokenStorage(MemoryTokenStorage())
    client = SyncOAuth2Client(Providers.GITHUB, "client id", Secret("client secret"), "https://app.example/callback", token_storage=storage)
    stack.callback(client.close)
    now = time.time()
    token = Token(Secret(TOKENS["access_token"]), refresh_token=Secret(TOKENS["refresh_token"]), issued_at=now, expires_at=now + 86_400)
    grant = write_grant(StoredGrant(token))
    storage.put_many([Write(RecordKey(client.namespace, user), grant, expires_at=token.expires_at) for user in users])
    return client, {user: client.get_token(user) for user in users}


@contextmanager
def _loop() -> Generator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own, as a program would have it that does without pauth.sync."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _measure(operations: Mapping[str, Operation], users: Sequence[str], effort: Effort, per_sample: int) -> dict[str, Figures]:
    """In rounds, a turn for each, the next beginning with another."""
    counts = {name: _count(operation, users, effort, per_sample) for name, operation in operations.items()}
    turns: dict[str, list[list[float]]] = {name: [] for name in operations}
    names = list(operations)
    for number in range(effort.rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            turns[name].append(_turn(operations[name], users, counts[name], per_sample))
    return {name: _figures(each) for name, each in turns.items()}


def _count(operation: Operation, users: Sequence[str], effort: Effort, per_sample: int) -> int:
    """How many samples fill one turn. Finding out warms everything up."""
    samples = _turn(operation, users, 1, per_sample)
    if effort.seconds is None:
        return 1
    samples = _turn(operation, users, max(8, 512 // per_sample), per_sample)
    return max(1, round(effort.seconds / effort.rounds / (statistics.median(samples) * per_sample)))


def _turn(operation: Operation, users: Sequence[str], samples: int, per_sample: int) -> list[float]:
    """Seconds of a call, once for each sample, sorted."""
    clock, found, number = time.perf_counter, list[float](), 0
    gc.collect()
    for _ in range(samples):
        chunk = [users[(number + each) % len(users)] for each in range(per_sample)]
        number += per_sample
        before = clock()
        for user in chunk:
            operation(user)
        found.append((clock() - before) / per_sample)
    return sorted(found)


def _figures(turns: Sequence[Sequence[float]]) -> Figures:
    def median_of(part: float) -> float:
        return statistics.median(turn[min(len(turn) - 1, int(len(turn) * part))] for turn in turns) * 1e6

    return Figures(median_of(0.50), median_of(0.95), median_of(0.99), statistics.median(len(turn) / sum(turn) for turn in turns))


def as_json(report: SyncReport) -> dict[str, Any]:
    """All of it. Latencies in microseconds."""
    goals = [{"about": about, "goal": goal, "bound": bound, "reached": reached} for about, goal, bound, reached in report.goals()]
    return {"format": 1, **asdict(report), "goals": goals}


def as_text(report: SyncReport) -> str:
    """The goals, and a table of all."""
    about, packages = report.machine, ", ".join(f"{name} {number}" for name, number in report.versions.items())
    head = (
        f"{report.date}; {about['processors']} processors ({about['architecture']}, {about['system']}, load {about['load_at_start']} at the start); "
        f"{about['python']}; one caller; medians of {report.settings['rounds']} rounds.\n{packages}."
    )
    goals = [(about, goal, f"{reached:.2f}", "reached" if reached <= bound else "missed") for about, goal, bound, reached in report.goals()]
    rows = [
        (f"{each.driver} {each.operation}", each.contender, *(f"{value:,.2f}" for value in (each.figures.p50, each.figures.p95, each.figures.p99)))
        for each in report.results
    ]
    parts = [head, *([table(("call", "goal", "measured", ""), goals, right=(2,))] if goals else [])]
    parts.append(table(("call", "", "p50 µs", "p95 µs", "p99 µs"), rows, right=(2, 3, 4)) if rows else "")
    parts.append("\n".join(f"- {driver}: {why}" for driver, why in report.absent))
    return "\n\n".join(part for part in parts if part) + "\n"


def into_page(page: str, report: SyncReport) -> str:
    """The page with its table replaced by this run's.

    :raises ValueError: it has no place for one.
    """
    return between(page, as_text(report), begin=BEGIN, end=END)
