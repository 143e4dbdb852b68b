"""C5, C6, C8, C9, C12: servers that fail, stores that restart, clocks that are wrong, processes that fork (P7 to P11, P15)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from pauth.testing import Fault, faults
from tests.chaos.checkers import one_refresh_each
from tests.chaos.checkers_reads import k6_isolation
from tests.chaos.checkers_system import k7_progress, k8_rate, k9_canary, k10_resources
from tests.chaos.world import World

__all__ = ["REFUSALS", "SILENCES", "clocks", "failover", "outage", "prefork", "restarts", "server_faults"]

REFUSALS: Final[dict[str, Callable[[], Fault]]] = {
    "503": lambda: faults.status(503),
    "500 with JSON": lambda: faults.status(500, {"error": "server_error"}),
    "429 with seconds": lambda: faults.rate_limited(1),
    "429 with a date": lambda: faults.rate_limited(formatdate(time.time() + 2, usegmt=True)),
    "429 without": lambda: faults.rate_limited(None),
    "400 without JSON": lambda: faults.status(400, "no"),
}
"""Whole answers that are no token: the refresh token was not spent."""

SILENCES: Final[dict[str, Callable[[], Fault]]] = {
    "truncated JSON": lambda: faults.body('{"access_token": "CANARY-'),
    "a page": lambda: faults.body("<!doctype html><p>down for maintenance", content_type="text/html"),
    "no body": lambda: faults.body(b""),
    "reset": faults.drop_before,
    "hang": lambda: faults.hold(then=faults.drop_before()),
}
"""Answers of which nobody can tell whether the refresh token was spent. (It was not, so one more try finds the grant alive.)"""


async def server_faults(world: World, *, processes: int = 3, tasks: int = 5, users: int = 2, kinds: tuple[str, ...] | None = None) -> list[str]:
    """C6: the token endpoint fails in every way at the moment when all tokens have expired; in the end all grants are alive (P8)."""
    names = [f"user-{number}" for number in range(users)]
    begun = await world.begin(processes)
    await world.log_in(*names)
    server = world.double.server
    for name, fault in {**REFUSALS, **SILENCES}.items():
        if kinds is not None and name not in kinds:
            continue
        await world.expire()
        for user in names:
            world.double.disturb(fault(), times=2 if name in REFUSALS else 1, user=user)
        await asyncio.gather(*(process.ask("call", op="get", users=names, times=tasks) for process in begun))
        world.double.calm()
        if name in SILENCES:
            await world.rest()
        for process in begun:  # whoever was told to come back later does so
            for user in names:
                await world.served(process, user)
    healed = await world.heal(*names)
    await world.close()
    found = [f"P8: the server has revoked the grant of {user}" for user in names if server.family_revoked(user)]
    return found + await world.violations(healed=healed)


async def restarts(world: World, *, processes: int = 4, tasks: int = 4, users: int = 4, rounds: int = 3, pause: float = 1.0) -> list[str]:
    """C5: the store's server is killed and started again, or stands still, over and over, while all go on (P7: what was acknowledged is there)."""
    names = [f"user-{number}" for number in range(users)]
    begun = await world.begin(processes)
    await world.log_in(*names)
    seconds = rounds * (2 * pause + 2.0)
    churning = [process.begin("churn", users=names, tasks=tasks, seconds=seconds, refreshes=0.1) for process in begun]
    for number in range(rounds):
        await asyncio.sleep(pause)
        hangs = number % 2 == 1 and hasattr(world.store.server, "hang")
        await asyncio.to_thread(world.store.server.hang if hangs else world.store.server.kill)
        await asyncio.sleep(pause)
        await asyncio.to_thread(world.store.server.go_on if hangs else world.store.server.start)
    await asyncio.gather(*churning)
    healed = await world.heal(*names)
    await world.close()
    return await world.violations(healed=healed)


async def failover(world: World, *, processes: int = 3, tasks: int = 4, users: int = 4, seconds: float = 8.0) -> list[str]:
    """C5 with Sentinel: the master dies and its replica, which may lack the last writes, takes its place. What was lost costs a login at most, and is
    never another user's token (P7w, P13).
    """
    names = [f"user-{number}" for number in range(users)]
    begun = await world.begin(processes)
    await world.log_in(*names)
    churning = [process.begin("churn", users=names, tasks=tasks, seconds=seconds) for process in begun]
    await asyncio.sleep(seconds / 3)
    master, _, _ = world.store.server.servers
    await asyncio.to_thread(master.kill)
    await asyncio.gather(*churning)
    healed = await world.heal(*names)
    await world.close()
    run = await world.record()
    found = k7_progress(run, bound=world.timing.bound, healed=healed) + k9_canary(world.folder) + k6_isolation(run)
    last = {call.user: call for call in run.calls if call.t0 >= healed and call.op == "get_token"}
    return found + [f"P7w: {user} is not served in the end" for user in names if user not in last or last[user].error is not None]


async def outage(world: World, *, processes: int = 4, tasks: int = 10, users: int = 5, seconds: float = 8.0) -> list[str]:
    """C8: the server is down and everybody wants a token: requests are few; when it is back all are served (P10)."""
    names = [f"user-{number}" for number in range(users)]
    begun = await world.begin(processes)
    await world.log_in(*names)
    await world.expire()
    world.double.disturb(faults.status(503), times=None)
    begin = time.monotonic()
    await asyncio.gather(*(process.ask("churn", users=names, tasks=tasks, seconds=seconds, pause=0.2) for process in begun))
    end = time.monotonic()
    world.double.calm()
    healed = await world.heal(*names, rested=True)
    await world.close()
    run = await world.record()
    # back-off that doubles from half a second makes so many tries
    per_user = 2 + math.ceil(math.log2(max(2.0, (end - begin) / 0.5)))
    found = k8_rate(run, begin=begin, end=end, per_user=per_user, total=per_user * users, window=end - begin)
    return found + await world.violations(run, healed=healed)


async def clocks(world: World, *, offsets: tuple[float, ...] = (0.0, 300.0, -300.0, 60.0), steps: int = 18, step: float = 600.0) -> list[str]:
    """C9: each process has another time; hours pass, and one clock jumps by a day and back: no storm, and no token used long after its end (P11)."""
    lifetime = world.double.lifetime
    begun = [(await world.begin(1, wrong=offset))[0] for offset in offsets]
    await world.log_in("alice")
    for number in range(steps):
        await world.expire(step)
        if number in {steps // 2, steps // 2 + 1}:
            await begun[0].ask("clock", passed=world.passed, wrong=offsets[0] + (86_400.0 if number == steps // 2 else 0.0))
        for _ in range(2):
            await asyncio.gather(*(process.ask("call", op="use", users=["alice"], times=5) for process in begun))
    await world.close()
    run = await world.record()
    spread = max(offsets) - min(offsets)
    usual = math.ceil(steps * step / (lifetime - spread - min(300.0, lifetime / 10)))
    sent = len(run.refreshes())
    found = [] if sent <= usual + 2 else [f"P11: {sent} refreshes where {usual} are due and the jump may cost one each way"]
    ends = {entry.access_token_out: entry.at + lifetime for entry in world.double.server.ledger}
    late = [use.at - ends[use.access_token] for use in world.double.server.uses if use.outcome == "invalid_token"]
    found += [f"P11: a token was used {max(late):.0f} s after its end"] if late and max(late) > spread + step else []
    return found + await world.violations(run)


async def prefork(world: World, *, processes: int = 8, tasks: int = 10, episodes: int = 3) -> list[str]:
    """C12: a server makes its client, then forks; all its workers use that client: one refresh an expiry, and nothing is left open (P15)."""
    begun = await world.begin(processes, prefork=True)
    await world.log_in("alice")
    await asyncio.gather(*(process.ask("call", op="get", users=["alice"]) for process in begun))
    await asyncio.gather(*(process.ask("usage", label="base") for process in begun))
    for _ in range(episodes):
        await world.expire()
        await asyncio.gather(*(process.ask("call", op="get", users=["alice"], times=tasks) for process in begun))
    await asyncio.gather(*(process.ask("usage", label="end", seconds=15.0) for process in begun))
    await world.close()
    run = await world.record()
    return one_refresh_each(run, episodes, ["alice"]) + k10_resources(run) + await world.violations(run)
