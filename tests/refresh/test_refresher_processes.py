"""Workers in several processes on one store, some of which are killed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pauth.refresh.progress import RefresherProgress
from pauth.storage import CoordinatedTokenStorage, RecordKey
from pauth.testing import AuthorizationServer, Client, faults
from tests.refresh.kit import LIFETIME, NAMESPACE
from tests.refresh.refresher_program import CONCURRENCY, open_client, open_storage
from tests.refresh.refreshers import granted, sums_up, users
from tests.storage.kit import KEY
from tests.support.redis_servers import valkey
from tests.support.sql_servers import installed_postgres, postgres

__all__ = ["installed_postgres", "postgres", "valkey"]

ROOT = Path(__file__).parents[2]
STORES = [
    "sqlite",
    pytest.param("postgres", marks=[pytest.mark.servers, pytest.mark.xdist_group("postgres")]),
    pytest.param("valkey", marks=[pytest.mark.servers, pytest.mark.xdist_group("valkey")]),
]


@dataclass
class Fleet:
    """A server, a store, and workers in processes of their own."""

    server: AuthorizationServer
    registered: Client
    told: dict[str, Any]
    storage: CoordinatedTokenStorage
    workers: list[Process] = field(default_factory=list[Process])

    async def log_in_all(self, names: Sequence[str]) -> None:
        """Users whose tokens have expired a moment ago."""
        async with open_client(self.storage, self.told) as client:
            issued_at = client._clock.time() - LIFETIME  # pyright: ignore[reportPrivateUsage]
            for name in names:
                token = granted(self.server, self.registered, name, issued_at=issued_at)
                await client._tokens.login(RecordKey(NAMESPACE, name), token)  # pyright: ignore[reportPrivateUsage]

    async def start(self) -> Process:
        """A worker that is ready to begin."""
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.refresh.refresher_program", stdin=PIPE, stdout=PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}
        )
        self.workers.append(worker)
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(self.told).encode() + b"\n")
        assert await worker.stdout.readline() == b"ready\n"
        return worker

    async def go(self, worker: Process) -> None:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        await worker.stdin.drain()

    async def outcome(self, worker: Process) -> RefresherProgress:
        output, _ = await worker.communicate()
        assert worker.returncode == 0
        return RefresherProgress(**json.loads(output))

    def exchanged(self) -> Counter[str | None]:
        """How often each user's refresh token was exchanged; anything that was refused has no place here."""
        entries = self.server.ledger.select(endpoint="token", grant_type="refresh_token")
        assert [entry.outcome for entry in entries if entry.outcome != "ok"] == []
        return Counter(entry.user for entry in entries)


@pytest.fixture(params=STORES)
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Each store, empty."""
    kind: str = request.param
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/tokens.db"
    elif kind == "postgres":
        url = request.getfixturevalue(kind).account()
    else:
        url = request.getfixturevalue(kind).url
    async with AuthorizationServer(rotation="RSF", secret_marker="CANARY-") as server:
        registered = server.register_client()
        told: dict[str, Any] = {
            "url": url,
            "key": KEY.to_string().reveal(),
            "prefix": f"refresher-{os.getpid()}-{tmp_path.name}",
            "namespace": NAMESPACE,
            "client_id": registered.client_id,
            "client_secret": registered.client_secret,
            "authorization_endpoint": server.authorization_endpoint,
            "token_endpoint": server.token_endpoint,
            "timeout": 2.0,  # so long others wait for who was killed
        }
        storage = open_storage(told["url"], told["key"], told["prefix"])
        made = Fleet(server, registered, told, storage)
        yield made
        for worker in made.workers:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
        await storage.aclose()


async def test_processes_share_the_load_and_refresh_nothing_twice_p1(fleet: Fleet) -> None:
    await fleet.log_in_all(users(150))
    fleet.told["timeout"] = 60.0
    arrived = 0

    def count(_: object) -> bool:
        nonlocal arrived
        arrived += 1
        return True

    # or the first one would have done it all before the others begin
    held = fleet.server.script("token", faults.hold(), times=None, when=count)
    workers = await asyncio.gather(*(fleet.start() for _ in range(3)))
    await asyncio.gather(*(fleet.go(worker) for worker in workers))
    while arrived <= 2 * CONCURRENCY:  # what two of them can do at once: the third one is at it too
        assert all(worker.returncode is None for worker in workers)
        await asyncio.sleep(0.01)  # the processor is theirs
    held.release()
    done = await asyncio.gather(*(fleet.outcome(worker) for worker in workers))
    assert fleet.exchanged() == Counter(users(150))
    assert sum(each.refreshed for each in done) == 150
    assert all(each.refreshed > 0 for each in done)
    assert all(sums_up(each) and not each.failed and not each.dead for each in done)
    for record in await fleet.storage.get_many([RecordKey(NAMESPACE, name) for name in users(150)]):
        assert record is not None
        assert not isinstance(record, Exception)
        assert record.expires_at is not None
        assert record.expires_at > record.stored_at + LIFETIME - 60


async def test_a_worker_that_is_killed_leaves_nothing_undone_p5(fleet: Fleet) -> None:
    await fleet.log_in_all(users(60))
    held = fleet.server.script("token", faults.hold(), times=None)  # what it sends is not applied
    victim, heir = await asyncio.gather(fleet.start(), fleet.start())
    await fleet.go(victim)
    await held.arrived.wait()
    victim.kill()
    await victim.wait()
    fleet.server.clear_script()
    await fleet.go(heir)
    assert (await fleet.outcome(heir)).refreshed == 60
    assert fleet.exchanged() == Counter(users(60))
