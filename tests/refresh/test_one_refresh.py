"""P1: however many ask at once, one request leaves and all get its result."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from pauth.client import OAuth2Client
from pauth.core.token import Token
from pauth.storage import MemoryTokenStorage
from pauth.testing import faults
from tests.refresh.faulty import FaultyStorage, Hold
from tests.refresh.kit import KEY, LIFETIME, BlockingClass, Storage, World, is_hash_of, passing, stored_token, until
from tests.refresh.rotating import Rotating


async def _rush(world: World, storage: Storage, *, callers: int, clients: int = 10) -> None:
    """``callers`` coroutines over ``clients`` clients ask for a token that has expired."""
    async with AsyncExitStack() as stack:
        opened: list[OAuth2Client] = [await stack.enter_async_context(world.client(storage)) for _ in range(clients)]
        old = await world.log_in(opened[0])
        world.expire()
        tokens = await asyncio.gather(*(opened[number % clients].get_token("alice") for number in range(callers)))

    (refresh,) = world.refreshes
    assert refresh.outcome == "ok"
    assert {token.access_token for token in tokens} == {tokens[0].access_token}
    assert is_hash_of(refresh.access_token_out, tokens[0].access_token)
    assert tokens[0].access_token != old.access_token
    assert (await stored_token(storage)).refresh_token == tokens[0].refresh_token
    assert not world.server.family_revoked("alice")
    async with aiohttp.ClientSession() as http, http.get(world.server.resource_url, headers=tokens[0].auth_headers()) as response:
        assert response.status == 200
        assert (await response.json())["user"] == "alice"


async def test_p1_1000_coroutines_over_10_clients_make_one_refresh(strict: World, storage: Storage) -> None:
    await _rush(strict, storage, callers=1000)
    if isinstance(storage, BlockingClass):
        assert threading.get_ident() not in storage.threads


async def test_p1_10000_coroutines_over_10_clients_make_one_refresh(strict: World) -> None:
    await _rush(strict, MemoryTokenStorage(clock=strict.clock), callers=10_000)


async def test_p1_callers_who_come_in_the_middle_of_a_refresh_join_it(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client, strict.client(storage) as other:
        await strict.log_in(client)
        strict.expire()
        hold = strict.server.script("token", faults.hold(applied=True))
        early = [asyncio.create_task(client.get_token("alice")) for _ in range(5)]
        await hold.arrived.wait()
        late = [asyncio.create_task(other.get_token("alice")) for _ in range(5)] + [asyncio.create_task(other.refresh("alice"))]
        hold.release()
        tokens = await asyncio.gather(*early, *late)
    assert len({token.access_token for token in tokens[:10]}) == 1
    assert [entry.outcome for entry in strict.refreshes] == ["ok"] * len(strict.refreshes)
    assert len(strict.refreshes) in {1, 2}  # the last asked for a token newer than all: it joined, or came after


async def test_p1_one_refresh_per_expiry_for_100_expiries(strict: World) -> None:
    storage = MemoryTokenStorage(clock=strict.clock)
    async with strict.client(storage) as client, strict.client(storage) as other:
        await strict.log_in(client)
        for episode in range(1, 101):
            strict.expire()
            tokens = await asyncio.gather(*(asker.get_token("alice") for asker in (client, other) for _ in range(10)))
            assert len({token.access_token for token in tokens}) == 1
            assert len(strict.refreshes) == episode
    assert not strict.server.family_revoked("alice")


@pytest.mark.parametrize("explicit", [False, True])
async def test_te_13_a_missing_refresh_token_keeps_the_old_one(strict: World, storage: Storage, *, explicit: bool) -> None:
    """Servers that do not rotate leave it out (RFC 6749 section 6)."""
    async with strict.client(storage) as client:
        first = await strict.log_in(client)
        if not explicit:
            strict.expire()
        strict.server.script("token", faults.omit("refresh_token"))
        second = await (client.refresh("alice") if explicit else client.get_token("alice"))
    assert second.access_token != first.access_token
    assert second.refresh_token == first.refresh_token
    assert await stored_token(storage) == second


async def test_p1_refresh_gives_a_new_token_whatever_the_expiry(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client:
        first = await strict.log_in(client)
        assert await client.get_token("alice") == first
        second = await client.refresh("alice")
        third = await client.refresh("alice")
        assert await client.get_token("alice") == third
    assert len({token.access_token for token in (first, second, third)}) == 3
    assert len(strict.refreshes) == 2


@pytest.mark.parametrize("fresh", [True, False])
async def test_p1_a_caller_with_an_old_reading_takes_what_was_stored_meanwhile(rotating: Rotating, faulty: FaultyStorage, *, fresh: bool) -> None:
    """The refresh ended between its reading and its asking. What it finds is used, or refreshed in turn if it has expired too."""
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    slow = faulty.hold_next_load(KEY)
    late = asyncio.create_task(coordinator.get(KEY))
    await slow.arrived.wait()
    newer = await coordinator.get(KEY)
    if not fresh:
        rotating.clock.advance(3600)
    slow.released.set()
    token = await late
    assert (token == newer) == fresh
    assert token == rotating.last
    assert len(rotating.sent) == (1 if fresh else 2)


@pytest.mark.parametrize("where", ["in one process", "in another one"])
async def test_p1_a_server_that_gives_the_same_token_for_longer_is_asked_once_too(rotating: Rotating, faulty: FaultyStorage, where: str) -> None:
    """No new access token and no new refresh token: only when it was issued, and when it expires, tells that somebody has refreshed it."""
    sent, hold = 0, Hold()

    async def prepare(token: Token) -> Any:
        async def exchange(_: float) -> Token:
            nonlocal sent
            sent += 1
            await hold.wait()
            now = rotating.clock.time()
            return replace(token, issued_at=now, expires_at=now + LIFETIME)

        return exchange

    before = await rotating.stored_expired(faulty)
    first = rotating.coordinator(faulty, prepare=prepare)
    others = [(rotating.coordinator if where == "in one process" else rotating.elsewhere)(faulty, prepare=prepare) for _ in range(3)]
    asking = asyncio.create_task(first.get(KEY))
    await hold.arrived.wait()
    waiting = asyncio.gather(*(other.get(KEY) for other in others))
    if where == "in another one":
        await until(lambda: rotating.clock.sleepers == 3)
    hold.released.set()
    token = await asking
    assert await passing(rotating.clock, waiting) == [token] * 3
    assert (token.version, token.expires_at) == (before.version, token.issued_at + LIFETIME)
    assert sent == 1
    rotating.clock.advance(LIFETIME)
    assert (await others[0].get(KEY)).expires_at == rotating.clock.time() + LIFETIME
    assert sent == 2
