"""What every reader of another library's tokens gives: a token with its user, or why there is none.

Nothing here raises because of the data, and no reason holds a piece of it: the data is secret, and it is not ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, TypeAlias, cast

from pauth.core.token import Token, is_token_text, known_token_type, parse_lifetime
from pauth.errors import InvalidUserId
from pauth.secret import Secret
from pauth.storage.base import check_user_id

__all__ = [
    "NO_ACCESS_TOKEN",
    "Entry",
    "FoundToken",
    "Problem",
    "Skipped",
    "TokenData",
    "Tokens",
    "build_token",
    "iso_moment",
    "json_object",
    "kept_members",
    "moment",
    "read_each",
    "scopes_in",
    "user_id_of",
]

NO_ACCESS_TOKEN: Final = "imported-without-access-token"
"""Stands in the place of an access token that a library has thrown away while it kept the refresh token. It expired in 1970, so pauth never hands it
out: the first call refreshes."""

_FARTHEST: Final = 253_402_300_799.0
"""31 December 9999."""


@dataclass(frozen=True, slots=True, repr=False)
class FoundToken:
    """A token that was found, and whose it is."""

    where: str
    """Which part of the source it comes from: ``entry 3``, ``row 17``."""

    user_id: str
    token: Token

    def __repr__(self) -> str:
        return f"<FoundToken {self.where}>"


@dataclass(frozen=True, slots=True)
class Problem:
    """A part of the source that no token could be made of."""

    where: str
    reason: str
    """What is wrong with it, and what can be done. It holds nothing of the source."""

    user_id: str | None = field(default=None, repr=False)
    """Whose it is, where that could be read."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A part of the source that was left out on purpose; nothing is lost by it."""

    where: str
    reason: str
    user_id: str | None = field(default=None, repr=False)


Entry: TypeAlias = FoundToken | Problem | Skipped
"""What a reader gives for each part of its source."""

TokenData: TypeAlias = Mapping[str, Any] | str | bytes
"""One token as its library keeps it: a dict, or the JSON text of one."""

Tokens: TypeAlias = Mapping[str, TokenData] | Iterable[tuple[str | int, TokenData]]
"""Tokens by user id; or pairs of a user id and a token."""


def read_each(tokens: Tokens, read: Callable[[Mapping[str, Any]], Token | str]) -> Iterator[Entry]:
    """One entry for each token of a source.

    :param read: the token in a dict; or, as a ``str``, what is wrong with it.
    """
    if _is_one(tokens):
        yield Problem("the source", "it is one token, and nobody's: say whose it is, {user_id: token}")
        return
    items = cast("Iterable[object]", tokens.items() if isinstance(tokens, Mapping) else tokens)
    for number, item in enumerate(items, 1):
        where = f"entry {number}"
        if not isinstance(item, tuple) or len(cast("tuple[object, ...]", item)) != 2:
            yield Problem(where, "it is no pair of a user id and a token")
            continue
        whose, data = cast("tuple[object, object]", item)
        user_id = user_id_of(whose)
        if user_id is None:
            yield Problem(where, "its user id is empty, too long or no text; nobody could ask for its token")
            continue
        members = json_object(data)
        token = members if isinstance(members, str) else read(members)
        yield Problem(where, token, user_id) if isinstance(token, str) else FoundToken(where, user_id, token)


def _is_one(tokens: object) -> bool:
    return isinstance(tokens, (str, bytes)) or (isinstance(tokens, Mapping) and ("access_token" in tokens or "refresh_token" in tokens))


def user_id_of(value: object) -> str | None:
    """A user id as pauth keeps it: a ``str``, or the digits of an ``int`` (a database's ids). ``None`` if it can be neither."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 256:  # Python does not write integers of any length
        value = str(value)
    with suppress(InvalidUserId):
        return check_user_id(cast("str", value))
    return None


def json_object(data: object) -> Mapping[str, Any] | str:
    """A JSON object that is given as a mapping or as text; or, as a ``str``, what is wrong with it."""
    if isinstance(data, (str, bytes, bytearray)):
        try:
            data = json.loads(data)
        except RecursionError:
            return "its JSON is nested too deeply"
        except ValueError:  # also not UTF-8, or a number of thousands of digits
            return "it is not JSON"
    return cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else "it is no JSON object"


def build_token(
    *,
    access_token: object,
    refresh_token: object = None,
    token_type: object = None,
    id_token: object = None,
    scope: tuple[str, ...] = (),
    scope_assumed: bool = False,
    issued_at: float | None = None,
    expires_at: float | None = None,
    refresh_token_expires_at: float | None = None,
    token_endpoint: str | None = None,
    subject: object = None,
    extra: Mapping[str, Any] | None = None,
) -> Token | str:
    """The token that another library's members make; or, as a ``str``, what is wrong with them."""
    if refresh_token in (None, ""):
        refresh_token = None
    elif not is_token_text(refresh_token):
        return "its refresh token is no text, or has characters that no token has"
    if access_token in (None, ""):
        if refresh_token is None:
            return "it has neither an access token nor a refresh token"
        access_token, issued_at, expires_at = NO_ACCESS_TOKEN, 0.0, 0.0
    elif not is_token_text(access_token):
        return "its access token is no text, or has characters that no token has"
    kind = "Bearer" if token_type in (None, "") else known_token_type(token_type)
    if kind is None:
        return "its token_type is neither Bearer nor DPoP; if its server means Bearer by it, write Bearer"
    return Token(
        access_token=Secret(cast("str", access_token)),
        token_type=kind,
        refresh_token=None if refresh_token is None else Secret(cast("str", refresh_token)),
        id_token=Secret(cast("str", id_token)) if is_token_text(id_token) else None,
        scope=scope,
        scope_assumed=scope_assumed,
        issued_at=issued_at or 0.0,
        expires_at=expires_at,
        refresh_token_expires_at=refresh_token_expires_at,
        token_endpoint=token_endpoint,
        subject=subject if isinstance(subject, str) and subject else None,
        extra=MappingProxyType(dict(extra or {})),
    )


def moment(value: object) -> float | None:
    """A point in time, in seconds since the Unix epoch, that is given as a number or in digits; ``None`` for anything else."""
    if isinstance(value, str):
        if len(value) > 32 or not value.isascii() or not value.replace(".", "", 1).isdigit():
            return None
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _FARTHEST:
        return None
    return float(value)


def iso_moment(value: object) -> float | None:
    """A point in time that is given as ISO 8601 names it, in UTC unless it says otherwise; ``None`` for anything else."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    return moment((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()) if isinstance(value, datetime) else None


def scopes_in(value: object) -> tuple[str, ...]:
    """Scopes that are given as text or as a list. A text that has commas and no space is split at its commas, as GitHub and Facebook write it."""
    if isinstance(value, str):
        return tuple(value.split() if " " in value.strip() else value.replace(",", " ").split())
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(scope for text in cast("Iterable[object]", value) if isinstance(text, str) for scope in text.split())
    return ()


def kept_members(members: Mapping[str, Any], keep: Iterable[str]) -> dict[str, Any] | None:
    """Those of ``members`` that go into :attr:`.Token.extra`, as JSON has them; ``None`` if one of them is not JSON."""
    kept = {name: members[name] for name in keep if members.get(name) is not None}
    try:
        return cast("dict[str, Any]", json.loads(json.dumps(kept, allow_nan=False)))
    except (TypeError, ValueError, RecursionError):
        return None


def lifetime_of(members: Mapping[str, Any], names: Iterable[str]) -> float | None:
    """The first lifetime, in seconds, that one of these members names."""
    return next((found for name in names if (found := parse_lifetime(members.get(name))) is not None), None)
