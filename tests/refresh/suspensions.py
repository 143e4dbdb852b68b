"""Doing something at the k-th time that a piece of work suspends, for every k: each place where a cancellation can strike is met, without a sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pauth.refresh import flight


class Episode:
    """Counts the suspensions of the tasks begun in it, and of the tasks that those begin, in the order in which they happen."""

    def __init__(self, at: int, then: Callable[[Episode], object]) -> None:
        self.at = at
        self.then = then
        self.suspensions = 0
        self.tasks: list[asyncio.Task[Any]] = []

    @property
    def struck(self) -> bool:
        """Whether the work suspended often enough for ``then`` to be called."""
        return self.suspensions > self.at

    def count(self) -> None:
        self.suspensions += 1
        if self.suspensions == self.at + 1:
            self.then(self)


_episode: ContextVar[Episode | None] = ContextVar("_episode", default=None)


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that tells its episode whenever it suspends."""

    def __init__(self, inner: Coroutine[Any, Any, Any], episode: Episode) -> None:
        self._inner = inner
        self._episode = episode

    def send(self, value: Any) -> Any:
        waits_for = self._inner.send(value)
        self._episode.count()
        return waits_for

    def throw(self, *error: Any) -> Any:
        waits_for = self._inner.throw(*error)
        self._episode.count()
        return waits_for

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("tasks step their coroutines")


def _make_task(make: Callable[..., asyncio.Task[Any]], coro: Any, loop: asyncio.AbstractEventLoop, **options: Any) -> asyncio.Task[Any]:
    episode = _episode.get()
    if episode is None:
        return make(coro, loop=loop, **options)
    task = make(_Counted(coro, episode), loop=loop, **options)
    episode.tasks.append(task)
    return task


def _task_factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
    return _make_task(asyncio.Task, coro, loop, **options)


def _new_flight(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return _make_task(flight._FlightTask, work, loop)  # pyright: ignore[reportPrivateUsage]


@contextmanager
def counting(at: int, then: Callable[[Episode], object]) -> Generator[Episode]:
    """In this block begin tasks; at their suspension number ``at`` (from 0 on, over all of them) ``then`` is called."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(_task_factory)
    flight._new_task = _new_flight  # pyright: ignore[reportPrivateUsage]  # flights make their own; this one does no harm
    episode = Episode(at, then)
    token = _episode.set(episode)
    try:
        yield episode
    finally:
        _episode.reset(token)
