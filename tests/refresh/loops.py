"""Work that waits until it is let go, and event loops in threads of their own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

T = TypeVar("T")


class Work:
    """Something to do that waits until it is let go."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.runs = 0
        self.started = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self) -> str:
        self.runs += 1
        self.started.set()
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return f"result {self.runs}"


def make_own_tasks() -> None:
    """Let the running loop make plain tasks for everybody, as a program with a task factory does."""

    def make(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(make)


class LoopThread:
    """An event loop of its own in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def submit(self, coro: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coro, self.loop)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def close(self) -> None:
        if self._thread.is_alive():
            self.stop()
        self.loop.close()


@contextmanager
def another_loop() -> Generator[LoopThread]:
    other = LoopThread()
    try:
        yield other
    finally:
        other.close()


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
