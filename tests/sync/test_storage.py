"""SyncTokenStorage: every method does what the async one does, over storages of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pauth import BaseTokenStorage, ConfigurationError, EncryptionKey, MemoryTokenStorage, OAuth2Client, SyncTokenStorage
from pauth.errors import RecordTampered, StorageUnavailable
from pauth.importers import from_authlib
from pauth.storage import CoordinatedTokenStorage, RecordKey, coordinated
from pauth.storage.base import Write
from pauth.sync import copy_storage, import_tokens, keyring_from_provider, keys_in_use, new_wrapped_key, reencrypt
from pauth.testing import ManualClock
from tests.storage import contract
from tests.storage.kit import KEY, BlockingStorage, DictStorage, database
from tests.sync.kit import STORAGES, make_storage

ALICE = RecordKey("provider-a", "alice")


class AsyncView:
    """A sync storage as an async one, so that it can be put to the contract."""

    def __init__(self, storage: SyncTokenStorage) -> None:
        self.storage = storage


def _awaited(name: str) -> Callable[..., Any]:
    async def method(self: AsyncView, *arguments: Any, **options: Any) -> Any:
        return await asyncio.to_thread(getattr(self.storage, "close" if name == "aclose" else name), *arguments, **options)

    return method


for _name in [name for name in vars(CoordinatedTokenStorage) if not name.startswith("_")] + ["save_token", "get_token", "delete_token"]:
    setattr(AsyncView, _name, _awaited(_name))


class _Contract(contract.StorageContract):
    broken: str
    """What fails, by its place, when the store is out of reach."""

    def break_storage(self, storage: Any) -> None:
        async def fail(*_: Any, **__: Any) -> None:
            raise StorageUnavailable("it is out of reach")

        self.patch = pytest.MonkeyPatch()
        for place in self.broken.split():
            self.patch.setattr(f"pauth.storage.{place}", fail)

    def mend_storage(self, storage: Any) -> None:
        self.patch.undo()


class TestMemory(_Contract):
    examples = 20
    broken = " ".join(f"memory.MemoryTokenStorage.{name}_token" for name in ("save", "get", "delete"))

    @pytest.fixture
    def storage(self, clock: ManualClock) -> Any:
        return AsyncView(SyncTokenStorage(MemoryTokenStorage(clock=clock)))


class TestSQLite(_Contract):
    examples = 5
    broken = "sql.sqlite_driver.SqliteDriver._run"

    @pytest.fixture
    def storage(self, tmp_path: Path, clock: ManualClock) -> Any:
        return AsyncView(SyncTokenStorage(database(tmp_path, clock=clock)))


del contract, _Contract  # which pytest would collect


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SyncTokenStorage]:
    with SyncTokenStorage(make_storage(request.param, tmp_path)) as storage:
        yield storage


def test_the_three_methods(storage: SyncTokenStorage) -> None:
    storage.save_token("alice", {"access_token": "CANARY-1"})
    storage.save_token("bob", {"access_token": "CANARY-2"})
    assert storage.get_token("alice") == {"access_token": "CANARY-1"}
    storage.delete_token("alice")
    storage.delete_token("alice")
    assert storage.get_token("alice") is None
    assert storage.get_token("bob") == {"access_token": "CANARY-2"}


def test_versions_and_batches(storage: SyncTokenStorage) -> None:
    first = storage.replace(ALICE, {"n": 1}, expected_version=0)
    assert first is not None
    assert storage.replace(ALICE, {"n": 2}, expected_version=7) is None
    (second,) = storage.put_many([Write(ALICE, {"n": 2}, first.version)])
    assert storage.load(ALICE) == second
    assert storage.get_many([ALICE]) == [second]
    assert storage.delete_many([ALICE]) == [True]


def test_an_error_that_is_an_answer_is_given_and_not_raised(tmp_path: Path) -> None:
    """Batches answer for each item."""
    with SyncTokenStorage(database(tmp_path)) as writer, SyncTokenStorage(database(tmp_path, keys=EncryptionKey.generate())) as reader:
        writer.save_token("alice", {"n": 1})
        (answer,) = reader.get_many([RecordKey("", "alice")])
    assert type(answer).__name__ == "UnknownEncryptionKey"
    assert not isinstance(answer, RecordTampered)


def test_a_url_is_opened_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", KEY.to_string().reveal())
    with SyncTokenStorage(f"sqlite:///{tmp_path / 'tokens.db'}") as storage:
        storage.save_token("alice", {"n": 1})
        assert repr(storage) == "<SyncTokenStorage of DatabaseTokenStorage>"
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.db"]  # the write-ahead log goes with the last connection
    with pytest.raises(ConfigurationError, match="closed"):
        storage.get_token("alice")
    storage.close()


def test_a_url_that_names_nothing_sh_5() -> None:
    with pytest.raises(ConfigurationError, match="no token storage for the URL scheme 'nosuch'"):
        SyncTokenStorage("nosuch://user:CANARY-password@host/")


def test_what_is_no_storage() -> None:
    with pytest.raises(ConfigurationError, match="int is no token storage"):
        SyncTokenStorage(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_client_of_either_kind_takes_it_for_what_is_behind_it() -> None:
    behind = MemoryTokenStorage()
    face = SyncTokenStorage(behind)
    assert isinstance(face, BaseTokenStorage)
    assert coordinated(face) is behind
    client = OAuth2Client("github", "id", token_storage=face)
    assert client._storage is behind  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("own", [DictStorage, BlockingStorage])
def test_a_class_of_three_methods_has_no_lists(own: type[Any]) -> None:
    storage = SyncTokenStorage(own())
    with pytest.raises(ConfigurationError, match="has no lists"):
        storage.count()
    with pytest.raises(ConfigurationError, match="has no lists"):
        next(storage.iter_users())


@pytest.mark.parametrize("kind", ["memory", "sqlite", "files"])
def test_listings_are_iterators(tmp_path: Path, kind: str) -> None:
    with SyncTokenStorage(make_storage(kind, tmp_path)) as storage:
        keys = [RecordKey(f"namespace {number % 2}", f"user {number}") for number in range(25)]
        storage.put_many([Write(key, {}, expires_at=1000.0 + number) for number, key in enumerate(keys)])
        assert {listed.key for listed in storage.iter_users(batch=4)} == set(keys)
        assert {listed.key for listed in storage.iter_users("namespace 1")} == set(keys[1::2])
        assert [expiring.key for expiring in storage.iter_expiring(1010.0, batch=3)] == keys[:10]
        assert list(storage.iter_expiring(0.0)) == []


def test_a_whole_store_to_another_key_and_to_another_place(tmp_path: Path) -> None:
    new = EncryptionKey.generate()
    old_storage = SyncTokenStorage(database(tmp_path))
    for number in range(10):
        old_storage.save_token(f"user-{number}", {"n": number})
    assert keys_in_use(old_storage) == {KEY.key_id.hex(): 10}
    old_storage.close()
    progress: list[int] = []
    with SyncTokenStorage(database(tmp_path, keys=[new, KEY])) as storage:
        report = reencrypt(storage, batch=4, on_progress=lambda so_far: progress.append(so_far.checked))
        assert (report.complete, report.rewritten, max(progress)) == (True, 10, 10)
        assert keys_in_use(storage) == {new.key_id.hex(): 10}
        target = MemoryTokenStorage()
        assert copy_storage(storage, target).verified
        assert SyncTokenStorage(target).count() == 10


def test_a_key_that_a_service_wraps(tmp_path: Path) -> None:
    class Service:
        async def wrap(self, data_key: bytes) -> bytes:
            return bytes(byte ^ 0x55 for byte in data_key)

        async def unwrap(self, wrapped_key: bytes) -> bytes:
            return bytes(byte ^ 0x55 for byte in wrapped_key)

    keyring = keyring_from_provider(Service(), [new_wrapped_key(Service())], older_keys=[KEY])
    with SyncTokenStorage(database(tmp_path, keys=keyring)) as storage:
        storage.save_token("alice", {"n": 1})
        assert storage.get_token("alice") == {"n": 1}


def test_what_a_users_class_raises_is_told_without_what_it_says_sh_2() -> None:
    class Failing(DictStorage):
        async def get_token(self, user_id: str) -> dict[str, Any] | None:
            raise RuntimeError(f"CANARY-{user_id}")

    with pytest.raises(StorageUnavailable, match=r"^Failing.get_token raised RuntimeError$"):
        SyncTokenStorage(Failing()).get_token("alice")


def test_tokens_of_another_library_are_imported() -> None:
    with SyncTokenStorage(MemoryTokenStorage()) as storage:
        vector = {"alice": {"access_token": "CANARY-imported", "token_type": "Bearer", "expires_at": 2e9}}
        found = list(from_authlib(vector))
        assert import_tokens(found, storage, namespace="of the client", dry_run=True).written == ("alice",)
        assert storage.count() == 0
        assert import_tokens(found, storage, namespace="of the client").written == ("alice",)
        assert storage.count("of the client") == 1
