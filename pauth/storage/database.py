"""Tokens in a SQL database, through SQLAlchemy."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from pauth.clock import Clock, SystemClock
from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage.arguments import check_timeout
from pauth.storage.driven import DrivenTokenStorage, chosen_keyring
from pauth.storage.driver import Driver
from pauth.storage.keys import Keyring, KeySource, conceal

_MISSING: Final = [name for name in ("sqlalchemy", "greenlet") if find_spec(name) is None]
if TYPE_CHECKING or not _MISSING:
    from sqlalchemy import URL, MetaData, make_url
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["DatabaseTokenStorage"]

_DIALECTS: Final = {
    "sqlite": "pauth.storage.sql.sqlite",
    "postgresql": "pauth.storage.sql.postgres",
    "mysql": "pauth.storage.sql.mysql",
    "mariadb": "pauth.storage.sql.mysql",
}
"""The module of a dialect has two functions:
``driver_for_url(url, *, timeout, plaintext, clock)`` and ``driver_for_engine(engine, *, timeout, clock)``."""


class DatabaseTokenStorage(DrivenTokenStorage):
    """Keeps tokens in a SQL database, encrypted with AES-256-GCM. Tables are made on first use.

    Usable from several event loops and threads (connections of their own each) and by several processes. A caller who is cancelled leaves
    the storage as it was or as it was to become.

    ::

        storage = DatabaseTokenStorage("sqlite+aiosqlite:///tokens.db", encryption_key=os.environ["TOKEN_KEY"])

    URLs are ``sqlite+aiosqlite:///relative/path`` and ``sqlite+aiosqlite:////absolute/path``; ``postgresql+asyncpg://user:password@host/database``
    and ``postgresql+psycopg://…`` (``postgresql://…`` takes what is installed, asyncpg first); ``mysql+asyncmy://user:password@host/database``,
    ``mysql+aiomysql://…``, and the same with ``mariadb``. TLS is set up by the library's own options (``?ssl=verify-full`` of asyncpg,
    ``?sslmode=verify-full&sslrootcert=/path`` of both for PostgreSQL). A password that is not in the URL is taken from ``PGPASSWORD``; psycopg
    reads ``~/.pgpass`` too. Behind a proxy that pools transactions, psycopg works as it is, asyncpg with
    ``?prepared_statement_cache_size=0``. ``synchronous_commit=off`` of PostgreSQL, and another ``innodb_flush_log_at_trx_commit`` than 1 of
    MariaDB and MySQL, lose acknowledged writes when the server crashes; pauth leaves both as they are.

    ``DatabaseTokenStorage.metadata()`` gives the tables for your own migrations.

    :param url: one of those; or an engine of your own, which stays yours to configure and dispose, and serves one event loop.
    :param encryption_key: a key, or several of which the first encrypts; by default those in ``PAUTH_ENCRYPTION_KEY`` or ``PAUTH_ENCRYPTION_KEYS``.
    :param insecure_plaintext: store tokens readable to whoever gets at the database.
    :param namespace: where the three plain methods keep their records.
    :param timeout: seconds after which an operation gives up on the database.
    :param clock: where the time comes from.
    :param coalesce: send what waits at the same time as one batch.
    :raises ConfigurationError: no usable key, an unsupported URL, or SQLAlchemy or the database's driver is not installed.
    """

    def __init__(
        self,
        url: str | Secret | URL | AsyncEngine,
        *,
        encryption_key: KeySource | Keyring | None = None,
        insecure_plaintext: bool = False,
        namespace: str = "",
        timeout: float = 30.0,
        clock: Clock | None = None,
        coalesce: bool = True,
    ) -> None:
        if _MISSING:
            extra = _extra(url)
            del url, encryption_key  # SH-5
            raise ConfigurationError(f"DatabaseTokenStorage needs {_MISSING[0]}, which is not installed: pip install 'pauth[{extra}]'")
        # SH-5: before anything can fail, and a traceback show locals
        encryption_key = conceal(encryption_key)
        if isinstance(url, str):
            url = Secret(url)
        check_timeout(timeout)
        clock = SystemClock() if clock is None else clock
        keyring = chosen_keyring(encryption_key, insecure_plaintext=insecure_plaintext)
        driver = _driver(url, timeout=timeout, plaintext=insecure_plaintext, clock=clock)
        super().__init__(driver, keyring=keyring, namespace=namespace, timeout=timeout, clock=clock, coalesce=coalesce)

    @staticmethod
    def metadata() -> MetaData:
        """The tables, as a migration tool (Alembic's ``target_metadata``) wants them.

        Who makes them also inserts the row that says which they are: ``INSERT INTO pauth_schema (id, version) VALUES (1, 1)``. Then the
        storage needs no right to make tables.

        :raises ConfigurationError: SQLAlchemy is not installed.
        """
        if _MISSING:
            raise ConfigurationError(f"DatabaseTokenStorage needs {_MISSING[0]}, which is not installed: pip install 'pauth[sql]'")
        from pauth.storage.sql.tables import metadata

        return metadata


def _extra(url: object) -> str:
    """The extra that has all that a URL needs, so that nobody installs one and is told of the next."""
    scheme = (url.reveal() if isinstance(url, Secret) else str(url)).partition(":")[0].partition("+")[0].lower()
    return {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}.get(scheme, "sql")


def _driver(url: Secret | URL | AsyncEngine, *, timeout: float, plaintext: bool, clock: Clock) -> Driver:
    driver: Driver
    if isinstance(url, AsyncEngine):
        driver = _dialect(url.dialect.name).driver_for_engine(url, timeout=timeout, clock=clock)
    else:
        parsed = _parsed(url)
        driver = _dialect(parsed.get_backend_name()).driver_for_url(parsed, timeout=timeout, plaintext=plaintext, clock=clock)
    return driver


def _dialect(name: str) -> Any:
    if name not in _DIALECTS:
        raise ConfigurationError(f"no token storage for {name} databases; there is one for {', '.join(sorted(_DIALECTS))}")
    return import_module(_DIALECTS[name])


def _parsed(url: Secret | URL) -> URL:
    """The URL, which is not in the message of an error: it may hold a password."""
    parsed: URL | None = None
    with suppress(ArgumentError, ValueError):  # whose text would show the URL
        parsed = make_url(url.reveal() if isinstance(url, Secret) else url)
    if parsed is None:
        raise ConfigurationError(
            "this is no database URL; write sqlite:///relative/path, sqlite:////absolute/path, postgresql://user:password@host/name or mysql://…"
        )
    return parsed
