"""Every storage passes the same contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from pauth.errors import ConfigurationError
from pauth.storage import CoordinatedTokenStorage, DatabaseTokenStorage, MemoryTokenStorage, RecordKey, coordinated
from pauth.testing.clock import ManualClock
from tests.storage.contract import StorageContract
from tests.storage.kit import KEY, BlockingStorage, DictStorage, database, plain


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """An event loop for tests that are no coroutines."""
    with asyncio.Runner() as runner:
        yield runner


class TestMemory(StorageContract):
    @pytest.fixture
    def storage(self, clock: ManualClock) -> CoordinatedTokenStorage:
        return MemoryTokenStorage(clock=clock)


class _Closing(StorageContract):
    """Closes the storage in whatever event loop the test leaves behind."""

    examples = 25

    @pytest.fixture
    def storage(self, made: CoordinatedTokenStorage) -> Iterator[CoordinatedTokenStorage]:
        yield made
        asyncio.run(made.aclose())


class TestSQLiteEncrypted(_Closing):
    @pytest.fixture
    def made(self, tmp_path: Path, clock: ManualClock) -> CoordinatedTokenStorage:
        return database(tmp_path, clock=clock)


@pytest.mark.plaintext_files
class TestSQLitePlaintext(_Closing):
    @pytest.fixture
    def made(self, tmp_path: Path, clock: ManualClock) -> CoordinatedTokenStorage:
        with pytest.warns(UserWarning, match="insecure_plaintext=True"):
            return DatabaseTokenStorage(f"sqlite:///{tmp_path}/tokens.db", insecure_plaintext=True, clock=clock)


class TestUsersEngine(StorageContract):
    examples = 25

    @pytest.fixture
    def storage(self, tmp_path: Path, clock: ManualClock) -> Iterator[CoordinatedTokenStorage]:
        # a user's engine as it comes: several connections, no pragmas
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/tokens.db")
        yield DatabaseTokenStorage(engine, encryption_key=KEY, clock=clock)
        asyncio.run(engine.dispose())


class _ThreeMethods(StorageContract):
    keeps_times = False

    async def test_namespaces_are_apart_p13(self, storage: CoordinatedTokenStorage) -> None:
        """A three-method class gets the plain user id, so it serves one client; a second one would be given the first one's tokens."""
        await storage.replace(RecordKey("a", "alice"), {"number": 1}, expected_version=0)
        assert await storage.get_token("alice") == {"number": 1}
        other = RecordKey("b", "alice")
        for operation in (storage.load(other), storage.replace(other, {"number": 2}, expected_version=None), storage.remove(other)):
            with pytest.raises(ConfigurationError, match="make an instance of it for each client"):
                await operation
        assert plain(await storage.load(RecordKey("a", "alice"))) == {"number": 1}


class TestAsyncClass(_ThreeMethods):
    @pytest.fixture
    def storage(self, clock: ManualClock) -> CoordinatedTokenStorage:
        return coordinated(DictStorage(), clock=clock)


class TestBlockingClass(_ThreeMethods):
    examples = 25

    @pytest.fixture
    def storage(self, clock: ManualClock) -> CoordinatedTokenStorage:
        return coordinated(BlockingStorage(), clock=clock)


class _Wrapped:
    """A user's class around one of pauth's storages."""

    def __init__(self, inner: CoordinatedTokenStorage) -> None:
        self.inner = inner

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        await self.inner.save_token(user_id, tokens)

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        return await self.inner.get_token(user_id)

    async def delete_token(self, user_id: str) -> None:
        await self.inner.delete_token(user_id)


class TestClassAroundSQLite(_ThreeMethods):
    examples = 10

    @pytest.fixture
    async def storage(self, tmp_path: Path, clock: ManualClock) -> AsyncIterator[CoordinatedTokenStorage]:
        inner = database(tmp_path, clock=clock)
        yield coordinated(_Wrapped(inner), clock=clock)
        await inner.aclose()
