"""Revocation requests and their answers (RV-1, RV-2)."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from pauth.core.client_auth import client_secret_basic, client_secret_post
from pauth.core.grants import build_revocation_requests, parse_revocation_response
from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Quirks, RevocationStyle
from pauth.core.wire import HTTPRequest, HTTPResponse
from pauth.errors import ConfigurationError, MalformedResponse, PAuthError, ProviderUnavailable, ReauthorizationRequired, Remedy, TokenError
from pauth.secret import Secret
from tests.core.grant_samples import CLIENT_ID, CLIENT_SECRET, ISSUER, NOW, OLD, TOKEN_ENDPOINT, answer, pairs_of
from tests.support.canary import leaks_in_error

ENDPOINT = "https://as.example/revoke"
METADATA = ServerMetadata(issuer=ISSUER, token_endpoint=TOKEN_ENDPOINT, revocation_endpoint=ENDPOINT)
BASIC = "Basic " + base64.b64encode(b"client-1:CANARY-client-secret-1").decode()
LIVE = replace(OLD, expires_at=NOW + 60)


def requests(**changes: Any) -> tuple[HTTPRequest, ...]:
    arguments: dict[str, Any] = {
        "metadata": METADATA,
        "token": OLD,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "client_auth": client_secret_basic,
        "quirks": Quirks(),
        **changes,
    }
    return build_revocation_requests(**arguments)


def test_rv1_rv2_the_refresh_token_first_then_the_access_token() -> None:
    first, second = requests()
    assert [(r.method, r.url) for r in (first, second)] == [("POST", ENDPOINT)] * 2
    assert pairs_of(first) == [("token", "CANARY-old-refresh"), ("token_type_hint", "refresh_token")]
    assert pairs_of(second) == [("token", "CANARY-old-access"), ("token_type_hint", "access_token")]
    assert first.headers["Authorization"] == second.headers["Authorization"] == BASIC


def test_rv1_without_refresh_token() -> None:
    (only,) = requests(token=replace(OLD, refresh_token=None), client_auth=client_secret_post)
    assert pairs_of(only) == [
        ("token", "CANARY-old-access"),
        ("token_type_hint", "access_token"),
        ("client_id", CLIENT_ID),
        ("client_secret", "CANARY-client-secret-1"),
    ]


def test_a_server_without_revocation() -> None:
    assert requests(metadata=ServerMetadata(token_endpoint="https://evil.example/token")) == ()


@pytest.mark.parametrize("style", RevocationStyle)
def test_md4_a_token_is_not_sent_to_another_server_to_be_revoked(style: RevocationStyle) -> None:
    for elsewhere in (replace(METADATA, token_endpoint="https://evil.example/token"), replace(METADATA, issuer="https://evil.example")):
        with pytest.raises(ReauthorizationRequired) as caught:
            requests(metadata=elsewhere, quirks=Quirks(revocation_style=style))
        assert caught.value.reason == "issuer_changed"
        assert list(leaks_in_error(caught.value)) == []


def test_quirk_github_deletes_by_the_client_and_a_json_body() -> None:
    (request,) = requests(quirks=Quirks(revocation_style=RevocationStyle.GITHUB_DELETE), client_id="Iv1/8a?#", client_auth=client_secret_post)
    assert (request.method, request.url) == ("DELETE", "https://as.example/revoke/Iv1%2F8a%3F%23/token")
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"Iv1%2F8a%3F%23:CANARY-client-secret-1").decode()
    assert request.headers["Content-Type"] == "application/json"
    assert request.body is not None
    assert json.loads(request.body) == {"access_token": "CANARY-old-access"}


def test_quirk_github_needs_the_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        requests(quirks=Quirks(revocation_style=RevocationStyle.GITHUB_DELETE), client_secret=None)
    assert list(leaks_in_error(caught.value)) == []


@pytest.mark.parametrize(("style", "method", "body"), [(RevocationStyle.BEARER_POST, "POST", b""), (RevocationStyle.BEARER_DELETE, "DELETE", None)])
def test_quirk_revocation_by_the_access_token_itself(style: RevocationStyle, method: str, body: bytes | None) -> None:
    (request,) = requests(quirks=Quirks(revocation_style=style))
    assert (request.method, request.url, request.body) == (method, ENDPOINT, body)
    assert request.headers == {"Accept": "application/json", "Authorization": "Bearer CANARY-old-access"}


# --- answers


def error_of(response: HTTPResponse, **changes: Any) -> PAuthError:
    arguments: dict[str, Any] = {"quirks": Quirks(), "token": OLD, "now": NOW, **changes}
    with pytest.raises(PAuthError) as caught:
        parse_revocation_response(response, **arguments)
    assert list(leaks_in_error(caught.value)) == []
    return caught.value


@pytest.mark.parametrize("response", [answer("", 200, content_type="text/plain"), answer({"error": "ignored"}, 200), answer("", 204)])
def test_rv1_200_is_success_whatever_the_body(response: HTTPResponse) -> None:
    parse_revocation_response(response, quirks=Quirks(), token=OLD, now=NOW)


def test_rv1_503_means_that_the_token_is_alive() -> None:
    error = error_of(answer("", 503, retry_after="60"))
    assert type(error) is ProviderUnavailable
    assert (error.status, error.retry_after, error.remedy) == (503, 60.0, Remedy.RETRY)


@pytest.mark.parametrize("code", ["unsupported_token_type", "invalid_client", "invalid_request", "invalid_token"])
def test_rv1_a_refusal(code: str) -> None:
    error = error_of(answer({"error": code, "error_description": "why CANARY-old-refresh"}, 400), secrets=[Secret("CANARY-old-refresh")])
    assert type(error) is TokenError
    assert (error.error, error.status, error.error_description, error.remedy) == (code, 400, "why [redacted]", Remedy.FIX_CONFIGURATION)
    assert "still alive" in str(error)


@pytest.mark.parametrize("response", [answer("<html>", 404, content_type="text/html"), answer({}, 400), answer("", 302)])
def test_rv1_an_answer_that_says_nothing(response: HTTPResponse) -> None:
    assert type(error_of(response)) is MalformedResponse


def test_quirk_already_revoked() -> None:
    quirks = Quirks(already_revoked_errors=frozenset({"invalid_token"}), already_revoked_statuses=frozenset({404}))
    for response in (answer({"error": "invalid_token"}, 400), answer("", 404)):
        parse_revocation_response(response, quirks=quirks, token=OLD, now=NOW)
    assert error_of(answer({"error": "invalid_client"}, 400), quirks=quirks).error == "invalid_client"


@pytest.mark.parametrize("style", [RevocationStyle.GITHUB_DELETE, RevocationStyle.BEARER_POST, RevocationStyle.BEARER_DELETE])
def test_rv2_an_expired_access_token_does_not_pass_for_a_revoked_grant(style: RevocationStyle) -> None:
    quirks = Quirks(revocation_style=style, already_revoked_errors=frozenset({"expired"}), already_revoked_statuses=frozenset({404}))
    for response in (answer({"error": "expired"}, 400), answer("", 404)):
        error = error_of(response, quirks=quirks)
        assert type(error) is TokenError
        assert error.remedy is Remedy.RETRY
        for token in (LIVE, replace(OLD, refresh_token=None)):
            parse_revocation_response(response, quirks=quirks, token=token, now=NOW)


def test_quirk_ok_member_of_a_revocation() -> None:
    quirks = Quirks(ok_member="ok")
    parse_revocation_response(answer({"ok": True, "revoked": True}), quirks=quirks, token=OLD, now=NOW)
    assert error_of(answer({"ok": False, "error": "not_authed"}), quirks=quirks).error == "not_authed"
    assert type(error_of(answer("", 200), quirks=quirks)) is MalformedResponse
