"""PostgreSQL: beside an asyncpg pool, and SQLAlchemy as it is usually written."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.contender import Contender, Entry, Place, Role, Row, optional
from benchmarks.drivers.common import SECONDS_KEPT, TABLE, pauth_entry, peer_entry
from benchmarks.workload import KEY, NAMESPACE, RECORD

__all__ = ["ROW"]

_CREATE: Final = f"CREATE TABLE IF NOT EXISTS {TABLE} (id text PRIMARY KEY, record bytea NOT NULL, expires_at timestamptz)"
_SAVE: Final = (
    f"INSERT INTO {TABLE} (id, record, expires_at) VALUES ($1, $2, now() + interval '{SECONDS_KEPT} s') "  # noqa: S608  # no outside text in it
    "ON CONFLICT (id) DO UPDATE SET record = excluded.record, expires_at = excluded.expires_at"
)
_GET: Final = f"SELECT record, expires_at FROM {TABLE} WHERE id = $1"  # noqa: S608


def _plain(url: str) -> str:
    """Without the driver that SQLAlchemy's URLs name."""
    return "postgresql://" + url.partition("://")[2]


@asynccontextmanager
async def _pool(place: Place) -> AsyncGenerator[Contender]:
    async with optional("asyncpg").create_pool(_plain(place.url)) as pool:
        await pool.execute(_CREATE)
        version = await pool.fetchval("SHOW server_version")
        durable = await pool.fetchval("SELECT current_setting('fsync') || current_setting('synchronous_commit')")
        try:
            yield Contender(
                lambda user: pool.execute(_SAVE, user, RECORD),
                lambda user: pool.fetchrow(_GET, user),
                f"PostgreSQL {version.split()[0]}{'' if durable == 'onon' else ', NOT durable: fsync or synchronous_commit is off'}",
            )
        finally:
            await pool.execute(f"DROP TABLE {TABLE}")


@asynccontextmanager
async def _sqlalchemy(place: Place) -> AsyncGenerator[Contender]:
    sa, dialect = optional("sqlalchemy"), optional("sqlalchemy.dialects.postgresql", "sqlalchemy")
    aio = optional("sqlalchemy.ext.asyncio", "'sqlalchemy[asyncio]'")
    optional("asyncpg")
    table = sa.Table(
        f"{TABLE}_core",
        sa.MetaData(),
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("record", sa.LargeBinary),
        sa.Column("expires_at", sa.BigInteger),
    )
    engine = aio.create_async_engine("postgresql+asyncpg://" + place.url.partition("://")[2], pool_size=10)
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)

    async def save(user: str) -> None:
        values = {"record": RECORD, "expires_at": SECONDS_KEPT}
        statement = dialect.insert(table).values(id=user, **values).on_conflict_do_update(index_elements=["id"], set_=values)
        async with engine.begin() as connection:
            await connection.execute(statement)

    async def get(user: str) -> object:
        async with engine.connect() as connection:
            return (await connection.execute(sa.select(table.c.record, table.c.expires_at).where(table.c.id == user))).first()

    try:
        yield Contender(save, get)
    finally:
        async with engine.begin() as connection:
            await connection.run_sync(table.metadata.drop_all)
        await engine.dispose()


def _pauth(place: Place) -> Any:
    from pauth.storage import DatabaseTokenStorage

    url = place.url if "+" in place.url.partition(":")[0] else "postgresql+asyncpg://" + place.url.partition("://")[2]
    return DatabaseTokenStorage(url, encryption_key=KEY, namespace=NAMESPACE)


def _peer(place: Place) -> Any:
    return optional("key_value.aio.stores.postgresql", "'py-key-value-aio[postgresql]'").PostgreSQLStore(
        url=_plain(place.url), table_name=f"{TABLE}_peer"
    )


ROW: Final = Row(
    "postgresql",
    (
        Entry("pauth", Role.PAUTH, pauth_entry(_pauth)),
        Entry("asyncpg pool", Role.FLOOR, _pool),
        Entry("SQLAlchemy Core as usually written", Role.OTHER, _sqlalchemy),
        Entry("py-key-value PostgreSQLStore, Fernet", Role.PEER, peer_entry(_peer, extra="postgresql")),
    ),
)
