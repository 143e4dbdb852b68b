"""ID-token validation (OpenID Connect Core 3.1.3.7, 3.1.3.8 and 12.2; RFC 8725) against keys that are already at hand.

There is one way in, :func:`validate_id_token`. The signature is always verified, also when the token came straight from the token endpoint (ID-5).
:func:`decode_claims` reads a token again that was validated before.

Each rule is a function that gives an error or ``None``, and errors are raised only in frames that hold no claim and no raw token: a traceback that
shows local variables stays harmless (SH-5).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

from pauth.core.jwks import ALGORITHMS, Jwks, UnknownKid, VerificationKey, decode_base64url, parse_jwks
from pauth.core.wire import parse_json_object
from pauth.errors import ConfigurationError, MalformedResponse, Remedy, UntrustedServer
from pauth.secret import Secret

__all__ = ["TENANT_PLACEHOLDER", "IdTokenClaims", "Jwks", "UnknownKid", "decode_claims", "names_another", "parse_jwks", "validate_id_token"]

TENANT_PLACEHOLDER: Final = "{tenantid}"
"""What Microsoft's metadata of all tenants writes in place of the tenant; the token's ``tid`` is put there, and nothing else (ID-2)."""

_MAX_TOKEN: Final = 64 * 1024
_MAX_HEADER: Final = 4 * 1024
_MAX_SUBJECT: Final = 255
_MAX_DATE: Final = 253_402_300_799
"""31 December 9999. A larger number is not a date (milliseconds, 1e300), and arithmetic with it would mislead or overflow."""

_TENANT_ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True, repr=False)
class IdTokenClaims:
    """What a validated ID token says.

    A user is known by (:attr:`issuer`, :attr:`subject`) and by nothing else: names and addresses change hands (ID-13).
    """

    issuer: str
    """The issuer as the provider's record spells it: one spelling per issuer, also where tokens use an alias."""

    subject: str
    audience: tuple[str, ...]
    claims: Mapping[str, Any]
    """All claims of the token, read-only. Personal data; ``email`` proves nothing unless ``email_verified`` is true."""

    def __repr__(self) -> str:
        return f"<IdTokenClaims issuer={self.issuer!r}>"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class _Segments:
    header: bytes
    claims: bytes
    signature: bytes
    signing_input: bytes


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class _SignedToken:
    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    segments: _Segments


def validate_id_token(
    id_token: Secret,
    *,
    jwks: Jwks,
    issuer: str,
    client_id: str,
    nonce: Secret | None,
    now: float,
    algorithms: Sequence[str] = ("RS256",),
    access_token: Secret | None = None,
    code: Secret | None = None,
    leeway: float = 60,
    max_age_of_issue: float = 600,
    previous: IdTokenClaims | None = None,
    issuer_aliases: Sequence[str] = (),
    trusted_audiences: Sequence[str] = (),
) -> IdTokenClaims:
    """The claims of ``id_token``, if all of OpenID Connect Core 3.1.3.7 holds for it.

    :param jwks: the server's keys; no key is ever taken from the token.
    :param issuer: the issuer of the server's metadata, compared exactly. With :data:`TENANT_PLACEHOLDER` in it, the token's ``tid`` is put there.
    :param nonce: what the authorization request sent. ``None`` if it sent none (or this is a refresh): then the token must not have one either,
        but for the one that ``previous`` has (OpenID Connect Core 12.2).
    :param now: seconds since the Unix epoch.
    :param algorithms: what the client is registered for (``id_token_signed_response_alg``); names from :data:`pauth.core.jwks.ALGORITHMS`.
    :param access_token: the access token that came with it, for ``at_hash``.
    :param code: the authorization code it was exchanged for, for ``c_hash``.
    :param leeway: seconds by which the clocks may differ.
    :param max_age_of_issue: seconds after which a token is too old to be the answer to a request just made.
    :param previous: the claims of the login's first ID token, when this one came with a refresh: it must speak of the same user (TE-14).
    :param issuer_aliases: other spellings of ``issuer`` that tokens of this provider use (Google's ``accounts.google.com``).
    :param trusted_audiences: further audiences a token may have beside ``client_id``.
    :raises UnknownKid: none of ``jwks`` can have signed it; fetch the keys again, once.
    :raises UntrustedServer: a rule was broken; the message says which, and quotes nothing of the token.
    :raises ConfigurationError: ``algorithms`` is empty or holds a name that pauth does not verify (``none``, ``HS256``).
    """
    allowed = _names(algorithms, "algorithms")
    if not allowed or not ALGORITHMS.keys() >= set(allowed):
        raise ConfigurationError(f"the algorithms of ID tokens must be some of {', '.join(ALGORITHMS)}")
    aliases, trusted = _names(issuer_aliases, "issuer_aliases"), _names(trusted_audiences, "trusted_audiences")

    token = _decode(id_token)
    if isinstance(token, UntrustedServer):
        raise token
    problem = _header_problem(token, allowed)
    if problem is not None:
        raise problem
    alg = cast("str", token.header["alg"])
    key = jwks.select(kid=token.header.get("kid"), alg=alg)
    if not key.verifies(alg, token.segments.signing_input, token.segments.signature):
        # Without a kid there is no telling a forgery from a key that was changed since the key set was fetched.
        kind = UntrustedServer if "kid" in token.header else UnknownKid
        raise kind("the ID token was refused: its signature is wrong; log in again, and report this to the provider if it comes back")

    actual_issuer = _issuer(token, key, issuer, aliases)
    if actual_issuer is None:
        raise _refused("its issuer (iss) is not the one this login is for", "check the issuer or tenant that is configured")
    problem = (
        _audience_problem(token, client_id, trusted)
        or _time_problem(token, now, leeway, max_age_of_issue)
        or _nonce_problem(token, nonce, previous)
        or _subject_problem(token)
        or _hash_problem(token, "at_hash", access_token)
        or _hash_problem(token, "c_hash", code)
    )
    if problem is not None:
        raise problem
    claims = IdTokenClaims(actual_issuer, token.claims["sub"], _audience(token), MappingProxyType(dict(token.claims)))
    problem = _identity_problem(claims, previous)
    if problem is not None:
        raise problem
    return claims


def decode_claims(id_token: Secret, *, issuer: str, issuer_aliases: Sequence[str] = ()) -> IdTokenClaims | None:
    """What an ID token says, **without** checking its signature; ``None`` if it cannot be read.

    For one that was validated when it was issued and has been in the token storage since (to be the ``previous`` of :func:`validate_id_token`),
    and for refusing one (:func:`names_another`). Nothing else may rest on it.

    :param issuer: put in the place of ``issuer_aliases``, so that one issuer has one spelling.
    """
    aliases = _names(issuer_aliases, "issuer_aliases")
    token = _decode(id_token)
    if isinstance(token, UntrustedServer):
        return None
    named, subject = token.claims.get("iss"), token.claims.get("sub")
    if not isinstance(named, str) or not isinstance(subject, str):
        return None
    canonical = issuer if named in aliases else named
    return IdTokenClaims(canonical, subject, _audience(token), MappingProxyType(dict(token.claims)))


def names_another(claims: IdTokenClaims | None, previous: IdTokenClaims) -> bool:
    """Whether the claims of an ID token, valid or not, are of another issuer or subject than ``previous`` (TE-14)."""
    return claims is not None and (claims.issuer != previous.issuer or claims.subject != previous.subject)


def _names(values: Sequence[str], name: str) -> tuple[str, ...]:
    # A str is a sequence of str too, and `x in "RS256"` would look for substrings.
    if isinstance(values, str):
        raise ConfigurationError(f"{name} must be a list of strings, not one string")
    return tuple(values)


def _refused(rule: str, advice: str, *, remedy: Remedy | None = None) -> UntrustedServer:
    return UntrustedServer(f"the ID token was refused: {rule}; {advice}", remedy=remedy)


def _split(id_token: Secret) -> _Segments | UntrustedServer:
    """Take a compact JWS apart (RFC 7515 section 7.1, JW-5). Sizes are checked before anything is decoded (JW-4)."""
    text = id_token.reveal()
    if len(text) > _MAX_TOKEN:
        return _refused(f"it is longer than {_MAX_TOKEN} characters", "ask the provider for fewer claims")
    segments = text.split(".")
    if len(segments) == 5:
        return _refused("it is encrypted", "register the client for signed ID tokens without encryption")
    if len(segments) == 3 and len(segments[0]) <= _MAX_HEADER:
        header, claims, signature = (decode_base64url(segment) for segment in segments)
        # The empty signature of `alg: none` is not base64url to decode_base64url.
        if header is not None and claims is not None and signature is not None:
            return _Segments(header, claims, signature, f"{segments[0]}.{segments[1]}".encode("ascii"))
    return _refused("it is not a signed JWT in compact form", "report this to the provider")


def _decode(id_token: Secret) -> _SignedToken | UntrustedServer:
    segments = _split(id_token)
    if isinstance(segments, UntrustedServer):
        return segments
    try:
        return _SignedToken(parse_json_object(segments.header), parse_json_object(segments.claims), segments)
    except MalformedResponse:
        return _refused("its header or its claims are not a JSON object by strict rules", "report this to the provider")


def _header_problem(token: _SignedToken, algorithms: Sequence[str]) -> UntrustedServer | None:
    """JW-1, JW-3, JW-7. ``jwk``, ``jku``, ``x5u`` and ``x5c`` are never looked at (JW-2)."""
    header = token.header
    if "crit" in header or "b64" in header:
        return _refused("its header demands an extension that pauth does not know (crit or b64)", "report this to the provider")
    if header.get("alg") not in algorithms:
        return _refused(f"it is not signed with {' or '.join(algorithms)}", "check the algorithm registered for this client")
    if "kid" in header and not isinstance(header["kid"], str):
        return _refused("its key id (kid) is not a string", "report this to the provider")
    # Every JWT with a purpose of its own says so in this way (at+jwt, logout+jwt, dpop+jwt; RFC 8725 section 3.11). ID tokens have no such type.
    token_type = header.get("typ", "JWT")
    if not isinstance(token_type, str) or token_type.lower().endswith("+jwt"):
        return _refused("its type (typ) says that it is another kind of JWT", "report this to the provider")
    return None


def _issuer(token: _SignedToken, key: VerificationKey, issuer: str, aliases: Sequence[str]) -> str | None:
    """The issuer, in the spelling of ``issuer``, if the token is from it (ID-2)."""
    named, tenant = token.claims.get("iss"), token.claims.get("tid")
    if TENANT_PLACEHOLDER not in issuer:
        return issuer if named == issuer or named in aliases else None
    if not isinstance(tenant, str) or _TENANT_ID.fullmatch(tenant) is None:
        return None
    expected = issuer.replace(TENANT_PLACEHOLDER, tenant)
    # A key of one tenant (or of personal accounts) in the key set of all tenants must not sign for another.
    if key.issuer is not None and key.issuer.replace(TENANT_PLACEHOLDER, tenant) != expected:
        return None
    return expected if named == expected else None


def _audience(token: _SignedToken) -> tuple[str, ...]:
    """``aud``, a string or an array of strings, as a tuple; empty if it is anything else."""
    audience = token.claims.get("aud")
    members = cast("list[object]", audience) if isinstance(audience, list) else [cast("object", audience)]
    names = tuple(member for member in members if isinstance(member, str))
    return names if len(names) == len(members) else ()


def _audience_problem(token: _SignedToken, client_id: str, trusted: Sequence[str]) -> UntrustedServer | None:
    """ID-3, ID-4."""
    audience = _audience(token)
    if client_id not in audience:
        return _refused("it is not for this client (aud)", "check the client_id")
    if not {client_id, *trusted}.issuperset(audience):
        return _refused("it is for other clients too (aud)", "name the ones you trust in trusted_audiences")
    if ("azp" in token.claims or len(audience) > 1) and token.claims.get("azp") != client_id:
        return _refused("it was issued to another client (azp)", "check the client_id")
    return None


def _date(value: object) -> float | None:
    """A NumericDate (RFC 7519 section 2): a JSON number, whole or not, between 1970 and 9999; else ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_DATE:
        return None
    return value


def _time_problem(token: _SignedToken, now: float, leeway: float, max_age_of_issue: float) -> UntrustedServer | None:
    """ID-8, ID-9, ID-15. Every comparison is written so that a NaN refuses."""
    expires_at, issued_at, not_before = (_date(token.claims.get(name)) for name in ("exp", "iat", "nbf"))
    if expires_at is None or issued_at is None:
        return _refused("its times (exp, iat) are missing or not numbers of seconds", "report this to the provider")
    if not now < expires_at + leeway:
        return _refused("it has expired (exp)", "check this machine's clock")
    if not issued_at <= now + leeway:
        return _refused("it was issued in the future (iat)", "check this machine's clock")
    if not now - issued_at <= max_age_of_issue:
        return _refused("it was issued too long ago (iat)", "check this machine's clock")
    if "nbf" in token.claims and not (not_before is not None and not_before <= now + leeway):
        return _refused("it is not valid yet (nbf)", "check this machine's clock")
    return None


def _nonce_problem(token: _SignedToken, nonce: Secret | None, previous: IdTokenClaims | None) -> UntrustedServer | None:
    """ID-10. The nonce belongs to one login; a refreshed token may repeat it and must not bring another."""
    if nonce is None and "nonce" not in token.claims:
        return None
    original = previous.claims.get("nonce") if previous is not None else None
    expected = nonce if nonce is not None else Secret(original) if isinstance(original, str) else None
    actual = token.claims.get("nonce")
    if expected is None or not isinstance(actual, str) or Secret(actual) != expected:
        return _refused("it does not belong to this login (nonce)", "log in again", remedy=Remedy.LOG_IN_AGAIN)
    return None


def _subject_problem(token: _SignedToken) -> UntrustedServer | None:
    """ID-13; OpenID Connect Core section 2. A control character would only serve to deceive whoever prints it."""
    subject = token.claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= _MAX_SUBJECT or not subject.isascii() or not subject.isprintable():
        return _refused(f"its subject (sub) is not 1 to {_MAX_SUBJECT} ASCII characters", "report this to the provider")
    return None


def _hash_problem(token: _SignedToken, name: str, secret: Secret | None) -> UntrustedServer | None:
    """ID-14; OpenID Connect Core 3.1.3.6 and 3.3.2.11. A hash that cannot be checked is a wrong hash."""
    if name not in token.claims:
        return None
    claim = token.claims[name]
    if secret is not None and isinstance(claim, str):
        digest = hashlib.new(ALGORITHMS[token.header["alg"]].hash_name, secret.reveal().encode("utf-8", "surrogatepass")).digest()
        expected = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode("ascii")
        if Secret(claim) == Secret(expected):
            return None
    return _refused(f"it was not issued together with what it came with ({name})", "log in again, and report this to the provider if it comes back")


def _identity_problem(claims: IdTokenClaims, previous: IdTokenClaims | None) -> UntrustedServer | None:
    """TE-14; OpenID Connect Core 12.2: a refreshed token speaks of the same login."""
    if previous is None:
        return None
    before, after = previous.claims, claims.claims
    if (
        claims.issuer == previous.issuer
        and claims.subject == previous.subject
        and set(previous.audience) <= set(claims.audience)
        and before.get("azp") == after.get("azp")
        and ("auth_time" not in before or "auth_time" not in after or before["auth_time"] == after["auth_time"])
    ):
        return None
    return _refused("it came with a refresh and speaks of another login", "log in again", remedy=Remedy.LOG_IN_AGAIN)
