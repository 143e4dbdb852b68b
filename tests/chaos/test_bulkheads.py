"""C7: one bad server, or one bad user at a server, delays nobody else (P9). Proven by who is served while others still wait, not by a stopwatch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pauth import DatabaseTokenStorage, OAuth2Client
from pauth.core.metadata import ServerMetadata
from pauth.providers import Provider
from pauth.testing import AuthorizationServer, ManualClock, SeenRequest, faults
from tests.storage.kit import KEY

LIFETIME = 3600.0
CALLBACK = "https://app.example/callback"
BAD = [f"bad-{number}" for number in range(80)]
GOOD = [f"good-{number}" for number in range(20)]


class Two:
    """Two servers, with a client of each, on one store."""

    def __init__(self, clock: ManualClock, servers: list[AuthorizationServer], clients: list[OAuth2Client]) -> None:
        self.clock = clock
        self.servers = servers
        self.clients = clients

    async def log_in(self, client: OAuth2Client, server: AuthorizationServer, users: list[str]) -> None:
        for user in users:
            url = await client.get_authorization_url(user_id=user)
            await client.handle_callback(await server.authorize(url, user=user))


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        storage = DatabaseTokenStorage(f"sqlite:///{tmp_path / 'tokens.db'}", encryption_key=KEY, clock=clock, timeout=120.0)
        stack.push_async_callback(storage.aclose)
        servers: list[AuthorizationServer] = []
        clients: list[OAuth2Client] = []
        for name in ("a", "b"):
            server = await stack.enter_async_context(AuthorizationServer(access_token_lifetime=LIFETIME, clock=clock, secret_marker="CANARY-"))
            registered = server.register_client(redirect_uris=[CALLBACK])
            metadata = ServerMetadata(
                issuer=server.issuer, authorization_endpoint=server.authorization_endpoint, token_endpoint=server.token_endpoint
            )
            provider = Provider(name=name, metadata=metadata)
            client = OAuth2Client(provider, registered.client_id, registered.client_secret, CALLBACK, ["read"], storage, clock=clock, timeout=120.0)
            clients.append(await stack.enter_async_context(client))
            servers.append(server)
        yield Two(clock, servers, clients)


async def test_a_server_that_hangs_does_not_delay_the_users_of_another_p9(two: Two) -> None:
    (bad_server, good_server), (bad, good) = two.servers, two.clients
    await two.log_in(bad, bad_server, BAD)
    await two.log_in(good, good_server, GOOD)
    two.clock.advance(LIFETIME)
    hang = bad_server.script("token", faults.hold(), times=None)
    waiting = [asyncio.create_task(bad.get_token(user)) for user in BAD]
    await hang.arrived.wait()

    tokens = await asyncio.gather(*(good.get_token(user) for user in GOOD))
    assert len({token.access_token for token in tokens}) == len(GOOD)
    assert not any(task.done() for task in waiting)

    hang.release()
    assert len({token.access_token for token in await asyncio.gather(*waiting)}) == len(BAD)


@pytest.mark.parametrize("bad", [BAD[:1], BAD], ids=["one user", "many users"])
async def test_users_whose_refresh_hangs_do_not_delay_others_at_the_same_server_p9(two: Two, bad: list[str]) -> None:
    server, client = two.servers[0], two.clients[0]
    await two.log_in(client, server, [*bad, *GOOD])
    two.clock.advance(LIFETIME)

    def of_a_bad_one(request: SeenRequest) -> bool:
        return "rt-bad-" in request.params.get("refresh_token", "")

    hang = server.script("token", faults.hold(), times=None, when=of_a_bad_one)
    waiting = [asyncio.create_task(client.get_token(user)) for user in bad for _ in range(3)]
    await hang.arrived.wait()
    await asyncio.gather(*(client.get_token(user) for user in GOOD))
    assert not any(task.done() for task in waiting)
    hang.release()
    assert len({token.access_token for token in await asyncio.gather(*waiting)}) == len(bad)
