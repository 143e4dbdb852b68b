"""What the tests of watching share: what was told, and a look at who listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pauth.storage import RedisTokenStorage
from pauth.storage.identity import row_id
from tests.support.redis_servers import RedisServer

ALICE, BOB = row_id("", "alice"), row_id("", "bob")


class Told:
    """What a watch told, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.all: list[bytes | None] = []

    def __call__(self, row: bytes | None) -> None:
        self.all.append(row)
        self._queue.put_nowait(row)

    async def next(self) -> bytes | None:
        """What is told next, or was not asked for yet."""
        return await self._queue.get()

    async def until(self, wanted: bytes | None) -> list[bytes | None]:
        """What is told until this is, without it."""
        before: list[bytes | None] = []
        while (row := await self.next()) != wanted:
            before.append(row)
        return before


async def told_by(storage: RedisTokenStorage, told: Told, user: str = "marker") -> list[bytes | None]:
    """What was told until now: everything before a write of this moment is."""
    await storage.save_token(user, {})
    return await told.until(row_id("", user))


async def hears(told: Told, storage: RedisTokenStorage, user: str) -> None:
    """Write until it is told: where the storage that watches is so impatient that a busy machine makes it miss something."""
    while row_id("", user) not in told.all:
        await storage.save_token(user, {})
        await asyncio.sleep(0.01)


async def becomes(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    while not condition():
        await asyncio.sleep(0.005)


def listeners(server: RedisServer) -> list[dict[str, Any]]:
    """The connections that are told of changed keys."""
    with server.client() as client:
        found: Any = client.client_list()
    return [each for each in found if "B" in each["flags"]]
