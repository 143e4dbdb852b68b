from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pauth.testing import ManualClock
from tests.refresh.faulty import FaultyStorage
from tests.refresh.journal_kit import CRYPTO, Database
from tests.refresh.kit import KINDS, Storage, World, close, make_storage, world
from tests.refresh.refreshers import Obedient, Store
from tests.refresh.rotating import Rotating


@pytest.fixture
async def strict() -> AsyncIterator[World]:
    """A server that takes a refresh token once, and revokes the family when it comes again."""
    async with world() as made:
        yield made


@pytest.fixture(params=KINDS)
async def storage(request: pytest.FixtureRequest, strict: World, tmp_path: Path) -> AsyncIterator[Storage]:
    """A storage of every kind."""
    made = make_storage(request.param, tmp_path, strict.clock)
    yield made
    await close(made)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def rotating(clock: ManualClock) -> Rotating:
    return Rotating(clock)


@pytest.fixture
def faulty(clock: ManualClock) -> FaultyStorage:
    return FaultyStorage(clock)


@pytest.fixture
async def down(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Database]:
    """An encrypted database that can be told to take no tokens."""
    storage = Database(tmp_path, clock, encryption_key=CRYPTO)
    yield storage
    await storage.aclose()


@pytest.fixture
def store(clock: ManualClock) -> Store:
    return Store(clock)


@pytest.fixture
def client(store: Store, clock: ManualClock) -> Obedient:
    return Obedient(store, clock)
