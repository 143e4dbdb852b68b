"""C1 and the race of processes: no fault but many callers at once (P1)."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.chaos.checkers import needless_refreshes, one_refresh_each
from tests.chaos.checkers_system import k7_progress
from tests.chaos.world import World

__all__ = ["herd", "race"]

_PATIENCE: Final = 0.9
"""Where nobody fails nobody has to wait for a deadline: who does has misread a refresh that was under way. A share of the timeout."""


async def herd(world: World, *, processes: int = 4, tasks: int = 50, users: int = 4, episodes: int = 10) -> list[str]:
    """C1: again and again all tokens expire, and everybody asks for all of them at the same moment: one refresh an expiry, and no caller fails."""
    names = [f"user-{number}" for number in range(users)]
    begun = await world.begin(processes)
    await world.log_in(*names)
    found: list[str] = []
    for _ in range(episodes):
        await world.expire()
        outcomes = await asyncio.gather(*(process.ask("call", op="get", users=names, times=tasks // users) for process in begun))
        failed = [outcome for outcome_of_one in outcomes for outcome in outcome_of_one or ["died"] if outcome != "ok"]
        found += [f"P1: {len(failed)} callers failed at an expiry"] if failed else []
    await world.close()
    run = await world.record()
    found += k7_progress(run, bound=_PATIENCE * world.timing.timeout)
    return found + one_refresh_each(run, episodes, names) + await world.violations(run)


async def race(world: World, *, processes: int = 8, tasks: int = 4, users: int = 1, seconds: float = 10.0) -> list[str]:
    """The race that cost every other library the session: processes that use one stored token, whose access tokens live for two seconds or so."""
    names = [f"user-{number}" for number in range(users)]
    begun = await world.begin(processes)
    await world.log_in(*names)
    await asyncio.gather(*(process.ask("churn", users=names, tasks=tasks, seconds=seconds) for process in begun))
    await world.close()
    run = await world.record()
    found = [f"P1: {call.process} was told that the session of {call.user} is lost" for call in run.calls if call.error == "ReauthorizationRequired"]
    found += k7_progress(run, bound=_PATIENCE * world.timing.timeout)
    return found + needless_refreshes(run) + await world.violations(run)
