"""Transactions that meet: deadlocks and serialisation failures are tried again, bounded (SQ-6)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import make_url

from pauth.errors import StorageUnavailable
from pauth.storage.driver import Driver
from tests.storage.sql.kit import by, driver_at, put
from tests.support.sql_servers import PostgresServer, SqlServer

# as the driver locks them
FIRST, SECOND = sorted(("alice", "bob"), key=lambda user: put(user).row_id)


@pytest.fixture(params=["asyncpg", "psycopg", "asyncmy", "aiomysql"])
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server(library: str, request: pytest.FixtureRequest) -> SqlServer:
    found: SqlServer = request.getfixturevalue("postgres" if library in ("asyncpg", "psycopg") else "mariadb")
    return found


@pytest.fixture
def account(server: SqlServer) -> str:
    return server.account()


@pytest.fixture
def raw(server: SqlServer, account: str) -> Iterator[Callable[[str], Any]]:
    """Runs statements in a transaction of somebody else's, in a thread."""
    url = make_url(account)
    options: Any = {"host": "127.0.0.1", "port": server.port, "user": url.username, "password": url.password}
    if isinstance(server, PostgresServer):
        server.ask(f"ALTER ROLE {url.username} SET deadlock_timeout = '60s'")
        connection: Any = import_module("psycopg").connect(**options, dbname=url.database)
    else:
        connection = import_module("pymysql").connect(**options, database=url.database)
    lock = threading.Lock()

    def run(statement: str) -> None:
        with lock, closing(connection.cursor()) as cursor:
            cursor.execute(statement.encode() if isinstance(server, PostgresServer) else statement)

    yield run
    connection.close()


def where(server: SqlServer, user: str) -> str:
    literal = "decode('{}', 'hex')" if isinstance(server, PostgresServer) else "x'{}'"
    return f"id = {literal.format(put(user).row_id.hex())}"


async def until_somebody_waits(server: SqlServer, user: str) -> None:
    if isinstance(server, PostgresServer):
        waiting = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND wait_event_type = 'Lock'"
    else:
        waiting = (
            "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist ON id = trx_mysql_thread_id "
            f"WHERE user = '{user}' AND trx_state = 'LOCK WAIT'"
        )
    while (await asyncio.to_thread(server.ask, waiting))[0][0] == 0:
        await asyncio.sleep(0.01)


async def begun(library: str, account: str) -> Driver:
    driver = driver_at(by(library, account))
    assert await driver.put_many([put(FIRST), put(SECOND)]) == [1, 1]
    return driver


async def test_the_victim_of_a_deadlock_writes_again_p13(library: str, server: SqlServer, account: str, raw: Callable[[str], Any]) -> None:
    user = str(make_url(account).username)
    if isinstance(server, PostgresServer):  # who looks for a deadlock first is its victim
        server.ask(f"ALTER ROLE {user} SET deadlock_timeout = '700ms'")
    driver = await begun(library, account)
    if not isinstance(server, PostgresServer):  # who has changed less is the victim
        rows = [f"(x'{number:064x}', 1, x'00')" for number in range(50)]
        raw(f"INSERT INTO pauth_pending VALUES {', '.join(rows)}")
    raw(f"UPDATE pauth_tokens SET version = version + 10 WHERE {where(server, SECOND)}")
    writing = asyncio.create_task(driver.put_many([put(SECOND), put(FIRST)]))
    await until_somebody_waits(server, user)
    await asyncio.to_thread(raw, f"UPDATE pauth_tokens SET version = version + 10 WHERE {where(server, FIRST)}")  # in the other order
    raw("COMMIT")
    assert await writing == [12, 12]
    await driver.aclose()


@pytest.mark.parametrize("library", ["asyncpg", "psycopg"], indirect=True)
async def test_a_serialisation_failure_is_tried_again(library: str, server: SqlServer, account: str, raw: Callable[[str], Any]) -> None:
    user = str(make_url(account).username)
    server.ask(f"ALTER ROLE {user} SET default_transaction_isolation = 'serializable'")
    driver = await begun(library, account)
    raw(f"UPDATE pauth_tokens SET version = version + 10 WHERE {where(server, FIRST)}")
    writing = [asyncio.create_task(driver.put_many([put(FIRST)])), asyncio.create_task(driver.put_many([put(SECOND, expected_version=1)]))]
    await until_somebody_waits(server, user)
    raw("COMMIT")
    assert await asyncio.gather(*writing) == [[12], [2]]
    await driver.aclose()


async def test_a_conflict_that_does_not_end_is_given_up(library: str, server: SqlServer, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver: Any = await begun(library, account)
    tries = 0

    class Conflict(Exception):
        sqlstate = "40P01"

    async def meet(*_: object) -> Any:
        nonlocal tries
        tries += 1
        raise Conflict(1213)

    monkeypatch.setattr(driver, "write", meet)
    with pytest.raises(StorageUnavailable, match="other transactions were at work") as caught:
        await driver.put_many([put(FIRST)])
    assert caught.value.retryable
    assert caught.value.__context__ is None
    assert tries == 8
    await driver.aclose()
