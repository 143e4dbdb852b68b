"""What is checked before a claim is looked at: form, header, key, signature. The names of OIDF Basic RP test modules stand in the tests' names."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jws import JWSRegistry

from pauth.core.id_token import UnknownKid
from pauth.errors import ConfigurationError, UntrustedServer
from pauth.secret import Secret
from tests.core.id_token_kit import (
    ABSENT,
    ED25519,
    JWKS,
    OTHER_RSA,
    P256,
    P384,
    P521,
    RSA,
    SUBJECT,
    b64,
    claims,
    header,
    jwks,
    public,
    segment,
    sign,
    token,
    validate,
)


def test_id5_oidcc_client_test_idtoken_sig_rs256_is_accepted() -> None:
    assert validate(token()).subject == SUBJECT


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("RS384", RSA), ("RS512", RSA), ("PS256", RSA), ("PS384", RSA), ("PS512", RSA),
        ("ES256", P256), ("ES384", P384), ("ES512", P521), ("EdDSA", ED25519), ("Ed25519", ED25519),
    ],
)  # fmt: skip
def test_id6_every_registered_algorithm_verifies(alg: str, key: Any) -> None:
    signed_with = "EdDSA" if alg == "Ed25519" else alg
    id_token = sign(header(alg=alg, kid=key.kid), claims(), key=key, alg=signed_with)
    assert validate(id_token, jwks=jwks(RSA, P256, P384, P521, ED25519), algorithms=[alg]).subject == SUBJECT


@pytest.mark.parametrize(
    ("alg", "key"),
    [("RS256", OTHER_RSA), ("RS512", OTHER_RSA), ("PS256", OTHER_RSA), ("ES256", P256), ("EdDSA", ED25519)],
)
def test_id5_oidcc_client_test_invalid_sig(alg: str, key: Any) -> None:
    """invalid-sig-rs256, invalid-sig-es256: signed by a key that is not the server's, under the kid of one that is."""
    trusted = {"RSA": RSA, "EC": type(P256).generate_key("P-256"), "OKP": type(ED25519).generate_key("Ed25519")}[key.key_type]
    id_token = sign(header(alg=alg, kid="k"), claims(), key=key, alg=alg)
    with pytest.raises(UntrustedServer, match="signature is wrong") as caught:
        validate(id_token, jwks=jwks(public(trusted, kid="k")), algorithms=[alg])
    assert type(caught.value) is UntrustedServer


@pytest.mark.parametrize("position", [0, 100, -1], ids=["first", "middle", "last"])
def test_id5_oidcc_client_test_invalid_sig_rs256_one_changed_octet(position: int) -> None:
    head, payload, signature = token().reveal().split(".")
    changed = "B" if signature[position] == "A" else "A"
    index = position % len(signature)
    # The last character carries two significant bits only; its canonical forms are A, Q, g and w.
    changed = "Q" if position == -1 and signature[-1] == "A" else changed
    with pytest.raises(UntrustedServer, match="signature is wrong"):
        validate(Secret(f"{head}.{payload}.{signature[:index]}{changed}{signature[index + 1 :]}"))


def test_id5_a_changed_payload_is_refused() -> None:
    head, _, signature = token().reveal().split(".")
    with pytest.raises(UntrustedServer, match="signature is wrong"):
        validate(Secret(f"{head}.{segment(claims(sub='other'))}.{signature}"))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize("signature", ["", b64(b"x")], ids=["empty", "some"])
def test_id5_oidcc_client_test_idtoken_sig_none_is_refused(alg: str, signature: str) -> None:
    with pytest.raises(UntrustedServer):
        validate(Secret(f"{segment(header(alg=alg))}.{segment(claims())}.{signature}"))


def test_id6_another_algorithm_of_a_valid_key_is_refused() -> None:
    """alternate-alg: the key would verify PS256; the client is registered for RS256."""
    with pytest.raises(UntrustedServer, match="not signed with RS256"):
        validate(sign(header(alg="PS256"), claims(), alg="PS256"))


@pytest.mark.parametrize("alg", [ABSENT, None, "", "rs256", 256, ["RS256"], {"alg": "RS256"}], ids=repr)
def test_id6_an_absent_or_malformed_alg_is_refused(alg: object) -> None:
    with pytest.raises(UntrustedServer, match="not signed with RS256"):
        validate(sign(header(alg=alg), claims()))


@pytest.mark.parametrize("encoding", ["PEM", "DER", "PKCS1", "JWK"])
@pytest.mark.parametrize("hash_name", ["sha256", "sha384", "sha512"])
def test_id7_invalid_sig_hs256_the_public_key_is_no_hmac_secret(encoding: str, hash_name: str) -> None:
    secret = {
        "PEM": RSA.as_pem(private=False),
        "DER": RSA.as_der(private=False),
        "PKCS1": RSA.public_key.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        "JWK": json.dumps(public(RSA)).encode(),
    }[encoding]

    def forged(alg: str) -> Secret:
        signing_input = f"{segment(header(alg=alg))}.{segment(claims())}"
        return Secret(f"{signing_input}.{b64(hmac.digest(secret, signing_input.encode(), hash_name))}")

    with pytest.raises(UntrustedServer, match="not signed with RS256"):
        validate(forged(f"HS{hash_name[3:]}"))
    with pytest.raises(UntrustedServer, match="signature is wrong"):
        validate(forged("RS256"))


@pytest.mark.parametrize("algorithms", [[], ["none"], ["HS256"], ["RS256", "HS256"], ["ES256K"], ["Ed448"], "RS256", ["rs256"]], ids=repr)
def test_id6_id7_id14_algorithms_that_are_not_verified_cannot_be_configured(algorithms: Any) -> None:
    """ID-14 too: an algorithm whose hash for ``at_hash`` is not known is not in the table, so its tokens fail closed."""
    with pytest.raises(ConfigurationError, match="algorithms"):
        validate(token(), algorithms=algorithms)


@pytest.mark.parametrize("option", ["issuer_aliases", "trusted_audiences"])
def test_a_string_in_place_of_a_list_is_refused(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        validate(token(), **{option: "accounts.google.com"})


@pytest.mark.parametrize(
    ("header_alg", "key", "signed_with"),
    [("ES384", P256, "ES256"), ("ES256", P384, "ES384"), ("ES256", RSA, "RS256"), ("RS256", P256, "ES256"), ("EdDSA", P256, "ES256")],
)
def test_jw1_a_key_of_another_kind_is_not_used(header_alg: str, key: Any, signed_with: str) -> None:
    with pytest.raises(UntrustedServer, match="not for its algorithm"):
        validate(sign(header(alg=header_alg, kid=key.kid), claims(), key=key, alg=signed_with), jwks=jwks(key), algorithms=[header_alg])


@pytest.mark.parametrize("kid", ["rsa", ABSENT, "attacker"], ids=repr)
@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_jw2_keys_in_the_header_are_never_used(name: str, kid: object) -> None:
    attackers: dict[str, Any] = {
        "jwk": public(OTHER_RSA), "jku": "https://attacker.example/jwks", "x5u": "https://attacker.example/x5u", "x5c": [b64(OTHER_RSA.as_der())],
    }  # fmt: skip
    with pytest.raises(UntrustedServer):
        validate(sign(header(kid=kid, **{name: attackers[name]}), claims(), key=OTHER_RSA))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "x5t", "cty", "made-up"])
def test_jw2_such_members_do_not_harm_a_token_that_a_server_key_signed(name: str) -> None:
    assert validate(sign(header(**{name: "anything"}), claims())).subject == SUBJECT


@pytest.mark.parametrize(
    "members",
    [{"crit": ["exp"], "exp": 1}, {"crit": ["b64"], "b64": False}, {"crit": ["b64"], "b64": True}, {"b64": False}, {"crit": []}, {"crit": "alg"}],
    ids=repr,
)
def test_jw3_critical_extensions_and_unencoded_payloads_are_refused(members: dict[str, Any]) -> None:
    with pytest.raises(UntrustedServer, match="crit or b64"):
        validate(sign(header(**members), claims()))


def test_jw4_a_token_above_64_kib_is_not_decoded() -> None:
    with pytest.raises(UntrustedServer, match="longer than 65536"):
        validate(token(padding="x" * 65_536))
    fits = token(padding="x" * 40_000)
    assert validate(fits).subject == SUBJECT


def test_jw4_a_header_above_4_kib_is_not_decoded() -> None:
    assert validate(sign(header(padding="x" * 2900), claims())).subject == SUBJECT
    with pytest.raises(UntrustedServer, match="compact form"):
        validate(sign(header(padding="x" * 3100), claims()))


def test_jw4_deep_json_is_refused() -> None:
    with pytest.raises(UntrustedServer, match="strict rules"):
        validate(sign(header(), b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"))


@pytest.mark.parametrize("mutation", ["{0}", "{0}.{1}", "{0}.{1}.", "{0}..{2}", ".{1}.{2}", "{0}.{1}.{2}.", "{0}.{1}.{2}.{2}", ""])
def test_jw5_exactly_three_segments_none_empty(mutation: str) -> None:
    with pytest.raises(UntrustedServer, match="compact form"):
        validate(Secret(mutation.format(*token().reveal().split("."))))


@pytest.mark.parametrize("mutation", [" {}", "{}\n", "{}=", "{}==", "{}é", "{}\ud800"])
def test_jw5_strict_base64url(mutation: str) -> None:
    with pytest.raises(UntrustedServer, match="compact form"):
        validate(Secret(mutation.format(token().reveal())))


def test_jw5_stray_bits_in_the_last_character_are_refused() -> None:
    text = token().reveal()
    stray = {"A": "B", "Q": "R", "g": "h", "w": "x"}[text[-1]]
    with pytest.raises(UntrustedServer, match="compact form"):
        validate(Secret(text[:-1] + stray))


def test_jw5_json_serialisation_is_refused() -> None:
    head, payload, signature = token().reveal().split(".")
    with pytest.raises(UntrustedServer, match="compact form"):
        validate(Secret(f'{{"protected":"{head}","payload":"{payload}","signature":"{signature}"}}'))


def test_id1_an_encrypted_id_token_is_refused_by_name() -> None:
    with pytest.raises(UntrustedServer, match="encrypted"):
        validate(Secret("a.b.c.d.e"))


@pytest.mark.parametrize("size", [64, 63, 65, 0, 1], ids=lambda size: f"{size} octets")
@pytest.mark.parametrize(("alg", "key"), [("ES256", P256), ("EdDSA", ED25519)])
def test_jw6_degenerate_signatures_are_refused(alg: str, key: Any, size: int) -> None:
    """``r = s = 0`` and wrong lengths."""
    head = header(alg=alg, kid=key.kid)
    with pytest.raises(UntrustedServer):
        validate(Secret(f"{segment(head)}.{segment(claims())}.{b64(bytes(size))}"), jwks=jwks(key), algorithms=[alg])


def test_jw6_a_der_encoded_ecdsa_signature_is_refused() -> None:
    head, payload = segment(header(alg="ES256", kid="p256")), segment(claims())
    raw = JWSRegistry.algorithms["ES256"].sign(f"{head}.{payload}".encode(), P256)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    assert validate(Secret(f"{head}.{payload}.{b64(raw)}"), jwks=jwks(P256), algorithms=["ES256"]).subject == SUBJECT
    with pytest.raises(UntrustedServer, match="signature is wrong"):
        validate(Secret(f"{head}.{payload}.{b64(der)}"), jwks=jwks(P256), algorithms=["ES256"])


@pytest.mark.parametrize(
    "typ",
    [
        "at+jwt", "application/at+jwt", "AT+JWT", "dpop+jwt", "token-introspection+jwt", "logout+jwt", "secevent+jwt", "oauth-authz-req+jwt",
        7, None, ["JWT"],
    ],
    ids=repr,
)  # fmt: skip
def test_jw7_other_kinds_of_jwt_are_refused(typ: object) -> None:
    with pytest.raises(UntrustedServer, match="another kind of JWT"):
        validate(sign(header(typ=typ), claims()))


@pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt", "JOSE"])
def test_jw7_generic_types_are_accepted(typ: str) -> None:
    assert validate(sign(header(typ=typ), claims())).subject == SUBJECT


def test_jw10_oidcc_client_test_kid_absent_single_jwks_is_accepted() -> None:
    assert validate(sign(header(kid=ABSENT), claims()), jwks=JWKS).subject == SUBJECT


def test_jw10_oidcc_client_test_kid_absent_multiple_jwks() -> None:
    """Accepted when one key fits the algorithm; with several that fit, refused rather than tried in turn."""
    id_token = sign(header(kid=ABSENT), claims())
    assert validate(id_token, jwks=jwks(P256, RSA, ED25519)).subject == SUBJECT
    with pytest.raises(UntrustedServer, match="several keys") as caught:
        validate(id_token, jwks=jwks(RSA, OTHER_RSA))
    assert type(caught.value) is UntrustedServer


def test_jw10_oidcc_client_test_signing_key_rotation() -> None:
    """An unseen kid can be told from other failures; with the new key set the same token is valid, and so are tokens of the old key."""
    id_token = sign(header(kid="other"), claims(), key=OTHER_RSA)
    with pytest.raises(UnknownKid):
        validate(id_token, jwks=jwks(RSA))
    rotated = jwks(RSA, OTHER_RSA)
    assert validate(id_token, jwks=rotated).subject == validate(token(), jwks=rotated).subject == SUBJECT


def test_jw10_rotation_of_a_key_without_a_kid() -> None:
    """A token that names no key and fails may be signed by a newer one."""
    id_token = sign(header(kid=ABSENT), claims(), key=OTHER_RSA)
    with pytest.raises(UnknownKid, match="signature is wrong"):
        validate(id_token, jwks=jwks(RSA))
    assert validate(id_token, jwks=jwks(OTHER_RSA)).subject == SUBJECT


@pytest.mark.parametrize("kid", [None, 7, ["rsa"], {}], ids=repr)
def test_jw10_a_kid_that_is_no_string_is_refused(kid: object) -> None:
    with pytest.raises(UntrustedServer, match="not a string"):
        validate(sign(header(kid=kid), claims()))


@pytest.mark.parametrize(
    "payload",
    [
        b"[]", b'"sub"', b"null", b"true", b"{", b'{"sub":"a","sub":"b"}', b"\xef\xbb\xbf{}", '{"sub":"a"}'.encode("utf-16"), b'{"sub":"\\ud800"}',
        b'{"exp":NaN}', b'{"exp":1e999}', b'{"exp":' + b"9" * 25 + b"}", b"\xff",
    ],
)  # fmt: skip
def test_id15_px1_claims_are_one_strict_json_object(payload: bytes) -> None:
    with pytest.raises(UntrustedServer, match="strict rules"):
        validate(sign(header(), payload))
    with pytest.raises(UntrustedServer, match="strict rules"):
        validate(sign(payload, claims()))


def test_id15_a_duplicate_member_of_the_header_is_refused() -> None:
    with pytest.raises(UntrustedServer, match="strict rules"):
        validate(sign(b'{"alg":"none","alg":"RS256","kid":"rsa"}', claims()))
