"""What the errors of MariaDB and MySQL mean, whichever library raised them."""

from __future__ import annotations

from typing import Final

from pauth.errors import ConfigurationError, StorageUnavailable, TokenStorageError
from pauth.storage.sql.driver import Fault
from pauth.storage.sql.mysql_links import TooLarge

__all__ = ["fault_for"]

_CONFIGURATION: Final = {
    1044: "this user may not use the database in the URL",
    1045: "the user name or the password in the URL is not accepted",
    1049: "there is no such database; make it, or name another in the URL",
    1046: "the URL names no database",
    1054: "its pauth_ tables lack a column; they are another program's or half migrated",
    1142: "this user lacks a right on the pauth_ tables, or the right to make them",
    1146: "a pauth_ table is missing; remove the row in pauth_schema to have it made again",
    1251: "the library cannot log in the way the server wants",
    1290: "it is read-only, a replica for example; name the primary in the URL",
    1698: "the user in the URL may not log in with a password",
    1792: "it is read-only, a replica for example; name the primary in the URL",
    1836: "it is read-only, a replica for example; name the primary in the URL",
}
_PASSES: Final = frozenset({1020, 1205, 1213, 3058, 3572})
"""Changed since it was read, lock wait timeout, deadlock, user lock deadlock, NOWAIT."""

_MET: Final = 1062
"""Somebody else inserted the row between our look and our insertion: look again."""

_ONE_ROW: Final = {
    1114: "its table is full",
    1118: "the record is too large for it",
    1153: "the record is larger than the server's max_allowed_packet",
    1264: "a number is out of range",
    1301: "the record is larger than the server's max_allowed_packet",
    1406: "the record is too large for it",
    1534: "the record is too large for its binary log",
}
_THERE: Final = frozenset({1050, 1061, 1062})
_UNAVAILABLE: Final = frozenset({1021, 1030, 1037, 1038, 1040, 1041, 1129, 1180, 1203, 1226})
"""Disk full, engine error, out of memory, too many connections and the like."""

_LOST: Final = frozenset({0, 1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031})
_MAY: Final = "what it was asked to do may have happened; try again later"


def fault_for(error: Exception) -> Fault:
    """What an error means. Nothing of its own text is kept: it holds the statement's values."""
    if "certificate verify failed" in str(error):
        return Fault(ConfigurationError("the token database's certificate is not trusted; name the one to trust in the URL: ?ssl_ca=/path"))
    code = 1153 if isinstance(error, TooLarge) else _code(error)
    if code in _PASSES or code == _MET:
        unavailable = StorageUnavailable(f"the token database is not available ({code}): other transactions were at work on the same rows; try again")
        return Fault(unavailable, passes=True, there_already=code in _THERE)
    if code in _CONFIGURATION:
        return Fault(ConfigurationError(f"the token database cannot be used ({code}): {_CONFIGURATION[code]}"), no_table=code == 1146)
    if code in _ONE_ROW:
        return Fault(TokenStorageError(f"the token database refused the record ({code}): {_ONE_ROW[code]}"), of_one_row=True)
    if code in _UNAVAILABLE:
        return Fault(StorageUnavailable(f"the token database is not available ({code}); try again later"))
    if code > 0 and code not in _LOST and not 2000 <= code < 3000:
        return Fault(TokenStorageError(f"the token database failed ({code})"), there_already=code in _THERE)
    if isinstance(error, TypeError | ValueError):
        return Fault(ConfigurationError("the token database's URL has an option that its library does not know, or a value it cannot use"))
    return Fault(
        StorageUnavailable(f"the token database is not available ({code or type(error).__name__}): the connection failed or was lost; {_MAY}"),
        lost=True,
    )


def _code(error: BaseException) -> int:
    """The server's number, which SQLAlchemy hides one or two layers down; 0 where there is none."""
    layer: BaseException | None = error
    while layer is not None:
        if layer.args and isinstance(layer.args[0], int) and not isinstance(layer, OSError):
            return layer.args[0]
        layer = getattr(layer, "orig", None) or layer.__cause__
    return 0
