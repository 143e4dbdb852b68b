from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.testing.kit import Driver, driving


@pytest.fixture
async def driver() -> AsyncIterator[Driver]:
    async with driving() as driver:
        yield driver
