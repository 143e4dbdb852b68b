"""Reading (P7): an older version than was seen here is looked at again; what the store has lost is reported, and put back where that is safe."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from pauth.core.token import Token, token_to_dict
from pauth.errors import ReauthorizationRequired, StorageUnavailable
from pauth.events import VersionRegressed
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.refresh.policy import RefreshPolicy
from pauth.secret import Secret
from pauth.storage import MemoryTokenStorage
from tests.refresh.faulty import FaultyStorage, Write, lose, refuse
from tests.refresh.kit import KEY, LIFETIME, attempts_of, settle, stored, stored_token
from tests.refresh.rotating import Rotating, foreign

CACHE_AGE = RefreshPolicy().cache_age


@pytest.fixture
async def coordinator(rotating: Rotating, faulty: FaultyStorage) -> RefreshCoordinator:
    """Of a process in which alice has logged in, and which has to ask the store for her token."""
    made = rotating.coordinator(faulty)
    await made.login(KEY, rotating.issue())
    rotating.clock.advance(CACHE_AGE)
    return made


async def _nothing(_: Token) -> None: ...


# In memory for a while


async def test_p7_a_token_is_given_from_memory_for_ten_seconds_and_no_longer(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    first = rotating.issue()
    await coordinator.login(KEY, first)
    newer = foreign(first, "theirs")
    await faulty.replace(KEY, token_to_dict(newer), expected_version=1)  # another process
    loads = faulty.loads
    rotating.clock.advance(CACHE_AGE - 0.001)
    assert await coordinator.get(KEY) == newer  # it always asks the store; the memory is what the client asks first
    assert faulty.loads == loads + 1
    other = rotating.elsewhere(faulty)
    assert await other.get(KEY) == newer
    assert other.cached.get(KEY.user_id) == newer
    rotating.clock.advance(CACHE_AGE)
    assert other.cached.get(KEY.user_id) is None


async def test_p7_nothing_is_remembered_beyond_its_threshold(rotating: Rotating, faulty: FaultyStorage) -> None:
    """A fresh token until it is stale, a stale one for a second, and none until it has expired."""
    coordinator = rotating.coordinator(faulty, RefreshPolicy(soft_margin=100, hard_margin=100, cache_age=60))
    await coordinator.login(KEY, rotating.issue())
    rotating.clock.advance(LIFETIME - 110)
    token = await coordinator.get(KEY)
    rotating.clock.advance(9.9)
    assert coordinator.cached.get(KEY.user_id) == token
    rotating.clock.advance(0.1)
    assert coordinator.cached.get(KEY.user_id) is None


async def test_a_token_that_cannot_be_refreshed_is_remembered_until_it_expires(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty, RefreshPolicy(cache_age=600))
    token = replace(rotating.issue(), refresh_token=None)
    await coordinator.login(KEY, token)
    rotating.clock.advance(LIFETIME - 400)
    assert await coordinator.get(KEY) == token
    rotating.clock.advance(380)  # within every margin
    assert coordinator.cached.get(KEY.user_id) == token
    rotating.clock.advance(10)
    assert coordinator.cached.get(KEY.user_id) is None


# False alarms


async def test_p7_a_read_that_a_write_has_overtaken_is_made_again(rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator) -> None:
    slow = faulty.hold_next_load(KEY)
    late = asyncio.create_task(coordinator.get(KEY))
    await slow.arrived.wait()
    newer = await coordinator.refresh(KEY)
    slow.released.set()
    assert await late == newer
    assert coordinator.cached.get(KEY.user_id) == newer
    assert not rotating.told(VersionRegressed)


async def test_p7_a_read_that_a_write_overtakes_twice(rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator) -> None:
    """The second look is overtaken too: it gives the newer of the two that it found, and no alarm."""
    first = faulty.hold_next_load(KEY)
    late = asyncio.create_task(coordinator.get(KEY))
    await first.arrived.wait()
    await coordinator.refresh(KEY)
    second = faulty.hold_next_load(KEY)
    first.released.set()
    await second.arrived.wait()
    await coordinator.refresh(KEY)
    second.released.set()
    assert (await late).access_token in {Secret("CANARY-at-2"), Secret("CANARY-at-3")}
    assert await coordinator.get(KEY) == rotating.last
    assert not rotating.told(VersionRegressed)


async def test_p7_a_record_that_another_process_has_deleted_is_no_regression(
    rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator
) -> None:
    await coordinator.get(KEY)
    await rotating.elsewhere(faulty).end(KEY, _nothing)
    for _ in range(2):
        with pytest.raises(ReauthorizationRequired) as caught:
            await coordinator.get(KEY)
        assert caught.value.reason == "not_logged_in"
    assert coordinator.cached.get(KEY.user_id) is None
    token = rotating.issue()
    await rotating.elsewhere(faulty).login(KEY, token)
    assert await coordinator.get(KEY) == token
    assert not rotating.told(VersionRegressed)


async def test_p7_a_login_long_after_the_deletion_counts_from_one_and_is_no_regression(
    rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator
) -> None:
    """The store remembers the version of what was deleted for a day."""
    for _ in range(3):
        await coordinator.refresh(KEY)
    await coordinator.end(KEY, _nothing)
    with pytest.raises(ReauthorizationRequired):
        await coordinator.get(KEY)
    faulty._retired._versions.clear()  # pyright: ignore[reportPrivateUsage]
    token = rotating.issue()
    await rotating.elsewhere(faulty).login(KEY, token)
    for _ in range(2):
        assert await coordinator.get(KEY) == token
    assert coordinator.cached.get(KEY.user_id) == token
    assert not rotating.told(VersionRegressed)


async def test_rv_2_a_read_that_a_revocation_has_overtaken_brings_nothing_back(
    rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator
) -> None:
    """Not even when the record is gone, and others have found it so meanwhile."""
    slow = faulty.hold_next_load(KEY)
    late = asyncio.create_task(coordinator.get(KEY))
    await slow.arrived.wait()
    await coordinator.end(KEY, _nothing)
    for _ in range(3):
        with pytest.raises(ReauthorizationRequired):
            await coordinator.get(KEY)
    slow.released.set()
    with pytest.raises(ReauthorizationRequired) as caught:
        await late
    assert caught.value.reason == "not_logged_in"
    assert coordinator.cached.get(KEY.user_id) is None
    assert not rotating.told(VersionRegressed)


async def test_a_user_who_has_logged_out_costs_one_read_a_call(rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator) -> None:
    await coordinator.end(KEY, _nothing)
    loads = faulty.loads
    for number in range(1, 4):
        with pytest.raises(ReauthorizationRequired):
            await coordinator.get(KEY)
        assert faulty.loads == loads + number
    assert not rotating.sent


# What the store has lost


async def test_p7w_what_the_store_lost_is_put_back_over_its_predecessor(
    rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator
) -> None:
    """A failover has undone the refresh: without this the refresh token on record would be one that was used."""
    go_back = faulty.snapshot()
    token = await coordinator.refresh(KEY)
    go_back()
    rotating.clock.advance(CACHE_AGE)
    assert await coordinator.get(KEY) == token == await stored_token(faulty)
    (event,) = rotating.told(VersionRegressed)
    assert (event.seen, event.found, event.user_id) == (3, 1, "alice")
    assert event.user == coordinator.events.fingerprint("alice")
    for _ in range(2):
        rotating.clock.advance(CACHE_AGE)
        assert await coordinator.get(KEY) == token
    assert len(rotating.told(VersionRegressed)) == 1
    rotating.clock.advance(LIFETIME)
    assert await coordinator.get(KEY) == rotating.last  # and its refresh token works
    assert len(rotating.sent) == 2


async def test_p7w_also_over_its_predecessor_with_the_intent_noted(
    rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator
) -> None:
    snapshots: list[Any] = []

    async def look(write: Write) -> Any:
        written = await write()
        snapshots.append(faulty.snapshot())
        return written

    faulty.intent_faults.append(look)
    token = await coordinator.refresh(KEY)
    snapshots[0]()
    rotating.clock.advance(CACHE_AGE)
    assert (await attempts_of(faulty)).under_way
    assert await coordinator.get(KEY) == token == await stored_token(faulty)
    assert not (await attempts_of(faulty)).under_way


async def test_p7w_what_another_process_wrote_is_not_put_back_from_here(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Nor what was lost together with its predecessor: nobody here knows what the refresh token on record is worth."""
    process = rotating.elsewhere(faulty)
    first = rotating.issue()
    await process.login(KEY, first)
    go_back = faulty.snapshot()
    await process.refresh(KEY)
    reader = rotating.elsewhere(faulty)
    await reader.get(KEY)
    go_back()
    assert await reader.get(KEY) == first
    assert [(event.seen, event.found) for event in rotating.told(VersionRegressed)] == [(3, 1)]
    assert await reader.get(KEY) == first
    assert len(rotating.told(VersionRegressed)) == 1


async def test_p7w_what_was_lost_with_its_predecessor_is_reported_only(
    rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator
) -> None:
    first = await coordinator.get(KEY)
    go_back = faulty.snapshot()
    await coordinator.refresh(KEY)
    await coordinator.refresh(KEY)
    go_back()
    assert await coordinator.get(KEY) == first == await stored_token(faulty)
    assert [(event.seen, event.found) for event in rotating.told(VersionRegressed)] == [(5, 1)]


async def test_p7w_a_login_that_was_lost_is_reported_only(rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator) -> None:
    """It has no predecessor."""
    first = await coordinator.get(KEY)
    go_back = faulty.snapshot()
    await coordinator.login(KEY, rotating.issue())
    go_back()
    assert await coordinator.get(KEY) == first
    assert len(rotating.told(VersionRegressed)) == 1


async def test_p7w_a_mark_that_was_lost_is_reported(rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator) -> None:
    """The server will say again that the grant is dead."""
    rotating.last = None
    go_back = faulty.snapshot()
    for _ in range(2):
        with pytest.raises(ReauthorizationRequired) as caught:
            await coordinator.refresh(KEY)
        assert caught.value.reason == "invalid_grant"
        go_back()
    assert len(rotating.sent) == 2
    assert len(rotating.told(VersionRegressed)) == 1


async def test_p7w_what_is_put_back_overwrites_nothing_newer(rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator) -> None:
    """A login comes between the look and the write."""
    go_back = faulty.snapshot()
    await coordinator.refresh(KEY)
    go_back()
    login = rotating.issue()

    async def forestalled(write: Write) -> Any:
        await MemoryTokenStorage.replace(faulty, KEY, token_to_dict(login), expected_version=None)
        return await write()

    faulty.faults.append(forestalled)
    assert await coordinator.get(KEY) == login == await stored_token(faulty)


@pytest.mark.parametrize("fault", [refuse, lose])
async def test_p7w_a_store_that_does_not_take_it_back_is_an_error(
    rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator, fault: Any
) -> None:
    """The next call tries again; if only the answer was lost it finds it there."""
    go_back = faulty.snapshot()
    token = await coordinator.refresh(KEY)
    go_back()
    faulty.faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await coordinator.get(KEY)
    assert await coordinator.get(KEY) == token == await stored_token(faulty)


async def test_p7w_two_readers_that_find_the_loss_at_once(rotating: Rotating, faulty: FaultyStorage, coordinator: RefreshCoordinator) -> None:
    go_back = faulty.snapshot()
    token = await coordinator.refresh(KEY)
    go_back()
    assert await asyncio.gather(*(coordinator.get(KEY) for _ in range(5))) == [token] * 5
    await settle()
    grant = await stored(faulty)
    assert grant is not None
    assert grant.token == token
