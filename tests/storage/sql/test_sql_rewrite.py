"""Re-encryption in place, and copies from one database to another (VC-5, P16)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.storage import DatabaseTokenStorage, Record, RecordKey, copy_storage, reencrypt
from pauth.storage.base import Write
from pauth.storage.driver import Delete
from tests.storage.kit import KEY, OTHER_KEY
from tests.storage.sql.kit import by, driver_at, put, storage_at
from tests.support.sql_servers import SqlServer

KEYS = [RecordKey("b" if number % 3 else "a", f"user-{number}") for number in range(20)]


@pytest.fixture(params=["asyncpg", "psycopg", "asyncmy", "aiomysql"])
def url(request: pytest.FixtureRequest) -> str:
    """A new place for tables."""
    server: SqlServer = request.getfixturevalue("postgres" if request.param in ("asyncpg", "psycopg") else "mariadb")
    return by(request.param, server.account())


async def fill(storage: DatabaseTokenStorage) -> list[Record]:
    writes = [Write(key, {"t": f"CANARY-{key.user_id}"}, 0, 5000.25 + n, None, bytes([n]) * 16, 1234.5) for n, key in enumerate(KEYS)]
    assert all(isinstance(written, Record) for written in await storage.put_many(writes))
    return await facts(storage)


async def facts(storage: DatabaseTokenStorage) -> list[Record]:
    found = [record for record in await storage.get_many(KEYS) if isinstance(record, Record)]
    assert len(found) == len(KEYS)
    return found


def without_key(records: list[Record]) -> list[tuple[object, ...]]:
    return [(each.key, dict(each.tokens), each.version, each.stored_at, each.expires_at, each.lineage) for each in records]


async def test_a_store_is_reencrypted_while_it_is_in_use_p16(url: str) -> None:
    async with aclosing(storage_at(url)) as storage:
        before = await fill(storage)
    async with aclosing(DatabaseTokenStorage(url, encryption_key=[OTHER_KEY, KEY])) as storage:
        report = await reencrypt(storage, batch=7)
        assert (report.rewritten, report.failed, report.complete) == (20, 0, True)
        assert (await reencrypt(storage)).rewritten == 0
        listed = await storage.list_expiring(6000.0)
        assert [(item.key, item.expires_at) for item in listed.items] == [(each.key, each.expires_at) for each in before]
    async with aclosing(DatabaseTokenStorage(url, encryption_key=OTHER_KEY)) as storage:  # the old key may go
        assert without_key(await facts(storage)) == without_key(before)


async def test_only_the_version_that_was_read_is_rewritten(url: str) -> None:
    driver = driver_at(url)
    await driver.put_many([put(user, key_id=b"old key!") for user in ("alice", "bob", "carol", "dave")])
    await driver.put_many([put("bob")])
    await driver.delete_many([Delete(put("carol").row_id, None, 1_000)])
    rewrite = {"expected_version": 1, "key_id": b"new key!", "stored_at": 9, "expires_at": 9, "lineage": b"9" * 16, "data": memoryview(b"CANARY-new")}
    users = ("nobody", "dave", "carol", "bob", "alice")
    assert await driver.rewrite_many([put(user, **rewrite) for user in users]) == [False, True, False, False, True]
    assert await driver.rewrite_many([put(user, **rewrite) for user in users]) == [False, True, False, False, True]  # changed or not
    assert await driver.rewrite_many([put("bob", **rewrite)]) == [False]
    rows = await driver.get_many([put(user).row_id for user in ("alice", "bob", "carol")])
    assert [row and (row.version, row.stored_at, row.expires_at, row.lineage, bytes(row.data)) for row in rows if not isinstance(row, Exception)] == [
        (1, 1_000, None, None, b"CANARY-new"),
        (2, 1_000, None, None, b"CANARY-data of bob"),
        None,
    ]
    listed = await driver.list_users(None, after=b"", limit=10)
    assert {row.user_id: row.key_id for row in listed} == {b"alice": b"new key!", b"bob": None, b"dave": b"new key!"}
    await driver.aclose()


@pytest.mark.parametrize("url", ["asyncpg", "asyncmy"], indirect=True)
@pytest.mark.parametrize("moved_out", [False, True])
async def test_a_store_is_copied_while_it_is_in_use(url: str, moved_out: bool, tmp_path: Path) -> None:
    other_url = f"sqlite+aiosqlite:///{tmp_path}/tokens.db"
    source, target = (url, other_url) if moved_out else (other_url, url)
    async with aclosing(storage_at(source)) as old, aclosing(DatabaseTokenStorage(target, encryption_key=OTHER_KEY)) as new:
        await fill(old)
        changed = RecordKey("c", "changed during it")

        async def use() -> None:
            for number in range(20):
                await old.replace(changed, {"n": number}, expected_version=None)
                await asyncio.sleep(0)

        _, report = await asyncio.gather(use(), copy_storage(old, new, batch=7))
        assert report.verified
        last = await copy_storage(old, new)
        assert (last.total, last.checked, last.same, last.failed) == (21, 21, 21, 0)
        assert [fact[:2] + fact[3:] for fact in without_key(await facts(old))] == [fact[:2] + fact[3:] for fact in without_key(await facts(new))]
        found = await new.load(changed)
        assert found is not None
        assert found.tokens == {"n": 19}
