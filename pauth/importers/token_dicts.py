"""Token dicts: what Authlib and requests-oauthlib give to their callers to keep.

Both keep the members of the token response and add ``expires_at``, in seconds since the Unix epoch (Authlib 1.9, requests-oauthlib 2.0 with
oauthlib 4.0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

from pauth.core.token import Token
from pauth.importers.entries import Entry, Tokens, build_token, kept_members, lifetime_of, moment, read_each, scopes_in

__all__ = ["from_authlib", "from_requests_oauthlib", "read_token_dict"]

_REFRESH_LIFETIMES: Final = ("refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in")
"""How servers name the lifetime of a refresh token: GitHub and LinkedIn, Keycloak, Intuit."""


def from_authlib(tokens: Tokens, *, keep: Sequence[str] = ()) -> Iterator[Entry]:
    """The tokens that Authlib's ``fetch_token``, ``authorize_access_token`` or ``update_token`` gave, by user.

    :param tokens: a dict (or its JSON text) for each user id, or pairs of the two.
    :param keep: further members of the token response to keep, in :attr:`.Token.extra`.
    """
    return read_each(tokens, partial(read_token_dict, keep=keep))


def from_requests_oauthlib(tokens: Tokens, *, keep: Sequence[str] = ()) -> Iterator[Entry]:
    """The tokens that the ``fetch_token``, ``refresh_token`` or ``token_updater`` of requests-oauthlib gave, by user.

    :param tokens: a dict (or its JSON text) for each user id, or pairs of the two.
    :param keep: further members of the token response to keep, in :attr:`.Token.extra`.
    """
    return read_each(tokens, partial(read_token_dict, keep=keep))


def read_token_dict(members: Mapping[str, Any], *, keep: Sequence[str] = (), issued_at: float | None = None) -> Token | str:
    """The token in a dict of a token response's members with ``expires_at``; or, as a ``str``, what is wrong with it.

    :param issued_at: when it was obtained, if that is known; else it is what ``expires_at`` and ``expires_in`` make of it.
    """
    lifetime, expires_at = lifetime_of(members, ["expires_in"]), moment(members.get("expires_at"))
    if expires_at is None and issued_at is not None and lifetime is not None:
        expires_at = issued_at + lifetime
    if issued_at is None and expires_at is not None and lifetime is not None:
        issued_at = max(0.0, expires_at - lifetime)
    refresh_token_expires_at = moment(members.get("refresh_token_expires_at"))
    refresh_lifetime = lifetime_of(members, _REFRESH_LIFETIMES)
    if refresh_token_expires_at is None and issued_at is not None and refresh_lifetime:
        refresh_token_expires_at = issued_at + refresh_lifetime  # 0 says "with the session" to some, "never" to others: nothing
    extra = kept_members(members, keep)
    if extra is None:
        return "one of the members to keep is not JSON"
    userinfo: object = members.get("userinfo")  # Authlib: the claims of the ID token, which it has validated
    return build_token(
        access_token=members.get("access_token"),
        refresh_token=members.get("refresh_token"),
        token_type=members.get("token_type"),
        id_token=members.get("id_token"),
        scope=scopes_in(members.get("scope")),
        issued_at=issued_at,
        expires_at=expires_at,
        refresh_token_expires_at=refresh_token_expires_at,
        subject=cast("Mapping[str, Any]", userinfo).get("sub") if isinstance(userinfo, Mapping) else None,
        extra=extra,
    )
