"""The device grant (RFC 8628) at a real server, and at the double, which has to be like it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import TypeAlias

import pytest

from pauth import AuthorizationError, Login, OAuth2Client, ReauthorizationRequired, Remedy
from pauth.clock import SystemClock
from tests.support.servers import RealServer

MakeClient: TypeAlias = Callable[[str], OAuth2Client]


class Hurried(SystemClock):
    """Sleeps a hundredth of the time. oidc-provider does not insist on the interval."""

    def __init__(self) -> None:
        self.sleeps = 0
        self.polled = asyncio.Event()
        """The first poll was answered, and there will be another one."""

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        if self.sleeps > 1:
            self.polled.set()
        await asyncio.sleep(seconds / 100)


@pytest.fixture(params=["oidc_provider", "double"])
def server(request: pytest.FixtureRequest) -> RealServer:
    running: RealServer = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def clock() -> Hurried:
    return Hurried()


@pytest.fixture
async def make(server: RealServer, clock: Hurried) -> AsyncIterator[MakeClient]:
    async with AsyncExitStack() as stack:

        def make_client(kind: str) -> OAuth2Client:
            registered = getattr(server, kind)
            client = OAuth2Client(
                server.issuer,
                registered.client_id,
                registered.client_secret,
                scopes=["openid", "email"],
                client_auth=registered.auth_method,
                clock=clock,
            )
            stack.push_async_callback(client.aclose)
            return client

        yield make_client


async def decided(server: RealServer, client: OAuth2Client, clock: Hurried, *, deny: bool = False) -> Login:
    """A login whose user decides after the first poll; at the double, which does insist on the interval, before it."""
    started = await client.start_device_login()
    assert started.verification_uri.startswith(server.issuer)
    if server.double is not None:
        await server.decide_device(started, "alice", deny=deny)
    completing = asyncio.create_task(client.complete_device_login(started))
    if server.double is None:
        await clock.polled.wait()
        await server.decide_device(started, "alice", deny=deny)
    return await completing


@pytest.mark.parametrize("kind", ["basic", "post", "public"])
async def test_dv1_a_login_on_another_device(server: RealServer, make: MakeClient, clock: Hurried, kind: str) -> None:
    client = make(kind)
    login = await decided(server, client, clock)
    info = await client.get_user_info(login.user_id)
    assert (info.subject, info.email, login.token.id_token is not None) == (login.user_id, "alice@example.com", True)
    assert (await client.refresh(login.user_id)).access_token != login.token.access_token
    await client.revoke(login.user_id)
    with pytest.raises(ReauthorizationRequired):
        await client.get_token(login.user_id)


async def test_dv1_a_no(server: RealServer, make: MakeClient, clock: Hurried) -> None:
    with pytest.raises(AuthorizationError) as caught:
        await decided(server, make("public"), clock, deny=True)
    assert (caught.value.error, caught.value.remedy) == ("access_denied", Remedy.LOG_IN_AGAIN)
