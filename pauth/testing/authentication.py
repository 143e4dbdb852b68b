"""Client authentication as the token and revocation endpoints demand it (RFC 6749 section 2.3)."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

from pauth.testing.messages import Refusal, SeenRequest
from pauth.testing.model import AuthMethod, Client

__all__ = ["authenticate", "claimed_client_id"]

_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="pauth.testing"'}


@dataclass(frozen=True, slots=True, repr=False)
class _Credentials:
    method: AuthMethod
    client_id: str
    secret: str


def authenticate(request: SeenRequest, clients: Mapping[str, Client]) -> Client:
    """The client that sent ``request``, by exactly one authentication method, the one registered for it.

    :raises Refusal: ``invalid_request`` for more than one method; ``invalid_client`` with status 401 for everything else, with a challenge if the
        client used HTTP Basic (RFC 6749 section 5.2).
    """
    given = _presented(request)
    challenge = _CHALLENGE if "authorization" in request.headers else {}
    client = clients.get(given.client_id)
    # A client without a secret is compared with the empty one: the same work and the same answer for every cause.
    expected = "" if client is None or client.client_secret is None else client.client_secret
    matches = hmac.compare_digest(given.secret.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))
    if client is None or client.auth_method != given.method or not matches:
        raise Refusal("invalid_client", "the client is unknown or its authentication is wrong", status=401, headers=challenge)
    return client


def claimed_client_id(request: SeenRequest) -> str | None:
    """The client a request says it comes from, unverified; for the ledger."""
    try:
        return _presented(request).client_id
    except Refusal:
        return request.params.get("client_id")


def _presented(request: SeenRequest) -> _Credentials:
    authorization = request.headers.get("authorization")
    client_id, secret = request.params.get("client_id"), request.params.get("client_secret")
    if authorization is not None:
        if secret is not None:
            raise Refusal("invalid_request", "more than one client authentication method was used")
        given = _decode_basic(authorization)
        if client_id not in {None, given.client_id}:
            raise Refusal("invalid_request", "client_id differs from the one in the Authorization header")
        return given
    if client_id is None:
        raise Refusal("invalid_client", "the request names no client", status=401)
    return _Credentials("none", client_id, "") if secret is None else _Credentials("client_secret_post", client_id, secret)


def _decode_basic(authorization: str) -> _Credentials:
    """Undo base64, then the form encoding of each half (RFC 6749 section 2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        client_id, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        client_id, secret = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError:  # not base64, or not UTF-8
        colon = client_id = secret = ""
    if scheme.lower() != "basic" or not colon:
        raise Refusal("invalid_client", "the Authorization header holds no HTTP Basic credentials", status=401, headers=_CHALLENGE)
    return _Credentials("client_secret_basic", client_id, secret)
