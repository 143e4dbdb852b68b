"""aclose() and async with: what is waited for, what is closed, and what comes after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pauth import ConfigurationError, DeviceLogin, EncryptionKey, MemoryTokenStorage, OAuth2Client, Secret
from pauth.storage import Record, RecordKey
from pauth.testing import faults
from tests.client.kit import SESSION, Bench
from tests.testing.kit import until

CALLS: dict[str, Callable[[OAuth2Client], Awaitable[Any]]] = {
    "get_authorization_url": lambda client: client.get_authorization_url(session_id=SESSION),
    "handle_callback": lambda client: client.handle_callback({"code": "CANARY-code", "state": "CANARY-state-0123456789-0123456789-012345"}),
    "exchange_code": lambda client: client.exchange_code("CANARY-code", "CANARY-state-0123456789-0123456789-012345", session_id=SESSION),
    "start_device_login": lambda client: client.start_device_login(),
    "complete_device_login": lambda client: client.complete_device_login(DeviceLogin("A", "https://as.example", None, 0.0, Secret("CANARY"))),
    "get_token": lambda client: client.get_token("alice"),
    "refresh": lambda client: client.refresh("alice"),
    "get_user_info": lambda client: client.get_user_info("alice"),
    "revoke": lambda client: client.revoke("alice"),
    "get_client_token": lambda client: client.get_client_token(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_closed_client_does_nothing_any_more(bench: Bench, call: str) -> None:
    """Even where it could without a request."""
    client = bench.client()
    await bench.log_in(client)
    await client.aclose()
    requests = len(bench.server.ledger)
    with pytest.raises(ConfigurationError, match="this client is closed; make a new one"):
        await CALLS[call](client)
    assert len(bench.server.ledger) == requests


async def test_closing_twice_and_unused(bench: Bench) -> None:
    client = bench.client()
    await client.aclose()
    await client.aclose()


async def test_async_with(bench: Bench) -> None:
    async with bench.client() as client:
        await bench.log_in(client)
    with pytest.raises(ConfigurationError):
        await client.get_token("alice")


async def test_async_with_closes_after_an_error_and_lets_it_through(bench: Bench) -> None:
    client = bench.client()
    with pytest.raises(ZeroDivisionError):
        async with client:
            _ = 1 / 0
    with pytest.raises(ConfigurationError):
        await client.get_token("alice")


class Watched(MemoryTokenStorage):
    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


async def test_a_storage_that_was_given_stays_open(bench: Bench) -> None:
    tokens, pending = Watched(clock=bench.clock), Watched(clock=bench.clock)
    client = bench.client(token_storage=tokens, pending_storage=pending)
    await bench.log_in(client)
    await client.aclose()
    assert (tokens.closed, pending.closed) == (0, 0)
    assert (await bench.client(token_storage=tokens).get_token("alice")).subject == "alice"


async def test_storages_made_from_urls_are_closed_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Watched] = []

    def make(url: str, **options: Any) -> Watched:
        made.append(Watched(**options))
        return made[-1]

    monkeypatch.setattr("pauth.client.storage_from_url", make)
    client = bench.client(token_storage="memory://", pending_storage="memory://")
    await bench.log_in(client)
    await asyncio.gather(client.aclose(), client.aclose())
    await client.aclose()
    assert [storage.closed for storage in made] == [1, 1]


async def test_a_database_from_a_url_leaves_no_connection_behind(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ResourceWarnings are errors here; the write-ahead log is gone when the last connection is."""
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", EncryptionKey.generate().to_string().reveal())
    client = bench.client(token_storage=f"sqlite+aiosqlite:///{tmp_path / 'tokens.db'}")
    await bench.log_in(client)
    await client.aclose()
    assert sorted(tmp_path.glob("*")) == [tmp_path / "tokens.db"]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_p4_closing_waits_for_a_refresh_under_way(bench: Bench, kind: str) -> None:
    """P4: the server has rotated already; the caller has gone; the new token is stored before anything closes."""
    storage = bench.storage(kind)
    client = bench.client(token_storage=storage)
    await bench.log_in(client)
    hold = bench.server.script("token", faults.hold(applied=True))
    caller = asyncio.create_task(client.refresh("alice"))
    await hold.arrived.wait()
    caller.cancel()
    closing = asyncio.create_task(client.aclose())
    await until(caller.done)
    assert not closing.done()
    with pytest.raises(ConfigurationError, match="closed"):
        await client.get_token("alice")
    hold.release()
    await closing
    assert bench.refreshes() == 1
    assert (await bench.client(token_storage=storage).refresh("alice")).subject == "alice"
    assert not bench.server.family_revoked("alice")


async def test_p4_closing_waits_for_a_login_under_way(bench: Bench) -> None:
    """The same for a code that is spent."""
    storage = MemoryTokenStorage(clock=bench.clock)
    client = bench.client(token_storage=storage)
    callback = await bench.callback(client)
    hold = bench.server.script("token", faults.hold(applied=True))
    caller = asyncio.create_task(client.handle_callback(callback))
    await hold.arrived.wait()
    closing = asyncio.create_task(client.aclose())
    hold.release()
    await closing
    assert (await caller).user_id == "alice"
    assert (await bench.client(token_storage=storage).get_token("alice")).subject == "alice"


class Slow(MemoryTokenStorage):
    """Reads wait for ``go_on`` once it is there."""

    go_on: asyncio.Event | None = None

    async def load(self, key: RecordKey) -> Record | None:
        if self.go_on is not None:
            await self.go_on.wait()
        return await super().load(key)


async def test_p4_a_refresh_that_begins_while_the_client_is_being_closed_is_not_cut_off(bench: Bench) -> None:
    """Its caller came before; closing waits for fetches first, for refreshes last, and nothing comes between that and the end."""
    storage = Slow(clock=bench.clock)
    client = bench.client(token_storage=storage)
    await bench.log_in(client)
    bench.clock.advance(3601)  # token and metadata are both out of date
    storage.go_on = asyncio.Event()
    caller = asyncio.create_task(client.get_token("alice"))
    metadata = bench.server.script("metadata", faults.hold())
    starting = asyncio.create_task(client.get_authorization_url())
    await metadata.arrived.wait()
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)  # it is now waiting for the metadata
    token = bench.server.script("token", faults.hold(applied=True))
    storage.go_on.set()
    await asyncio.sleep(0)
    metadata.release()
    await token.arrived.wait()
    await starting
    token.release()
    await closing
    assert (await caller).subject == "alice"
    assert bench.refreshes() == 1
    assert (await bench.client(token_storage=storage).refresh("alice")).subject == "alice"


async def test_other_clients_on_the_storage_go_on(bench: Bench) -> None:
    storage = bench.storage("sqlite")
    one, two = bench.client(token_storage=storage), bench.client(token_storage=storage)
    await bench.log_in(one)
    await one.aclose()
    assert (await two.refresh("alice")).subject == "alice"
