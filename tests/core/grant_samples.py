"""What the tests of the grants share: a client, a login, answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from pauth.core.authorization import AuthorizationResponse, build_authorization_request
from pauth.core.grants import parse_token_response
from pauth.core.quirks import Quirks
from pauth.core.token import Token
from pauth.core.wire import HTTPRequest, HTTPResponse
from pauth.secret import Secret

TOKEN_ENDPOINT: Final = "https://as.example/token"
ISSUER: Final = "https://as.example"
CLIENT_ID: Final = "client-1"
CLIENT_SECRET: Final = Secret("CANARY-client-secret-1")
REQUESTED_AT: Final = 1_800_000_000.0
NOW: Final = REQUESTED_AT + 5
GOOD: Final[Mapping[str, Any]] = {"access_token": "CANARY-new-access", "token_type": "Bearer", "expires_in": 3600}
OLD: Final = Token(
    access_token=Secret("CANARY-old-access"),
    refresh_token=Secret("CANARY-old-refresh"),
    id_token=Secret("CANARY-old-id"),
    scope=("a", "b"),
    issued_at=REQUESTED_AT - 4000,
    expires_at=REQUESTED_AT - 400,
    refresh_token_expires_at=REQUESTED_AT + 9000,
    issuer=ISSUER,
    token_endpoint=TOKEN_ENDPOINT,
    subject="alice",
    extra={"kept": 1},
)


def _sevens(size: int) -> bytes:
    return b"\x07" * size


def login(**changes: Any) -> AuthorizationResponse:
    arguments: dict[str, Any] = {
        "authorization_endpoint": "https://as.example/authorize",
        "token_endpoint": TOKEN_ENDPOINT,
        "client_id": CLIENT_ID,
        "redirect_uri": "https://app.example/callback",
        "scope": ("a",),
        "now": NOW,
        "token_bytes": _sevens,
        **changes,
    }
    return AuthorizationResponse(Secret("CANARY-code"), build_authorization_request(**arguments))


def pairs_of(request: HTTPRequest) -> list[tuple[str, str]]:
    assert request.body is not None
    return parse_qsl(request.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)


def answer(body: Any, status: int = 200, content_type: str = "application/json", **headers: str) -> HTTPResponse:
    raw = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return HTTPResponse(
        status, {"content-type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}, raw, REQUESTED_AT
    )


def read(response: HTTPResponse, *, quirks: Quirks | None = None, **changes: Any) -> Token:
    arguments: dict[str, Any] = {"requested_scope": (), "issuer": ISSUER, "token_endpoint": TOKEN_ENDPOINT, "now": NOW, **changes}
    return parse_token_response(response, quirks=quirks or Quirks(), **arguments)
