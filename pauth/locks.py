"""Locks that a forked child finds free, whoever held them in its parent (P15)."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet

__all__ = ["ForkSafeLock"]


class ForkSafeLock:
    """A lock. Whoever held it when the process was forked does not exist in the child, so there it begins anew."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: the collector may run a finalizer that wants it while it is held
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()

    def begin_anew(self) -> None:
        """In a forked child."""
        self._lock = threading.RLock()


_all: WeakSet[ForkSafeLock] = WeakSet()


def _after_fork() -> None:
    for lock in tuple(_all):
        lock.begin_anew()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows does not fork)
    os.register_at_fork(after_in_child=_after_fork)
