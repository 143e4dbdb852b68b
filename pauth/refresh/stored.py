"""What stands in a record: a token, and the state of the grant behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pauth.core.token import Token, token_from_dict, token_to_dict

__all__ = ["StoredGrant", "read_grant", "write_grant"]

_ENDED: Final = "grant_ended"


@dataclass(frozen=True, slots=True)
class StoredGrant:
    """A token and, once its grant cannot be used any more, the reason."""

    token: Token
    ended: str | None = None
    """Why no token of it is handed out: ``invalid_grant`` (the server refused the refresh token) or ``revoked`` (a revocation is under way)."""


def read_grant(tokens: Mapping[str, Any]) -> StoredGrant:
    """The grant in a record's ``tokens``, also one that another library wrote.

    :raises UnsupportedRecord: there is no usable token in it.
    """
    ended = tokens.get(_ENDED)
    try:
        token = token_from_dict(tokens)
    finally:
        del tokens  # SH-5
    return StoredGrant(token, None if ended is None else str(ended))


def write_grant(grant: StoredGrant) -> dict[str, Any]:
    """The ``tokens`` of a record for ``grant``; what :func:`read_grant` reads."""
    tokens = token_to_dict(grant.token)
    if grant.ended is not None:
        tokens[_ENDED] = grant.ended
    return tokens
