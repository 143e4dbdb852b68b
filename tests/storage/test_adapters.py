"""Users' own classes: what is added to them, and what they may get wrong."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pauth.errors import ConfigurationError, PAuthError, RecordTampered, StorageUnavailable, TokenStorageError, UnsupportedRecord
from pauth.storage import BaseTokenStorage, CoordinatedTokenStorage, MemoryTokenStorage, Record, RecordKey, Write, adapters, coordinated
from pauth.storage.adapters import LINEAGE_MEMBER, VERSION_MEMBER, ThreeMethodAdapter
from tests.storage.kit import TOKENS, BlockingStorage, DictStorage, plain

ALICE = RecordKey("", "alice")


# --- which adapter


def test_a_coordinated_storage_is_left_alone() -> None:
    storage = MemoryTokenStorage()
    assert coordinated(storage) is storage


def test_all_who_share_an_object_share_its_adapter() -> None:
    storage, other = DictStorage(), DictStorage()
    adapter = coordinated(storage)
    assert coordinated(storage) is adapter
    assert coordinated(adapter) is adapter
    assert coordinated(other) is not adapter
    assert repr(adapter) == "<ThreeMethodAdapter of DictStorage>"


class Unhashable(DictStorage):
    __hash__ = None  # type: ignore[assignment]  # as in a dataclass

    def __eq__(self, other: object) -> bool:
        return True


def test_objects_are_told_apart_by_identity_not_equality() -> None:
    first, second = Unhashable(), Unhashable()
    assert coordinated(first) is coordinated(first)
    assert coordinated(first) is not coordinated(second)


async def test_pending_logins_outlive_the_adapter_but_not_the_object() -> None:
    storage = DictStorage()
    await coordinated(storage).put_pending("login", {"n": 1}, expires_at=2e10)
    gc.collect()  # the client of the first request is gone, and its adapter with it
    assert await coordinated(storage).take_pending("login") == {"n": 1}
    gone = weakref.ref(storage)
    del storage
    gc.collect()
    assert gone() is None
    await coordinated(DictStorage()).put_pending("login", {"n": 2}, expires_at=2e10)
    assert await coordinated(DictStorage()).take_pending("login") is None


class Slotted:
    __slots__ = ("saved",)

    def __init__(self) -> None:
        self.saved: dict[str, Any] = {}

    save_token = DictStorage.save_token
    get_token = DictStorage.get_token
    delete_token = DictStorage.delete_token


async def test_objects_without_weak_references_work() -> None:
    storage = Slotted()
    await coordinated(storage).save_token("alice", {"a": 1})
    await coordinated(storage).put_pending("login", {"n": 1}, expires_at=2e10)
    gc.collect()
    assert await coordinated(storage).take_pending("login") == {"n": 1}
    assert await coordinated(storage).get_token("alice") == {"a": 1}


@pytest.mark.parametrize("storage", [None, {}, object(), "redis://localhost", 5])
def test_what_is_no_storage_is_refused(storage: object) -> None:
    with pytest.raises(ConfigurationError, match="save_token, get_token, delete_token"):
        coordinated(storage)


@pytest.mark.parametrize("storage", [DictStorage, BlockingStorage, MemoryTokenStorage])
def test_a_class_instead_of_an_instance_is_refused(storage: object) -> None:
    with pytest.raises(ConfigurationError, match=r"write \w+\(\)"):
        coordinated(storage)


def test_async_methods_under_the_blocking_base_are_refused() -> None:
    class Confused(BlockingStorage):
        async def get_token(self, user_id: str) -> Any: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    with pytest.raises(ConfigurationError, match="do not derive it from BaseTokenStorage"):
        coordinated(Confused())


async def test_blocking_methods_without_the_base_are_refused() -> None:
    class Confused:
        save_token = BlockingStorage.save_token
        get_token = BlockingStorage.get_token
        delete_token = BlockingStorage.delete_token
        saved: dict[str, Any] = {}  # noqa: RUF012

    with pytest.raises(ConfigurationError, match="from BaseTokenStorage"):
        await coordinated(Confused()).get_token("alice")


# --- what the class is given and gives


async def test_the_version_rides_in_the_dict_and_does_not_come_back() -> None:
    storage = DictStorage()
    adapter = coordinated(storage)
    await adapter.save_token("alice", {"a": 1, VERSION_MEMBER: 99})
    await adapter.save_token("alice", {"a": 2})
    assert storage.saved == {"alice": {"a": 2, "pauth_version": 2}}
    assert await adapter.get_token("alice") == {"a": 2}
    assert plain(await adapter.load(ALICE)) == {"a": 2}


class Forgetful(DictStorage):
    """A class with a column for each member it knows, as an ORM model might be."""

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        await super().save_token(user_id, {name: value for name, value in tokens.items() if not name.startswith("pauth_")})


async def test_p3_a_class_that_keeps_only_what_it_knows_is_found_out_at_the_first_write() -> None:
    """It would lose every refreshed token: nobody could tell which one came after which."""
    adapter = coordinated(storage := Forgetful())
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"^Forgetful\.get_token does not give back all members that save_token was given$"):
            await adapter.replace(ALICE, {"access_token": "CANARY-at"}, expected_version=None, lineage=b"sixteen bytes 01")
    assert storage.saved.keys() == {"alice"}  # and what it was given stays


async def test_what_another_library_saved_counts_as_version_1() -> None:
    storage = DictStorage()
    storage.saved["alice"] = {"access_token": "CANARY-foreign"}
    adapter = coordinated(storage)
    record = await adapter.load(ALICE)
    assert record is not None
    assert record.version == 1
    assert await adapter.replace(ALICE, {"a": 1}, expected_version=0) is None
    assert await adapter.replace(ALICE, {"a": 1}, expected_version=1) is not None
    assert storage.saved["alice"] == {"a": 1, "pauth_version": 2}


@pytest.mark.parametrize("found", [[], "text", 5, {"pauth_version": 0}, {"pauth_version": True}, {"pauth_version": "1"}, {"pauth_version": 1.0}])
async def test_what_cannot_be_read_is_an_error_never_no_token(found: Any) -> None:
    storage = DictStorage()
    storage.saved["alice"] = found
    adapter = coordinated(storage)
    for operation in (adapter.load(ALICE), adapter.replace(ALICE, {}, expected_version=1), adapter.remove(ALICE, expected_version=1)):
        with pytest.raises(UnsupportedRecord):
            await operation
    assert storage.saved["alice"] is found


async def test_a_new_login_replaces_and_a_deletion_removes_what_cannot_be_read() -> None:
    storage = DictStorage()
    storage.saved["alice"] = storage.saved["bob"] = "not a dict"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    adapter = coordinated(storage)
    await adapter.save_token("alice", {"a": 1})
    await adapter.delete_token("bob")
    assert storage.saved == {"alice": {"a": 1, "pauth_version": 2}}


# --- errors of the class


class Failing(DictStorage):
    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        raise ConnectionError(f"CANARY-password@host, reading {user_id}")


class FailingToSave(BlockingStorage):
    def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        raise LookupError(f"CANARY in {tokens}")


class FailingToDelete(DictStorage):
    async def delete_token(self, user_id: str) -> None:
        raise StopAsyncIteration("CANARY")


async def get(adapter: CoordinatedTokenStorage) -> None:
    await adapter.get_token("alice")


async def save(adapter: CoordinatedTokenStorage) -> None:
    await adapter.save_token("alice", TOKENS)


async def replace(adapter: CoordinatedTokenStorage) -> None:
    await adapter.replace(ALICE, TOKENS, expected_version=0)


async def save_and_delete(adapter: CoordinatedTokenStorage) -> None:
    await adapter.save_token("alice", TOKENS)
    await adapter.delete_token("alice")


@pytest.mark.parametrize(
    ("storage", "operation", "words"),
    [
        (Failing(), get, "Failing.get_token raised ConnectionError"),
        (Failing(), save, "Failing.get_token raised ConnectionError"),
        (FailingToSave(), save, "FailingToSave.save_token raised LookupError"),
        (FailingToSave(), replace, "FailingToSave.save_token raised LookupError"),
        (FailingToDelete(), save_and_delete, "FailingToDelete.delete_token raised StopAsyncIteration"),
    ],
)
async def test_an_error_of_the_class_is_named_and_not_shown_sh_1(
    storage: object, operation: Callable[[CoordinatedTokenStorage], Coroutine[Any, Any, None]], words: str
) -> None:
    adapter = coordinated(storage)
    assert isinstance(adapter, ThreeMethodAdapter)
    with pytest.raises(StorageUnavailable) as caught:
        await operation(adapter)
    assert str(caught.value).startswith(words)
    assert "CANARY" not in str(caught.value)
    assert caught.value.retryable
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert len(adapter._shared.locks) == 0  # pyright: ignore[reportPrivateUsage]


async def test_errors_of_pauth_pass_through_a_class_built_on_it() -> None:
    error = RecordTampered("a stored record failed authentication")

    class Inner(BlockingStorage):
        def get_token(self, user_id: str) -> dict[str, Any] | None:
            raise error

    with pytest.raises(PAuthError) as caught:
        await coordinated(Inner()).get_token("alice")
    assert caught.value is error


# --- threads, loops, cancellation


class Watched(BaseTokenStorage):
    """Counts how many threads are inside for one user, and waits where it is told to."""

    def __init__(self) -> None:
        self.saved: dict[str, dict[str, Any]] = {}
        self.threads: set[int] = set()
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.go_on.wait(60)
        self.saved[user_id] = tokens

    def get_token(self, user_id: str) -> dict[str, Any] | None:
        self.threads.add(threading.get_ident())
        return self.saved.get(user_id)

    def delete_token(self, user_id: str) -> None:
        self.threads.add(threading.get_ident())
        self.saved.pop(user_id, None)


async def test_a_blocking_class_never_runs_on_the_event_loop() -> None:
    storage = Watched()
    adapter = coordinated(storage)
    await adapter.save_token("alice", {"a": 1})
    await adapter.get_token("alice")
    await adapter.delete_token("alice")
    assert storage.threads
    assert threading.get_ident() not in storage.threads


async def test_a_cancelled_writer_keeps_its_turn_until_its_thread_is_done_p14() -> None:
    storage = Watched()
    storage.go_on.clear()
    adapter = coordinated(storage)
    first = asyncio.create_task(adapter.replace(ALICE, {"writer": 1}, expected_version=0))
    await asyncio.to_thread(storage.entered.wait, 60)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(adapter.replace(ALICE, {"writer": 2}, expected_version=0))
    third = asyncio.create_task(adapter.replace(ALICE, {"writer": 3}, expected_version=1))
    await asyncio.sleep(0)
    assert storage.saved == {}
    storage.go_on.set()
    assert await second is None
    assert await third is not None
    assert storage.saved == {"alice": {"writer": 3, "pauth_version": 2}}


@pytest.mark.parametrize("storage", [BlockingStorage(), DictStorage()])
def test_event_loops_in_threads_lose_no_write_p15(storage: object) -> None:
    adapter = coordinated(storage)
    threads = 6
    together = threading.Barrier(threads)

    async def count_up() -> int:
        won = 0
        while won < 10:
            record = await adapter.load(ALICE)
            version = record.version if record else 0
            won += await adapter.replace(ALICE, {"n": version + 1}, expected_version=version) is not None
        return won

    def thread(_: int) -> int:
        together.wait()
        return asyncio.run(count_up())

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(thread, range(threads))) == 10 * threads
    record = asyncio.run(adapter.load(ALICE))
    assert record is not None
    assert (record.version, record.tokens) == (10 * threads, {"n": 10 * threads})


async def test_p9_a_class_that_hangs_takes_no_threads_from_others() -> None:
    """The loop's own threads and those of another class stay free, however many callers hang in this one."""
    release = threading.Event()

    class Hanging(BlockingStorage):
        def get_token(self, user_id: str) -> dict[str, Any] | None:
            release.wait()
            return super().get_token(user_id)

    hanging, healthy = coordinated(Hanging()), coordinated(BlockingStorage())
    waiting = [asyncio.ensure_future(hanging.load(RecordKey("n", f"user-{number}"))) for number in range(100)]
    try:
        await healthy.save_token("alice", TOKENS)
        assert await healthy.get_token("alice") == TOKENS
        assert await asyncio.to_thread(int, "7") == 7
    finally:
        release.set()
    assert await asyncio.gather(*waiting) == [None] * 100


# --- what rides in the dict


@pytest.mark.parametrize("lineage", ["no hexadecimal", "00", 7, ["00" * 16]])
async def test_a_lineage_that_is_none_of_ours_is_refused_and_stays(lineage: object) -> None:
    storage = DictStorage()
    storage.saved["alice"] = {"access_token": "CANARY-at", LINEAGE_MEMBER: lineage}
    with pytest.raises(UnsupportedRecord, match="pauth_lineage") as caught:
        await coordinated(storage).load(ALICE)
    assert caught.value.__context__ is None
    assert storage.saved["alice"][LINEAGE_MEMBER] == lineage


async def test_a_batch_gives_each_its_answer_or_error() -> None:
    storage = DictStorage()
    store = coordinated(storage)
    storage.saved["broken"] = {VERSION_MEMBER: "one"}
    broken, bob = RecordKey("", "broken"), RecordKey("", "bob")
    written = await store.put_many([Write(ALICE, {"n": 1}, expires_at=5.0), Write(bob, {"n": 2}, expected_version=3), Write(broken, {"n": object()})])
    assert isinstance(written[0], Record)
    assert written[1] is None
    assert isinstance(written[2], TokenStorageError)
    found = await store.get_many([ALICE, bob, broken])
    assert plain(found[0] if isinstance(found[0], Record) else None) == {"n": 1}
    assert found[1] is None
    assert isinstance(found[2], UnsupportedRecord)
    assert await store.delete_many([ALICE, bob]) == [True, False]


async def test_p15_a_forked_child_gets_an_adapter_of_its_own() -> None:
    """The parent's has threads that are not there, and locks that nobody will release. tests/sync/test_forks.py does it for real."""
    storage = BlockingStorage()
    of_the_parent = coordinated(storage)
    await of_the_parent.save_token("alice", {"n": 1})
    adapters._lock.acquire()  # pyright: ignore[reportPrivateUsage]
    adapters._forget_inherited()  # pyright: ignore[reportPrivateUsage]
    own = coordinated(storage)
    assert own is not of_the_parent
    assert coordinated(storage) is own
    assert await own.get_token("alice") == {"n": 1}
