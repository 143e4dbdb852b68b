"""How a client authenticates is chosen once, in one place, and one way at a time (TE-3, RFC 8414 section 2)."""

from __future__ import annotations

from typing import Any

import pytest

from pauth.errors import ConfigurationError, Remedy, TokenError
from pauth.testing import faults
from pauth.testing.messages import SeenRequest
from tests.server.kit import Bench, bench


async def _method_used(made: Bench) -> str:
    seen: list[SeenRequest] = []

    def note(request: SeenRequest) -> bool:
        seen.append(request)
        return False

    made.server.script("token", faults.drop_before(), when=note)
    await made.endpoints.client_credentials(scope=(), resource=())
    (request,) = seen
    header, secret = "authorization" in request.headers, "client_secret" in request.params
    assert not (header and secret)
    return "client_secret_basic" if header else "client_secret_post" if secret else "none"


@pytest.mark.parametrize(
    ("supported", "expected"),
    [
        (None, "client_secret_basic"),
        ([], "client_secret_basic"),
        (["client_secret_basic"], "client_secret_basic"),
        (["client_secret_post", "client_secret_basic"], "client_secret_basic"),
        (["client_secret_post"], "client_secret_post"),
        (["private_key_jwt", "client_secret_post"], "client_secret_post"),
        (["private_key_jwt"], "client_secret_basic"),
    ],
)
async def test_the_servers_metadata_decides_where_it_says_something(supported: list[str] | None, expected: str) -> None:
    async with bench(auth_method=expected) as made:
        made.server.script("metadata", faults.override(token_endpoint_auth_methods_supported=supported), times=None)
        assert await _method_used(made) == expected


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_the_providers_record_decides_where_there_is_one(method: str) -> None:
    both = {"token_endpoint_auth_methods_supported": ("client_secret_basic", "client_secret_post")}
    async with bench(provider={"client_auth": method, "metadata": both}, auth_method=method) as made:
        assert await _method_used(made) == method


@pytest.mark.parametrize("provider", [None, {"client_auth": "client_secret_basic"}], ids=["discovered", "recorded"])
async def test_what_the_application_says_wins(provider: dict[str, Any] | None) -> None:
    async with bench(provider=provider, auth_method="client_secret_post", client_auth="client_secret_post") as made:
        assert await _method_used(made) == "client_secret_post"


@pytest.mark.parametrize("provider", [None, {}], ids=["discovered", "recorded"])
async def test_a_client_without_a_secret_only_names_itself(provider: dict[str, Any] | None) -> None:
    async with bench(provider=provider, auth_method="none") as made:
        token = await made.token()
        assert (await made.endpoints.refresh(token)).access_token != token.access_token
        # the double tells a public client from others by what it sends
        assert made.server.ledger.count(endpoint="token", outcome="ok", client_id="client-1") == 2


async def test_an_unknown_method_is_a_configuration_error_before_anything_is_sent() -> None:
    async with bench(client_auth="client_secret_telepathy") as made:
        with pytest.raises(ConfigurationError, match="client_secret_post"):
            await made.endpoints.client_credentials(scope=(), resource=())
        assert made.server.ledger.count(endpoint="token") == 0


async def test_te8_a_wrong_method_is_a_matter_of_configuration() -> None:
    async with bench(auth_method="client_secret_post") as made:
        with pytest.raises(TokenError) as caught:
            await made.endpoints.client_credentials(scope=(), resource=())
    assert caught.value.error == "invalid_client"
    assert caught.value.remedy is Remedy.FIX_CONFIGURATION


async def test_client_credentials_give_a_token_of_the_clients_own() -> None:
    async with bench() as made:
        token = await made.endpoints.client_credentials(scope=["read", "write"], resource=["https://api.example"])
    assert token.scope == ("read", "write")
    assert token.issuer == made.server.issuer
    assert token.refresh_token is None
    assert not made.endpoints.refreshable(token)
