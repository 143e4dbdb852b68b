"""Revocation and refresh at the same time: RV-2 (nothing is served any more, a failure leaves a tombstone) and RV-3 (nothing is resurrected)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pauth.core.token import Token, token_to_dict
from pauth.errors import PAuthError, ProviderUnavailable, ReauthorizationRequired, StorageUnavailable, TokenError
from pauth.refresh.policy import RefreshPolicy
from pauth.storage import DatabaseTokenStorage, EncryptionKey, MemoryTokenStorage
from pauth.testing import faults
from tests.refresh.faulty import FaultyStorage, Hold, refuse
from tests.refresh.kit import KEY, Storage, World, database, is_hash_of, passing, settle, stored, stored_token, until
from tests.refresh.rotating import Rotating, foreign


async def _reason(asking: Any) -> str:
    with pytest.raises(ReauthorizationRequired) as caught:
        await asking
    return caught.value.reason


async def test_rv_3_a_refresh_under_way_ends_first_and_its_token_is_the_one_revoked(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client, strict.client(storage) as other:
        await strict.log_in(client)
        strict.expire()
        hold = strict.server.script("token", faults.hold())
        refreshing = asyncio.create_task(client.get_token("alice"))
        await hold.arrived.wait()
        revoking = asyncio.create_task(other.revoke("alice"))
        await settle()
        assert not strict.revocations
        hold.release()
        token = await refreshing
        await revoking
        assert is_hash_of(strict.revocations[0].refresh_token_in, token.refresh_token)
        assert strict.server.family_revoked("alice")
        assert await stored(storage) is None
        assert await _reason(client.get_token("alice")) == "not_logged_in"
    assert len(strict.refreshes) == 1


@pytest.mark.parametrize(
    "fault", [faults.status(503), faults.status(400, {"error": "invalid_grant"}), faults.status(401, {"error": "invalid_client"})]
)
async def test_rv_3_a_refresh_that_fails_meanwhile_does_not_keep_the_grant_from_ending(strict: World, storage: Storage, fault: Any) -> None:
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        hold = strict.server.script("token", faults.hold(then=fault))
        refreshing = asyncio.create_task(client.get_token("alice"))
        await hold.arrived.wait()
        revoking = asyncio.create_task(client.revoke("alice"))
        await settle()
        hold.release()
        await revoking
        with pytest.raises(PAuthError):
            await refreshing
        if "invalid_grant" not in str(refreshing.exception()):
            assert strict.server.family_revoked("alice")
        assert strict.revocations
        assert await stored(storage) is None


async def test_rv_2_from_the_first_moment_no_token_is_handed_out(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client, strict.client(storage) as other:
        await strict.log_in(client)
        hold = strict.server.script("revoke", faults.hold())
        revoking = asyncio.create_task(client.revoke("alice"))
        await hold.arrived.wait()
        for ask in (client.get_token, other.get_token, other.refresh):
            assert await _reason(ask("alice")) == "revoked"
        hold.release()
        await revoking
        assert await stored(storage) is None
    assert not strict.refreshes


@pytest.mark.parametrize(
    "fault", [faults.status(503, "", {"Retry-After": "7"}), faults.drop_before(), faults.status(401, {"error": "invalid_client"}), faults.cut(20)]
)
async def test_rv_2_a_failed_revocation_leaves_a_tombstone_and_a_second_one_works(strict: World, storage: Storage, fault: Any) -> None:
    async with strict.client(storage) as client:
        token = await strict.log_in(client)
        strict.server.script("revoke", fault)
        with pytest.raises((ProviderUnavailable, TokenError)):
            await client.revoke("alice")
    async with strict.client(storage) as client:  # as after a restart
        for ask in (client.get_token, client.refresh):
            assert await _reason(ask("alice")) == "revoked"
        tombstone = await stored(storage)
        assert tombstone is not None
        assert tombstone.token == token
        await client.revoke("alice")
        assert strict.server.family_revoked("alice")
        assert await stored(storage) is None
        assert await _reason(client.get_token("alice")) == "not_logged_in"
    assert not strict.refreshes


async def test_rv_2_a_dead_grant_can_be_revoked_too(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        strict.server.script("token", faults.status(400, {"error": "invalid_grant"}))
        assert await _reason(client.get_token("alice")) == "invalid_grant"
        await client.revoke("alice")
        assert await stored(storage) is None
        assert strict.server.family_revoked("alice")


@asynccontextmanager
async def _two_processes(world: World, folder: Path) -> AsyncGenerator[tuple[DatabaseTokenStorage, DatabaseTokenStorage]]:
    key = EncryptionKey.generate()
    ours, theirs = database(folder, world.clock, key), database(folder, world.clock, key)
    theirs.store_id = None  # so it does not share what the storages of one process share
    yield ours, theirs
    await ours.aclose()
    await theirs.aclose()


async def test_rv_3_a_refresh_of_another_process_ends_first_too(strict: World, tmp_path: Path) -> None:
    async with _two_processes(strict, tmp_path) as (ours, theirs), strict.client(ours) as client, strict.client(theirs) as other:
        await strict.log_in(client)
        strict.expire()
        hold = strict.server.script("token", faults.hold())
        refreshing = asyncio.create_task(other.get_token("alice"))
        await hold.arrived.wait()
        revoking = asyncio.create_task(client.revoke("alice"))
        await until(lambda: strict.clock.sleepers)  # it waits for the other's lease
        assert not strict.revocations
        hold.release()
        token = await refreshing
        await passing(strict.clock, revoking)
        assert is_hash_of(strict.revocations[0].refresh_token_in, token.refresh_token)
        assert strict.server.family_revoked("alice")
        for storage in (ours, theirs):
            assert await stored(storage) is None
        strict.clock.advance(10)  # until then the other process may give what it has in memory
        assert await _reason(other.get_token("alice")) == "not_logged_in"


async def test_rv_3_a_refresh_of_another_process_does_not_resurrect_the_record(strict: World, tmp_path: Path) -> None:
    """Its answer comes when its lease is over and the grant has ended."""
    async with _two_processes(strict, tmp_path) as (ours, theirs), strict.client(ours) as client, strict.client(theirs) as other:
        await strict.log_in(client)
        strict.expire()
        hold = strict.server.script("token", faults.hold(applied=True))
        refreshing = asyncio.create_task(other.get_token("alice"))
        await hold.arrived.wait()
        await passing(strict.clock, client.revoke("alice"))
        hold.release()
        assert await _reason(refreshing) == "not_logged_in"
        for storage in (ours, theirs):
            assert await stored(storage) is None
        assert await _reason(other.get_token("alice")) == "not_logged_in"
    assert len(strict.refreshes) == 1


async def test_rv_3_who_comes_while_the_mark_is_being_stored_waits_for_it(strict: World) -> None:
    """Their tokens have expired, so they would refresh: the same version is being taken out of use, and they learn it."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        hold = Hold()
        storage.faults.append(hold)
        revoking = asyncio.create_task(client.revoke("alice"))
        await hold.arrived.wait()
        asking = asyncio.create_task(client.get_token("alice"))
        await settle()
        assert not asking.done()
        hold.released.set()
        assert await _reason(asking) in {"revoked", "not_logged_in"}
        await revoking
    assert not strict.refreshes


async def test_rv_2_a_mark_that_cannot_be_stored_ends_nothing(strict: World) -> None:
    """The error is the store's, also for who waited for the same version; the grant is as it was."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        hold = Hold()

        async def refuse_later(write: Any) -> Any:
            await hold.wait()
            return await refuse(write)

        storage.faults.append(refuse_later)
        revoking = asyncio.create_task(client.revoke("alice"))
        await hold.arrived.wait()
        asking = asyncio.create_task(client.get_token("alice"))
        await settle()
        hold.released.set()
        for task in (revoking, asking):
            with pytest.raises(StorageUnavailable):
                await task
        assert not strict.revocations
        assert await client.get_token("alice") == await stored_token(storage)


async def test_rv_3_an_unsaved_token_is_the_one_revoked(strict: World) -> None:
    """The server's newest token never reached the store; it is the one that must die."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        storage.faults.extend([refuse] * 6)
        with pytest.raises(StorageUnavailable):
            await passing(strict.clock, client.get_token("alice"))
        await client.revoke("alice")
        assert strict.revocations[0].refresh_token_in == strict.refreshes[0].refresh_token_out
        assert await stored(storage) is None
        again = await strict.log_in(client)
        assert await client.get_token("alice") == again
    assert len(strict.refreshes) == 1


async def test_rv_1_revoking_from_many_places_at_once_is_no_error(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client, strict.client(storage) as other:
        await strict.log_in(client)
        await asyncio.gather(*(asker.revoke("alice") for asker in (client, other) for _ in range(5)))
        assert await stored(storage) is None
    assert strict.server.family_revoked("alice")


async def test_a_login_during_a_revocation_stays(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client, strict.client(storage) as other:
        await strict.log_in(client)
        hold = strict.server.script("revoke", faults.hold())
        revoking = asyncio.create_task(client.revoke("alice"))
        await hold.arrived.wait()
        token = await strict.log_in(other)
        hold.release()
        await revoking
        assert await client.get_token("alice") == token
    assert not strict.server.family_revoked("alice")


async def test_rv_2_who_revokes_a_new_login_is_not_answered_by_the_revocation_of_the_old_one(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client:
        await strict.log_in(client)
        hold = strict.server.script("revoke", faults.hold())
        first = asyncio.create_task(client.revoke("alice"))
        await hold.arrived.wait()
        await strict.log_in(client)
        await client.revoke("alice")
        assert await stored(storage) is None
        assert strict.server.family_revoked("alice")
        hold.release()
        await first
        assert await stored(storage) is None


async def test_rv_3_who_waited_for_a_mark_that_a_login_forestalled_gets_the_new_token(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    newer = rotating.issue()
    hold = Hold()

    async def replaced_before(write: Any) -> Any:
        await hold.wait()
        await MemoryTokenStorage.replace(faulty, KEY, token_to_dict(newer), expected_version=1)
        return await write()

    faulty.faults.append(replaced_before)
    faulty.faults.append(refuse)  # and the mark on the newer record fails, so that it stays
    ending = asyncio.create_task(coordinator.end(KEY, _nothing))
    await hold.arrived.wait()
    asking = asyncio.create_task(coordinator.get(KEY))
    await settle()
    hold.released.set()
    assert await asking == newer
    with pytest.raises(StorageUnavailable):
        await ending
    assert not rotating.sent


async def _nothing(_: Token) -> None: ...


async def test_p6_a_record_replaced_before_the_mark_is_looked_at_again(rotating: Rotating, faulty: FaultyStorage) -> None:
    """By another process; the mark names its predecessor. The newest token is the one revoked."""
    coordinator = rotating.coordinator(faulty)
    newer = foreign(await rotating.stored_expired(faulty), "theirs")
    revoked: list[Token] = []

    async def note(token: Token) -> None:
        revoked.append(token)

    async def replaced_before(write: Any) -> Any:
        await MemoryTokenStorage.replace(faulty, KEY, token_to_dict(newer), expected_version=1)
        return await write()

    faulty.faults.append(replaced_before)
    await coordinator.end(KEY, note)
    assert revoked == [newer]
    assert await stored(faulty) is None


@pytest.mark.parametrize("gone", [False, True])
async def test_p6_a_record_that_changes_while_it_is_being_ended(rotating: Rotating, faulty: FaultyStorage, *, gone: bool) -> None:
    coordinator = rotating.coordinator(faulty)
    newer = foreign(await rotating.stored_expired(faulty), "theirs")
    revoked: list[Token] = []

    async def note(token: Token) -> None:
        revoked.append(token)

    async def change(loads: int) -> None:
        if loads == 3:  # end() has read it, and the flight for its version has begun
            if gone:
                await faulty.remove(KEY)
            else:
                await MemoryTokenStorage.replace(faulty, KEY, token_to_dict(newer), expected_version=1)

    faulty.before_load = change
    await coordinator.end(KEY, note)
    assert revoked == ([] if gone else [newer])
    assert await stored(faulty) is None


async def test_rv_2_a_record_that_cannot_be_deleted_stays_out_of_use(rotating: Rotating) -> None:
    class Stubborn(FaultyStorage):
        failures = 1

        async def remove(self, key: Any, *, expected_version: int | None = None) -> bool:
            if self.failures:
                self.failures -= 1
                raise StorageUnavailable("gone")
            return await super().remove(key, expected_version=expected_version)

    storage = Stubborn(rotating.clock)
    coordinator = rotating.coordinator(storage)
    await rotating.stored_expired(storage)
    with pytest.raises(StorageUnavailable):
        await coordinator.end(KEY, _nothing)
    assert await _reason(coordinator.get(KEY)) == "revoked"
    await coordinator.end(KEY, _nothing)
    assert await stored(storage) is None


async def test_p9_who_revokes_waits_no_longer_than_the_deadline(rotating: Rotating, faulty: FaultyStorage) -> None:
    """It goes on: no token is handed out, and the record goes as soon as the server has answered."""
    await rotating.stored_expired(faulty)
    coordinator, hold = rotating.coordinator(faulty, RefreshPolicy(deadline=0.01)), Hold()

    async def revoke(_: Token) -> None:
        await hold.wait()

    with pytest.raises(ProviderUnavailable, match="takes too long; it goes on"):
        await coordinator.end(KEY, revoke)
    await hold.arrived.wait()
    hold.released.set()
    await coordinator.drain()
    assert await stored(faulty) is None


async def test_rv_2_a_new_login_with_the_same_access_token_is_revoked_too(rotating: Rotating, faulty: FaultyStorage) -> None:
    """As some servers give it again; the revocation of the old login is still under way."""
    coordinator, hold, revoked = rotating.coordinator(faulty), Hold(), list[Token]()
    token = rotating.issue()

    async def revoke(each: Token) -> None:
        revoked.append(each)
        await hold.wait()

    await coordinator.login(KEY, token)
    first = asyncio.create_task(coordinator.end(KEY, revoke))
    await hold.arrived.wait()
    rotating.clock.advance(5)
    again = replace(token, issued_at=rotating.clock.time())
    await coordinator.login(KEY, again)
    second = asyncio.create_task(coordinator.end(KEY, revoke))
    await until(lambda: len(revoked) == 2)
    hold.released.set()
    await asyncio.gather(first, second)
    assert revoked == [token, again]
    assert await stored(faulty) is None
