"""Changes in memory are told, on the event loop of who wants to know; and the protocol says who can tell."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from pauth.storage import MemoryTokenStorage, RecordKey, WatchableTokenStorage, Write, coordinated
from pauth.storage.identity import row_id
from tests.storage.kit import TOKENS, DictStorage, database

ALICE, BOB = row_id("", "alice"), row_id("provider", "bob")
KEY_ALICE, KEY_BOB = RecordKey("", "alice"), RecordKey("provider", "bob")


async def test_every_write_and_deletion_is_told_before_its_writer_goes_on() -> None:
    storage = MemoryTokenStorage()
    told: list[bytes | None] = []
    assert isinstance(storage, WatchableTokenStorage)
    await storage.save_token("alice", TOKENS)
    watch = await storage.watch(told.append)
    assert watch.watching
    assert told == [None]  # what was known before may be out of date
    await storage.save_token("alice", {})
    assert told == [None, ALICE]
    assert await storage.replace(KEY_BOB, {}, expected_version=0)
    assert await storage.replace(KEY_BOB, {}, expected_version=0) is None
    assert told == [None, ALICE, BOB]
    await storage.put_many([Write(KEY_ALICE, {}), Write(KEY_BOB, {})])
    assert await storage.delete_many([KEY_ALICE, KEY_BOB]) == [True, True]
    assert told == [None, ALICE, BOB, ALICE, BOB, ALICE, BOB]
    assert not await storage.remove(KEY_ALICE)
    await storage.put_pending("login", {}, expires_at=5e9)
    assert await storage.take_lease(KEY_ALICE, "one", ttl=5)
    assert len(told) == 7


async def test_each_is_told_until_he_stops_whoever_else_raises(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryTokenStorage()
    told: list[bytes | None] = []

    def raising(row: bytes | None) -> None:
        raise ValueError("CANARY")

    await storage.watch(raising)
    watch = await storage.watch(told.append)
    await storage.save_token("alice", {})
    await watch.stop()
    await watch.stop()
    assert not watch.watching
    await storage.save_token("alice", {})
    assert told == [None, ALICE]
    assert {record.getMessage() for record in caplog.records} == {"who watches a token storage for changes raised ValueError"}


async def test_one_that_stops_while_all_are_told_is_not_told_any_more() -> None:
    storage = MemoryTokenStorage()
    told: list[bytes | None] = []

    def stop_the_other(row: bytes | None) -> None:
        if row is not None:
            with pytest.raises(StopIteration):
                watch.stop().send(None)

    await storage.watch(stop_the_other)
    watch = await storage.watch(told.append)
    await storage.save_token("alice", {})
    assert told == [None]


def test_changes_of_other_threads_are_told_on_the_loop_that_watches_p15() -> None:
    storage = MemoryTokenStorage()
    threads: list[int] = []
    watching, changed = threading.Event(), threading.Event()

    async def watch() -> None:
        heard = asyncio.Event()

        def tell(row: bytes | None) -> None:
            threads.append(threading.get_ident())
            if row == ALICE:
                heard.set()

        handle = await storage.watch(tell)
        watching.set()
        await heard.wait()
        changed.set()
        assert handle.watching
        handles.append(handle)

    handles: list[object] = []
    loop = threading.Thread(target=lambda: asyncio.run(watch()))
    loop.start()
    watching.wait(30)
    asyncio.run(storage.save_token("alice", {}))
    loop.join(30)
    assert set(threads) == {loop.ident}
    assert not handles[0].watching  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    asyncio.run(storage.save_token("alice", {}))  # whose loop has gone is forgotten
    assert storage._watches.all == ()  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(StopIteration):
        storage.save_token("bob", {}).send(None)  # where no event loop runs at all


async def test_who_cannot_hear_of_changes_does_not_say_so(tmp_path: Path) -> None:
    for storage in (coordinated(DictStorage()), database(tmp_path)):
        assert not isinstance(storage, WatchableTokenStorage)
        await storage.aclose()
