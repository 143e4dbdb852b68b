from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pauth.core.jwks import ALGORITHMS, MAX_KEYS, Jwks, UnknownKid, decode_base64url, parse_jwks
from pauth.errors import UntrustedServer
from tests.core.id_token_kit import ABSENT, ED25519, OTHER_RSA, P256, P384, P521, RSA, b64, jwks, public


def kids(document: dict[str, Any]) -> list[str | None]:
    return [key.kid for key in parse_jwks(document).keys]


@pytest.mark.parametrize("key", [RSA, P256, P384, P521, ED25519], ids=lambda key: key.kid)
def test_jw8_a_key_of_each_kind_is_kept(key: Any) -> None:
    assert kids({"keys": [public(key)]}) == [key.kid]


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "key",
        [],
        {},
        {"kty": 1},
        {"kty": ["RSA"]},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "AKP", "pub": "AAAA"},
        public(RSA, n=ABSENT),
        public(RSA, n=65537),
        public(RSA, n="="),
        public(RSA, n="A"),
        public(RSA, e=ABSENT),
        public(RSA, e=""),
        public(RSA, e="AQ"),
        public(RSA, n="\ud800"),
        public(RSA, e="\ud800"),
        public(RSA, kid=7),
        public(RSA, alg=["RS256"]),
        public(RSA, issuer=7),
        public(P256, crv="P-384"),
        public(P256, crv="secp256k1"),
        public(P256, crv=["P-256"]),
        public(P256, y=public(P384)["y"]),
        public(P256, y=ABSENT),
        public(ED25519, crv="X25519"),
        public(ED25519, x="AAAA"),
        public(RSA, kty="EC"),
    ],
)
def test_jw8_unknown_and_malformed_keys_are_skipped_and_the_others_kept(entry: object) -> None:
    assert kids({"keys": [entry, public(OTHER_RSA), entry]}) == ["other"]


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
def test_jw8_a_key_published_with_a_private_member_is_skipped(member: str) -> None:
    assert kids({"keys": [public(RSA, **{member: "AAAA"}), public(OTHER_RSA)]}) == ["other"]


def test_jw8_a_whole_private_key_is_skipped() -> None:
    assert kids({"keys": [RSA.as_dict(private=True), P256.as_dict(private=True), ED25519.as_dict(private=True)]}) == []


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": "RSA"}])
def test_jw8_a_document_without_an_array_of_keys_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(UntrustedServer, match="no array of keys"):
        parse_jwks(document)


def test_jw8_at_most_100_keys() -> None:
    assert kids({"keys": [{}] * (MAX_KEYS - 1) + [public(RSA)]}) == ["rsa"]
    with pytest.raises(UntrustedServer, match="more than 100 keys"):
        parse_jwks({"keys": [{}] * MAX_KEYS + [public(RSA)]})


@pytest.mark.parametrize(("bits", "kept"), [(1024, False), (2047, False), (2048, True), (8192, True), (8193, False), (100_000, False)])
def test_jw8_rsa_moduli_have_2048_to_8192_bits(bits: int, kept: bool) -> None:
    modulus = (1 << (bits - 1)) + 1
    assert len(kids({"keys": [public(RSA, n=b64(modulus.to_bytes((bits + 7) // 8, "big")))]})) == kept


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ({}, True),
        ({"use": "sig"}, True),
        ({"use": "enc"}, False),
        ({"use": ["sig"]}, False),
        ({"key_ops": ["verify"]}, True),
        ({"key_ops": ["sign", "verify", "made-up"]}, True),
        ({"key_ops": ["encrypt"]}, False),
        ({"key_ops": []}, False),
        ({"key_ops": "verify"}, False),
    ],
    ids=repr,
)
def test_jw1_use_and_key_ops_bind(members: dict[str, Any], kept: bool) -> None:
    assert len(kids({"keys": [public(RSA, **members)]})) == kept


def test_jw2_certificates_and_urls_in_a_key_are_ignored() -> None:
    assert kids({"keys": [public(RSA, x5u="file:///etc/passwd", x5c="not a list", x5t=7)]}) == ["rsa"]


FITTING = {
    "rsa": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
    "p256": {"ES256"},
    "p384": {"ES384"},
    "p521": {"ES512"},
    "ed25519": {"EdDSA", "Ed25519"},
}


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_jw1_a_key_verifies_only_algorithms_of_its_type_and_curve(alg: str) -> None:
    keys = jwks(RSA, P256, P384, P521, ED25519)
    assert {key.kid for key in keys.keys if key.fits(alg)} == {kid for kid, algorithms in FITTING.items() if alg in algorithms}


def test_jw1_a_key_reserved_for_one_algorithm_verifies_no_other() -> None:
    [key] = jwks(public(RSA, alg="PS256")).keys
    assert [alg for alg in ALGORITHMS if key.fits(alg)] == ["PS256"]
    [key] = jwks(public(RSA, alg="RSA-OAEP-256")).keys
    assert [alg for alg in ALGORITHMS if key.fits(alg)] == []


def test_jw1_no_symmetric_algorithm_and_no_none() -> None:
    assert {name for name in ALGORITHMS if name.startswith("HS") or name.lower() == "none"} == set()


def test_jw10_the_kid_chooses_the_key() -> None:
    assert jwks(RSA, OTHER_RSA).select(kid="other", alg="RS256").kid == "other"


def test_jw10_without_a_kid_one_fitting_key_is_taken() -> None:
    assert jwks(P256, RSA, public(OTHER_RSA, alg="PS256")).select(kid=None, alg="RS256").kid == "rsa"


@pytest.mark.parametrize(
    ("keys", "kid", "message"),
    [
        (jwks(RSA, OTHER_RSA), None, "several keys"),
        (jwks(RSA, public(OTHER_RSA, kid="rsa")), "rsa", "several keys"),
        (jwks(P256), None, "not for its algorithm"),
        (jwks(RSA, public(P256, kid="x")), "x", "not for its algorithm"),
        (jwks(public(RSA, alg="PS256")), "rsa", "not for its algorithm"),
    ],
)
def test_jw10_jw1_no_key_or_several_keys_fit(keys: Jwks, kid: str | None, message: str) -> None:
    with pytest.raises(UntrustedServer, match=message) as caught:
        keys.select(kid=kid, alg="RS256")
    assert type(caught.value) is UntrustedServer


@pytest.mark.parametrize(
    ("keys", "kid"),
    [(jwks(RSA), "new"), (jwks(public(RSA, kid=ABSENT)), "new"), (jwks(RSA), ""), (jwks(), None), (jwks(), "rsa")],
)
def test_jw9_an_unknown_kid_is_told_apart(keys: Jwks, kid: str | None) -> None:
    with pytest.raises(UnknownKid, match="fetch the key set again"):
        keys.select(kid=kid, alg="RS256")


@pytest.mark.parametrize("bad", ["", "A", "AAAAA", "AA==", "AA=", "A A", "AAAA\n", "+AAA", "/AAA", "AB", "AAB", "é", "\ud800", "AA.AA"])
def test_jw5_base64url_has_one_form(bad: str) -> None:
    assert decode_base64url(bad) is None


@settings(deadline=None)
@given(st.binary(min_size=1))
def test_jw5_base64url_round_trip(data: bytes) -> None:
    assert decode_base64url(b64(data)) == data


def test_reprs_are_harmless() -> None:
    keys = jwks(public(RSA, kid="CANARY-kid"), P256)
    assert repr(keys) == "<Jwks keys=2>"
    assert repr(keys.keys[0]) == "<VerificationKey RSA>"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "sig"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
MEMBERS = st.sampled_from(["kty", "n", "e", "crv", "x", "y", "d", "kid", "alg", "use", "key_ops", "issuer", "x5c"])


@settings(deadline=None)
@given(st.sampled_from([RSA, P256, ED25519]), st.dictionaries(MEMBERS, JSON, max_size=5))
def test_jw8_fuzz_a_changed_key_is_kept_or_skipped(key: Any, changes: dict[str, Any]) -> None:
    assert len(parse_jwks({"keys": [{**public(key), **changes}]}).keys) <= 1


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["keys", "other"]), JSON))
def test_jw8_fuzz_only_untrusted_server_escapes(document: dict[str, Any]) -> None:
    with contextlib.suppress(UntrustedServer):
        parse_jwks(document)
