"""A login while a refresh is under way: the login's record stands, and nothing of the old grant comes back or is waited for."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from pauth.core.token import Token, token_to_dict
from pauth.errors import ReauthorizationRequired, StorageUnavailable
from pauth.refresh import shared as module
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.stored import StoredGrant, read_grant, write_grant
from pauth.storage import CoordinatedTokenStorage, MemoryTokenStorage, RecordKey
from pauth.testing import ManualClock, faults
from tests.refresh.faulty import FaultyStorage, Hold, WithoutLeases, lose, refuse
from tests.refresh.kit import KEY, STALE, Storage, World, landed, passing, settle, stored, stored_token, until
from tests.refresh.rotating import Rotating


async def test_p6_the_login_stands_when_a_refresh_ends_after_it(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client, strict.client(storage) as other:
        await strict.log_in(client)
        strict.expire()
        hold = strict.server.script("token", faults.hold(applied=True), when=lambda request: request.grant_type == "refresh_token")
        refreshing = asyncio.create_task(client.get_token("alice"))
        await hold.arrived.wait()
        token = await strict.log_in(other)
        hold.release()
        assert await refreshing == token
        assert await stored_token(storage) == token
        assert await client.get_token("alice") == token
    assert len(strict.refreshes) == 1


async def test_p6_the_login_stands_when_the_store_takes_the_refreshed_token_late(strict: World) -> None:
    """The refreshed token waits for the store; the login comes first, and what waited is forgotten."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        storage.faults.append(refuse)
        refreshing = asyncio.create_task(client.get_token("alice"))
        await until(lambda: strict.clock.sleepers)
        token = await strict.log_in(client)
        strict.clock.advance(1)
        assert await refreshing == token
        assert await stored_token(storage) == token
        assert await client.get_token("alice") == token
    assert len(strict.refreshes) == 1


async def test_p6_the_login_stands_after_a_refresh_whose_token_was_never_stored(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        storage.faults.extend([refuse] * 6)
        with pytest.raises(StorageUnavailable):
            await passing(strict.clock, client.get_token("alice"))
        token = await strict.log_in(client)
        assert await client.get_token("alice") == token
        strict.clock.advance(STALE)
        assert await client.get_token("alice") == token
        await landed(client)
        newer = await client.get_token("alice")
        assert newer != token
        assert await stored_token(storage) == newer
    assert len(strict.refreshes) == 2
    assert not strict.server.family_revoked("alice")


async def test_p4_a_login_that_cannot_be_stored_does_not_lose_the_token_that_waits(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    faulty.faults.extend([refuse] * 6)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.get(KEY))
    waiting = rotating.last
    faulty.faults.append(refuse)
    with pytest.raises(StorageUnavailable):
        await coordinator.login(KEY, rotating.issue())
    assert await coordinator.get(KEY) == waiting
    assert len(rotating.sent) == 1


async def test_p4_the_refresh_after_a_login_keeps_its_token_when_the_one_before_it_ends(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Two refreshes wait for the store, of the old grant and of the new one: the end of the first must not forget the second's token."""
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    first_write, second_write = Hold(), Hold()
    faulty.faults.append(first_write)
    first = asyncio.create_task(coordinator.get(KEY))
    await first_write.arrived.wait()
    login = rotating.issue()
    await coordinator.login(KEY, login)
    rotating.clock.advance(3600)

    async def refuse_later(write: Any) -> Any:
        await second_write.wait()
        return await refuse(write)

    faulty.faults.extend([refuse_later, *[refuse] * 5])
    second = asyncio.create_task(coordinator.get(KEY))
    await second_write.arrived.wait()
    first_write.released.set()
    await settle()
    second_write.released.set()
    results = await passing(rotating.clock, asyncio.gather(first, second, return_exceptions=True))
    assert [type(result) for result in results] == [StorageUnavailable] * 2  # the first joined the second
    assert await coordinator.get(KEY) == rotating.last
    assert len(rotating.sent) == 2


async def test_rv_3_a_write_whose_answer_was_lost_does_not_outlive_a_revocation(rotating: Rotating, clock: ManualClock) -> None:
    """The refreshed token got stored, then marked as revoked, before the flight knew: it must not be handed out."""
    storage = WithoutLeases(clock)
    coordinator = rotating.coordinator(storage)
    await rotating.stored_expired(storage)
    storage.faults.append(lose)
    refreshing = asyncio.create_task(coordinator.get(KEY))
    await until(lambda: rotating.clock.sleepers)
    held = asyncio.Event()

    async def revoke(_: object) -> None:
        await held.wait()

    ending = asyncio.create_task(coordinator.end(KEY, revoke))
    await settle()
    grant = await stored(storage)
    assert grant == StoredGrant(grant.token, "revoked") if grant else False
    rotating.clock.advance(1)
    with pytest.raises(ReauthorizationRequired) as caught:
        await refreshing
    assert caught.value.reason == "revoked"
    held.set()
    await ending
    assert await stored(storage) is None


async def test_rv_3_a_revocation_waits_for_the_lease_of_a_refresh_whose_answer_was_lost(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    faulty.faults.append(lose)
    refreshing = asyncio.create_task(coordinator.get(KEY))
    await until(lambda: rotating.clock.sleepers)
    revoked: list[Token] = []

    async def revoke(token: Token) -> None:
        assert refreshing.done()
        revoked.append(token)

    ending = asyncio.create_task(coordinator.end(KEY, revoke))
    await until(lambda: rotating.clock.sleepers == 2)
    grant = await stored(faulty)
    assert grant is not None
    assert grant.ended is None
    await passing(rotating.clock, ending)
    assert revoked == [await refreshing] == [rotating.last]
    assert await stored(faulty) is None


async def test_rv_3_a_write_whose_answer_was_lost_and_whose_record_is_gone(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    faulty.faults.append(lose)
    refreshing = asyncio.create_task(coordinator.get(KEY))
    await until(lambda: rotating.clock.sleepers)
    await faulty.remove(KEY)
    rotating.clock.advance(1)
    with pytest.raises(ReauthorizationRequired) as caught:
        await refreshing
    assert caught.value.reason == "not_logged_in"
    assert await stored(faulty) is None


async def test_p13_users_and_namespaces_do_not_join(strict: World) -> None:
    """Held in one refresh, another user's, and another client's of the same user, go on."""
    storage = MemoryTokenStorage(clock=strict.clock)
    async with strict.client(storage) as client, strict.client(storage, namespace="other") as other:
        for asker, user in ((client, "alice"), (client, "bob"), (other, "alice")):
            await strict.log_in(asker, user)
        strict.expire()
        hold = strict.server.script("token", faults.hold())
        waiting = asyncio.create_task(client.get_token("alice"))
        await hold.arrived.wait()
        bobs = await client.get_token("bob")
        others = await other.get_token("alice")
        assert not waiting.done()
        hold.release()
        token = await waiting
        assert len({token.access_token, bobs.access_token, others.access_token}) == 3
        assert (await stored_token(storage, "bob")) == bobs
        for asker, user, expected in ((client, "alice", token), (client, "bob", bobs), (other, "alice", others)):
            assert await asker.get_token(user) == expected
    assert [entry.user for entry in strict.refreshes] == ["bob", "alice", "alice"]


async def test_p13_equal_storages_are_two(clock: ManualClock) -> None:
    """State is shared by identity: a storage may say that it equals another, and need not be hashable."""

    class Equal(MemoryTokenStorage):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    one, two, rotating = Equal(clock=clock), Equal(clock=clock), Rotating(clock)
    hold = asyncio.Event()
    rotating.script.append(hold.wait)
    await rotating.stored_expired(one)
    await rotating.stored_expired(two)
    waiting = asyncio.create_task(rotating.coordinator(one).get(KEY))
    await settle()
    assert (await rotating.coordinator(two).get(KEY)) == rotating.last
    assert not waiting.done()
    hold.set()
    with pytest.raises(ReauthorizationRequired):
        await waiting


def _slotted(clock: ManualClock) -> CoordinatedTokenStorage:
    """A storage of a user's own that cannot be weakly referenced."""
    inner = MemoryTokenStorage(clock=clock)
    names = ("load", "replace", "remove", "take_lease", "extend_lease", "release_lease")
    made: Any = type("Slotted", (), {"__slots__": names})()
    for name in names:
        setattr(made, name, getattr(inner, name))
    storage: CoordinatedTokenStorage = made
    return storage


async def test_p1_a_storage_without_weak_references_is_shared_too(rotating: Rotating, clock: ManualClock) -> None:
    storage = _slotted(clock)
    await rotating.stored_expired(storage)
    one, two = rotating.coordinator(storage), rotating.coordinator(storage)
    tokens = await asyncio.gather(one.get(KEY), two.get(KEY))
    assert tokens[0] == tokens[1] == rotating.last
    assert len(rotating.sent) == 1


async def test_p19_what_belongs_to_a_storage_goes_with_it(rotating: Rotating, clock: ManualClock) -> None:
    gc.collect()  # what earlier tests have left
    count = len(module._shared)  # pyright: ignore[reportPrivateUsage]
    storage = MemoryTokenStorage(clock=clock)
    coordinator = rotating.coordinator(storage)
    await rotating.stored_expired(storage)
    await coordinator.get(KEY)
    assert len(module._shared) == count + 1  # pyright: ignore[reportPrivateUsage]
    del coordinator, storage
    gc.collect()
    assert len(module._shared) <= count  # pyright: ignore[reportPrivateUsage]


async def test_p13_policies_and_keys_of_two_coordinators_do_not_mix(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    lazy = rotating.coordinator(faulty, RefreshPolicy(soft_margin=0, hard_margin=0))
    with pytest.raises(ReauthorizationRequired):
        await lazy.get(RecordKey("elsewhere", KEY.user_id))
    assert await lazy.get(KEY) == rotating.last


@pytest.mark.parametrize("ended", [None, "invalid_grant", "revoked"])
def test_a_grant_is_read_as_it_was_written(rotating: Rotating, ended: str | None) -> None:
    grant = StoredGrant(rotating.issue(), ended)
    members = write_grant(grant)
    assert read_grant(members) == grant
    assert ("grant_ended" in members) == (ended is not None)


def test_a_grant_that_another_library_wrote_is_in_use(rotating: Rotating) -> None:
    members = token_to_dict(rotating.issue())
    assert read_grant(members).ended is None
    assert read_grant(members | {"grant_ended": 7}).ended == "7"  # whatever it means, it is not in use
