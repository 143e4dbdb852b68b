"""One login, ready made, for the tests of the front channel."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pauth.core.authorization import AuthorizationRequest, CallbackParams, build_authorization_request
from pauth.secret import Secret

ISSUER = "https://as.example"
NOW = 1_800_000_000.0
SESSION = "CANARY-session-id-1"
CODE = "CANARY-code-1"


def canary_bytes() -> Callable[[int], bytes]:
    """A source of 32 distinct octets each time whose base64url begins with the canary's word: 24 bytes of it are drawn at random."""
    return lambda n: (b"CANARY" + secrets.token_bytes(n))[:n]


def build(**changes: Any) -> AuthorizationRequest:
    arguments: dict[str, Any] = {
        "authorization_endpoint": f"{ISSUER}/authorize",
        "token_endpoint": f"{ISSUER}/token",
        "client_id": "client-1",
        "redirect_uri": "https://app.example/callback",
        "scope": ["openid", "email"],
        "issuer": ISSUER,
        "session_id": SESSION,
        "now": NOW,
        "token_bytes": canary_bytes(),
    }
    return build_authorization_request(**arguments | changes)


def query(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)


def params(request: AuthorizationRequest, **changes: Any) -> CallbackParams:
    """What the browser brings back when all is well."""
    arguments: dict[str, Any] = {"code": Secret(CODE), "state": request.state}
    return CallbackParams(**arguments | changes)
