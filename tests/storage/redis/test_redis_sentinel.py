"""Failover: never a wrong record, never a hang, no fork (P7w: the newest writes may be lost)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pauth.errors import StorageUnavailable, TokenStorageError
from pauth.storage import RecordKey
from pauth.storage.identity import row_id
from tests.storage.redis.kit import driver_at, put, storage_at
from tests.support.redis_servers import MASTER_NAME, RedisSystem, free_port, start_sentinel


@pytest.fixture
def own_sentinel(tmp_path: Path) -> Iterator[RedisSystem]:
    system = start_sentinel(tmp_path)
    yield system
    system.kill()


@pytest.mark.parametrize("fault", ["kill", "hang"])
async def test_writers_go_on_after_a_failover_with_no_fork_p7w(own_sentinel: RedisSystem, prefix: str, fault: str) -> None:
    storage = storage_at(own_sentinel.url, prefix=prefix, timeout=1.0)
    keys = [RecordKey("", f"user-{number}") for number in range(10)]
    written: dict[RecordKey, list[tuple[int, int]]] = {key: [] for key in keys}
    done = asyncio.Event()

    async def write(key: RecordKey) -> None:
        number = 0
        while not done.is_set():
            number += 1
            try:
                record = await storage.load(key)
                assert record is None or record.tokens["user"] == key.user_id
                if await storage.replace(key, {"user": key.user_id, "n": number}, expected_version=record.version if record else 0):
                    written[key].append(((record.version if record else 0) + 1, number))
            except StorageUnavailable:
                await asyncio.sleep(0.02)

    writers = [asyncio.create_task(write(key)) for key in keys]
    while min(map(len, written.values())) < 5:
        await asyncio.sleep(0.01)
    master, replica, _ = own_sentinel.servers
    getattr(master, fault)()
    while True:  # until the replica is the master
        with replica.client() as client:
            if client.info("replication")["role"] == "master":  # type: ignore[index, unused-ignore]
                break
        await asyncio.sleep(0.05)
    before = {key: len(history) for key, history in written.items()}
    while any(len(history) < before[key] + 5 for key, history in written.items()):
        await asyncio.sleep(0.01)
    done.set()
    await asyncio.gather(*writers)
    for key, history in written.items():
        tail = [version for version, _ in history[before[key] :]]
        assert tail == sorted(set(tail))  # on the new master versions go on one by one
        record = await storage.load(key)
        assert record is not None
        assert (record.tokens["user"], record.tokens["n"]) == (key.user_id, history[-1][1])
        assert record.version == history[-1][0]
    await storage.aclose()


async def test_no_sentinel_and_no_such_master_are_unavailable(redis_sentinel: RedisSystem, prefix: str) -> None:
    sentinel = redis_sentinel.servers[2].address
    for url in (f"redis+sentinel://127.0.0.1:{free_port()}/{MASTER_NAME}", f"redis+sentinel://{sentinel}/another-name"):
        storage = storage_at(url, prefix=prefix, timeout=5)
        with pytest.raises(StorageUnavailable) as caught:
            await storage.get_token("alice")
        assert caught.value.__context__ is None
        await storage.aclose()


async def test_one_sentinel_of_several_is_enough(redis_sentinel: RedisSystem, prefix: str) -> None:
    sentinel = redis_sentinel.servers[2].address
    driver = driver_at(f"redis+sentinel://127.0.0.1:{free_port()},{sentinel}/{MASTER_NAME}/1", prefix=prefix)
    assert await driver.put_many([put("alice")]) == [1]
    with redis_sentinel.servers[0].client(db=1) as client:
        assert len(client.keys(f"{prefix}:*")) == 2  # type: ignore[arg-type, unused-ignore]
    await driver.aclose()


async def test_a_demoted_master_is_left(own_sentinel: RedisSystem, prefix: str) -> None:
    driver = driver_at(own_sentinel.url, prefix=prefix)
    await driver.put_many([put("alice")])
    with own_sentinel.servers[0].client() as client:
        client.replicaof("127.0.0.1", own_sentinel.servers[1].port)
        with pytest.raises(TokenStorageError) as caught:
            answer = (await driver.put_many([put("alice")]))[0]
            if isinstance(answer, Exception):
                raise answer
        assert isinstance(caught.value, StorageUnavailable)
        client.replicaof("no", "one")
    assert isinstance((await driver.put_many([put("alice")]))[0], int)
    assert row_id("", "alice")
    await driver.aclose()
