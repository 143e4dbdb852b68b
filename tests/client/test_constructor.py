"""What a client is made of, and what it says to arguments that cannot work: at once, clearly, without repeating a secret."""

from __future__ import annotations

import json
import ssl
from typing import Any

import pytest

from pauth import ConfigurationError, MemoryTokenStorage, OAuth2Client, PAuthError, Provider, Providers, RefreshPolicy, Remedy, Secret, ServerMetadata
from pauth.errors import UntrustedServer
from pauth.testing import AuthorizationServer, faults
from tests.client.kit import CALLBACK, Bench, query_of


async def url_of(provider: Provider | str, **options: Any) -> str:
    async with OAuth2Client(provider, "client-1", "CANARY-secret", CALLBACK, **options) as client:
        return await client.get_authorization_url()


@pytest.mark.parametrize("preset", Providers.all(), ids=lambda preset: preset.name)
async def test_every_preset_by_record_and_by_name(preset: Provider) -> None:
    """PK-1, AX-1: each with a state; with PKCE unless its record says why not."""
    for provider in (preset, preset.name, preset.name.upper(), f" {preset.name} "):
        url = await url_of(provider)
        assert url.partition("?")[0] == preset.metadata.authorization_endpoint
        params = query_of(url)
        assert (params["response_type"], params["client_id"], params["redirect_uri"]) == ("code", "client-1", CALLBACK)
        assert len(params["state"]) == 43
        assert ("code_challenge" in params) is preset.quirks.pkce
        asked = params.get(preset.quirks.scope_parameter, "")
        assert asked == preset.quirks.scope_separator.join(preset.default_scopes)


async def test_an_issuer_url_is_asked_for_its_metadata_once(bench: Bench) -> None:
    client = bench.client(bench.server.issuer)
    urls = [await client.get_authorization_url() for _ in range(3)]
    assert {url.partition("?")[0] for url in urls} == {bench.server.authorization_endpoint}
    assert bench.server.ledger.count(endpoint="metadata") == 1


async def test_ones_own_record(bench: Bench) -> None:
    own = Provider(name="acme", metadata=bench.metadata(issuer=bench.server.issuer), default_scopes=("read",))
    assert query_of(await url_of(own))["scope"] == "read"
    assert len(bench.server.ledger) == 0


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        ("no-such", "no provider preset has this name; there are discord, facebook, github"),
        ("", "no provider preset"),
        ("http://issuer.example", "must be an https: URL"),
        ("ftp://issuer.example", "must be an https: URL"),
        ("https://", "no valid host"),
        ("https://user:pw@issuer.example", "must not have a user name"),
        ("https://issuer.example/#x", "must not have a fragment"),
        ("issuer.example", "for others give a Provider or an issuer"),
    ],
)
def test_a_provider_that_is_none(provider: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        OAuth2Client(provider, "client-1")


async def test_an_issuer_that_is_another(bench: Bench) -> None:
    """MD-1"""
    with pytest.raises(UntrustedServer, match="trailing slash"):
        await bench.client(f"{bench.server.issuer}/").get_authorization_url()


async def test_an_issuer_without_metadata(bench: Bench) -> None:
    bench.server.script("metadata", faults.status(404), times=None)
    with pytest.raises(UntrustedServer, match="publishes no metadata"):
        await bench.client().get_authorization_url()


async def test_plain_http_needs_the_dangerous_option() -> None:
    metadata = ServerMetadata(authorization_endpoint="http://as.example/authorize", token_endpoint="http://as.example/token")
    provider = Provider(name="acme", metadata=metadata)
    with pytest.raises(ConfigurationError, match="allow_insecure_http=True"):
        await url_of(provider)
    assert (await url_of(provider, allow_insecure_http=True)).startswith("http://as.example/authorize?")
    assert OAuth2Client("http://as.example", "client-1", allow_insecure_http=True).namespace == '["http://as.example", "client-1"]'


async def test_a_server_without_an_authorization_endpoint(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="only client credentials"):
        await bench.client(bench.provider(authorization_endpoint=None)).get_authorization_url()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no client id": ({"client_id": ""}, "client_id is empty"),
    "empty secret": ({"client_secret": ""}, "needs a client_secret; for a public client"),
    "secret with a lone surrogate": ({"client_secret": "CANARY\udc80"}, "cannot be encoded"),
    "unknown authentication": ({"client_auth": "basic"}, "choose one of none, client_secret_basic"),
    "authentication without a secret": ({"client_secret": None, "client_auth": "client_secret_post"}, "needs a client_secret"),
    "a secret for nothing": ({"client_auth": "none"}, "leave client_secret out"),
    "scopes as one str": ({"scopes": "openid email"}, "scopes must be a list of str"),
    "timeout": ({"timeout": 0}, "timeout must be a positive number"),
    "proxy": ({"proxy": "socks://user:CANARY-proxy-password@proxy.example"}, "URL of an HTTP proxy"),
    "storage URL": ({"token_storage": "carrier-pigeon://:CANARY-password@redis.example"}, "no token storage for the URL scheme"),
    "pending storage URL": ({"pending_storage": "carrier-pigeon://:CANARY-password@redis.example"}, "no token storage for the URL scheme"),
    "storage class": ({"token_storage": MemoryTokenStorage}, "write MemoryTokenStorage"),
    "no storage": ({"token_storage": object()}, "object is no token storage"),
}


@pytest.mark.parametrize("argument", BAD)
def test_an_argument_that_cannot_work_is_told_at_once(argument: str) -> None:
    """SH-5: with a client secret and a storage password at hand, which show in no traceback."""
    changes, message = BAD[argument]
    arguments: dict[str, Any] = {"client_id": "client-1", "client_secret": "CANARY-secret", "token_storage": None} | changes
    with pytest.raises(ConfigurationError, match=message) as caught:
        OAuth2Client("github", **arguments)
    assert caught.value.remedy is Remedy.FIX_CONFIGURATION


def test_a_secret_that_is_no_text() -> None:
    with pytest.raises(TypeError, match="holds a str"):
        OAuth2Client("github", "client-1", b"CANARY-secret")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "uri", ["http://app.example/cb", "https://app.example/cb#x", "javascript:alert(1)", "/callback", "http://localhost:80@evil/cb"]
)
async def test_ar6_a_redirect_uri_that_cannot_work(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="redirect_uri"):
        await OAuth2Client("github", "client-1", redirect_uri=uri).get_authorization_url()


def test_the_endpoint_tells_servers_apart() -> None:
    github = OAuth2Client("github", "a", "CANARY-secret")
    assert github.endpoint == Providers.GITHUB.metadata.token_endpoint
    assert OAuth2Client("github", "b", "CANARY-secret").endpoint == github.endpoint
    assert OAuth2Client("https://login.example", "a").endpoint == "https://login.example"


def test_the_namespace_tells_providers_and_clients_apart() -> None:
    github = OAuth2Client("github", "a")
    assert json.loads(github.namespace) == ["https://github.com/login/oauth", "a"]
    assert OAuth2Client(Providers.GITHUB, "a", "CANARY-secret").namespace == github.namespace
    names = [OAuth2Client(preset, client_id).namespace for preset in Providers.all() for client_id in ("a", "b", 'a", "b', "ü")]
    assert len(set(names)) == len(names)
    assert OAuth2Client("github", "a", namespace="mine").namespace == "mine"


async def test_a_public_client(bench: Bench) -> None:
    bench.server.register_client("public", redirect_uris=[CALLBACK], auth_method="none")
    client = bench.client(client_id="public", client_secret=None)
    await bench.log_in(client)
    assert (await client.refresh("alice")).has_scope("openid")


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("given", [True, False], ids=["told", "from the metadata"])
async def test_te3_client_authentication(bench: Bench, method: Any, given: bool) -> None:
    bench.server.register_client("client-1", bench.registered.client_secret, redirect_uris=[CALLBACK], auth_method=method)
    if not given:
        bench.server.script("metadata", faults.override(token_endpoint_auth_methods_supported=[method]))
    client = bench.client(client_auth=method if given else None, client_secret=Secret(bench.registered.client_secret or ""))
    await bench.log_in(client)
    await client.revoke("alice")


async def test_options_for_a_private_network(bench: Bench) -> None:
    """A TLS context and a proxy are used for every request: here the proxy is not there."""
    client = bench.client(ssl_context=ssl.create_default_context(), proxy="http://user:CANARY-password@127.0.0.1:9", timeout=30)
    with pytest.raises(PAuthError) as caught:
        await client.get_authorization_url()
    assert caught.value.retryable
    assert len(bench.server.ledger) == 0


async def test_the_refresh_policy_is_used(bench: Bench) -> None:
    eager = bench.client(refresh_policy=RefreshPolicy(soft_margin=360, hard_margin=360))  # a twentieth of an hour
    first = await bench.log_in(eager)
    bench.clock.advance(3419)
    assert await eager.get_token("alice") == first.token
    assert bench.refreshes() == 0
    bench.clock.advance(2)
    assert await eager.get_token("alice") != first.token
    assert bench.refreshes() == 1


async def test_without_a_clock_the_machines_is_used() -> None:
    async with AuthorizationServer(secret_marker="CANARY-") as server:
        registered = server.register_client(redirect_uris=[CALLBACK])
        async with OAuth2Client(server.issuer, registered.client_id, registered.client_secret, CALLBACK, ["openid"]) as client:
            login = await client.handle_callback(await server.authorize(await client.get_authorization_url()))
            assert (await client.get_token(login.user_id)).access_token == login.token.access_token
