"""MX: the callback's issuer, and where the code goes."""

from __future__ import annotations

from typing import Any

import pytest

from pauth import AuthorizationError, ConfigurationError, ReauthorizationRequired, Remedy
from pauth.testing import AuthorizationServer, faults
from tests.client.kit import Bench, edited

SUPPORT: dict[str, Any] = {
    "true": faults.override(authorization_response_iss_parameter_supported=True),
    "false": faults.override(authorization_response_iss_parameter_supported=False),
    "absent": faults.omit("authorization_response_iss_parameter_supported"),
}


@pytest.mark.parametrize("deny", [False, True], ids=["code", "error"])
@pytest.mark.parametrize("support", SUPPORT)
@pytest.mark.parametrize("iss", ["right", "trailing slash", "upper-case scheme", "encoded", "another", "missing"])
async def test_mx2_the_issuer_of_the_callback(bench: Bench, iss: str, support: str, deny: bool) -> None:
    """MX-2: a plain comparison; a wrong or a missing issuer that was promised ends the login, and the server's error is then not shown."""
    bench.server.script("metadata", SUPPORT[support], times=None)
    client = bench.client()
    issuer = bench.server.issuer
    given = {
        "right": issuer,
        "trailing slash": f"{issuer}/",
        "upper-case scheme": issuer.replace("http:", "HTTP:"),
        "encoded": issuer.replace(".", "%2e"),
        "another": "https://evil.example",
        "missing": None,
    }[iss]
    callback = edited(await bench.callback(client, deny=deny), iss=given)
    if iss == "right" or (iss == "missing" and support != "true"):
        if not deny:
            assert (await client.handle_callback(callback)).user_id == "alice"
            return
        with pytest.raises(AuthorizationError) as caught:
            await client.handle_callback(callback)
        assert (caught.value.error, caught.value.error_description) == ("access_denied", "the user said no")
    else:
        with pytest.raises(AuthorizationError, match="names no issuer" if iss == "missing" else "mix-up") as caught:
            await client.handle_callback(callback)
        assert (caught.value.error, caught.value.error_description, caught.value.remedy) == (None, None, Remedy.LOG_IN_AGAIN)
        assert "access_denied" not in str(caught.value)
        assert "evil.example" not in str(caught.value)
    assert bench.exchanges() == 0


async def test_mx3_a_provider_with_an_issuer_compares_it_also_where_it_was_not_promised(bench: Bench) -> None:
    """MX-3: as GitHub's preset does."""
    client = bench.client(bench.provider(issuer=bench.server.issuer))
    callback = await bench.callback(client)
    with pytest.raises(AuthorizationError, match="mix-up"):
        await client.handle_callback(edited(callback, iss="https://evil.example"), user_id="u1")
    assert (await client.handle_callback(await bench.callback(client), user_id="u1")).user_id == "u1"


async def test_a_provider_that_promises_iss_needs_an_issuer_to_compare_it_with(bench: Bench) -> None:
    client = bench.client(bench.provider(authorization_response_iss_parameter_supported=True))
    with pytest.raises(ConfigurationError, match="issuer must be configured"):
        await client.get_authorization_url()


async def test_mx1_metadata_that_changes_between_the_legs_does_not_move_the_code(bench: Bench) -> None:
    """MX-1, PK-2, MD-4: the metadata now names an attacker's token endpoint. Neither the code and its verifier nor a refresh token go there."""
    client = bench.client(login_timeout=3600)
    await bench.log_in(client)  # fetches the metadata, for an hour
    bench.clock.advance(100)
    url = await client.get_authorization_url()
    async with AuthorizationServer(clock=bench.clock, secret_marker="CANARY-") as evil:
        bench.server.script("metadata", faults.override(token_endpoint=evil.token_endpoint), times=None)
        bench.clock.advance(3550)
        with pytest.raises(AuthorizationError, match="the token endpoint or client_id has changed"):
            await client.handle_callback(await bench.server.authorize(url))
        with pytest.raises(ReauthorizationRequired) as caught:
            await client.refresh("alice")
        assert caught.value.reason == "issuer_changed"
        assert (bench.exchanges(), len(evil.ledger)) == (1, 0)
        assert bench.server.ledger.count(endpoint="metadata") == 2
