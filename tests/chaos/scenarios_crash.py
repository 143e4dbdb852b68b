"""C2, C3, C4: a process is killed, stopped or told to end in the middle of a refresh, and others go on (P2 to P6)."""

from __future__ import annotations

import asyncio
import signal

from pauth.testing import faults
from tests.chaos.checkers import lost_rotations
from tests.chaos.fleet import Process
from tests.chaos.nemesis import FAILPOINTS
from tests.chaos.world import World

__all__ = ["abandon", "crash", "crash_without_store", "pause", "terminate"]

_USER = "alice"


async def crash(world: World, failpoint: str, *, others: int = 2) -> list[str]:
    """C2: the process that refreshes is killed at ``failpoint``, while others wait for it where they can; they get a token, or an honest answer."""
    holder, *rest = await world.begin(1 + others)
    await world.log_in(_USER)
    await world.expire()
    waits = FAILPOINTS.index(failpoint) > FAILPOINTS.index("after_lease")
    # Who holds the lease stands still for a moment, in which the others come to wait for it.
    await holder.ask("order", orders=f"after_lease:sleep:0.1,{failpoint}:kill" if waits else f"{failpoint}:kill")
    ended = holder.begin("call", op="get", users=[_USER], times=3)
    if waits:
        await world.until(lambda: world.reached(holder, "after_lease") or ended.done())
    else:
        await ended
    await asyncio.gather(*(process.ask("call", op="get", users=[_USER], times=3) for process in rest))
    found = await _was_killed(holder, failpoint, ended)
    healed = await world.heal(_USER)
    await world.close()
    return found + await world.violations(healed=healed)


async def crash_without_store(world: World, failpoint: str) -> list[str]:
    """C2 where the store dies with its process: the next one knows nothing, says so, and serves who logs in again. Nothing was sent twice."""
    (holder,) = await world.begin(1)
    await world.log_in(_USER, at=holder)
    await world.expire()
    await holder.ask("order", orders=f"{failpoint}:kill")
    ended = holder.begin("call", op="get", users=[_USER], times=3)
    found = await _was_killed(holder, failpoint, ended)
    (after,) = await world.begin(1)
    healed = await world.heal(_USER, at=after)
    await world.close()
    run = await world.record()
    found += [f"P5: {call.reason} of a store that is empty" for call in run.calls if call.reason not in {None, "not_logged_in"}]
    return found + await world.violations(run, healed=healed)


async def _was_killed(process: Process, failpoint: str, ended: asyncio.Future[object]) -> list[str]:
    """A fault that did not happen proves nothing."""
    outcome = await ended
    if outcome is not None:
        return [f"harness: nobody came to {failpoint}; the calls gave {outcome}"]
    await process.over.wait()
    return []


async def pause(world: World, failpoint: str, leases: float, *, others: int = 2) -> list[str]:
    """C3: the process that refreshes stands still at ``failpoint`` for so many ``leases``; others go on, and when it wakes it harms nobody."""
    holder, *rest = await world.begin(1 + others)
    await world.log_in(_USER)
    await world.expire()
    await holder.ask("order", orders=f"{failpoint}:stop")
    ended = holder.begin("call", op="get", users=[_USER], times=3)
    stands = await world.until(lambda: holder.stopped or ended.done())
    found = [] if stands and holder.stopped else [f"harness: nobody came to {failpoint}"]
    waiting = [process.begin("call", op="get", users=[_USER], times=3) for process in rest]
    await asyncio.sleep(leases * world.timing.lease)
    holder.go_on()
    await asyncio.gather(ended, *waiting)
    healed = await world.heal(_USER)
    await world.close()
    return found + await world.violations(healed=healed)


async def terminate(world: World, *, up_again: bool, cancelled: bool = False) -> list[str]:
    """C4: a process that has received a rotated token loses its store, and is told to end; what it received is not lost (P4).

    :param up_again: the store comes back before the process has ended; else only the next process finds it again.
    :param cancelled: all callers have left before.
    """
    (holder,) = await world.begin(1)
    await world.log_in(_USER)
    await world.expire()
    await holder.ask("order", orders="after_response:cut")
    ended = holder.begin("call", op="get", users=[_USER], times=3)
    number = holder.last
    reached = await world.until(lambda: world.reached(holder, "after_response") or ended.done())
    found = [] if reached and world.reached(holder, "after_response") else ["harness: nobody came to after_response"]
    if cancelled:
        await holder.ask("cancel", call=number)
    holder.signal(signal.SIGTERM)
    if up_again:
        await asyncio.sleep(1.0)
        await holder.ask("down", down=False)
    await holder.over.wait()
    (after,) = await world.begin(1)
    outcome = await after.ask("call", op="get", users=[_USER])
    found += [] if outcome == ["ok"] else [f"P4: the next process was given {outcome}"]
    healed = await world.heal(_USER)
    await world.close()
    run = await world.record()
    found += [f"P4: a token that was received for {each.user} was never stored" for each in lost_rotations(run, _USER)]
    return found + await world.violations(run, healed=healed)


async def abandon(world: World) -> list[str]:
    """C4: all callers go away while the server, which has rotated the token, takes its time; the answer is stored all the same (P4, P14)."""
    holder, other = await world.begin(2)
    await world.log_in(_USER)
    await world.expire()
    slow = faults.hold(applied=True)
    world.double.disturb(slow)
    left = holder.begin("call", op="get", users=[_USER], times=3)
    number = holder.last
    await slow.arrived.wait()
    waiting = other.begin("call", op="get", users=[_USER], times=3)
    await holder.ask("cancel", call=number)
    found = [] if await left == ["cancelled"] * 3 else ["P14: a caller who was cancelled did not go"]
    world.double.calm()
    outcomes = await waiting
    found += [] if outcomes == ["ok"] * 3 else [f"P14: those who had not been cancelled were given {outcomes}"]
    run = await world.record()
    found += [f"P4: a token that was received for {each.user} was never stored" for each in lost_rotations(run, _USER)]
    healed = await world.heal(_USER)
    await world.close()
    return found + await world.violations(healed=healed)
