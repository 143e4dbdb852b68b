"""A lease that is held: how long it certainly runs, and that it is given back by whoever took it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pauth.errors import ConfigurationError, StorageUnavailable
from pauth.refresh.leases import has_leases, take_lease
from pauth.storage import Lease, MemoryTokenStorage
from pauth.testing import ManualClock
from tests.refresh.faulty import FaultyStorage, WithoutLeases, refuse
from tests.refresh.kit import KEY, passing
from tests.refresh.rotating import Rotating


async def test_it_runs_from_before_it_was_asked_for(faulty: FaultyStorage, clock: ManualClock) -> None:
    """The store may have given it at any moment of the round trip."""

    async def slow(_: str) -> None:
        clock.advance(3)

    faulty.lease_faults.append(slow)
    lease = await take_lease(faulty, KEY, ttl=20, clock=clock)
    assert lease is not None
    assert lease.remaining == 17
    faulty.lease_faults.append(slow)
    assert await lease.extend()
    assert lease.remaining == 17
    clock.advance(17)
    assert lease.remaining == 0


async def test_it_runs_no_longer_than_the_store_says(clock: ManualClock) -> None:
    class Stingy(MemoryTokenStorage):
        async def take_lease(self, key: Any, owner: str, *, ttl: float) -> Lease | None:
            return Lease(1, 5.0)

    class Generous(MemoryTokenStorage):
        async def take_lease(self, key: Any, owner: str, *, ttl: float) -> Lease | None:
            return Lease(1, ttl + 1)  # rounded up

    for storage, seconds in ((Stingy(clock=clock), 5.0), (Generous(clock=clock), 20.0)):
        lease = await take_lease(storage, KEY, ttl=20, clock=clock)
        assert lease is not None
        assert lease.remaining == seconds


async def test_only_one_has_it_until_it_is_released_or_over(faulty: FaultyStorage, clock: ManualClock) -> None:
    first = await take_lease(faulty, KEY, ttl=20, clock=clock)
    assert first is not None
    assert await take_lease(faulty, KEY, ttl=20, clock=clock) is None
    await first.release()
    second = await take_lease(faulty, KEY, ttl=20, clock=clock)
    assert second is not None
    clock.advance(20)
    third = await take_lease(faulty, KEY, ttl=20, clock=clock)
    assert third is not None
    assert not await second.extend()
    assert second.remaining == 0
    await second.release()  # not its own any more
    assert await take_lease(faulty, KEY, ttl=20, clock=clock) is None
    assert await third.extend()


async def test_a_lease_whose_answer_was_lost_does_not_stand_in_anybodys_way(faulty: FaultyStorage, clock: ManualClock) -> None:
    """It may have been given all the same."""
    taken: list[str] = []

    class Losing(FaultyStorage):
        async def take_lease(self, key: Any, owner: str, *, ttl: float) -> Lease | None:
            taken.append(owner)
            await super().take_lease(key, owner, ttl=ttl)
            raise StorageUnavailable("the connection was lost")

    storage = Losing(clock)
    with pytest.raises(StorageUnavailable) as caught:
        await take_lease(storage, KEY, ttl=20, clock=clock)
    assert caught.value.__context__ is None
    assert len(taken) == 1
    assert await MemoryTokenStorage.take_lease(storage, KEY, "somebody", ttl=1) is not None


async def test_owners_are_unguessable_and_never_the_same(faulty: FaultyStorage, clock: ManualClock) -> None:
    owners: set[str] = set()
    take = faulty.take_lease

    async def spy(key: Any, owner: str, *, ttl: float) -> Lease | None:
        owners.add(owner)
        return await take(key, owner, ttl=ttl)

    faulty.take_lease = spy  # type: ignore[method-assign]
    for _ in range(5):
        lease = await take_lease(faulty, KEY, ttl=20, clock=clock)
        assert lease is not None
        await lease.release()
    assert len(owners) == 5
    assert {len(owner) for owner in owners} == {32}


@pytest.mark.parametrize("error", [StorageUnavailable("gone"), ConfigurationError("closed")])
async def test_what_cannot_be_given_back_runs_out(faulty: FaultyStorage, clock: ManualClock, error: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    lease = await take_lease(faulty, KEY, ttl=20, clock=clock)
    assert lease is not None

    async def fail(_: str) -> None:
        raise error

    faulty.lease_faults.append(fail)
    await lease.release()
    assert f"a lease could not be given back ({type(error).__name__})" in caplog.text


async def test_where_a_storage_has_none_everybody_holds_it_and_for_ever(clock: ManualClock) -> None:
    storage = WithoutLeases(clock)
    assert not has_leases(storage)
    leases = [await take_lease(storage, KEY, ttl=20, clock=clock) for _ in range(2)]
    for lease in leases:
        assert lease is not None
        assert lease.remaining == float("inf")
        assert await lease.extend()
        await lease.release()
    assert has_leases(FaultyStorage(clock))


async def test_p2_a_lease_is_kept_while_the_token_waits_to_be_saved_and_given_back_then(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Who takes it over does not know of the token, and would send the refresh token that was used up."""
    coordinator = rotating.elsewhere(faulty)
    await rotating.stored_expired(faulty)
    faulty.faults.extend([refuse] * 6)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.get(KEY))
    assert await take_lease(faulty, KEY, ttl=10, clock=rotating.clock) is None
    assert await coordinator.get(KEY) == rotating.last
    assert await take_lease(faulty, KEY, ttl=10, clock=rotating.clock) is not None
    assert len(rotating.sent) == 1
