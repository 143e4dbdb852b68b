"""How fast a token storage is, from here: what ``pauth storage bench`` measures. Drivers are compared in ``docs/benchmarks.md``, not here."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pauth.storage import CoordinatedTokenStorage, RecordKey, iter_users

__all__ = ["Measured", "measure_storage"]

_NAMESPACE: Final = "pauth storage bench"
_OVERDUE: Final = 60.0
"""Seconds after its end by which a run has deleted its records, if it lives. If one lives longer it does it no harm that another one does it."""

_USERS: Final = 64
"""Users whose tokens are written and read, so that tasks do not wait for each other's record."""

_TOKENS: Final[dict[str, Any]] = {
    "access_token": "a" * 900,
    "refresh_token": "r" * 300,
    "token_type": "Bearer",
    "scope": "openid profile email offline_access",
    "expires_at": 4_102_444_800.0,
    "issuer": "https://login.example.com",
}
"""As large as those of most providers; no secret of anybody's."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the result. Latencies in milliseconds."""

    operation: str
    tasks: int
    calls: int
    p50: float
    p95: float
    p99: float
    per_second: float


async def measure_storage(
    storage: CoordinatedTokenStorage,
    *,
    seconds: float,
    tasks: Sequence[int] = (1, 64),
    on_progress: Callable[[int, int], object] | None = None,
) -> list[Measured]:
    """Save and get tokens of users that nobody has, and delete them.

    :param seconds: for each line of the result.
    :param tasks: how many ask at once.
    :param on_progress: called after each line with how many there are, and how many there will be.
    :raises TokenStorageError: the storage failed. What was written is deleted as far as it lets us.
    """
    await _sweep(storage)
    ends_at = time.time() + seconds * 2 * len(tasks)
    run = f"{ends_at + _OVERDUE:.0f} {secrets.token_hex(8)}"
    keys = [RecordKey(_NAMESPACE, f"{run} {number}") for number in range(_USERS)]

    async def save(key: RecordKey) -> None:
        await storage.replace(key, _TOKENS, expected_version=None)

    results: list[Measured] = []
    try:
        for key in keys:
            await save(key)
        for at_once in tasks:
            for operation, act in (("save", save), ("get", storage.load)):
                results.append(await _measure(operation, act, keys, at_once, seconds))
                if on_progress is not None:
                    on_progress(len(results), 2 * len(tasks))
    finally:
        await storage.delete_many(keys)
    return results


async def _sweep(storage: CoordinatedTokenStorage) -> None:
    """Delete what earlier runs have left behind that were killed: each record's user says when it is overdue."""
    keys = [item.key async for item in iter_users(storage, _NAMESPACE)]
    await storage.delete_many([key for key in keys if float(key.user_id.partition(" ")[0]) < time.time()])


async def _measure(operation: str, act: Callable[[RecordKey], Awaitable[object]], keys: Sequence[RecordKey], tasks: int, seconds: float) -> Measured:
    samples: list[float] = []
    clock = time.perf_counter
    began = clock()
    until = began + seconds

    async def one(task: int) -> None:
        number = task
        while True:
            before = clock()
            await act(keys[number % len(keys)])
            now = clock()
            samples.append(now - before)
            number += tasks
            if now >= until:
                return

    await asyncio.gather(*map(one, range(tasks)))
    took = clock() - began
    samples.sort()
    p50, p95, p99 = (samples[min(len(samples) - 1, int(len(samples) * part))] * 1000 for part in (0.50, 0.95, 0.99))
    return Measured(operation, tasks, len(samples), p50, p95, p99, len(samples) / took)
