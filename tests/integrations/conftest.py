from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pauth.integrations import _bearer
from tests.client.kit import Bench, bench_at
from tests.integrations.callers import LIBRARIES, Calling
from tests.integrations.resources import Resource, resource
from tests.integrations.web_kit import FRAMEWORKS, Sites
from tests.support.canary_plugin import Canary


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(tmp_path) as bench:
        yield bench


@pytest.fixture(params=LIBRARIES)
async def calling(request: pytest.FixtureRequest) -> AsyncIterator[Calling]:
    async with AsyncExitStack() as stack:
        yield Calling(request.param, stack)


@pytest.fixture
async def api() -> AsyncIterator[Resource]:
    async with resource() as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_ishopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a process does."""
    _bearer.hopeless.clear()


@pytest.fixture
def quiet_browsers() -> Iterator[None]:
    """httpx plays the browser, and logs the URLs that a browser shows."""
    loggers = [logging.getLogger(name) for name in ("httpx", "httpcore")]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    yield
    for logger in loggers:
        logger.setLevel(logging.NOTSET)


@pytest.fixture(params=FRAMEWORKS)
async def sites(request: pytest.FixtureRequest, bench: Bench, canary: Canary, quiet_browsers: None) -> AsyncIterator[Sites]:
    async with AsyncExitStack() as stack:
        yield Sites(request.param, bench, canary, stack)
