"""The real servers do what their fixtures promise, seen without pauth: log in, refresh, reuse, user info, revoke."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

import aiohttp
import pytest

from tests.support.servers import RealServer, RegisteredClient

VERIFIER = "CANARY-code-verifier-" + "v" * 43
BOTH = pytest.mark.parametrize("name", ["oidc_provider", "django_provider"])
CLIENTS = pytest.mark.parametrize("kind", ["basic", "post", "public"])


async def post(url: str, client: RegisteredClient, **fields: str) -> tuple[int, dict[str, Any]]:
    headers: dict[str, str] = {}
    if client.auth_method == "client_secret_basic":
        assert client.client_secret is not None
        pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        fields["client_id"] = client.client_id
        if client.client_secret is not None:
            fields["client_secret"] = client.client_secret
    async with aiohttp.ClientSession() as session, session.post(url, data=fields, headers=headers) as response:
        body = await response.read()
        return response.status, (await response.json() if body else {})


async def metadata_of(server: RealServer) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{server.issuer}/.well-known/openid-configuration") as response:
        document: dict[str, Any] = await response.json()
        return document


async def login(server: RealServer, client: RegisteredClient, metadata: dict[str, Any], user: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Log in with PKCE; gives the token response and the callback's parameters."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": server.redirect_uri,
        "scope": "openid email",
        "state": "CANARY-state",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    callback = await server.authorize(f"{metadata['authorization_endpoint']}?{urlencode(query)}", user)
    assert callback.startswith(f"{server.redirect_uri}?")
    parameters = parse_qs(urlsplit(callback).query)
    assert parameters["state"] == ["CANARY-state"]
    status, tokens = await post(
        metadata["token_endpoint"],
        client,
        grant_type="authorization_code",
        code=parameters["code"][0],
        redirect_uri=server.redirect_uri,
        code_verifier=VERIFIER,
    )
    assert status == 200, tokens
    return tokens, parameters


async def userinfo(metadata: dict[str, Any], access_token: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {access_token}"}
    async with aiohttp.ClientSession() as session, session.get(metadata["userinfo_endpoint"], headers=headers) as response:
        return response.status, (await response.json() if response.status == 200 else {})


@BOTH
@CLIENTS
async def test_login_userinfo_rotation_and_revocation(request: pytest.FixtureRequest, name: str, kind: str) -> None:
    server: RealServer = request.getfixturevalue(name)
    client: RegisteredClient = getattr(server, kind)
    metadata = await metadata_of(server)
    assert metadata["issuer"] == server.issuer

    tokens, parameters = await login(server, client, metadata, "alice")
    assert parameters.get("iss") == ([server.issuer] if name == "oidc_provider" else None)
    status, claims = await userinfo(metadata, tokens["access_token"])
    assert (status, claims["email"]) == (200, "alice@example.com")

    status, refreshed = await post(metadata["token_endpoint"], client, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert status == 200
    assert refreshed["refresh_token"] != tokens["refresh_token"]
    assert refreshed["access_token"] != tokens["access_token"]
    old_status, _ = await userinfo(metadata, tokens["access_token"])
    assert old_status == (200 if name == "oidc_provider" else 401)  # django-oauth-toolkit kills the old access token at once

    revocation = metadata.get("revocation_endpoint", f"{server.issuer}/revoke_token/")
    status, _ = await post(revocation, client, token=refreshed["refresh_token"], token_type_hint="refresh_token")
    assert status == 200
    status, refused = await post(metadata["token_endpoint"], client, grant_type="refresh_token", refresh_token=refreshed["refresh_token"])
    assert (status, refused["error"]) == (400, "invalid_grant")


@BOTH
async def test_users_are_told_apart(request: pytest.FixtureRequest, name: str) -> None:
    server: RealServer = request.getfixturevalue(name)
    metadata = await metadata_of(server)
    found: list[dict[str, Any]] = []
    for user in ("alice", "bob"):
        tokens, _ = await login(server, server.basic, metadata, user)
        status, claims = await userinfo(metadata, tokens["access_token"])
        assert status == 200
        found.append(claims)
    assert [claims["email"] for claims in found] == ["alice@example.com", "bob@example.com"]
    assert found[0]["sub"] != found[1]["sub"]


@BOTH
async def test_a_spent_refresh_token_that_comes_back_revokes_the_family(request: pytest.FixtureRequest, name: str) -> None:
    server: RealServer = request.getfixturevalue(name)
    metadata = await metadata_of(server)
    tokens, _ = await login(server, server.basic, metadata, "alice")
    token_endpoint = metadata["token_endpoint"]
    status, refreshed = await post(token_endpoint, server.basic, grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert status == 200
    for refresh_token in (tokens["refresh_token"], refreshed["refresh_token"]):
        status, refused = await post(token_endpoint, server.basic, grant_type="refresh_token", refresh_token=refresh_token)
        assert (status, refused["error"]) == (400, "invalid_grant")
    assert (await userinfo(metadata, refreshed["access_token"]))[0] == 401


@BOTH
async def test_pkce_is_required(request: pytest.FixtureRequest, name: str) -> None:
    server: RealServer = request.getfixturevalue(name)
    metadata = await metadata_of(server)
    query = {
        "response_type": "code",
        "client_id": server.basic.client_id,
        "redirect_uri": server.redirect_uri,
        "scope": "openid",
        "state": "CANARY-s",
    }
    callback = await server.authorize(f"{metadata['authorization_endpoint']}?{urlencode(query)}", "alice")
    assert parse_qs(urlsplit(callback).query)["error"] == ["invalid_request"]
