"""The endpoints a client talks to without a browser: token, revocation, userinfo, key set, metadata, and a protected resource."""

from __future__ import annotations

from typing import Any, Final

from pauth.testing.authentication import authenticate
from pauth.testing.authorize_endpoint import parse_scope
from pauth.testing.device_endpoint import DEVICE_GRANT, DeviceEndpoints
from pauth.testing.id_tokens import id_token, jwks
from pauth.testing.ledger import token_hash
from pauth.testing.messages import Refusal, Reply, SeenRequest, json_reply
from pauth.testing.model import AccessToken, Client, Issued, State, escape_user
from pauth.testing.note import Note, bearer_token

__all__ = ["Endpoints"]

_GRANT_TYPES: Final = ("authorization_code", "refresh_token", "client_credentials", DEVICE_GRANT)
_REALM: Final = 'Bearer realm="pauth.testing"'
_ID_TOKEN_LIFETIME: Final = 3600.0


class Endpoints:
    """One method an endpoint: it changes the state, completes the note and gives the reply, or raises :class:`Refusal`."""

    def __init__(self, state: State, *, issuer: str, metadata: dict[str, Any], devices: DeviceEndpoints) -> None:
        self._state = state
        self._devices = devices
        self._issuer = issuer
        self._metadata = metadata

    def metadata(self, request: SeenRequest, note: Note, now: float) -> Reply:  # noqa: ARG002  # all endpoints have one signature
        """Server metadata (RFC 8414 section 3, OpenID Connect Discovery section 4)."""
        return json_reply(self._metadata)

    def jwks(self, request: SeenRequest, note: Note, now: float) -> Reply:  # noqa: ARG002  # (the same)
        """The key set (RFC 7517)."""
        return json_reply(jwks())

    def token(self, request: SeenRequest, note: Note, now: float) -> Reply:
        """The token endpoint (RFC 6749 section 3.2)."""
        params = request.check_form()
        client = authenticate(request, self._state.clients)
        grant_type = _needed(params, "grant_type")
        if grant_type not in _GRANT_TYPES:
            raise Refusal("unsupported_grant_type", "this grant type is not supported")
        if grant_type not in client.grant_types:
            raise Refusal("unauthorized_client", "the client may not use this grant type")
        if grant_type == "authorization_code":
            code, redirect_uri, verifier = _needed(params, "code"), params.get("redirect_uri"), params.get("code_verifier")
            issued = self._state.redeem_code(client, code, redirect_uri=redirect_uri, verifier=verifier, now=now)
        elif grant_type == "refresh_token":
            scope = parse_scope(params["scope"]) if "scope" in params else None
            issued = self._state.refresh(client, _needed(params, "refresh_token"), scope, now)
        elif grant_type == DEVICE_GRANT:
            issued = self._devices.redeem(client, _needed(params, "device_code"), now)
        else:
            issued = self._client_credentials(client, params, now)
        note.access_token_out = token_hash(issued.access_token)
        note.refresh_token_out = None if issued.refresh_token is None else token_hash(issued.refresh_token)
        note.user = None if issued.grant is None else issued.grant.user
        return json_reply(self._token_response(issued, first=grant_type == "authorization_code", now=now))

    def _client_credentials(self, client: Client, params: dict[str, str], now: float) -> Issued:
        if client.auth_method == "none":
            raise Refusal("unauthorized_client", "a public client cannot act for itself")  # RFC 6749 section 4.4
        return self._state.client_token(client, parse_scope(params.get("scope")), now)

    def _token_response(self, issued: Issued, *, first: bool, now: float) -> dict[str, Any]:
        state, grant = self._state, issued.grant
        document: dict[str, Any] = {"access_token": issued.access_token, "token_type": "Bearer", "scope": " ".join(issued.scope)}
        if state.access_token_lifetime is not None:
            document["expires_in"] = int(state.access_token_lifetime)
        if issued.refresh_token is not None:
            document["refresh_token"] = issued.refresh_token
            if state.refresh_token_lifetime is not None:
                document["refresh_token_expires_in"] = int(state.refresh_token_lifetime)
        if grant is not None and "openid" in issued.scope:
            document["id_token"] = id_token(
                issuer=self._issuer,
                subject=grant.user,
                audience=grant.client_id,
                access_token=issued.access_token,
                auth_time=grant.auth_time,
                nonce=grant.nonce if first else None,  # OpenID Connect Core section 12.2
                lifetime=_ID_TOKEN_LIFETIME,
                now=now,
            )
        return document

    def revoke(self, request: SeenRequest, note: Note, now: float) -> Reply:  # noqa: ARG002  # (the same)
        """The revocation endpoint (RFC 7009): 200 for a token nobody knows, too."""
        params = request.check_form()
        client = authenticate(request, self._state.clients)
        self._state.revoke(client, _needed(params, "token"))
        return Reply(200, b"", {"Content-Type": "text/plain", "Cache-Control": "no-store"})

    def userinfo(self, request: SeenRequest, note: Note, now: float) -> Reply:  # noqa: ARG002  # (the same)
        """The userinfo endpoint (OpenID Connect Core section 5.3); claims as the scopes ``profile`` and ``email`` allow."""
        token = self._bearer(request, now)
        if token.user is None or "openid" not in token.scope:
            raise _challenge("insufficient_scope", "the token lacks the scope openid", 403)
        claims: dict[str, Any] = {"sub": token.user}
        if "profile" in token.scope:
            claims |= {"name": token.user, "preferred_username": token.user, "picture": f"{self._issuer}/pictures/{escape_user(token.user)}.png"}
        if "email" in token.scope:
            claims |= {"email": f"{escape_user(token.user)}@example.com", "email_verified": True}
        return json_reply(claims)

    def resource(self, request: SeenRequest, note: Note, now: float) -> Reply:  # noqa: ARG002  # (the same)
        """A protected resource: tells whose token it was called with."""
        token = self._bearer(request, now)
        return json_reply({"user": token.user, "client_id": token.client_id, "scope": " ".join(token.scope)})

    def _bearer(self, request: SeenRequest, now: float) -> AccessToken:
        """The usable access token of a request, in its Authorization header and nowhere else (RFC 6750 section 2, RFC 9700 section 4.3.2)."""
        if "access_token" in request.params:
            raise _challenge("invalid_request", "an access token belongs into the Authorization header only", 400)
        if request.problem is not None:
            raise _challenge("invalid_request", request.problem, 400)
        presented = bearer_token(request)
        if presented is None:
            raise Refusal("no_token", "", status=401, headers={"WWW-Authenticate": _REALM})
        token = self._state.find_access_token(presented)
        if token is None or not token.usable(now):
            raise _challenge("invalid_token", "the access token is unknown, expired or revoked", 401)
        self._state.note_use(token)
        return token


def _challenge(error: str, description: str, status: int) -> Refusal:
    header = f'{_REALM}, error="{error}", error_description="{description}"'
    return Refusal(error, description, status=status, headers={"WWW-Authenticate": header})


def _needed(params: dict[str, str], name: str) -> str:
    if name not in params:
        raise Refusal("invalid_request", f"{name} is missing")
    return params[name]
