"""Many runs: every cell of the matrix, or scenarios at random for hours; and the table of what came of them."""

from __future__ import annotations

import asyncio
import itertools
import platform
import random
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pauth.core.quirks import RotationClass
from tests.chaos.catalog import LEASES, SCENARIOS, Outcome, run_scenario
from tests.chaos.fleet import Fleet
from tests.chaos.nemesis import FAILPOINTS
from tests.chaos.stores import DRIVERS, Servers

__all__ = ["NOT_DONE", "Cell", "matrix", "report", "run_many", "soak"]

Cell = tuple[str, str, str, int]
"""Scenario, driver, rotation class, seed."""

_SERVERS: Final = frozenset({"postgres", "mariadb", "redis"})
_ALONE: Final = frozenset({"herd", "race", "storm", "outage", "restarts", "failover"})
"""They keep the machine busy, so nothing else runs beside them."""

_CLASSES: Final = list(RotationClass.__members__)
_DELICATE: Final = frozenset({"RG", "RU", "RSF"})
NOT_DONE: Final = f"""## Not done

What tests of this kind could do besides, and these do not:

- **Stopped for ten leases.** The longest stop is {LEASES[-1]:g} leases; and only in three classes, those in which it matters who wakes up late.
- **Leases in Redis over records in SQL.** pauth has no such storage; MariaDB has its place among the six.
- **A loss of power.** No file system that forgets what was not synced (LazyFS), no full disk under a database server. Full disks, and writes that
  fail or are cut off, are in the tests of the storages and of the journal.
- **Clocks under the processes.** They are wrong, and jump, inside of them (libfaketime is not used); none is slewed, and no machine is suspended.
- **A pooler** that drops connections (PgBouncer). Servers are killed, started again and stopped; single connections are cut in the tests of the
  storages.
- **Eight hours.** The soak ran for eight minutes ([when](reliability.md#the-promises-and-the-tests)).
- **Larger numbers.** A storm takes 10 seconds (not 60), an outage 8 seconds with 40 callers (not 60 with a thousand); a herd of 200 comes to ten
  expiries on each storage (not to a thousand). Kills at random are those of the storms, not 500 in a row. A million logins that are begun, and a
  hundred thousand users for an hour, are not tried: each bound is tested by itself.
- **Two versions side by side.** There has been one. That later ones read its records, and leave alone what they do not know, is in the tests of the
  formats.
- **The logs of database servers** are not searched for secrets; all that pauth's own processes write is."""
"""The last part of the report. Who does something of it takes it out here."""

_OTHERS: Final = (
    "herd",
    "race",
    "terminate:store-back",
    "terminate:store-gone",
    "terminate:cancelled",
    "abandon",
    "faults",
    "outage",
    "clocks",
    "prefork",
    "storm",
)


def matrix(drivers: Sequence[str], rotations: Sequence[str]) -> list[Cell]:
    """C2 in every cell of failpoint, class and driver; C3 of failpoint, duration and driver, in three classes; all else on every driver.

    The three are those in which it matters who wakes up late; all else is in the strictest class.
    """
    lasting = [driver for driver in drivers if driver != "memory"]
    strictest, delicate = rotations[-1], [rotation for rotation in rotations if rotation in _DELICATE]
    crashes = itertools.product((f"crash:{name}" for name in FAILPOINTS), drivers, rotations)
    pauses = itertools.product((f"pause:{name}:{leases:g}" for name in FAILPOINTS for leases in LEASES), lasting, delicate)
    others = [(name, driver, strictest) for name in _OTHERS for driver in lasting]
    restarts = [("restarts", driver, strictest) for driver in drivers if driver in _SERVERS]
    failovers = [("failover", "sentinel", strictest)] if "redis" in drivers else []
    return [(*cell, 0) for cell in (*crashes, *pauses, *others, *restarts, *failovers)]


async def run_many(plan: Iterable[Cell], folder: Path, *, parallel: int, keep: bool = False, until: float | None = None) -> list[Outcome]:
    """Run ``plan``, so many at once; no new run is begun after ``until`` (monotonic seconds).

    :param keep: do not remove the histories and logs of runs in which all was well.
    """
    outcomes: list[Outcome] = []
    waiting = iter(plan)
    alone = asyncio.Lock()
    gate = asyncio.Semaphore(parallel)

    async def one(cell: Cell) -> None:
        name, driver, rotation, seed = cell
        outcome = await run_scenario(name, fleet, servers, folder, driver=driver, rotation=rotation, seed=seed)
        outcomes.append(outcome)
        if not outcome.found and not keep:
            shutil.rmtree(outcome.folder)
        print(_line(outcome), flush=True)

    async def in_turn(cell: Cell) -> None:
        try:
            await one(cell)
        finally:
            gate.release()

    with Servers(folder / "servers") as servers:
        async with Fleet() as fleet, asyncio.TaskGroup() as group:
            for cell in waiting:
                if until is not None and time.monotonic() > until:
                    break
                if cell[0] in _ALONE:
                    async with alone:
                        for _ in range(parallel):
                            await gate.acquire()
                        try:
                            await one(cell)
                        finally:
                            for _ in range(parallel):
                                gate.release()
                else:
                    await gate.acquire()
                    group.create_task(in_turn(cell))
    return outcomes


def _line(outcome: Outcome) -> str:
    verdict = "ok" if not outcome.found else f"{len(outcome.found)} violations"
    head = f"{outcome.scenario} {outcome.driver} {outcome.rotation}: {verdict} ({outcome.seconds:.1f} s)"
    return "\n    ".join([head, *outcome.found[:5]])


async def soak(
    drivers: Sequence[str], rotations: Sequence[str], folder: Path, *, minutes: float, seed: int, parallel: int, keep: bool
) -> list[Outcome]:
    """Scenarios at random until the time is over; every second one is a storm."""
    dice = random.Random(seed)

    def plan() -> Iterator[Cell]:
        for number in itertools.count(seed):
            driver = dice.choice([driver for driver in drivers if driver != "memory"])
            name = "storm" if number % 2 else dice.choice([name for name in SCENARIOS if name != "restarts" or driver in _SERVERS])
            yield name, "sentinel" if name == "failover" else driver, dice.choice(rotations), number

    return await run_many(plan(), folder, parallel=parallel, keep=keep, until=time.monotonic() + 60.0 * minutes)


# --- the table


def report(outcomes: Sequence[Outcome], *, command: str) -> str:
    """The results in Markdown."""
    failed = [outcome for outcome in outcomes if outcome.found]
    lines = [
        "# Chaos",
        "",
        "What became of many processes that share tokens and are killed, stopped and lied to; written by the harness in `tests/chaos`, which says",
        "what is checked. A row is a storage and a [class of servers](reliability.md#retries-and-the-classes-of-servers), a column a place in a",
        "refresh; ✓ stands for no violation.",
        "",
        f"{len(outcomes)} runs, {len(failed)} with violations; {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, `{command}`.",
        "",
    ]
    for title, prefix in (("Killed at", "crash:"), *((f"Stopped for {leases:g} leases at", f"pause:{{}}:{leases:g}") for leases in LEASES)):
        lines += _table(title, prefix, outcomes)
    others = [outcome for outcome in outcomes if not outcome.scenario.startswith(("crash:", "pause:"))]
    if others:
        lines += ["| scenario | driver | class | runs | violations |", "| --- | --- | --- | --- | --- |"]
        grouped: dict[tuple[str, str, str], list[Outcome]] = defaultdict(list)
        for outcome in others:
            grouped[outcome.scenario, outcome.driver, outcome.rotation].append(outcome)
        lines += [f"| {' | '.join(key)} | {len(group)} | {sum(len(each.found) for each in group)} |" for key, group in sorted(grouped.items())]
        lines.append("")
    for outcome in failed:
        lines += [f"- `{outcome.command}`", *(f"  - {found}" for found in outcome.found[:3])]
    return "\n".join(lines).rstrip() + f"\n\n{NOT_DONE}\n"


def _table(title: str, pattern: str, outcomes: Sequence[Outcome]) -> list[str]:
    """One row a driver and class, one column a failpoint: ✓, or the number of violations."""
    names = {name: pattern.format(name) if "{}" in pattern else pattern + name for name in FAILPOINTS}
    rows: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for outcome in outcomes:
        for name, scenario in names.items():
            if outcome.scenario == scenario:
                row = rows[outcome.driver, outcome.rotation]
                row[name] = row.get(name, 0) + len(outcome.found)
    if not rows:
        return []
    columns = [name for name in FAILPOINTS if any(name in row for row in rows.values())]
    lines = [f"| {title} | class | {' | '.join(columns)} |", f"| --- | --- |{' --- |' * len(columns)}"]
    for (driver, rotation), row in sorted(rows.items(), key=lambda each: (DRIVERS.index(each[0][0]), _CLASSES.index(each[0][1]))):
        marks = ["" if name not in row else str(row[name] or "✓") for name in columns]
        lines.append(f"| {driver} | {rotation} | {' | '.join(marks)} |")
    return [*lines, ""]
