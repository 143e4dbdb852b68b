"""Changes are told by the server, whoever makes them: what is told, to whom, and how it begins and ends."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool

from pauth.errors import ConfigurationError
from pauth.storage import RecordKey, WatchableTokenStorage
from pauth.storage.base import Write
from pauth.storage.identity import row_id
from pauth.storage.redis.rows import Keys
from pauth.storage.redis.watch import RIGHTS
from tests.storage.redis.kit import driver_at, put, storage_at
from tests.storage.redis.watch_kit import ALICE, BOB, Told, becomes, listeners, told_by
from tests.support.redis_servers import RedisServer

KEY_ALICE = RecordKey("", "alice")
Start = Callable[..., RedisServer]


@pytest.fixture(params=["valkey", "old_redis"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    found: RedisServer = request.getfixturevalue(request.param)
    return found


async def test_every_write_and_deletion_of_others_is_told_and_nothing_else(server: RedisServer, prefix: str) -> None:
    mine, other, stranger = storage_at(server.url, prefix=prefix), storage_at(server.url, prefix=prefix), storage_at(server.url, prefix=f"{prefix}x")
    told = Told()
    assert isinstance(mine, WatchableTokenStorage)
    watch = await mine.watch(told)
    assert watch.watching
    assert await told.next() is None  # what was known before may be out of date

    await stranger.save_token("alice", {})
    await other.save_token("alice", {"n": 1})
    assert await told.next() == ALICE
    assert await other.replace(KEY_ALICE, {"n": 2}, expected_version=1, expires_at=5e9, lineage=b"l" * 16)
    assert await told.next() == ALICE
    assert await other.replace(KEY_ALICE, {"n": 3}, expected_version=1) is None  # nothing was written
    assert await other.take_lease(KEY_ALICE, "one", ttl=60)
    assert await other.extend_lease(KEY_ALICE, "one", ttl=60)
    assert await other.release_lease(KEY_ALICE, "one")
    await other.put_pending("login", {}, expires_at=5e9)
    assert await other.take_pending("login") == {}
    assert await other.remove(KEY_ALICE)
    assert await told.next() == ALICE
    keys = [RecordKey("ns", f"user-{number}") for number in range(600)]
    await other.put_many([Write(key, {}) for key in keys])
    assert {await told.next() for _ in keys} == {row_id("ns", key.user_id) for key in keys}
    assert await other.delete_many(keys) == [True] * 600
    assert {await told.next() for _ in keys} == {row_id("ns", key.user_id) for key in keys}

    with server.client() as client:
        client.set(Keys(prefix).records[3] + b"planted", "x")
    await mine.save_token("bob", {})  # one's own
    assert await told.next() == BOB
    assert await told_by(other, told) == []
    await watch.stop()
    for storage in (mine, other, stranger):
        await storage.aclose()


OTHER_PROCESS = """
import asyncio, sys
from tests.storage.redis.kit import storage_at
async def main():
    storage = storage_at(sys.argv[1], prefix=sys.argv[2])
    await storage.save_token("alice", {"n": 1})
    await storage.aclose()
asyncio.run(main())
"""


async def test_another_process_is_heard(valkey: RedisServer, prefix: str) -> None:
    storage = storage_at(valkey.url, prefix=prefix)
    told = Told()
    watch = await storage.watch(told)
    ran = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", OTHER_PROCESS, valkey.url, prefix], capture_output=True, text=True)
    assert ran.stderr == ""
    assert await told.until(ALICE) == [None]
    await watch.stop()
    await storage.aclose()


async def test_what_redis_drops_by_itself_is_told_too(server: RedisServer, prefix: str) -> None:
    storage = storage_at(server.url, prefix=prefix, retention=1)
    told = Told()
    watch = await storage.watch(told)
    await storage.save_token("alice", {})
    assert await told.until(ALICE) == [None]
    while await storage.get_token("alice") is not None:
        await asyncio.sleep(0.01)
    assert await told.next() == ALICE
    await watch.stop()
    await storage.aclose()


async def test_everything_gone_at_once_is_told_as_nothing_is_known(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    told = Told()
    watch = await storage.watch(told)
    await storage.save_token("alice", {})
    assert await told.until(ALICE) == [None]
    with server.client() as client:
        client.flushall()
    assert await told.next() is None
    assert watch.watching
    await watch.stop()
    await storage.aclose()


async def test_those_of_one_loop_share_a_connection_that_the_last_one_ends_p19(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    tasks = asyncio.all_tasks()
    first, second = Told(), Told()
    one, two = await storage.watch(first), await storage.watch(second)
    assert await first.next() is None
    assert await second.next() is None
    assert len(listeners(server)) == 1
    await storage.save_token("alice", {})
    assert await first.next() == ALICE
    assert await second.next() == ALICE

    await one.stop()
    await one.stop()
    assert (one.watching, two.watching) == (False, True)
    assert await told_by(storage, second) == []
    assert first.all == [None, ALICE]
    await two.stop()
    assert not two.watching
    assert asyncio.all_tasks() == tasks
    await becomes(lambda: not listeners(server))
    third = Told()
    three = await storage.watch(third)  # begins anew
    assert three.watching
    await storage.aclose()


async def test_closing_the_storage_ends_it_p19(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    tasks = asyncio.all_tasks()
    told = Told()
    watch = await storage.watch(told)
    await storage.aclose()
    assert not watch.watching
    assert told.all == [None, None]  # what it told last may be out of date from now on
    assert asyncio.all_tasks() == tasks
    await becomes(lambda: not listeners(server))
    await watch.stop()
    with pytest.raises(ConfigurationError, match="was closed"):
        await storage.watch(told)


async def test_a_driver_that_was_closed_tells_nothing(valkey: RedisServer, prefix: str) -> None:
    driver = driver_at(valkey.url, prefix=prefix)
    await driver.aclose()
    told = Told()
    watch = await driver.watch(told)  # from another thread, a moment too late
    assert not watch.watching
    assert told.all == []
    await driver.aclose()


async def test_who_is_cancelled_leaves_nothing_behind_p14(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    tasks = asyncio.all_tasks()
    server.hang()
    joining = asyncio.create_task(storage.watch(Told()))
    await asyncio.sleep(0)
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    await becomes(lambda: asyncio.all_tasks() == tasks)
    server.go_on()
    await storage.aclose()


async def test_who_raises_is_logged_and_keeps_nobody_from_being_told(valkey: RedisServer, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    storage = storage_at(valkey.url, prefix=prefix)

    def raising(row: bytes | None) -> None:
        raise ValueError("CANARY")

    told = Told()
    await storage.watch(raising)
    watch = await storage.watch(told)
    await storage.save_token("alice", {})
    assert await told.until(ALICE) == [None]
    assert watch.watching
    assert {record.getMessage() for record in caplog.records} == {"who watches a token storage for changes raised ValueError"}
    await storage.aclose()


async def test_one_that_stops_while_all_are_told_is_not_told_any_more(valkey: RedisServer, prefix: str) -> None:
    storage = storage_at(valkey.url, prefix=prefix)

    def stop_the_other(row: bytes | None) -> None:
        if row is not None:
            with pytest.raises(StopIteration):
                watch.stop().send(None)

    first, last = Told(), Told()
    await storage.watch(first)
    await storage.watch(stop_the_other)
    watch = await storage.watch(last)
    await storage.save_token("alice", {})
    assert await first.until(ALICE) == [None]
    assert last.all == [None]
    await storage.aclose()


async def test_no_more_rights_are_needed_than_are_documented_and_no_value_is_read(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "watcher", "on", ">CANARY-password", "-@all", *RIGHTS.split())  # and no key
    driver = driver_at(f"redis://watcher:CANARY-password@{server.address}/0", prefix=prefix)
    writer = driver_at(server.url, prefix=prefix)
    told = Told()
    watch = await driver.watch(told)
    await writer.put_many([put("alice")])
    assert await told.until(ALICE) == [None]
    assert watch.watching
    await driver.aclose()
    await writer.aclose()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_client_of_the_users_is_watched_with_connections_of_our_own(own_redis: Start, prefix: str, protocol: int) -> None:
    server = own_redis()
    client = Redis(port=server.port, protocol=protocol, decode_responses=True, socket_timeout=0.05)
    storage, other = storage_at(client, prefix=prefix, timeout=6.0), storage_at(server.url, prefix=prefix)
    told = Told()
    watch = await storage.watch(told)
    await other.save_token("alice", {})
    assert await told.until(ALICE) == [None]
    with server.client() as look:
        # silence for longer than the client's own timeout is none of a connection that only listens
        await becomes(lambda: look.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"])  # type: ignore[union-attr, unused-ignore]
    assert told.all == [None, ALICE]
    assert watch.watching
    await storage.aclose()
    await other.aclose()
    await client.aclose()


async def test_a_class_of_connections_that_cannot_listen_is_said_once(valkey: RedisServer, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    def newest(**options: Any) -> Connection:
        return Connection(**options, protocol=3)

    pool = ConnectionPool(connection_class=cast("Any", newest), host="127.0.0.1", port=valkey.port)
    storage = storage_at(Redis(connection_pool=pool), prefix=prefix)
    assert not (await storage.watch(Told())).watching
    assert not (await storage.watch(Told())).watching
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "changes in Redis cannot be watched: connections of this class cannot be told to use RESP2"
    ]
    await storage.save_token("alice", {"n": 1})
    assert await storage.get_token("alice") == {"n": 1}
    await storage.aclose()


def test_a_key_names_its_row_and_other_keys_none() -> None:
    keys, others = Keys("pauth"), Keys("other")
    for user in range(200):
        row = row_id("", str(user))
        record = keys.record(row)
        assert keys.row_of(record) == row
        for other in (keys.lease(row), keys.pending(row), others.record(row), record[:-1], record + b"0", record[:-64] + record[-64:].upper()):
            assert keys.row_of(other) is None or other == record
    for key in (*keys.indexes, *keys.fences, *keys.records, b"", b"\xff" * 80):
        assert keys.row_of(key) is None
