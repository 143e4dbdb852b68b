"""Operations that run to their end, whatever becomes of who asked for them.

A storage operation that is cut in the middle leaves a lock taken, a connection in an unknown state, or a write that nobody knows the fate of.
So each runs in a task of its own: a cancelled caller stops waiting, the operation does not stop (P14).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pauth.errors import StorageUnavailable

__all__ = ["Detached"]

T = TypeVar("T")


class Detached:
    """Runs coroutines as tasks and keeps them alive until they are done."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()  # an event loop keeps only weak references to its tasks

    async def run(self, operation: Coroutine[Any, Any, T], *, patience: float | None = None) -> T:
        """What ``operation`` gives.

        :param patience: seconds to wait for it. The operation itself goes on after that.
        :raises StorageUnavailable: it took longer, or was cancelled from inside.
        """
        task = asyncio.get_running_loop().create_task(operation)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        await asyncio.wait((task,), timeout=patience)  # which, unlike wait_for, leaves the task alone when it is cancelled
        if not task.done():
            raise StorageUnavailable(f"the token storage did not answer within {patience:g} seconds; what it was asked to do may still happen")
        if task.cancelled():
            raise StorageUnavailable("the token storage's operation was cancelled from inside; try again later")
        return task.result()

    async def drain(self, *, patience: float) -> None:
        """Wait until what this event loop has under way is done, but no longer than ``patience`` seconds."""
        loop = asyncio.get_running_loop()
        under_way = [task for task in tuple(self._tasks) if task.get_loop() is loop]
        if under_way:
            await asyncio.wait(under_way, timeout=patience)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a caller who left does not ask any more; asyncio would log "never retrieved"
