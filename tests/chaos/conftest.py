"""Real processes: in the session of the newest Python only, all on one worker of xdist, with one zygote and one server of each kind for all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.chaos.fleet import Fleet
from tests.chaos.stores import Servers

__all__ = ["fleet", "servers"]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("chaos")) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet() -> AsyncIterator[Fleet]:
    async with Fleet() as begun:
        yield begun


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "fleet" in getattr(item, "fixturenames", ()):
            item.add_marker("chaos")
            item.add_marker(pytest.mark.xdist_group("chaos"))
