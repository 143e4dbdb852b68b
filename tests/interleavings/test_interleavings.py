"""P1-P9 in every order: seeded interleavings of several processes on one store, with kills, stops, lost answers and a failing store.

A failure names its seed: ``run(seed)`` in a debugger goes the same way again. The number of seeds is ``PAUTH_TEST_INTERLEAVINGS``, for all tests here
together.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Final

import pytest

from pauth.core.quirks import RotationClass
from pauth.errors import PAuthError, ReauthorizationRequired
from tests.interleavings.check import dropped, violations
from tests.interleavings.loop import Stuck, VirtualLoop
from tests.interleavings.sim import KEY, LIFETIME, Sim

TOTAL: Final = int(os.environ.get("PAUTH_TEST_INTERLEAVINGS", "4000"))
CHUNKS: Final = 4
KINDS: Final = tuple(RotationClass)
FORGIVING: Final = {RotationClass.NR, RotationClass.RO, RotationClass.RU}


def run(seed: int, *, disturb: bool) -> tuple[list[str], Sim]:
    """One run: a few processes ask for an expired token; then, if somebody was disturbed, a new process asks when all is quiet."""
    random.seed(seed)  # the pauses between two looks at a record are drawn from it
    sim = Sim.make(seed, KINDS[seed % len(KINDS)])
    loop, chance = sim.loop, sim.loop.random
    processes = chance.choice((2, 2, 3))

    async def scene() -> None:
        await sim.log_in()
        coordinators = [sim.coordinator() for _ in range(processes)]
        if disturb:
            _disturb(sim, processes)
        tasks = [sim.begin(number + 1, each) for number, each in enumerate(coordinators) for _ in range(chance.choice((1, 1, 2)))]
        await asyncio.sleep(chance.random() * 0.02)
        await asyncio.wait(tasks, timeout=600)

    loop.finish(scene())
    wrong = [*violations(sim, undisturbed=not disturb), *dropped(sim)]
    if disturb:
        wrong += loop.finish(_aftermath(sim))
    loop.wind_up()
    return wrong, sim


def _disturb(sim: Sim, processes: int) -> None:
    loop = sim.loop
    chance = loop.random
    kind = chance.randrange(7)

    def kill(number: int) -> None:
        sim.killed.add(number)
        loop.kill(number)

    at = loop.steps + chance.randrange(1, 120)
    if kind == 0:
        loop.at_step[at] = kill
    elif kind == 1:
        length = chance.choice((1.0, 8.0, 20.0, 60.0))
        loop.at_step[at] = loop.stopping(length)
    elif kind == 2:
        sim.store.refuse, sim.store.lose = 0.05, 0.05
    elif kind == 3:
        sim.server.lose_answer, sim.server.lose_request = 0.4, 0.2
    elif kind == 4:
        sim.server.unavailable = 0.6
    elif kind == 5:
        loop.at_step[at] = sim.store.lose_lease
        sim.server.slow = 0.3
    else:
        sim.server.slow = 0.7
        loop.at_step[at] = kill
    if chance.random() < 0.3:
        loop.at_step.setdefault(loop.steps + chance.randrange(1, 160), loop.stopping(17.0))
    del processes


async def _aftermath(sim: Sim) -> list[str]:
    """K7: when the faults have stopped every user gets a token, or has to log in where a strict server leaves no other way; never for long."""
    sim.store.refuse = sim.store.lose = 0.0
    sim.server.unavailable = sim.server.lose_answer = sim.server.lose_request = sim.server.slow = 0.0
    sim.loop.at_step.clear()
    wrong: list[str] = []
    for round_ in range(2):
        await asyncio.sleep(LIFETIME * 2)  # back-off is over, and the token has expired
        coordinator = sim.coordinator()
        try:
            token = await coordinator.get(KEY)
            sim.server.use(token)
        except ReauthorizationRequired as error:
            if sim.server.kind in FORGIVING:
                wrong.append(f"P5: {error.reason} at a server that forgives (round {round_})")
            ambiguous = [each for each in sim.server.sends if each.applied]
            if not ambiguous and sim.server.kind not in FORGIVING and error.reason != "ambiguous_rotation":
                wrong.append(f"P8: {error.reason} though the server took nothing")
            return [*wrong, *_forks_only(sim)]
        except PAuthError as error:
            wrong.append(f"K7: {type(error).__name__} ({error}) when all is quiet (round {round_})")
            return wrong
    return [*wrong, *_forks_only(sim)]


def _forks_only(sim: Sim) -> list[str]:
    return [each for each in violations(sim, undisturbed=False) if each.startswith(("K1", "K3"))]


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("disturb", [False, True])
def test_p1_to_p9_hold_in_every_order(chunk: int, disturb: bool) -> None:
    orders: set[int] = set()
    number = TOTAL // CHUNKS // 2
    for seed in range(chunk * number, (chunk + 1) * number):
        wrong, sim = run(seed, disturb=disturb)
        assert not wrong, f"seed {seed}, disturb={disturb}, class {sim.server.kind.name}: {wrong}"
        orders.add(hash((seed if disturb else 0, tuple(sim.loop.order))))
    assert len(orders) > number * 0.9


def test_the_same_seed_goes_the_same_way() -> None:
    for seed in (1, 7, 42):
        assert run(seed, disturb=True)[1].loop.order == run(seed, disturb=True)[1].loop.order


async def _nothing() -> None:
    await asyncio.Event().wait()


def test_work_that_never_ends_is_found() -> None:
    loop = VirtualLoop(1)
    with pytest.raises(Stuck):
        loop.finish(_nothing())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.wind_up()  # or it would complain in the middle of another test, when the collector finds it
