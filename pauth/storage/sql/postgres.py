"""PostgreSQL by URL or by an engine of the user's, through asyncpg or psycopg."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from pauth.clock import Clock
from pauth.errors import ConfigurationError
from pauth.storage.sql.links import EngineLinks, Link, Links, OwnLinks
from pauth.storage.sql.postgres_driver import PostgresDriver
from pauth.storage.sql.postgres_links import AsyncpgLink, PooledAsyncpgLink, PsycopgLink
from pauth.storage.sql.postgres_tls import MODES, TLS_OPTIONS, tls_attempts

__all__ = ["driver_for_engine", "driver_for_url"]

_LIBRARIES: Final = ("asyncpg", "psycopg")
_OPTIONS: Final = ("ssl", *TLS_OPTIONS, "direct_tls", "prepared_statement_cache_size", "target_session_attrs", "host", "port")
"""Of asyncpg's. psycopg knows all of libpq's."""


def driver_for_url(url: URL, *, timeout: float, plaintext: bool, clock: Clock) -> PostgresDriver:  # noqa: ARG001  # the same for every dialect
    """The driver for a PostgreSQL database.

    :raises ConfigurationError: another library than asyncpg and psycopg, the library is missing, or an option it does not know.
    """
    library = _library(url)
    url = url.set(drivername=f"postgresql+{library}")
    return PostgresDriver(_links(_connector(url, library)), timeout=timeout, store_id=_store_id(url))


def driver_for_engine(engine: AsyncEngine, *, timeout: float, clock: Clock) -> PostgresDriver:  # noqa: ARG001  # as above
    """The driver for a user's own engine. Its pool stays as it is.

    :raises ConfigurationError: another library than asyncpg and psycopg.
    """
    library = engine.dialect.driver.removesuffix("_async")
    if library not in _LIBRARIES:
        raise ConfigurationError(f"a PostgreSQL token database must be postgresql+asyncpg or postgresql+psycopg, not postgresql+{library}")
    link: Callable[[Any], Link] = AsyncpgLink if library == "asyncpg" else PsycopgLink
    return PostgresDriver(
        lambda prepare, seconds: EngineLinks(engine, link, prepare=prepare, timeout=seconds), timeout=timeout, store_id=_store_id(engine.url)
    )


def _library(url: URL) -> str:
    _, _, wanted = url.drivername.partition("+")
    wanted = wanted.removesuffix("_async")
    if wanted and wanted not in _LIBRARIES:
        raise ConfigurationError(f"a PostgreSQL token database must be postgresql+asyncpg or postgresql+psycopg, not {url.drivername}")
    for library in (wanted,) if wanted else _LIBRARIES:
        if find_spec(library) is not None:
            return library
    raise ConfigurationError(f"a PostgreSQL database needs {wanted or 'asyncpg'}, which is not installed: pip install 'pauth[postgresql]'")


def _links(connect: Callable[[], Awaitable[Link]]) -> Callable[[Callable[[Link], Awaitable[None]], float], Links]:
    return lambda prepare, timeout: OwnLinks(connect, prepare=prepare, timeout=timeout)


def _connector(url: URL, library: str) -> Callable[[], Awaitable[Link]]:
    if library == "psycopg":
        options = _arguments(url)
        return lambda: _by_psycopg(options)
    query = dict(url.query)
    unknown = sorted(query.keys() - set(_OPTIONS))
    if unknown:
        raise ConfigurationError(f"a postgresql+asyncpg URL has no option {unknown[0]!r} here; it has {', '.join(_OPTIONS)}")
    if "ssl" in query:  # asyncpg's name for it
        query["sslmode"] = query.pop("ssl")
    tls: dict[str, str] = {name: str(query.pop(name)) for name in TLS_OPTIONS if name in query}
    if tls.get("sslmode", "prefer") not in MODES:
        raise ConfigurationError(f"there is no such sslmode; there are {', '.join(MODES)}")
    pooled = query.pop("prepared_statement_cache_size", None) == "0"
    direct = str(query.pop("direct_tls", "false")).lower() in ("1", "on", "true", "yes")
    options = {**_arguments(url.set(query=query)), "direct_tls": True} if direct else _arguments(url.set(query=query))
    for name in ("prepared_statement_cache_size", "prepared_statement_name_func"):
        options.pop(name, None)
    return lambda: _by_asyncpg(options, tls, pooled=pooled)


def _arguments(url: URL) -> dict[str, Any]:
    """The library's own arguments."""
    options: dict[str, Any] | None = None
    with suppress(ArgumentError, ValueError, TypeError):  # whose text would show the URL
        options = dict(url.get_dialect()().create_connect_args(url)[1])
    if options is None:
        raise ConfigurationError("this PostgreSQL URL has an option with a value that cannot be used")
    return options


async def _by_asyncpg(options: dict[str, Any], tls: Mapping[str, str], *, pooled: bool) -> Link:
    asyncpg: Any = import_module("asyncpg")
    attempts = await asyncio.to_thread(tls_attempts, tls)
    # not None: it would look for a file with passwords
    chosen = {"password": os.environ.get("PGPASSWORD", ""), **options, **({"statement_cache_size": 0} if pooled else {})}
    link = PooledAsyncpgLink if pooled else AsyncpgLink
    for attempt in attempts[:-1]:
        try:
            return link(await asyncpg.connect(**chosen, ssl=attempt))
        except (ConnectionError, asyncpg.PostgresError) as error:
            if type(error) is not ConnectionError and getattr(error, "sqlstate", None) != "28000":
                raise
            # the server has no TLS, or insists on it
    return link(await asyncpg.connect(**chosen, ssl=attempts[-1]))


async def _by_psycopg(options: dict[str, Any]) -> Link:
    psycopg: Any = import_module("psycopg")
    return PsycopgLink(await psycopg.AsyncConnection.connect(**options, autocommit=True, prepare_threshold=None))


def _store_id(url: URL) -> tuple[str, ...] | None:
    """Of what the URL says; the user is in it since the tables are in a schema of the user's choice."""
    options = [f"{name}={value}" for name, value in sorted(url.query.items()) if name in ("host", "options", "port", "service")]
    return ("postgresql", url.host or "", str(url.port or 5432), url.database or url.username or "", url.username or "", *options)
