"""Hostile tokens: only UntrustedServer escapes, and what escapes tells nothing (SH-1, SH-5)."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pauth.core.id_token
from pauth.core.id_token import UnknownKid
from pauth.errors import UntrustedServer
from pauth.secret import Secret
from tests.core.id_token_kit import ABSENT, ED25519, JWKS, OTHER_RSA, P256, RSA, b64, claims, header, jwks, public, segment, sign, token, validate

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)
CLAIM_NAMES = st.sampled_from(["iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash", "c_hash", "auth_time", "tid", "events"])
HEADER_NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "zip"])


def only_untrusted_server_escapes(id_token: Secret, **options: Any) -> None:
    with contextlib.suppress(UntrustedServer):
        validate(id_token, **options)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(), max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,30}(\.[A-Za-z0-9_-]{0,30}){0,5}", fullmatch=True))
def test_fuzz_any_text(text: str) -> None:
    with pytest.raises(UntrustedServer):
        validate(Secret(text))


@settings(deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=300))
def test_fuzz_any_octets_in_the_segments(head: bytes, payload: bytes, signature: bytes) -> None:
    with pytest.raises(UntrustedServer):
        validate(Secret(f"{b64(head)}.{b64(payload)}.{b64(signature)}"))


@settings(deadline=None)
@given(st.dictionaries(HEADER_NAMES, JSON, max_size=4))
def test_fuzz_headers(changes: dict[str, Any]) -> None:
    only_untrusted_server_escapes(sign({**header(), **changes}, claims()))


@settings(deadline=None)
@given(st.dictionaries(CLAIM_NAMES, JSON, max_size=5), st.booleans(), st.sampled_from(["https://as.example", "https://as.example/{tenantid}"]))
def test_fuzz_well_signed_claims(changes: dict[str, Any], refresh: bool, issuer: str) -> None:
    previous = validate(token()) if refresh else None
    only_untrusted_server_escapes(sign(header(), {**claims(), **changes}), issuer=issuer, previous=previous)


@settings(deadline=None)
@given(st.sampled_from([("RS256", RSA), ("PS256", RSA), ("ES256", P256), ("EdDSA", ED25519)]), st.binary(min_size=1, max_size=600))
def test_jw6_fuzz_signatures(algorithm: tuple[str, Any], signature: bytes) -> None:
    alg, key = algorithm
    head = segment(header(alg=alg, kid=key.kid))
    with pytest.raises(UntrustedServer, match="signature is wrong"):
        validate(Secret(f"{head}.{segment(claims())}.{b64(signature)}"), algorithms=[alg], jwks=jwks(RSA, P256, ED25519))


REFUSALS: dict[str, tuple[Secret, dict[str, Any]]] = {
    "no JWT": (Secret("CANARY-no-jwt"), {}),
    "too long": (Secret("CANARY" * 20_000), {}),
    "encrypted": (Secret("CANARY.b.c.d.e"), {}),
    "claims no JSON": (sign(header(), b'{"CANARY"'), {}),
    "header no JSON": (sign(b'{"CANARY"', claims()), {}),
    "crit": (sign(header(crit=["CANARY"]), claims()), {}),
    "alg": (sign(header(alg="CANARY"), claims()), {}),
    "typ": (sign(header(typ="CANARY+jwt"), claims()), {}),
    "unknown kid": (sign(header(kid="new"), claims()), {}),
    "several keys": (sign(header(kid=ABSENT), claims()), {"jwks": jwks(RSA, OTHER_RSA)}),
    "other key": (token(), {"jwks": jwks(public(P256, kid="rsa"))}),
    "signature": (sign(header(), claims(), key=OTHER_RSA), {}),
    "iss": (token(iss="https://CANARY.example"), {}),
    "tid": (token(tid="CANARY"), {"issuer": "https://as.example/{tenantid}"}),
    "aud": (token(aud="CANARY-other"), {}),
    "audiences": (token(aud=["client-1", "CANARY-other"]), {}),
    "azp": (token(azp="CANARY-other"), {}),
    "exp": (token(exp=1), {}),
    "nbf": (token(nbf="CANARY"), {}),
    "nonce": (token(nonce="CANARY-other"), {}),
    "sub": (token(sub="CANARY" * 100), {}),
    "at_hash": (token(at_hash="CANARY"), {}),
    "previous": (token(sub="CANARY-other"), {"previous": validate(token())}),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_sh1_sh5_errors_and_their_tracebacks_tell_nothing(case: str) -> None:
    id_token, options = REFUSALS[case]
    with pytest.raises(UntrustedServer) as caught:
        validate(id_token, **options)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    inside = [frame for frame in traceback.walk_tb(error.__traceback__) if "/pauth/" in frame[0].f_code.co_filename]
    assert inside
    shown = "".join(traceback.StackSummary.extract(iter(inside), capture_locals=True).format())
    assert str(error).startswith("the ID token was refused: ")
    assert "CANARY" not in shown + str(error) + repr(error) + repr(error.__dict__)
    assert id_token.reveal() not in shown
    assert segment(claims()) not in shown


def test_jw9_unknown_kid_is_an_untrusted_server() -> None:
    with pytest.raises(UnknownKid) as caught:
        validate(sign(header(kid="new"), claims()), jwks=JWKS)
    assert isinstance(caught.value, UntrustedServer)


def test_id5_one_function_reads_an_unverified_token_and_one_module_uses_it() -> None:
    """Only for an ID token that was validated when it was stored, and for refusing one."""
    assert sorted(pauth.core.id_token.__all__) == [
        "IdTokenClaims",
        "Jwks",
        "TENANT_PLACEHOLDER",
        "UnknownKid",
        "decode_claims",
        "names_another",
        "parse_jwks",
        "validate_id_token",
    ]
    package = Path(pauth.core.id_token.__file__).parents[1]
    users = {path.name for path in package.rglob("*.py") if "decode_claims" in path.read_text(encoding="utf-8")}
    assert users == {"id_token.py", "identity.py"}


def test_joserfc_is_imported_at_first_use() -> None:
    """``import pauth`` stays light, and works before the JOSE library is needed."""
    code = "import sys, pauth.core.id_token; print([name for name in sys.modules if name.split('.')[0] in ('joserfc', 'cryptography')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
