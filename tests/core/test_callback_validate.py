from __future__ import annotations

from typing import Any

import pytest

from pauth.core.authorization import AuthorizationRequest, AuthorizationResponse, CallbackParams, parse_callback, validate_callback
from pauth.core.callback import CLOCK_SKEW
from pauth.errors import AuthorizationError, InvalidStateError, Remedy
from pauth.secret import Secret
from tests.core.authorization_kit import CODE, ISSUER, NOW, SESSION, build, params

ERROR = {"code": None, "error": "access_denied", "error_description": "the user said no"}
OUTCOMES: list[dict[str, Any]] = [{}, ERROR]
"""A callback with a code, and one with the server's error: what is checked before must not depend on which."""


def validate(callback: CallbackParams, request: AuthorizationRequest | None, **changes: Any) -> AuthorizationResponse:
    arguments: dict[str, Any] = {"session_id": SESSION, "now": NOW + 1}
    return validate_callback(callback, request, **arguments | changes)


def test_ax1_a_good_callback_gives_the_one_thing_that_can_be_exchanged() -> None:
    request = build()
    response = validate(params(request), request)
    assert response == AuthorizationResponse(code=Secret(CODE), request=request)
    assert "CANARY" not in repr(response)


@pytest.mark.parametrize("outcome", OUTCOMES)
class TestState:
    def refused(self, callback: CallbackParams, request: AuthorizationRequest | None, **changes: Any) -> None:
        with pytest.raises(InvalidStateError, match="start the login again") as caught:
            validate(callback, request, **changes)
        assert caught.value.error is None
        assert "said no" not in str(caught.value)
        assert caught.value.remedy is Remedy.LOG_IN_AGAIN

    def test_ax1_missing(self, outcome: dict[str, Any]) -> None:
        request = build()
        self.refused(params(request, **outcome, state=None), request)

    def test_ax1_unknown_or_consumed(self, outcome: dict[str, Any]) -> None:
        self.refused(params(build(), **outcome), None)

    def test_ax1_sh6_of_another_login(self, outcome: dict[str, Any]) -> None:
        self.refused(params(build(), **outcome), build())
        self.refused(params(build(), **outcome, state=Secret("CANARY-é\ud800")), build())

    @pytest.mark.parametrize("late", [600.0, 601.0, 1e9])
    def test_ax4_expired(self, outcome: dict[str, Any], late: float) -> None:
        request = build()
        self.refused(params(request, **outcome), request, now=NOW + late)

    def test_ax4_from_further_in_the_future_than_clocks_differ(self, outcome: dict[str, Any]) -> None:
        request = build()
        self.refused(params(request, **outcome), request, now=NOW - CLOCK_SKEW - 1)

    @pytest.mark.parametrize(
        ("started", "ended"),
        [(SESSION, None), (SESSION, "CANARY-session-2"), (SESSION, ""), (None, SESSION), (None, ""), (SESSION, "é\ud800"), (SESSION, SESSION + " ")],
    )
    def test_ax2_in_another_browser(self, outcome: dict[str, Any], started: str | None, ended: str | None) -> None:
        request = build(session_id=started)
        self.refused(params(request, **outcome), request, session_id=ended)

    def test_ax2_the_stored_hash_is_no_session_id(self, outcome: dict[str, Any]) -> None:
        request = build()
        self.refused(params(request, **outcome), request, session_id=request.session_hash)

    @pytest.mark.parametrize("changes", [{"client_id": "client-2"}, {"token_endpoint": "https://evil.example/token"}, {"client_id": ""}])
    def test_ax5_mx1_md4_started_by_another_client_or_for_another_endpoint(self, outcome: dict[str, Any], changes: dict[str, str]) -> None:
        request = build()
        self.refused(params(request, **outcome), request, **changes)


def test_ax2_without_a_session_on_both_sides() -> None:
    request = build(session_id=None)
    assert validate(params(request), request, session_id=None)


def test_ax2_a_tampered_session_hash_is_refused_cleanly() -> None:
    data = build().to_dict() | {"session_hash": "é\ud800"}
    request = AuthorizationRequest.from_dict(data)
    with pytest.raises(InvalidStateError):
        validate(params(request), request)


@pytest.mark.parametrize("now", [NOW - CLOCK_SKEW, NOW, NOW + 599.9])
def test_ax4_within_its_life_and_the_clocks_difference(now: float) -> None:
    request = build()
    assert validate(params(request), request, now=now)


def test_ax5_mx1_by_the_client_that_started_it() -> None:
    request = build()
    assert validate(params(request), request, client_id="client-1", token_endpoint=f"{ISSUER}/token").request.token_endpoint == f"{ISSUER}/token"


# --- MX-2, MX-3 -------------------------------------------------------------------------------------------------------------------------------------

WRONG = [f"{ISSUER}/", "https://AS.example", f"{ISSUER}:443", "http://as.example", f"{ISSUER}/%2e", "https://evil.example", f" {ISSUER}"]


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("iss", WRONG)
def test_mx2_mx3_a_wrong_issuer_is_refused_and_its_error_not_shown(outcome: dict[str, Any], required: bool, iss: str) -> None:
    request = build(iss_required=required)
    with pytest.raises(AuthorizationError, match="mix-up") as caught:
        validate(params(request, **outcome, iss=iss), request)
    assert caught.value.error is None
    assert caught.value.error_description is None
    assert "access_denied" not in str(caught.value)
    assert iss.strip() not in str(caught.value)


@pytest.mark.parametrize("required", [True, False])
def test_mx2_the_right_issuer_is_accepted(required: bool) -> None:
    request = build(iss_required=required)
    assert validate(params(request, iss=ISSUER), request)
    with pytest.raises(AuthorizationError) as caught:
        validate(params(request, **ERROR, iss=ISSUER), request)
    assert caught.value.error == "access_denied"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_mx2_a_missing_issuer_is_refused_where_the_server_always_sends_it(outcome: dict[str, Any]) -> None:
    request = build(iss_required=True)
    with pytest.raises(AuthorizationError, match="names no issuer") as caught:
        validate(params(request, **outcome), request)
    assert caught.value.error is None


def test_mx2_a_missing_issuer_is_accepted_elsewhere() -> None:
    request = build()
    assert validate(params(request), request)


def test_mx3_github_is_accepted_with_its_issuer_and_without() -> None:
    request = build(issuer="https://github.com/login/oauth")
    assert validate(params(request), request)
    assert validate(params(request, iss="https://github.com/login/oauth"), request)
    with pytest.raises(AuthorizationError, match="mix-up"):
        validate(params(request, iss="https://github.com"), request)


def test_mx3_without_a_configured_issuer_there_is_nothing_to_compare() -> None:
    request = build(issuer=None)
    assert validate(params(request, iss="https://anything.example"), request)


# --- AX-8, AX-10 ------------------------------------------------------------------------------------------------------------------------------------


def test_ax8_both_code_and_error() -> None:
    request = build()
    with pytest.raises(AuthorizationError, match="both") as caught:
        validate(params(request, error="access_denied"), request)
    assert caught.value.error is None


def test_ax8_neither_code_nor_error() -> None:
    request = build()
    with pytest.raises(AuthorizationError, match="neither"):
        validate(params(request, code=None), request)


@pytest.mark.parametrize("code", ["", "a\nb", "é", "\x7f", "CANARY\ud800"])
def test_ax8_a_code_of_characters_no_code_may_hold(code: str) -> None:
    request = build()
    with pytest.raises(AuthorizationError, match="characters"):
        validate(params(request, code=Secret(code)), request)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("access_denied", Remedy.LOG_IN_AGAIN),
        ("server_error", Remedy.LOG_IN_AGAIN),
        ("temporarily_unavailable", Remedy.LOG_IN_AGAIN),
        ("login_required", Remedy.LOG_IN_AGAIN),
        ("something_new", Remedy.LOG_IN_AGAIN),
        ("invalid_request", Remedy.FIX_CONFIGURATION),
        ("invalid_scope", Remedy.FIX_CONFIGURATION),
        ("invalid_target", Remedy.FIX_CONFIGURATION),
        ("unauthorized_client", Remedy.FIX_CONFIGURATION),
        ("unsupported_response_type", Remedy.FIX_CONFIGURATION),
    ],
)
def test_ax8_the_servers_error_says_what_is_to_be_done(error: str, remedy: Remedy) -> None:
    request = build()
    with pytest.raises(AuthorizationError) as caught:
        validate(params(request, code=None, error=error), request)
    assert type(caught.value) is AuthorizationError
    assert (caught.value.error, caught.value.error_description, caught.value.remedy) == (error, None, remedy)
    assert str(caught.value).startswith(f"the server refused the login: {error}; ")


def test_ax10_sh9_an_error_that_repeats_secrets_is_masked() -> None:
    request = build(use_nonce=True)
    assert request.nonce is not None
    assert request.code_verifier is not None
    said = f"{request.state.reveal()} {request.nonce.reveal()} {request.code_verifier.reveal()} \x1b[31m"
    for callback in (
        parse_callback({"error": "x", "error_description": said, "state": request.state.reveal()}),
        params(request, code=None, error="x", error_description=said),  # put together by hand
    ):
        with pytest.raises(AuthorizationError) as caught:
            validate(callback, request)
        assert caught.value.error_description == "[redacted] [redacted] [redacted] ?[31m"
        assert str(caught.value) == "the server refused the login: x ([redacted] [redacted] [redacted] ?[31m); start the login again"


def test_ax10_a_long_description_is_cut() -> None:
    request = build()
    with pytest.raises(AuthorizationError) as caught:
        validate(params(request, code=None, error="e" * 1000, error_description="d" * 1000), request)
    assert len(str(caught.value)) < 400
    assert caught.value.error_description == "d" * 200
