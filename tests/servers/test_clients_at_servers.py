"""pauth's client at real servers, and at the double, which has to be like them: what differs is stated per server, the rest is one suite."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import pytest

from pauth import (
    AuthorizationError,
    DatabaseTokenStorage,
    EncryptionKey,
    InvalidStateError,
    MemoryTokenStorage,
    OAuth2Client,
    ReauthorizationRequired,
    Remedy,
    TokenError,
    UserInfoError,
)
from pauth.storage.base import RecordKey
from pauth.testing import ManualClock
from tests.support.servers import RealServer

MakeClient: TypeAlias = Callable[..., OAuth2Client]

KINDS = pytest.mark.parametrize("kind", ["basic", "post", "public"])


@pytest.fixture(params=["oidc_provider", "django_provider", "double"])
def server(request: pytest.FixtureRequest) -> RealServer:
    running: RealServer = request.getfixturevalue(request.param)
    return running


@pytest.fixture
async def make(server: RealServer) -> AsyncIterator[MakeClient]:
    """Makes clients of the server, told nothing but its issuer; closes them."""
    async with AsyncExitStack() as stack:
        opened: list[OAuth2Client] = []

        def make_client(kind: str = "basic", **options: object) -> OAuth2Client:
            registered = getattr(server, kind)
            arguments: dict[str, object] = {
                "provider": server.issuer,
                "client_id": registered.client_id,
                "client_secret": registered.client_secret,
                "redirect_uri": server.redirect_uri,
                "scopes": ["openid", "email"],
                "client_auth": registered.auth_method,
            }
            client = OAuth2Client(**{**arguments, **options})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            opened.append(client)
            stack.push_async_callback(client.aclose)
            return client

        yield make_client


async def log_in(server: RealServer, client: OAuth2Client, user: str = "alice") -> str:
    url = await client.get_authorization_url(session_id="browser-session-1")
    callback = await server.authorize(url, user)
    return (await client.handle_callback(callback, session_id="browser-session-1")).user_id


@KINDS
async def test_login_get_refresh_userinfo_revoke(server: RealServer, make: MakeClient, kind: str) -> None:
    """MD-1, PK-1, AX-1, TE-3, RV-1: the whole life of a grant, with each way of client authentication."""
    client = make(kind)
    user = await log_in(server, client)
    first = await client.get_token(user)
    assert await client.get_token(user) == first
    assert first.refresh_token is not None

    second = await client.refresh(user)
    assert second.access_token != first.access_token
    assert second.refresh_token not in (None, first.refresh_token)

    info = await client.get_user_info(user)
    assert (info.subject, info.email) == (user, "alice@example.com")

    await client.revoke(user)
    with pytest.raises(ReauthorizationRequired) as caught:
        await client.get_token(user)
    assert caught.value.reason == "not_logged_in"


async def test_a_hundred_callers_make_one_refresh(server: RealServer, make: MakeClient) -> None:
    """P1: both servers revoke the family when a refresh token comes twice, so a second request would end the session."""
    clock = ManualClock(time.time())  # the servers' ID tokens bear the true time
    storage = MemoryTokenStorage(clock=clock)
    clients = [make(token_storage=storage, clock=clock) for _ in range(10)]
    user = await log_in(server, clients[0])
    before = await clients[0].get_token(user)
    clock.advance(4000)
    tokens = await asyncio.gather(*(client.get_token(user) for client in clients for _ in range(10)))
    assert len({token.access_token for token in tokens}) == 1
    assert tokens[0].access_token != before.access_token
    assert (await clients[0].get_user_info(user)).subject == user
    assert (await clients[3].refresh(user)).access_token != tokens[0].access_token


async def test_a_restart_keeps_the_session(server: RealServer, make: MakeClient, tmp_path: Path) -> None:
    """P3: the rotated token is in the store, so another process goes on where this one ended."""
    key = EncryptionKey.generate()
    storage = DatabaseTokenStorage(f"sqlite+aiosqlite:///{tmp_path / 'tokens.db'}", encryption_key=key)
    client = make(token_storage=storage)
    user = await log_in(server, client)
    rotated = await client.refresh(user)
    await client.aclose()
    await storage.aclose()

    reopened = DatabaseTokenStorage(f"sqlite+aiosqlite:///{tmp_path / 'tokens.db'}", encryption_key=key)
    again = make(token_storage=reopened)
    assert (await again.get_token(user)).access_token == rotated.access_token
    assert (await again.refresh(user)).access_token != rotated.access_token
    await reopened.aclose()


async def test_a_revoked_family_asks_for_a_login_and_deletes_nothing(server: RealServer, make: MakeClient) -> None:
    """P8: somebody else has used the refresh token, the server has revoked the family: log in again, the record stays."""
    storage = MemoryTokenStorage()
    client = make(token_storage=storage)
    user = await log_in(server, client)
    key = RecordKey(client.namespace, user)
    stolen = await storage.load(key)
    assert stolen is not None
    await client.refresh(user)
    thief = make(token_storage=(thiefs := MemoryTokenStorage()))
    await thiefs.replace(key, stolen.tokens, expected_version=0)
    with pytest.raises(ReauthorizationRequired):
        await thief.refresh(user)

    with pytest.raises(ReauthorizationRequired) as caught:
        await client.refresh(user)
    assert (caught.value.reason, caught.value.remedy) == ("invalid_grant", Remedy.LOG_IN_AGAIN)
    assert await storage.load(key) is not None
    assert await log_in(server, client) == user
    await client.refresh(user)


async def test_two_users_have_their_own_tokens(server: RealServer, make: MakeClient) -> None:
    """P13"""
    client = make()
    alice, bob = await log_in(server, client, "alice"), await log_in(server, client, "bob")
    assert alice != bob
    assert [(await client.get_user_info(user)).email for user in (alice, bob)] == ["alice@example.com", "bob@example.com"]


async def test_a_code_is_exchanged_once(server: RealServer, make: MakeClient) -> None:
    """AX-1: the second use of a callback is refused before any request."""
    client = make()
    callback = await server.authorize(await client.get_authorization_url(), "alice")
    await client.handle_callback(callback)
    with pytest.raises(InvalidStateError):
        await client.handle_callback(callback)


async def test_a_code_of_another_login_is_refused_by_the_server(server: RealServer, make: MakeClient) -> None:
    """PK-1: a code that was stolen from another browser does not fit the verifier of this login."""
    client = make()
    mine = await server.authorize(await client.get_authorization_url(), "alice")
    victims = await server.authorize(await client.get_authorization_url(), "bob")
    parts = urlsplit(mine)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | {"code": parse_qs(urlsplit(victims).query)["code"][0]}
    with pytest.raises(TokenError) as caught:
        await client.handle_callback(urlunsplit(parts._replace(query=urlencode(query))))
    assert (caught.value.error, caught.value.remedy) == ("invalid_grant", Remedy.LOG_IN_AGAIN)


async def test_a_wrong_client_secret_is_a_configuration_fault(server: RealServer, make: MakeClient) -> None:
    client = make(client_secret="CANARY-wrong")
    callback = await server.authorize(await client.get_authorization_url(), "alice")
    with pytest.raises(TokenError) as caught:
        await client.handle_callback(callback)
    assert (caught.value.error, caught.value.remedy, caught.value.status) == ("invalid_client", Remedy.FIX_CONFIGURATION, 401)


async def test_an_error_at_the_authorization_endpoint_is_told_with_the_servers_code(server: RealServer, make: MakeClient) -> None:
    """AX-5: the callback carries an OAuth error."""
    client = make()
    if server.double is not None:
        callback = await server.double.authorize(await client.get_authorization_url(), deny=True)
        code = "access_denied"
    elif server.name == "oidc-provider":
        callback = await server.authorize(await client.get_authorization_url(extra_params={"prompt": "none"}), "alice")
        code = "login_required"
    else:
        callback = await server.authorize(await client.get_authorization_url(scope=["no-such-scope"]), "alice")
        code = "invalid_scope"
    with pytest.raises(AuthorizationError) as caught:
        await client.handle_callback(callback)
    assert caught.value.error == code


async def test_user_info_after_the_access_token_died_at_the_server(server: RealServer, make: MakeClient) -> None:
    """A token revoked behind pauth's back is refreshed once; where the grant is gone with it, the user logs in again."""
    storage = MemoryTokenStorage()
    client = make(token_storage=storage)
    user = await log_in(server, client)
    twin = make(token_storage=(copy := MemoryTokenStorage()))
    record = await storage.load(RecordKey(client.namespace, user))
    assert record is not None
    await copy.replace(record.key, record.tokens, expected_version=0)
    # django-oauth-toolkit's metadata names no revocation endpoint; there a refresh kills the old access token.
    await (twin.refresh if server.name == "django-oauth-toolkit" else twin.revoke)(user)
    with pytest.raises((ReauthorizationRequired, UserInfoError)) as caught:
        await client.get_user_info(user)
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN


async def test_the_issuer_names_itself_in_the_callback_or_not(server: RealServer, make: MakeClient) -> None:
    """MX-1: oidc-provider promises `iss`, so a callback without it, or with another, is refused; django-oauth-toolkit sends none."""
    client = make()
    callback = await server.authorize(await client.get_authorization_url(), "alice")
    parameters = {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}
    assert parameters.pop("iss", None) == (None if server.name == "django-oauth-toolkit" else server.issuer)
    if server.name == "django-oauth-toolkit":
        assert (await client.handle_callback(parameters)).user_id
    else:
        with pytest.raises(AuthorizationError):
            await client.handle_callback(parameters)
