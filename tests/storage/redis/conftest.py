from __future__ import annotations

from typing import Final

import pytest

pytest.register_assert_rewrite("tests.storage.redis.kit", "pauth.testing.contract", "pauth.testing.contract_coordinated")

from tests.storage.redis.kit import prefix  # noqa: E402  # whose asserts are to be rewritten
from tests.support.redis_servers import faulty_cluster, old_redis, own_cluster, own_redis, redis_cluster, redis_sentinel, valkey  # noqa: E402

__all__ = ["faulty_cluster", "old_redis", "own_cluster", "own_redis", "prefix", "redis_cluster", "redis_sentinel", "valkey"]

# A test belongs to the first of them that it uses: all of a group run on one worker, so that the servers of a group are started once.
_GROUPS: Final = ("faulty_cluster", "redis_cluster", "redis_sentinel", "valkey", "old_redis", "own_redis")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        wanted = [*getattr(item, "fixturenames", ()), *getattr(getattr(item, "callspec", None), "params", {}).values()]
        group = next((fixture for fixture in _GROUPS if fixture in wanted), None)
        if group is not None:
            item.add_marker("servers")
            if group != "own_redis":
                item.add_marker(pytest.mark.xdist_group(group))
