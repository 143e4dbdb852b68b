"""Preset lint: what must hold for every provider record that ships (the numbers are those of the provider notes, section 4)."""

from __future__ import annotations

import re
from dataclasses import fields
from urllib.parse import parse_qsl, urlsplit

import pytest

from pauth.core.authorization import AuthorizationResponse, build_authorization_request, parse_callback, validate_callback
from pauth.core.client_auth import client_auth_named
from pauth.core.grants import build_code_request, build_refresh_request, build_revocation_requests, build_userinfo_request, can_refresh
from pauth.core.id_token import TENANT_PLACEHOLDER
from pauth.core.quirks import RefreshStyle, RotationClass, authorization_scope
from pauth.core.token import Token
from pauth.core.wire import HTTPRequest, check_endpoint
from pauth.errors import InvalidStateError
from pauth.providers import Provider, Providers
from pauth.secret import Secret

NOW = 1_800_000_000.0
TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
PRESETS = (*Providers.all(), Providers.slack("user"), Providers.slack("openid"), Providers.microsoft(TENANT), Providers.microsoft("organizations"))
every_preset = pytest.mark.parametrize("preset", PRESETS, ids=[preset.name for preset in PRESETS])

SECRET = Secret("CANARY-client-secret-1")
TOKEN = Token(access_token=Secret("CANARY-access"), refresh_token=Secret("CANARY-refresh"))


def login(preset: Provider, draw: int = 1) -> AuthorizationResponse:
    scope, extra = authorization_scope(preset.quirks, preset.default_scopes)
    endpoint = preset.metadata.authorization_endpoint
    assert endpoint is not None
    request = build_authorization_request(
        authorization_endpoint=endpoint,
        token_endpoint=preset.metadata.token_endpoint,
        client_id="client-1",
        redirect_uri="https://app.example/callback",
        scope=scope,
        scope_separator=preset.quirks.scope_separator,
        issuer=preset.metadata.issuer,
        iss_required=preset.metadata.authorization_response_iss_parameter_supported,
        pkce=preset.quirks.pkce,
        use_nonce=preset.oidc and preset.quirks.nonce,
        extra_params=extra,
        session_id="CANARY-session",
        now=NOW,
        token_bytes=lambda size: bytes([draw]) * size,
    )
    return AuthorizationResponse(Secret("CANARY-code"), request)


@every_preset
def test_lint1_id13_users_are_known_by_what_does_not_change(preset: Provider) -> None:
    assert preset.quirks.userinfo.subject
    for path in preset.quirks.userinfo.subject:
        assert path
        assert path[-1] not in {"email", "username", "login", "preferred_username", "name", "upn"}


@every_preset
def test_lint2_ax1_ax2_a_login_is_bound_to_its_state_and_session(preset: Provider) -> None:
    request = login(preset).request
    query = dict(parse_qsl(urlsplit(request.url).query, strict_parsing=True))
    state = query["state"]
    callback = f"https://app.example/callback?code=CANARY-code&state={state}"
    assert validate_callback(parse_callback(callback), request, session_id="CANARY-session", now=NOW).code == Secret("CANARY-code")
    other = login(preset, draw=2).request
    for session_id, expected in (("CANARY-session", other), (None, request), ("CANARY-another", request), ("CANARY-session", None)):
        with pytest.raises(InvalidStateError):
            validate_callback(parse_callback(callback), expected, session_id=session_id, now=NOW)


@every_preset
def test_lint3_rotation_is_stated(preset: Provider) -> None:
    if preset.quirks.refresh_style is RefreshStyle.REFRESH_TOKEN:
        assert preset.rotation is not None
        assert (preset.rotation.grace is not None) == (preset.rotation.class_ is RotationClass.RG)
    else:
        assert preset.rotation is None


def requests_of(preset: Provider) -> list[HTTPRequest]:
    quirks, metadata, client_auth = preset.quirks, preset.metadata, client_auth_named(preset.client_auth)
    assert can_refresh(TOKEN, quirks)
    built = [
        build_code_request(
            token_endpoint=metadata.token_endpoint,
            response=login(preset),
            client_id="client-1",
            client_secret=SECRET,
            client_auth=client_auth,
            quirks=quirks,
        ),
        build_refresh_request(
            token_endpoint=metadata.token_endpoint, token=TOKEN, client_id="client-1", client_secret=SECRET, client_auth=client_auth, quirks=quirks
        ),
    ]
    if metadata.userinfo_endpoint is not None:
        built.append(build_userinfo_request(userinfo_endpoint=metadata.userinfo_endpoint, token=TOKEN))
    return [
        *built,
        *build_revocation_requests(
            metadata=metadata, token=TOKEN, client_id="client-1", client_secret=SECRET, client_auth=client_auth, quirks=quirks
        ),
    ]


@every_preset
def test_lint4_te2_rq1_no_secret_in_a_url(preset: Provider) -> None:
    code, refresh, *others = requests_of(preset)
    for request in (code, refresh):
        assert request.method == "POST"
        assert urlsplit(request.url).query == ""
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded;charset=UTF-8"
    for request in (code, refresh, *others):
        assert "CANARY" not in request.url
        check_endpoint(request.url, name="request URL")
    for request in others:
        in_header = "Bearer CANARY-access" in request.headers.get("Authorization", "")
        in_body = b"CANARY-access" in (request.body or b"") or b"CANARY-refresh" in (request.body or b"")
        assert in_header != in_body  # RFC 6750 section 2: one place only


@every_preset
def test_lint6_pk1_pkce_is_on_or_its_absence_has_a_source(preset: Provider) -> None:
    query = dict(parse_qsl(urlsplit(login(preset).request.url).query))
    if preset.quirks.pkce:
        assert query["code_challenge_method"] == "S256"
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", query["code_challenge"])
    else:
        assert "code_challenge" not in query
        assert any(note.startswith("No PKCE:") and "https://" in note for note in preset.notes)


@every_preset
def test_lint8_no_issuer_no_id_token_trust(preset: Provider) -> None:
    if preset.oidc:
        assert preset.id_token_issuer is not None
        assert preset.metadata.jwks_uri is not None
        assert "openid" in preset.default_scopes
    else:
        assert preset.metadata.jwks_uri is None
    if preset.metadata.issuer is not None:
        check_endpoint(preset.metadata.issuer, name="issuer")
        assert TENANT_PLACEHOLDER not in preset.metadata.issuer


@every_preset
def test_lint9_nothing_unsure_ships(preset: Provider) -> None:
    """A question mark in a fact is an open ticket, not a default."""
    metadata = {field.name: getattr(preset.metadata, field.name) for field in fields(preset.metadata)}
    for name, url in metadata.items():
        if name.endswith(("_endpoint", "_uri")) and url is not None:
            check_endpoint(url, name=name)
            assert not url.endswith("?")
            assert "{" not in url
    assert "?" not in "".join(preset.notes)


@every_preset
def test_a_preset_is_complete(preset: Provider) -> None:
    assert preset.name
    assert preset.name == preset.name.lower()
    assert preset.title
    assert preset.docs_url.startswith("https://")
    assert preset.default_scopes
    assert preset.metadata.userinfo_endpoint is not None
    assert preset.quirks.scope_separator in {" ", ","}


@every_preset
def test_p17_a_preset_keeps_no_secret_in_extra(preset: Provider) -> None:
    for path in preset.quirks.kept_members:
        assert not {"token", "secret", "webhook", "authed_user"} & {path[-1]}


def test_names_differ() -> None:
    assert len({preset.name for preset in PRESETS}) == len(PRESETS)
