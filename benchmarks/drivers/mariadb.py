"""MariaDB and MySQL: beside an asyncmy pool. py-key-value has no store for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from benchmarks.contender import Contender, Entry, Place, Role, Row, optional
from benchmarks.drivers.common import SECONDS_KEPT, TABLE, pauth_entry
from benchmarks.workload import KEY, NAMESPACE, RECORD

__all__ = ["ROW"]

_CREATE: Final = f"CREATE TABLE IF NOT EXISTS {TABLE} (id VARBINARY(200) PRIMARY KEY, record MEDIUMBLOB NOT NULL, expires_at BIGINT)"
_SAVE: Final = (
    f"INSERT INTO {TABLE} (id, record, expires_at) VALUES (%s, %s, unix_timestamp() + {SECONDS_KEPT}) "  # noqa: S608  # no outside text in it
    "ON DUPLICATE KEY UPDATE record = VALUES(record), expires_at = VALUES(expires_at)"
)
_GET: Final = f"SELECT record, expires_at FROM {TABLE} WHERE id = %s"  # noqa: S608
_CONNECTIONS: Final = 10


@asynccontextmanager
async def _pool(place: Place) -> AsyncGenerator[Contender]:
    url = urlsplit(place.url)
    pool = await optional("asyncmy").create_pool(
        minsize=_CONNECTIONS,
        maxsize=_CONNECTIONS,
        host=url.hostname or "localhost",
        port=url.port or 3306,
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        db=url.path[1:],
        autocommit=True,
    )

    async def run(statement: str, *values: object) -> Any:
        async with pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(statement, values)
            return await cursor.fetchone()

    try:
        await run(_CREATE)
        version = (await run("SELECT version()"))[0]
        name = "MariaDB" if "mariadb" in version.lower() else "MySQL"
        yield Contender(lambda user: run(_SAVE, user, RECORD), lambda user: run(_GET, user), f"{name} {version.partition('-')[0]}")
    finally:
        await run(f"DROP TABLE IF EXISTS {TABLE}")
        pool.close()
        await pool.wait_closed()


def _pauth(place: Place) -> Any:
    from pauth.storage import DatabaseTokenStorage

    scheme, _, rest = place.url.partition("://")
    return DatabaseTokenStorage(place.url if "+" in scheme else f"{scheme}+asyncmy://{rest}", encryption_key=KEY, namespace=NAMESPACE)


ROW: Final = Row("mariadb", (Entry("pauth", Role.PAUTH, pauth_entry(_pauth)), Entry("asyncmy pool", Role.FLOOR, _pool)))
