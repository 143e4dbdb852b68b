"""A cached token that somebody else changed is noticed at once where the store tells of it, and not later than ``cache_age`` where it does not."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pauth.core.token import token_to_dict
from pauth.errors import StorageUnavailable
from pauth.refresh import watching as module
from pauth.refresh.cache import Cached, TokenCache
from pauth.refresh.watching import Watching
from pauth.storage import MemoryTokenStorage, RecordKey
from pauth.storage.base import Watch
from pauth.storage.identity import row_id
from pauth.testing import ManualClock
from tests.refresh.faulty import FaultyStorage
from tests.refresh.kit import settle
from tests.refresh.rotating import Rotating

ALICE, BOB = RecordKey("acme", "alice"), RecordKey("acme", "bob")


class _Watched:
    """A store that tells when the test says so."""

    def __init__(self) -> None:
        self.told: list[Callable[[bytes | None], None]] = []
        self.stopped = 0
        self.fails = False

    async def watch(self, changed: Callable[[bytes | None], None]) -> Watch:
        if self.fails:
            raise StorageUnavailable("not now")
        self.told.append(changed)
        return self

    @property
    def watching(self) -> bool:
        return True

    async def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def caches(rotating: Rotating, clock: ManualClock) -> Mapping[str, TokenCache]:
    cache = TokenCache(100, clock.monotonic)
    for user in ("alice", "bob"):
        cache.put(user, Cached(rotating.issue(), clock.monotonic() + 10, 1))
    return {"acme": cache}


async def test_a_change_of_one_record_drops_that_token_and_a_gap_drops_all(caches: Mapping[str, TokenCache]) -> None:
    store, cache = _Watched(), caches["acme"]
    watching = Watching(store, caches)
    watching.note(ALICE)
    watching.note(BOB)
    await settle()
    (changed,) = store.told
    changed(row_id("acme", "carol"))  # of whom nothing is known
    assert cache.get("alice") is not None
    changed(row_id("acme", "alice"))
    assert cache.get("alice") is None
    assert cache.get("bob") is not None
    changed(None)
    assert cache.get("bob") is None
    await watching.stop()
    assert store.stopped == 1
    await watching.stop()
    assert store.stopped == 1


async def test_p19_a_client_that_is_dropped_unclosed_leaves_no_watch(rotating: Rotating, clock: ManualClock) -> None:
    """One client for each request, and none is closed: the store, which goes on, keeps nothing of them."""
    storage = MemoryTokenStorage(clock=clock)
    for number in range(3):
        key = RecordKey("acme", f"user-{number}")
        await storage.replace(key, token_to_dict(rotating.issue()), expected_version=0)
        await rotating.coordinator(storage).get(key)
        await settle()
    gc.collect()
    await settle()
    assert not storage._watches.all  # pyright: ignore[reportPrivateUsage]


async def test_p19_one_that_is_dropped_while_its_watch_begins_leaves_none_either(caches: Mapping[str, TokenCache]) -> None:
    go_on = asyncio.Event()

    class Slow(_Watched):
        async def watch(self, changed: Callable[[bytes | None], None]) -> Watch:
            await go_on.wait()
            return await super().watch(changed)

    store = Slow()
    watching = Watching(store, caches)
    watching.note(ALICE)
    await settle()
    del watching
    gc.collect()
    await settle()
    go_on.set()
    await settle()
    assert store.stopped == 1
    store.told[0](row_id("acme", "alice"))  # in the last moment
    assert caches["acme"].get("alice") is not None


def test_p15_a_watch_of_an_event_loop_that_has_ended_is_none(caches: Mapping[str, TokenCache]) -> None:
    store = _Watched()

    async def use() -> Watching:
        watching = Watching(store, caches)
        watching.note(ALICE)
        await settle()
        return watching

    asyncio.run(use())  # what it gives goes when its event loop is closed
    gc.collect()
    assert store.stopped == 0


def test_p15_each_event_loop_watches_for_itself(caches: Mapping[str, TokenCache]) -> None:
    store = _Watched()
    watching = Watching(store, caches)

    async def use() -> None:
        watching.note(ALICE)
        await settle()
        watching.note(ALICE)
        await settle()

    asyncio.run(use())
    asyncio.run(use())
    assert len(store.told) == 2


async def test_a_store_that_cannot_tell_now_is_no_error(caches: Mapping[str, TokenCache]) -> None:
    store = _Watched()
    store.fails = True
    watching = Watching(store, caches)
    watching.note(ALICE)
    await settle()
    await watching.stop()
    assert store.told == []
    assert caches["acme"].get("alice") is not None
    unable = Watching(object(), caches)
    unable.note(ALICE)
    await unable.stop()


async def test_p19_the_names_are_bounded(caches: Mapping[str, TokenCache], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_NAMES", 2)
    store = _Watched()
    watching = Watching(store, caches)
    for number in range(5):
        watching.note(RecordKey("acme", f"user {number}"))
    watching.note(BOB)
    await settle()
    store.told[0](row_id("acme", "bob"))
    assert caches["acme"].get("bob") is None
    await watching.stop()


@pytest.mark.parametrize("how", ["replaced", "removed"])
async def test_a_change_behind_the_clients_back_is_noticed_at_once(rotating: Rotating, clock: ManualClock, how: str) -> None:
    storage = MemoryTokenStorage(clock=clock)
    coordinator = rotating.coordinator(storage)
    await coordinator.login(ALICE, rotating.issue())
    before = await coordinator.get(ALICE)
    await settle()  # the watch has begun
    await coordinator.get(ALICE)
    assert coordinator.cached.get("alice") == before
    if how == "removed":
        await storage.remove(ALICE)
    else:
        await storage.replace(ALICE, {"access_token": "CANARY-at-of-another-program"}, expected_version=None)
    assert coordinator.cached.get("alice") is None
    await coordinator.drain()


async def test_without_messages_a_change_is_noticed_within_the_cache_age(rotating: Rotating, clock: ManualClock) -> None:
    class Silent(FaultyStorage):
        watch: Any = None  # hides that of memory

    storage = Silent(clock)
    coordinator = rotating.coordinator(storage)
    await coordinator.login(ALICE, rotating.issue())
    before = await coordinator.get(ALICE)
    newer = rotating.issue()
    await storage.replace(ALICE, {"access_token": newer.access_token.reveal()}, expected_version=None)
    clock.advance(9.9)
    assert coordinator.cached.get("alice") == before
    clock.advance(0.2)
    assert coordinator.cached.get("alice") is None
    assert (await coordinator.get(ALICE)).access_token == newer.access_token
    await coordinator.drain()
