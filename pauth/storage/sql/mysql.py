"""MariaDB and MySQL by URL or by an engine of the user's, through asyncmy or aiomysql."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from pauth.clock import Clock
from pauth.errors import ConfigurationError
from pauth.storage.sql.links import EngineLinks, Link, OwnLinks
from pauth.storage.sql.mysql_driver import MysqlDriver
from pauth.storage.sql.mysql_links import AiomysqlLink, AsyncmyLink, MysqlLink

__all__ = ["driver_for_engine", "driver_for_url"]

_LINKS: Final[dict[str, type[MysqlLink]]] = {"asyncmy": AsyncmyLink, "aiomysql": AiomysqlLink}


def driver_for_url(url: URL, *, timeout: float, plaintext: bool, clock: Clock) -> MysqlDriver:  # noqa: ARG001  # the same for every dialect
    """The driver for a MariaDB or MySQL database.

    :raises ConfigurationError: another library than asyncmy and aiomysql, the library is missing, or no database is named.
    """
    library = _library(url)
    if not url.database:
        raise ConfigurationError("a MySQL or MariaDB URL must name a database: mysql+asyncmy://user@host/database")
    connect = _connector(url.set(drivername=f"mysql+{library}"), library)
    return MysqlDriver(lambda prepare, seconds: OwnLinks(connect, prepare=prepare, timeout=seconds), timeout=timeout, store_id=_store_id(url))


def driver_for_engine(engine: AsyncEngine, *, timeout: float, clock: Clock) -> MysqlDriver:  # noqa: ARG001  # as above
    """The driver for a user's own engine. Its pool stays as it is.

    :raises ConfigurationError: another library than asyncmy and aiomysql.
    """
    library = engine.dialect.driver
    if library not in _LINKS:
        raise ConfigurationError(f"a MySQL or MariaDB token database must be mysql+asyncmy or mysql+aiomysql, not mysql+{library}")
    return MysqlDriver(
        lambda prepare, seconds: EngineLinks(engine, _LINKS[library], prepare=prepare, timeout=seconds),
        timeout=timeout,
        store_id=_store_id(engine.url),
    )


def _library(url: URL) -> str:
    _, _, wanted = url.drivername.partition("+")
    if wanted and wanted not in _LINKS:
        raise ConfigurationError(f"a MySQL or MariaDB token database must be mysql+asyncmy or mysql+aiomysql, not {url.drivername}")
    for library in (wanted,) if wanted else _LINKS:
        if find_spec(library) is not None:
            return library
    raise ConfigurationError(f"a MySQL or MariaDB database needs {wanted or 'asyncmy'}, which is not installed: pip install 'pauth[mysql]'")


def _connector(url: URL, library: str) -> Callable[[], Awaitable[Link]]:
    options: dict[str, Any] | None = None
    with suppress(ArgumentError, ValueError, TypeError):  # whose text would show the URL
        options = dict(url.get_dialect()().create_connect_args(url)[1])
    if options is None:
        raise ConfigurationError("this MySQL URL has an option with a value that cannot be used")
    # READ COMMITTED takes no locks on gaps: fewer deadlocks between those who insert
    options = {"charset": "utf8mb4", **options, "autocommit": True, "init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"}
    chosen = options

    async def connect() -> Link:
        return _LINKS[library](await import_module(library).connect(**chosen))

    return connect


def _store_id(url: URL) -> tuple[str, ...] | None:
    options = [f"{name}={value}" for name, value in sorted(url.query.items()) if name in ("unix_socket", "host", "port")]
    return ("mysql", url.host or "", str(url.port or 3306), url.database or "", *options)
