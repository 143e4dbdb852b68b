"""P12, P15: a process forks with a SQLite file open, and nothing that is acknowledged is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pauth.errors import TokenStorageError
from pauth.storage.sql import sqlite, sqlite_forks
from tests.storage.kit import database, engine_of

ROOT = Path(__file__).parents[2]


def test_p12_what_a_child_writes_is_not_lost_when_others_close_the_file(tmp_path: Path) -> None:
    """SQLite's notes of who holds which lock are inherited, the locks are not."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.storage.fork_program", str(tmp_path / "tokens.db")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["3", "4"])


@asynccontextmanager
async def forking(*, child: bool = False) -> AsyncGenerator[None, None]:
    """What happens around a fork in another thread, without one."""
    await asyncio.to_thread(sqlite_forks.before_fork)
    try:
        yield
    finally:
        (sqlite_forks.after_fork_in_child if child else sqlite_forks.after_fork_in_parent)()


async def connection_of(storage: Any) -> Any:
    """aiosqlite's connection."""
    async with (await engine_of(storage)).connect() as connection:
        return (await connection.get_raw_connection()).driver_connection


async def test_connections_are_closed_meanwhile_and_opened_as_they_were(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", {"n": 1})
        connection = await connection_of(storage)
        async with forking():
            assert not (tmp_path / "tokens.db-wal").exists()  # the last one to close has tidied up
            saving = asyncio.create_task(storage.save_token("alice", {"n": 2}))  # it waits
        await saving
        assert await storage.get_token("alice") == {"n": 2}
        raw = connection._conn
        assert (raw.isolation_level, raw.in_transaction) == (None, False)
        assert await connection._execute(lambda: raw.execute("PRAGMA synchronous").fetchone()) == (2,)  # FULL


async def test_a_fork_waits_for_the_operation_that_is_under_way(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", {"n": 1})
        connection = await connection_of(storage)
        began, go_on, order = threading.Event(), threading.Event(), list[str]()

        def operation() -> None:
            began.set()
            go_on.wait()
            order.append("operation")

        async def fork() -> None:
            async with forking():
                order.append("fork")

        running = asyncio.create_task(connection._execute(operation))
        await asyncio.to_thread(began.wait)
        forked = asyncio.create_task(fork())
        while not sqlite_forks.forking.locked():
            await asyncio.sleep(0)
        go_on.set()
        await running
        await forked
        assert order == ["operation", "fork"]


async def test_nothing_is_opened_while_a_process_forks(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        async with forking():
            saving = asyncio.create_task(storage.save_token("alice", {"n": 1}))
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert list(tmp_path.iterdir()) == []
        await saving
        assert await storage.get_token("alice") == {"n": 1}


async def test_a_fork_waits_for_a_connection_that_is_being_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    making, go_on, order = threading.Event(), threading.Event(), list[str]()
    prepare = sqlite.prepare_file

    def slowly(*arguments: Any, **options: Any) -> None:
        making.set()
        go_on.wait()
        prepare(*arguments, **options)
        order.append("prepared")

    async def fork() -> None:
        async with forking():
            order.append("fork")

    monkeypatch.setattr(sqlite, "prepare_file", slowly)
    async with aclosing(database(tmp_path)) as storage:
        saving = asyncio.create_task(storage.save_token("alice", {"n": 1}))
        await asyncio.to_thread(making.wait)
        forked = asyncio.create_task(fork())
        while not sqlite_forks.forking.locked():
            await asyncio.sleep(0)
        go_on.set()
        await forked
        await saving
        assert order == ["prepared", "fork"]


async def test_a_file_that_is_gone_is_said_and_looked_for_again(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", {"n": 1})
        async with forking():
            tmp_path.rename(tmp_path.with_name("elsewhere"))
        with pytest.raises(TokenStorageError, match="SQLITE_CANTOPEN"):
            await storage.get_token("alice")
        tmp_path.with_name("elsewhere").rename(tmp_path)
        assert await storage.get_token("alice") == {"n": 1}


async def test_a_connection_that_was_closed_is_not_waited_for(tmp_path: Path) -> None:
    storage = database(tmp_path)
    await storage.save_token("alice", {"n": 1})
    connection = await connection_of(storage)
    await storage.aclose()
    async with forking():
        assert not connection._running


async def test_a_child_leaves_the_parents_connections_alone(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", {"n": 1})
        connection = await connection_of(storage)
        async with forking(child=True):
            parent_goes_on = sqlite_forks.forked
        async with forking():  # of the child, which does not wait for a thread that it has not
            pass
        assert connection.closed_for_fork
        parent_goes_on.set()
