"""Logout at providers that revoke a grant by its access token alone, and only by a valid one (GitHub, Slack, Facebook)."""

from __future__ import annotations

import dataclasses

import pytest

from pauth import OAuth2Client, ProviderUnavailable, Quirks, ReauthorizationRequired
from pauth.core.quirks import RevocationStyle
from pauth.testing import faults, token_hash
from tests.client.kit import Bench


@pytest.fixture
async def client(bench: Bench) -> OAuth2Client:
    provider = dataclasses.replace(
        bench.provider(revocation_endpoint=bench.server.revocation_endpoint), quirks=Quirks(revocation_style=RevocationStyle.BEARER_POST)
    )
    made = bench.client(provider)
    await made.handle_callback(await bench.callback(made), user_id="alice")
    return made


async def test_rv2_an_expired_access_token_is_refreshed_stored_and_then_revoked(bench: Bench, client: OAuth2Client) -> None:
    """The refreshed token is in the store before it is used, so that a revocation that fails can be tried again with it."""
    bench.clock.advance(3601)
    bench.server.script("revoke", faults.status(503))
    with pytest.raises(ProviderUnavailable):
        await client.revoke("alice")
    with pytest.raises(ReauthorizationRequired) as gone:
        await client.get_token("alice")
    assert gone.value.reason == "revoked"

    presented = bench.watch("revoke")
    bench.server.script("revoke", faults.status(200))
    await client.revoke("alice")
    assert bench.refreshes() == 1
    newest = bench.server.ledger.select(endpoint="token", grant_type="refresh_token")[0].access_token_out
    assert [token_hash(request.headers["authorization"].removeprefix("Bearer ")) for request in presented] == [newest]


async def test_rv2_a_server_that_cannot_refresh_leaves_the_grant_out_of_use(bench: Bench, client: OAuth2Client) -> None:
    bench.clock.advance(3601)
    bench.server.script("token", faults.status(503), times=2)
    with pytest.raises(ProviderUnavailable):
        await client.revoke("alice")
    with pytest.raises(ReauthorizationRequired):
        await client.get_token("alice")
    bench.server.script("revoke", faults.status(200))
    await client.revoke("alice")
    with pytest.raises(ReauthorizationRequired) as gone:
        await client.get_token("alice")
    assert gone.value.reason == "not_logged_in"
