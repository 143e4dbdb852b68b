"""The driver on a real server: conditions, times to live, the index, leases."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import redis

from pauth.errors import UnsupportedRecord
from pauth.storage.driver import Delete
from pauth.storage.identity import row_id
from pauth.storage.redis.driver import RedisDriver
from pauth.storage.redis.rows import Keys
from tests.storage.redis.kit import driver_at, one_per_shard, put
from tests.support.redis_servers import RedisServer

ALICE = row_id("", "alice")
DAY = 86_400_000


@pytest.fixture(params=["valkey", "old_redis"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    return cast("RedisServer", request.getfixturevalue(request.param))


@pytest.fixture
async def driver(server: RedisServer, prefix: str) -> AsyncIterator[RedisDriver]:
    made = driver_at(server.url, prefix=prefix)
    yield made
    await made.aclose()


@pytest.fixture
async def retaining(server: RedisServer, prefix: str) -> AsyncIterator[RedisDriver]:
    made = driver_at(server.url, prefix=prefix, retention=DAY * 30)
    yield made
    await made.aclose()


async def test_conditions_of_writes(driver: RedisDriver) -> None:
    one, two = b"1" * 16, b"2" * 16

    async def write(version: int | None, expected: bytes | None = None, lineage: bytes | None = None) -> Any:
        return (await driver.put_many([put("alice", expected_version=version, expected_lineage=expected, lineage=lineage)]))[0]

    assert await write(1) is None
    assert await write(None, one) is None
    assert await write(0, None, one) == 1
    assert await write(0) is None
    assert await write(2) is None
    assert await write(1, two) is None
    assert await write(1, one, two) == 2
    assert await write(None, one) is None
    assert await write(2, two, None) == 3
    assert await write(3, bytes(16)) is None  # no lineage is not a lineage of zeros
    assert await write(None) == 4


async def test_a_deleted_row_keeps_its_version_for_a_day(driver: RedisDriver, server: RedisServer, prefix: str) -> None:
    await driver.put_many([put("alice", expires_at=5), put("bob")])
    assert await driver.delete_many([Delete(ALICE, 2, 7), Delete(row_id("", "carol"), None, 7)]) == [False, False]
    assert await driver.delete_many([Delete(ALICE, 1, 7), Delete(row_id("", "bob"), None, 7)]) == [True, True]
    assert await driver.delete_many([Delete(ALICE, 1, 7)]) == [False]
    assert await driver.get_many([ALICE, row_id("", "bob")]) == [None, None]
    assert await driver.put_many([put("alice", expected_version=1)]) == [None]
    with server.client() as client:
        assert DAY - 60_000 < cast("int", client.pttl(Keys(prefix).record(ALICE))) <= DAY
        assert not client.keys(f"{prefix}:*:i")  # nothing is left in the index
    assert await driver.put_many([put("alice", expected_version=0)]) == [2]
    with server.client() as client:
        assert client.pttl(Keys(prefix).record(ALICE)) == -1


async def test_records_are_kept_for_ever_unless_told_otherwise_rd_5(
    driver: RedisDriver, retaining: RedisDriver, server: RedisServer, prefix: str
) -> None:
    key = Keys(prefix).record(ALICE)
    with server.client() as client:
        await driver.put_many([put("alice")])
        assert client.pttl(key) == -1
        await retaining.put_many([put("alice")])
        first = cast("int", client.pttl(key))
        assert 29 * DAY < first <= 30 * DAY
        # counted from the access token's expiry, where that is later; and never shorter for a record that was refreshed
        now = int(1000 * cast("tuple[int, int]", client.time())[0])
        await retaining.put_many([put("alice", expires_at=now + 10 * DAY)])
        assert 39 * DAY < cast("int", client.pttl(key)) <= 40 * DAY + 2000
        await retaining.put_many([put("alice", expires_at=5)])
        assert 39 * DAY < cast("int", client.pttl(key)) <= 40 * DAY + 2000


async def test_a_record_that_ran_out_leaves_the_listings_rd_5(driver: RedisDriver, server: RedisServer, prefix: str) -> None:
    users = one_per_shard()
    await driver.put_many([put(user, expires_at=number) for number, user in enumerate(users)])
    keys = Keys(prefix)
    with server.client() as client:
        client.delete(*(keys.record(row_id("", user)) for user in users[:10]))  # as Redis does when their time has come
        assert client.exists(*keys.indexes) == 32
        expiring = await driver.list_expiring(before=100, after=(-(2**63), b""), limit=1000)
        assert [row.user_id.decode() for row in expiring] == users[10:]
        assert await driver.count(None) == 22
        assert client.exists(*keys.indexes) == 22  # and the index was mended


async def test_an_entry_of_an_older_expiry_is_not_believed(driver: RedisDriver, server: RedisServer, prefix: str) -> None:
    await driver.put_many([put("alice", expires_at=50)])
    keys = Keys(prefix)
    with server.client() as client:
        index = keys.indexes[ALICE[0] >> 3]
        (entry,) = [each for each in cast("list[bytes]", client.zrange(index, 0, -1)) if each.startswith(b"e")]
        stale = entry[:8] + b"\x01" + entry[9:]
        client.zadd(index, {stale: 0})
        assert [row.expires_at for row in await driver.list_expiring(before=100, after=(-(2**63), b""), limit=10)] == [50]
        assert client.zscore(index, stale) is None
        # a write that takes the expiry away takes the entry along
        await driver.put_many([put("alice")])
        assert client.zrange(index, 0, -1) == [b"u" + ALICE]


async def test_listings_go_through_all_shards_in_order(driver: RedisDriver) -> None:
    users = [f"user-{number}" for number in range(300)]
    await driver.put_many(
        [put(user, expires_at=1000 - number // 3, namespace=b"even" if number % 2 else b"odd") for number, user in enumerate(users)]
    )
    for limit in (1, 7, 100, 1000):
        listed: list[bytes] = []
        after = b""
        while page := await driver.list_users(None, after=after, limit=limit):
            assert len(page) <= limit
            after = page[-1].row_id
            listed += [row.row_id for row in page]
            if len(page) < limit:
                break
        assert listed == sorted(row_id("", user) for user in users)

        expiring: list[tuple[int, bytes]] = []
        position = (-(2**63), b"")
        while some := await driver.list_expiring(before=960, after=position, limit=limit):
            position = (some[-1].expires_at, some[-1].row_id)
            expiring += [(row.expires_at, row.row_id) for row in some]
            if len(some) < limit:
                break
        assert expiring == sorted((1000 - number // 3, row_id("", user)) for number, user in enumerate(users) if 1000 - number // 3 < 960)
    assert await driver.count(b"even") == 150
    assert await driver.count(b"none") == 0
    assert {row.namespace for row in await driver.list_users(b"odd", after=b"", limit=1000)} == {b"odd"}


async def test_what_expires_in_the_same_moment_fills_pages_too(driver: RedisDriver) -> None:
    same = [user for user in (f"user-{number}" for number in range(4000)) if row_id("", user)[0] < 8][:60]  # in one shard
    await driver.put_many([put(user, expires_at=5) for user in same])
    rows = await driver.list_expiring(before=6, after=(-(2**63), b""), limit=50)
    assert [row.row_id for row in rows] == sorted(row_id("", user) for user in same)[:50]
    rest = await driver.list_expiring(before=6, after=(5, rows[-1].row_id), limit=50)
    assert [row.row_id for row in rest] == sorted(row_id("", user) for user in same)[50:]


async def test_a_planted_key_of_another_type_is_an_error_never_no_token_rd_7(driver: RedisDriver, server: RedisServer, prefix: str) -> None:
    keys = Keys(prefix)
    with server.client() as client:
        await driver.put_many([put("bob")])
        client.lpush(keys.record(ALICE), "x")
        rows = [ALICE, row_id("", "bob"), row_id("", "nobody")]
        assert isinstance((await driver.get_many([ALICE]))[0], UnsupportedRecord)
        answers = await driver.get_many(rows)
        assert [type(answer).__name__ for answer in answers] == ["UnsupportedRecord", "Row", "NoneType"]
        # one bad row fails alone, and is kept
        written = await driver.put_many([put("alice"), put("bob"), put("carol")])
        assert [str(each) if isinstance(each, int) else type(each).__name__ for each in written] == ["UnsupportedRecord", "2", "1"]
        gone = await driver.delete_many([Delete(ALICE, None, 0), Delete(row_id("", "bob"), None, 0)])
        assert [str(each) if isinstance(each, bool) else type(each).__name__ for each in gone] == ["UnsupportedRecord", "True"]
        assert client.llen(keys.record(ALICE)) == 1
        assert await driver.count(None) == 1


async def test_corrupted_values_are_errors_and_kept(driver: RedisDriver, server: RedisServer, prefix: str) -> None:
    key = Keys(prefix).record(ALICE)
    with server.client() as client:
        for value in (b"nonsense", b"pR2L" + bytes(100), b"pR1L" + bytes(20), b"pR1D" + bytes(40), b"pR1"):
            client.set(key, value)
            assert isinstance((await driver.put_many([put("alice")]))[0], UnsupportedRecord)
            assert isinstance((await driver.delete_many([Delete(ALICE, None, 0)]))[0], UnsupportedRecord)
            assert client.get(key) == value
        client.set(key, b"nonsense")
        assert isinstance((await driver.get_many([ALICE]))[0], UnsupportedRecord)


async def test_an_index_that_is_none_lets_no_record_through_it(driver: RedisDriver, server: RedisServer, prefix: str) -> None:
    keys = Keys(prefix)
    index = keys.indexes[ALICE[0] >> 3]
    with server.client() as client:
        client.set(index, "x")
        assert isinstance((await driver.put_many([put("alice")]))[0], UnsupportedRecord)
        assert client.exists(keys.record(ALICE)) == 0
        with pytest.raises(UnsupportedRecord):
            await driver.list_users(None, after=b"", limit=10)
        client.delete(index)
        await driver.put_many([put("alice")])
        client.set(index, "x")
        assert isinstance((await driver.delete_many([Delete(ALICE, None, 0)]))[0], UnsupportedRecord)
        assert (await driver.get_many([ALICE]))[0] is not None


async def test_leases_have_an_owner_a_fence_and_an_end_rd_3_rd_4(driver: RedisDriver, server: RedisServer, prefix: str) -> None:
    keys = Keys(prefix)
    first = await driver.take_lease(ALICE, b"one", 10_000)
    assert first is not None
    assert first.remaining_ms == 10_000
    with server.client() as client:
        assert 5_000 < cast("int", client.pttl(keys.lease(ALICE))) <= 10_000  # no lease is without an end
        assert await driver.take_lease(ALICE, b"two", 10_000) is None
        assert await driver.release_lease(ALICE, b"two") is False
        assert await driver.extend_lease(ALICE, b"two", 10_000) is False
        assert await driver.take_lease(ALICE, b"one", 20_000) == (first.fence, 20_000)
        assert await driver.extend_lease(ALICE, b"one", 60_000) is True
        assert 50_000 < cast("int", client.pttl(keys.lease(ALICE))) <= 60_000
        assert await driver.release_lease(ALICE, b"one") is True
        assert await driver.release_lease(ALICE, b"one") is False
        # even if the last fence is lost, as in a failover, the next one is higher
        client.delete(keys.fences[ALICE[0] >> 3])
        await asyncio.sleep(0.01)
        again = await driver.take_lease(ALICE, b"one", 10_000)
        assert again is not None
        assert again.fence > first.fence
        # and one from a clock that was ahead is passed
        client.set(keys.fences[ALICE[0] >> 3], again.fence + 10**9)
        await driver.release_lease(ALICE, b"one")
        assert await driver.take_lease(ALICE, b"two", 10_000) == (again.fence + 10**9 + 1, 10_000)


async def test_pending_logins_end_by_themselves_p19(driver: RedisDriver, server: RedisServer, prefix: str) -> None:
    key = Keys(prefix).pending(ALICE)
    with server.client() as client:
        await driver.put_pending(ALICE, memoryview(b"CANARY-1"), expires_at=-500, now=-1_000)
        assert 59_000 < cast("int", client.pttl(key)) <= 60_500
        assert bytes(await driver.take_pending(ALICE, now=-501) or b"") == b"CANARY-1"
        await driver.put_pending(ALICE, memoryview(b"CANARY-2"), expires_at=5, now=1)
        await driver.put_pending(ALICE, memoryview(b"CANARY-3"), expires_at=5, now=5)  # too late: and what was there is not given either
        assert await driver.take_pending(ALICE, now=0) is None
        client.set(key, "short")
        with pytest.raises(UnsupportedRecord):
            await driver.take_pending(ALICE, now=0)


async def test_64_kib_and_more_are_kept_whole_sq_7(driver: RedisDriver) -> None:
    large = bytes(range(256)) * 1024
    await driver.put_many([put("alice", data=memoryview(large))])
    (row,) = await driver.get_many([ALICE])
    assert row is not None
    assert not isinstance(row, Exception)
    assert row.data == large


async def test_scripts_that_the_server_forgot_are_sent_again(driver: RedisDriver, server: RedisServer) -> None:
    await driver.put_many([put("alice")])
    with server.client() as client:
        client.script_flush()
        assert await driver.put_many([put("alice"), put("bob")]) == [2, 1]
        client.script_flush()
        assert await driver.take_lease(ALICE, b"one", 1_000) is not None
        assert await driver.delete_many([Delete(ALICE, None, 0)]) == [True]


async def test_a_server_that_may_evict_is_warned_of_once_rd_5(valkey: RedisServer, prefix: str) -> None:
    with valkey.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            one = driver_at(valkey.url, prefix=prefix)
            with pytest.warns(RuntimeWarning, match="maxmemory-policy allkeys-lru"):
                await one.get_many([ALICE])
            client.config_set("maxmemory-policy", "volatile-lru")
            two, three = driver_at(valkey.url + "?protocol=3", prefix=prefix), driver_at(valkey.url, prefix=prefix, retention=DAY)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                await one.get_many([ALICE])
                await two.get_many([ALICE])  # records never run out: they are not volatile
            with pytest.warns(RuntimeWarning, match="volatile-lru"):
                await three.get_many([ALICE])
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "0")
    for each in (one, two, three):
        await each.aclose()


async def test_an_index_that_was_lost_comes_back_with_the_next_writes_rd_1(server: RedisServer, driver: RedisDriver, prefix: str) -> None:
    await driver.put_many([put("alice", expires_at=5), put("bob")])
    client: Any = redis.Redis.from_url(server.url)  # pyright: ignore[reportUnknownMemberType]
    client.delete(*Keys(prefix).indexes)
    client.close()
    assert await driver.count(None) == 0
    await driver.put_many([put("alice", expires_at=5), put("bob")])
    assert await driver.count(None) == 2
    assert [row.user_id for row in await driver.list_expiring(before=9, after=(-(2**63), b""), limit=9)] == [b"alice"]


async def test_one_of_many_in_a_namespace_is_found_page_by_page(driver: RedisDriver) -> None:
    await driver.put_many([put(f"user-{number}") for number in range(500)])
    rare = put("rare")._replace(namespace=b"rare")
    await driver.put_many([rare])
    assert [row.user_id for row in await driver.list_users(b"rare", after=b"", limit=1)] == [b"rare"]
    assert await driver.count(b"rare") == 1


async def test_entries_of_what_redis_dropped_stay_few_p19(server: RedisServer, prefix: str) -> None:
    driver = driver_at(server.url, prefix=prefix, retention=60_000)
    client: Any = redis.Redis.from_url(server.url)  # pyright: ignore[reportUnknownMemberType]
    first = [put(f"user-{number}") for number in range(400)]
    await driver.put_many(first)
    client.delete(*(Keys(prefix).record(each.row_id) for each in first))  # as if their time had come
    for start in range(0, 2000, 200):
        await driver.put_many([put(f"later-{number}") for number in range(start, start + 200)])
    entries = sum(client.zcard(index) for index in Keys(prefix).indexes)
    client.close()
    await driver.aclose()
    assert 2000 <= entries < 2200
