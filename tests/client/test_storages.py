"""Every form in which a client may be given its storage, and what two clients on one storage see of each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pauth import ConfigurationError, EncryptionKey, MemoryTokenStorage, OAuth2Client, ReauthorizationRequired
from pauth.storage import RecordKey
from pauth.testing import AuthorizationServer
from tests.client.kit import CALLBACK, STORAGES, Bench, query_of
from tests.storage.kit import BlockingStorage, DictStorage, database


async def not_logged_in(client: OAuth2Client, user: str = "alice") -> None:
    with pytest.raises(ReauthorizationRequired) as caught:
        await client.get_token(user)
    assert caught.value.reason == "not_logged_in"


@pytest.mark.parametrize("kind", STORAGES)
async def test_a_storage_object_keeps_the_login_for_the_next_client(bench: Bench, kind: str) -> None:
    storage = bench.storage(kind)
    client = bench.client(token_storage=storage)
    login = await bench.log_in(client)
    await client.aclose()
    token = await bench.client(token_storage=storage).get_token("alice")
    assert (token.access_token, token.refresh_token) == (login.token.access_token, login.token.refresh_token)
    assert (token.subject, token.scope, token.expires_at) == ("alice", login.token.scope, login.token.expires_at)


async def test_by_default_tokens_are_in_memory_of_this_client(bench: Bench) -> None:
    client = bench.client()
    await bench.log_in(client)
    await client.get_token("alice")
    await not_logged_in(bench.client())


async def test_a_memory_url(bench: Bench) -> None:
    client = bench.client(token_storage="memory://")
    await bench.log_in(client)
    await client.get_token("alice")
    await not_logged_in(bench.client(token_storage="memory://"))


@pytest.mark.parametrize("scheme", ["sqlite+aiosqlite", "sqlite"])
async def test_a_database_url(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """The key is in the environment; the file is encrypted (the canary reads it), and belongs to this user alone."""
    url = f"{scheme}:///{tmp_path / 'tokens.db'}"
    monkeypatch.delenv("PAUTH_ENCRYPTION_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="PAUTH_ENCRYPTION_KEY"):
        bench.client(token_storage=url)
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", EncryptionKey.generate().to_string().reveal())
    client = bench.client(token_storage=url)
    login = await bench.log_in(client)
    await client.aclose()
    restarted = bench.client(token_storage=url)
    assert (await restarted.get_token("alice")).access_token == login.token.access_token
    if os.name == "posix":
        assert (tmp_path / "tokens.db").stat().st_mode & 0o777 == 0o600


async def test_a_class_with_three_methods_is_given_the_plain_user_id(bench: Bench) -> None:
    storage = DictStorage()
    await bench.log_in(bench.client(token_storage=storage))
    assert list(storage.saved) == ["alice"]
    assert storage.saved["alice"]["subject"] == "alice"


async def test_a_blocking_class_is_called_outside_the_event_loop(bench: Bench) -> None:
    """BaseTokenStorage runs in worker threads: here it asks whether a loop runs in its thread."""
    import asyncio

    class Looking(BlockingStorage):
        def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            super().save_token(user_id, tokens)

    client = bench.client(token_storage=(storage := Looking()))
    await bench.log_in(client)
    await client.refresh("alice")
    assert list(storage.saved) == ["alice"]


async def test_tokens_another_library_saved_are_used(bench: Bench) -> None:
    storage = DictStorage()
    storage.saved["alice"] = {"access_token": "CANARY-at", "token_type": "bearer", "expires_at": bench.clock.time() + 1000, "scope": ["a", "b"]}
    token = await bench.client(token_storage=storage).get_token("alice")
    assert (token.token_type, token.scope, token.issuer) == ("Bearer", ("a", "b"), None)


# Pending logins


async def test_pending_logins_wait_in_the_token_storage(bench: Bench, tmp_path: Path) -> None:
    """So the callback may reach another process: here, another storage object on the same file."""
    callback = await bench.callback(bench.client(token_storage=bench.storage("sqlite")))
    elsewhere = database(tmp_path, clock=bench.clock)
    assert (await bench.client(token_storage=elsewhere).handle_callback(callback)).user_id == "alice"
    await elsewhere.aclose()


@pytest.mark.parametrize("as_url", [False, True])
async def test_pending_logins_may_wait_elsewhere(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_url: bool) -> None:
    """For classes with three methods, which cannot keep them."""
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", EncryptionKey.generate().to_string().reveal())
    url = f"sqlite+aiosqlite:///{tmp_path / 'pending.db'}"
    shared = bench.storage("sqlite")
    first = bench.client(token_storage=DictStorage(), pending_storage=url if as_url else shared)
    second = bench.client(token_storage=(storage := DictStorage()), pending_storage=url if as_url else shared)
    assert (await second.handle_callback(await bench.callback(first))).user_id == "alice"
    assert list(storage.saved) == ["alice"]
    await not_logged_in(first)


# Namespaces


async def test_p13_two_client_ids_on_one_storage_do_not_meet(bench: Bench) -> None:
    bench.server.register_client("client-2", "CANARY-client-secret-2", redirect_uris=[CALLBACK])
    storage = MemoryTokenStorage(clock=bench.clock)
    one = bench.client(token_storage=storage)
    two = bench.client(token_storage=storage, client_id="client-2", client_secret="CANARY-client-secret-2")
    first = await bench.log_in(one)
    await not_logged_in(two)
    second = await bench.log_in(two)
    assert (await one.get_token("alice")).access_token == first.token.access_token
    assert (await two.get_token("alice")).access_token == second.token.access_token
    await two.revoke("alice")
    assert (await one.get_token("alice")).access_token == first.token.access_token
    await storage.aclose()


async def test_p13_two_issuers_on_one_storage_do_not_meet(bench: Bench) -> None:
    storage = MemoryTokenStorage(clock=bench.clock)
    async with AuthorizationServer(clock=bench.clock, secret_marker="CANARY-") as other:
        other.register_client("client-1", bench.registered.client_secret, redirect_uris=[CALLBACK])
        here, there = bench.client(token_storage=storage), bench.client(other.issuer, storage)
        first = await bench.log_in(here)
        await not_logged_in(there)
        second = await there.handle_callback(await other.authorize(await there.get_authorization_url()))
        assert (await here.get_token("alice")).access_token == first.token.access_token
        assert (await there.get_token("alice")).access_token == second.token.access_token
        await there.aclose()


async def test_p13_users_of_one_client_do_not_meet(bench: Bench) -> None:
    client = bench.client()
    logins = {user: await bench.log_in(client, user) for user in ("alice", "Alice", "alice ")}
    for user, login in logins.items():
        assert (await client.get_token(user)).access_token == login.token.access_token


async def test_a_namespace_of_ones_own(bench: Bench) -> None:
    storage = MemoryTokenStorage(clock=bench.clock)
    client = bench.client(token_storage=storage, namespace="mine")
    await bench.log_in(client)
    assert await storage.load(RecordKey("mine", "alice")) is not None
    assert client.namespace == "mine"


async def test_sh1_a_pending_login_is_encrypted_on_disk(bench: Bench, tmp_path: Path) -> None:
    """The canary searches the file: for the marked part of the URL, and for the browser's session."""
    client = bench.client(token_storage=bench.storage("sqlite"), redirect_uri="https://app.example/callback?CANARY=1")
    assert "CANARY" in query_of(await client.get_authorization_url(session_id="CANARY-session"))["redirect_uri"]
    assert (tmp_path / "tokens.db").stat().st_size > 0
