"""The device authorization grant (RFC 8628), as data."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.core.client_auth import client_secret_basic, client_secret_post, none
from pauth.core.device import (
    DEVICE_GRANT,
    Poll,
    PollSchedule,
    build_device_authorization_request,
    build_device_token_request,
    device_login_expired,
    parse_device_authorization_response,
    parse_device_token_response,
    usual_seconds,
)
from pauth.core.pending_device import DeviceAuthorization, DeviceLogin, check_device_binding
from pauth.core.quirks import ErrorPattern, Quirks
from pauth.core.token import Token
from pauth.core.wire import HTTPResponse
from pauth.errors import (
    AuthorizationError,
    ConfigurationError,
    InvalidStateError,
    MalformedResponse,
    PAuthError,
    ProviderUnavailable,
    Remedy,
    TokenError,
    UnsupportedRecord,
    UntrustedServer,
)
from pauth.providers import Providers
from pauth.secret import Secret
from tests.core.grant_samples import CLIENT_ID, CLIENT_SECRET, GOOD, ISSUER, NOW, REQUESTED_AT, TOKEN_ENDPOINT, answer, pairs_of
from tests.support.canary import leaks_in_error

ENDPOINT = "https://as.example/device_authorization"
DEVICE_CODE = "CANARY-device-code"
STARTED: dict[str, Any] = {
    "device_code": DEVICE_CODE,
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://as.example/device",
    "verification_uri_complete": "https://as.example/device?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 7,
}
PENDING = DeviceAuthorization(
    device_code=Secret(DEVICE_CODE),
    user_code="WDJB-MJHT",
    verification_uri="https://as.example/device",
    verification_uri_complete="https://as.example/device?user_code=WDJB-MJHT",
    expires_at=REQUESTED_AT + 1800,
    interval=7.0,
    issuer=ISSUER,
    token_endpoint=TOKEN_ENDPOINT,
    client_id=CLIENT_ID,
    scope=("a", "b"),
)


def started(response: HTTPResponse, *, quirks: Quirks | None = None, **options: Any) -> DeviceAuthorization:
    arguments: dict[str, Any] = {
        "issuer": ISSUER,
        "token_endpoint": TOKEN_ENDPOINT,
        "client_id": CLIENT_ID,
        "requested_scope": ("a", "b"),
        "now": NOW,
        "secrets": [CLIENT_SECRET],
        **options,
    }
    return parse_device_authorization_response(response, quirks=quirks or Quirks(), **arguments)


def polled(response: HTTPResponse, *, quirks: Quirks | None = None) -> Token | Poll:
    return parse_device_token_response(response, authorization=PENDING, quirks=quirks or Quirks(), now=NOW, secrets=[CLIENT_SECRET])


def error_of(call: Any, *arguments: Any, **options: Any) -> PAuthError:
    with pytest.raises(PAuthError) as caught:
        call(*arguments, **options)
    assert list(leaks_in_error(caught.value)) == []
    return caught.value


# --- The device authorization endpoint


def test_the_request_is_a_form_with_the_clients_authentication() -> None:
    """RFC 8628 section 3.1: a client that authenticates names itself in no other way."""
    options: dict[str, Any] = {"device_authorization_endpoint": ENDPOINT, "client_id": CLIENT_ID, "quirks": Quirks()}
    request = build_device_authorization_request(
        **options,
        client_secret=CLIENT_SECRET,
        client_auth=client_secret_basic,
        scope=("a", "b"),
        resource=("https://api.example/1", "https://api.example/2"),
    )
    assert (request.method, request.url) == ("POST", ENDPOINT)
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"client-1:CANARY-client-secret-1").decode()
    assert pairs_of(request) == [("scope", "a b"), ("resource", "https://api.example/1"), ("resource", "https://api.example/2")]
    public = build_device_authorization_request(**options, client_secret=None, client_auth=none)
    assert "Authorization" not in public.headers
    assert pairs_of(public) == [("client_id", CLIENT_ID)]


def test_the_scopes_are_joined_as_the_provider_wants_it() -> None:
    request = build_device_authorization_request(
        device_authorization_endpoint=ENDPOINT,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        client_auth=client_secret_post,
        quirks=Quirks(scope_separator=","),
        scope=("a", "b"),
    )
    assert pairs_of(request)[0] == ("scope", "a,b")


def test_what_the_server_gave() -> None:
    assert started(answer(STARTED)) == PENDING


def test_what_may_be_left_out() -> None:
    read = started(answer({name: STARTED[name] for name in ("device_code", "user_code", "verification_uri")}))
    assert (read.verification_uri_complete, read.interval, read.expires_at) == (None, 5.0, REQUESTED_AT + 600)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, 5.0),
        (1, 1.0),
        ("7", 7.0),
        (0.25, 1.0),
        (0, 5.0),
        (-3, 5.0),
        ("-3", 5.0),
        ("", 5.0),
        ("٣", 5.0),
        ("9" * 21, 5.0),
        (True, 5.0),
        ([1], 5.0),
        (10**9, 300.0),
        ("99999999999999999999", 300.0),
    ],
)
def test_dv5_the_interval_stays_within_bounds(said: object, seconds: float) -> None:
    assert started(answer({**STARTED, "interval": said})).interval == seconds


@pytest.mark.parametrize(("said", "seconds"), [(None, 600.0), (0, 600.0), (-1, 600.0), ("soon", 600.0), (0.5, 1.0), (10**9, 3600.0), (900, 900.0)])
def test_dv5_the_lifetime_stays_within_bounds(said: object, seconds: float) -> None:
    assert started(answer({**STARTED, "expires_in": said})).expires_at == REQUESTED_AT + seconds


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.lists(st.integers(), max_size=2)))
def test_dv5_nobody_is_asked_more_than_once_a_second(said: object) -> None:
    seconds = usual_seconds(said, missing=5.0, lowest=1.0, highest=300.0)
    assert 1.0 <= PollSchedule(seconds).wait <= 300.0


@pytest.mark.parametrize("code", ["\x1b[2J\x1b[31mWDJB-MJHT\x1b[0m", "WDJB-\u202eMJHT\x07", "\x9b5mWDJB-MJHT", " WDJB-MJHT\r\n", "WDJB-MJHTé"])
def test_dv3_na9_a_user_code_is_shown_without_what_a_terminal_would_obey(code: str) -> None:
    assert started(answer({**STARTED, "user_code": code})).user_code == "WDJB-MJHT"


def test_dv3_a_user_code_is_short() -> None:
    assert started(answer({**STARTED, "user_code": "A" * 10_000})).user_code == "A" * 64


@pytest.mark.parametrize(
    "uri",
    [
        "http://as.example/device",
        "https://as.example/\x1b[31mdevice",
        "javascript:alert(1)",
        "https://user@as.example/",
        "https://as.example/device#x",
    ],
)
def test_dv3_nobody_is_sent_to_a_bad_verification_uri(uri: str) -> None:
    error = error_of(started, answer({**STARTED, "verification_uri": uri}))
    assert isinstance(error, UntrustedServer)
    assert "verification_uri" in str(error)
    assert started(answer({**STARTED, "verification_uri_complete": uri})).verification_uri_complete is None


def test_plain_http_where_it_is_permitted() -> None:
    uri = "http://as.example/device"
    assert started(answer({**STARTED, "verification_uri": uri}), allow_insecure_http=True).verification_uri == uri


@pytest.mark.parametrize(
    "changes",
    [
        {"device_code": None},
        {"device_code": ""},
        {"device_code": 7},
        {"device_code": "CANARY with a space"},
        {"user_code": None},
        {"user_code": "\x1b[0m"},
        {"user_code": 12345678},
        {"verification_uri": None},
        {"verification_uri": ""},
        {"verification_uri": ["https://as.example/device"]},
    ],
)
def test_an_answer_that_cannot_be_used(changes: dict[str, Any]) -> None:
    assert isinstance(error_of(started, answer({**STARTED, **changes})), MalformedResponse)


def test_an_answer_that_is_no_answer() -> None:
    assert isinstance(error_of(started, answer("<html>", 200, "text/html")), MalformedResponse)
    assert isinstance(error_of(started, answer({}, 503)), ProviderUnavailable)
    error = error_of(started, answer({"error": "unauthorized_client", "error_description": "no CANARY-client-secret-1"}, 400))
    assert isinstance(error, TokenError)
    assert (error.error, error.error_description, error.status, error.remedy) == (
        "unauthorized_client",
        "no [redacted]",
        400,
        Remedy.FIX_CONFIGURATION,
    )


# --- Polls


def test_a_poll_carries_the_device_code_in_its_body() -> None:
    options: dict[str, Any] = {"authorization": PENDING, "client_id": CLIENT_ID}
    request = build_device_token_request(**options, client_secret=None, client_auth=none)
    assert (request.method, request.url) == ("POST", TOKEN_ENDPOINT)
    assert pairs_of(request) == [("grant_type", DEVICE_GRANT), ("device_code", DEVICE_CODE), ("client_id", CLIENT_ID)]
    error = error_of(build_device_token_request, **options, client_secret=None, client_auth=client_secret_basic)
    assert isinstance(error, ConfigurationError)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("poll", Poll)
def test_dv1_ask_again(poll: Poll, status: int) -> None:
    assert polled(answer({"error": poll.value}, status)) is poll


@pytest.mark.parametrize(("status", "code"), [(428, "authorization_pending"), (403, "slow_down")])
def test_dv2_googles_statuses_count_at_google_only(status: int, code: str) -> None:
    assert polled(answer({"error": code}, status), quirks=Providers.GOOGLE.quirks) is Poll(code)
    assert isinstance(error_of(polled, answer({"error": code}, status)), TokenError)


def test_google_calls_it_verification_url() -> None:
    document = {name: value for name, value in STARTED.items() if name != "verification_uri"}
    document["verification_url"] = "https://www.google.com/device"
    assert started(answer(document), quirks=Providers.GOOGLE.quirks).verification_uri == "https://www.google.com/device"
    assert isinstance(error_of(started, answer(document)), MalformedResponse)


@pytest.mark.parametrize(
    ("code", "says", "quirks"),
    [
        ("access_denied", "refused by the user", Quirks()),
        ("authorization_declined", "refused by the user", Providers.MICROSOFT.quirks),
        ("expired_token", "expired", Quirks()),
        ("invalid_grant", "used already", Quirks()),
        ("bad_verification_code", "used already", Quirks(dead_grants=(ErrorPattern("bad_verification_code"),))),
    ],
)
def test_dv1_what_ends_a_login(code: str, says: str, quirks: Quirks) -> None:
    error = error_of(polled, answer({"error": code, "error_description": f"of {DEVICE_CODE}"}, 400), quirks=quirks)
    assert type(error) is AuthorizationError
    assert (error.error, error.error_description, error.status, error.remedy) == (code, "of [redacted]", 400, Remedy.LOG_IN_AGAIN)
    assert says in str(error)


def test_other_refusals_are_the_clients_fault() -> None:
    error = error_of(polled, answer({"error": "invalid_client"}, 401))
    assert (type(error), error.remedy) == (TokenError, Remedy.FIX_CONFIGURATION)
    assert isinstance(error_of(polled, answer({"error": "slow_down"}, 429)), ProviderUnavailable)
    assert isinstance(error_of(polled, answer("no JSON", 200)), MalformedResponse)


def test_the_token_is_of_this_login() -> None:
    token = polled(answer(GOOD))
    assert isinstance(token, Token)
    assert (token.scope, token.scope_assumed, token.issuer, token.token_endpoint) == (("a", "b"), True, ISSUER, TOKEN_ENDPOINT)


def test_dv1_slower_for_good() -> None:
    schedule = PollSchedule(5.0)
    waits = [schedule.wait]
    for poll in (Poll.PENDING, Poll.SLOW_DOWN, Poll.PENDING, Poll.SLOW_DOWN, Poll.PENDING):
        schedule = schedule.answered(poll)
        waits.append(schedule.wait)
    assert waits == [5, 5, 10, 10, 15, 15]


def test_dv2_later_and_later_while_there_is_no_answer() -> None:
    schedule = PollSchedule(5.0)
    waits: list[float] = []
    for _ in range(5):
        schedule = schedule.failed(None)
        waits.append(schedule.wait)
    assert waits == [10, 20, 40, 60, 60]
    assert schedule.answered(Poll.PENDING).wait == 5
    assert schedule.failed(90.0).wait == 90
    assert PollSchedule(120.0).failed(None).wait == 120, "never faster than the interval"
    assert PollSchedule(5.0, failures=10**6).wait == 60


def test_the_login_that_nobody_decided_about() -> None:
    error = device_login_expired()
    assert (error.error, error.remedy) == ("expired_token", Remedy.LOG_IN_AGAIN)


# --- What is kept


def test_what_is_kept_comes_back() -> None:
    assert DeviceAuthorization.from_dict(PENDING.to_dict()) == PENDING
    assert DeviceAuthorization.from_dict({**PENDING.to_dict(), "of a newer version": 1}) == PENDING


@pytest.mark.parametrize("name", sorted(PENDING.to_dict()))
@pytest.mark.parametrize("value", [b"CANARY", ["CANARY", 1], float("inf"), True])
def test_what_is_kept_in_another_form_is_refused(name: str, value: object) -> None:
    error = error_of(DeviceAuthorization.from_dict, {**PENDING.to_dict(), name: value})
    assert isinstance(error, UnsupportedRecord)


@pytest.mark.parametrize("changes", [{"issuer": None}, {"token_endpoint": "https://evil.example/token"}, {"client_id": "client-2"}])
def test_dv4_a_device_code_is_bound_to_its_server_and_client(changes: dict[str, Any]) -> None:
    here: dict[str, Any] = {"issuer": ISSUER, "token_endpoint": TOKEN_ENDPOINT, "client_id": CLIENT_ID}
    assert check_device_binding(PENDING, **here) is PENDING
    assert isinstance(error_of(check_device_binding, PENDING, **{**here, **changes}), InvalidStateError)
    assert isinstance(error_of(check_device_binding, None, **here), InvalidStateError)


def test_dv4_sh1_neither_prints_its_secret() -> None:
    login = DeviceLogin("WDJB-MJHT", "https://as.example/device", None, NOW, Secret("CANARY-handle"))
    for shown in (repr(PENDING), str(PENDING), repr(login), f"{login}"):
        assert "CANARY" not in shown
