"""Token revocation: RFC 7009, and the requests that some providers have in its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

from pauth.core.answers import ServerError, read_answer
from pauth.core.client_auth import ClientAuth, client_secret_basic
from pauth.core.forms import authenticated_form
from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Quirks, RevocationStyle
from pauth.core.token import Token, was_issued_by
from pauth.core.wire import HTTPRequest, HTTPResponse
from pauth.errors import PAuthError, ReauthorizationRequired, Remedy, TokenError
from pauth.secret import Secret

__all__ = ["build_revocation_requests", "parse_revocation_response"]

_ENDPOINT: Final = "revocation endpoint"
_BEARER_METHODS: Final = {RevocationStyle.BEARER_POST: "POST", RevocationStyle.BEARER_DELETE: "DELETE"}


def build_revocation_requests(
    *,
    metadata: ServerMetadata,
    token: Token,
    client_id: str,
    client_secret: Secret | None,
    client_auth: ClientAuth,
    quirks: Quirks,
) -> tuple[HTTPRequest, ...]:
    """The requests that revoke ``token``, in the order to send them: the refresh token first (RV-2), then the access token.

    None at all if the server has no revocation endpoint. Both tokens are sent although a server should kill one with the other (RFC 7009 section 2.1
    only says "should" and "may"); GitHub, Slack and Facebook take the access token alone.

    :raises ReauthorizationRequired: ``issuer_changed``: the token came from another server and is not sent to this one (MD-4).
    :raises ConfigurationError: client id, secret and authentication method do not fit together.
    """
    endpoint = metadata.revocation_endpoint
    if endpoint is None:
        return ()
    if not was_issued_by(token, token_endpoint=metadata.token_endpoint, issuer=metadata.issuer):
        raise ReauthorizationRequired(
            "the stored token was issued by another server than the one configured now, so it is not sent there to be revoked",
            reason="issuer_changed",
        )
    style = quirks.revocation_style
    if style is RevocationStyle.GITHUB_DELETE:
        return (_github_delete(endpoint, token, client_id, client_secret),)
    if style is not RevocationStyle.RFC7009:
        body = b"" if style is RevocationStyle.BEARER_POST else None
        return (HTTPRequest(_BEARER_METHODS[style], endpoint, {"Accept": "application/json", **token.auth_headers()}, body),)
    kinds = (("refresh_token", token.refresh_token), ("access_token", token.access_token))
    return tuple(
        authenticated_form(endpoint, _pairs(hint, secret), client_id=client_id, client_secret=client_secret, client_auth=client_auth)
        for hint, secret in kinds
        if secret is not None
    )


def _pairs(hint: str, secret: Secret) -> Iterator[tuple[str, str]]:
    yield "token", secret.reveal()
    yield "token_type_hint", hint


def _github_delete(endpoint: str, token: Token, client_id: str, client_secret: Secret | None) -> HTTPRequest:
    # https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-token; the id and secret are plain ASCII, so form-encoding changes nothing
    headers, _ = client_secret_basic(client_id, client_secret)
    url = f"{endpoint}/{quote(client_id, safe='')}/token"
    body = json.dumps({"access_token": token.access_token.reveal()}).encode()
    return HTTPRequest("DELETE", url, {"Accept": "application/vnd.github+json", "Content-Type": "application/json", **headers}, body)


def parse_revocation_response(response: HTTPResponse, *, quirks: Quirks, token: Token, now: float, secrets: Iterable[Secret] = ()) -> None:
    """Return if the token is revoked, or was invalid already (RFC 7009 section 2.2; RV-1).

    :param token: the token that was to be revoked.
    :param now: the present, in seconds since the Unix epoch.
    :param secrets: what the request carried, to be masked if the server repeats it (SH-9).
    :raises ProviderUnavailable: 408, 425, 429 or 5xx: the token is still alive, try again later.
    :raises TokenError: the server refused (``unsupported_token_type``, ``invalid_client`` …). With :attr:`Remedy.RETRY` if an expired access token
        was presented and a refresh token is still alive behind it (GitHub, Slack): refresh, then revoke.
    :raises MalformedResponse: an answer that says neither.
    """
    if response.status < 300 and quirks.ok_member is None:
        return  # RFC 7009 section 2.2: the content of the body is ignored
    if response.status in quirks.already_revoked_statuses:
        answer: object = ServerError(f"http_{response.status}", None)
        dead = True
    else:
        answer = read_answer(response, endpoint=_ENDPOINT, quirks=quirks, now=now, secrets=secrets)
        dead = isinstance(answer, ServerError) and answer.code in quirks.already_revoked_errors
    if isinstance(answer, PAuthError):
        raise answer
    if isinstance(answer, ServerError):
        error = _refusal(answer, response.status, quirks, token, now, dead=dead)
        if error is not None:
            raise error


def _refusal(answer: ServerError, status: int, quirks: Quirks, token: Token, now: float, *, dead: bool) -> TokenError | None:
    by_access_token = quirks.revocation_style is not RevocationStyle.RFC7009
    if dead and by_access_token and token.refresh_token is not None and token.is_expired(now):
        # The access token presented is merely expired; saying "revoked" would leave the refresh token alive behind the user's back.
        return TokenError(
            "the grant is not revoked: the provider takes only an access token for that, and this one has expired; refresh it, then revoke",
            error=answer.code,
            status=status,
            remedy=Remedy.RETRY,
        )
    if dead:
        return None
    return TokenError(
        f"the revocation endpoint refused: {answer.code} (HTTP {status}); the token is still alive at the server; check how the client is registered",
        error=answer.code,
        error_description=answer.description,
        status=status,
    )
