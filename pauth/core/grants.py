"""The token endpoint: requests are built here and its answers are read here, for the grants that pauth uses.

Revocation and userinfo have modules of their own and are named here too, so that whoever composes the protocol finds all of it in one place.
A secret is never a local variable of a frame that raises (SH-5): parameters are generators, and answers are read in functions that return errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

from pauth.core.answers import ServerError, read_answer
from pauth.core.authorization import AuthorizationResponse
from pauth.core.client_auth import ClientAuth
from pauth.core.forms import authenticated_form
from pauth.core.quirks import Quirks, RefreshStyle, find_member
from pauth.core.revocation import build_revocation_requests, parse_revocation_response
from pauth.core.token import Token, is_token_text, known_token_type, parse_lifetime, was_issued_by
from pauth.core.userinfo import UserInfo, build_userinfo_request, parse_userinfo_response
from pauth.core.wire import HTTPRequest, HTTPResponse
from pauth.errors import AuthorizationError, MalformedResponse, PAuthError, ReauthorizationRequired, Remedy, TokenError
from pauth.secret import Secret

__all__ = [
    "UserInfo",
    "build_client_credentials_request",
    "build_code_request",
    "build_refresh_request",
    "build_revocation_requests",
    "build_userinfo_request",
    "can_refresh",
    "parse_revocation_response",
    "parse_token_response",
    "parse_userinfo_response",
]

# --- Requests ---------------------------------------------------------------------------------------------------------------------------------------


def build_code_request(
    *,
    token_endpoint: str,
    response: AuthorizationResponse,
    client_id: str,
    client_secret: Secret | None,
    client_auth: ClientAuth,
    quirks: Quirks,
) -> HTTPRequest:
    """The request that exchanges an authorization code (RFC 6749 section 4.1.3, RFC 7636 section 4.5). Send it once, whatever happens (AX-12).

    :raises AuthorizationError: the login was started for another token endpoint or client; the code and verifier go nowhere else (MX-1, PK-2).
    :raises ConfigurationError: client id, secret and authentication method do not fit together.
    """
    del quirks  # none of the known providers deviates here; the parameter keeps the family of functions alike
    request = response.request
    if request.token_endpoint != token_endpoint or request.client_id != client_id:
        raise AuthorizationError("the token endpoint or client_id has changed since this login was started, so its code is not sent; log in again")
    return authenticated_form(token_endpoint, _code_pairs(response), client_id=client_id, client_secret=client_secret, client_auth=client_auth)


def _code_pairs(response: AuthorizationResponse) -> Iterator[tuple[str, str]]:
    request = response.request
    yield "grant_type", "authorization_code"
    yield "code", response.code.reveal()
    if request.redirect_uri is not None:
        yield "redirect_uri", request.redirect_uri
    if request.code_verifier is not None:
        yield "code_verifier", request.code_verifier.reveal()
    for resource in request.resource:
        yield "resource", resource


def can_refresh(token: Token, quirks: Quirks) -> bool:
    """Whether there is something in ``token`` that a refresh request could send."""
    return token.refresh_token is not None or quirks.refresh_style is RefreshStyle.FB_EXCHANGE_TOKEN


def build_refresh_request(
    *,
    token_endpoint: str,
    token: Token,
    client_id: str,
    client_secret: Secret | None,
    client_auth: ClientAuth,
    quirks: Quirks,
    scope: Sequence[str] = (),
    resource: Sequence[str] = (),
    issuer: str | None = None,
) -> HTTPRequest:
    """The request that refreshes ``token`` (RFC 6749 section 6).

    :param scope: ask for these only; none asks for what was granted.
    :param issuer: the issuer of the server behind ``token_endpoint``, where it has one.
    :raises ReauthorizationRequired: ``no_refresh_token``; or ``issuer_changed``: the token came from another issuer, or from an endpoint of another
        origin, and is not sent here (MD-4).
    :raises ConfigurationError: client id, secret and authentication method do not fit together.
    """
    if not was_issued_by(token, token_endpoint=token_endpoint, issuer=issuer):
        raise ReauthorizationRequired(
            "the stored refresh token was issued by another server than the one configured now, so it is not sent there; log in again",
            reason="issuer_changed",
        )
    if not can_refresh(token, quirks):
        raise ReauthorizationRequired("the server gave no refresh token with this access token; log in again", reason="no_refresh_token")
    pairs = _refresh_pairs(token, quirks, scope, resource)
    return authenticated_form(token_endpoint, pairs, client_id=client_id, client_secret=client_secret, client_auth=client_auth)


def _refresh_pairs(token: Token, quirks: Quirks, scope: Sequence[str], resource: Sequence[str]) -> Iterator[tuple[str, str]]:
    if quirks.refresh_style is RefreshStyle.FB_EXCHANGE_TOKEN:
        yield "grant_type", "fb_exchange_token"
        yield "fb_exchange_token", token.access_token.reveal()
        return
    yield "grant_type", "refresh_token"
    yield "refresh_token", cast("Secret", token.refresh_token).reveal()
    yield from _scope_pairs(quirks, scope, resource)


def build_client_credentials_request(
    *,
    token_endpoint: str,
    client_id: str,
    client_secret: Secret | None,
    client_auth: ClientAuth,
    quirks: Quirks,
    scope: Sequence[str] = (),
    resource: Sequence[str] = (),
) -> HTTPRequest:
    """The request for a token of the client itself (RFC 6749 section 4.4.2).

    :raises ConfigurationError: client id, secret and authentication method do not fit together.
    """
    pairs = _client_pairs(quirks, scope, resource)
    return authenticated_form(token_endpoint, pairs, client_id=client_id, client_secret=client_secret, client_auth=client_auth)


def _client_pairs(quirks: Quirks, scope: Sequence[str], resource: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "grant_type", "client_credentials"
    yield from _scope_pairs(quirks, scope, resource)


def _scope_pairs(quirks: Quirks, scope: Sequence[str], resource: Sequence[str]) -> Iterator[tuple[str, str]]:
    if scope:
        yield "scope", quirks.scope_separator.join(scope)
    for target in resource:  # RFC 8707 section 2.2: may repeat
        yield "resource", target


# --- The token response -----------------------------------------------------------------------------------------------------------------------------


def parse_token_response(
    response: HTTPResponse,
    *,
    quirks: Quirks,
    requested_scope: Sequence[str],
    issuer: str | None,
    token_endpoint: str,
    now: float,
    previous: Token | None = None,
    secrets: Iterable[Secret] = (),
) -> Token:
    """The token in an answer of the token endpoint (RFC 6749 sections 5.1, 5.2 and 6).

    Strict about what makes the token usable; members that only inform (``expires_in``, ``scope``, ``id_token``) are taken as missing when they make
    no sense, so that a rotated refresh token is never lost over them. Unknown members are ignored (TE-12).

    :param requested_scope: the scopes of the request; none on a refresh means the scopes of ``previous``.
    :param issuer: the server's issuer, noted in the token.
    :param now: the present, in seconds since the Unix epoch, for ``Retry-After``. Expiry counts from :attr:`HTTPResponse.requested_at` (TE-11).
    :param previous: the token that was refreshed; what the answer leaves out is taken from it (TE-13).
    :param secrets: what the request carried, to be masked if the server repeats it (SH-9).
    :raises ReauthorizationRequired: ``invalid_grant`` on a refresh.
    :raises TokenError: the server stated another error, or ``invalid_grant`` for a code (then the remedy is to log in again).
    :raises ProviderUnavailable: 408, 425, 429, 5xx, or an error code that means "later".
    :raises MalformedResponse: the answer is not what the protocol allows.
    """
    answer = read_answer(response, endpoint="token endpoint", quirks=quirks, now=now, secrets=secrets)
    if isinstance(answer, PAuthError):
        raise answer
    if isinstance(answer, ServerError):
        raise _refusal(answer, response.status, quirks, refreshing=previous is not None)
    token = _read_token(answer, response, quirks, tuple(requested_scope), issuer, token_endpoint, previous)
    del answer
    if isinstance(token, str):
        raise MalformedResponse(f"the token endpoint's answer cannot be used: {token}; check its URL", status=response.status)
    return token


def _read_token(
    document: dict[str, Any],
    response: HTTPResponse,
    quirks: Quirks,
    requested_scope: tuple[str, ...],
    issuer: str | None,
    token_endpoint: str,
    previous: Token | None,
) -> Token | str:
    members = _token_members(document, quirks)
    access_token = members.get("access_token")
    if not is_token_text(access_token):
        return "it has no access_token, or one that is not visible ASCII text of at most 64 KiB (RFC 6749 section 5.1)"
    token_type = _token_type(members.get("token_type"), quirks, previous)
    if token_type is None:
        return "its token_type is missing or not one that pauth can use (Bearer, DPoP)"
    refresh_token, refresh_token_expires_at = _refresh_token(members, response.requested_at, quirks, previous)
    scope, scope_assumed = _scope(members.get("scope"), quirks, requested_scope, previous)
    lifetime = parse_lifetime(members.get("expires_in"), zero_is_forever=quirks.zero_lifetime_is_forever)
    id_token = members.get("id_token")
    return Token(
        access_token=Secret(cast("str", access_token)),
        token_type=token_type,
        refresh_token=refresh_token,
        id_token=Secret(cast("str", id_token)) if is_token_text(id_token) else (None if previous is None else previous.id_token),
        scope=scope,
        scope_assumed=scope_assumed,
        issued_at=response.requested_at,
        expires_at=None if lifetime is None else response.requested_at + lifetime,
        refresh_token_expires_at=refresh_token_expires_at,
        issuer=issuer,
        token_endpoint=token_endpoint,
        subject=None if previous is None else previous.subject,
        extra=_kept(document, quirks, previous),
    )


def _token_members(document: dict[str, Any], quirks: Quirks) -> Mapping[str, Any]:
    for path in quirks.token_paths:
        node = find_member(document, path)
        if isinstance(node, dict) and "access_token" in node:
            return cast("dict[str, Any]", node)
    return {}


def _token_type(value: object, quirks: Quirks, previous: Token | None) -> str | None:
    if value is None:
        # A refresh that does not repeat the type has not changed it; losing the rotated refresh token over that would cost the user the grant.
        return quirks.default_token_type if previous is None else previous.token_type
    if value in quirks.token_type_aliases:
        return "Bearer"
    return known_token_type(value)


def _refresh_token(members: Mapping[str, Any], requested_at: float, quirks: Quirks, previous: Token | None) -> tuple[Secret | None, float | None]:
    value = members.get("refresh_token")
    new = Secret(value) if isinstance(value, str) and is_token_text(value) else None
    old = None if previous is None else previous.refresh_token
    for name in quirks.refresh_lifetime_members:
        lifetime = parse_lifetime(members.get(name))
        if lifetime is not None:
            return new or old, requested_at + lifetime
    # The old token's expiry says nothing about a new one; it still holds if the token stays.
    stays = previous is not None and (new is None or new == old)
    return new or old, previous.refresh_token_expires_at if previous is not None and stays else None


def _scope(value: object, quirks: Quirks, requested: tuple[str, ...], previous: Token | None) -> tuple[tuple[str, ...], bool]:
    """The granted scopes, and whether they are assumed because the server did not name them (TE-9, RFC 6749 sections 3.3 and 6)."""
    if isinstance(value, str):
        for separator in quirks.response_scope_separators:
            value = value.replace(separator, " ")
        return tuple(value.split()), False
    if isinstance(value, list):  # some servers send an array
        items = cast("list[object]", value)
        if all(isinstance(item, str) for item in items):
            return tuple(" ".join(cast("list[str]", items)).split()), False
    if previous is not None and not requested:
        return previous.scope, previous.scope_assumed
    return requested, True


def _kept(document: dict[str, Any], quirks: Quirks, previous: Token | None) -> Mapping[str, Any]:
    kept: dict[str, Any] = {} if previous is None else dict(previous.extra)
    for path in quirks.kept_members:
        value = find_member(document, path)
        if value is not None:
            kept[".".join(path)] = value
    return MappingProxyType(kept)


# --- Errors of the token endpoint -------------------------------------------------------------------------------------------------------------------

_ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "invalid_client": "check client_id, client_secret and the client authentication method",
        "unauthorized_client": "this client may not use this grant; check its registration",
        "unsupported_grant_type": "the server does not know this grant; check the token endpoint",
        "invalid_scope": "a scope is unknown to the server or more than the user granted; check the scopes",
        "invalid_target": "the server does not issue tokens for this resource; check the resource parameter",
    }
)
_LOG_IN_AGAIN: Final = frozenset({"interaction_required", "login_required", "consent_required", "account_selection_required"})
"""The server wants to see the user (OpenID Connect Core section 3.1.2.6); Microsoft answers a refresh with them. The grant may still be alive."""


def _refusal(error: ServerError, status: int, quirks: Quirks, *, refreshing: bool) -> PAuthError:
    """The error for a stated refusal (TE-8)."""
    said = f"{error.code} (HTTP {status})"
    if error.code == "invalid_grant" or any(pattern.matches(error.code, error.description) for pattern in quirks.dead_grants):
        if refreshing:
            message = f"the server no longer accepts the refresh token: {said}; log in again"
            return ReauthorizationRequired(message, reason="invalid_grant", error=error.code, status=status)
        advice, remedy = "the authorization code is expired, used already or meant for another request; log in again", Remedy.LOG_IN_AGAIN
    elif error.code in _LOG_IN_AGAIN and refreshing:
        message = f"the server wants to see the user: {said}; log in again"
        return ReauthorizationRequired(message, reason=error.code, error=error.code, status=status)
    elif error.code in _LOG_IN_AGAIN:
        advice, remedy = "the user has to confirm in a browser; log in again", Remedy.LOG_IN_AGAIN
    else:
        advice, remedy = _ADVICE.get(error.code, "see error_description and the provider's documentation"), Remedy.FIX_CONFIGURATION
    message = f"the token endpoint refused the request: {said}; {advice}"
    return TokenError(message, error=error.code, error_description=error.description, status=status, remedy=remedy)
