"""What the tests of the Redis driver share."""

from __future__ import annotations

import itertools
import os
from typing import Any, Final

import pytest

from pauth.secret import Secret
from pauth.storage.driver import Put
from pauth.storage.identity import row_id
from pauth.storage.redis import RedisTokenStorage
from pauth.storage.redis.driver import RedisDriver
from pauth.storage.redis.urls import links_for
from tests.storage.kit import KEY

_numbers: Final = itertools.count()


@pytest.fixture
def prefix() -> str:
    """A key prefix of this test's own."""
    return f"test-{os.getpid()}-{next(_numbers)}"


def storage_at(url: Any, **options: Any) -> RedisTokenStorage:
    """An encrypted storage."""
    return RedisTokenStorage(url, encryption_key=KEY, **options)


def driver_at(url: str, *, prefix: str = "pauth", timeout: float = 10.0, retention: int | None = None) -> RedisDriver:
    target = links_for(Secret(url), timeout=timeout)
    return RedisDriver(target.make, prefix=prefix, retention=retention, store=target.store)


def put(user: str, **changes: Any) -> Put:
    """A write for a user, unconditional unless changed."""
    written = Put(row_id("", user), b"", user.encode(), None, None, 1_000, None, None, None, memoryview(b"CANARY-data of " + user.encode()))
    return written._replace(**changes)


def one_per_shard() -> list[str]:
    """Users whose rows are in 32 different shards, in the order of these."""
    found: dict[int, str] = {}
    for number in itertools.count():
        user = f"user-{number}"
        found.setdefault(row_id("", user)[0] >> 3, user)
        if len(found) == 32:
            return [found[shard] for shard in range(32)]
    raise AssertionError
