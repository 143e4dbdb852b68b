"""What is one store, and what the ways of leaving a process do to it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from pathlib import Path

import pytest

from pauth import EncryptionKey
from pauth.errors import StorageUnavailable
from pauth.refresh import shared as module
from pauth.refresh.flight import Flight, Flights
from pauth.refresh.shared import shared_over
from pauth.storage import DatabaseTokenStorage
from pauth.testing import faults
from tests.refresh.faulty import FaultyStorage, refuse
from tests.refresh.kit import STALE, passing, settle, stored_token, world


async def test_p1_two_storages_on_one_file_make_one_refresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that are made from one URL have a storage each; the file is the store."""
    key = EncryptionKey.generate()
    monkeypatch.chdir(tmp_path)
    urls = ("sqlite+aiosqlite:///tokens.db", f"sqlite+aiosqlite:///{(tmp_path / 'tokens.db').as_posix()}")
    async with world() as strict:
        stores = [DatabaseTokenStorage(url, encryption_key=key, clock=strict.clock, timeout=120) for url in urls]
        clients = [strict.client(store) for store in stores]
        await strict.log_in(clients[0])
        strict.clock.advance(3601)
        tokens = await asyncio.gather(*(client.get_token("alice") for client in clients for _ in range(50)))
        assert len({token.access_token for token in tokens}) == 1
        assert len(strict.refreshes) == 1
        assert not strict.server.family_revoked("alice")
        for client in clients:
            await client.aclose()
        for store in stores:
            await store.aclose()


def test_p19_what_is_shared_goes_with_the_last_of_its_storages(tmp_path: Path) -> None:
    def storage() -> DatabaseTokenStorage:
        return DatabaseTokenStorage(f"sqlite+aiosqlite:///{(tmp_path / 'a.db').as_posix()}", encryption_key=EncryptionKey.generate())

    one, other = storage(), storage()
    shared = shared_over(one)
    assert shared_over(other) is shared is shared_over(one)
    key = one.store_id
    assert key in module._shared  # pyright: ignore[reportPrivateUsage]
    del one
    gc.collect()
    assert key in module._shared  # pyright: ignore[reportPrivateUsage]
    del other
    gc.collect()
    assert key not in module._shared  # pyright: ignore[reportPrivateUsage]


async def test_the_file_of_a_relative_url_does_not_move_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = EncryptionKey.generate()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    storage = DatabaseTokenStorage("sqlite+aiosqlite:///tokens.db", encryption_key=key)
    monkeypatch.chdir(tmp_path / "elsewhere")
    await storage.save_token("alice", {"a": 1})
    await storage.aclose()
    assert (tmp_path / "tokens.db").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("healed", [True, False])
async def test_p4_closing_offers_an_unsaved_token_to_the_store_once_more(caplog: pytest.LogCaptureFixture, *, healed: bool) -> None:
    async with world() as strict:
        storage = FaultyStorage(strict.clock)
        client = strict.client(storage)
        old = await strict.log_in(client)
        storage.faults += [refuse] * 6
        with pytest.raises(StorageUnavailable):
            await passing(strict.clock, client.refresh("alice"))
        if not healed:
            storage.faults += [refuse]
        with caplog.at_level(logging.ERROR, "pauth.refresh"):
            await client.aclose()
        stored = await stored_token(storage)
        assert (stored.access_token != old.access_token) is healed
        assert ("it is lost with this process" in caplog.text) is not healed


async def test_p9_a_server_that_hangs_holds_nobody_up_whose_token_is_valid() -> None:
    async with world() as strict:
        storage = FaultyStorage(strict.clock)
        async with strict.client(storage) as client:
            token = await strict.log_in(client)
            strict.clock.advance(STALE)
            hanging = strict.server.script("token", faults.hold())
            assert await client.get_token("alice") == token
            await hanging.arrived.wait()
            for _ in range(3):
                strict.clock.advance(1)
                assert await client.get_token("alice") == token
            waiting = asyncio.create_task(client.refresh("alice"))  # who wants another one joins the refresh that is under way
            await settle()
            assert not waiting.done()
            hanging.release()
            newer = await waiting
            assert newer != token
            assert await client.get_token("alice") == newer
            assert len(strict.refreshes) == 1


async def test_p15_a_forked_child_does_not_wait_for_what_its_parent_has_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    flights, begun = Flights(), set[Flight]()
    never = asyncio.Event()

    async def hang() -> None:
        await never.wait()

    parents = asyncio.ensure_future(flights.run("key", hang, begun=begun))
    await asyncio.sleep(0)
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as if this were the child

    async def work() -> str:
        return "done here"

    assert await flights.run("key", work, begun=set()) == "done here"
    monkeypatch.undo()
    never.set()
    await asyncio.gather(parents, return_exceptions=True)
