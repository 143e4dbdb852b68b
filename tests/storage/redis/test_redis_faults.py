"""What happens to the server or on the way to it, with the real server (P7, P9, P14, P20)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pauth.errors import PAuthError, StorageUnavailable, TokenStorageError
from pauth.storage import RecordKey
from pauth.storage.identity import row_id
from tests.storage.redis.kit import driver_at, put, storage_at
from tests.support.canary import leaks_in_error
from tests.support.proxy import Proxy
from tests.support.redis_servers import RedisServer

ALICE = RecordKey("", "alice")
ROW = row_id("", "alice")
Start = Callable[..., RedisServer]


@pytest.fixture
async def proxy(valkey: RedisServer) -> AsyncIterator[Proxy]:
    async with Proxy(valkey.port) as running:
        yield running


async def unavailable(operation: Any) -> StorageUnavailable:
    """The error an operation ends with, which must be one to retry, with nothing behind it."""
    with pytest.raises(StorageUnavailable) as caught:
        await operation
    assert caught.value.retryable
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not list(leaks_in_error(caught.value))
    return caught.value


async def test_a_server_that_is_not_there(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    await storage.save_token("alice", {"n": 1})
    server.kill()
    for operation in (
        storage.get_token("alice"),
        storage.save_token("alice", {"n": 2}),
        storage.take_lease(ALICE, "one", ttl=1),
        storage.list_users(),
    ):
        assert str(server.port) not in str(await unavailable(operation))
    server.start()
    await storage.save_token("alice", {"n": 3})  # it connects again by itself
    assert await storage.get_token("alice") == {"n": 3}
    await storage.aclose()


async def test_a_restart_while_idle_is_not_noticed(own_redis: Start, prefix: str) -> None:
    server = own_redis(config="appendonly yes\nappendfsync always\n")
    storage = storage_at(server.url, prefix=prefix)
    await storage.save_token("alice", {"n": 1})
    server.kill()
    server.start()
    for _ in range(3):
        await asyncio.sleep(0)  # the event loop sees the end of the connection
    assert await storage.get_token("alice") == {"n": 1}
    assert (await storage.replace(ALICE, {"n": 2}, expected_version=1)) is not None  # whose script the server has forgotten
    await storage.aclose()


async def test_no_acknowledged_write_is_lost_when_the_server_is_killed_p7(own_redis: Start, prefix: str) -> None:
    server = own_redis(config="appendonly yes\nappendfsync always\n")
    storage = storage_at(server.url, prefix=prefix)
    acknowledged: dict[str, int] = {}
    killed = 0

    async def write(user: str) -> None:
        number = afterwards = 0
        while afterwards < 3:
            number += 1
            try:
                await storage.save_token(user, {"n": number})
            except StorageUnavailable:
                await asyncio.sleep(0.01)
            else:
                acknowledged[user] = number
                afterwards += killed == 3

    writers = [asyncio.create_task(write(f"user-{number}")) for number in range(40)]
    for _ in range(3):
        before = sum(acknowledged.values())
        while sum(acknowledged.values()) < before + 200:
            await asyncio.sleep(0)
        server.kill()  # in the middle of batches
        server.start()
        killed += 1
        for user, number in dict(acknowledged).items():
            found = await _patient(storage.get_token, user)
            assert found["n"] >= number
    await asyncio.gather(*writers)
    assert await storage.count() == 40
    records = await storage.get_many([RecordKey("", user) for user in acknowledged])
    assert {record.key.user_id: record.tokens["n"] for record in records if record and not isinstance(record, Exception)} == acknowledged
    await storage.aclose()


async def _patient(operation: Callable[..., Any], *arguments: Any) -> Any:
    while True:
        try:
            return await operation(*arguments)
        except StorageUnavailable:
            await asyncio.sleep(0.01)


async def test_a_server_that_hangs_is_given_up_on_p9(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix, timeout=0.5)
    await storage.save_token("alice", {"n": 1})
    server.hang()
    operations = (storage.get_token("alice"), storage.save_token("alice", {"n": 2}), storage.extend_lease(ALICE, "one", ttl=1), storage.count())
    started = asyncio.get_running_loop().time()
    for outcome in await asyncio.gather(*operations, return_exceptions=True):
        assert isinstance(outcome, StorageUnavailable)
        assert "0.5 seconds" in str(outcome)
    assert asyncio.get_running_loop().time() - started < 10
    server.go_on()
    assert (await _patient(storage.get_token, "alice"))["n"] in (1, 2)  # the write may have been done
    await storage.aclose()


async def test_a_slow_server_is_waited_for_and_a_slower_one_is_not(proxy: Proxy, prefix: str) -> None:
    driver = driver_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, timeout=5)
    proxy.delay = 0.05
    assert await driver.put_many([put("alice")]) == [1]
    impatient = driver_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, timeout=0.3)
    await impatient.get_many([ROW])
    proxy.delay = 30
    assert "0.3 seconds" in str(await unavailable(impatient.get_many([ROW])))
    proxy.delay = 0
    (row,) = await impatient.get_many([ROW])
    assert row is not None
    await driver.aclose()
    await impatient.aclose()


async def test_a_write_whose_answer_was_lost_is_not_sent_again(proxy: Proxy, valkey: RedisServer, prefix: str) -> None:
    driver = driver_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix)
    assert await driver.put_many([put("alice", expected_version=0)]) == [1]
    await driver.take_lease(row_id("", "bob"), b"one", 60_000)  # a script that the server does not know yet would only be asked for
    proxy.cut_answers = True
    assert "may have happened" in str(await unavailable(driver.put_many([put("alice", expected_version=1, data=memoryview(b"two"))])))
    await unavailable(driver.take_lease(ROW, b"one", 60_000))
    proxy.cut_answers = False
    (row,) = await driver.get_many([ROW])
    assert row is not None
    assert not isinstance(row, Exception)
    assert (row.version, bytes(row.data)) == (2, b"two")  # once
    assert await driver.take_lease(ROW, b"two", 60_000) is None  # so was the lease taken; its owner gets it again
    assert await driver.take_lease(ROW, b"one", 60_000) is not None
    await driver.aclose()


async def test_an_answer_cut_at_every_byte_is_no_answer(proxy: Proxy, prefix: str) -> None:
    driver = driver_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix)
    await driver.put_many([put("alice"), put("bob")])
    (whole,) = await driver.get_many([ROW])
    assert whole is not None
    for length in range(0, 90, 7):
        proxy.cut_after = length
        await unavailable(driver.get_many([ROW]))
        proxy.cut_after = None
        rows = await driver.get_many([row_id("", "bob"), ROW])
        assert [bytes(row.data) for row in rows if row and not isinstance(row, Exception)] == [b"CANARY-data of bob", b"CANARY-data of alice"]
    await driver.aclose()


async def test_a_connection_that_went_silent_is_replaced(proxy: Proxy, prefix: str) -> None:
    driver = driver_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, timeout=0.5)
    await driver.put_many([put("alice")])
    proxy.swallow = True
    await unavailable(driver.get_many([ROW]))
    proxy.swallow = False
    before = proxy.connections
    (row,) = await driver.get_many([ROW])
    assert row is not None
    assert proxy.connections == before + 1
    await proxy.cut()
    assert (await driver.get_many([ROW]))[0] == row  # the end of the old one is seen before it is used
    await driver.aclose()


async def test_who_is_cancelled_leaves_no_answer_behind_for_others_p14(proxy: Proxy, prefix: str) -> None:
    storage = storage_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix)
    for user in ("alice", "bob"):
        await storage.save_token(user, {"of": user})
    for turn in range(30):
        tasks = [asyncio.create_task(storage.get_token(user)) for user in ("alice", "bob", "nobody") * 4]
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for user, outcome in zip(("alice", "bob", "nobody") * 4, outcomes, strict=True):
            assert isinstance(outcome, asyncio.CancelledError) or outcome == (None if user == "nobody" else {"of": user})
    await storage.aclose()


async def test_a_driver_cancelled_in_the_middle_drops_the_connection(proxy: Proxy, prefix: str) -> None:
    driver = driver_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix)
    await driver.put_many([put("alice"), put("bob")])
    proxy.delay = 0.02
    for _ in range(5):
        task = asyncio.create_task(driver.get_many([ROW]))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (row,) = await driver.get_many([row_id("", "bob")])
        assert row is not None
        assert not isinstance(row, Exception)
        assert bytes(row.data) == b"CANARY-data of bob"
    await driver.aclose()


async def test_more_callers_than_connections_wait_for_one_p19(proxy: Proxy, prefix: str) -> None:
    driver = driver_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix)
    leases = await asyncio.gather(*(driver.take_lease(row_id("", str(number)), b"one", 60_000) for number in range(200)))
    assert all(leases)
    assert proxy.connections <= 8
    await driver.aclose()


async def test_a_full_server_refuses_writes_and_keeps_what_it_has(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    await storage.save_token("alice", {"n": 1})
    with server.client() as client:
        client.config_set("maxmemory", "1mb")
        assert "out of memory" in str(await unavailable(storage.save_token("alice", {"n": 2})))
        assert "out of memory" in str(await unavailable(storage.save_token("bob", {"n": 1})))
        await unavailable(storage.put_pending("login", {}, expires_at=1e10))
        assert await storage.get_token("alice") == {"n": 1}
        assert [listed.key.user_id for listed in (await storage.list_users()).items] == ["alice"]
        await storage.delete_token("alice")  # which makes room
        assert await storage.count() == 0
        client.config_set("maxmemory", "0")
    await storage.save_token("bob", {"n": 1})
    await storage.aclose()


async def test_a_server_that_does_not_take_writes_passes(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    driver = driver_at(server.url, prefix=prefix)
    await driver.put_many([put("alice")])
    with server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        outcome = (await driver.put_many([put("alice")]))[0]
        assert isinstance(outcome, StorageUnavailable)
        assert "NOREPLICAS" in str(outcome)
        client.config_set("min-replicas-to-write", 0)
        client.replicaof("127.0.0.1", 1)
        outcome = (await driver.put_many([put("alice")]))[0]
        assert isinstance(outcome, StorageUnavailable)
        assert "replica" in str(outcome)
        connected = client.info("stats")["total_connections_received"]
        client.replicaof("no", "one")
        assert await driver.put_many([put("alice")]) == [2]
        assert client.info("stats")["total_connections_received"] > connected  # on a new connection: the name may lead to a new master
    await driver.aclose()


async def test_what_a_server_of_something_else_says_is_an_error(prefix: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request CANARY\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    driver = driver_at(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", prefix=prefix)
    with pytest.raises(TokenStorageError) as caught:
        await driver.get_many([ROW])
    assert isinstance(caught.value, PAuthError)
    assert not list(leaks_in_error(caught.value))
    server.close()
    await driver.aclose()
