"""The tables and statements of the SQL driver, built once, and what its errors mean. Imported only when a database is used.

Rows are found by a SHA-256 over the length-prefixed identity, a binary column on every database: no collation, trailing-space rule or
normalisation merges two users (SQ-1). Namespace and user id stand beside it as UTF-8 bytes, so that users can be listed. Times are
milliseconds since the Unix epoch.

A deleted record leaves a row without ``record`` for a day: its version. A record saved again goes on counting from there, so that a writer
that read the old one before its deletion cannot overwrite the new one (P6).
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, TypeDecorator, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from pauth.errors import PAuthError, StorageUnavailable, TokenStorageError

__all__ = [
    "COLLECT_PENDING",
    "COLLECT_RETIRED",
    "CREATE",
    "CREATE_SCHEMA_TABLE",
    "DELETE",
    "DELETE_VERSION",
    "INSERT_IF_NONE",
    "INSERT_OR_REPLACE",
    "LOAD",
    "PUT_PENDING",
    "READ_SCHEMA",
    "REPLACE",
    "SCHEMA_VERSION",
    "TAKE_PENDING",
    "WRITE_SCHEMA",
    "error_for",
    "row_id",
]

SCHEMA_VERSION: Final = 1
"""What this version of pauth reads and writes; a database with a higher one is refused (P18)."""


class _Opaque(TypeDecorator[memoryview]):
    """Bytes that do not print: neither where a traceback shows locals nor in a driver's log (SH-1, SH-5)."""

    impl = LargeBinary  # which gives the driver a memoryview
    cache_ok = True

    def process_result_value(self, value: bytes | None, dialect: object) -> memoryview | None:  # noqa: ARG002  # SQLAlchemy passes it
        return None if value is None else memoryview(value)


_metadata: Final = MetaData()
_schema: Final = Table(
    "pauth_schema",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)
_tokens: Final = Table(
    "pauth_tokens",
    _metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("namespace", LargeBinary, nullable=False),
    Column("user_id", LargeBinary),
    Column("version", BigInteger, nullable=False),
    Column("stored_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("record", _Opaque),
)
_pending: Final = Table(
    "pauth_pending",
    _metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    Column("record", _Opaque, nullable=False),
)

CREATE_SCHEMA_TABLE: Final = CreateTable(_schema, if_not_exists=True)
READ_SCHEMA: Final = select(_schema.c.version).where(_schema.c.id == 1)
WRITE_SCHEMA: Final = insert(_schema).values(id=1, version=SCHEMA_VERSION).on_conflict_do_nothing()
CREATE: Final = (
    CreateTable(_tokens, if_not_exists=True),
    CreateTable(_pending, if_not_exists=True),
    CreateIndex(Index("pauth_pending_expires_at", _pending.c.expires_at), if_not_exists=True),
)

# parameters are named p_..., since SQLAlchemy keeps the columns' own names to itself in an UPDATE
_this: Final = _tokens.c.id == bindparam("p_id")
_there: Final = _tokens.c.record.is_not(None)
_insert: Final = insert(_tokens).values(
    id=bindparam("p_id"),
    namespace=bindparam("p_namespace"),
    user_id=bindparam("p_user_id"),
    version=1,
    stored_at=bindparam("p_stored_at"),
    expires_at=bindparam("p_expires_at"),
    record=bindparam("p_record"),
)


def _or_go_on(*, only_if_deleted: bool) -> Insert:
    new = _insert.excluded
    return _insert.on_conflict_do_update(
        index_elements=[_tokens.c.id],
        set_={
            "user_id": new.user_id,
            "version": _tokens.c.version + 1,
            "stored_at": new.stored_at,
            "expires_at": new.expires_at,
            "record": new.record,
        },
        where=_tokens.c.record.is_(None) if only_if_deleted else None,
    )


LOAD: Final = select(_tokens.c.version, _tokens.c.stored_at, _tokens.c.expires_at, _tokens.c.record).where(_this, _there)
INSERT_OR_REPLACE: Final = _or_go_on(only_if_deleted=False).returning(_tokens.c.version)
INSERT_IF_NONE: Final = _or_go_on(only_if_deleted=True).returning(_tokens.c.version)
REPLACE: Final = (
    update(_tokens)
    .where(_this, _there, _tokens.c.version == bindparam("p_expected_version"))
    .values(
        version=_tokens.c.version + 1,
        stored_at=bindparam("p_stored_at"),
        expires_at=bindparam("p_expires_at"),
        record=bindparam("p_record"),
    )
)
DELETE: Final = update(_tokens).where(_this, _there).values(user_id=None, record=None, expires_at=None, stored_at=bindparam("p_stored_at"))
DELETE_VERSION: Final = DELETE.where(_tokens.c.version == bindparam("p_expected_version"))
COLLECT_RETIRED: Final = delete(_tokens).where(_tokens.c.record.is_(None), _tokens.c.stored_at <= bindparam("p_before"))

_put: Final = insert(_pending).values(id=bindparam("p_id"), expires_at=bindparam("p_expires_at"), record=bindparam("p_record"))
PUT_PENDING: Final = _put.on_conflict_do_update(
    index_elements=[_pending.c.id], set_={"expires_at": _put.excluded.expires_at, "record": _put.excluded.record}
)
TAKE_PENDING: Final = delete(_pending).where(_pending.c.id == bindparam("p_id")).returning(_pending.c.expires_at, _pending.c.record)
COLLECT_PENDING: Final = delete(_pending).where(_pending.c.expires_at <= bindparam("p_before"))


def row_id(*identity: str) -> bytes:
    """What a row is found by: SHA-256 over the parts, each with its length, so that ("a", "bc") and ("ab", "c") are two."""
    digest = hashlib.sha256()
    for part in identity:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(struct.pack(">I", len(encoded)))
        digest.update(encoded)
    return digest.digest()


_PASSES: Final = {
    "SQLITE_BUSY": "another process holds its lock",
    "SQLITE_LOCKED": "another connection holds its lock",
    "SQLITE_FULL": "the disk is full; what was stored is unharmed",
    "SQLITE_IOERR": "reading or writing its file failed; what was stored is unharmed",
    "SQLITE_NOMEM": "out of memory",
    "SQLITE_INTERRUPT": "it was interrupted",
}
_STAYS: Final = {
    "SQLITE_CANTOPEN": "its file cannot be opened; look at the path and its permissions",
    "SQLITE_CORRUPT": "its file is damaged; restore it from a backup",
    "SQLITE_NOTADB": "its file is no SQLite database, or is encrypted by another program",
    "SQLITE_PERM": "its file may not be used; look at its permissions",
    "SQLITE_READONLY": "its file is read-only; look at the permissions of the file and its folder",
    "SQLITE_TOOBIG": "the record is too large for it",
}


def error_for(error: SQLAlchemyError | sqlite3.Error) -> PAuthError:
    """What to raise in place of a database error, whose own text may hold the statement's parameters. To be raised outside the handler."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    name: str = getattr(cause, "sqlite_errorname", "")
    family = "_".join(name.split("_")[:2])  # SQLITE_IOERR_WRITE is an SQLITE_IOERR
    if family in _STAYS:
        return TokenStorageError(f"the token database failed ({name}): {_STAYS[family]}")
    if family in _PASSES:
        return StorageUnavailable(f"the token database is not available ({name}): {_PASSES[family]}; try again later")
    return StorageUnavailable(f"the token database is not available ({name or type(error).__name__}); try again later")
