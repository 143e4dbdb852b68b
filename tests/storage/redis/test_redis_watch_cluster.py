"""Watching a cluster: every server that takes writes, or nothing is said to be sure."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from redis.asyncio import RedisCluster

from pauth.storage.identity import row_id
from pauth.storage.redis.links import ClusterLinks
from pauth.storage.redis.rows import SLOTS
from tests.storage.redis.kit import driver_at, one_per_shard, put, storage_at
from tests.storage.redis.watch_kit import Told, becomes, listeners
from tests.support.redis_servers import RedisServer, RedisSystem

USERS = one_per_shard()
ROWS = {row_id("", user) for user in USERS}


async def began(told: Told) -> None:
    """Each server that is found says that changes may have been missed."""
    for _ in range(3):
        assert await told.next() is None


async def test_every_server_of_a_cluster_is_heard_and_the_last_watch_ends_it_p19(redis_cluster: RedisSystem, prefix: str) -> None:
    storage, writer = storage_at(redis_cluster.url, prefix=prefix), driver_at(redis_cluster.url, prefix=prefix)
    tasks = asyncio.all_tasks()
    told = Told()
    watch = await storage.watch(told)
    assert watch.watching
    await began(told)
    assert [len(listeners(server)) for server in redis_cluster.servers] == [1, 1, 1]
    assert await writer.put_many([put(user) for user in USERS]) == [1] * 32
    assert {await told.next() for _ in USERS} == ROWS
    await watch.stop()
    assert asyncio.all_tasks() == tasks
    await becomes(lambda: not any(listeners(server) for server in redis_cluster.servers))
    assert len(told.all) == 35
    await writer.aclose()
    await storage.aclose()


async def test_a_cluster_client_of_the_users_is_watched(redis_cluster: RedisSystem, prefix: str) -> None:
    client = cast("Any", RedisCluster)(host="127.0.0.1", port=redis_cluster.servers[0].port, decode_responses=True)
    storage, writer = storage_at(client, prefix=prefix), driver_at(redis_cluster.url, prefix=prefix)
    watch = await storage.watch(told := Told())
    await began(told)
    assert watch.watching
    await writer.put_many([put(user) for user in USERS])
    assert {await told.next() for _ in USERS} == ROWS
    await storage.aclose()
    await writer.aclose()
    await client.aclose()


async def test_a_server_that_is_gone_leaves_nothing_sure_until_it_is_back(own_cluster: RedisSystem, prefix: str) -> None:
    storage, writer = storage_at(own_cluster.url, prefix=prefix), driver_at(own_cluster.url, prefix=prefix)
    watch = await storage.watch(told := Told())
    await began(told)
    own_cluster.servers[2].kill()
    assert await told.next() is None
    assert not watch.watching
    await writer.put_many([put(USERS[0])])
    assert await told.next() == row_id("", USERS[0])  # the others are heard
    late = await storage.watch(Told())
    assert not late.watching
    own_cluster.servers[2].start()
    assert await told.next() is None
    await becomes(lambda: watch.watching)
    await storage.aclose()
    await writer.aclose()


async def test_a_server_that_hangs_delays_the_first_watch_no_longer_than_the_timeout_p9(own_cluster: RedisSystem, prefix: str) -> None:
    storage = storage_at(own_cluster.url, prefix=prefix, timeout=0.5)
    own_cluster.servers[2].hang()
    watch = await storage.watch(told := Told())
    assert not watch.watching
    own_cluster.servers[2].go_on()
    await began(told)
    await becomes(lambda: watch.watching)
    await storage.aclose()


async def test_a_cluster_that_is_not_there_is_found_when_it_is(own_cluster: RedisSystem, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClusterLinks, "moves_within", 0.01)
    for server in own_cluster.servers:
        server.hang()
    storage = storage_at(own_cluster.url, prefix=prefix, timeout=0.3)
    watch = await storage.watch(told := Told())
    assert not watch.watching
    assert told.all == []
    for server in own_cluster.servers:
        server.go_on()
    await becomes(lambda: watch.watching)
    await storage.aclose()


async def test_who_takes_over_slots_is_heard_and_who_has_none_any_more_is_not(
    own_cluster: RedisSystem, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClusterLinks, "moves_within", 0.01)
    storage = storage_at(own_cluster.url, prefix=prefix)
    _move_all(own_cluster.servers, source=0, target=1)
    watch = await storage.watch(told := Told())
    assert await told.next() is None
    assert await told.next() is None
    assert watch.watching
    assert [len(listeners(server)) for server in own_cluster.servers] == [0, 1, 1]

    _move_all(own_cluster.servers, source=1, target=0)
    await becomes(lambda: [len(listeners(server)) for server in own_cluster.servers] == [1, 0, 1])
    assert await told.next() is None  # of the one that came
    assert await told.next() is None  # of the one that left
    await becomes(lambda: watch.watching)
    writer = driver_at(own_cluster.url, prefix=prefix)
    while not set(told.all) >= ROWS:  # servers that do not agree yet on who has which slot are left and found again
        await writer.put_many([put(user) for user in USERS])
        await asyncio.sleep(0.01)
    await storage.aclose()
    await writer.aclose()


def _move_all(servers: list[RedisServer], *, source: int, target: int) -> None:
    """Let another server have the slots of our keys, which must be empty."""
    clients = [server.client() for server in servers]
    names = [str(client.execute_command("CLUSTER MYID"), "ascii") for client in clients]
    mine = {
        slot
        for line in cast("dict[str, dict[str, Any]]", clients[0].execute_command("CLUSTER NODES")).values()
        if line["node_id"] == names[source]
        for first, *last in line["slots"]
        for slot in range(int(first), int((last or [first])[0]) + 1)
        if slot in SLOTS
    }
    for slot in mine:
        for client in (clients[target], *clients):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[target])
    clients[target].execute_command("CLUSTER BUMPEPOCH")  # or what the others remember might win
    for client in clients:
        client.close()


async def test_one_server_that_does_not_tell_is_enough_to_decline(own_cluster: RedisSystem, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    storage = storage_at(own_cluster.url, prefix=prefix)
    tasks = asyncio.all_tasks()
    with own_cluster.servers[1].client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-client|tracking")
        watch = await storage.watch(Told())
        client.execute_command("ACL", "SETUSER", "default", "+@all")
    assert not watch.watching
    assert [record.levelno for record in caplog.records if record.levelno >= logging.WARNING] == [logging.WARNING]
    assert asyncio.all_tasks() == tasks
    await becomes(lambda: not any(listeners(server) for server in own_cluster.servers))
    await storage.aclose()
