"""No SQLite file is open while the process forks (P12, P15).

SQLite keeps the locks that a process has on a file in the process's memory. A forked child inherits these notes and not the locks: it would write
without them, and what it wrote is lost as soon as another process, which finds nobody in the way, does away with the write-ahead log. So connections
are closed before a fork, each in its thread, after the operation that it is at; the parent opens them again when it next needs them.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

__all__ = ["opened", "opening", "sync_at_every_commit", "watch"]

_PATIENCE: Final = 5.0
"""Seconds that a fork waits for operations under way; nothing can stop it for longer."""

_LOOK_EVERY: Final = 0.001

_openings: Final[list[None]] = []
_watched: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
forking: Final = threading.Lock()
"""Held while the process forks."""

forked: threading.Event = threading.Event()
"""Set after the last fork, in the parent."""


def sync_at_every_commit(connection: Any) -> None:
    """Not every build of SQLite has this for a default in write-ahead mode."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


@asynccontextmanager
async def opening() -> AsyncGenerator[None, None]:
    """While a connection is being made and not watched yet: forks wait for it, and it for forks."""
    _openings.append(None)
    while forking.locked():
        _openings.pop()
        await asyncio.sleep(_LOOK_EVERY)
        _openings.append(None)
    try:
        yield
    finally:
        _openings.pop()


def watch(connection: Any) -> None:
    """Close this connection of aiosqlite's before forks. It must be in autocommit mode."""
    _watched.add(connection)


def opened(connection: Any) -> sqlite3.Connection:
    """SQLite's own connection in one of aiosqlite's, open. In its thread.

    :raises sqlite3.Error: it was closed for a fork, and cannot be opened again.
    """
    # of aiosqlite's names for its parts none is public
    if getattr(connection, "closed_for_fork", False):
        again: sqlite3.Connection = connection._connector()  # noqa: SLF001
        again.isolation_level = None
        sync_at_every_commit(again)
        connection._connection = again  # noqa: SLF001
        connection.closed_for_fork = False
    found: sqlite3.Connection = connection._conn  # noqa: SLF001
    return found


def _close(connection: Any, closed: threading.Event, go_on: threading.Event) -> None:
    try:
        connection._conn.close()  # noqa: SLF001
        connection.closed_for_fork = True
    finally:
        closed.set()
    go_on.wait()


def before_fork() -> None:
    """Close what is open, and keep it closed."""
    global forked  # noqa: PLW0603  # each fork has its own
    forking.acquire()
    forked = threading.Event()
    until = time.monotonic() + _PATIENCE
    while _openings and time.monotonic() < until:
        time.sleep(_LOOK_EVERY)
    waited_for: list[threading.Event] = []
    for connection in _watched.copy():
        if connection._running and connection._thread.is_alive():  # noqa: SLF001
            closed = threading.Event()
            connection._tx.put_nowait((None, partial(_close, connection, closed, forked)))  # noqa: SLF001
            waited_for.append(closed)
    for closed in waited_for:
        closed.wait(max(0.0, until - time.monotonic()))


def after_fork_in_parent() -> None:
    """Let it be opened again."""
    forked.set()
    forking.release()


def after_fork_in_child() -> None:
    """Forget the parent's connections."""
    _watched.clear()
    _openings.clear()
    forking.release()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows has no forks)
    os.register_at_fork(before=before_fork, after_in_parent=after_fork_in_parent, after_in_child=after_fork_in_child)
