"""The front channel: an authorization request on the way out, the callback on the way back (RFC 6749 section 4.1, RFC 7636, RFC 9207, RFC 9700).

::

    build_authorization_request(…) -> AuthorizationRequest      kept under pending_id(state) while the user is away
    parse_callback(url)            -> CallbackParams            what the browser brought, still hostile
    validate_callback(params, request, …) -> AuthorizationResponse      the only thing that can be exchanged

The caller takes the pending request from its store, once, between the second and the third step. The request is built here; the record is in
:mod:`pauth.core.pending` and the way back in :mod:`pauth.core.callback`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pauth.core.callback import AuthorizationResponse, CallbackParams, parse_callback, validate_callback
from pauth.core.pending import AuthorizationRequest, check_user, hash_session_id, pending_id
from pauth.core.urls import check_endpoint, url_problem
from pauth.core.wire import MAX_QUERY, encode_query, read_form, read_pairs
from pauth.errors import ConfigurationError
from pauth.secret import Secret

__all__ = [
    "MAX_LIFETIME",
    "AuthorizationRequest",
    "AuthorizationResponse",
    "CallbackParams",
    "build_authorization_request",
    "check_user",
    "parse_callback",
    "pending_id",
    "validate_callback",
]

MAX_LIFETIME: Final = 3600.0
"""The longest time, in seconds, that a user may take to log in (AX-4)."""

_RANDOM_BYTES: Final = 32

# Parameters that pauth alone decides about (AR-4). `request` and `request_uri` would override all others (RFC 9101).
_RESERVED: Final = frozenset(
    {
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "redirect_uri",
        "request",
        "request_uri",
        "resource",
        "response_type",
        "scope",
        "state",
    }
)
_CLIENT_ID: Final = re.compile(r"[\x20-\x7e]+")  # RFC 6749 appendix A.1
_SCOPE_TOKEN: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[\x21\x24-\x7e]+")
_PRIVATE_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+\-]*(?:\.[A-Za-z0-9+\-]+)+:[A-Za-z0-9\-._~:/?@!$&'()*+,;=%]+")


def build_authorization_request(
    *,
    authorization_endpoint: str,
    token_endpoint: str,
    client_id: str,
    redirect_uri: str | None,
    scope: Sequence[str],
    scope_separator: str = " ",
    issuer: str | None = None,
    iss_required: bool = False,
    pkce: bool = True,
    use_nonce: bool = False,
    resource: Sequence[str] = (),
    extra_params: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    user_id: str | None = None,
    session_id: str | None = None,
    now: float,
    lifetime: float = 600.0,
    token_bytes: Callable[[int], bytes],
    allow_insecure_http: bool = False,
) -> AuthorizationRequest:
    """A new attempt to log in: ``response_type=code``, a fresh ``state``, PKCE with S256 (RFC 6749 section 4.1.1; AR-1 to AR-8, PK-1 to PK-3).

    :param scope_separator: what joins the scopes in the URL; a space but for providers that differ.
    :param iss_required: the server announced that it sends ``iss`` in every response (RFC 9207).
    :param pkce: switch off only for servers that fail when they see it; a nonce is then sent for every OpenID Connect login (PK-3).
    :param resource: the resource servers the token is for (RFC 8707).
    :param extra_params: more parameters, which must not be among those that pauth sets nor in the endpoint's own query (AR-4).
    :param session_id: an id or secret of the user's browser session; the callback must come with the same (AX-2).
    :param lifetime: seconds the user has to come back, at most :data:`MAX_LIFETIME` (AX-4).
    :param token_bytes: a cryptographic source of random bytes: :func:`secrets.token_bytes`.
    :raises ConfigurationError: any argument is unusable.
    """
    session_hash = hash_session_id(session_id)
    no_session = session_id == ""
    del session_id
    if no_session:
        raise ConfigurationError("session_id is empty; every anonymous browser would share it. Pass an unguessable id, or None")
    check_endpoint(authorization_endpoint, name="authorization endpoint", allow_insecure_http=allow_insecure_http)
    check_endpoint(token_endpoint, name="token endpoint", allow_insecure_http=allow_insecure_http)
    _check_redirect_uri(redirect_uri, allow_insecure_http=allow_insecure_http)
    scope = _checked_scope(scope, scope_separator)
    resource = _checked_resource(resource)
    extra = _checked_extra_params(authorization_endpoint, extra_params)
    if not _CLIENT_ID.fullmatch(client_id):
        raise ConfigurationError("client_id is empty or not printable ASCII; copy it from the provider's page where the application is registered")
    if iss_required and issuer is None:
        raise ConfigurationError("the server sends 'iss' in its callbacks, so its issuer must be configured to compare it with")
    if not 0 < lifetime <= MAX_LIFETIME:
        raise ConfigurationError(f"the lifetime of a pending login must be above 0 and at most {MAX_LIFETIME:.0f} seconds")

    state = _random_secret(token_bytes)
    code_verifier = _random_secret(token_bytes) if pkce else None
    nonce = _random_secret(token_bytes) if use_nonce or (not pkce and "openid" in scope) else None
    pairs = [("response_type", "code"), ("client_id", client_id)]
    if redirect_uri is not None:
        pairs.append(("redirect_uri", redirect_uri))
    if scope:
        pairs.append(("scope", scope_separator.join(scope)))
    pairs.append(("state", state.reveal()))
    if nonce is not None:
        pairs.append(("nonce", nonce.reveal()))
    if code_verifier is not None:
        challenge = hashlib.sha256(code_verifier.reveal().encode("ascii")).digest()
        pairs += [("code_challenge", _base64url(challenge)), ("code_challenge_method", "S256")]
    pairs += [("resource", uri) for uri in resource]
    pairs += extra
    separator = "" if authorization_endpoint.endswith(("?", "&")) else "&" if "?" in authorization_endpoint else "?"
    return AuthorizationRequest(
        url=authorization_endpoint + separator + encode_query(pairs),
        state=state,
        nonce=nonce,
        code_verifier=code_verifier,
        redirect_uri=redirect_uri,
        scope=scope,
        issuer=issuer,
        authorization_endpoint=authorization_endpoint,
        token_endpoint=token_endpoint,
        client_id=client_id,
        iss_required=iss_required,
        created_at=now,
        expires_at=now + lifetime,
        user_id=user_id,
        session_hash=session_hash,
        resource=resource,
    )


def _random_secret(token_bytes: Callable[[int], bytes]) -> Secret:
    value = Secret(_base64url(token_bytes(_RANDOM_BYTES)))
    if len(value.reveal()) != 43:  # 32 octets; also the shortest verifier that RFC 7636 section 4.1 allows
        raise ConfigurationError("the source of random bytes gave fewer or more bytes than it was asked for")
    return value


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _check_redirect_uri(uri: str | None, *, allow_insecure_http: bool) -> None:
    # RFC 8252 section 7.1: a private-use scheme is a reversed domain name, so it has a dot; `javascript:` and its like have none.
    if uri is None or _PRIVATE_SCHEME.fullmatch(uri):
        return
    problem = url_problem(uri, allow_insecure_http=allow_insecure_http)
    if problem is not None:
        raise ConfigurationError(f"the redirect_uri {problem} (native apps: a private scheme such as com.example.app:/callback)")


def _checked_scope(scope: Sequence[str], separator: str) -> tuple[str, ...]:
    if isinstance(scope, str):
        raise ConfigurationError('scope must be a list of scopes, such as ["openid", "email"], not one str')
    for item in scope:
        if not _SCOPE_TOKEN.fullmatch(item) or separator in item:
            raise ConfigurationError(
                "a scope is empty or holds a space, a quote, the separator, or a character outside ASCII; give each scope as an item"
            )
    return tuple(scope)


def _checked_resource(resource: Sequence[str]) -> tuple[str, ...]:
    if isinstance(resource, str) or not all(_URI.fullmatch(uri) for uri in resource):
        raise ConfigurationError("resource must be a list of absolute URIs without fragment (RFC 8707 section 2)")
    return tuple(resource)


def _checked_extra_params(endpoint: str, extra_params: Mapping[str, str] | Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    own = read_form(endpoint.partition("?")[2], MAX_QUERY)
    extra = list(extra_params.items() if isinstance(extra_params, Mapping) else extra_params)
    try:
        names = own if isinstance(own, str) else read_pairs([*own.items(), *extra])
    except (TypeError, ValueError):
        names = "are not pairs of str"
    if isinstance(names, str):
        raise ConfigurationError(f"the extra parameters, or those in the authorization endpoint's own query, {names}")
    for name in names:
        if name.lower() in _RESERVED:  # some servers do not tell `State` from `state`
            raise ConfigurationError(
                f"the parameter {name.lower()!r} is set by pauth and cannot be overridden by extra parameters or the endpoint's query"
            )
    return extra
