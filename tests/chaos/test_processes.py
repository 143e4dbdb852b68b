"""The quick part of the chaos harness: real processes on real stores, in minutes. ``python -m tests.chaos matrix`` is the whole.

A test is one scenario, or several at once, since most of their time is waiting for leases to run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.catalog import SCENARIOS, run_scenario
from tests.chaos.fleet import Fleet
from tests.chaos.nemesis import FAILPOINTS
from tests.chaos.real import RealAuthority, metadata_of
from tests.chaos.scenarios_herd import race
from tests.chaos.stores import DRIVERS, Servers
from tests.chaos.world import World
from tests.support.servers import running_oidc_provider

pytestmark = pytest.mark.asyncio(loop_scope="module")

_AT_ONCE: Final = 8
_TELLING: Final = ("after_intent", "after_send", "after_response", "mid_commit")
"""Failpoints between which the cases differ."""


async def violations(fleet: Fleet, servers: Servers, folder: Path, names: Iterable[str], driver: str, rotations: Iterable[str]) -> list[str]:
    """What the checkers found, each with the command that runs it again."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str, rotation: str) -> list[str]:
        async with gate:
            outcome = await run_scenario(name, fleet, servers, folder, driver=driver, rotation=rotation)
        return [f"{outcome.command}: {found}" for found in outcome.found]

    assert set(names) <= SCENARIOS.keys()
    return [found for each in await asyncio.gather(*(one(name, rotation) for name in names for rotation in rotations)) for found in each]


@pytest.mark.parametrize(("driver", "rotation"), [("sqlite", "RSF"), ("file", "NR"), ("redis", "RSF"), ("postgres", "RU"), ("mariadb", "RSF")])
async def test_everybody_at_every_expiry_makes_one_refresh_p1(fleet: Fleet, servers: Servers, tmp_path: Path, driver: str, rotation: str) -> None:
    """C1: K1 K2 K7, and exactly one request an expiry."""
    assert await violations(fleet, servers, tmp_path, ["herd"], driver, [rotation]) == []


async def test_eight_processes_on_one_token_that_lives_two_seconds_lose_no_session_p1(fleet: Fleet, servers: Servers, tmp_path: Path) -> None:
    """The race in which other libraries lose the user's session at the first expiry."""
    assert await violations(fleet, servers, tmp_path, ["race"], "redis", ["RSF"]) == []


async def test_eight_processes_at_oidc_provider_lose_no_session_p1(fleet: Fleet, servers: Servers, tmp_path: Path) -> None:
    """The same at a certified server, with rotation and reuse detection."""
    (tmp_path / "provider").mkdir()
    with running_oidc_provider(tmp_path / "provider", access_token_lifetime=2) as server:
        authority = RealAuthority(server, await metadata_of(server.issuer), lifetime=2.0)
        store = await servers.store("sqlite", tmp_path)
        async with World(fleet, authority, store, tmp_path / "run", SCENARIOS["race"].timing) as world:
            assert await race(world) == []
            assert len((await world.record()).attempts) >= 3


async def test_a_process_killed_at_any_place_of_a_refresh_p2_p3_p5(fleet: Fleet, servers: Servers, tmp_path: Path) -> None:
    """C2: K1 to K7."""
    found = await violations(fleet, servers, tmp_path, [f"crash:{name}" for name in FAILPOINTS], "sqlite", ["RSF"])
    assert found + await violations(fleet, servers, tmp_path, [f"crash:{name}" for name in _TELLING], "sqlite", ["NR", "RU"]) == []


@pytest.mark.parametrize("driver", [driver for driver in DRIVERS if driver != "sqlite"])
async def test_a_process_killed_on_every_other_driver_p2_p3_p5(fleet: Fleet, servers: Servers, tmp_path: Path, driver: str) -> None:
    """C2."""
    assert await violations(fleet, servers, tmp_path, [f"crash:{name}" for name in _TELLING], driver, ["RSF", "RG"]) == []


async def test_a_process_that_stands_still_and_wakes_up_harms_nobody_p6(fleet: Fleet, servers: Servers, tmp_path: Path) -> None:
    """C3: K1 K3 K6."""
    names = [f"pause:{name}:1" for name in FAILPOINTS] + ["pause:mid_send:3", "pause:after_send:3", "pause:before_commit:3"]
    assert await violations(fleet, servers, tmp_path, names, "sqlite", ["RSF"]) == []


async def test_a_process_that_stands_still_on_redis_p6(fleet: Fleet, servers: Servers, tmp_path: Path) -> None:
    """C3: leases on the server's clock."""
    assert await violations(fleet, servers, tmp_path, [f"pause:{name}:1" for name in _TELLING], "redis", ["RSF", "RU"]) == []


async def test_a_rotation_that_was_received_outlives_cancelled_callers_sigterm_and_a_store_that_is_down_p4(
    fleet: Fleet, servers: Servers, tmp_path: Path
) -> None:
    """C4: nothing that the server rotated is lost."""
    names = ["abandon", *(name for name in SCENARIOS if name.startswith("terminate:"))]
    assert await violations(fleet, servers, tmp_path, names, "sqlite", ["RSF"]) == []


async def test_a_token_endpoint_that_fails_in_every_way_kills_no_grant_p8(fleet: Fleet, servers: Servers, tmp_path: Path) -> None:
    """C6."""
    names = [name for name in SCENARIOS if name.startswith("faults:")]
    assert await violations(fleet, servers, tmp_path, names, "sqlite", ["RSF"]) == []


async def test_an_outage_is_met_with_few_requests_and_is_over_when_it_is_over_p10(fleet: Fleet, servers: Servers, tmp_path: Path) -> None:
    """C8: K8."""
    assert await violations(fleet, servers, tmp_path, ["outage"], "sqlite", ["RSF"]) == []


async def test_processes_with_wrong_clocks_refresh_no_more_than_others_p11(fleet: Fleet, servers: Servers, tmp_path: Path) -> None:
    """C9."""
    assert await violations(fleet, servers, tmp_path, ["clocks"], "sqlite", ["RSF"]) == []


async def test_workers_forked_of_one_that_made_the_client_p15(fleet: Fleet, servers: Servers, tmp_path: Path) -> None:
    """C12: K2 K7 K10."""
    assert await violations(fleet, servers, tmp_path, ["prefork"], "postgres", ["RSF"]) == []


@pytest.mark.parametrize("driver", ["redis", "postgres"])
async def test_a_store_that_is_killed_and_comes_back_p7(fleet: Fleet, servers: Servers, tmp_path: Path, driver: str) -> None:
    """C5: K3 K4 on a server of their own."""
    assert await violations(fleet, servers, tmp_path, ["restarts"], driver, ["RSF"]) == []


async def test_a_failover_to_a_replica_costs_a_login_at_most_p7w(fleet: Fleet, servers: Servers, tmp_path: Path) -> None:
    """C5 with Sentinel: never another user's token, and everybody is served in the end."""
    assert await violations(fleet, servers, tmp_path, ["failover"], "sentinel", ["RSF"]) == []


@pytest.mark.parametrize(("driver", "rotation"), [("sqlite", "RSF"), ("redis", "RU")])
async def test_everything_at_once(fleet: Fleet, servers: Servers, tmp_path: Path, driver: str, rotation: str) -> None:
    """The default harness for ten seconds: K1 to K7 and K9."""
    assert await violations(fleet, servers, tmp_path, ["storm"], driver, [rotation]) == []
