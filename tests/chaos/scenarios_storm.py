"""The default harness: everything at once, at random, for a while (P1 to P8, P13, P14)."""

from __future__ import annotations

import asyncio
import random
import time

from pauth.testing import faults
from tests.chaos.fleet import Process
from tests.chaos.nemesis import FAILPOINTS
from tests.chaos.world import World

__all__ = ["storm"]

_REFUSALS = (faults.status(503), faults.rate_limited(1), faults.status(500, {"error": "server_error"}))
_REFRESHES = 0.02


async def storm(world: World, *, processes: int = 4, tasks: int = 50, users: int = 20, seconds: float = 10.0, pause: float = 0.5) -> list[str]:
    """Processes use short-lived tokens while one after the other is killed, at any place or at a failpoint, or stopped for a while.

    Answers are refused or cut, and users who are asked to log in do so.
    """
    names = [f"user-{number}" for number in range(users)]
    dice = random.Random(world.seed)
    await world.log_in(*names)
    end = time.monotonic() + seconds

    async def begin() -> Process:
        (begun,) = await world.begin(1, seed=dice.randrange(1 << 30))
        _ = begun.begin("churn", users=names, tasks=tasks, seconds=max(0.0, end - time.monotonic()), refreshes=_REFRESHES, pause=1.0)
        return begun

    await asyncio.gather(*(begin() for _ in range(processes)))
    while time.monotonic() < end:
        await asyncio.sleep(dice.uniform(0.0, pause))
        await _harm(world, dice)
        for process in world.alive:
            process.go_on() if process.stopped and dice.random() < 0.2 else None
        for _ in range(processes - len([process for process in world.alive if not process.stopped])):
            await begin()
        await _log_in_who_must(world)
    world.double.calm()
    for process in world.alive:
        process.go_on()
        await process.ask("order", orders="")
    healed = await world.heal(*names, rested=True)
    await world.close()
    return await world.violations(healed=healed)


async def _harm(world: World, dice: random.Random) -> None:
    moving = [process for process in world.alive if not process.stopped]
    if not moving:
        return
    victim = dice.choice(moving)
    what = dice.random()
    if what < 0.2:
        victim.kill()
    elif what < 0.5:
        await victim.ask("order", orders=f"{dice.choice(FAILPOINTS)}:{dice.choice(('kill', 'stop'))}@{dice.randrange(1, 4)}")
    elif what < 0.7:
        victim.stop()
    elif what < 0.85:
        world.double.disturb(dice.choice(_REFUSALS), times=dice.randrange(1, 3))
    else:
        world.double.disturb(faults.cut(dice.randrange(600)))


async def _log_in_who_must(world: World) -> None:
    mourned: set[str] = set()
    for process in world.alive:
        if not process.stopped:
            answer = process.begin("mourned")
            done, _ = await asyncio.wait((answer,), timeout=1.0)
            mourned.update(answer.result() or () if done else ())
    await world.log_in(*sorted(mourned))
