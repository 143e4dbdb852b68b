"""P4 and P14: cancelling callers at every await of a refresh harms nobody else, and no rotated token is lost."""

from __future__ import annotations

import asyncio

import pytest

from pauth.core.token import Token
from pauth.testing import faults
from tests.refresh.kit import Storage, World, is_hash_of, settle, stored, stored_token
from tests.refresh.suspensions import Episode, counting

_ENOUGH = 5
"""The least suspensions there are: the caller's wait, and the flight's for the connection and the pieces of the answer. The store's come on top."""


async def _episode(world: World, storage: Storage, *, at: int, callers: int, victims: int) -> bool:
    """One refresh for ``callers``, the first ``victims`` of which are cancelled at suspension number ``at``. Whether it got that far."""
    before = len(world.refreshes)
    tasks: list[asyncio.Task[Token]] = []

    def cancel(_: Episode) -> None:
        for task in tasks[:victims]:
            task.cancel()

    async with world.client(storage) as client:
        with counting(at, cancel) as episode:
            tasks.extend(asyncio.create_task(client.get_token("alice")) for _ in range(callers))
        results = await asyncio.gather(*tasks, return_exceptions=True)
    # the client is closed, so the refresh has ended, with or without callers

    for number, result in enumerate(results):
        assert isinstance(result, Token) or (number < victims and isinstance(result, asyncio.CancelledError)), f"caller {number} at {at}: {result!r}"
    refreshes = world.refreshes[before:]
    assert len(refreshes) <= 1
    kept = await stored_token(storage)
    if refreshes:
        assert is_hash_of(refreshes[0].refresh_token_out, kept.refresh_token), f"the rotated token is lost at {at}"

    async with world.client(storage) as client:
        token = await client.get_token("alice")
    assert len(world.refreshes) == before + 1
    assert is_hash_of(world.refreshes[-1].access_token_out, token.access_token)
    assert all(token == result for result in results if isinstance(result, Token))
    assert not world.server.family_revoked("alice")
    return episode.struck


@pytest.mark.parametrize(("callers", "victims"), [(1, 1), (5, 1), (5, 4), (5, 5)])
async def test_p4_p14_callers_cancelled_at_every_await_of_a_refresh(strict: World, storage: Storage, callers: int, victims: int) -> None:
    async with strict.client(storage) as client:
        await strict.log_in(client)
    strict.server.script("token", faults.drip(64, 0.0), times=None)
    at = 0
    strict.expire()
    while await _episode(strict, storage, at=at, callers=callers, victims=victims):
        at += 1
        strict.expire()
    assert at >= _ENOUGH
    assert {entry.outcome for entry in strict.refreshes} == {"ok"}


async def test_p14_a_timeout_of_one_caller_leaves_the_others_alone(strict: World, storage: Storage) -> None:
    """``asyncio.timeout`` and ``asyncio.wait_for`` around callers, while the server has rotated and holds its answer back."""
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        hold = strict.server.script("token", faults.hold(applied=True))
        timers: list[asyncio.Timeout] = []

        async def impatient() -> None:
            async with asyncio.timeout(None) as timer:
                timers.append(timer)
                await client.get_token("alice")

        first = asyncio.create_task(impatient())
        patient = asyncio.create_task(client.get_token("alice"))
        await hold.arrived.wait()
        timers[0].reschedule(asyncio.get_running_loop().time())
        with pytest.raises(TimeoutError):
            await first
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get_token("alice"), 0.001)
        assert not patient.done()
        hold.release()
        token = await patient
        assert await client.get_token("alice") == token
    assert await stored_token(storage) == token
    assert [entry.outcome for entry in strict.refreshes] == ["ok"]
    assert not strict.server.family_revoked("alice")


async def test_p4_a_refresh_that_everybody_left_is_waited_for_when_the_client_is_closed(strict: World, storage: Storage) -> None:
    client = strict.client(storage)
    await strict.log_in(client)
    strict.expire()
    hold = strict.server.script("token", faults.hold(applied=True))
    caller = asyncio.create_task(client.get_token("alice"))
    await hold.arrived.wait()
    caller.cancel()
    closing = asyncio.create_task(client.aclose())
    await settle()
    assert not closing.done()
    hold.release()
    await closing
    assert is_hash_of(strict.refreshes[0].refresh_token_out, (await stored_token(storage)).refresh_token)


async def test_p14_cancelling_who_began_the_refresh_through_another_client_harms_nobody(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as one, strict.client(storage) as other:
        await strict.log_in(one)
        strict.expire()
        hold = strict.server.script("token", faults.hold())
        leader = asyncio.create_task(one.get_token("alice"))
        await hold.arrived.wait()
        follower = asyncio.create_task(other.get_token("alice"))
        await settle()
        leader.cancel()
        await settle()
        hold.release()
        token = await follower
    assert leader.cancelled()
    assert await stored_token(storage) == token
    assert len(strict.refreshes) == 1


async def test_p14_cancelling_a_revocation_at_every_await_leaves_no_token_in_use(strict: World, storage: Storage) -> None:
    """RV-2: whatever its caller sees, the grant has ended completely, or nothing was begun."""
    at, struck = 0, True
    while struck:
        before = len(strict.revocations)
        async with strict.client(storage) as client:
            await strict.log_in(client)
            with counting(at, lambda episode: episode.tasks[0].cancel()) as episode:
                revoking = asyncio.create_task(client.revoke("alice"))
            await asyncio.wait((revoking,))
        struck = episode.struck
        assert revoking.cancelled() or revoking.exception() is None
        if len(strict.revocations) > before:
            assert strict.server.family_revoked("alice")
            assert await stored(storage) is None
        else:
            assert not strict.server.family_revoked("alice")
            assert (await stored_token(storage)).refresh_token is not None
        at += 1
    assert at >= _ENOUGH
