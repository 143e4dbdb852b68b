"""A worker in a process of its own: reads from standard input what to do, refreshes until nothing is due, prints what it has done."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import Any, Final

from pauth.client import OAuth2Client
from pauth.core.metadata import ServerMetadata
from pauth.providers import Provider
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.refresher import TokenRefresher
from pauth.storage import CoordinatedTokenStorage, DatabaseTokenStorage, EncryptionKey
from pauth.storage.redis import RedisTokenStorage

CONCURRENCY: Final = 4


def open_storage(url: str, key: str, prefix: str) -> CoordinatedTokenStorage:
    if url.startswith("redis"):
        return RedisTokenStorage(url, encryption_key=EncryptionKey.from_string(key), prefix=prefix)
    return DatabaseTokenStorage(url, encryption_key=EncryptionKey.from_string(key), timeout=60)


def open_client(storage: CoordinatedTokenStorage, told: dict[str, Any]) -> OAuth2Client:
    metadata = ServerMetadata(authorization_endpoint=told["authorization_endpoint"], token_endpoint=told["token_endpoint"])
    return OAuth2Client(
        Provider(name="double", metadata=metadata),
        told["client_id"],
        told["client_secret"],
        token_storage=storage,
        namespace=told["namespace"],
        timeout=told["timeout"],
        refresh_policy=RefreshPolicy(lease_margin=1.0, cache_entries=0),
    )


async def main() -> None:
    told = json.loads(sys.stdin.readline())
    storage = open_storage(told["url"], told["key"], told["prefix"])
    async with open_client(storage, told) as client:
        refresher = TokenRefresher([client], concurrency=CONCURRENCY, page_size=50, lease_time=1.0)
        await storage.count(client.namespace)  # connected
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        while (await refresher.run_once()).listed:
            await asyncio.sleep(0.1)
        sys.stdout.write(json.dumps(dataclasses.asdict(refresher.progress)) + "\n")
    await storage.aclose()


if __name__ == "__main__":
    asyncio.run(main())
