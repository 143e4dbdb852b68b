"""How long a call takes, and how many there are in a second: contenders beside each other, in turns, and medians over the rounds."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

__all__ = ["Batch", "per_call", "per_second", "timed"]

Batch: TypeAlias = Callable[[int], Awaitable[float]]
"""Does so many calls one after the other; gives the seconds they took."""


async def per_call(batches: Mapping[str, Batch], *, seconds: float | None, rounds: int) -> dict[str, float]:
    """Microseconds a call of each contender: a round is a turn for each, and the next begins with another."""
    counts = {name: await _calls(batch, seconds, rounds) for name, batch in batches.items()}
    took: dict[str, list[float]] = {name: [] for name in batches}
    names = list(batches)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            took[name].append(await batches[name](counts[name]) / counts[name] * 1e6)
    return {name: statistics.median(each) for name, each in took.items()}


async def _calls(batch: Batch, seconds: float | None, rounds: int) -> int:
    """How many calls fill one turn. Finding out warms everything up."""
    if seconds is None:
        await batch(1)
        return 1
    count, wanted = 1, seconds / rounds
    while (took := await batch(count)) < wanted / 4:
        count *= 2
    return max(1, round(count * wanted / took))


async def per_second(calls: Mapping[str, Callable[[int], Awaitable[object]]], *, tasks: int, seconds: float | None, rounds: int) -> dict[str, float]:
    """Calls a second of each contender, of so many tasks at once. Each call is given the number of its task."""
    if seconds is None:
        seconds, rounds = 0.0, 1
    rates: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for name in names:  # connections, and whatever else is made when first needed
        await _turn(calls[name], tasks, 0.0)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            rates[name].append(await _turn(calls[name], tasks, seconds / rounds))
    return {name: statistics.median(each) for name, each in rates.items()}


async def _turn(call: Callable[[int], Awaitable[object]], tasks: int, seconds: float) -> float:
    clock = time.perf_counter
    began = clock()
    until = began + seconds
    done = 0

    async def task(number: int) -> None:
        nonlocal done
        while True:
            await call(number)
            done += 1
            if clock() >= until:
                return

    await asyncio.gather(*(task(number) for number in range(tasks)))
    return done / (clock() - began)


async def timed(work: Awaitable[object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began
