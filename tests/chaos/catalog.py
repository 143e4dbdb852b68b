"""All scenarios by name, with what each needs; and how one is run."""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.chaos.double import Double
from tests.chaos.fleet import Fleet
from tests.chaos.nemesis import FAILPOINTS
from tests.chaos.scenarios_crash import abandon, crash, crash_without_store, pause, terminate
from tests.chaos.scenarios_faults import REFUSALS, SILENCES, clocks, failover, outage, prefork, restarts, server_faults
from tests.chaos.scenarios_herd import herd, race
from tests.chaos.scenarios_storm import storm
from tests.chaos.stores import Servers
from tests.chaos.world import Timing, World

__all__ = ["LEASES", "SCENARIOS", "Outcome", "Scenario", "run_scenario"]

LEASES: Final = (0.5, 1.0, 3.0)
"""For how many leases a process stands still."""

_UNHURRIED: Final = Timing(timeout=15.0, lease_margin=5.0)
"""Where nothing is to fail, nothing may be given up because the machine is busy."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done, and in what surroundings."""

    work: Callable[[World], Awaitable[list[str]]]
    timing: Timing = field(default_factory=Timing)
    lifetime: float = 3600.0
    """Seconds an access token lives."""

    own_server: bool = False
    """Whether it kills the store's server."""


async def _crash(failpoint: str, world: World) -> list[str]:
    return await (crash if world.store.lasting else crash_without_store)(world, failpoint)


SCENARIOS: Final[dict[str, Scenario]] = {
    "herd": Scenario(herd, _UNHURRIED),
    "race": Scenario(race, _UNHURRIED, lifetime=2.0),
    **{f"crash:{name}": Scenario(partial(_crash, name)) for name in FAILPOINTS},
    **{f"pause:{name}:{leases:g}": Scenario(partial(pause, failpoint=name, leases=leases)) for name in FAILPOINTS for leases in LEASES},
    "terminate:store-back": Scenario(partial(terminate, up_again=True)),
    "terminate:store-gone": Scenario(partial(terminate, up_again=False)),
    "terminate:cancelled": Scenario(partial(terminate, up_again=True, cancelled=True)),
    "abandon": Scenario(abandon, _UNHURRIED),
    "faults": Scenario(server_faults),
    **{f"faults:{name}": Scenario(partial(server_faults, kinds=(name,))) for name in (*REFUSALS, *SILENCES)},
    "restarts": Scenario(restarts, Timing(timeout=4.0), lifetime=2.0, own_server=True),
    "failover": Scenario(failover, Timing(timeout=4.0), lifetime=2.0),
    "outage": Scenario(outage),
    "clocks": Scenario(clocks, _UNHURRIED),
    "prefork": Scenario(prefork, _UNHURRIED),
    "storm": Scenario(storm, lifetime=2.0),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a scenario ended."""

    scenario: str
    driver: str
    rotation: str
    found: list[str]
    seconds: float
    folder: Path
    seed: int = 0

    @property
    def command(self) -> str:
        """What runs it again."""
        return f"python -m tests.chaos run '{self.scenario}' --driver {self.driver} --rotation {self.rotation} --seed {self.seed}"


async def run_scenario(
    name: str, fleet: Fleet, servers: Servers, folder: Path, *, driver: str, rotation: str, seed: int = 0, scenario: Scenario | None = None
) -> Outcome:
    """Run the scenario of this ``name`` (or ``scenario``) with a server of that class, on a store of that driver."""
    chosen = scenario or SCENARIOS[name]
    place = folder / f"{name.replace(':', '-').replace(' ', '-')}-{driver}-{rotation}-{seed}"
    place.mkdir(parents=True)
    begin = time.monotonic()
    async with Double(rotation=rotation, lifetime=chosen.lifetime) as double:
        store = await servers.store(driver, place, own=chosen.own_server)
        async with World(fleet, double, store, place, chosen.timing, seed=seed) as world:
            try:
                found = await chosen.work(world)
            except Exception:  # noqa: BLE001  # one broken run of many is told, and the others go on
                found = [f"harness: {traceback.format_exc()}"]
    return Outcome(name, driver, rotation, found, time.monotonic() - begin, place, seed)
