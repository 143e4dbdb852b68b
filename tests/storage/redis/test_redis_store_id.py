"""What names the store: two objects on one store refresh together, and no secret is in the name."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportPrivateUsage=false, reportUnknownLambdaType=false
# (redis-py is typed in part only; its stubs leave the parameters of most methods open)

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.connection import Connection
from redis.asyncio.sentinel import Sentinel

from pauth.secret import Secret
from pauth.storage.redis.urls import links_for
from tests.storage.redis.kit import storage_at

KNOWN = [
    ("redis://user:CANARY-password@Host:6380/3", ("redis", "host:6380", "3", "pauth")),
    ("rediss://host", ("redis", "host:6379", "0", "pauth")),
    ("redis://", ("redis", "localhost:6379", "0", "pauth")),
    ("unix://user:CANARY-password@/run/redis.sock?db=2", ("redis", "/run/redis.sock", "2", "pauth")),
    ("redis+cluster://:CANARY-password@two:7001,one,two:7001", ("redis+cluster", "one:6379", "two:7001", "pauth")),
    ("redis+sentinel://:CANARY-password@two,one:7/to%2Fkens/3", ("redis+sentinel", "to/kens", "3", "one:7", "two:26379", "pauth")),
]


@pytest.mark.parametrize(("url", "name"), KNOWN)
def test_a_url_names_its_store_without_a_secret_rd_6(url: str, name: tuple[str, ...]) -> None:
    assert storage_at(url).store_id == name
    assert storage_at(Secret(url), prefix="another").store_id == (*name[:-1], "another")


def test_the_order_of_a_systems_addresses_does_not_matter() -> None:
    assert storage_at("redis+cluster://a,b:1").store_id == storage_at("rediss+cluster://b:1,a").store_id


async def test_a_users_client_is_on_the_store_of_its_url_or_on_an_unknown_one() -> None:
    class Elsewhere(Connection):
        """May connect to anything."""

    manager = cast("Any", Sentinel)([("two", 26379), ("one", 7)])
    known: list[tuple[Any, str]] = [
        (Redis(), "redis://"),
        (Redis.from_url("rediss://:CANARY-password@host:6380/3", decode_responses=True), "redis://host:6380/3"),
        (Redis(unix_socket_path="/run/redis.sock", db=2), "unix:///run/redis.sock?db=2"),
        (Redis(connection_pool=BlockingConnectionPool(host="host", db=None)), "redis://host/0"),
        (manager.master_for("tokens", db=3), "redis+sentinel://one:7,two/tokens/3"),
    ]
    for client, url in known:
        assert links_for(client, timeout=1).store == links_for(Secret(url), timeout=1).store
    unknown: list[Any] = [RedisCluster(host="host"), Redis(connection_pool=BlockingConnectionPool(connection_class=Elsewhere))]
    for client in unknown:
        assert storage_at(client).store_id is None
        await client.aclose()
