"""Measuring contenders beside each other: in rounds, each in its turn, and medians over the rounds."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil

from benchmarks.contender import Contender, Operation

__all__ = ["Effort", "Figures", "Work", "measure"]


@dataclass(frozen=True, slots=True)
class Work:
    """What is done, and by how many tasks at once."""

    operation: str
    """``save`` or ``get``."""

    tasks: int


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look.

    :param seconds: for each contender and each work, over all rounds; ``None``: one sample a task in each round, enough to see that it runs.
    """

    seconds: float | None = 2.0
    rounds: int = 8


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the rounds. Latencies in microseconds."""

    p50: float
    p95: float
    p99: float
    per_second: float


async def measure(
    contenders: Mapping[str, Contender], work: Work, *, users: Sequence[str], effort: Effort, calls_per_sample: int = 1
) -> dict[str, Figures]:
    """The figures of each contender.

    A round is a turn for each of them, and the next begins with another, so that nobody always follows the same neighbour and what else the
    machine does meets all alike.
    """
    operations = {name: _operation(contender, work) for name, contender in contenders.items()}
    counts = {name: await _count(operation, work, users, effort, calls_per_sample) for name, operation in operations.items()}
    turns: dict[str, list[Figures]] = {name: [] for name in operations}
    names = list(operations)
    for number in range(effort.rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            turns[name].append(await _turn(operations[name], work.tasks, users, counts[name], calls_per_sample))
    return {name: _medians(figures) for name, figures in turns.items()}


def _operation(contender: Contender, work: Work) -> Operation:
    return contender.save if work.operation == "save" else contender.get


async def _count(operation: Operation, work: Work, users: Sequence[str], effort: Effort, calls_per_sample: int) -> int:
    """How many calls fill one turn. Finding out warms everything up."""
    count = work.tasks * calls_per_sample
    if effort.seconds is None:
        return count
    count *= 2
    wanted = effort.seconds / effort.rounds
    while True:
        figures = await _turn(operation, work.tasks, users, count, calls_per_sample)
        took = count / figures.per_second
        if took >= wanted / 4:
            return max(work.tasks * calls_per_sample, round(count * wanted / took))
        count *= 2


async def _turn(operation: Operation, tasks: int, users: Sequence[str], count: int, calls_per_sample: int) -> Figures:
    plans = [_plan(users[task::tasks], ceil(count / tasks), calls_per_sample) for task in range(tasks)]
    samples: list[float] = []
    gc.collect()
    began = time.perf_counter()
    if tasks == 1:
        await _task(operation, plans[0], samples)
    else:
        await asyncio.gather(*(_task(operation, plan, samples) for plan in plans))
    took = time.perf_counter() - began
    samples.sort()
    calls = sum(len(chunk) for plan in plans for chunk in plan)
    p50, p95, p99 = (_percentile(samples, part) * 1e6 for part in (0.50, 0.95, 0.99))
    return Figures(p50, p95, p99, calls / took)


def _plan(users: Sequence[str], calls: int, calls_per_sample: int) -> list[tuple[str, ...]]:
    """The users of one task, over and over. No two tasks have one in common."""
    endless = (user for _ in iter(int, 1) for user in users)
    return [tuple(islice(endless, calls_per_sample)) for _ in range(ceil(calls / calls_per_sample))]


async def _task(operation: Operation, plan: Sequence[Sequence[str]], samples: list[float]) -> None:
    clock = time.perf_counter
    for chunk in plan:
        before = clock()
        for user in chunk:
            await operation(user)
        samples.append((clock() - before) / len(chunk))


def _percentile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def _medians(turns: Sequence[Figures]) -> Figures:
    return Figures(
        statistics.median(turn.p50 for turn in turns),
        statistics.median(turn.p95 for turn in turns),
        statistics.median(turn.p99 for turn in turns),
        statistics.median(turn.per_second for turn in turns),
    )
