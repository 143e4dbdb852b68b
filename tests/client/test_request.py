"""What get_authorization_url asks for."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from pauth import ConfigurationError, Providers
from pauth.errors import InvalidUserId
from tests.client.kit import CALLBACK, SESSION, Bench, query_of


async def test_scopes_of_the_client_and_of_one_login(bench: Bench) -> None:
    client = bench.client(scopes=["openid", "read"])
    assert query_of(await client.get_authorization_url())["scope"] == "openid read"
    assert query_of(await client.get_authorization_url(scope=("write",)))["scope"] == "write"
    assert "scope" not in query_of(await client.get_authorization_url(scope=[]))


async def test_scopes_by_default(bench: Bench) -> None:
    assert "scope" not in query_of(await bench.client(scopes=None).get_authorization_url())
    github = bench.client(Providers.GITHUB, scopes=None)
    assert query_of(await github.get_authorization_url())["scope"] == "read:user user:email"
    assert "scope" not in query_of(await bench.client(Providers.GITHUB, scopes=[]).get_authorization_url())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "openid"}, r"scope must be a list of str, not one str: write \[scope\]"),
        ({"scope": ["read write"]}, "a scope is empty or holds a space"),
        ({"resource": "https://api.example"}, "resource must be a list"),
        ({"resource": ["api"]}, "absolute URIs"),
        ({"extra_params": {"state": "x"}}, "'state' is set by pauth"),
        ({"extra_params": {"response_type": "token"}}, "'response_type' is set by pauth"),
        ({"extra_params": {"prompt": 1}}, "extra parameters"),
    ],
)
async def test_ar1_ar4_what_cannot_be_asked_for(bench: Bench, options: dict[str, Any], message: str) -> None:
    """AR-1, AR-4; the session's id is in no traceback (SH-5)."""
    with pytest.raises(ConfigurationError, match=message):
        await bench.client().get_authorization_url(session_id=SESSION, **options)


async def test_what_identifies_the_user_is_checked_first(bench: Bench) -> None:
    with pytest.raises(InvalidUserId):
        await bench.client().get_authorization_url(user_id=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert len(bench.server.ledger) == 0


async def test_further_parameters_and_resources(bench: Bench) -> None:
    """RI-1: `resource` may repeat, and goes into the token request too."""
    seen = bench.watch("token")
    client = bench.client()
    resources = ["https://api.example/a", "https://api.example/b?c=d"]
    url = await client.get_authorization_url(resource=resources, extra_params={"prompt": "consent", "login_hint": "a b"})
    pairs = parse_qsl(urlsplit(url).query)
    assert [value for name, value in pairs if name == "resource"] == resources
    assert [pair for pair in pairs if pair[0] in {"prompt", "login_hint"}] == [("prompt", "consent"), ("login_hint", "a b")]
    await client.handle_callback(await bench.server.authorize(url))
    assert [value for name, value in seen[0].pairs if name == "resource"] == resources


async def test_ar3_ar8_every_attempt_has_secrets_of_its_own(bench: Bench) -> None:
    """AR-3, AR-8: 256 bit each, none of them derived from what the application gave."""
    client = bench.client()
    attempts = [query_of(await client.get_authorization_url(user_id="user-number-1", session_id=SESSION)) for _ in range(20)]
    for name in ("state", "nonce", "code_challenge"):
        values = {attempt[name] for attempt in attempts}
        assert len(values) == 20
        assert all(len(base64.urlsafe_b64decode(value + "=")) == 32 for value in values)
    assert all("user-number-1" not in value and SESSION not in value for attempt in attempts for value in attempt.values())


async def test_a_nonce_is_sent_only_where_an_id_token_comes_back(bench: Bench) -> None:
    assert "nonce" in query_of(await bench.client().get_authorization_url())
    assert "nonce" not in query_of(await bench.client(scopes=["read"]).get_authorization_url())
    assert "nonce" not in query_of(await bench.client(bench.provider()).get_authorization_url())


@pytest.mark.parametrize(
    "uri",
    [
        CALLBACK,
        "https://app.example/callback/",
        "https://APP.example/CallBack",
        "https://app.example/a%2Fb/%7Ec",
        "https://app.example/callback?tenant=a+b&x=%C3%A9",
        "https://xn--bcher-kva.example/",
        "https://app.example:8443",
        "http://127.0.0.1:8400/callback",
        "http://[::1]:8400/callback",
        "com.example.app:/callback",
    ],
)
async def test_ar5_the_redirect_uri_is_the_same_in_both_legs(bench: Bench, uri: str) -> None:
    """AR-5: byte for byte as registered."""
    bench.server.register_client("client-1", bench.registered.client_secret, redirect_uris=[uri])
    seen = bench.watch("token")
    client = bench.client(redirect_uri=uri)
    url = await client.get_authorization_url()
    assert query_of(url)["redirect_uri"] == uri
    assert (await client.handle_callback(await bench.server.authorize(url))).user_id == "alice"
    assert seen[0].params["redirect_uri"] == uri


async def test_a_redirect_uri_may_be_left_to_the_server(bench: Bench) -> None:
    """RFC 6749 section 3.1.2.3: where one is registered."""
    client = bench.client(redirect_uri=None)
    url = await client.get_authorization_url()
    assert "redirect_uri" not in query_of(url)
    assert (await client.handle_callback(await bench.server.authorize(url))).user_id == "alice"
