"""Checking an ID token (OpenID Connect Core 3.1.3.7) against keys that are at hand."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from benchmarks.contender import Missing, optional
from benchmarks.tokens.result import Aim, Found, Setting
from benchmarks.tokens.timing import Batch, per_call
from pauth.core.id_token import parse_jwks, validate_id_token
from pauth.secret import Secret

__all__ = ["run"]

_ISSUER: Final = "https://login.example"
_CLIENT: Final = "client"
_NONCE: Final = "nonce-of-the-benchmark"
_ACCESS_TOKEN: Final = "access-token-of-the-benchmark"
_GOALS: Final = {"RS256": 1.6, "ES256": 1.3}
_HAND: Final = "by hand on cryptography"
_OURS: Final = "pauth: validate_id_token"


async def run(setting: Setting) -> Found:
    """Microseconds a check."""
    found = Found("Checking an ID token", ("algorithm", "contender", "µs", "times by hand"))
    for algorithm, key in (("RS256", RSAKey.generate_key(2048, auto_kid=True)), ("ES256", ECKey.generate_key("P-256", auto_kid=True))):
        token = _token(algorithm, key)
        checks: dict[str, Callable[[], object]] = {_HAND: _by_hand(algorithm, key, token), _OURS: _pauth(algorithm, key, token)}
        checks["joserfc"] = _joserfc(algorithm, key, token)
        try:
            checks["Authlib: jwt"] = _authlib(key, token)
        except Missing as missing:
            found.absent[f"Authlib, {algorithm}"] = str(missing)
        took = await per_call({name: _batch(check) for name, check in checks.items()}, seconds=setting.seconds, rounds=setting.rounds)
        found.rows += [(algorithm, name, each, each / took[_HAND]) for name, each in took.items()]
        goal = _GOALS[algorithm]
        found.aims.append(Aim(f"{algorithm}: at most {goal:g}x a verifier written by hand", took[_OURS] / took[_HAND], goal))
    return found


def _batch(check: Callable[[], object]) -> Batch:
    async def batch(count: int) -> float:
        clock = time.perf_counter
        began = clock()
        for _ in range(count):
            check()
        return clock() - began

    return batch


def _at_hash() -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(_ACCESS_TOKEN.encode()).digest()[:16]).rstrip(b"=").decode()


def _token(algorithm: str, key: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": _ISSUER,
        "sub": "10769150350006150715113082367",
        "aud": _CLIENT,
        "exp": now + 86_400,
        "iat": now,
        "nonce": _NONCE,
        "at_hash": _at_hash(),
        "email": "someone@mail.example",
        "email_verified": True,
    }
    return jwt.encode({"alg": algorithm, "kid": key.kid}, claims, key)


def _pauth(algorithm: str, key: Any, token: str) -> Callable[[], object]:
    keys, now = parse_jwks({"keys": [dict(key.as_dict(private=False))]}), time.time()
    id_token, nonce, access_token = Secret(token), Secret(_NONCE), Secret(_ACCESS_TOKEN)
    return lambda: validate_id_token(
        id_token, jwks=keys, issuer=_ISSUER, client_id=_CLIENT, nonce=nonce, now=now, algorithms=[algorithm], access_token=access_token
    )


def _by_hand(algorithm: str, key: Any, token: str) -> Callable[[], object]:
    public: Any = key.public_key
    kid, at_hash = key.kid, _at_hash()

    def check() -> dict[str, Any]:
        signed, _, signature_text = token.rpartition(".")
        head_text, _, claims_text = signed.partition(".")
        head, signature = json.loads(_decoded(head_text)), _decoded(signature_text)
        assert head["alg"] == algorithm  # noqa: S101  # as one writes it by hand
        assert head["kid"] == kid  # noqa: S101
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
            public.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
        claims: dict[str, Any] = json.loads(_decoded(claims_text))
        now = time.time()
        assert claims["iss"] == _ISSUER  # noqa: S101
        assert claims["aud"] == _CLIENT  # noqa: S101
        assert claims["exp"] > now - 60  # noqa: S101
        assert claims["iat"] < now + 60  # noqa: S101
        assert claims["nonce"] == _NONCE  # noqa: S101
        assert base64.urlsafe_b64encode(hashlib.sha256(_ACCESS_TOKEN.encode()).digest()[:16]).rstrip(b"=").decode() == claims["at_hash"] == at_hash  # noqa: S101
        return claims

    return check


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _joserfc(algorithm: str, key: Any, token: str) -> Callable[[], object]:
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": _ISSUER},
        aud={"essential": True, "value": _CLIENT},
        exp={"essential": True},
        iat={"essential": True},
        nonce={"essential": True, "value": _NONCE},
        at_hash={"essential": True, "value": _at_hash()},
    )

    def check() -> object:
        decoded = jwt.decode(token, key, algorithms=[algorithm])
        registry.validate(decoded.claims)
        return decoded

    return check


def _authlib(key: Any, token: str) -> Callable[[], object]:
    jose = optional("authlib.jose", "authlib")
    public = jose.JsonWebKey.import_key(dict(key.as_dict(private=False)))
    options = {
        "iss": {"essential": True, "value": _ISSUER},
        "aud": {"essential": True, "value": _CLIENT},
        "nonce": {"essential": True, "value": _NONCE},
        "at_hash": {"essential": True, "value": _at_hash()},
    }

    def check() -> object:
        claims = jose.jwt.decode(token, public, claims_options=options)
        claims.validate()
        return claims

    return check
