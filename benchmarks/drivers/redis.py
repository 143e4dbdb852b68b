"""Redis and Valkey: beside redis.asyncio moving the same bytes with an expiry."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.contender import Contender, Entry, Missing, Place, Role, Row, optional
from benchmarks.drivers.common import SECONDS_KEPT, TABLE, pauth_entry, peer_entry
from benchmarks.workload import KEY, NAMESPACE, RECORD

__all__ = ["ROW"]


def _standalone(place: Place) -> str:
    if place.url.startswith(("redis+cluster:", "redis+sentinel:")):
        raise Missing("only compared on a single server: redis://, rediss:// or unix://")
    return place.url


@asynccontextmanager
async def _raw(place: Place) -> AsyncGenerator[Contender]:
    client = optional("redis.asyncio", "redis").from_url(_standalone(place))
    keys = {user: f"{TABLE}:{user}".encode() for user in place.users}
    try:
        info = await client.info("server")
        name, version = info.get("server_name", "redis"), info.get("valkey_version") or info["redis_version"]
        yield Contender(
            lambda user: client.set(keys[user], RECORD, px=SECONDS_KEPT * 1000), lambda user: client.get(keys[user]), f"{name} {version}".capitalize()
        )
    finally:
        await client.delete(*keys.values())
        await client.aclose()


def _pauth(place: Place) -> Any:
    from pauth.storage.redis import RedisTokenStorage

    return RedisTokenStorage(place.url, encryption_key=KEY, namespace=NAMESPACE, retention=SECONDS_KEPT)


def _peer(place: Place) -> Any:
    return optional("key_value.aio.stores.redis", "'py-key-value-aio[redis]'").RedisStore(url=_standalone(place))


ROW: Final = Row(
    "redis",
    (
        Entry("pauth", Role.PAUTH, pauth_entry(_pauth)),
        Entry("redis.asyncio, SET PX and GET", Role.FLOOR, _raw),
        Entry("py-key-value RedisStore, Fernet", Role.PEER, peer_entry(_peer, extra="redis")),
    ),
)
