"""Every storage passes the same contract."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from pauth.errors import ConfigurationError
from pauth.storage import CoordinatedTokenStorage, DatabaseTokenStorage, MemoryTokenStorage, RecordKey, coordinated
from pauth.testing import contract
from pauth.testing.clock import ManualClock
from pauth.testing.contract_kit import in_a_loop, tokens_of
from tests.storage.contract import StorageContract
from tests.storage.kit import KEY, BlockingStorage, DictStorage, database


class TestMemory(StorageContract):
    @pytest.fixture
    def storage(self, clock: ManualClock) -> CoordinatedTokenStorage:
        return MemoryTokenStorage(clock=clock)


class TestSQLiteEncrypted(StorageContract):
    examples = 25

    @pytest.fixture
    def storage(self, tmp_path: Path, clock: ManualClock) -> CoordinatedTokenStorage:
        return database(tmp_path, clock=clock)


class TestSQLiteOneByOne(StorageContract):
    examples = 5

    @pytest.fixture
    def storage(self, tmp_path: Path, clock: ManualClock) -> CoordinatedTokenStorage:
        return DatabaseTokenStorage(f"sqlite:///{tmp_path}/tokens.db", encryption_key=KEY, clock=clock, coalesce=False)


@pytest.mark.plaintext_files
class TestSQLitePlaintext(StorageContract):
    examples = 25

    @pytest.fixture
    def storage(self, tmp_path: Path, clock: ManualClock) -> CoordinatedTokenStorage:
        with pytest.warns(UserWarning, match="insecure_plaintext=True"):
            return DatabaseTokenStorage(f"sqlite:///{tmp_path}/tokens.db", insecure_plaintext=True, clock=clock)


class TestUsersEngine(StorageContract):
    examples = 5

    @pytest.fixture
    def storage(self, tmp_path: Path, clock: ManualClock) -> Iterator[CoordinatedTokenStorage]:
        # a user's engine as it comes: several connections, no pragmas
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/tokens.db")
        yield DatabaseTokenStorage(engine, encryption_key=KEY, clock=clock)
        asyncio.run(engine.dispose())


class _ThreeMethods(contract.StorageContract):
    @in_a_loop
    async def test_namespaces_are_apart_p13(self, store: CoordinatedTokenStorage) -> None:
        """A three-method class gets the plain user id, so it serves one client; a second one would be given the first one's tokens."""
        await store.replace(RecordKey("a", "alice"), {"number": 1}, expected_version=0)
        assert await store.get_token("alice") == {"number": 1}
        other = RecordKey("b", "alice")
        for operation in (store.load(other), store.replace(other, {"number": 2}, expected_version=None), store.remove(other)):
            with pytest.raises(ConfigurationError, match="make an instance of it for each client"):
                await operation
        assert tokens_of(await store.load(RecordKey("a", "alice"))) == {"number": 1}

    @in_a_loop
    async def test_leases_and_lists_are_refused(self, store: CoordinatedTokenStorage) -> None:
        key = RecordKey("a", "alice")
        for operation in (
            store.take_lease(key, "one", ttl=1),
            store.extend_lease(key, "one", ttl=1),
            store.release_lease(key, "one"),
            store.list_users(),
            store.list_expiring(1.0),
            store.count(),
        ):
            with pytest.raises(ConfigurationError, match="three methods"):
                await operation


class TestAsyncClass(_ThreeMethods):
    @pytest.fixture
    def storage(self) -> DictStorage:
        return DictStorage()


class TestBlockingClass(_ThreeMethods):
    @pytest.fixture
    def storage(self) -> BlockingStorage:
        return BlockingStorage()


class _Breakable(BlockingStorage):
    broken = False

    def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        self._check()
        super().save_token(user_id, tokens)

    def get_token(self, user_id: str) -> dict[str, Any] | None:
        self._check()
        return super().get_token(user_id)

    def _check(self) -> None:
        if self.broken:
            raise OSError("CANARY")


class TestClassThatBreaks(_ThreeMethods):
    @pytest.fixture
    def storage(self) -> _Breakable:
        return _Breakable()

    def break_storage(self, storage: _Breakable) -> None:
        storage.broken = True

    def mend_storage(self, storage: _Breakable) -> None:
        storage.broken = False


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
    @pytest.fixture
    def storage(self, tmp_path: Path, clock: ManualClock) -> Iterator[_Wrapped]:
        inner = database(tmp_path, clock=clock)
        yield _Wrapped(inner)
        asyncio.run(inner.aclose())


def test_a_contract_without_a_storage_says_so() -> None:
    class Nothing(contract.StorageContract):
        pass

    with pytest.raises(NotImplementedError, match="give the fixture storage"):
        Nothing.storage.__wrapped__(Nothing())  # type: ignore[attr-defined]  # pyright: ignore  # noqa: PGH003


def test_adapters_are_memoised() -> None:
    storage = DictStorage()
    assert coordinated(storage) is coordinated(storage)
