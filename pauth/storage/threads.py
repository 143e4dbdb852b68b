"""Threads for what blocks, in the place of a :class:`~concurrent.futures.ThreadPoolExecutor`: the disk, users' own classes.

One queue, and one wake-up of the event loop for each piece of work: about half of what an executor's way there and back takes, which has a second
kind of future, its lock and its callbacks on the way. A small file is read in a tenth of that.

Threads are started as work comes, and are daemons: an interpreter that ends waits for nobody's disk, and files are whole at every moment. An executor
refuses work from the moment the main thread has ended; these go on until the process does, so that a token that was refreshed in the last moment
can be stored (P4).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeAlias, TypeVar

from pauth.errors import ConfigurationError, StorageUnavailable

__all__ = ["Threads"]

A = TypeVar("A")
T = TypeVar("T")

_Job: TypeAlias = tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Callable[[], Any]]


class Threads:
    """Runs functions that block, for several event loops.

    :param count: how many at once, at most.
    :param name: what the threads are called.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count: Final = count
        self._name: Final = name
        self._jobs: Final[SimpleQueue[_Job | None]] = SimpleQueue()
        self._threads: Final[list[threading.Thread]] = []
        self._idle: Final[deque[None]] = deque()  # as many as there are threads with nothing to do
        self._mutex: Final = threading.Lock()
        self._closed = False

    def __del__(self) -> None:
        self._jobs.put(None)  # or the threads of a storage that nobody closed would wait for ever

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """What ``work`` gives or raises, called in one of the threads. It is done even if nobody waits for it any more.

        :raises ConfigurationError: they were closed.
        :raises StorageUnavailable: not even one could be started, because the system has no more.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._mutex:
            if self._closed:
                raise ConfigurationError("this token storage was closed")
            try:
                self._idle.pop()
            except IndexError:
                if len(self._threads) < self._count:
                    self._start()
            if self._threads:
                self._jobs.put((loop, future, work))
                return future
        _settle(future, *_outcome(work))
        return future

    def _start(self) -> None:
        thread = threading.Thread(target=_serve, args=(self._jobs, self._idle), name=f"{self._name}-{len(self._threads)}", daemon=True)
        ending = False
        try:
            thread.start()
            self._threads.append(thread)
        except RuntimeError as error:  # the system has no more of them; or the main thread has ended, on CPython 3.12
            ending = "shutdown" in str(error)
        # In the end the event loop does it itself: a token that came in the last moment is worth more than a loop that never stands still.
        if not self._threads and not ending:
            raise StorageUnavailable("no thread can be started for the token storage: the system has no more threads")

    async def share(self, work: Callable[[A], T], items: Sequence[A]) -> list[T]:
        """What ``work`` gives for each item. Each thread that is free takes the next one."""
        answers: dict[int, T] = {}
        left = deque(enumerate(items))

        def some() -> None:
            while True:
                try:
                    number, item = left.popleft()
                except IndexError:  # another thread took the last one
                    return
                answers[number] = work(item)

        await asyncio.gather(*(self.run(some) for _ in range(min(self._count, len(items)))))
        return [answers[number] for number in range(len(items))]

    def close(self) -> None:
        """Wait for what is under way, and end the threads."""
        with self._mutex:
            self._closed = True
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()


def _serve(jobs: SimpleQueue[_Job | None], idle: deque[None]) -> None:
    while (job := jobs.get()) is not None:
        loop, future, work = job
        outcome, error = _outcome(work)
        idle.append(None)  # before the answer, after which the next piece of work may come at once
        with suppress(RuntimeError):  # that event loop was closed: nobody waits
            loop.call_soon_threadsafe(_settle, future, outcome, error)
        del job, loop, future, work, outcome, error  # SH-5: nothing of a user's stays in a thread that waits
    jobs.put(None)  # for the next thread


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as raised:  # noqa: BLE001  # it is raised where it is waited for
        return None, raised


def _settle(future: asyncio.Future[Any], outcome: Any, error: BaseException | None) -> None:
    if future.done():  # its event loop is ending
        return
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)
