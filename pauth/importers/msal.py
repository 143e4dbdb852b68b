"""The token cache of MSAL: what ``SerializableTokenCache.serialize()`` gave (msal 1.39).

It is one JSON object of five: access tokens (one for each set of scopes, those that have expired dropped when they are looked for), refresh tokens,
ID tokens, accounts, and facts about applications. What belongs together has the same ``home_account_id``, ``environment`` and ``client_id``; times
are seconds since the Unix epoch, in digits.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, cast

from pauth.core.token import is_token_text, known_token_type
from pauth.importers.entries import Entry, FoundToken, Problem, Skipped, TokenData, build_token, json_object, moment, scopes_in, user_id_of

__all__ = ["MsalUserId", "from_msal"]

MsalUserId: TypeAlias = Literal["home_account_id", "local_account_id", "username", "sub"]

_PUBLIC_CLOUD: Final = frozenset({"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"})
"""Names of one service. MSAL writes into the cache whichever the application has used; the endpoints are at the first."""

_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
_TENANT: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")

_Members: TypeAlias = Mapping[str, Any]


@dataclass(slots=True, repr=False)
class _Group:
    """What the cache holds of one account for the application."""

    where: str
    access: list[_Members] = field(default_factory=list[_Members])
    refresh: list[_Members] = field(default_factory=list[_Members])
    ids: list[_Members] = field(default_factory=list[_Members])
    account: _Members = field(default_factory=dict[str, Any])


def from_msal(cache: TokenData, *, client_id: str, user_id: MsalUserId = "home_account_id") -> Iterator[Entry]:
    """The tokens of each account in an MSAL cache, by user.

    pauth keeps one token of a user and client: of several access tokens the one that lasts longest is taken. Scopes of the others are not lost: they
    belong to the grant, and a refresh token asks for all of it.

    :param cache: the text that ``SerializableTokenCache.serialize()`` gave, or its dict.
    :param client_id: the application whose tokens are wanted; a cache may hold those of several.
    :param user_id: what users shall be known by: MSAL's ``home_account_id`` (the default), ``local_account_id`` or ``username`` of the account; or
        the ``sub`` of the ID token, which is what a login through pauth knows them by when the program names no user.
    """
    document = json_object(cache)
    del cache
    if isinstance(document, str):
        yield Problem("the cache", document)
        return
    groups: dict[tuple[str, str], _Group] = {}
    for kind, collect in (("AccessToken", "access"), ("RefreshToken", "refresh"), ("IdToken", "ids")):
        for where, entry in _entries(document, kind):
            if isinstance(entry, str):
                yield Problem(where, entry)
                continue
            key = _key(entry)
            if entry.get("client_id") != client_id:
                yield Skipped(where, "it belongs to another client_id")
            elif key is None:
                yield Skipped(where, "it belongs to the application, not to a user; get_client_token gets another one")
            else:
                getattr(groups.setdefault(key, _Group(where)), collect).append(entry)
    for where, entry in _entries(document, "Account"):
        if isinstance(entry, str):
            yield Problem(where, entry)
        elif (key := _key(entry)) is not None and key in groups:
            groups[key].account = entry
    for (_, environment), group in groups.items():
        yield from _read_group(group, environment, user_id)


def _entries(document: _Members, kind: str) -> Iterator[tuple[str, _Members | str]]:
    """The entries of one kind, each with its place; a ``str`` says what is wrong with one."""
    section: object = document.get(kind)
    if section is None:
        return
    if not isinstance(section, Mapping):
        yield kind, "it is no JSON object"
        return
    for number, entry in enumerate(cast("Mapping[str, object]", section).values(), 1):
        yield f"{kind} {number}", cast("_Members", entry) if isinstance(entry, Mapping) else "it is no JSON object"


def _key(entry: _Members) -> tuple[str, str] | None:
    """What entries that belong together have in common; ``None`` for those of no account."""
    account, environment = entry.get("home_account_id"), entry.get("environment")
    return (account, environment.lower()) if isinstance(account, str) and account and isinstance(environment, str) else None


def _read_group(group: _Group, environment: str, user_id: MsalUserId) -> Iterator[Entry]:
    usable = [entry for entry in group.access if _usable(entry)]
    access, *others = sorted(usable, key=lambda entry: moment(entry.get("expires_on")) or 0.0, reverse=True) or [cast("_Members", {})]
    refresh, *older = sorted(group.refresh, key=lambda entry: moment(entry.get("last_modification_time")) or 0.0, reverse=True) or [
        cast("_Members", {})
    ]
    whose = _user_id(group, user_id)
    if whose is None:
        yield Problem(group.where, f"its account has no {user_id} that can be a user id; choose another one with user_id=")
        return
    endpoint = _endpoint(environment, access.get("realm"))
    token = (
        "its environment is no host name"
        if endpoint is None
        else build_token(
            access_token=access.get("secret"),
            refresh_token=refresh.get("secret"),
            id_token=next((entry.get("secret") for entry in group.ids), None),
            scope=scopes_in(access.get("target") or refresh.get("target")),
            issued_at=moment(access.get("cached_at")),
            expires_at=moment(access.get("expires_on")),
            token_endpoint=endpoint,
        )
    )
    yield Problem(group.where, token, whose) if isinstance(token, str) else FoundToken(group.where, whose, token)
    for _ in others:
        yield Skipped(group.where, "a further access token of the same account; its scopes belong to the same grant", whose)
    for _ in older:
        yield Skipped(group.where, "an older refresh token of the same account", whose)
    for entry in group.access:
        if not _usable(entry):
            yield Skipped(group.where, "an access token that is no Bearer token, or no text; a refresh token gets another one", whose)


def _usable(entry: _Members) -> bool:
    return is_token_text(entry.get("secret")) and known_token_type(entry.get("token_type", "Bearer")) == "Bearer"


def _user_id(group: _Group, wanted: MsalUserId) -> str | None:
    if wanted == "sub":
        return next((found for entry in group.ids if (found := _subject(entry.get("secret"))) is not None), None)
    if wanted == "home_account_id":
        entries = [*group.access, *group.refresh, *group.ids]
        return user_id_of(entries[0].get("home_account_id"))
    return user_id_of(group.account.get(wanted))


def _subject(id_token: object) -> str | None:
    """The subject that an ID token names. It is not verified: it comes from the program's own cache, like everything else there."""
    parts = id_token.split(".") if isinstance(id_token, str) and is_token_text(id_token) else []
    if len(parts) != 3:
        return None
    with suppress(ValueError):
        claims = json_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return None if isinstance(claims, str) else user_id_of(claims.get("sub"))
    return None


def _endpoint(environment: str, tenant: object) -> str | None:
    """The endpoint that the refresh token is for: no other server gets it (MD-4)."""
    if len(environment) > 253 or not _HOST.fullmatch(environment):
        return None
    host = "login.microsoftonline.com" if environment in _PUBLIC_CLOUD else environment
    name = tenant if isinstance(tenant, str) and _TENANT.fullmatch(tenant) else "common"
    return f"https://{host}/{name}/oauth2/v2.0/token"
