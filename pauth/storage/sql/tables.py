"""The tables of the SQL drivers. Imported only when a database is used.

Rows are found by a SHA-256 over the length-prefixed identity, a binary column on every database: no collation, trailing-space rule or
normalisation merges two users (SQ-1). Namespace and user id stand beside it as UTF-8 bytes, so that users can be listed. Times are
milliseconds since the Unix epoch; those of leases are on whatever clock the driver's processes share.

A deleted record leaves a row without ``record`` for a day: its version. A record saved again goes on counting from there, so that a writer
that read the old one before its deletion cannot overwrite the new one (P6). Leases leave their fence the same way. A new fence is never lower
than the wall clock's milliseconds, so fences go on rising when such a row has been collected.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Executable, Index, Integer, LargeBinary, MetaData, Table, insert, select
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable

__all__ = [
    "CREATE",
    "READ_SCHEMA",
    "RETIRED_FOR_MS",
    "SCHEMA_VERSION",
    "WRITE_SCHEMA",
    "leases",
    "metadata",
    "pending",
    "schema",
    "tokens",
]

SCHEMA_VERSION: Final = 1
"""What this version of pauth reads and writes; a database with a higher one is refused (P18)."""

RETIRED_FOR_MS: Final = 86_400_000
"""How long the version of a deleted record, and the fence of a lease that is over, are kept."""


def _bytes(length: int) -> Any:
    return LargeBinary(length).with_variant(mysql.VARBINARY(length), "mysql", "mariadb")


_record: Final = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")  # a BLOB of MySQL ends at 64 KiB (SQ-7)

metadata: Final = MetaData()
"""The tables, for a user's own migrations. ``pauth_schema`` needs the row ``(1, SCHEMA_VERSION)``."""

_INNODB: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mariadb_engine": "InnoDB",
}  # whatever the server's default: the others have no transactions

schema: Final = Table(
    "pauth_schema",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    **_INNODB,
)
tokens: Final = Table(
    "pauth_tokens",
    metadata,
    Column("id", _bytes(32), primary_key=True),
    Column("namespace", LargeBinary, nullable=False),
    Column("user_id", LargeBinary),
    Column("version", BigInteger, nullable=False),
    Column("stored_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("lineage", _bytes(16)),
    Column("key_id", _bytes(8)),
    Column("record", _record),
    Index("pauth_tokens_namespace", "namespace", "id", mysql_length={"namespace": 64}, mariadb_length={"namespace": 64}),
    Index("pauth_tokens_expires_at", "expires_at", "id"),
    **_INNODB,
)
pending: Final = Table(
    "pauth_pending",
    metadata,
    Column("id", _bytes(32), primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    Column("record", _record, nullable=False),
    Index("pauth_pending_expires_at", "expires_at"),
    **_INNODB,
)
leases: Final = Table(
    "pauth_leases",
    metadata,
    Column("id", _bytes(32), primary_key=True),
    Column("owner", _bytes(128)),
    Column("fence", BigInteger, nullable=False),
    Column("ttl", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    **_INNODB,
)

CREATE: Final[tuple[Executable, ...]] = (
    *(CreateTable(table, if_not_exists=True) for table in metadata.sorted_tables),
    *(
        CreateIndex(index, if_not_exists=True)
        for table in metadata.sorted_tables
        for index in sorted(table.indexes, key=lambda index: str(index.name))
    ),
)
READ_SCHEMA: Final = select(schema.c.version).where(schema.c.id == 1)
WRITE_SCHEMA: Final = insert(schema).values(id=1, version=SCHEMA_VERSION)
