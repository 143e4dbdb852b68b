"""An executor that works on after the main thread has ended: until then a refreshed token can be stored (P4)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

from pauth.storage.threads import Threads

__all__ = ["LastingExecutor"]

T = TypeVar("T")
P = ParamSpec("P")

_WORKERS: Final = 16


class LastingExecutor(ThreadPoolExecutor):
    """For an event loop: what ``asyncio.to_thread`` and name lookups run in."""

    def __init__(self) -> None:
        super().__init__(1)  # it starts no thread before it is given work, and never is
        self._lasting = Threads(_WORKERS, "pauth-sync-worker")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See :meth:`concurrent.futures.Executor.submit`. To be called in the event loop, as it does."""
        future: Future[T] = Future()
        _ = self._lasting.run(partial(_settle, future, partial(fn, *args, **kwargs)))
        return future


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
        future.set_exception(error)
