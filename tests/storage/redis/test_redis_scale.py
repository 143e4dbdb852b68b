"""100,000 users listed by page while they change."""

from __future__ import annotations

import asyncio

from pauth.storage.driver import Delete
from pauth.storage.identity import row_id
from tests.storage.redis.kit import driver_at, put
from tests.support.redis_servers import RedisServer

COUNT = 100_000


async def test_100000_users_are_listed_by_page_while_they_change(valkey: RedisServer, prefix: str) -> None:
    driver = driver_at(valkey.url, prefix=prefix, timeout=60)
    for start in range(0, COUNT, 1000):
        assert await driver.put_many([put(f"user-{number}", expires_at=number) for number in range(start, start + 1000)]) == [1] * 1000
    listing = True
    changed = 0

    async def change() -> None:
        """Rewrite the even ones, delete and make again each hundredth of the odd ones, and let strangers come and go."""
        nonlocal changed
        while listing:
            numbers = [(changed * 251 + step * 2) % COUNT for step in range(50)]
            await driver.put_many([put(f"user-{number}", expires_at=number + COUNT) for number in sorted({n - n % 2 for n in numbers})])
            await driver.put_many([put(f"stranger-{changed}"), put(f"user-{changed * 200 % COUNT + 1}")])
            await driver.delete_many(
                [Delete(row_id("", f"stranger-{changed - 1}"), None, 0), Delete(row_id("", f"user-{changed * 200 % COUNT + 1}"), None, 0)]
            )
            changed += 1

    changer = asyncio.create_task(change())
    seen: dict[bytes, int] = {}
    after = b""
    while page := await driver.list_users(None, after=after, limit=1000):
        for row in page:
            seen[row.user_id] = seen.get(row.user_id, 0) + 1
            assert row.row_id == row_id("", row.user_id.decode())
        after = page[-1].row_id
        if len(page) < 1000:
            break
    listing = False
    await changer
    assert changed > 20
    assert set(seen.values()) == {1}
    stable = {f"user-{number}".encode() for number in range(COUNT) if number % 200 != 1}
    assert stable <= seen.keys()
    with valkey.client() as client:
        gone = sum(1 for number in range(1, COUNT, 200) if (number - 1) // 200 < changed)
        entries = sum(client.zlexcount(f"{prefix}:{{{tag}}}:i", "[u", "(v") for tag in _tags())  # type: ignore[misc, unused-ignore]
        assert entries == COUNT - gone + 1  # the index is neither more nor less than the records
    await driver.aclose()


def _tags() -> list[str]:
    from pauth.storage.redis.rows import Keys

    return [key.split(b"{")[1].split(b"}")[0].decode() for key in Keys("x").indexes]
