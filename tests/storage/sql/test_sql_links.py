"""Connections: whose they are, and what becomes of them (P14, P15)."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
import struct
import threading
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from pauth.clock import SystemClock
from pauth.errors import ConfigurationError, PAuthError
from pauth.storage import DatabaseTokenStorage, database
from pauth.storage.identity import row_id
from pauth.storage.sql import mysql, postgres
from pauth.storage.sql.postgres_links import _is_over  # pyright: ignore[reportPrivateUsage]
from tests.storage.sql.kit import by, driver_at, put, storage_at
from tests.support import sql_programs
from tests.support.servers import ServerMissing
from tests.support.sql_servers import MariadbServer, PostgresServer, SqlServer


@pytest.fixture(params=["asyncpg", "psycopg", "asyncmy", "aiomysql"])
def server(request: pytest.FixtureRequest) -> SqlServer:
    found: SqlServer = request.getfixturevalue("postgres" if request.param in ("asyncpg", "psycopg") else "mariadb")
    return found


@pytest.fixture
def url(server: SqlServer, request: pytest.FixtureRequest) -> str:
    return by(request.node.callspec.params["server"], server.account())


async def test_an_event_loop_that_ends_in_the_middle_leaves_no_connection_in_the_middle(url: str) -> None:
    driver: Any = driver_at(url)
    assert await driver.put_many([put("alice")]) == [1]
    for turns in range(6):
        task = asyncio.create_task(driver.put_many([put("alice")]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert (await driver.get_many([row_id("", "alice")]))[0].version <= turns + 2
    await driver.aclose()


async def test_connections_are_closed_from_another_event_loop(url: str) -> None:
    driver: Any = driver_at(url)
    used, over = threading.Event(), asyncio.Event()
    theirs: list[Any] = []

    async def elsewhere() -> None:
        theirs.append(asyncio.get_running_loop())
        await driver.count(None)
        theirs.extend(driver._links._pools[theirs[0]].idle)
        used.set()
        await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    await asyncio.to_thread(used.wait)
    assert theirs[1].usable
    await driver.count(None)
    (own,) = driver._links._pools[asyncio.get_running_loop()].idle

    async def fail() -> None:
        raise OSError

    own.close = fail
    await driver.aclose()
    assert not own.usable
    theirs[0].call_soon_threadsafe(over.set)
    await asyncio.to_thread(thread.join)
    assert not theirs[1].usable


async def test_a_fork_leaves_its_parents_connections_alone(postgres: PostgresServer) -> None:
    driver: Any = driver_at(by("asyncpg", postgres.account()))
    await driver.count(None)
    pool = driver._links._pools[asyncio.get_running_loop()]
    (link,) = pool.idle
    pool.process = -1  # as a child sees it
    await asyncio.to_thread(asyncio.run, driver.aclose())
    assert link.usable
    await link.close()


@pytest.mark.parametrize("server", ["asyncpg", "asyncmy"], indirect=True)
async def test_a_users_engine_serves_one_event_loop(url: str) -> None:
    engine = create_async_engine(url, connect_args={"ssl": False} if "asyncpg" in url else {})
    async with aclosing(storage_at(engine)) as storage:
        await asyncio.gather(storage.save_token("alice", {"n": 1}), storage.get_token("bob"), storage.take_pending("login"))
        with pytest.raises(ConfigurationError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, storage.get_token("alice"))
        assert await storage.get_token("alice") == {"n": 1}
    await engine.dispose()


def test_a_connection_that_was_reset_is_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        theirs, _ = server.accept()
        assert not _is_over(ours.fileno())
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        assert _is_over(ours.fileno())


# --- rights and groups


@pytest.mark.parametrize("server", ["asyncpg", "psycopg", "asyncmy"], indirect=True)
async def test_missing_rights_are_said(server: SqlServer, url: str) -> None:
    user = str(make_url(url).username)
    if isinstance(server, PostgresServer):
        server.ask(f"REVOKE ALL ON SCHEMA {user} FROM {user}")
    else:
        server.ask(f"REVOKE CREATE ON {user}.* FROM {user}@'%'")
    async with aclosing(storage_at(url)) as storage:
        with pytest.raises(ConfigurationError, match="lacks a right"):  # to make tables
            await storage.get_token("alice")
    if isinstance(server, PostgresServer):
        server.ask(f"GRANT ALL ON SCHEMA {user} TO {user}", f"CREATE TABLE {user}.pauth_schema (id int, version int)")
    else:
        server.ask(f"CREATE TABLE {user}.pauth_schema (id int, version int)", f"REVOKE SELECT ON {user}.* FROM {user}@'%'")
    async with aclosing(storage_at(url)) as storage:
        with pytest.raises(ConfigurationError, match="lacks a right"):  # to read one
            await storage.get_token("alice")


async def test_a_group_that_fails_takes_no_other_with_it(postgres: PostgresServer) -> None:
    driver = driver_at(by("asyncpg", postgres.account()))
    outcomes = await driver.put_many([put("alice"), put("bob", expected_version=1, stored_at=2**70)])
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], PAuthError)
    await driver.aclose()


# --- what needs no server


async def test_first_uses_at_once_make_the_tables_once(tmp_path: Path) -> None:
    async with aclosing(storage_at(f"sqlite+aiosqlite:///{tmp_path}/tokens.db")) as storage:
        assert await asyncio.gather(storage.get_token("alice"), storage.take_pending("login"), storage.count()) == [None, None, 0]


@pytest.mark.parametrize("module", [mysql, postgres])
def test_an_engine_with_another_library(module: Any) -> None:
    engine: Any = SimpleNamespace(dialect=SimpleNamespace(driver="other"))
    with pytest.raises(ConfigurationError, match="must be"):
        module.driver_for_engine(engine, timeout=1, clock=SystemClock())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://u:CANARY@/d?host=a&host=b&port=1,2,3",
        "postgresql+psycopg://u:CANARY@/d?host=a:x&host=b",
        "mysql+asyncmy://u:CANARY@h/d?connect_timeout=x",
    ],
)
def test_a_value_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigurationError, match="value that cannot be used"):
        storage_at(url)


def test_without_sqlalchemy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(DatabaseTokenStorage.metadata().tables) == {"pauth_schema", "pauth_tokens", "pauth_pending", "pauth_leases"}

    def nothing(name: str) -> None:
        return None

    spec = importlib.util.spec_from_file_location("database_without", str(database.__file__))
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    spec.loader.exec_module(module)
    for attempt in (module.DatabaseTokenStorage.metadata, lambda: module.DatabaseTokenStorage("sqlite:///x.db")):
        with pytest.raises(ConfigurationError, match=r"pip install 'pauth\[sql\]'"):
            attempt()
    with pytest.raises(ConfigurationError, match="no token storage for oracle"):
        storage_at("oracle://h/d")


def test_a_missing_server_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str, path: str | None = None) -> None:
        return None

    monkeypatch.setattr(shutil, "which", nowhere)
    monkeypatch.setattr(sql_programs, "_CACHE", tmp_path)
    with pytest.raises(ServerMissing, match="apt-get install mariadb-server-core"):
        sql_programs.install_mariadb(tmp_path)
    with pytest.raises(ServerMissing, match="must be on this machine"):
        MariadbServer(make_url("mariadb://h"))
