"""The contract that users get, as our own coordinated storages take it: with any JSON that hypothesis finds."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings

from pauth.storage import CoordinatedTokenStorage
from pauth.testing.contract_coordinated import CoordinatedStorageContract
from tests.storage.kit import JSON_OBJECTS, same_json

__all__ = ["StorageContract"]


class StorageContract(CoordinatedStorageContract):
    examples = 60
    """How many arbitrary JSON objects are tried."""

    def test_arbitrary_json_comes_back_equal(self, store: CoordinatedTokenStorage) -> None:
        async def round_trip(tokens: dict[str, Any]) -> None:
            await store.save_token("alice", tokens)
            assert same_json(await store.get_token("alice"), tokens)

        @settings(max_examples=self.examples, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
        @given(JSON_OBJECTS)
        def every(tokens: dict[str, Any]) -> None:
            loop.run(round_trip(tokens))

        with asyncio.Runner() as loop:
            every()
            loop.run(store.aclose())
