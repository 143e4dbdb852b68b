"""The storage contract on each kind of Redis, by URL and through clients of the user's."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportPrivateUsage=false, reportUnknownLambdaType=false
# (redis-py is typed in part only; its stubs leave the parameters of most methods open)

from __future__ import annotations

import select
from typing import Any, cast

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.sentinel import Sentinel
from redis.cluster import LoadBalancingStrategy

from pauth.secret import Secret
from pauth.storage import CoordinatedTokenStorage
from pauth.storage.redis import RedisTokenStorage
from pauth.storage.redis.urls import links_for
from pauth.testing.clock import ManualClock
from tests.storage.contract import StorageContract
from tests.storage.kit import KEY
from tests.storage.redis.kit import storage_at
from tests.support.redis_servers import MASTER_NAME, RedisServer, RedisSystem, free_port


class _RedisContract(StorageContract):
    examples = 5
    lease_ttl = 0.4  # on the server's clock

    def pass_time(self, clock: ManualClock, seconds: float) -> None:
        self.wait_for_the_server(seconds)

    def wait_for_the_server(self, seconds: float) -> None:
        select.select((), (), (), seconds)  # not time.sleep, which the detector of blocking calls sees

    def break_storage(self, storage: Any) -> None:
        """Nobody answers any more where it looks for its server."""
        driver = storage._driver
        self.links, driver._links = driver._links, {}
        self.make, driver._make_links = driver._make_links, links_for(Secret(f"redis://127.0.0.1:{free_port()}"), timeout=5).make

    def mend_storage(self, storage: Any) -> None:
        driver = storage._driver
        driver._links, driver._make_links = self.links, self.make


class TestValkey(_RedisContract):
    examples = 25

    @pytest.fixture
    def storage(self, valkey: RedisServer, prefix: str, clock: ManualClock) -> CoordinatedTokenStorage:
        return storage_at(valkey.url, prefix=prefix, clock=clock)


class TestOneByOneAndRetained(_RedisContract):
    @pytest.fixture
    def storage(self, valkey: RedisServer, prefix: str, clock: ManualClock) -> CoordinatedTokenStorage:
        return storage_at(valkey.url, prefix=prefix, clock=clock, coalesce=False, retention=90 * 86_400)


class TestOldRedis(_RedisContract):
    @pytest.fixture
    def storage(self, old_redis: RedisServer, prefix: str, clock: ManualClock) -> CoordinatedTokenStorage:
        return storage_at(old_redis.url, prefix=prefix, clock=clock, retention=90 * 86_400)


class TestCluster(_RedisContract):
    @pytest.fixture
    def storage(self, redis_cluster: RedisSystem, prefix: str, clock: ManualClock) -> CoordinatedTokenStorage:
        return storage_at(redis_cluster.url, prefix=prefix, clock=clock)


class TestSentinel(_RedisContract):
    @pytest.fixture
    def storage(self, redis_sentinel: RedisSystem, prefix: str, clock: ManualClock) -> CoordinatedTokenStorage:
        return storage_at(redis_sentinel.url, prefix=prefix, clock=clock)


class _WithItsClient(RedisTokenStorage):
    """Closes the client of the user's too: in the event loop that used it."""

    client: Any

    async def aclose(self) -> None:
        await super().aclose()
        await self.client.aclose()


class _OfTheUsers(_RedisContract):
    @pytest.fixture
    def client(self) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def storage(self, client: Any, prefix: str, clock: ManualClock) -> CoordinatedTokenStorage:
        storage = _WithItsClient(client, encryption_key=KEY, prefix=prefix, clock=clock)
        storage.client = client
        return storage


class TestClientThatDecodesRd7(_OfTheUsers):
    @pytest.fixture
    def client(self, valkey: RedisServer) -> Any:
        return Redis.from_url(valkey.url, decode_responses=True)  # with redis-py's own choice of protocol


class TestClientOfResp3Rd7(_OfTheUsers):
    @pytest.fixture
    def client(self, valkey: RedisServer) -> Any:
        return Redis(connection_pool=ConnectionPool.from_url(valkey.url, protocol=3, decode_responses=True, encoding="latin-1"))


class TestClusterClient(_OfTheUsers):
    @pytest.fixture
    def client(self, redis_cluster: RedisSystem) -> Any:
        return RedisCluster.from_url(redis_cluster.servers[1].url, decode_responses=True, load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN)


class TestSentinelClient(_OfTheUsers):
    @pytest.fixture
    def client(self, redis_sentinel: RedisSystem) -> Any:
        manager = cast("Any", Sentinel)([("127.0.0.1", redis_sentinel.servers[2].port)], decode_responses=True)
        client = manager.master_for(MASTER_NAME)

        async def close() -> None:
            for each in (*manager.sentinels, client):
                await Redis.aclose(each)

        client.aclose = close
        return client
