"""Token files of the MCP SDK and of FastMCP (mcp 2.3, fastmcp 2.6 to 4.2).

The SDK's ``OAuthToken`` says how long a token lives and not since when; programs that keep it write the time beside it in their own ways:

===============================================  ==========================================================================================
the token itself                                 ``OAuthToken.model_dump_json()``; no time
``{"tokens": {…}}``                              how many programs keep tokens and client registration in one file
``{"token_payload": {…}, "expires_at": …}``      FastMCP 2.6 to 2.12, ``…_tokens.json``; since 2.11 as ``{"data": {…}, "timestamp": …}``
``{"value": {…}, "created_at": …}``              FastMCP since 2.13 with a ``FileTreeStore`` of py-key-value
===============================================  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final, cast

from pauth.core.token import Token
from pauth.importers.entries import Entry, Tokens, iso_moment, moment, read_each
from pauth.importers.token_dicts import read_token_dict

__all__ = ["from_mcp"]

_INNER: Final = ("data", "value", "tokens", "token_payload")
_LEVELS: Final = 3
_ISSUED: Final = ("issued_at", "created_at", "timestamp")


def from_mcp(files: Tokens, *, saved_at: float | None = None) -> Iterator[Entry]:
    """The tokens in files of the MCP SDK or FastMCP, by user.

    The files of one MCP server, and of one client registration there: both are what a client of pauth is made of, and so the namespace of the import.

    :param files: the text of a file (or its dict) for each user id, or pairs of the two.
    :param saved_at: when they were written, in seconds since the Unix epoch (a file's modification time), for files that do not say. If nobody
        knows, the first :meth:`~pauth.OAuth2Client.get_token` tries a refresh.
    """
    return read_each(files, partial(_read, saved_at=saved_at))


def _read(members: Mapping[str, Any], *, saved_at: float | None) -> Token | str:
    issued_at = expires_at = None
    for _ in range(_LEVELS):
        if "__encrypted_data__" in members:
            return "it is encrypted by py-key-value; read it with the FernetEncryptionWrapper that wrote it, and import what that gives"
        issued_at = _time(members, *_ISSUED) or issued_at
        if "value" not in members:  # else it is when py-key-value drops the file, a year later
            expires_at = _time(members, "expires_at") or expires_at
        inner = next((members[name] for name in _INNER if isinstance(members.get(name), Mapping)), None)
        if inner is None:
            break
        members = cast("Mapping[str, Any]", inner)
    if issued_at is None and expires_at is None:
        issued_at = saved_at
    return read_token_dict({**members, "expires_at": expires_at}, issued_at=issued_at)


def _time(members: Mapping[str, Any], *names: str) -> float | None:
    values = [members.get(name) for name in names]
    return next((found for value in values for found in (moment(value), iso_moment(value)) if found is not None), None)
