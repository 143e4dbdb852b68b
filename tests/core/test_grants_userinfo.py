"""The userinfo request and its answer (ID-16, ID-18, PX-6)."""

from __future__ import annotations

from typing import Any

import pytest

from pauth.core.grants import UserInfo, build_userinfo_request, parse_userinfo_response
from pauth.core.quirks import Quirks, UserInfoMapping
from pauth.core.wire import HTTPResponse
from pauth.errors import PAuthError, ProviderUnavailable, Remedy, UserInfoError
from pauth.secret import Secret
from tests.core.grant_samples import NOW, OLD, answer
from tests.support.canary import leaks_in_error

CLAIMS = {"sub": "alice", "email": "alice@example.com", "email_verified": True, "name": "Alice", "picture": "https://img.example/a", "locale": "en"}


def parsed(response: HTTPResponse, quirks: Quirks | None = None, **arguments: Any) -> UserInfo:
    return parse_userinfo_response(response, quirks=quirks or Quirks(), now=NOW, **arguments)


def error_of(response: HTTPResponse, quirks: Quirks | None = None, **arguments: Any) -> PAuthError:
    with pytest.raises(PAuthError) as caught:
        parsed(response, quirks, **arguments)
    assert list(leaks_in_error(caught.value)) == []
    assert caught.value.__context__ is None
    return caught.value


def test_rq1_the_token_goes_in_the_header_only() -> None:
    request = build_userinfo_request(userinfo_endpoint="https://as.example/me?fields=id", token=OLD)
    assert (request.method, request.url, request.body) == ("GET", "https://as.example/me?fields=id", None)
    assert request.headers == {"Accept": "application/json", "Authorization": "Bearer CANARY-old-access"}


def test_a_whole_profile() -> None:
    info = parsed(answer(CLAIMS))
    assert info == UserInfo(
        subject="alice", claims=CLAIMS, email="alice@example.com", email_verified=True, name="Alice", picture="https://img.example/a"
    )
    assert info.claims["locale"] == "en"
    with pytest.raises(TypeError):
        info.claims["locale"] = "de"  # type: ignore[index]


def test_a_profile_with_nothing_but_a_subject() -> None:
    assert parsed(answer({"sub": "alice"})) == UserInfo(subject="alice", claims={"sub": "alice"})


def test_sh1_a_profile_shows_no_personal_data() -> None:
    assert repr(parsed(answer(CLAIMS))) == "<UserInfo claims=6 email_verified=True>"


@pytest.mark.parametrize("value", [False, None, "true", "TRUE", "false", 1, 0, [True], {"v": True}])
def test_id18_only_true_verifies_an_address(value: object) -> None:
    assert parsed(answer({**CLAIMS, "email_verified": value})).email_verified is False


def test_id18_a_provider_that_does_not_vouch() -> None:
    assert parsed(answer(CLAIMS), Quirks(userinfo=UserInfoMapping(email_verified=None))).email_verified is False


@pytest.mark.parametrize("address", ["alice@app.example", "O'Neil+x@app.example", "Zoë@exämple.example", "ALICE@App.Example", "a@b"])
def test_ws9_an_address_is_kept(address: str) -> None:
    info = parsed(answer({**CLAIMS, "email": address}))
    assert (info.email, info.email_verified) == (address, True)


def test_ws9_letters_that_look_alike_stay_two() -> None:
    assert parsed(answer({**CLAIMS, "email": "\u0430@app.example"})).email == "\u0430@app.example"


def test_ws9_two_spellings_of_one_address_are_one() -> None:
    assert parsed(answer({**CLAIMS, "email": "Zoe\u0308@app.example"})).email == "Zo\u00eb@app.example"


@pytest.mark.parametrize(
    "address",
    [
        "a\uff20evil",  # a fullwidth @
        "a\ufe6bevil",  # a small one
        "a@evil.example\uff20app.example",
        "a@b@c",
        "a@evil.example@app.example",
        '"a@evil.example"@app.example',
        "a",
        "@app.example",
        "a@",
        "@",
        "a b@app.example",
        "a@evil.example @app.example",
        " a@app.example",
        "a@app.example\n",
        "a@evil.example\r\nBcc: b@app.example",
        "a\x00@app.example",
        "a\u200b@app.example",  # seen by nobody
        "a\u202eb@app.example",  # turns the rest round
        "a\u00a0@app.example",
        "\ufb01n@app.example",  # the ligature fi: another mailbox than fin
        "a@\uff41pp.example",  # a fullwidth a
        "a@app\uff0eexample",  # a fullwidth dot
        "\u2100@app.example",
        "a@app\u3002example",  # a dot, to IDNA
        "a@app\uff61example",
        "a@app\u3000example",
        '"a"@app.example',
        "a@[192.0.2.1]",
        "a,b@app.example",
        "<a@app.example>",
        "a@app.example(b)",
        "mailto:a@app.example",
        "a\\b@app.example",
        "a@app.example;",
    ],
)
def test_ws9_an_address_that_could_be_taken_for_another_is_none(address: str) -> None:
    """It is in the claims, for who knows what to do with it."""
    info = parsed(answer({**CLAIMS, "email": address}))
    assert (info.email, info.email_verified, info.claims["email"]) == (None, False, address)


@pytest.mark.parametrize("value", [5, "", None, ["x"], {"x": "y"}, True])
def test_texts_that_are_none(value: object) -> None:
    info = parsed(answer({"sub": "alice", "email": value, "name": value, "picture": value}))
    assert (info.email, info.name, info.picture) == (None, None, None)


def test_the_first_name_that_holds_text() -> None:
    quirks = Quirks(userinfo=UserInfoMapping(name=(("display", "name"), ("login",))))
    assert parsed(answer({"sub": "a", "display": {"name": "Alice"}, "login": "al"}), quirks).name == "Alice"
    assert parsed(answer({"sub": "a", "display": {"name": ""}, "login": "al"}), quirks).name == "al"
    assert parsed(answer({"sub": "a", "display": "x"}), quirks).name is None


# --- the subject


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ("alice", "alice"),
        (" alice ", " alice "),
        ("Zoë", "Zoë"),
        ("a:b", "a:b"),
        (0, "0"),
        (-5, "-5"),
        (2**53 + 1, "9007199254740993"),
        (2**63, "9223372036854775808"),
        ("x" * 255, "x" * 255),
    ],
)
def test_px6_a_subject_is_kept_exactly(value: object, subject: str) -> None:
    assert parsed(answer({"sub": value})).subject == subject


@pytest.mark.parametrize("value", [None, "", True, False, 1.0, 1.5, ["alice"], {"id": "alice"}, "x" * 256])
def test_id13_a_subject_that_is_none(value: object) -> None:
    error = error_of(answer({"sub": value}))
    assert type(error) is UserInfoError
    assert error.remedy is Remedy.FIX_CONFIGURATION


COMPOSITE = Quirks(userinfo=UserInfoMapping(subject=(("team",), ("user", "id"))))


def test_a_composite_subject() -> None:
    assert parsed(answer({"team": "T1", "user": {"id": 7}}), COMPOSITE).subject == "T1:7"


@pytest.mark.parametrize(
    "claims", [{"team": "T1"}, {"user": {"id": "U1"}}, {"team": "T1:U1", "user": {"id": "U2"}}, {"team": "T1", "user": {"id": ":U"}}]
)
def test_a_composite_subject_must_be_whole_and_unambiguous(claims: dict[str, Any]) -> None:
    assert type(error_of(answer(claims), COMPOSITE)) is UserInfoError


def test_id16_an_answer_about_somebody_else_is_discarded() -> None:
    assert parsed(answer(CLAIMS), expected_subject="alice").subject == "alice"
    for other in ("bob", "Alice", "alic", ""):
        error = error_of(answer(CLAIMS), expected_subject=other)
        assert type(error) is UserInfoError
        assert "another user" in str(error)
        assert "alice" not in str(error)


def test_id16_a_composite_subject_is_known_by_its_sub_too() -> None:
    claims = {"team": "T1", "user": {"id": "U1"}, "sub": "U1"}
    for expected in ("T1:U1", "U1"):
        assert parsed(answer(claims), COMPOSITE, expected_subject=expected).subject == "T1:U1"
    assert type(error_of(answer(claims), COMPOSITE, expected_subject="U2")) is UserInfoError


# --- errors


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, Remedy.RETRY), (403, Remedy.FIX_CONFIGURATION), (400, Remedy.FIX_CONFIGURATION), (200, Remedy.FIX_CONFIGURATION)]
)
def test_the_token_is_refused(status: int, remedy: Remedy) -> None:
    error = error_of(answer({"error": "invalid_token", "error_description": "why CANARY-old-access"}, status), secrets=[Secret("CANARY-old-access")])
    assert type(error) is UserInfoError
    assert (error.error, error.status, error.remedy, error.error_description) == ("invalid_token", status, remedy, "why [redacted]")
    assert f"invalid_token (HTTP {status})" in str(error)


@pytest.mark.parametrize(("status", "remedy"), [(401, Remedy.RETRY), (403, Remedy.FIX_CONFIGURATION)])
@pytest.mark.parametrize("body", ["", "<html>", {"message": "Bad credentials"}], ids=str)
def test_the_token_is_refused_without_an_oauth_error(status: int, remedy: Remedy, body: Any) -> None:
    error = error_of(answer(body, status, content_type="text/html" if isinstance(body, str) else "application/json"))
    assert type(error) is UserInfoError
    assert (error.error, error.status, error.remedy) == (None, status, remedy)
    assert f": HTTP {status};" in str(error)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_userinfo_is_unavailable(status: int) -> None:
    error = error_of(answer("", status, retry_after="7"))
    assert type(error) is ProviderUnavailable
    assert (error.status, error.retry_after) == (status, 7.0)


@pytest.mark.parametrize(
    "response",
    [
        answer("eyJ", content_type="application/jwt"),
        answer("[]"),
        answer('"alice"'),
        answer('{"sub": "a", "sub": "b"}'),
        answer('{"sub": "\\ud800"}'),
        answer({}, 404),
        answer("", 302),
    ],
)
def test_id16_px_an_answer_that_cannot_be_read(response: HTTPResponse) -> None:
    error = error_of(response)
    assert type(error) is UserInfoError
    assert error.status == response.status


def test_id16_a_sub_that_is_no_text_is_no_other_name_of_the_user() -> None:
    claims = {"data": {"id": "7"}, "sub": ["7"]}
    quirks = Quirks(userinfo=UserInfoMapping(subject=(("data", "id"),)))
    assert parsed(answer(claims), quirks, expected_subject="7").subject == "7"
    assert type(error_of(answer(claims), quirks, expected_subject="8")) is UserInfoError
