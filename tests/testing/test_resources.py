"""Userinfo, the protected resource, ID tokens, revocation, metadata."""

from __future__ import annotations

import base64
import hashlib

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from pauth.errors import ConfigurationError
from pauth.testing import AuthorizationServer, token_hash
from tests.testing.kit import CALLBACK, FORM, Driver, bearer, driving

# Userinfo


@pytest.mark.parametrize(
    ("scope", "claims"),
    [
        ("openid", {"sub"}),
        ("openid email", {"sub", "email", "email_verified"}),
        ("openid profile", {"sub", "name", "preferred_username", "picture"}),
    ],
)
async def test_userinfo_gives_the_claims_of_the_scope(driver: Driver, scope: str, claims: set[str]) -> None:
    tokens = await driver.login("bob", scope=scope)
    for method in ("GET", "POST"):
        answer = await driver.send(method, driver.server.userinfo_endpoint, headers=bearer(tokens["access_token"]))
        assert answer.status == 200
        assert answer.json.keys() == claims
        assert answer.json["sub"] == "bob"


async def test_userinfo_values(driver: Driver) -> None:
    tokens = await driver.login("bob", scope="openid email profile")
    info = (await driver.send("GET", driver.server.userinfo_endpoint, headers=bearer(tokens["access_token"]))).json
    assert info["email"] == "bob@example.com"
    assert info["email_verified"] is True
    assert info["name"] == info["preferred_username"] == "bob"
    assert info["picture"].startswith(driver.server.issuer)
    assert driver.server.ledger[-1].user == "bob"
    assert driver.server.ledger[-1].client_id == "client-1"


async def test_userinfo_needs_openid_and_a_user(driver: Driver) -> None:
    own = (await driver.post(driver.server.token_endpoint, {"grant_type": "client_credentials", "scope": "openid"})).json["access_token"]
    for token in ((await driver.login(scope="read"))["access_token"], own):
        answer = await driver.send("GET", driver.server.userinfo_endpoint, headers=bearer(token))
        assert (answer.status, answer.error) == (403, "insufficient_scope")
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
        assert driver.server.ledger[-1].outcome == driver.server.uses[-1].outcome == "insufficient_scope"


# The protected resource


async def test_the_resource_knows_the_user_and_keeps_a_ledger(driver: Driver) -> None:
    tokens = await driver.login()
    answer = await driver.use(tokens["access_token"])
    assert (answer.status, answer.json) == (200, {"user": "alice", "client_id": "client-1", "scope": "openid email read"})
    driver.clock.advance(1.0)
    await driver.use("CANARY-at-forged")
    good, forged = driver.server.uses
    assert (good.outcome, good.user, good.client_id, good.access_token) == ("ok", "alice", "client-1", token_hash(tokens["access_token"]))
    assert (forged.outcome, forged.user, forged.client_id, forged.access_token) == ("invalid_token", None, None, token_hash("CANARY-at-forged"))
    assert forged.at == good.at + 1.0
    assert driver.server.ledger.count(endpoint="resource") == 0
    assert driver.server.uses.count() == driver.server.uses.count(endpoint="resource") == 2
    assert driver.server.uses.select(user="alice", outcome="ok") == [good]


async def test_access_tokens_expire_when_told(driver: Driver) -> None:
    tokens = await driver.login()
    driver.clock.advance(3599.0)
    assert (await driver.use(tokens["access_token"])).status == 200
    driver.clock.advance(1.0)
    answer = await driver.use(tokens["access_token"])
    assert (answer.status, answer.error) == (401, "invalid_token")
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_access_tokens_expire_earlier_than_told(driver: Driver) -> None:
    tokens = await driver.login()
    driver.server.expire_access_tokens()
    assert (await driver.use(tokens["access_token"])).status == 401
    fresh = (await driver.refresh(tokens["refresh_token"])).json
    assert (await driver.use(fresh["access_token"])).status == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer "}, {"Authorization": "Bearer"}, {"Authorization": "Basic CANARY"}])
async def test_no_token_no_error_code(driver: Driver, headers: dict[str, str]) -> None:
    answer = await driver.send("GET", driver.server.resource_url, headers=headers)
    assert (answer.status, answer.body) == (401, b"")
    assert "error=" not in answer.headers["WWW-Authenticate"]
    assert driver.server.uses[-1].outcome == "no_token"
    assert driver.server.uses[-1].access_token is None


async def test_a_token_belongs_into_one_header_rq_1(driver: Driver) -> None:
    token = (await driver.login())["access_token"]
    url = driver.server.resource_url
    answers = [
        await driver.send("GET", f"{url}?access_token={token}"),
        await driver.send("GET", f"{url}?access_token={token}", headers=bearer(token)),
        await driver.send("POST", url, data=f"access_token={token}".encode(), headers=FORM),
        await driver.send("GET", url, headers=[("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]),
    ]
    assert [(answer.status, answer.error) for answer in answers] == [(400, "invalid_request")] * 4


# ID tokens


async def claims_of(driver: Driver, id_token: str) -> dict[str, object]:
    keys = (await driver.send("GET", driver.server.jwks_uri)).json
    assert all(key.keys() == {"kty", "n", "e", "kid", "use", "alg"} for key in keys["keys"])
    token = jwt.decode(id_token, KeySet.import_key_set({"keys": keys["keys"]}), algorithms=["RS256"])
    assert token.header == {"alg": "RS256", "typ": "JWT", "kid": keys["keys"][0]["kid"]}
    return token.claims


def at_hash(access_token: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(access_token.encode()).digest()[:16]).rstrip(b"=").decode()


async def test_an_id_token_comes_with_openid(driver: Driver) -> None:
    tokens = await driver.login(nonce="CANARY-nonce-1")
    now = int(driver.clock.time())
    assert await claims_of(driver, tokens["id_token"]) == {
        "iss": driver.server.issuer,
        "sub": "alice",
        "aud": "client-1",
        "iat": now,
        "exp": now + 3600,
        "auth_time": now,
        "nonce": "CANARY-nonce-1",
        "at_hash": at_hash(tokens["access_token"]),
    }


async def test_a_refreshed_id_token_has_no_nonce_and_the_old_auth_time_te_14(driver: Driver) -> None:
    tokens = await driver.login(nonce="CANARY-nonce-1")
    before = int(driver.clock.time())
    driver.clock.advance(100.0)
    tokens = (await driver.refresh(tokens["refresh_token"])).json
    claims = await claims_of(driver, tokens["id_token"])
    assert "nonce" not in claims
    assert (claims["auth_time"], claims["iat"]) == (before, before + 100)
    assert (claims["sub"], claims["at_hash"]) == ("alice", at_hash(tokens["access_token"]))
    assert "id_token" not in (await driver.refresh(tokens["refresh_token"], scope="read")).json


async def test_the_key_is_the_same_for_all_servers_of_a_process(driver: Driver) -> None:
    async with driving() as other:
        assert (await driver.send("GET", driver.server.jwks_uri)).json == (await other.send("GET", other.server.jwks_uri)).json


# Revocation (RFC 7009)


async def test_revoking_a_refresh_token_kills_its_family_rv_1(driver: Driver) -> None:
    tokens = await driver.login()
    newer = (await driver.refresh(tokens["refresh_token"])).json
    answer = await driver.revoke(newer["refresh_token"], token_type_hint="refresh_token")
    assert (answer.status, answer.body, answer.headers["Cache-Control"]) == (200, b"", "no-store")
    assert driver.server.family_revoked("alice")
    for access_token in (tokens["access_token"], newer["access_token"]):
        assert (await driver.use(access_token)).status == 401
    assert (await driver.refresh(newer["refresh_token"])).error == "invalid_grant"
    entry = driver.server.ledger.select(endpoint="revoke")[0]
    assert (entry.outcome, entry.user, entry.client_id, entry.refresh_token_in) == ("ok", "alice", "client-1", token_hash(newer["refresh_token"]))


async def test_revoking_an_access_token_kills_it_alone(driver: Driver) -> None:
    tokens = await driver.login()
    assert (await driver.revoke(tokens["access_token"])).status == 200
    assert driver.server.ledger[-1].refresh_token_in is None
    assert (await driver.use(tokens["access_token"])).status == 401
    assert not driver.server.family_revoked("alice")
    assert (await driver.refresh(tokens["refresh_token"])).status == 200


async def test_revoking_what_nobody_knows_is_fine(driver: Driver) -> None:
    assert (await driver.revoke("CANARY-unknown")).status == 200


async def test_revocation_is_for_the_tokens_owner(driver: Driver) -> None:
    tokens = await driver.login()
    driver.client = driver.server.register_client("client-2", "CANARY-secret-2", redirect_uris=[CALLBACK])
    for token in (tokens["access_token"], tokens["refresh_token"]):
        answer = await driver.revoke(token)
        assert (answer.status, answer.error) == (400, "invalid_grant")
    assert (await driver.use(tokens["access_token"])).status == 200


async def test_revocation_wants_a_token_and_an_authenticated_client(driver: Driver) -> None:
    assert (await driver.post(driver.server.revocation_endpoint, {})).error == "invalid_request"
    answer = await driver.post(driver.server.revocation_endpoint, {"token": "CANARY-x", "client_id": "client-1"}, {})
    assert (answer.status, answer.error) == (401, "invalid_client")
    assert (await driver.send("GET", driver.server.revocation_endpoint)).status == 405


# Metadata


@pytest.mark.parametrize("name", ["oauth-authorization-server", "openid-configuration"])
async def test_discovery(driver: Driver, name: str) -> None:
    server = driver.server
    answer = await driver.send("GET", f"{server.issuer}/.well-known/{name}")
    assert (answer.status, answer.json) == (200, server.metadata)
    assert answer.json["issuer"] == server.issuer
    assert answer.json["code_challenge_methods_supported"] == ["S256"]
    assert answer.json["authorization_response_iss_parameter_supported"] is True
    endpoints = {
        "authorization_endpoint": server.authorization_endpoint,
        "token_endpoint": server.token_endpoint,
        "userinfo_endpoint": server.userinfo_endpoint,
        "revocation_endpoint": server.revocation_endpoint,
        "jwks_uri": server.jwks_uri,
    }
    assert answer.json | endpoints == answer.json
    assert all(url.startswith("http://127.0.0.1:") for url in endpoints.values())
    assert server.ledger[-1].endpoint == "metadata"


async def test_there_is_nothing_else(driver: Driver) -> None:
    assert (await driver.send("GET", f"{driver.server.issuer}/")).status == 404


def test_a_server_has_no_address_before_it_starts() -> None:
    server = AuthorizationServer()
    with pytest.raises(ConfigurationError, match="async with"):
        _ = server.issuer
    assert repr(server) == "<AuthorizationServer not started>"


async def test_leaving_a_server_that_never_started_is_no_error() -> None:
    await AuthorizationServer().__aexit__(None, None, None)


async def test_what_a_server_saw_outlives_it() -> None:
    async with driving() as driver:
        await driver.login()
    assert driver.server.ledger.count(endpoint="token", outcome="ok") == 1


@pytest.mark.parametrize(("method", "secret"), [("private_key_jwt", None), ("private_key_jwt", "CANARY-x"), ("none", "CANARY-x")])
def test_impossible_clients_are_refused(method: str, secret: str | None) -> None:
    with pytest.raises(ConfigurationError):
        AuthorizationServer().register_client("x", secret, auth_method=method)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
