"""URLs, clients and options (RD-6), event loops and processes (P15)."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportPrivateUsage=false, reportUnknownLambdaType=false
# (redis-py is typed in part only; its stubs leave the parameters of most methods open)

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool

from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage import redis as redis_module
from pauth.storage.identity import row_id
from pauth.storage.redis import RedisTokenStorage
from tests.storage.kit import KEY
from tests.storage.redis.kit import driver_at, put, storage_at
from tests.support.canary import leaks_in_error
from tests.support.redis_servers import RedisServer


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "redis:/x",
        "http://user:CANARY-password@host/0",
        "redis+cluster://",
        "redis+cluster://:CANARY-password@",
        "redis+cluster://user:CANARY-password@host:seven",
        "redis+cluster://user:CANARY-password@host:70000",
        "redis+cluster://user:CANARY-password@host,,other",
        "redis+cluster://:CANARY-password@host/3",
        "redis+cluster://:CANARY-password@host?unknown=CANARY-1",
        "redis+sentinel://user:CANARY-password@host:26379",
        "redis+sentinel://user:CANARY-password@host:26379/",
        "redis://user:CANARY-password@host/0?unknown_option=CANARY-1",
        "redis://user:CANARY-password@host/0?socket_timeout=CANARY-1",
        "redis://user:CANARY-password@host/0?protocol=9",
        "redis+sentinel://user:CANARY-password@host/tokens/0?unknown=1",
        "redis://user:CANARY-password@host:port/0",
        "redis://user:CANARY-password@[::1/0",
    ],
)
def test_unusable_urls_are_refused_with_no_password_in_the_message_rd_6(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        storage_at(url)
    assert "CANARY" not in str(caught.value)
    assert caught.value.__context__ is None
    assert not list(leaks_in_error(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:CANARY-password@host:6379/3?socket_keepalive=no",
        "rediss://user:CANARY-password@host:6379/3?ssl_check_hostname=no",
        "unix:///run/redis.sock?db=3",
        "redis+cluster://user:CANARY-password@[::1]:7000,host",
        "rediss+cluster://host:7000/0",
        "redis+sentinel://user:CANARY-password@host,other:26380/to%2Fkens/3?sentinel_username=x&sentinel_password=CANARY-2",
        "rediss+sentinel://host/tokens",
    ],
)
async def test_usable_urls_show_no_password_rd_6(url: str) -> None:
    storage = storage_at(Secret(url))
    assert "CANARY" not in repr(storage) + str(vars(storage))
    links: Any = storage._driver._make_links()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await links.close()
    await storage.aclose()


def test_unusable_options_are_refused() -> None:
    for options in ({"timeout": 0}, {"timeout": float("nan")}, {"retention": 0}, {"retention": float("nan")}, {"retention": 1e12}, {"prefix": "{}"}):
        with pytest.raises(ConfigurationError):
            storage_at("redis://127.0.0.1", **options)
    with pytest.raises(ConfigurationError, match="contradict"):
        RedisTokenStorage("redis://127.0.0.1", encryption_key=KEY, insecure_plaintext=True)
    with pytest.warns(UserWarning, match="insecure_plaintext"):
        RedisTokenStorage("redis://127.0.0.1", insecure_plaintext=True)


def test_only_clients_of_redis_asyncio_are_taken() -> None:
    for wrong in (redis.Redis(), 7, None, b"redis://"):
        with pytest.raises(ConfigurationError, match=type(wrong).__name__):
            storage_at(wrong)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "_MISSING", True)
    with pytest.raises(ConfigurationError, match=r"pip install 'pauth\[redis\]'"):
        storage_at("redis://127.0.0.1")


async def test_a_database_number_and_a_socket(own_redis: Any, tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "s"
    server = own_redis(config=f"unixsocket {path}\n")
    for url in (f"unix://{path}?db=3", f"redis://{server.address}/3"):
        driver = driver_at(url, prefix=prefix)
        await driver.put_many([put("alice")])
        await driver.aclose()
    with server.client(db=3) as client:
        assert len(client.keys()) == 2


async def test_a_users_pool_is_left_alone_and_open(valkey: RedisServer, prefix: str) -> None:
    pool: Any = ConnectionPool.from_url(valkey.url, max_connections=1)
    client = Redis(connection_pool=pool)
    await client.ping()  # which holds the one connection of the pool
    storage = storage_at(client, prefix=prefix)
    await storage.save_token("alice", {"n": 1})
    await storage.aclose()
    assert await client.ping()
    await client.aclose()
    await pool.aclose()


def test_several_event_loops_have_their_own_connections_p15(valkey: RedisServer, prefix: str) -> None:
    storage = storage_at(valkey.url, prefix=prefix)
    barrier = threading.Barrier(3)
    failures: list[BaseException] = []

    async def use(name: str) -> None:
        for number in range(50):
            await storage.save_token(name, {"n": number})
            assert await storage.get_token(name) == {"n": number}
        barrier.wait(30)
        while not storage._closed:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # in which the connections of this loop are closed from the other one

    def run(name: str) -> None:
        try:
            asyncio.run(use(name))
        except BaseException as error:  # noqa: BLE001  # told by the thread that looks
            failures.append(error)

    async def close() -> None:
        assert await storage.count() == 2
        await storage.aclose()

    threads = [threading.Thread(target=run, args=(name,)) for name in ("alice", "bob")]
    for thread in threads:
        thread.start()
    barrier.wait(30)
    asyncio.run(close())
    for thread in threads:
        thread.join(30)
    assert not failures


async def test_a_loop_that_has_ended_is_forgotten_p15(valkey: RedisServer, prefix: str) -> None:
    driver = driver_at(valkey.url, prefix=prefix)

    async def use() -> None:
        await driver.put_many([put("alice")])
        (links,) = driver._links.values()
        await links.close()

    ended = await asyncio.to_thread(_run_in_a_loop, use)
    assert list(driver._links) == [ended]
    await driver.get_many([row_id("", "alice")])
    assert list(driver._links) == [asyncio.get_running_loop()]
    driver._links[ended] = next(iter(driver._links.values()))  # as if it had ended a moment ago
    await driver.aclose()


async def test_a_loop_that_ends_while_it_is_closed_is_no_error(valkey: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = driver_at(valkey.url, prefix=prefix)
    loop = asyncio.new_event_loop()
    await driver.get_many([row_id("", "alice")])
    (links,) = driver._links.values()
    driver._links[loop] = links
    loop.close()
    is_closed = type(loop).is_closed
    monkeypatch.setattr(type(loop), "is_closed", lambda self: self is not loop and is_closed(self))
    with pytest.warns(RuntimeWarning, match="never awaited"):
        await driver.aclose()
    monkeypatch.undo()  # before the loop is collected, and asked


def _run_in_a_loop(use: Any) -> asyncio.AbstractEventLoop:
    with asyncio.Runner() as runner:
        runner.run(use())
        return runner.get_loop()


async def test_a_forked_process_makes_its_own_connections_p15(valkey: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = driver_at(valkey.url, prefix=prefix)
    await driver.put_many([put("alice")])
    parents = dict(driver._links)
    monkeypatch.setattr("pauth.storage.redis.driver._of_the_parent", kept := list[object]())
    monkeypatch.setattr(os, "getpid", lambda: -1)
    await driver.put_many([put("alice")])
    assert kept == [parents]
    assert parents.keys() == driver._links.keys()
    assert next(iter(driver._links.values())) is not next(iter(parents.values()))
    await driver.aclose()
    for links in parents.values():
        await links.close()
