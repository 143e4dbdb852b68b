"""A server's signing keys, and ID tokens made with them: valid ones, and ones with one thing changed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from pauth.core.id_token import IdTokenClaims, Jwks, parse_jwks, validate_id_token
from pauth.secret import Secret

NOW = 1_800_000_000.0
ISSUER = "https://as.example"
CLIENT_ID = "client-1"
NONCE = Secret("CANARY-nonce")
ACCESS_TOKEN = Secret("CANARY-access-token")
CODE = Secret("CANARY-code")
SUBJECT = "CANARY-subject"

RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
OTHER_RSA = RSAKey.generate_key(2048, {"kid": "other"})
P256 = ECKey.generate_key("P-256", {"kid": "p256"})
P384 = ECKey.generate_key("P-384", {"kid": "p384"})
P521 = ECKey.generate_key("P-521", {"kid": "p521"})
ED25519 = OKPKey.generate_key("Ed25519", {"kid": "ed25519"})


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"  # stands in test ids, which must be equal in all of xdist's workers


ABSENT = _Absent()


def public(key: Any, **members: Any) -> dict[str, Any]:
    """The JWK of ``key`` without its private half, with ``members`` changed."""
    return without({**key.as_dict(private=False), **members})


def without(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}


def jwks(*keys: Any) -> Jwks:
    return parse_jwks({"keys": [key if isinstance(key, dict) else public(key) for key in keys]})


JWKS = jwks(RSA)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(part: Mapping[str, Any] | bytes) -> str:
    return b64(part if isinstance(part, bytes) else json.dumps(part).encode())


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a valid ID token, with ``changes``."""
    valid = {"iss": ISSUER, "sub": SUBJECT, "aud": CLIENT_ID, "iat": int(NOW), "exp": int(NOW) + 300, "nonce": NONCE.reveal()}
    return without({**valid, **changes})


def header(**changes: Any) -> dict[str, Any]:
    return without({"alg": "RS256", "kid": "rsa", **changes})


def sign(head: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes, *, key: Any = RSA, alg: str = "RS256") -> Secret:
    """A compact JWS, whatever its header says; ``key`` and ``alg`` are what it is really signed with."""
    signing_input = f"{segment(head)}.{segment(payload)}"
    signature: bytes = JWSRegistry.algorithms[alg].sign(signing_input.encode(), key)
    return Secret(f"{signing_input}.{b64(signature)}")


def token(**changes: Any) -> Secret:
    """A well-signed ID token with ``changes`` in its claims."""
    return sign(header(), claims(**changes))


def validate(id_token: Secret, **options: Any) -> IdTokenClaims:
    """Validate as a login does, with ``options`` changed."""
    arguments: dict[str, Any] = {
        "jwks": JWKS, "issuer": ISSUER, "client_id": CLIENT_ID, "nonce": NONCE, "now": NOW, "access_token": ACCESS_TOKEN, "code": CODE,
    }  # fmt: skip
    return validate_id_token(id_token, **{**arguments, **options})
