"""SQLite, write-ahead log, synchronous=FULL: beside aiosqlite with one hop an operation, and SQLAlchemy as it is usually written."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.contender import Contender, Entry, Place, Role, Row, optional
from benchmarks.drivers.common import SECONDS_KEPT, TABLE, pauth_entry
from benchmarks.workload import KEY, NAMESPACE, RECORD

__all__ = ["ROW"]

_CREATE: Final = f"CREATE TABLE {TABLE} (id TEXT PRIMARY KEY, record BLOB NOT NULL, expires_at INTEGER)"
_SAVE: Final = (
    f"INSERT INTO {TABLE} (id, record, expires_at) VALUES (?, ?, ?) "  # noqa: S608  # no outside text in it
    "ON CONFLICT (id) DO UPDATE SET record = excluded.record, expires_at = excluded.expires_at"
)
_GET: Final = f"SELECT record, expires_at FROM {TABLE} WHERE id = ?"  # noqa: S608
_PRAGMAS: Final = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL")


@asynccontextmanager
async def _one_hop(place: Place) -> AsyncGenerator[Contender]:
    aiosqlite = optional("aiosqlite")
    async with aiosqlite.connect(place.folder / "one-hop.db", isolation_level=None) as connection:
        raw = connection._conn  # noqa: SLF001  # a function of one's own in its thread, which it has no public way for

        def run(statement: str, *values: object) -> Callable[[], Any]:
            return lambda: raw.execute(statement, values).fetchone()

        for statement in (*_PRAGMAS, _CREATE):
            await connection._execute(run(statement))  # noqa: SLF001
        version: str = optional("sqlite3").sqlite_version
        yield Contender(
            lambda user: connection._execute(run(_SAVE, user, RECORD, int(time.time()) + SECONDS_KEPT)),  # noqa: SLF001
            lambda user: connection._execute(run(_GET, user)),  # noqa: SLF001
            f"SQLite {version}",
        )


@asynccontextmanager
async def _sqlalchemy(place: Place) -> AsyncGenerator[Contender]:
    sa, dialect = optional("sqlalchemy"), optional("sqlalchemy.dialects.sqlite", "sqlalchemy")
    aio = optional("sqlalchemy.ext.asyncio", "'sqlalchemy[asyncio]'")
    optional("aiosqlite")
    table = sa.Table(
        TABLE,
        sa.MetaData(),
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("record", sa.LargeBinary),
        sa.Column("expires_at", sa.BigInteger),
    )
    engine = aio.create_async_engine(f"sqlite+aiosqlite:///{place.folder}/sqlalchemy.db")

    def prepare(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    sa.event.listen(engine.sync_engine, "connect", prepare)
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)

    async def save(user: str) -> None:
        values = {"record": RECORD, "expires_at": int(time.time()) + SECONDS_KEPT}
        statement = dialect.insert(table).values(id=user, **values).on_conflict_do_update(index_elements=["id"], set_=values)
        async with engine.begin() as connection:
            await connection.execute(statement)

    async def get(user: str) -> object:
        async with engine.connect() as connection:
            return (await connection.execute(sa.select(table.c.record, table.c.expires_at).where(table.c.id == user))).first()

    try:
        yield Contender(save, get)
    finally:
        await engine.dispose()


def _pauth(place: Place) -> Any:
    from pauth.storage import DatabaseTokenStorage

    url = place.url or f"sqlite+aiosqlite:///{place.folder}/pauth.db"
    return DatabaseTokenStorage(url, encryption_key=KEY, namespace=NAMESPACE)


ROW: Final = Row(
    "sqlite",
    (
        Entry("pauth", Role.PAUTH, pauth_entry(_pauth)),
        Entry("aiosqlite, one hop", Role.FLOOR, _one_hop),
        Entry("SQLAlchemy Core as usually written", Role.OTHER, _sqlalchemy),
    ),
)
