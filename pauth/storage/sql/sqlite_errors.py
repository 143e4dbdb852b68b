"""What SQLite's errors mean."""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pauth.errors import PAuthError, StorageUnavailable, TokenStorageError

__all__ = ["concerns_one_row", "error_for"]

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
_OF_ONE_ROW: Final = frozenset({"SQLITE_FULL", "SQLITE_NOMEM", "SQLITE_TOOBIG", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH"})


def error_for(error: SQLAlchemyError | sqlite3.Error) -> PAuthError:
    """What to raise in place of a database error, whose own text may hold the statement's parameters. To be raised outside the handler."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = _name(cause)
    family = _family(name)
    if family in _STAYS:
        return TokenStorageError(f"the token database failed ({name}): {_STAYS[family]}")
    if family in _PASSES:
        return StorageUnavailable(f"the token database is not available ({name}): {_PASSES[family]}; try again later")
    return StorageUnavailable(f"the token database is not available ({name or type(error).__name__}); try again later")


def concerns_one_row(error: sqlite3.Error) -> bool:
    """Whether other rows of the same batch may well be written: this one is too large for the disk or against a constraint."""
    return _family(_name(error)) in _OF_ONE_ROW


def _name(error: BaseException | None) -> str:
    name: str = getattr(error, "sqlite_errorname", "")
    return name


def _family(name: str) -> str:
    return "_".join(name.split("_")[:2])  # SQLITE_IOERR_WRITE is an SQLITE_IOERR
