"""The SQL storage: configuration, schema, event loops, what is in its tables."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from pauth.errors import ConfigurationError, RecordTampered, TokenStorageError, UnknownEncryptionKey, UnsupportedRecord
from pauth.storage import DatabaseTokenStorage, RecordKey
from pauth.testing.clock import ManualClock
from tests.storage.kit import KEY, OTHER_KEY, TOKENS, database, plain

ALICE, BOB = RecordKey("a", "alice"), RecordKey("a", "bob")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[DatabaseTokenStorage]:
    async with aclosing(database(tmp_path)) as storage:
        yield storage


def run_sql(folder: Path, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "tokens.db", isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()


# --- configuration


def test_a_key_is_needed_vc_9(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAUTH_ENCRYPTION_KEY", raising=False)
    monkeypatch.delenv("PAUTH_ENCRYPTION_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match=r"pass encryption_key=, or set PAUTH_ENCRYPTION_KEY"):
        DatabaseTokenStorage("sqlite:///tokens.db")
    with pytest.raises(ConfigurationError, match="contradict"):
        DatabaseTokenStorage("sqlite:///tokens.db", encryption_key=KEY, insecure_plaintext=True)


@pytest.mark.parametrize("timeout", [0, -1.0])
def test_a_timeout_is_positive(timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        DatabaseTokenStorage("sqlite:///tokens.db", encryption_key=KEY, timeout=timeout)


async def test_the_key_of_the_environment_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEYS", f"{KEY.to_string().reveal()},{OTHER_KEY.to_string().reveal()}")
    async with aclosing(DatabaseTokenStorage(make_url(f"sqlite+aiosqlite:///{tmp_path}/tokens.db"))) as storage:
        await storage.save_token("alice", {"a": 1})
    async with aclosing(database(tmp_path)) as storage:
        assert await storage.get_token("alice") == {"a": 1}


def test_databases_without_a_driver_are_refused_by_name() -> None:
    for url in ("oracle+oracledb://u:CANARY-password@h/db", "mssql+aioodbc://u:CANARY-password@h/db"):
        for given in (url, make_url(url)):
            with pytest.raises(ConfigurationError, match=r"no token storage for (oracle|mssql) databases; there is one for .*sqlite"):
                DatabaseTokenStorage(given, encryption_key=KEY)


def test_another_library_than_aiosqlite_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"must be sqlite\+aiosqlite, not sqlite\+pysqlite"):
        DatabaseTokenStorage("sqlite+pysqlite:///x", encryption_key=KEY)


def _not_found(_: str) -> None:
    return None


def test_a_missing_aiosqlite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pauth.storage.sql.sqlite.find_spec", _not_found)
    with pytest.raises(ConfigurationError, match=r"needs aiosqlite.*pip install 'pauth\[sql\]'"):
        DatabaseTokenStorage("sqlite:///x", encryption_key=KEY)


@pytest.mark.parametrize("url", ["", "tokens.db", "/var/lib/tokens.db", "sqlite:CANARY"])
def test_what_is_no_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write sqlite:///relative/path"):
        DatabaseTokenStorage(url, encryption_key=KEY)


async def test_after_closing_the_storage_refuses_to_work(tmp_path: Path) -> None:
    storage = database(tmp_path)
    await storage.aclose()
    with pytest.raises(ConfigurationError, match="was closed"):
        await storage.get_token("alice")


# --- a user's engine


async def test_an_engine_of_the_users_is_not_disposed(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/tokens.db")
    for _ in range(2):
        async with aclosing(DatabaseTokenStorage(engine, encryption_key=KEY)) as storage:
            await storage.save_token("alice", TOKENS)
    assert engine.pool.status().count("Connections in pool: 1") == 1
    async with engine.connect() as connection:  # it has its own isolation level still
        assert (await connection.get_isolation_level()) == "SERIALIZABLE"
    await engine.dispose()


async def test_an_engine_with_one_shared_connection_is_refused() -> None:
    for engine in (create_async_engine("sqlite+aiosqlite://"), create_async_engine("sqlite+aiosqlite:///x.db", poolclass=StaticPool)):
        with pytest.raises(ConfigurationError, match="MemoryTokenStorage"):
            DatabaseTokenStorage(engine, encryption_key=KEY)


async def test_an_engine_of_another_dialect_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create_async_engine("sqlite+aiosqlite:///x.db")
    monkeypatch.setattr(engine.dialect, "driver", "pysqlcipher")
    with pytest.raises(ConfigurationError, match=r"not sqlite\+pysqlcipher"):
        DatabaseTokenStorage(engine, encryption_key=KEY)


async def test_an_engine_serves_one_event_loop_p15(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/tokens.db")
    storage = DatabaseTokenStorage(engine, encryption_key=KEY)

    async def elsewhere() -> None:
        with pytest.raises(ConfigurationError, match="serves another event loop"):
            await storage.get_token("alice")

    await storage.save_token("alice", {"a": 1})
    await asyncio.to_thread(asyncio.run, elsewhere())
    assert await storage.get_token("alice") == {"a": 1}
    await engine.dispose()


# --- event loops and threads


def test_one_storage_serves_one_event_loop_after_the_other_p15(tmp_path: Path) -> None:
    storage, before = database(tmp_path), set(threading.enumerate())
    for number in range(5):
        asyncio.run(storage.save_token("alice", {"n": number}))
        assert asyncio.run(storage.get_token("alice")) == {"n": number}
    assert len([thread for thread in threading.enumerate() if "_connection_worker_thread" in thread.name and thread not in before]) <= 1
    asyncio.run(storage.aclose())


def test_event_loops_in_threads_lose_no_write_p15(tmp_path: Path) -> None:
    storage = database(tmp_path)
    threads = 4
    together = threading.Barrier(threads)

    async def count_up() -> int:
        won = 0
        while won < 10:
            record = await storage.load(ALICE)
            version = record.version if record else 0
            won += await storage.replace(ALICE, {"n": version + 1}, expected_version=version) is not None
        return won

    def thread(_: int) -> int:
        together.wait()
        return asyncio.run(count_up())

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(thread, range(threads))) == 10 * threads
    record = asyncio.run(storage.load(ALICE))
    assert record is not None
    assert (record.version, record.tokens) == (10 * threads, {"n": 10 * threads})
    asyncio.run(storage.aclose())


async def test_many_first_users_make_the_tables_once(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await asyncio.gather(*(storage.save_token(str(number), {"n": number}) for number in range(50)))
        assert [await storage.get_token(str(number)) for number in range(50)] == [{"n": number} for number in range(50)]
    assert run_sql(tmp_path, "SELECT id, version FROM pauth_schema") == [(1, 1)]


# --- schema


@pytest.mark.parametrize("version", [0, 2, 99])
async def test_another_schema_is_refused_and_left_alone_p18(version: int, tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", {"a": 1})
    run_sql(tmp_path, "UPDATE pauth_schema SET version = ?", version)
    before = run_sql(tmp_path, "SELECT * FROM pauth_tokens")
    async with aclosing(database(tmp_path)) as storage:
        for operation in (storage.get_token("alice"), storage.save_token("alice", {"a": 2}), storage.take_pending("login")):
            with pytest.raises(ConfigurationError, match=f"schema version {version}, this version of pauth reads 1"):
                await operation
    assert run_sql(tmp_path, "SELECT * FROM pauth_tokens") == before


async def test_a_first_start_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    run_sql(tmp_path, "CREATE TABLE pauth_schema (id INTEGER NOT NULL PRIMARY KEY, version INTEGER NOT NULL)")
    run_sql(tmp_path, "CREATE TABLE others (id INTEGER)")
    (tmp_path / "tokens.db").chmod(0o600)
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", {"a": 1})
    tables = {name for (name,) in run_sql(tmp_path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"others", "pauth_schema", "pauth_tokens", "pauth_pending", "pauth_leases"}


async def test_rows_are_found_by_a_hash_and_name_their_owner_sq_1(storage: DatabaseTokenStorage, tmp_path: Path) -> None:
    await storage.replace(RecordKey("nämespace", "ali\0ce"), {"a": 1}, expected_version=0, expires_at=1234.5678)
    await storage.put_pending("login", {}, expires_at=4e9)
    (row,) = run_sql(tmp_path, "SELECT typeof(id), length(id), namespace, user_id, version, typeof(stored_at), expires_at FROM pauth_tokens")
    assert row == ("blob", 32, "nämespace".encode(), b"ali\0ce", 1, "integer", 1234568)
    assert run_sql(tmp_path, "SELECT typeof(id), length(id), expires_at FROM pauth_pending") == [("blob", 32, 4_000_000_000_000)]


async def test_of_a_deleted_record_nothing_but_the_version_is_kept_for_a_day(tmp_path: Path) -> None:
    clock = ManualClock(1_000_000)
    async with aclosing(database(tmp_path, clock=clock)) as storage:
        for user_id in ("alice", "bob"):
            await storage.replace(RecordKey("a", user_id), {"a": 1}, expected_version=0, expires_at=5.0)
        await storage.remove(ALICE)
        select = "SELECT namespace, user_id, version, expires_at, record FROM pauth_tokens WHERE record IS NULL"
        assert run_sql(tmp_path, select) == [(b"a", None, 1, None, None)]
        clock.advance(86_399)
        await storage.put_pending("one", {}, expires_at=clock.time() + 600)
        assert len(run_sql(tmp_path, select)) == 1
        clock.advance(60)
        await storage.put_pending("two", {}, expires_at=clock.time() + 600)
        assert run_sql(tmp_path, select) == []
        assert await storage.load(BOB) is not None


async def test_expired_pending_logins_are_collected_once_a_minute_p19(tmp_path: Path) -> None:
    clock = ManualClock()
    async with aclosing(database(tmp_path, clock=clock)) as storage:
        for number in range(5):
            await storage.put_pending(f"short {number}", {}, expires_at=clock.time() + 30)
        await storage.put_pending("long", {}, expires_at=clock.time() + 600)
        clock.advance(59)
        await storage.put_pending("more", {}, expires_at=clock.time() + 600)
        assert run_sql(tmp_path, "SELECT count(*) FROM pauth_pending") == [(7,)]
        clock.advance(1)
        await storage.put_pending("last", {}, expires_at=clock.time() + 600)
        assert run_sql(tmp_path, "SELECT count(*) FROM pauth_pending") == [(3,)]
        assert await storage.take_pending("long") == {}


async def test_a_failure_to_collect_is_not_the_callers(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path, clock=ManualClock())) as storage:
        await storage.save_token("alice", {"a": 1})
        run_sql(tmp_path, "CREATE TRIGGER no BEFORE DELETE ON pauth_pending WHEN old.expires_at < 5 BEGIN SELECT RAISE(ABORT, 'no'); END")
        run_sql(tmp_path, "INSERT INTO pauth_pending VALUES (x'00', 1, x'00')")
        await storage.put_pending("login", {"n": 1}, expires_at=4e9)
        assert await storage.take_pending("login") == {"n": 1}


# --- rows that are not as they should be


async def test_rows_exchanged_between_users_are_found_p13_p16(storage: DatabaseTokenStorage, tmp_path: Path) -> None:
    for key in (ALICE, BOB, RecordKey("b", "alice")):
        await storage.replace(key, {"owner": key.user_id, "of": key.namespace}, expected_version=0)
    bobs = run_sql(tmp_path, "SELECT record FROM pauth_tokens WHERE namespace = ? AND user_id = ?", b"a", b"bob")[0][0]
    run_sql(tmp_path, "UPDATE pauth_tokens SET record = ? WHERE user_id = ?", bobs, b"alice")
    for key in (ALICE, RecordKey("b", "alice")):
        with pytest.raises(RecordTampered):
            await storage.load(key)
    assert plain(await storage.load(BOB)) == {"owner": "bob", "of": "a"}
    assert run_sql(tmp_path, "SELECT count(*) FROM pauth_tokens") == [(3,)]  # kept, never deleted


async def test_an_older_row_put_back_under_a_newer_version_is_found_vc_3(storage: DatabaseTokenStorage, tmp_path: Path) -> None:
    await storage.replace(ALICE, {"n": 1}, expected_version=0)
    await storage.replace(ALICE, {"n": 2}, expected_version=1)
    old = run_sql(tmp_path, "SELECT record FROM pauth_tokens")[0][0]
    await storage.replace(ALICE, {"n": 3}, expected_version=2)
    run_sql(tmp_path, "UPDATE pauth_tokens SET record = ?", old)
    with pytest.raises(RecordTampered):
        await storage.load(ALICE)


async def test_a_pending_login_is_no_record_and_the_reverse(storage: DatabaseTokenStorage, tmp_path: Path) -> None:
    await storage.replace(RecordKey("", "login"), {"n": 1}, expected_version=0)
    await storage.put_pending("login", {"n": 1}, expires_at=4e9)
    run_sql(tmp_path, "UPDATE pauth_pending SET record = (SELECT record FROM pauth_tokens)")
    with pytest.raises(RecordTampered):
        await storage.take_pending("login")


@pytest.mark.plaintext_files
async def test_plaintext_and_encrypted_storages_refuse_each_others_records(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="readable to whoever"):
        plaintext = DatabaseTokenStorage(f"sqlite:///{tmp_path}/tokens.db", insecure_plaintext=True)
    async with aclosing(plaintext), aclosing(database(tmp_path)) as encrypted:
        await plaintext.save_token("in plaintext", TOKENS)
        await encrypted.save_token("encrypted", TOKENS)
        with pytest.raises(RecordTampered):
            await encrypted.get_token("in plaintext")
        with pytest.raises(UnknownEncryptionKey):
            await plaintext.get_token("encrypted")
        assert await plaintext.get_token("in plaintext") == TOKENS


async def test_a_record_of_a_newer_format_is_refused_and_kept_p18(storage: DatabaseTokenStorage, tmp_path: Path) -> None:
    await storage.save_token("alice", TOKENS)
    record = run_sql(tmp_path, "SELECT record FROM pauth_tokens")[0][0]
    newer = record[:4] + b"\x02" + record[5:]
    run_sql(tmp_path, "UPDATE pauth_tokens SET record = ?", newer)
    with pytest.raises(UnsupportedRecord):
        await storage.get_token("alice")
    assert run_sql(tmp_path, "SELECT record FROM pauth_tokens") == [(newer,)]
    await storage.save_token("alice", {"logged in": "again"})
    assert await storage.get_token("alice") == {"logged in": "again"}


async def test_keys_are_rotated_while_the_store_is_in_use_p16(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tokens.db"
    async with aclosing(database(tmp_path)) as old, aclosing(DatabaseTokenStorage(url, encryption_key=[OTHER_KEY, KEY])) as both:
        await old.save_token("alice", {"n": 1})
        await old.save_token("bob", {"n": 1})
        assert await both.get_token("alice") == {"n": 1}
        await both.save_token("alice", {"n": 2})
        with pytest.raises(UnknownEncryptionKey, match=OTHER_KEY.key_id.hex()):
            await old.get_token("alice")
    async with aclosing(DatabaseTokenStorage(url, encryption_key=OTHER_KEY)) as new:
        assert await new.get_token("alice") == {"n": 2}
        with pytest.raises(UnknownEncryptionKey, match=KEY.key_id.hex()):
            await new.get_token("bob")


# --- nothing leaks, nothing is injected

HOSTILE = (
    "'; DROP TABLE pauth_tokens; --",
    '" OR 1=1 --',
    "' OR '1'='1",
    "\\'; DELETE FROM pauth_tokens; --",
    "%s %d %(p_id)s {0} :p_id ?1 $1 @p",
    "a\0b",
    "*",
    "_%",
    "x'00'",
    "); ATTACH DATABASE '/etc/x' AS y; --",
    "\u2019 OR 1=1",
)


async def test_hostile_text_is_only_text_sq_4(storage: DatabaseTokenStorage) -> None:
    for number, text in enumerate(HOSTILE):
        await storage.replace(RecordKey(text, text), {text: number}, expected_version=0)
        await storage.put_pending(text, {text: number}, expires_at=4e9)
    for number, text in enumerate(HOSTILE):
        assert plain(await storage.load(RecordKey(text, text))) == {text: number}
        assert await storage.take_pending(text) == {text: number}
    assert await storage.remove(RecordKey(HOSTILE[0], HOSTILE[0]))
    assert await storage.load(RecordKey(HOSTILE[1], HOSTILE[1])) is not None


@pytest.mark.plaintext_files
async def test_drivers_log_no_tokens_even_in_plaintext_at_debug_sh_1(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("sqlalchemy.engine", "sqlalchemy.pool", "aiosqlite"):
        caplog.set_level(logging.DEBUG, name)
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/users.db", echo=True)
    with pytest.warns(UserWarning, match="insecure_plaintext"):
        storages = [DatabaseTokenStorage(url, insecure_plaintext=True) for url in (f"sqlite:///{tmp_path}/tokens.db", engine)]
    for storage in storages:
        async with aclosing(storage):
            await storage.save_token("alice", TOKENS)
            await storage.replace(RecordKey("", "alice"), TOKENS, expected_version=1)
            assert await storage.get_token("alice") == TOKENS
            await storage.put_pending("login", TOKENS, expires_at=4e9)
            assert await storage.take_pending("login") == TOKENS
    await engine.dispose()
    assert any(record.name == "aiosqlite" for record in caplog.records)
    assert any("sqlalchemy" in record.name for record in caplog.records)
    assert "CANARY" not in caplog.text


async def test_a_failing_statement_shows_no_parameters_sh_1(storage: DatabaseTokenStorage, tmp_path: Path) -> None:
    await storage.save_token("alice", TOKENS)
    run_sql(tmp_path, "CREATE TRIGGER no BEFORE UPDATE ON pauth_tokens BEGIN SELECT RAISE(ABORT, 'words of the database'); END")
    with pytest.raises(TokenStorageError) as caught:
        await storage.save_token("alice-canary", TOKENS)
        await storage.save_token("alice", TOKENS)
    assert str(caught.value) == "the token database is not available (SQLITE_CONSTRAINT_TRIGGER); try again later"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
