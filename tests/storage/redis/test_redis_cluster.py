"""A cluster: keys over all slots, redirections, servers that are gone."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportPrivateUsage=false, reportUnknownLambdaType=false
# (redis-py is typed in part only; its stubs leave the parameters of most methods open)

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from redis import exceptions
from redis.asyncio import RedisCluster

from pauth.errors import ConfigurationError, StorageUnavailable, TokenStorageError
from pauth.storage import Record, RecordKey
from pauth.storage.base import Write
from pauth.storage.driver import Delete, Row
from pauth.storage.identity import row_id
from pauth.storage.redis import links as redis_links
from pauth.storage.redis.driver import RedisDriver
from pauth.storage.redis.rows import SLOTS, Keys
from tests.storage.redis.kit import driver_at, one_per_shard, put, storage_at
from tests.support.redis_servers import RedisServer, RedisSystem, free_port

USERS = one_per_shard()
ROWS = [row_id("", user) for user in USERS]


async def test_keys_over_all_slots_go_in_one_batch(redis_cluster: RedisSystem, prefix: str) -> None:
    driver = driver_at(redis_cluster.url, prefix=prefix)
    assert await driver.put_many([put(user, expires_at=5) for user in USERS]) == [1] * 32
    rows = await driver.get_many([*ROWS, row_id("", "nobody")])
    assert [bytes(row.data).split()[-1].decode() for row in rows if isinstance(row, Row)] == USERS
    assert rows[-1] is None
    held = []
    for server in redis_cluster.servers:
        with server.client() as client:
            held.append(len(cast("list[bytes]", client.keys(f"{prefix}:*:r:*"))))
    assert sum(held) == 32
    assert min(held) >= 10  # the slots are spread evenly
    assert [row.row_id for row in await driver.list_users(None, after=b"", limit=100)] == ROWS
    assert [row.row_id for row in await driver.list_expiring(before=6, after=(-(2**63), b""), limit=100)] == ROWS
    assert await driver.delete_many([Delete(row, None, 0) for row in ROWS]) == [True] * 32
    await driver.aclose()


async def test_two_of_one_slot_and_a_planted_key(redis_cluster: RedisSystem, prefix: str) -> None:
    driver = driver_at(redis_cluster.url, prefix=prefix)
    users = _users_of_shard(0)[:3]
    await driver.put_many([put(user) for user in users[:2]])
    answers = await driver.get_many([row_id("", user) for user in users])
    assert [type(answer) for answer in answers] == [Row, Row, type(None)]
    await driver.aclose()


async def test_a_slot_that_moved_is_followed(own_cluster: RedisSystem, prefix: str) -> None:
    driver = driver_at(own_cluster.url, prefix=prefix)
    await driver.put_many([put(user) for user in USERS])
    assert await driver.take_lease(ROWS[0], b"one", 60_000) is not None
    clients = [server.client() for server in own_cluster.servers]
    names = [cast("str", client.execute_command("CLUSTER MYID")) for client in clients]
    slot, row, keys = SLOTS[0], ROWS[0], Keys(prefix)

    # on its way, and nothing there yet: what is not here is asked for there
    clients[1].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[0])
    clients[0].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[1])
    assert isinstance((await driver.get_many([row]))[0], Row)
    assert await driver.take_lease(row, b"one", 60_000) is not None  # a script, with keys that are here
    for key in (keys.record(row), keys.indexes[0]):
        clients[0].execute_command("MIGRATE", "127.0.0.1", own_cluster.servers[1].port, key, 0, 5000)
    assert isinstance((await driver.get_many([row]))[0], Row)
    assert await driver.put_many([put(USERS[0])]) == [2]  # both keys there: ASK, with the text of the script

    # keys that are nowhere could be here or there: until the slot has moved, Redis does not say
    nowhere = row_id("", next(user for user in _users_of_shard(0) if user != USERS[0]))
    with pytest.raises(StorageUnavailable, match="moving"):
        await driver.take_lease(nowhere, b"one", 60_000)
    for key in (keys.lease(row), keys.fences[0]):
        clients[0].execute_command("MIGRATE", "127.0.0.1", own_cluster.servers[1].port, key, 0, 5000)
    clients[1].execute_command("CLUSTER SETSLOT", slot, "NODE", names[1])
    clients[0].execute_command("CLUSTER SETSLOT", slot, "NODE", names[1])
    assert await driver.put_many([put(user) for user in USERS]) == [3] + [2] * 31
    assert await driver.take_lease(row, b"two", 60_000) is None
    for client in clients:
        client.close()
    await driver.aclose()


async def test_a_slot_torn_in_two_is_unavailable(own_cluster: RedisSystem, prefix: str) -> None:
    driver = driver_at(own_cluster.url, prefix=prefix)
    await driver.put_many([put(USERS[0])])
    with own_cluster.servers[0].client() as here, own_cluster.servers[1].client() as there:
        there.execute_command("CLUSTER SETSLOT", SLOTS[0], "IMPORTING", here.execute_command("CLUSTER MYID"))
        here.execute_command("CLUSTER SETSLOT", SLOTS[0], "MIGRATING", there.execute_command("CLUSTER MYID"))
        here.execute_command("MIGRATE", "127.0.0.1", own_cluster.servers[1].port, Keys(prefix).record(ROWS[0]), 0, 5000)
        outcome = (await driver.put_many([put(USERS[0])]))[0]
        assert isinstance(outcome, StorageUnavailable)
        assert "moving" in str(outcome)
        here.execute_command("MIGRATE", "127.0.0.1", own_cluster.servers[1].port, Keys(prefix).indexes[0], 0, 5000)
        assert await driver.put_many([put(USERS[0])]) == [2]
    await driver.aclose()


async def test_a_server_that_is_gone_fails_its_own_rows_only_p9(own_cluster: RedisSystem, prefix: str) -> None:
    driver = driver_at(own_cluster.url, prefix=prefix, timeout=3)
    await driver.put_many([put(user) for user in USERS])
    own_cluster.servers[2].kill()
    for _ in range(2):
        answers = await driver.get_many(ROWS)
        for slot, answer in zip(SLOTS, answers, strict=True):
            if slot < 2 * 5462:
                assert isinstance(answer, Row)
            else:
                assert isinstance(answer, StorageUnavailable)
    with pytest.raises(StorageUnavailable):
        await driver.count(None)
    own_cluster.servers[2].start()
    answers = await _until_all_answer(driver)
    assert [type(answer) for answer in answers[:20]] == [Row] * 20
    await driver.aclose()


async def _until_all_answer(driver: RedisDriver) -> Any:
    while True:
        answers = await driver.get_many(ROWS)
        if not any(isinstance(answer, Exception) for answer in answers):
            return answers
        await asyncio.sleep(0.1)


async def test_a_server_that_hangs_keeps_nobody_from_the_others_p9(own_cluster: RedisSystem, prefix: str) -> None:
    storage = storage_at(own_cluster.url, prefix=prefix, timeout=1)
    keys = [RecordKey("", user) for user in USERS]
    await storage.put_many([Write(key, {}) for key in keys])
    own_cluster.servers[0].hang()
    for seconds in ("0.5", "0.0625"):  # who comes next is not held up as long
        records = await storage.get_many(keys)
        assert isinstance(records[0], StorageUnavailable)
        assert f"{seconds} seconds" in str(records[0])
        assert isinstance(records[31], Record)
    fresh = storage_at(own_cluster.url, prefix=prefix, timeout=2)  # its first seed hangs: it asks the second
    assert await fresh.load(keys[31]) is not None
    own_cluster.servers[0].go_on()
    while True:  # for a while, the others may take it for dead
        if isinstance(record := (await storage.get_many(keys))[0], Record):
            break
    assert record.key == keys[0]
    for each in (storage, fresh):
        await each.aclose()


async def test_a_cluster_that_is_not_there(prefix: str) -> None:
    storage = storage_at(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}", prefix=prefix)
    with pytest.raises(StorageUnavailable) as caught:
        await storage.get_token("alice")
    assert caught.value.__context__ is None
    await storage.aclose()


async def test_one_server_is_no_cluster_and_a_cluster_not_one_server(valkey: RedisServer, redis_cluster: RedisSystem, prefix: str) -> None:
    wrong = storage_at(f"redis+cluster://{valkey.address}", prefix=prefix)
    with pytest.raises(ConfigurationError, match="write redis://"):
        await wrong.get_token("alice")
    single = storage_at(redis_cluster.servers[0].url, prefix=prefix)
    with pytest.raises(ConfigurationError, match="redis\\+cluster://"):
        await single.get_many([])
        for user in USERS:
            await single.save_token(user, {})
    for each in (wrong, single):
        await each.aclose()


async def test_addresses_of_a_users_client_are_translated(redis_cluster: RedisSystem, prefix: str) -> None:
    asked: list[tuple[str, int]] = []

    def translate(address: tuple[str, int]) -> tuple[str, int]:
        asked.append(address)
        return "localhost", address[1]

    client = RedisCluster.from_url(redis_cluster.servers[0].url, address_remap=translate)
    storage = storage_at(client, prefix=prefix)
    await asyncio.gather(*(storage.save_token(user, {}) for user in USERS))
    assert {port for _, port in asked} == {server.port for server in redis_cluster.servers}
    await storage.aclose()
    await client.aclose()


async def test_several_changes_at_once_look_the_cluster_up_once(redis_cluster: RedisSystem, prefix: str) -> None:
    storage = storage_at(redis_cluster.url, prefix=prefix, coalesce=False)
    assert await asyncio.gather(*(storage.get_token(user) for user in USERS)) == [None] * 32
    leases = await asyncio.gather(*(storage.take_lease(record, "one", ttl=5) for record in [RecordKey("", user) for user in USERS]))
    assert all(leases)
    await storage.aclose()


def _users_of_shard(shard: int) -> list[str]:
    return [user for user in (f"user-{number}" for number in range(2000)) if row_id("", user)[0] >> 3 == shard]


async def _links_of(url: str, prefix: str) -> tuple[Any, Any]:
    driver: Any = driver_at(url, prefix=prefix)
    await driver.count(None)
    (links,) = driver._links.values()
    return driver, links


@pytest.mark.parametrize("word", ["try again", "moved"])
async def test_a_server_that_sends_us_on_is_followed(redis_cluster: RedisSystem, prefix: str, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    driver, links = await _links_of(redis_cluster.url, prefix)
    really, refused = links._run_at, [True]

    async def busy_once(place: Any, commands: Any) -> Any:
        if refused:
            refused.pop()
            host, port = place
            return [exceptions.MovedError(f"0 {host}:{port}") if word == "moved" else exceptions.TryAgainError("soon")] * len(commands)
        return await really(place, commands)

    monkeypatch.setattr(links, "_run_at", busy_once)
    assert await driver.put_many([put("alice")]) == [1]
    assert refused == []
    await driver.aclose()


async def test_who_has_no_slot_or_does_not_answer_is_an_answer_too(redis_cluster: RedisSystem, prefix: str) -> None:
    driver, links = await _links_of(redis_cluster.url, prefix)
    await links._look()  # which knows where all is, and asks nobody
    (nobody,) = await links._run_at(None, [("GET", "key")])
    assert isinstance(nobody, exceptions.ClusterDownError)
    assert isinstance(await links._ask_there(("127.0.0.1", free_port()), ("GET", "key")), Exception)
    assert redis_links._as_is("host", 1) == ("host", 1)
    assert isinstance(redis_links._refusal(exceptions.ResponseError("ERR odd"), 1.0), TokenStorageError)
    await driver.aclose()


async def test_a_connection_that_cannot_be_asked_is_stale() -> None:
    class Broken:
        async def can_read(self) -> bool:
            raise ConnectionResetError

    assert await redis_links._is_stale(Broken()) is True
