"""Requests to the token endpoint."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from pauth.core.client_auth import ClientAuth, client_secret_basic, client_secret_post, none
from pauth.core.grants import build_client_credentials_request, build_code_request, build_refresh_request, can_refresh
from pauth.core.quirks import Quirks, RefreshStyle
from pauth.core.wire import HTTPRequest
from pauth.errors import AuthorizationError, ConfigurationError, ReauthorizationRequired, Remedy
from pauth.secret import Secret
from tests.core.grant_samples import CLIENT_ID, CLIENT_SECRET, ISSUER, OLD, TOKEN_ENDPOINT, login, pairs_of
from tests.support.canary import leaks_in_error

BASIC = "Basic " + base64.b64encode(b"client-1:CANARY-client-secret-1").decode()


def code_request(**changes: Any) -> HTTPRequest:
    arguments: dict[str, Any] = {
        "token_endpoint": TOKEN_ENDPOINT,
        "response": login(),
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "client_auth": client_secret_basic,
        "quirks": Quirks(),
        **changes,
    }
    return build_code_request(**arguments)


def refresh_request(**changes: Any) -> HTTPRequest:
    arguments: dict[str, Any] = {
        "token_endpoint": TOKEN_ENDPOINT,
        "token": OLD,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "client_auth": client_secret_basic,
        "quirks": Quirks(),
        "issuer": ISSUER,
        **changes,
    }
    return build_refresh_request(**arguments)


# --- authorization_code


def test_te2_a_code_is_exchanged_in_the_body_of_a_post() -> None:
    response = login()
    verifier = response.request.code_verifier
    assert verifier is not None
    request = code_request(response=response)
    assert (request.method, request.url) == ("POST", TOKEN_ENDPOINT)
    assert request.headers == {
        "Accept": "application/json",
        "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8",
        "Authorization": BASIC,
    }
    assert pairs_of(request) == [
        ("grant_type", "authorization_code"),
        ("code", "CANARY-code"),
        ("redirect_uri", "https://app.example/callback"),
        ("code_verifier", verifier.reveal()),
    ]


def test_te3_one_client_authentication_in_each_request() -> None:
    posted = code_request(client_auth=client_secret_post)
    assert "Authorization" not in posted.headers
    assert pairs_of(posted)[-2:] == [("client_id", CLIENT_ID), ("client_secret", "CANARY-client-secret-1")]
    public = code_request(client_auth=none, client_secret=None)
    assert "Authorization" not in public.headers
    assert pairs_of(public)[-1:] == [("client_id", CLIENT_ID)]
    assert not {"client_id", "client_secret"} & dict(pairs_of(code_request())).keys()


def test_a_login_without_redirect_uri_and_pkce() -> None:
    response = login(redirect_uri=None, pkce=False)
    assert pairs_of(code_request(response=response)) == [("grant_type", "authorization_code"), ("code", "CANARY-code")]


def test_ri1_the_resources_of_the_login_are_asked_for_again() -> None:
    request = code_request(response=login(resource=("https://api.example/a", "https://api.example/b")))
    assert [value for name, value in pairs_of(request) if name == "resource"] == ["https://api.example/a", "https://api.example/b"]


@pytest.mark.parametrize("changes", [{"token_endpoint": "https://evil.example/token"}, {"client_id": "client-2"}])
def test_mx1_pk2_a_code_goes_only_where_the_login_was_meant_for(changes: dict[str, str]) -> None:
    with pytest.raises(AuthorizationError, match="has changed since this login was started") as caught:
        code_request(**changes)
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN
    assert list(leaks_in_error(caught.value)) == []


# --- refresh_token


def test_te2_a_refresh_is_in_the_body_of_a_post() -> None:
    request = refresh_request()
    assert (request.method, request.url) == ("POST", TOKEN_ENDPOINT)
    assert request.headers["Authorization"] == BASIC
    assert pairs_of(request) == [("grant_type", "refresh_token"), ("refresh_token", "CANARY-old-refresh")]


def test_a_refresh_for_less() -> None:
    request = refresh_request(scope=("a", "c d"), resource=("https://api.example/a", "https://api.example/b"), quirks=Quirks(scope_separator=","))
    assert pairs_of(request)[2:] == [("scope", "a,c d"), ("resource", "https://api.example/a"), ("resource", "https://api.example/b")]


def test_facebook_exchanges_the_access_token() -> None:
    quirks = Quirks(refresh_style=RefreshStyle.FB_EXCHANGE_TOKEN)
    token = replace(OLD, refresh_token=None)
    assert can_refresh(token, quirks)
    request = refresh_request(token=token, quirks=quirks, client_auth=client_secret_post, scope=("ignored",))
    assert (request.method, request.url) == ("POST", TOKEN_ENDPOINT)
    assert pairs_of(request) == [
        ("grant_type", "fb_exchange_token"),
        ("fb_exchange_token", "CANARY-old-access"),
        ("client_id", CLIENT_ID),
        ("client_secret", "CANARY-client-secret-1"),
    ]


def test_nothing_to_refresh_with() -> None:
    token = replace(OLD, refresh_token=None)
    assert not can_refresh(token, Quirks())
    assert can_refresh(OLD, Quirks())
    with pytest.raises(ReauthorizationRequired) as caught:
        refresh_request(token=token)
    assert caught.value.reason == "no_refresh_token"


@pytest.mark.parametrize(
    "changes",
    [{"token_endpoint": "https://evil.example/token"}, {"issuer": "https://evil.example"}, {"token_endpoint": "http://as.example/token"}],
)
def test_md4_a_refresh_token_is_sent_to_no_other_server(changes: dict[str, str]) -> None:
    with pytest.raises(ReauthorizationRequired, match="another server") as caught:
        refresh_request(**changes)
    assert caught.value.reason == "issuer_changed"
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN
    assert list(leaks_in_error(caught.value)) == []


def test_md4_a_token_of_unknown_origin_is_sent_to_the_configured_server() -> None:
    assert refresh_request(token=replace(OLD, token_endpoint=None, issuer=None)).url == TOKEN_ENDPOINT


# --- client_credentials


def test_client_credentials() -> None:
    request = build_client_credentials_request(
        token_endpoint=TOKEN_ENDPOINT, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, client_auth=client_secret_basic, quirks=Quirks()
    )
    assert (request.method, request.url) == ("POST", TOKEN_ENDPOINT)
    assert pairs_of(request) == [("grant_type", "client_credentials")]


def test_client_credentials_with_scope_and_resource() -> None:
    request = build_client_credentials_request(
        token_endpoint=TOKEN_ENDPOINT,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        client_auth=client_secret_basic,
        quirks=Quirks(),
        scope=("a", "b"),
        resource=("https://api.example/",),
    )
    assert pairs_of(request) == [("grant_type", "client_credentials"), ("scope", "a b"), ("resource", "https://api.example/")]


# --- SH-5


@pytest.mark.parametrize(
    ("client_auth", "secret"),
    [(client_secret_basic, None), (client_secret_post, None), (none, CLIENT_SECRET), (client_secret_post, Secret("CANARY\ud800"))],
)
def test_sh5_a_request_that_cannot_be_built_shows_no_secret(client_auth: ClientAuth, secret: Secret | None) -> None:
    for build in (code_request, refresh_request):
        with pytest.raises(ConfigurationError) as caught:
            build(client_auth=client_auth, client_secret=secret)
        assert list(leaks_in_error(caught.value)) == []


def test_sh1_requests_do_not_print() -> None:
    assert repr(code_request()) == "<HTTPRequest POST>"
