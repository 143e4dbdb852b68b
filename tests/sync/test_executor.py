"""What the loop behind the sync face has for ``asyncio.to_thread`` and name lookups: it works until the process ends."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pauth.sync._executor import LastingExecutor


async def test_it_is_an_executor_as_others_are() -> None:
    asyncio.get_running_loop().set_default_executor(LastingExecutor())
    assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 // 0)


async def test_what_was_cancelled_before_its_turn_is_not_done() -> None:
    executor, go_on, done = LastingExecutor(), threading.Event(), list[int]()
    busy = [executor.submit(go_on.wait) for _ in range(16)]
    waiting, cancelled, last = (executor.submit(done.append, number) for number in range(3))
    assert cancelled.cancel()
    go_on.set()
    for future in busy:
        assert await asyncio.wrap_future(future)
    for appended in (waiting, last):
        await asyncio.wrap_future(appended)
    assert sorted(done) == [0, 2]
