"""A SQLite file as the SQL driver wants it: private, in write-ahead mode, synced at every commit (SQ-5, FS-2, P12)."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import warnings
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pauth.clock import Clock
from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable
from pauth.storage.arguments import absolute_path
from pauth.storage.sql.engines import Engines, engines_for_engine
from pauth.storage.sql.sqlite_driver import SqliteDriver
from pauth.storage.sql.sqlite_errors import error_for
from pauth.storage.sql.sqlite_forks import sync_at_every_commit, watch

__all__ = ["driver_for_engine", "driver_for_url", "make_engine", "prepare_file"]

_DRIVERS: Final = ("sqlite", "sqlite+aiosqlite")
_FIX_THE_PATH: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG})


def driver_for_url(url: URL, *, timeout: float, plaintext: bool, clock: Clock) -> SqliteDriver:
    """The driver for a SQLite file.

    :raises ConfigurationError: another library than aiosqlite, aiosqlite is missing, a database in memory, or a query.
    """
    if find_spec("aiosqlite") is None:
        raise ConfigurationError("a SQLite database needs aiosqlite, which is not installed: pip install 'pauth[sql]'")
    if url.drivername not in _DRIVERS:
        raise ConfigurationError(f"a SQLite token database must be sqlite+aiosqlite, not {url.drivername}")
    if url.host or url.username or url.port:
        raise ConfigurationError("a SQLite URL has no host: three slashes and a relative path, or four and an absolute one")
    if url.query:
        raise ConfigurationError("a SQLite URL takes no ?options here; options are keyword arguments of DatabaseTokenStorage")
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ConfigurationError("a SQLite URL must name a file; to keep tokens in memory, write memory:// or MemoryTokenStorage()")
    path = absolute_path(url.database)
    make = partial(make_engine, url.set(drivername="sqlite+aiosqlite", database=path), timeout=timeout)
    prepare = partial(prepare_file, path, plaintext=plaintext, timeout=timeout / 2)
    return SqliteDriver(Engines(make, prepare=prepare), clock=clock, shared=False, store_id=("sqlite", path))


def driver_for_engine(engine: AsyncEngine, *, timeout: float, clock: Clock) -> SqliteDriver:  # noqa: ARG001  # the same for every dialect
    """The driver for a user's own engine. Its pool and its pragmas stay as they are.

    :raises ConfigurationError: not on aiosqlite, or one connection shared by all.
    """
    if engine.dialect.driver != "aiosqlite":
        raise ConfigurationError(f"a SQLite token database must be sqlite+aiosqlite, not sqlite+{engine.dialect.driver}")
    return SqliteDriver(engines_for_engine(engine), clock=clock, shared=True, store_id=None)


def make_engine(url: URL, *, timeout: float) -> AsyncEngine:
    """An engine for one event loop: one connection, whose thread takes one batch after the other.

    More connections would only wait for each other at SQLite's one write lock, by sleeping and in no order.

    :param timeout: seconds to wait for that connection; half of it for another process's lock.
    """
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",  # each operation is one statement, and so one transaction
        skip_autocommit_rollback=True,
        pool_size=1,
        max_overflow=0,
        pool_timeout=timeout,
        connect_args={"timeout": timeout / 2},
        hide_parameters=True,  # SH-1: also where SQLAlchemy logs
    )
    event.listen(engine.sync_engine, "connect", _prepare_connection)
    return engine


def _prepare_connection(connection: Any, _: object) -> None:
    sync_at_every_commit(connection)
    watch(connection.driver_connection)


def prepare_file(path: str, *, plaintext: bool, timeout: float) -> None:
    """Make the database file if it is not there, with mode 0600 whatever the umask, and put it into write-ahead mode. Blocks.

    SQLite gives its ``-wal`` and ``-shm`` files the mode of the database.

    :param plaintext: the tokens in it are not encrypted: a file that other users of the machine can open is refused, not only warned about.
    :raises ConfigurationError: the path cannot be used, or the file system has no shared memory for write-ahead mode (a network share).
    :raises StorageUnavailable: the file is locked for ``timeout`` seconds, or the disk is full.
    """
    failure: PAuthError | None = None
    try:
        if not _create(path):
            _check_existing(path, plaintext=plaintext)
        with closing(sqlite3.connect(path, timeout=timeout, isolation_level=None)) as connection:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            failure = ConfigurationError("the token database cannot use write-ahead logging; put its file on a local disk")
    except OSError as error:
        failure = _error_for_file(error)
    except sqlite3.Error as error:
        failure = error_for(error)
    if failure is not None:
        raise failure


def _create(path: str) -> bool:
    """Whether the file was made. Not opened if it exists: closing any descriptor of it would drop SQLite's locks in this process (FS-5)."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    try:
        if os.name == "posix":  # pragma: no branch (other systems have no modes)
            os.fchmod(descriptor, 0o600)  # a umask can only take bits away, but it could take the owner's
    finally:
        os.close(descriptor)
    return True


def _check_existing(path: str, *, plaintext: bool) -> None:
    info = Path(path).stat()
    if not stat.S_ISREG(info.st_mode):
        raise ConfigurationError("the token database's path is not a file; name another, or move away what is there")
    if os.name == "posix" and info.st_mode & 0o077:
        problem = f"the token database's file has mode {stat.S_IMODE(info.st_mode):04o}: other users of this machine can open it; chmod 600 it"
        if plaintext:
            raise ConfigurationError(problem)
        warnings.warn(problem, stacklevel=2)


def _error_for_file(error: OSError) -> PAuthError:
    what = f"the token database's file cannot be opened: {os.strerror(error.errno or 0)}"
    if error.errno in _FIX_THE_PATH:
        return ConfigurationError(f"{what}; its folder must exist and be yours to write in")
    return StorageUnavailable(f"{what}; try again later")
