"""ID tokens (OpenID Connect Core section 2), signed with a key made once per process."""

from __future__ import annotations

import base64
import functools
import hashlib
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

__all__ = ["id_token", "jwks"]


@functools.cache
def _signing_key() -> RSAKey:
    # Making an RSA key takes a tenth of a second: not before somebody asks for an ID token, and only once.
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)


def jwks() -> dict[str, Any]:
    """The key set that verifies the ID tokens, without private members."""
    return {"keys": [dict(_signing_key().as_dict(private=False))]}


def id_token(*, issuer: str, subject: str, audience: str, access_token: str, auth_time: float, nonce: str | None, lifetime: float, now: float) -> str:
    """A signed ID token. ``lifetime`` is in seconds; times are seconds since the Unix epoch; without ``nonce`` it has none."""
    digest = hashlib.sha256(access_token.encode("ascii")).digest()
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": subject,
        "aud": audience,
        "exp": int(now + lifetime),
        "iat": int(now),
        "auth_time": int(auth_time),
        "at_hash": base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode(),
    }
    if nonce is not None:
        claims["nonce"] = nonce
    key = _signing_key()
    return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)
