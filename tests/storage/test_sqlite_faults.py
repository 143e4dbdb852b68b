"""SQLite when things go wrong: locks, full disks, damage, cancelled callers."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import aclosing, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pauth.errors import StorageUnavailable, TokenStorageError
from pauth.storage import DatabaseTokenStorage, RecordKey
from pauth.storage.sql.sqlite_errors import error_for
from tests.storage.kit import TOKENS, database, engine_of, plain

ALICE = RecordKey("a", "alice")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[DatabaseTokenStorage]:
    async with aclosing(database(tmp_path)) as storage:
        await storage.replace(ALICE, {"n": 1}, expected_version=0)
        yield storage


@contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Another program holds the write lock."""
    with closing(sqlite3.connect(folder / "tokens.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def pragma(storage: DatabaseTokenStorage, statement: str) -> object:
    engine = await engine_of(storage)
    async with engine.connect() as connection:
        result = await connection.exec_driver_sql(f"PRAGMA {statement}")
        return result.scalar() if result.returns_rows else None


def is_clean(error: BaseException) -> bool:
    """No chain, and nothing in it but words."""
    return error.__cause__ is None and error.__context__ is None and all(isinstance(each, str) for each in error.args)


# --- locks


async def test_a_locked_database_is_unavailable_and_can_be_read_p9_p20(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    await pragma(storage, "busy_timeout = 1")
    with locked(tmp_path):
        for operation in (
            storage.replace(ALICE, TOKENS, expected_version=1),
            storage.save_token("alice", TOKENS),
            storage.remove(ALICE),
            storage.put_pending("login", TOKENS, expires_at=4e9),
            storage.take_pending("login"),
        ):
            with pytest.raises(StorageUnavailable, match=r"SQLITE_BUSY.*another process holds its lock") as caught:
                await operation
            assert caught.value.retryable
            assert is_clean(caught.value)
        assert plain(await storage.load(ALICE)) == {"n": 1}
    assert await storage.replace(ALICE, {"n": 2}, expected_version=1) is not None


async def test_a_lock_that_is_let_go_in_time_only_delays(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    with locked(tmp_path):
        writer = asyncio.create_task(storage.replace(ALICE, {"n": 2}, expected_version=1))
        await asyncio.sleep(0)  # it asks, and is refused for now
    assert await writer is not None


async def test_opening_a_database_needs_no_lock(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    with locked(tmp_path):
        async with aclosing(database(tmp_path)) as second:
            assert plain(await second.load(ALICE)) == {"n": 1}


async def test_one_late_operation_does_not_keep_the_next_from_its_answer_p9(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    release = threading.Event()
    async with aclosing(database(tmp_path, timeout=0.2)) as hurried:
        engine = await engine_of(hurried)
        async with engine.connect() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            await raw.create_function("wait_for_the_test", 0, lambda: release.wait(60))
            stuck = asyncio.create_task(raw.execute("SELECT wait_for_the_test()"))
            await asyncio.sleep(0)
        with pytest.raises(StorageUnavailable, match=r"did not answer within 0\.2 seconds"):
            await hurried.load(ALICE)
        release.set()
        await (await stuck).close()
        record = None
        while record is None:
            with suppress(StorageUnavailable):  # on a busy machine
                record = await hurried.load(ALICE)
    assert plain(record) == {"n": 1}


# --- disks and files


async def test_a_full_disk_leaves_the_old_record_p12(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    pages = await pragma(storage, "page_count")
    assert await pragma(storage, f"max_page_count = {pages}") == pages
    with pytest.raises(StorageUnavailable, match=r"SQLITE_FULL\): the disk is full; what was stored is unharmed; try again later") as caught:
        await storage.replace(ALICE, {"access_token": "CANARY" * 20_000}, expected_version=1)
    assert is_clean(caught.value)
    assert plain(await storage.load(ALICE)) == {"n": 1}
    await pragma(storage, "max_page_count = 100000")
    assert await storage.replace(ALICE, {"access_token": "CANARY" * 20_000}, expected_version=1) is not None


async def test_a_read_only_database_is_for_the_operator(storage: DatabaseTokenStorage) -> None:
    await pragma(storage, "query_only = ON")
    with pytest.raises(TokenStorageError, match=r"SQLITE_READONLY.*permissions") as caught:
        await storage.replace(ALICE, TOKENS, expected_version=1)
    assert not caught.value.retryable
    assert is_clean(caught.value)


async def test_a_file_that_is_no_database_is_for_the_operator_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "tokens.db"
    file.write_bytes(b"this is no database" * 100)
    file.chmod(0o600)
    async with aclosing(database(tmp_path)) as storage:
        with pytest.raises(TokenStorageError, match="SQLITE_NOTADB") as caught:
            await storage.save_token("alice", TOKENS)
    assert not caught.value.retryable
    assert file.read_bytes() == b"this is no database" * 100


async def test_a_table_that_is_gone_is_an_error_never_no_token(tmp_path: Path, storage: DatabaseTokenStorage) -> None:
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as other:
        other.execute("DROP TABLE pauth_tokens")
    with pytest.raises(TokenStorageError):
        await storage.load(ALICE)


def sqlite_error(name: str) -> sqlite3.Error:
    error = sqlite3.OperationalError("CANARY in the words of SQLite")
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("name", "retryable"),
    [
        ("SQLITE_BUSY", True),
        ("SQLITE_BUSY_SNAPSHOT", True),
        ("SQLITE_LOCKED", True),
        ("SQLITE_LOCKED_SHAREDCACHE", True),
        ("SQLITE_FULL", True),
        ("SQLITE_IOERR", True),
        ("SQLITE_IOERR_FSYNC", True),
        ("SQLITE_NOMEM", True),
        ("SQLITE_INTERRUPT", True),
        ("SQLITE_CONSTRAINT", True),
        ("SQLITE_CANTOPEN", False),
        ("SQLITE_CANTOPEN_ISDIR", False),
        ("SQLITE_CORRUPT", False),
        ("SQLITE_CORRUPT_INDEX", False),
        ("SQLITE_NOTADB", False),
        ("SQLITE_PERM", False),
        ("SQLITE_READONLY", False),
        ("SQLITE_READONLY_DBMOVED", False),
        ("SQLITE_TOOBIG", False),
    ],
)
def test_every_error_of_the_database_has_its_error_p20(name: str, retryable: bool) -> None:
    cause = sqlite_error(name)
    for error in (cause, OperationalError("UPDATE …", {"p_record": "CANARY"}, cause), DBAPIError("UPDATE …", ["CANARY"], cause)):
        made = error_for(error)
        assert isinstance(made, TokenStorageError)
        assert isinstance(made, StorageUnavailable) is retryable
        assert made.retryable is retryable
        assert name in str(made)
        assert "CANARY" not in str(made)


@pytest.mark.parametrize("error", [PoolTimeoutError("CANARY"), StatementError("CANARY", "CANARY", ["CANARY"], ValueError("CANARY"))])
def test_other_errors_are_named_by_their_class_p20(error: Any) -> None:
    made = error_for(error)
    assert isinstance(made, StorageUnavailable)
    assert str(made) == f"the token database is not available ({type(error).__name__}); try again later"


# --- cancelled callers

OPERATIONS: list[Callable[[DatabaseTokenStorage, int], Coroutine[Any, Any, object]]] = [
    lambda storage, n: storage.save_token("carol", {"n": n}),
    lambda storage, n: storage.replace(ALICE, {"n": n}, expected_version=None),
    lambda storage, _: storage.load(ALICE),
    lambda storage, n: storage.put_pending("login", {"n": n}, expires_at=4e9),
    lambda storage, _: storage.take_pending("login"),
]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_caller_cancelled_anywhere_leaves_the_storage_usable_p14(
    operation: Callable[[DatabaseTokenStorage, int], Coroutine[Any, Any, object]], storage: DatabaseTokenStorage
) -> None:
    engine = await engine_of(storage)
    for turns in range(60):
        caller = asyncio.create_task(operation(storage, turns))
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
    assert await storage.replace(ALICE, {"n": "last"}, expected_version=None) is not None
    assert plain(await storage.load(ALICE)) == {"n": "last"}
    await storage._rows.drain(patience=60)  # pyright: ignore[reportPrivateUsage]
    await storage._operations.drain(patience=60)  # pyright: ignore[reportPrivateUsage]
    assert engine.pool.status() == "Pool size: 1  Connections in pool: 1 Current Overflow: 0 Current Checked out connections: 0"


async def test_a_write_is_finished_though_its_caller_left_p14(storage: DatabaseTokenStorage) -> None:
    caller = asyncio.create_task(storage.replace(ALICE, {"n": 2}, expected_version=1))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    await storage._rows.drain(patience=60)  # pyright: ignore[reportPrivateUsage]
    await storage._operations.drain(patience=60)  # pyright: ignore[reportPrivateUsage]
    assert plain(await storage.load(ALICE)) == {"n": 2}


async def test_first_use_is_finished_though_its_caller_left_p14(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        for turns in (0, 1, 2, 5, 20):
            caller = asyncio.create_task(storage.save_token("alice", {"n": turns}))
            for _ in range(turns):
                await asyncio.sleep(0)
            caller.cancel()
            await asyncio.wait([caller])
        assert await storage.get_token("bob") is None


async def test_closing_waits_for_what_is_under_way(tmp_path: Path) -> None:
    storage = database(tmp_path)
    writers = [asyncio.create_task(storage.save_token(str(number), {"n": number})) for number in range(20)]
    await asyncio.sleep(0)
    await storage.aclose()
    await asyncio.gather(*writers)
    async with aclosing(database(tmp_path)) as again:
        assert [await again.get_token(str(number)) for number in range(20)] == [{"n": number} for number in range(20)]
