"""Memory: bounds, threads."""

from __future__ import annotations

import asyncio
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pauth.errors import ConfigurationError
from pauth.storage import MemoryTokenStorage, Record, RecordKey, Write
from pauth.storage.memory import PendingLogins, RetiredVersions
from pauth.testing.clock import ManualClock


def test_pending_logins_are_bounded_and_the_oldest_makes_room_p19() -> None:
    pending = PendingLogins(limit=100)
    for number in range(1000):
        pending.put(str(number), {"n": number}, expires_at=600, now=0)
        assert len(pending) <= 100
    assert pending.take("899", now=1) is None
    assert [pending.take(str(number), now=1) for number in range(900, 1000)] == [{"n": number} for number in range(900, 1000)]
    assert len(pending) == 0


def test_expired_logins_make_room_first() -> None:
    pending = PendingLogins(limit=100)
    for number in range(50):
        pending.put(f"old {number}", {}, expires_at=10, now=0)
    pending.put("new", {}, expires_at=700, now=10)
    assert len(pending) == 1


def test_putting_a_login_again_makes_it_the_newest() -> None:
    pending = PendingLogins(limit=2)
    for name in ("a", "b", "a", "c"):
        pending.put(name, {"name": name}, expires_at=10, now=0)
    assert [pending.take(name, now=0) for name in "abc"] == [{"name": "a"}, None, {"name": "c"}]


def test_versions_of_deleted_records_are_bounded_p19() -> None:
    retired = RetiredVersions(limit=3)
    for number in range(10):
        retired.remember(("", str(number)), number)
    assert len(retired) == 3
    assert [retired.last(("", str(number))) for number in (6, 7, 8, 9)] == [0, 7, 8, 9]
    retired.remember(("", "7"), 17)
    retired.remember(("", "new"), 1)
    assert [retired.last(("", str(number))) for number in (7, 8)] == [17, 0]


async def test_the_limit_of_pending_logins_is_an_option() -> None:
    storage = MemoryTokenStorage(max_pending=1, clock=ManualClock(0))
    await storage.put_pending("a", {}, expires_at=1)
    await storage.put_pending("b", {}, expires_at=1)
    assert await storage.take_pending("a") is None
    assert await storage.take_pending("b") == {}


async def test_the_plain_methods_keep_to_their_namespace() -> None:
    storage = MemoryTokenStorage(namespace="n")
    await storage.save_token("alice", {"a": 1})
    assert await storage.load(RecordKey("", "alice")) is None
    assert await storage.remove(RecordKey("n", "alice"))
    assert repr(storage) == "<MemoryTokenStorage with 0 records>"


@pytest.mark.parametrize("threads", [8])
def test_threads_with_event_loops_of_their_own_lose_no_write_p15(threads: int) -> None:
    storage = MemoryTokenStorage()
    key = RecordKey("", "alice")
    together = threading.Barrier(threads)

    async def count_up() -> int:
        won = 0
        while won < 50:
            record = await storage.load(key)
            version = record.version if record else 0
            won += await storage.replace(key, {"n": version + 1}, expected_version=version) is not None
        return won

    def thread(_: int) -> int:
        together.wait()
        return asyncio.run(count_up())

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(thread, range(threads))) == 50 * threads
    record = asyncio.run(storage.load(key))
    assert record is not None
    assert (record.version, record.tokens) == (50 * threads, {"n": 50 * threads})


def test_of_many_threads_one_takes_a_pending_login_ax_3() -> None:
    storage = MemoryTokenStorage(clock=ManualClock(0))
    together = threading.Barrier(16)

    def take(_: int) -> object:
        together.wait()
        return asyncio.run(storage.take_pending("login"))

    with ThreadPoolExecutor(16) as pool:
        for number in range(20):
            asyncio.run(storage.put_pending("login", {"n": number}, expires_at=10))
            assert [payload for payload in pool.map(take, range(16)) if payload is not None] == [{"n": number}]


async def test_leases_that_are_over_leave_nothing_behind_p19(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pauth.storage.memory._MAX_ENDED_LEASES", 3)
    clock = ManualClock()
    storage = MemoryTokenStorage(clock=clock)
    for number in range(20):
        assert await storage.take_lease(RecordKey("", f"user-{number}"), "one", ttl=1) is not None
        clock.advance(2)
    leases = storage._leases._held  # pyright: ignore[reportPrivateUsage]
    assert len(leases) <= 5


def test_a_record_is_not_pickled_sh_1() -> None:
    with pytest.raises(TypeError, match="unencrypted"):
        pickle.dumps(Record(RecordKey("", "alice"), {"access_token": "CANARY-at"}, 1, 0.0))


def test_a_write_is_not_pickled_sh_1() -> None:
    with pytest.raises(TypeError, match="unencrypted"):
        pickle.dumps(Write(RecordKey("", "alice"), {"access_token": "CANARY-at"}))


@pytest.mark.parametrize("namespace", [None, 5, b"a", "x" * 513])
def test_a_namespace_is_a_text_that_every_store_has_room_for(namespace: Any) -> None:
    with pytest.raises(ConfigurationError, match="namespace"):
        RecordKey(namespace, "alice")


@pytest.mark.parametrize("version", [-1, 2**53, True, 1.0])
async def test_a_version_that_is_none_is_refused(version: Any) -> None:
    storage = MemoryTokenStorage()
    for operation in (
        storage.replace(RecordKey("", "a"), {}, expected_version=version),
        storage.remove(RecordKey("", "a"), expected_version=version),
    ):
        with pytest.raises(ConfigurationError, match="expected_version"):
            await operation
