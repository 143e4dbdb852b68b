"""What the token endpoint's errors mean (TE-7, TE-8), and that no secret comes back through them (SH-9)."""

from __future__ import annotations

from typing import Any

import pytest

from pauth.core.quirks import ErrorPattern, Quirks
from pauth.errors import MalformedResponse, PAuthError, ProviderUnavailable, ReauthorizationRequired, Remedy, TokenError
from pauth.secret import Secret
from tests.core.grant_samples import GOOD, NOW, OLD, answer, read
from tests.support.canary import leaks_in_error

REFRESHED = {"previous": OLD}


def error_of(response: Any, **arguments: Any) -> PAuthError:
    with pytest.raises(PAuthError) as caught:
        read(response, **arguments)
    assert list(leaks_in_error(caught.value)) == []
    return caught.value


# --- TE-8: the table


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_request"),
        (401, "invalid_client"),
        (400, "invalid_client"),
        (400, "unauthorized_client"),
        (400, "unsupported_grant_type"),
        (400, "invalid_scope"),
        (400, "invalid_target"),
        (403, "something_of_their_own"),
        (400, "invalid_grants"),
        (400, "INVALID_GRANT"),
    ],
)
@pytest.mark.parametrize("arguments", [{}, REFRESHED], ids=["code", "refresh"])
def test_te8_p8_what_only_the_configuration_can_mend(status: int, code: str, arguments: dict[str, Any]) -> None:
    """None of these says that the grant is dead."""
    error = error_of(answer({"error": code, "error_description": "why"}, status), **arguments)
    assert type(error) is TokenError
    assert (error.error, error.status, error.error_description) == (code, status, "why")
    assert error.remedy is Remedy.FIX_CONFIGURATION
    assert not error.retryable
    assert f"{code} (HTTP {status})" in str(error)


@pytest.mark.parametrize("status", [200, 400, 401, 403])
def test_te7_te8_invalid_grant_on_a_refresh(status: int) -> None:
    error = error_of(answer({"error": "invalid_grant", "error_description": "why"}, status), **REFRESHED)
    assert type(error) is ReauthorizationRequired
    assert (error.reason, error.error, error.status, error.remedy) == ("invalid_grant", "invalid_grant", status, Remedy.LOG_IN_AGAIN)


def test_te8_invalid_grant_for_a_code() -> None:
    error = error_of(answer({"error": "invalid_grant"}, 400))
    assert type(error) is TokenError
    assert (error.error, error.remedy) == ("invalid_grant", Remedy.LOG_IN_AGAIN)


@pytest.mark.parametrize("code", ["interaction_required", "login_required", "consent_required", "account_selection_required"])
def test_te8_the_server_wants_to_see_the_user(code: str) -> None:
    error = error_of(answer({"error": code}, 400), **REFRESHED)
    assert isinstance(error, ReauthorizationRequired)
    assert (error.reason, error.error, error.remedy) == (code, code, Remedy.LOG_IN_AGAIN)
    error = error_of(answer({"error": code}, 400))
    assert type(error) is TokenError
    assert error.remedy is Remedy.LOG_IN_AGAIN


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("body", ["", "<html>", {"error": "invalid_grant"}, {"error": "invalid_client"}, GOOD], ids=str)
def test_te8_p8_the_status_decides_before_the_body(status: int, body: Any) -> None:
    """No false death: a server in trouble that says invalid_grant may not mean it."""
    error = error_of(answer(body, status), **REFRESHED)
    assert type(error) is ProviderUnavailable
    assert (error.status, error.remedy, error.request_sent) == (status, Remedy.RETRY, True)
    assert error.retryable


@pytest.mark.parametrize(("header", "seconds"), [("120", 120.0), ("Fri, 15 Jan 2027 08:01:05 GMT", 60.0), ("soon", None)])
def test_p10_retry_after(header: str, seconds: float | None) -> None:
    assert error_of(answer("", 503, retry_after=header), now=NOW).retry_after == seconds
    assert error_of(answer({"error": "temporarily_unavailable"}, 400, retry_after=header), now=NOW).retry_after == seconds


def test_p11_a_retry_after_date_of_a_server_whose_clock_is_wrong() -> None:
    in_a_minute = {"date": "Fri, 15 Jan 2027 23:00:00 GMT", "retry_after": "Fri, 15 Jan 2027 23:01:00 GMT"}
    assert error_of(answer("", 503, **in_a_minute), now=NOW).retry_after == 60.0


@pytest.mark.parametrize("code", ["server_error", "temporarily_unavailable"])
@pytest.mark.parametrize("status", [200, 400])
def test_te8_codes_that_mean_later(code: str, status: int) -> None:
    error = error_of(answer({"error": code, "error_description": "why"}, status), **REFRESHED)
    assert type(error) is ProviderUnavailable
    assert (error.error, error.error_description, error.status) == (code, "why", status)


def test_quirk_transient_errors() -> None:
    busy = answer({"error": "busy"}, 400)
    assert type(error_of(busy)) is TokenError
    assert type(error_of(busy, quirks=Quirks(transient_errors=frozenset({"busy"})))) is ProviderUnavailable


# --- TE-7: errors in good clothes


def test_te7_an_error_member_makes_200_an_error() -> None:
    error = error_of(answer({**GOOD, "error": "invalid_client"}, 200))
    assert type(error) is TokenError
    assert error.status == 200


@pytest.mark.parametrize("value", [None, ""])
def test_te7_an_empty_error_member_is_none(value: object) -> None:
    assert read(answer({**GOOD, "error": value})).access_token


@pytest.mark.parametrize("value", [0, False, True, 5, [], ["invalid_grant"], {}, {"code": "invalid_grant"}, " "])
def test_te7_an_error_member_that_cannot_be_read(value: object) -> None:
    for status in (200, 400):
        error = error_of(answer({**GOOD, "error": value}, status), **REFRESHED)
        assert type(error) is MalformedResponse
        assert error.status == status


def test_quirk_ok_member() -> None:
    quirks = Quirks(ok_member="ok")
    assert read(answer({**GOOD, "ok": True}), quirks=quirks).access_token
    assert read(answer(GOOD), quirks=quirks).access_token
    assert error_of(answer({**GOOD, "ok": False, "error": "no"}), quirks=quirks).error == "no"
    for value in (False, None, 0, 1, "true"):
        assert type(error_of(answer({**GOOD, "ok": value}), quirks=quirks)) is MalformedResponse


def test_quirk_error_object() -> None:
    quirks = Quirks(error_object=True, dead_grants=(ErrorPattern("190"),))
    dead = {"error": {"code": 190, "message": "expired", "type": "OAuthException"}}
    assert type(error_of(answer(dead, 400), quirks=quirks, **REFRESHED)) is ReauthorizationRequired
    assert type(error_of(answer(dead, 400), **REFRESHED)) is MalformedResponse
    text = error_of(answer({"error": {"code": "named", "message": "why", "is_transient": "true"}}, 400), quirks=quirks)
    assert (type(text), text.error, text.error_description) == (TokenError, "named", "why")
    assert type(error_of(answer({"error": {"code": 5, "is_transient": True}}, 400), quirks=quirks)) is ProviderUnavailable
    assert type(error_of(answer({"error": {"message": "no code"}}, 400), quirks=quirks)) is MalformedResponse
    assert error_of(answer({"error": "plain", "error_description": "why"}, 400), quirks=quirks).error_description == "why"


def test_quirk_dead_grants_by_their_text() -> None:
    quirks = Quirks(dead_grants=(ErrorPattern("invalid_request", "token was invalid"),))
    dead = {"error": "invalid_request", "error_description": "Value passed for the token was invalid."}
    assert type(error_of(answer(dead, 400), quirks=quirks, **REFRESHED)) is ReauthorizationRequired
    assert error_of(answer(dead, 400), quirks=quirks).remedy is Remedy.LOG_IN_AGAIN
    assert type(error_of(answer(dead, 400), **REFRESHED)) is TokenError
    for other in ({"error": "invalid_request"}, {**dead, "error": "invalid_scope"}, {**dead, "error_description": "Missing parameter"}):
        assert type(error_of(answer(other, 400), quirks=quirks, **REFRESHED)) is TokenError


# --- answers that say nothing


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
def test_te1_a_redirect_is_not_followed(status: int) -> None:
    error = error_of(answer(GOOD, status, location="https://evil.example/CANARY"), **REFRESHED)
    assert type(error) is MalformedResponse
    assert error.status == status
    assert "redirect" in str(error)


def test_an_answer_that_is_not_final() -> None:
    error = error_of(answer(GOOD, 100))
    assert type(error) is MalformedResponse
    assert "not final" in str(error)


@pytest.mark.parametrize(("body", "content_type"), [("<html>CANARY</html>", "text/html"), ("CANARY", "application/json"), ("[]", "application/json")])
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404])
def test_p8_an_answer_that_cannot_be_read_kills_no_grant(body: str, content_type: str, status: int) -> None:
    error = error_of(answer(body, status, content_type=content_type), **REFRESHED)
    assert type(error) is MalformedResponse
    assert error.status == status
    assert error.__cause__ is None
    assert error.__context__ is None


def test_te8_an_error_status_without_error_member() -> None:
    error = error_of(answer({"message": "Forbidden"}, 403), **REFRESHED)
    assert type(error) is MalformedResponse
    assert "HTTP 403 without an error code" in str(error)


# --- SH-9, AX-10


def test_sh9_a_server_that_repeats_secrets() -> None:
    secrets = (Secret("CANARY-old-refresh"), Secret("CANARY-client-secret-1"))
    body = {"error": "bad CANARY-old-refresh", "error_description": "token CANARY-old-refresh of CANARY-client-secret-1 is bad" + "!" * 1000}
    for status, arguments in ((400, {}), (400, REFRESHED), (200, REFRESHED)):
        error = error_of(answer(body, status), secrets=iter(secrets), **arguments)
        assert error.error == "bad [redacted]"
        assert error.error_description is not None
        assert error.error_description.startswith("token [redacted] of [redacted] is bad!!!")
        assert len(error.error_description) == 200


def test_ax10_hostile_text() -> None:
    body = {"error": "x" * 1000, "error_description": "\x1b[31mred\x1b[0m \u202e<script>\r\n"}
    error = error_of(answer(body, 400))
    assert error.error == "x" * 80
    assert error.error_description == "?[31mred?[0m ?<script>"


def test_sh9_a_description_stays_out_of_the_message() -> None:
    error = error_of(answer({"error": "invalid_client", "error_description": "somebody else's text"}, 401))
    assert "somebody" not in str(error)
