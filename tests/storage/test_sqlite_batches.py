"""SQLite in batches: one transaction, one bad row, leases, listings."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from pauth.clock import SystemClock
from pauth.errors import StorageUnavailable, TokenStorageError
from pauth.storage import DatabaseTokenStorage, RecordKey
from pauth.storage.base import Write
from pauth.storage.identity import row_id
from pauth.testing.clock import ManualClock
from tests.storage.kit import KEY, TOKENS, database, engine_of, plain

ALICE = RecordKey("a", "alice")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[DatabaseTokenStorage]:
    async with aclosing(database(tmp_path)) as storage:
        await storage.replace(ALICE, {"n": 1}, expected_version=0)
        yield storage


def run_sql(folder: Path, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "tokens.db", isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()


async def test_what_waits_together_is_one_transaction(storage: DatabaseTokenStorage) -> None:
    statements: list[str] = []
    async with (await engine_of(storage)).connect() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection
    await raw.set_trace_callback(statements.append)
    await asyncio.gather(*(storage.save_token(str(number), {"n": number}) for number in range(64)))
    await raw.set_trace_callback(None)
    begun = [statement for statement in statements if statement.startswith("BEGIN")]
    assert begun == ["BEGIN IMMEDIATE"] * 2  # the first one alone, 63 together
    assert statements.count("COMMIT") == 2


async def test_a_row_against_a_constraint_fails_alone(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    run_sql(tmp_path, "CREATE TRIGGER no BEFORE INSERT ON pauth_tokens WHEN new.user_id = x'626164' BEGIN SELECT RAISE(ABORT, 'no'); END")
    keys = [RecordKey("a", user) for user in ("one", "bad", "two")]
    one, bad, two = await storage.put_many([Write(key, TOKENS) for key in keys])
    assert isinstance(bad, StorageUnavailable)
    assert "SQLITE_CONSTRAINT_TRIGGER" in str(bad)
    assert [await storage.load(key) for key in keys] == [one, None, two]
    assert plain(await storage.load(keys[2])) == TOKENS


async def test_a_row_too_large_for_the_disk_fails_alone_p12(storage: DatabaseTokenStorage) -> None:
    async with (await engine_of(storage)).connect() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 3}")
    keys = [RecordKey("a", user) for user in ("one", "large", "two")]
    await storage.save_token("goes first", {})
    one, large, two = await storage.put_many([Write(key, {"t": "CANARY" * (20_000 if key.user_id == "large" else 1)}) for key in keys])
    assert isinstance(large, StorageUnavailable)
    assert "SQLITE_FULL" in str(large)
    assert [await storage.load(key) for key in keys] == [one, None, two]
    assert plain(await storage.load(ALICE)) == {"n": 1}


async def test_a_lock_fails_a_batch_as_a_whole(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    async with aclosing(database(tmp_path, timeout=0.2)) as hurried:
        await hurried.load(ALICE)
        with closing(sqlite3.connect(tmp_path / "tokens.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outcomes = await hurried.put_many([Write(RecordKey("a", str(number)), {}) for number in range(5)])
            other.execute("ROLLBACK")
        assert [isinstance(outcome, StorageUnavailable) for outcome in outcomes] == [True] * 5
        assert await storage.count("a") == 1


async def test_a_connection_that_was_closed_is_unavailable(storage: DatabaseTokenStorage) -> None:
    async with (await engine_of(storage)).connect() as connection:
        raw: Any = (await connection.get_raw_connection()).driver_connection
    await raw.close()
    with pytest.raises(StorageUnavailable, match="its connection was closed") as caught:
        await storage.load(ALICE)
    assert caught.value.__context__ is None


async def test_a_failure_to_roll_back_does_not_hide_the_error(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    run_sql(tmp_path, "CREATE TRIGGER no BEFORE INSERT ON pauth_pending BEGIN SELECT RAISE(ROLLBACK, 'no'); END")
    with pytest.raises(TokenStorageError, match="SQLITE_CONSTRAINT_TRIGGER"):  # SQLite has ended the transaction by itself
        await storage.put_pending("login", {}, expires_at=4e9)
    assert plain(await storage.load(ALICE)) == {"n": 1}


# --- leases


async def test_a_lease_from_before_a_restart_of_the_machine_is_over(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    first = await storage.take_lease(ALICE, "one", ttl=30)
    run_sql(tmp_path, "UPDATE pauth_leases SET until = until + 1000000000")  # as if the clock had begun anew since
    assert await storage.extend_lease(ALICE, "one", ttl=30) is False
    second = await storage.take_lease(ALICE, "two", ttl=30)
    assert first is not None
    assert second is not None
    assert second.fence > first.fence


async def test_fences_go_on_after_leases_were_collected_p19(tmp_path: Path) -> None:
    clock = ManualClock()
    async with aclosing(database(tmp_path, clock=clock)) as storage:
        first = await storage.take_lease(ALICE, "one", ttl=30)
        await storage.take_lease(RecordKey("a", "bob"), "one", ttl=86_400)
        for turn in range(3):
            clock.advance(50_000)
            await storage.extend_lease(RecordKey("a", "bob"), "one", ttl=86_400)
            await storage.put_pending(f"login {turn}", {}, expires_at=clock.time() + 60)
        assert run_sql(tmp_path, "SELECT count(*) FROM pauth_leases") == [(1,)]  # bob's, which still runs
        second = await storage.take_lease(ALICE, "two", ttl=30)
    assert first is not None
    assert second is not None
    assert second.fence > first.fence


async def test_a_released_lease_keeps_its_fence_and_forgets_its_owner(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    lease = await storage.take_lease(ALICE, "one", ttl=30)
    await storage.release_lease(ALICE, "one")
    assert lease is not None
    assert run_sql(tmp_path, "SELECT owner, fence FROM pauth_leases") == [(None, lease.fence)]


@pytest.mark.parametrize("machine_clock", [getattr(time, "CLOCK_BOOTTIME", None), None])
async def test_leases_run_on_a_clock_of_the_machine(tmp_path: Path, machine_clock: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pauth.storage.sql.sqlite_driver._MACHINE_CLOCK", machine_clock)
    async with aclosing(DatabaseTokenStorage(f"sqlite:///{tmp_path}/tokens.db", encryption_key=KEY, clock=SystemClock())) as storage:
        lease = await storage.take_lease(ALICE, "one", ttl=0.001)
        while lease is not None and await storage.extend_lease(ALICE, "one", ttl=0.001):
            await asyncio.sleep(0.005)
        after = await storage.take_lease(ALICE, "two", ttl=30)
    assert lease is not None
    assert after is not None
    assert after.fence > lease.fence


# --- listings


async def test_100_000_users_are_listed_by_page_while_they_change(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as connection:
        connection.executemany(
            "INSERT INTO pauth_tokens (id, namespace, user_id, version, stored_at, record) VALUES (?, x'62', ?, 1, 0, x'00')",
            ((row_id("b", str(number)), str(number).encode()) for number in range(100_000)),
        )
        connection.commit()
    seen: list[str] = []
    cursor: str | None = None
    page_number = 0
    while cursor is not None or not page_number:
        page = await storage.list_users("b", cursor=cursor, limit=1000)
        seen += [each.key.user_id for each in page.items]
        cursor = page.next_cursor
        page_number += 1
        await storage.replace(RecordKey("b", f"comes {page_number}"), {}, expected_version=0)
    assert len(seen) == len(set(seen))
    assert set(map(str, range(100_000))) <= set(seen)
    assert await storage.count("b") == 100_000 + page_number


def test_listings_walk_along_an_index(tmp_path: Path) -> None:
    asyncio.run(_made(tmp_path))
    plans = {
        "namespace = x'00' AND id > x'00' AND record IS NOT NULL ORDER BY id": "pauth_tokens_namespace",
        "expires_at < 5 AND (expires_at, id) > (1, x'00') ORDER BY expires_at, id": "pauth_tokens_expires_at",
    }
    for condition, index in plans.items():
        (plan,) = [row[3] for row in run_sql(tmp_path, f"EXPLAIN QUERY PLAN SELECT id FROM pauth_tokens WHERE {condition} LIMIT 5")]
        assert index in plan
        assert "SCAN" not in plan


async def _made(folder: Path) -> None:
    async with aclosing(database(folder)) as storage:
        await storage.count()
