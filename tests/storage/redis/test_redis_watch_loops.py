"""Watching from several event loops, threads and processes: each hears by itself (P15)."""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pauth.storage.redis import watch as redis_watch
from tests.storage.redis.kit import driver_at, storage_at
from tests.storage.redis.watch_kit import ALICE, Told, becomes, listeners
from tests.support.redis_servers import RedisServer, wait_for

Start = Callable[..., RedisServer]


def test_each_event_loop_is_told_on_its_own_and_told_last_that_it_ends_p15(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    threads: list[int] = []
    watches: list[Any] = []

    async def watch_here(go_on: threading.Event, ready: threading.Event) -> list[bytes | None]:
        told = Told()

        def changed(row: bytes | None) -> None:
            threads.append(threading.get_ident())
            told(row)

        watches.append(await storage.watch(changed))
        ready.set()
        await asyncio.to_thread(go_on.wait)
        await told.until(ALICE)
        return told.all

    results: dict[int, list[bytes | None]] = {}

    def run(go_on: threading.Event, ready: threading.Event) -> None:
        results[threading.get_ident()] = asyncio.run(watch_here(go_on, ready))  # which ends without closing anything

    steps = [(threading.Event(), threading.Event()) for _ in range(2)]
    loops = [threading.Thread(target=run, args=step) for step in steps]
    for loop, (_, ready) in zip(loops, steps, strict=True):
        loop.start()
        ready.wait(30)
    assert len(listeners(server)) == 2
    asyncio.run(_write(storage, "alice"))
    for loop, (go_on, _) in zip(loops, steps, strict=True):
        go_on.set()
        loop.join(30)
    assert list(results.values()) == [[None, ALICE, None]] * 2
    assert set(threads) == results.keys()
    assert [watch.watching for watch in watches] == [False, False]
    wait_for(lambda: not listeners(server), "somebody still listens")

    async def stop_and_close() -> None:
        for watch in watches:
            await watch.stop()  # whose event loop has gone
        again = await storage.watch(Told())
        assert again.watching
        await storage.aclose()

    asyncio.run(stop_and_close())


async def _write(storage: Any, user: str) -> None:
    await storage.save_token(user, {})
    (links,) = [links for loop, links in storage._driver._links.items() if loop is asyncio.get_running_loop()]
    await links.close()


@pytest.mark.parametrize("end", ["stop", "aclose"])
def test_it_may_be_stopped_or_closed_from_another_loop_p15(own_redis: Start, prefix: str, end: str) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    watches: list[Any] = []
    ready = threading.Event()

    async def watch_here() -> None:
        before = asyncio.all_tasks()
        watch = await storage.watch(Told())
        watches.append(watch)
        ready.set()
        await becomes(lambda: asyncio.all_tasks() == before and not watch.watching)

    loop = threading.Thread(target=lambda: asyncio.run(watch_here()))
    loop.start()
    ready.wait(30)
    asyncio.run(watches[0].stop() if end == "stop" else storage.aclose())
    loop.join(30)
    wait_for(lambda: not listeners(server), "somebody still listens")
    asyncio.run(storage.aclose())


async def test_a_forked_child_hears_nothing_says_so_and_may_watch_by_itself_p15(
    own_redis: Start, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    parent = Told()
    watch = await storage.watch(parent)
    process = os.getpid()
    monkeypatch.setattr("os.getpid", lambda: process + 1)
    assert not watch.watching
    child = Told()
    its_own = await storage.watch(child)
    assert its_own.watching
    assert len(listeners(server)) == 2
    await its_own.stop()
    await watch.stop()  # which lets the parent's connection be
    assert len(listeners(server)) == 1
    await storage.aclose()
    monkeypatch.undo()
    (watchers,) = [each for each in redis_watch._of_the_parent if asyncio.get_running_loop() in each]
    await watchers[asyncio.get_running_loop()].close()


async def test_closing_in_a_forked_child_lets_the_parents_be_p15(own_redis: Start, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = own_redis()
    driver = driver_at(server.url, prefix=prefix)
    watch = await driver.watch(Told())
    process = os.getpid()
    monkeypatch.setattr("os.getpid", lambda: process + 1)
    await driver.aclose()
    monkeypatch.undo()
    assert watch.watching
    assert len(listeners(server)) == 1
    await watch.stop()
