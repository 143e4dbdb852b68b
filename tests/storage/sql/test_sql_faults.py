"""What happens to a database server or on the way to it, with real servers (P7, P9, P14, P20)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pauth.errors import ConfigurationError, StorageUnavailable
from pauth.storage import RecordKey
from pauth.storage.identity import row_id
from tests.storage.sql.kit import at, by, driver_at, put, storage_at
from tests.support.canary import leaks_in_error
from tests.support.proxy import Proxy
from tests.support.sql_servers import MariadbServer, PostgresServer, SqlServer

ALICE = RecordKey("", "alice")
ROW = row_id("", "alice")
LIBRARIES = ("asyncpg", "psycopg", "asyncmy", "aiomysql")


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server(library: str, request: pytest.FixtureRequest) -> SqlServer:
    """One that all share."""
    found: SqlServer = request.getfixturevalue("postgres" if library in ("asyncpg", "psycopg") else "mariadb")
    return found


@pytest.fixture
def own_server(library: str, request: pytest.FixtureRequest) -> SqlServer:
    found: SqlServer = request.getfixturevalue("own_postgres" if library in ("asyncpg", "psycopg") else "own_mariadb")
    return found


@pytest.fixture
async def proxy(server: SqlServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.port) as running:
        yield running


async def unavailable(operation: Any) -> StorageUnavailable:
    """The error an operation ends with, which must be one to retry, with nothing behind it."""
    with pytest.raises(StorageUnavailable) as caught:
        await operation
    assert caught.value.retryable
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not list(leaks_in_error(caught.value))
    return caught.value


async def patient(operation: Callable[..., Any], *arguments: Any) -> Any:
    while True:
        try:
            return await operation(*arguments)
        except StorageUnavailable:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("library", ["asyncpg", "psycopg", "asyncmy"], indirect=True)
async def test_no_acknowledged_write_is_lost_when_the_server_is_killed_or_restarted_immediately_p7(library: str, own_server: SqlServer) -> None:
    storage = storage_at(by(library, own_server.account()))
    acknowledged: dict[str, int] = {}
    over = False

    async def write(user: str) -> None:
        for number in itertools.count(1):
            if over and user in acknowledged:
                return
            try:
                await storage.save_token(user, {"n": number})
            except StorageUnavailable:
                await asyncio.sleep(0.01)
            else:
                acknowledged[user] = number

    writers = [asyncio.create_task(write(f"user-{number}")) for number in range(20)]
    while sum(acknowledged.values()) < 200:
        await asyncio.sleep(0)
    await asyncio.to_thread(own_server.kill)  # in the middle of batches
    before = dict(acknowledged)
    for operation in (storage.get_token("alice"), storage.save_token("alice", {}), storage.take_lease(ALICE, "one", ttl=1), storage.list_users()):
        assert str(own_server.port) not in str(await unavailable(operation))
    await asyncio.to_thread(own_server.start)
    for user, number in before.items():
        found = await patient(storage.get_token, user)
        assert found["n"] >= number
    over = True
    await asyncio.gather(*writers)
    records = await storage.get_many([RecordKey("", user) for user in acknowledged])
    assert {record.key.user_id: record.tokens["n"] for record in records if record and not isinstance(record, Exception)} == acknowledged
    await asyncio.to_thread(own_server.kill)
    await asyncio.to_thread(own_server.start)  # while nothing is under way: this read is the first to notice
    assert await storage.get_token("user-1") == {"n": acknowledged["user-1"]}
    await storage.aclose()


async def test_a_server_that_hangs_is_given_up_on_p9(library: str, server: SqlServer, proxy: Proxy) -> None:
    storage = storage_at(at(by(library, server.account()), proxy.port), timeout=1)
    await patient(storage.save_token, "alice", {"n": 1})
    proxy.swallow = True
    operations = (storage.get_token("alice"), storage.save_token("alice", {"n": 2}), storage.extend_lease(ALICE, "one", ttl=1), storage.count())
    for outcome in await asyncio.gather(*operations, return_exceptions=True):
        assert isinstance(outcome, StorageUnavailable)
        assert "1 seconds" in str(outcome)
    await unavailable(storage.get_token("alice"))  # it cannot connect either
    proxy.swallow = False
    assert (await patient(storage.get_token, "alice"))["n"] in (1, 2)  # the write may have been done
    await storage.aclose()


async def test_a_slow_server_is_waited_for(library: str, server: SqlServer, proxy: Proxy) -> None:
    storage = storage_at(at(by(library, server.account()), proxy.port))
    proxy.delay = 0.01
    await storage.save_token("alice", {"n": 1})
    assert await storage.get_token("alice") == {"n": 1}
    await storage.aclose()


async def test_a_write_whose_answer_was_lost_is_not_sent_again(library: str, server: SqlServer, proxy: Proxy) -> None:
    driver = driver_at(at(by(library, server.account()), proxy.port))
    assert await driver.put_many([put("alice", expected_version=0)]) == [1]
    assert await driver.put_many([put("alice")]) == [2]  # whose statement is prepared now
    proxy.cut_answers = True
    assert "may have happened" in str(await unavailable(driver.put_many([put("alice", data=memoryview(b"two"))])))
    proxy.cut_answers = False
    (row,) = await driver.get_many([ROW])
    assert row is not None
    assert not isinstance(row, Exception)
    assert row.version in (2, 3)  # not more than once
    await driver.aclose()


async def test_a_connection_cut_while_idle_is_not_noticed(library: str, server: SqlServer, proxy: Proxy) -> None:
    driver = driver_at(at(by(library, server.account()), proxy.port))
    await driver.put_many([put("alice")])
    await asyncio.gather(*(driver.get_many([ROW]) for _ in range(4)))
    await proxy.cut()
    assert await driver.count(None) == 1
    await proxy.cut()
    await asyncio.sleep(0.01)
    assert await driver.put_many([put("alice")]) == [2]  # the end of the old connections is seen before they are used
    await driver.aclose()


async def test_an_answer_cut_at_any_byte_is_no_answer(library: str, server: SqlServer, proxy: Proxy) -> None:
    driver = driver_at(at(by(library, server.account()), proxy.port), timeout=5)
    await driver.put_many([put("alice"), put("bob")])
    whole = await driver.get_many([row_id("", "bob"), ROW])
    for length in (1, 7, 40, 60):
        proxy.cut_after = length
        await unavailable(driver.put_many([put("carol")]))
        proxy.cut_after = None
        assert await driver.get_many([row_id("", "bob"), ROW]) == whole
    await driver.aclose()


async def test_a_server_that_refuses(library: str, server: SqlServer, proxy: Proxy) -> None:
    storage = storage_at(at(by(library, server.account()), proxy.port))
    await proxy.refuse()
    message = str(await unavailable(storage.get_token("alice")))
    assert str(proxy.port) not in message
    await unavailable(storage.save_token("alice", {}))
    await proxy.listen()
    await storage.save_token("alice", {"n": 1})
    await storage.aclose()


@pytest.mark.parametrize("engine", [False, True])
async def test_a_wrong_password_is_said_and_not_shown(library: str, server: SqlServer, engine: bool) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    url = by(library, server.account()).replace("CANARY-password", "CANARY-wrong")
    # with TLS, asyncpg looks for certificates in the home folder
    source = create_async_engine(url, connect_args={"ssl": False} if library == "asyncpg" else {}) if engine else url
    storage = storage_at(source)
    with pytest.raises(ConfigurationError, match="password in the URL is not accepted") as caught:
        await storage.get_token("alice")
    assert not list(leaks_in_error(caught.value))
    assert "CANARY" not in str(storage.store_id)
    await storage.aclose()
    if not isinstance(source, str):
        await source.dispose()


async def test_a_database_that_is_not_there(library: str, server: SqlServer) -> None:
    url = by(library, server.account()).rpartition("/")[0] + "/nowhere"
    storage = storage_at(url)
    with pytest.raises(ConfigurationError):
        await storage.get_token("alice")
    await storage.aclose()


async def test_who_is_cancelled_leaves_no_answer_behind_for_others_p14(library: str, server: SqlServer) -> None:
    storage = storage_at(by(library, server.account()))
    for user in ("alice", "bob"):
        await storage.save_token(user, {"of": user})
    for turn in range(10):
        tasks = [asyncio.create_task(storage.get_token(user)) for user in ("alice", "bob", "nobody") * 4]
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for user, outcome in zip(("alice", "bob", "nobody") * 4, outcomes, strict=True):
            assert isinstance(outcome, asyncio.CancelledError) or outcome == (None if user == "nobody" else {"of": user})
    await storage.aclose()


async def test_connections_the_administrator_ended(postgres: PostgresServer) -> None:
    for library in ("asyncpg", "psycopg"):
        driver = driver_at(by(library, postgres.account()))
        await driver.put_many([put("alice")])
        user = str(driver.store_id).split("'")[9]
        postgres.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'")
        assert await driver.count(None) == 1
        assert await driver.put_many([put("alice")]) == [2]
        await driver.aclose()


async def test_connections_the_administrator_killed(mariadb: MariadbServer) -> None:
    for library in ("asyncmy", "aiomysql"):
        url = mariadb.account()
        driver = driver_at(by(library, url))
        await driver.put_many([put("alice")])
        mariadb.ask(f"KILL USER {url.split('//')[1].split(':')[0]}")
        assert await driver.count(None) == 1
        assert await driver.put_many([put("alice")]) == [2]
        await driver.aclose()
