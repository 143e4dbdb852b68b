"""Memory: beside a dict in an async def."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.contender import Contender, Entry, Place, Role, Row, optional
from benchmarks.drivers.common import pauth_entry, peer_entry
from benchmarks.workload import NAMESPACE, TOKENS
from pauth.storage import MemoryTokenStorage

__all__ = ["ROW"]


@asynccontextmanager
async def _dict(_: Place) -> AsyncGenerator[Contender]:
    kept: dict[str, dict[str, Any]] = {}

    async def save(user: str) -> None:
        kept[user] = TOKENS

    async def get(user: str) -> object:
        return kept.get(user)

    yield Contender(save, get)


ROW: Final = Row(
    "memory",
    (
        Entry("pauth", Role.PAUTH, pauth_entry(lambda _: MemoryTokenStorage(namespace=NAMESPACE))),
        Entry("dict in an async def", Role.FLOOR, _dict),
        Entry(
            "py-key-value MemoryStore",
            Role.PEER,
            peer_entry(
                lambda _: optional("key_value.aio.stores.memory", "'py-key-value-aio[memory]'").MemoryStore(), extra="memory", encrypted=False
            ),
        ),
    ),
    calls_per_sample=64,
)
