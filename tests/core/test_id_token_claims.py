"""OpenID Connect Core 3.1.3.7 on a well-signed token, one thing changed at a time. Names of OIDF Basic RP test modules stand in the tests' names."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pauth.errors import Remedy, UntrustedServer
from pauth.secret import Secret
from tests.core.id_token_kit import ABSENT, ACCESS_TOKEN, CLIENT_ID, CODE, ISSUER, JWKS, NONCE, NOW, RSA, SUBJECT, jwks, public, token, validate

TENANT = "11111111-2222-3333-4444-555555555555"
OTHER_TENANT = "99999999-2222-3333-4444-555555555555"
MICROSOFT = "https://login.microsoftonline.com/{tenantid}/v2.0"


def refused(id_token: Secret, rule: str, **options: Any) -> None:
    with pytest.raises(UntrustedServer, match=rule) as caught:
        validate(id_token, **options)
    assert type(caught.value) is UntrustedServer


def test_oidcc_client_test_a_valid_token_gives_its_claims() -> None:
    claims = validate(token(email="CANARY@mail.example"))
    assert (claims.issuer, claims.subject, claims.audience) == (ISSUER, SUBJECT, (CLIENT_ID,))
    assert claims.claims["email"] == "CANARY@mail.example"


def test_id13_claims_are_read_only_and_their_repr_names_nobody() -> None:
    claims = validate(token(email="CANARY@mail.example"))
    assert repr(claims) == "<IdTokenClaims issuer='https://as.example'>"
    with pytest.raises(TypeError):
        claims.claims["sub"] = "other"  # type: ignore[index]
    with pytest.raises(AttributeError):
        claims.subject = "other"  # type: ignore[misc]


# --- ID-2: iss ---


@pytest.mark.parametrize(
    "iss",
    [
        ABSENT, None, "", 7, [ISSUER], {"iss": ISSUER}, ISSUER + "/", ISSUER[:-1], ISSUER[8:], ISSUER.upper(), "http://as.example", "https://as.example.evil",
        f"https://evil.example/{ISSUER}", "https://as.example\u200b", "https",
    ],
    ids=repr,
)  # fmt: skip
def test_id2_oidcc_client_test_invalid_iss(iss: object) -> None:
    refused(token(iss=iss), "issuer")


def test_id2_an_alias_counts_as_the_issuer_and_keeps_its_one_name() -> None:
    google = "https://accounts.google.com"
    for iss in (google, "accounts.google.com"):
        assert validate(token(iss=iss), issuer=google, issuer_aliases=["accounts.google.com"]).issuer == google
    refused(token(iss="accounts.google.com"), "issuer", issuer=google)
    refused(token(iss="google.com"), "issuer", issuer=google, issuer_aliases=["accounts.google.com"])


def test_id2_the_tenant_template_is_expanded_with_tid() -> None:
    claims = validate(token(iss=MICROSOFT.format(tenantid=TENANT), tid=TENANT), issuer=MICROSOFT)
    assert claims.issuer == f"https://login.microsoftonline.com/{TENANT}/v2.0"


@pytest.mark.parametrize(
    ("iss", "tid"),
    [
        (MICROSOFT.format(tenantid=TENANT), OTHER_TENANT),
        (MICROSOFT.format(tenantid=TENANT), ABSENT),
        (MICROSOFT.format(tenantid=TENANT), [TENANT]),
        (MICROSOFT, TENANT),
        (MICROSOFT, "{tenantid}"),
        (MICROSOFT.format(tenantid="common"), "common"),
        (MICROSOFT.format(tenantid=TENANT + "\n"), TENANT + "\n"),
        (MICROSOFT.format(tenantid=TENANT + "/../" + OTHER_TENANT), TENANT + "/../" + OTHER_TENANT),
        (f"https://evil.example/{TENANT}/v2.0", TENANT),
        (ABSENT, TENANT),
    ],
    ids=repr,
)
def test_id2_the_tenant_template_is_expanded_with_nothing_else(iss: object, tid: object) -> None:
    refused(token(iss=iss, tid=tid), "issuer", issuer=MICROSOFT)


def test_id2_tid_means_nothing_to_an_issuer_without_a_template() -> None:
    refused(token(iss=MICROSOFT.format(tenantid=OTHER_TENANT), tid=OTHER_TENANT), "issuer", issuer=MICROSOFT.format(tenantid=TENANT))


@pytest.mark.parametrize(
    ("key_issuer", "accepted"), [(MICROSOFT, True), (MICROSOFT.format(tenantid=TENANT), True), (MICROSOFT.format(tenantid=OTHER_TENANT), False)]
)
def test_id2_a_key_of_one_tenant_does_not_sign_for_another(key_issuer: str, accepted: bool) -> None:
    id_token, keys = token(iss=MICROSOFT.format(tenantid=TENANT), tid=TENANT), jwks(public(RSA, issuer=key_issuer))
    if accepted:
        assert validate(id_token, issuer=MICROSOFT, jwks=keys).subject == SUBJECT
    else:
        refused(id_token, "issuer", issuer=MICROSOFT, jwks=keys)


# --- ID-3, ID-4: aud, azp ---


@pytest.mark.parametrize(
    "aud",
    [
        ABSENT, None, "", 7, True, [], ["other"], "other", CLIENT_ID.upper(), CLIENT_ID[:-1], CLIENT_ID + "1", [CLIENT_ID, 7], [[CLIENT_ID]],
        {CLIENT_ID: 1}, f"{CLIENT_ID} other",
    ],
    ids=repr,
)  # fmt: skip
def test_id3_oidcc_client_test_invalid_aud_and_missing_aud(aud: object) -> None:
    refused(token(aud=aud), "not for this client")


def test_id3_other_audiences_must_be_trusted() -> None:
    refused(token(aud=[CLIENT_ID, "other"], azp=CLIENT_ID), "for other clients too")
    refused(token(aud=[CLIENT_ID, "other", "third"], azp=CLIENT_ID), "for other clients too", trusted_audiences=["other"])
    assert validate(token(aud=[CLIENT_ID, "other"], azp=CLIENT_ID), trusted_audiences=["other"]).audience == (CLIENT_ID, "other")


def test_id3_an_array_of_one_is_accepted() -> None:
    assert validate(token(aud=[CLIENT_ID])).audience == (CLIENT_ID,)


@pytest.mark.parametrize("azp", ["other", "", None, 7, [CLIENT_ID], CLIENT_ID.upper()], ids=repr)
@pytest.mark.parametrize("aud", [CLIENT_ID, [CLIENT_ID], [CLIENT_ID, "other"]], ids=repr)
def test_id4_azp_must_be_this_client(aud: object, azp: object) -> None:
    refused(token(aud=aud, azp=azp), "azp", trusted_audiences=["other"])


def test_id4_several_audiences_need_azp() -> None:
    refused(token(aud=[CLIENT_ID, "other"]), "azp", trusted_audiences=["other"])
    assert validate(token(azp=CLIENT_ID)).claims["azp"] == CLIENT_ID


# --- ID-8, ID-9, ID-15: exp, iat, nbf ---

NOT_DATES: list[Any] = [ABSENT, None, True, "", str(int(NOW)), [NOW], {}, -1, 1e300, NOW * 1000, 1 << 62]


@pytest.mark.parametrize("exp", NOT_DATES, ids=repr)
def test_id8_exp_must_be_a_date(exp: object) -> None:
    refused(token(exp=exp), "exp")


@pytest.mark.parametrize("iat", NOT_DATES, ids=repr)
def test_id9_oidcc_client_test_missing_iat(iat: object) -> None:
    refused(token(iat=iat), "iat")


@pytest.mark.parametrize("nbf", [value for value in NOT_DATES if value is not ABSENT], ids=repr)
def test_id15_nbf_must_be_a_date(nbf: object) -> None:
    refused(token(nbf=nbf), "nbf")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"exp": NOW - 61}, "expired"),
        ({"exp": NOW - 60}, "expired"),
        ({"exp": NOW - 59.5}, None),
        ({"exp": NOW + 0.5}, None),
        ({"iat": NOW + 60}, None),
        ({"iat": NOW + 61}, "future"),
        ({"iat": NOW - 600}, None),
        ({"iat": NOW - 601}, "too long ago"),
        ({"nbf": NOW + 60}, None),
        ({"nbf": NOW + 61}, "not valid yet"),
        ({"nbf": 0}, None),
    ],
    ids=repr,
)
def test_id8_id9_id15_times(changes: dict[str, Any], rule: str | None) -> None:
    if rule is None:
        assert validate(token(**changes)).subject == SUBJECT
    else:
        refused(token(**changes), rule)


def test_id8_id9_leeway_and_age_are_arguments() -> None:
    refused(token(exp=NOW), "expired", leeway=0)
    refused(token(iat=NOW + 1), "future", leeway=0)
    refused(token(iat=NOW - 6), "too long ago", max_age_of_issue=5)
    assert validate(token(iat=NOW - 86_400), max_age_of_issue=86_400).subject == SUBJECT


@pytest.mark.parametrize("option", ["now", "leeway", "max_age_of_issue"])
def test_id8_id9_a_nan_refuses(option: str) -> None:
    refused(token(), r"\((exp|iat)\)", **{option: math.nan})


# --- ID-10: nonce ---


@pytest.mark.parametrize("nonce", [ABSENT, None, "", "other", 7, [NONCE.reveal()], NONCE.reveal() + "x", "é", NONCE.reveal().lower()], ids=repr)
def test_id10_oidcc_client_test_nonce_invalid(nonce: object) -> None:
    refused(token(nonce=nonce), "nonce")


def test_id10_a_token_of_one_login_is_refused_in_the_next() -> None:
    id_token = token()
    assert validate(id_token).subject == SUBJECT
    refused(id_token, "nonce", nonce=Secret("CANARY-next-nonce"))


def test_id10_a_nonce_nobody_sent_is_refused() -> None:
    refused(token(), "nonce", nonce=None)
    assert validate(token(nonce=ABSENT), nonce=None).subject == SUBJECT


def test_id10_the_remedy_is_to_log_in_again() -> None:
    with pytest.raises(UntrustedServer) as caught:
        validate(token(nonce="other"))
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN


# --- ID-13: sub ---


@pytest.mark.parametrize("sub", [ABSENT, None, "", 7, True, ["a"], "a" * 256, "é", "a\n", "\x00", "a\x7f"], ids=repr)
def test_id13_oidcc_client_test_missing_sub(sub: object) -> None:
    refused(token(sub=sub), "sub")


@pytest.mark.parametrize("sub", ["a", "A", "a" * 255, "auth0|6f", "user name"])
def test_id13_subjects_are_taken_as_they_are(sub: str) -> None:
    assert validate(token(sub=sub)).subject == sub


def test_id13_two_users_of_one_address_are_two_users() -> None:
    first, second = validate(token(sub="1", email="CANARY@mail.example")), validate(token(sub="2", email="CANARY@mail.example"))
    assert (first.issuer, first.subject) != (second.issuer, second.subject)


# --- ID-14: at_hash, c_hash ---

# Left halves of SHA-256, base64url; made with another tool (openssl) than the code under test uses.
AT_HASH = "YiSAgnETw89eYOGKnplIsg"
C_HASH = "6MFke2kmjET4QiExru1nuw"


def test_id14_right_hashes_are_accepted() -> None:
    claims = validate(token(at_hash=AT_HASH, c_hash=C_HASH))
    assert (claims.claims["at_hash"], claims.claims["c_hash"]) == (AT_HASH, C_HASH)


def test_id14_missing_athash_is_accepted() -> None:
    assert "at_hash" not in validate(token()).claims


@pytest.mark.parametrize("name", ["at_hash", "c_hash"])
@pytest.mark.parametrize("value", ["", "x", None, 7, True, [AT_HASH], AT_HASH[:-1], C_HASH[:-1], AT_HASH + "=", C_HASH + "=", "é"], ids=repr)
def test_id14_invalid_athash(name: str, value: object) -> None:
    refused(token(**{name: value}), name)


def test_id14_the_hash_of_something_else_is_refused() -> None:
    refused(token(at_hash=C_HASH), "at_hash")
    refused(token(c_hash=AT_HASH), "c_hash")
    refused(token(at_hash=AT_HASH), "at_hash", access_token=Secret("CANARY-other-access-token"))
    refused(token(at_hash=AT_HASH), "at_hash", access_token=Secret("CANARY-\ud800"))


def test_id14_a_hash_that_cannot_be_checked_is_refused() -> None:
    refused(token(at_hash=AT_HASH), "at_hash", access_token=None)
    refused(token(c_hash=C_HASH), "c_hash", code=None)


# --- TE-14: the token that comes with a refresh ---


def refreshed(previous: dict[str, Any], current: dict[str, Any]) -> str:
    """Log in with ``previous``, then validate ``current`` as a refresh does."""
    first = validate(token(**previous))
    return validate(token(**{"nonce": ABSENT, **current}), nonce=None, code=None, previous=first).subject


@pytest.mark.parametrize(
    ("previous", "current"),
    [
        ({}, {}),
        ({}, {"nonce": NONCE.reveal()}),
        ({"auth_time": 5}, {"auth_time": 5}),
        ({"auth_time": 5}, {}),
        ({}, {"auth_time": 5}),
        ({"azp": CLIENT_ID}, {"azp": CLIENT_ID}),
        ({}, {"aud": [CLIENT_ID]}),
        ({}, {"at_hash": AT_HASH, "email": "CANARY-changed@mail.example"}),
    ],
    ids=repr,
)
def test_te14_a_refreshed_token_of_the_same_login(previous: dict[str, Any], current: dict[str, Any]) -> None:
    assert refreshed(previous, current) == SUBJECT


@pytest.mark.parametrize(
    ("previous", "current", "rule"),
    [
        ({}, {"sub": "CANARY-other"}, "another login"),
        ({}, {"iss": "https://other.example"}, "issuer"),
        ({"auth_time": 5}, {"auth_time": 6}, "another login"),
        ({"auth_time": 5}, {"auth_time": None}, "another login"),
        ({"azp": CLIENT_ID}, {}, "another login"),
        ({}, {"azp": CLIENT_ID}, "another login"),
        ({}, {"nonce": "CANARY-other"}, "nonce"),
        ({}, {"nonce": 7}, "nonce"),
    ],
    ids=repr,
)
def test_te14_oidcc_client_test_refresh_token_of_another_login(previous: dict[str, Any], current: dict[str, Any], rule: str) -> None:
    """refresh-token-invalid-issuer, refresh-token-invalid-sub, and the rest of OpenID Connect Core 12.2."""
    with pytest.raises(UntrustedServer, match=rule):
        refreshed(previous, current)


def test_te14_another_tenant_or_client_is_another_login() -> None:
    def of(tenant: str) -> Secret:
        return token(iss=MICROSOFT.format(tenantid=tenant), tid=tenant)

    first = validate(of(TENANT), issuer=MICROSOFT)
    assert validate(of(TENANT), issuer=MICROSOFT, previous=first) == first
    refused(of(OTHER_TENANT), "another login", issuer=MICROSOFT, previous=first)
    before = validate(token(aud="client-0"), client_id="client-0")
    refused(token(), "another login", previous=before)


def test_te14_a_nonce_the_login_did_not_have_is_refused() -> None:
    first = validate(token(nonce=ABSENT), nonce=None)
    refused(token(), "nonce", nonce=None, previous=first)


def test_defaults_are_those_of_the_specification() -> None:
    """ID-6, ID-8: RS256 and at most 60 seconds."""
    from pauth.core.id_token import validate_id_token

    required: dict[str, Any] = {"jwks": JWKS, "issuer": ISSUER, "client_id": CLIENT_ID, "nonce": NONCE, "access_token": ACCESS_TOKEN, "code": CODE}
    assert validate_id_token(token(), now=NOW + 359, **required).subject == SUBJECT
    with pytest.raises(UntrustedServer, match="expired"):
        validate_id_token(token(), now=NOW + 360, **required)
