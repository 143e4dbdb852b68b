"""The driver's own threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from pauth.errors import ConfigurationError, StorageUnavailable
from pauth.storage.files import FileDriver
from pauth.storage.threads import Threads
from tests.storage.files.kit import files


async def test_work_is_done_in_other_threads_and_answered_in_order() -> None:
    threads = Threads(3, "test")
    assert await threads.run(threading.get_ident) != threading.get_ident()
    assert await threads.share(lambda number: number * 2, range(100)) == list(range(0, 200, 2))
    assert await threads.share(str, []) == []
    await asyncio.to_thread(threads.close)


async def test_as_many_at_once_as_there_are_threads_and_no_more() -> None:
    threads = Threads(3, "test")
    together = threading.Barrier(3)  # three have to be in it at once
    names = await threads.share(lambda _: (together.wait(), threading.current_thread().name)[1], range(9))
    assert set(names) == {"test-0", "test-1", "test-2"}
    await asyncio.to_thread(threads.close)


async def test_a_thread_that_has_nothing_to_do_is_used_before_another_one_is_started() -> None:
    threads = Threads(3, "test")
    names = [await threads.run(lambda: threading.current_thread().name) for _ in range(5)]
    assert names == ["test-0"] * 5
    await asyncio.to_thread(threads.close)


async def test_p4_where_no_more_threads_can_be_started_those_there_are_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, none = Threads(3, "test"), Threads(3, "test")
    await threads.run(int)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", refuse)
        assert await threads.share(lambda _: threading.current_thread().name, range(4)) == ["test-0"] * 4
        with pytest.raises(StorageUnavailable, match="no thread can be started"):
            _ = none.run(int)
    assert await none.run(int) == 0
    for each in (threads, none):
        await asyncio.to_thread(each.close)


async def test_p4_at_the_end_of_the_interpreter_the_event_loop_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """From CPython 3.12 on, in its own words; the programs of tests/sync/test_exit.py end in earnest."""
    threads = Threads(3, "test")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as ending:
        ending.setattr(threading.Thread, "start", refuse)
        assert await threads.run(threading.get_ident) == threading.get_ident()
        assert await threads.share(lambda number: number + 1, [1, 2]) == [2, 3]
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 // 0)
    assert await threads.run(threading.get_ident) != threading.get_ident()
    await asyncio.to_thread(threads.close)


async def test_what_work_raises_is_raised_and_the_thread_goes_on() -> None:
    threads = Threads(1, "test")
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    with pytest.raises(KeyError):
        await threads.share({1: 1}.__getitem__, [1, 2])
    assert await threads.run(lambda: "on") == "on"
    await asyncio.to_thread(threads.close)


async def test_closing_waits_for_what_is_under_way() -> None:
    threads = Threads(2, "test")
    go = threading.Event()
    done: list[int] = []

    def wait_for_it() -> None:
        go.wait()
        done.append(1)

    waiting = [threads.run(wait_for_it) for _ in range(4)]
    go.set()
    await asyncio.to_thread(threads.close)
    assert done == [1] * 4
    with pytest.raises(ConfigurationError, match="was closed"):
        await threads.run(int)
    await asyncio.gather(*waiting)


async def test_who_left_is_not_answered() -> None:
    threads = Threads(1, "test")
    go = threading.Event()
    left = threads.run(go.wait)
    left.cancel()
    go.set()
    assert await threads.run(lambda: "next") == "next"
    assert left.cancelled()
    await asyncio.to_thread(threads.close)


def test_an_event_loop_that_was_closed_stops_no_thread() -> None:
    threads = Threads(1, "test")
    go = threading.Event()
    left: list[asyncio.Future[bool]] = []

    async def leave() -> None:
        left.append(threads.run(go.wait))

    asyncio.run(leave())
    go.set()
    assert asyncio.run(threads.share(str, [1])) == ["1"]
    threads.close()


async def test_threads_end_with_a_storage_that_nobody_closed(tmp_path: Path) -> None:
    driver = FileDriver(tmp_path / "tokens", keyring=None)
    assert await driver.count(None) == 0
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "pauth-files-0")
    del driver
    gc.collect()
    await asyncio.to_thread(thread.join)
    assert not thread.is_alive()


async def test_a_waiting_thread_keeps_nothing_sh_5() -> None:
    class Work:
        def __call__(self) -> Any:
            return Answer()

    class Answer:
        pass

    threads = Threads(1, "test")
    work = Work()
    answer = await threads.run(work)
    kept = weakref.ref(work), weakref.ref(answer)
    del work, answer
    while any(each() is not None for each in kept):  # until the thread is back at its queue; for ever, if it keeps one
        await asyncio.to_thread(time.sleep, 0)
    await asyncio.to_thread(threads.close)


async def test_a_storage_serves_many_at_once_from_one_folder(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await asyncio.gather(*(storage.save_token(f"user {number}", {"n": number}) for number in range(64)))
        assert await asyncio.gather(*(storage.get_token(f"user {number}") for number in range(64))) == [{"n": number} for number in range(64)]
