"""How users write against pauth, for the type checkers: `mypy --strict` and pyright must accept every line, and reject those with an ignore.

It is checked with this tree and, by the package session, against the wheel in an environment without the optional libraries. It never runs.
"""

from __future__ import annotations

from typing import Any, assert_type

import pauth
from pauth import (
    AsyncTokenStorage,
    BaseTokenStorage,
    DatabaseTokenStorage,
    EncryptionKey,
    Login,
    MemoryTokenStorage,
    OAuth2Client,
    PAuthError,
    Provider,
    Providers,
    ReauthorizationRequired,
    Remedy,
    Secret,
    SyncOAuth2Client,
    SyncTokenStorage,
    Token,
    TokenRefresher,
    UserInfo,
    sync,
)
from pauth.storage import Expiring, Record, RecordKey


class OwnAsync:
    """A user's own class needs no base class."""

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None: ...

    async def get_token(self, user_id: str) -> dict[str, Any] | None: ...

    async def delete_token(self, user_id: str) -> None: ...


class OwnBlocking(BaseTokenStorage):
    def save_token(self, user_id: str, tokens: dict[str, Any]) -> None: ...

    def get_token(self, user_id: str) -> dict[str, Any] | None: ...

    def delete_token(self, user_id: str) -> None: ...


class TwoMethods:
    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None: ...

    async def get_token(self, user_id: str) -> dict[str, Any] | None: ...


def storages() -> list[AsyncTokenStorage]:
    key = EncryptionKey.generate()
    fits: list[AsyncTokenStorage] = [OwnAsync(), MemoryTokenStorage(), DatabaseTokenStorage("sqlite+aiosqlite:///tokens.db", encryption_key=key)]
    fits.append(TwoMethods())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return fits


async def login(code: str, state: str) -> None:
    provider: Provider = Providers.GITHUB
    for storage in (OwnAsync(), OwnBlocking(), MemoryTokenStorage(), "memory://", None):
        async with OAuth2Client(provider, "id", "CANARY-secret", "https://app.example/cb", scopes=["user"], token_storage=storage) as client:
            url = await client.get_authorization_url(scope=["user"], user_id="ann", session_id="s")
            assert_type(url, str)
            assert_type(await client.handle_callback("https://app.example/cb?code=c&state=s", session_id="s"), Login)
            assert_type(await client.handle_callback({"code": "c", "state": "s"}), Login)
            assert_type(await client.exchange_code(code, Secret(state), user_id="ann"), Token)
            token = await client.get_token("ann")
            assert_type(token, Token)
            assert_type(token.access_token, Secret)
            assert_type(token.expires_at, float | None)
            assert_type(await client.refresh("ann"), Token)
            assert_type(await client.get_user_info("ann"), UserInfo)
            await client.revoke("ann")
            await client.get_token(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(OAuth2Client("github", "id"), OAuth2Client)
    assert_type(OAuth2Client(provider="https://issuer.example", client_id="id", client_secret=Secret("CANARY-secret")), OAuth2Client)


async def errors(client: OAuth2Client) -> None:
    try:
        await client.get_token("ann")
    except ReauthorizationRequired as error:
        assert_type(error.reason, str)
    except PAuthError as error:
        assert_type(error.retryable, bool)
        assert_type(error.remedy, Remedy)
        assert_type(error.status, int | None)


def names() -> None:
    assert_type(pauth.__version__, str)
    _ = pauth.OAuthClient  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


def blocking(code: str, state: str) -> None:
    """The sync face: the same types, without await; and an async storage or client in the place of a sync one, or the reverse, is told."""
    for storage in (OwnAsync(), OwnBlocking(), MemoryTokenStorage(), SyncTokenStorage(OwnAsync()), "memory://", None):
        with SyncOAuth2Client(Providers.GITHUB, "id", "CANARY-secret", "https://app.example/cb", token_storage=storage, deadline=5.0) as client:
            assert_type(client, SyncOAuth2Client)
            assert_type(client.get_authorization_url(scope=["user"], user_id="ann", session_id="s"), str)
            assert_type(client.handle_callback({"code": "c", "state": "s"}), Login)
            assert_type(client.exchange_code(code, Secret(state), user_id="ann"), Token)
            assert_type(client.get_token("ann"), Token)
            assert_type(client.get_token_nowait("ann"), Token | None)
            assert_type(client.refresh("ann", if_version="1"), Token)
            assert_type(client.get_user_info("ann"), UserInfo)
            assert_type(client.namespace, str)
            assert_type(client.endpoint, str)
            client.revoke("ann")
            client.get_token(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with SyncTokenStorage("memory://", deadline=None) as store:
        assert_type(store.get_token("ann"), dict[str, Any] | None)
        assert_type(store.load(RecordKey("", "ann")), Record | None)
        assert_type([listed.version for listed in store.iter_users()], list[int])
        assert_type(next(store.iter_expiring(0.0)), Expiring)
        assert_type(sync.keys_in_use(store), dict[str | None, int])
        assert_type(sync.reencrypt(MemoryTokenStorage()).complete, bool)
        assert_type(sync.copy_storage(store, OwnBlocking()).verified, bool)
        OAuth2Client("github", "id", token_storage=store)
    sync.SyncTokenRefresher([SyncOAuth2Client("github", "id")]).run()
    sync.SyncTokenRefresher([OAuth2Client("github", "id")])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    TokenRefresher([SyncOAuth2Client("github", "id")])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
