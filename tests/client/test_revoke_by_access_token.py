"""Logout at providers that revoke a grant by its access token alone, and only by a valid one (GitHub, Slack, Facebook)."""

from __future__ import annotations

import asyncio
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
    bench.server.script("token", faults.status(503))
    with pytest.raises(ProviderUnavailable):
        await client.revoke("alice")
    with pytest.raises(ReauthorizationRequired):
        await client.get_token("alice")
    bench.server.script("revoke", faults.status(200))
    await client.revoke("alice")
    with pytest.raises(ReauthorizationRequired) as gone:
        await client.get_token("alice")
    assert gone.value.reason == "not_logged_in"


async def test_rv2_a_token_that_expires_between_two_attempts_is_renewed_and_noted(bench: Bench, client: OAuth2Client) -> None:
    """The server revokes the family if a refresh token comes twice: each one must be stored before the next attempt."""
    bench.server.script("revoke", faults.status(503), times=2)
    for advance in (0, 3601):
        bench.clock.advance(advance)
        with pytest.raises(ProviderUnavailable):
            await client.revoke("alice")
    bench.clock.advance(3601)
    bench.server.script("revoke", faults.status(200))
    await client.revoke("alice")
    assert bench.refreshes() == 2
    assert not bench.server.family_revoked("alice")  # the scripted answer revoked nothing, and no reuse did


async def test_rv3_a_login_while_a_token_is_renewed_for_its_revocation_stays(bench: Bench, client: OAuth2Client) -> None:
    bench.clock.advance(3601)
    renewing = bench.server.script("token", faults.hold())
    bench.server.script("revoke", faults.status(200), times=None)
    revoking = asyncio.ensure_future(client.revoke("alice"))
    await renewing.arrived.wait()
    await client.handle_callback(await bench.callback(client), user_id="alice")
    renewing.release()
    await revoking
    with pytest.raises(ReauthorizationRequired) as gone:  # who asked to end the grant meant the user, so the newer login ends too
        await client.get_token("alice")
    assert gone.value.reason == "not_logged_in"
