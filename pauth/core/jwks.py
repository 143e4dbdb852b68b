"""The keys a server signs with: JWK Set in, verification keys out (RFC 7517), and the one algorithm each token may use (RFC 8725).

joserfc does the cryptography. What is decided here is which key may verify what: a token's header never brings a key (JW-2) and never widens
the choice of algorithm (JW-1). Symmetric algorithms and ``none`` do not exist in this module.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

from pauth.errors import UntrustedServer

__all__ = ["ALGORITHMS", "MAX_JWKS_BYTES", "MAX_KEYS", "Algorithm", "Jwks", "UnknownKid", "VerificationKey", "decode_base64url", "parse_jwks"]

MAX_JWKS_BYTES: Final = 256 * 1024
"""The largest JWK Set document to accept, in bytes; whoever fetches it holds the body against this (JW-8)."""

MAX_KEYS: Final = 100
"""The most keys a JWK Set may hold (JW-8)."""

_MAX_MEMBER: Final = 2048
_RSA_BITS: Final = range(2048, 8192 + 1)
"""Sizes of RSA moduli: RFC 7518 section 3.3 sets the lower bound, the upper one bounds the work of one verification."""

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")


class UnknownKid(UntrustedServer):
    """None of the keys at hand can have made the signature; the server may have begun to use a new one.

    The caller may fetch the JWK Set again, once, and validate again with what it gets (JW-9).
    """


class Algorithm(NamedTuple):
    """What a signature algorithm needs (RFC 7518 section 3.1, RFC 8037 section 3.1)."""

    key_type: str
    curve: str | None
    hash_name: str
    """The hash of ``at_hash`` (OpenID Connect Core 3.1.3.6), as :mod:`hashlib` calls it. An algorithm without one is not in the table."""

    joserfc_name: str


ALGORITHMS: Final[Mapping[str, Algorithm]] = MappingProxyType(
    {
        "RS256": Algorithm("RSA", None, "sha256", "RS256"),
        "RS384": Algorithm("RSA", None, "sha384", "RS384"),
        "RS512": Algorithm("RSA", None, "sha512", "RS512"),
        "PS256": Algorithm("RSA", None, "sha256", "PS256"),
        "PS384": Algorithm("RSA", None, "sha384", "PS384"),
        "PS512": Algorithm("RSA", None, "sha512", "PS512"),
        "ES256": Algorithm("EC", "P-256", "sha256", "ES256"),
        "ES384": Algorithm("EC", "P-384", "sha384", "ES384"),
        "ES512": Algorithm("EC", "P-521", "sha512", "ES512"),
        # RFC 9864 renames EdDSA with an Ed25519 key to Ed25519; they are one algorithm, and Ed25519 hashes with SHA-512.
        "EdDSA": Algorithm("OKP", "Ed25519", "sha512", "EdDSA"),
        "Ed25519": Algorithm("OKP", "Ed25519", "sha512", "EdDSA"),
    }
)
"""The algorithms an ID token may be signed with, by their JOSE names."""

_SUPPORTED_KEYS: Final = frozenset((algorithm.key_type, algorithm.curve) for algorithm in ALGORITHMS.values())
_PUBLIC_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")})
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class VerificationKey:
    """One public key of a JWK Set."""

    kid: str | None
    key_type: str
    curve: str | None
    alg: str | None
    """The one algorithm the server reserves the key for, if it says so."""

    issuer: str | None
    """Microsoft's key set of all tenants names the issuer a key belongs to, with ``{tenantid}`` in it; other servers have no such member."""

    key: Any
    """The key as joserfc holds it."""

    def __repr__(self) -> str:
        return f"<VerificationKey {self.key_type}>"

    def fits(self, alg: str) -> bool:
        """Whether the key is of the type, on the curve and for the use that ``alg`` needs (RFC 8725 section 3.1)."""
        algorithm = ALGORITHMS[alg]
        return (self.key_type, self.curve) == (algorithm.key_type, algorithm.curve) and self.alg in {None, alg}

    def verifies(self, alg: str, signing_input: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``signing_input``. For a key that :meth:`fits` ``alg``; raises nothing."""
        from joserfc.jws import JWSRegistry

        return JWSRegistry.algorithms[ALGORITHMS[alg].joserfc_name].verify(signing_input, signature, self.key)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Jwks:
    """The usable keys of a server's JWK Set; :func:`parse_jwks` makes it."""

    keys: tuple[VerificationKey, ...]

    def __repr__(self) -> str:
        return f"<Jwks keys={len(self.keys)}>"

    def select(self, *, kid: str | None, alg: str) -> VerificationKey:
        """The one key that may have made a signature with ``alg``; keys are never tried one after the other (JW-10).

        :param kid: the key id in the token's header; without one, exactly one key must fit.
        :raises UnknownKid: no key has this id, or there is no key at all.
        :raises UntrustedServer: the key with this id is for something else, or several keys fit.
        """
        named = [key for key in self.keys if kid is None or key.kid == kid]
        fitting = [key for key in named if key.fits(alg)]
        if len(fitting) == 1:
            return fitting[0]
        if not named:
            raise UnknownKid("the ID token was refused: the server's key set does not hold the key that signed it; fetch the key set again, once")
        if not fitting:
            raise UntrustedServer("the ID token was refused: its key is not for its algorithm; check the algorithm registered for this client")
        raise UntrustedServer("the ID token was refused: several keys may have signed it, and it does not tell which; report this to the provider")


def decode_base64url(text: str) -> bytes | None:
    """The bytes of base64url in its one canonical form: not empty, no padding, no foreign character, no stray bits (JW-5); else ``None``."""
    if _BASE64URL.fullmatch(text) is None:
        return None
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None
    return data if base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii") == text else None


def parse_jwks(document: Mapping[str, Any]) -> Jwks:
    """The keys of a JWK Set that can verify signatures (RFC 7517 section 5, JW-8).

    A key of an unknown type or for another purpose, a malformed one, and one published with its private half are left out, not fatal: the
    server's other keys stay usable.

    :raises UntrustedServer: there is no array of keys, or it is longer than :data:`MAX_KEYS`.
    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise UntrustedServer("the server's key set has no array of keys; check the jwks_uri")
    entries = cast("list[object]", entries)
    if len(entries) > MAX_KEYS:
        raise UntrustedServer(f"the server's key set holds more than {MAX_KEYS} keys; report this to the provider")
    return Jwks(tuple(key for entry in entries if (key := _parse_key(entry)) is not None))


def _parse_key(entry: object) -> VerificationKey | None:
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry

    if not isinstance(entry, dict):
        return None
    jwk = cast("dict[str, Any]", entry)
    key_type, kid, alg, issuer = (jwk.get(name) for name in ("kty", "kid", "alg", "issuer"))
    if not isinstance(key_type, str) or key_type not in _PUBLIC_MEMBERS or not _PRIVATE_MEMBERS.isdisjoint(jwk):
        return None
    if not all(value is None or isinstance(value, str) for value in (kid, alg, issuer)) or not _is_for_signatures(jwk):
        return None
    # Only what makes the key is handed to joserfc: certificates and their URLs are nobody's business here (JW-2).
    public = {name: jwk.get(name) for name in _PUBLIC_MEMBERS[key_type]}
    if not all(isinstance(value, str) and len(value) <= _MAX_MEMBER for value in public.values()):
        return None
    curve = public.get("crv")
    if (key_type, curve) not in _SUPPORTED_KEYS or (key_type == "RSA" and _bits(cast("str", public["n"])) not in _RSA_BITS):
        return None
    try:
        key = JWKRegistry.import_key({"kty": key_type, **cast("dict[str, str]", public)})
    except (JoseError, ValueError):
        return None
    return VerificationKey(kid=kid, key_type=key_type, curve=curve, alg=alg, issuer=issuer, key=key)


def _is_for_signatures(jwk: Mapping[str, Any]) -> bool:
    """RFC 7517 sections 4.2 and 4.3: both members are optional, and bind where they are present."""
    use, operations = jwk.get("use"), jwk.get("key_ops")
    return (use is None or use == "sig") and (operations is None or (isinstance(operations, list) and "verify" in operations))


def _bits(text: str) -> int:
    """The length in bits of a base64url number; 0 if it is none. Checked before joserfc sees it: it only warns of short keys."""
    return int.from_bytes(decode_base64url(text) or b"", "big").bit_length()
