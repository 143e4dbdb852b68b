"""What PostgreSQL's errors mean, whichever library raised them."""

from __future__ import annotations

import ssl
from typing import Final

from pauth.errors import ConfigurationError, StorageUnavailable, TokenStorageError
from pauth.storage.sql.driver import Fault

__all__ = ["fault_for"]

_CONFIGURATION: Final = {
    "28P01": "the user name or the password in the URL is not accepted",
    "28000": "this user may not connect; look at the URL and the server's pg_hba.conf",
    "3D000": "there is no such database; make it, or name another in the URL",
    "3F000": "there is no schema to make tables in; look at the user's search_path",
    "42501": "this user lacks a right on the pauth_ tables, or the right to make them",
    "26000": "prepared statements are lost between transactions, as behind a pooling proxy: add ?prepared_statement_cache_size=0 to the URL",
    "42P05": "prepared statements collide, as behind a pooling proxy: add ?prepared_statement_cache_size=0 to the URL",
    "42703": "its pauth_ tables lack a column; they are another program's or half migrated",
    "42804": "its pauth_ tables have columns of other types; they are another program's or half migrated",
    "25006": "it is read-only, a replica for example; name the primary in the URL",
    "42P01": "a pauth_ table is missing; remove the row in pauth_schema to have it made again",
}
_PASSES: Final = {
    "40001": "other transactions were at work on the same rows",
    "40P01": "other transactions were at work on the same rows",
    "55P03": "other transactions were at work on the same rows",
}
_ONE_ROW: Final = {
    "53100": "its disk is full; what was stored is unharmed",
    "53200": "it is out of memory",
    "54000": "the record is too large for it",
    "54P01": "the record is too large for it",
}
_ONE_ROW_CLASSES: Final = ("22", "23", "54")
_THERE: Final = frozenset({"42P07", "42710", "23505"})  # 23505: another session made it in the same moment
_LOST_CLASSES: Final = ("08", "57P")
_MAY: Final = "what it was asked to do may have happened; try again later"


def fault_for(error: Exception) -> Fault:
    """What an error means. Nothing of its own text is kept: it may hold parameters."""
    state = _state(error)
    if state in _PASSES:
        return Fault(StorageUnavailable(f"the token database is not available ({state}): {_PASSES[state]}; try again"), passes=True)
    if state in _CONFIGURATION:
        configuration = ConfigurationError(f"the token database cannot be used ({state}): {_CONFIGURATION[state]}")
        return Fault(configuration, no_table=state == "42P01")
    if state in _ONE_ROW or state[:2] in _ONE_ROW_CLASSES:
        text = f"the token database refused the record ({state}): {_ONE_ROW.get(state, 'it is against a rule of the table')}"
        failure = StorageUnavailable(text) if state[:2] == "53" else TokenStorageError(text)
        return Fault(failure, of_one_row=True, there_already=state in _THERE)
    if state in _THERE:
        return Fault(TokenStorageError(f"the token database failed ({state})"), there_already=True)
    if state and not state.startswith(_LOST_CLASSES):
        if state[:2] in ("53", "55", "57", "58"):
            return Fault(StorageUnavailable(f"the token database is not available ({state}); try again later"))
        return Fault(TokenStorageError(f"the token database failed ({state})"))
    if isinstance(error, ssl.SSLCertVerificationError) or "certificate verify failed" in str(error):
        return Fault(ConfigurationError("the token database's certificate is not trusted; name the one to trust: ?sslrootcert=/path in the URL"))
    if _means_options(error):
        return Fault(ConfigurationError("the token database's URL has an option that its library does not know, or a value it cannot use"))
    return Fault(
        StorageUnavailable(f"the token database is not available ({state or type(error).__name__}): the connection failed or was lost; {_MAY}"),
        lost=True,
    )


def _state(error: BaseException) -> str:
    """The SQLSTATE, which SQLAlchemy hides one or two layers down; psycopg gives none for a failed login."""
    layer: BaseException | None = error
    while layer is not None:
        state = getattr(layer, "sqlstate", None)
        if isinstance(state, str):
            return state
        layer = getattr(layer, "orig", None) or layer.__cause__
    text = str(error)
    if "password authentication failed" in text or "no password supplied" in text:
        return "28P01"
    if "does not exist" in text and "database" in text:
        return "3D000"
    return ""


def _means_options(error: Exception) -> bool:
    return isinstance(error, TypeError | ValueError) or (type(error).__name__ in ("ProgrammingError", "ClientConfigurationError"))
