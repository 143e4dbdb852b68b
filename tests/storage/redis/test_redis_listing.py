"""Listings read the indexes in pieces: what stands in an index that pauth did not write stops none of them (RD-7)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pauth.errors import UnsupportedRecord
from pauth.storage.identity import row_id
from pauth.storage.redis.driver import RedisDriver
from pauth.storage.redis.rows import Keys, entries_in, expiring_bound, heads_in
from tests.storage.redis.kit import driver_at, one_per_shard, put
from tests.support.redis_servers import RedisServer

USERS = one_per_shard()
ROWS = [row_id("", user) for user in USERS]
FIRST = (-(2**63), b"")


@pytest.fixture(params=["valkey", "old_redis"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    found: RedisServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def driver(server: RedisServer, prefix: str) -> AsyncIterator[RedisDriver]:
    made = driver_at(server.url, prefix=prefix)
    yield made
    await made.aclose()


async def test_entries_of_another_make_are_passed_over_and_left_alone_p18(driver: RedisDriver, server: RedisServer, prefix: str) -> None:
    assert await driver.put_many([put(user, expires_at=1000) for user in USERS]) == [1] * 32
    strange = [b"e", b"u", b"ex", b"e" + b"\xff" * 8 + b"longer than an entry is, " * 3, b"uy" * 40]
    # so many, and before all others, that whole pages hold nothing else
    strange += [expiring_bound(1)[:9] + bytes([number]) for number in range(100)] + [b"u" + bytes([0, number]) for number in range(100)]
    with server.client() as client:
        for index in Keys(prefix).indexes:
            client.zadd(index, dict.fromkeys(strange, 0))
        for limit in (1, 10, 100):
            expiring, at = [row.row_id for row in await driver.list_expiring(before=2000, after=FIRST, limit=limit)], 0
            while len(expiring) < 32:
                at += 1
                assert at < 40
                expiring += [row.row_id for row in await driver.list_expiring(before=2000, after=(1000, expiring[-1]), limit=limit)]
            assert sorted(expiring) == expiring
            assert set(expiring) == set(ROWS)
            listed = [row.row_id for row in await driver.list_users(None, after=b"", limit=limit)]
            assert listed == ROWS[:limit]
        assert await driver.count(None) == 32
        for index in Keys(prefix).indexes:
            assert client.zcard(index) == 2 + len(strange)


async def test_an_index_of_another_type_is_an_error_that_says_so(driver: RedisDriver, server: RedisServer, prefix: str) -> None:
    with server.client() as client:
        client.set(Keys(prefix).indexes[3], "planted")
    for listing in (driver.list_users(None, after=b"", limit=9), driver.list_expiring(before=9, after=FIRST, limit=9), driver.count(None)):
        with pytest.raises(UnsupportedRecord, match="does not hold"):
            await listing


@pytest.mark.parametrize("limit", [1000, 10_000])
async def test_a_page_of_what_expires_takes_one_look_at_each_index(
    valkey: RedisServer, prefix: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = driver_at(valkey.url, prefix=prefix)
    users = [f"user-{number}" for number in range(2 * limit)]
    for start in range(0, len(users), 1000):
        await driver.put_many([put(user, expires_at=start + number) for number, user in enumerate(users[start : start + 1000])])
    asked: list[int] = []
    entries = driver._entries  # pyright: ignore[reportPrivateUsage]

    async def counted(*arguments: object) -> object:
        found = await entries(*arguments)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        asked.append(sum(len(page.known) for page in found))
        return found

    monkeypatch.setattr(driver, "_entries", counted)
    rows = await driver.list_expiring(before=3 * limit, after=FIRST, limit=limit)
    assert [row.expires_at for row in rows] == list(range(limit))
    assert len(asked) <= 2
    assert sum(asked) < 2 * limit  # what a scan costs depends on what is due
    await driver.aclose()


def test_what_a_script_gives_in_one_piece_is_whole_or_refused() -> None:
    entries = [b"u" + row for row in ROWS]
    assert entries_in(b"".join(entries), 33, 33) == (entries, None)
    assert entries_in(b"".join(entries), 33, 32) == (entries, entries[-1])
    assert entries_in([*entries, b"unknown"], 33, 33) == (entries, b"unknown")
    assert entries_in(b"", 33, 5) == ([], None)
    with pytest.raises(UnsupportedRecord):
        entries_in(b"u" * 34, 33, 5)
    heads = b"\0\0\0\5first" + b"\0\0\0\0" + b"\0\0\0\4last"
    assert heads_in(heads, 3) == [b"first", None, b"last"]
    for wrong, count in ((heads, 2), (heads, 4), (heads[:-1], 3), (heads + b"\0", 3), (b"", 1)):
        with pytest.raises(UnsupportedRecord):
            heads_in(wrong, count)
