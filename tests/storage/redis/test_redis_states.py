"""States a server can be in, with the real server: it loads its data, a script keeps it busy (P20)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from redis import exceptions

from pauth.errors import StorageUnavailable
from pauth.storage import RecordKey
from tests.storage.redis.kit import storage_at
from tests.support.redis_servers import RedisServer

Start = Callable[..., RedisServer]


async def test_a_server_that_loads_its_data_is_unavailable_for_a_while_p20(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    await storage.save_token("alice", {"n": 1})
    with server.client() as client:
        for number in range(200):
            client.set(f"other-{number}", "x" * 2000)
        client.save()
    server.kill()
    server.configure("key-load-delay 1000\nloading-process-events-interval-bytes 2048\n")
    server.start()
    errors: list[StorageUnavailable] = []
    found: dict[str, Any] | None = {}
    while found == {}:
        try:
            found = await storage.get_token("alice")
        except StorageUnavailable as error:
            errors.append(error)
            await asyncio.sleep(0.005)
    assert found == {"n": 1}  # and never: no token
    assert all(error.retryable for error in errors)
    assert any("LOADING" in str(error) for error in errors)
    await storage.aclose()


async def test_a_server_busy_with_somebodys_script_is_unavailable_p20(own_redis: Start, prefix: str) -> None:
    server = own_redis(config="lua-time-limit 5\n")
    storage = storage_at(server.url, prefix=prefix)
    await storage.save_token("alice", {"n": 1})

    def occupy() -> None:
        with server.client() as client, suppress(exceptions.ResponseError):
            client.eval("while true do end", 0)

    script = threading.Thread(target=occupy)
    script.start()
    with server.client() as client:
        while await _is_free(client.ping):
            pass
        alice = RecordKey("", "alice")
        for operation in (
            storage.get_token("alice"),
            storage.save_token("alice", {"n": 2}),
            storage.take_lease(alice, "one", ttl=1),
            storage.count(),
        ):
            with pytest.raises(StorageUnavailable, match="BUSY"):
                await operation
        client.script_kill()
    script.join()
    assert await storage.get_token("alice") == {"n": 1}
    await storage.aclose()


async def _is_free(ping: Callable[[], object]) -> bool:
    try:
        await asyncio.to_thread(ping)
    except exceptions.ResponseError:
        return False
    return True
