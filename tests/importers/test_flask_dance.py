"""Tables of Flask-Dance: in SQLite byte for byte as it made them, and in PostgreSQL and MariaDB with the same column types."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import pauth.importers.flask_dance
from pauth.errors import ConfigurationError
from pauth.importers import Entry, FoundToken, Problem, from_flask_dance
from tests.importers.kit import found, said, vector
from tests.support.canary import leaks_in_error
from tests.support.sql_servers import MariadbServer, PostgresServer

VECTOR = vector("flask-dance")
ROWS: list[dict[str, Any]] = VECTOR["rows"]
ALICE, BOB = ROWS[0], ROWS[2]

pytestmark = pytest.mark.plaintext_files  # Flask-Dance does not encrypt


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "app #1?.db"
    with sqlite3.connect(path) as connection:
        connection.execute(VECTOR["schema"][0])
        connection.executemany(
            "INSERT INTO flask_dance_oauth (id, provider, created_at, token, user_id) VALUES (:id, :provider, :created_at, :token, :user_id)", ROWS
        )
    connection.close()
    return path


def change(file: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute(statement, values)
    connection.close()


async def read(*arguments: Any, **options: Any) -> list[Entry]:
    return [entry async for entry in from_flask_dance(*arguments, **options)]


def written(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["created_at"]).replace(tzinfo=UTC).timestamp()


async def test_the_rows_of_a_provider(file: Path) -> None:
    *rows, anonymous = await read(file, provider="acme")
    tokens = found(rows)
    assert said(tokens["7"]) == {
        "access_token": "CANARY-fd-access-1",
        "token_type": "Bearer",
        "refresh_token": "CANARY-fd-refresh-1",
        "scope": "openid profile",
        "scope_assumed": False,
        "issued_at": written(ALICE),
        "expires_at": json.loads(ALICE["token"])["expires_at"],
    }
    assert tokens["8"].expires_at == json.loads(BOB["token"])["expires_at"]
    assert isinstance(anonymous, Problem)
    assert (anonymous.where, anonymous.user_id) == ("row 3", None)
    assert "its user is NULL" in anonymous.reason
    assert list(found(await read(str(file), provider="github"))) == ["7"]
    assert await read(file, provider="another") == []


async def test_nobodys_rows_can_be_given_to_somebody(file: Path) -> None:
    tokens = found(await read(file, provider="acme", user_id="the-robot"))
    assert set(tokens) == {"7", "8", "the-robot"}
    assert tokens["the-robot"].access_token.reveal() == "CANARY-fd-access-anonymous"


async def test_a_table_without_users(file: Path) -> None:
    entries = await read(file, provider="github", user_column=None, user_id="the-robot")
    assert list(found(entries)) == ["the-robot"]


async def test_another_name_of_table_and_column(file: Path) -> None:
    change(file, "ALTER TABLE flask_dance_oauth RENAME TO tokens")
    change(file, 'ALTER TABLE tokens RENAME COLUMN user_id TO "the user; --"')
    assert list(found(await read(file, provider="github", table="tokens", user_column="the user; --"))) == ["7"]


async def test_one_broken_row_costs_only_itself(file: Path) -> None:
    change(file, "UPDATE flask_dance_oauth SET token = ? WHERE id = ?", '{"access_token": "CANARY', ALICE["id"])
    entries = await read(file, provider="acme", user_id="x" * 2000)
    assert [(type(entry), entry.where, entry.user_id) for entry in entries] == [
        (Problem, "row 1", "7"),
        (FoundToken, "row 2", "8"),
        (Problem, "row 3", None),
    ]
    reasons = [entry.reason for entry in entries if isinstance(entry, Problem)]
    assert reasons == ["it is not JSON", "its user id is empty, too long or no text"]


async def test_text_that_is_no_text_costs_only_its_row(file: Path) -> None:
    """SQLite keeps any bytes as text, and Python's driver would end the whole query for one row of them."""
    change(file, "UPDATE flask_dance_oauth SET token = CAST(X'7BFE' AS TEXT), user_id = 9 WHERE id = ?", ALICE["id"])
    columns, bob = "flask_dance_oauth (id, provider, created_at, token, user_id)", "token, {} FROM flask_dance_oauth WHERE id = ?"
    for number, created_at, user in ((100, "CAST(X'FF' AS TEXT)", "10"), (101, "7", "CAST(X'FF41' AS TEXT)"), (102, "7", "X'41'"), (103, "7", "1.5")):
        change(file, f"INSERT INTO {columns} SELECT {number}, provider, {created_at}, {bob.format(user)}", BOB["id"])
    entries = await read(file, provider="acme", user_id="the-robot")
    assert [(type(entry), entry.where, entry.user_id) for entry in entries] == [
        (Problem, "row 1", "9"),
        (FoundToken, "row 2", "8"),
        (FoundToken, "row 3", "the-robot"),
        (FoundToken, "row 4", "10"),
        (Problem, "row 5", None),
        (Problem, "row 6", None),
        (Problem, "row 7", None),
    ]


@pytest.mark.parametrize("created_at", ["CANARY", "", 7])
async def test_a_time_nobody_can_read_leaves_the_one_in_the_token(file: Path, created_at: object) -> None:
    change(file, "UPDATE flask_dance_oauth SET created_at = ? WHERE id = ?", created_at, ALICE["id"])
    *rows, _ = await read(file, provider="acme")
    members = json.loads(ALICE["token"])
    assert found(rows)["7"].issued_at == pytest.approx(members["expires_at"] - members["expires_in"])


async def test_the_file_is_opened_to_read_only(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    async with aclosing(from_flask_dance(file, provider="acme")) as entries:
        async for _ in entries:
            break  # and whoever stops in the middle leaves nothing open
    assert file.read_bytes() == before
    with pytest.raises(ConfigurationError, match="could not be read"):
        await read(tmp_path / "none.db", provider="acme")
    assert not (tmp_path / "none.db").exists()


@pytest.fixture(autouse=True)
async def no_thread_outlives_the_event_loop() -> AsyncIterator[None]:
    """aiosqlite's thread for a connection that could not be opened says so to the event loop a moment later."""
    yield
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 30)


@pytest.mark.parametrize("options", [{"table": "none"}, {"user_column": "none"}])
async def test_a_table_that_is_not_there_is_told(file: Path, options: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"could not be read \(OperationalError\): check the database, the table's name, and the column"
    ) as raised:
        await read(file, provider="acme", **options)
    assert ("user_column=None (--no-user-column)" in str(raised.value), repr(options.get("user_column", "user_id")) in str(raised.value)) == (
        True,
        True,
    )
    with pytest.raises(ConfigurationError, match=r"the table's name$"):
        await read(file, provider="acme", table="none", user_column=None)


async def test_a_failure_in_the_middle_shows_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows:
        def __init__(self) -> None:
            self.left = [(7, '{"access_token": "CANARY"}', None)]

        def __aiter__(self) -> AsyncIterator[Any]:
            return self

        async def __anext__(self) -> Any:
            if self.left:
                return self.left.pop()
            raise OperationalError("SELECT", ["CANARY"], Exception("CANARY"))

    async def stream(*_: Any, **__: Any) -> Rows:
        return Rows()

    monkeypatch.setattr("sqlalchemy.ext.asyncio.AsyncConnection.stream", stream)
    with pytest.raises(ConfigurationError, match="OperationalError") as caught:
        await read(file, provider="acme")
    assert list(leaks_in_error(caught.value)) == []


@pytest.mark.parametrize("url", ["sqlite:///app.db", "postgresql://u:CANARY-password@h/d"])
async def test_a_url_is_no_path(url: str) -> None:
    with pytest.raises(ConfigurationError, match="give an engine") as caught:
        await read(url, provider="acme")
    assert list(leaks_in_error(caught.value)) == []


async def test_a_missing_library_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauth.importers.flask_dance, "find_spec", {"aiosqlite": None}.get)
    with pytest.raises(ConfigurationError, match="needs aiosqlite, which is not installed"):
        await read(file, provider="acme")


def test_without_sqlalchemy_the_other_readers_work_and_this_one_says_what_it_needs() -> None:
    program = """
import sys
sys.modules["sqlalchemy"] = None
import asyncio
from pauth.importers import from_authlib, from_flask_dance
assert list(from_authlib({}) ) == []
async def main():
    async for _ in from_flask_dance("x", provider="x"): pass
try:
    asyncio.run(main())
except Exception as error:
    print(type(error).__name__, error)
"""
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
    assert answer == "ConfigurationError reading Flask-Dance's table needs sqlalchemy, which is not installed: pip install 'pauth[sql]'"


async def make_table(engine: AsyncEngine, id_type: Any, *rows: dict[str, Any]) -> None:
    """The table as the mixin declares it, and an application's column for the user."""
    table = sql.Table(
        "flask_dance_oauth",
        sql.MetaData(),
        sql.Column("id", sql.Integer, primary_key=True),
        sql.Column("provider", sql.String(50), nullable=False),
        sql.Column("created_at", sql.DateTime, nullable=False),
        sql.Column("token", sql.JSON, nullable=False),
        sql.Column("user_id", id_type),
    )
    values = [{**row, "token": json.loads(row["token"]), "created_at": datetime.fromisoformat(row["created_at"])} for row in rows]
    async with engine.begin() as connection:
        await connection.run_sync(table.create)
        await connection.execute(table.insert(), values)


async def check_server(url: str, engine_options: dict[str, Any]) -> None:
    engine = create_async_engine(url, **engine_options)
    try:
        await make_table(engine, sql.Integer(), *ROWS)
        tokens = found(await read(engine, provider="acme", user_id="the-robot"))
        assert set(tokens) == {"7", "8", "the-robot"}
        assert tokens["7"].issued_at == pytest.approx(written(ALICE), abs=1)  # MariaDB keeps whole seconds
        assert tokens["7"].access_token.reveal() == "CANARY-fd-access-1"
        assert tokens["8"].expires_at == pytest.approx(json.loads(BOB["token"])["expires_at"])
    finally:
        await engine.dispose()


@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
async def test_a_table_in_postgresql(postgres: PostgresServer, library: str) -> None:
    url = postgres.empty_account().replace("postgresql://", f"postgresql+{library}://")
    await check_server(url, {"connect_args": {"ssl": False}} if library == "asyncpg" else {})


async def test_ids_of_any_type_become_text(postgres: PostgresServer) -> None:
    user = uuid.uuid4()
    engine = create_async_engine(postgres.empty_account().replace("postgresql://", "postgresql+psycopg://"))
    await make_table(engine, sql.Uuid(), {**ALICE, "user_id": user})
    assert list(found(await read(engine, provider="acme"))) == [str(user)]
    await engine.dispose()


@pytest.mark.parametrize("library", ["asyncmy", "aiomysql"])
async def test_a_table_in_mariadb(mariadb: MariadbServer, library: str) -> None:
    await check_server(mariadb.empty_account().replace("mysql://", f"mysql+{library}://").replace("mariadb://", f"mariadb+{library}://"), {})
