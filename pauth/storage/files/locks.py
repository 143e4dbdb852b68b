"""Locks between threads and processes of one machine, on files that are never deleted (FS-5). Blocks; for worker threads.

``flock``, not POSIX record locks: those are dropped when anything in the process closes any descriptor of the file. Each holder opens the lock
file for itself, so that two threads exclude each other like two processes. The kernel releases what a killed process held.

``flock`` is asked for again and again until it is free, with pauses. So that threads of one process need not wait like that for each other, they
queue at a gate first, a lock of the process's own.

A forked child inherits the descriptors. It closes them at once, which leaves the parent's lock alone, and keeps nothing locked after the
parent was killed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from pauth.errors import StorageUnavailable

if sys.platform == "win32":
    import msvcrt  # pragma: no cover (Windows)
else:
    import fcntl

__all__ = ["locked"]

_SHORTEST_PAUSE: Final = 0.0002
_LONGEST_PAUSE: Final = 0.02

_held: Final[set[int]] = set()
_mutex = threading.Lock()


class locked:  # noqa: N801  # used like a function
    """Hold the lock of the file that ``open_lock`` opens, as a context manager.

    :param patience: seconds to wait for it.
    :param make: makes the file where ``open_lock`` gives ``None``.
    :param gate: where threads of this process queue who want the same file.
    :raises StorageUnavailable: on entering; somebody else held it all the time, or there is no such file.
    """

    __slots__ = ("_descriptor", "_gate", "_make", "_open_lock", "_patience", "_process")

    def __init__(
        self,
        open_lock: Callable[[], int | None],
        *,
        patience: float,
        make: Callable[[], None] | None = None,
        gate: threading.Lock | None = None,
    ) -> None:
        self._open_lock = open_lock
        self._patience = patience
        self._make = make
        self._gate = threading.Lock() if gate is None else gate
        self._process = os.getpid()

    def __enter__(self) -> None:
        give_up = time.monotonic() + self._patience
        if not self._gate.acquire(timeout=self._patience):
            raise _held_too_long(self._patience)
        try:
            self._descriptor = self._opened()
            try:
                _acquire(self._descriptor, give_up, self._patience)
            except BaseException:
                _close(self._descriptor)
                raise
        except BaseException:
            self._gate.release()
            raise

    def __exit__(self, *_: object) -> None:
        if self._process == os.getpid():  # else: a child, forked while this was held, that has closed its copy and leaves by the same way
            _release(self._descriptor)
            _close(self._descriptor)
            self._gate.release()

    def _opened(self) -> int:
        descriptor = _open(self._open_lock)
        if descriptor is None and self._make is not None:
            self._make()
            descriptor = _open(self._open_lock)
        if descriptor is None:
            raise StorageUnavailable("a lock file is missing in the token folder; is it being deleted?")
        return descriptor


def _close(descriptor: int) -> None:
    with _mutex:
        _held.discard(descriptor)
        os.close(descriptor)


def _open(open_lock: Callable[[], int | None]) -> int | None:
    with _mutex:  # a fork comes before or after: no descriptor is inherited that _held does not know
        descriptor = open_lock()
        if descriptor is not None:
            _held.add(descriptor)
    return descriptor


def _acquire(descriptor: int, give_up: float, patience: float) -> None:
    if _try(descriptor):
        return
    import random  # only who has to wait needs it

    pause = _SHORTEST_PAUSE
    while time.monotonic() < give_up:
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # only so that two do not keep step
        if _try(descriptor):
            return
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    raise _held_too_long(patience)


def _held_too_long(patience: float) -> StorageUnavailable:
    return StorageUnavailable(f"another process or thread held the lock of a part of the token folder for {patience:g} seconds")


if sys.platform == "win32":

    def _try(descriptor: int) -> bool:  # pragma: no cover (Windows)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _release(descriptor: int) -> None:  # pragma: no cover (Windows)
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _try(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing would not do while a child still has a copy

    def _forget_inherited() -> None:
        for descriptor in _held:
            os.close(descriptor)  # and not LOCK_UN, which would release the parent's lock
        _held.clear()
        _mutex.release()

    os.register_at_fork(before=_mutex.acquire, after_in_parent=_mutex.release, after_in_child=_forget_inherited)
