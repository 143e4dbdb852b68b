"""P3: nobody sees a new token before the store has acknowledged it. P4: a rotation that was received is not dropped while the process lives."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from pauth.client import OAuth2Client
from pauth.core.token import Token
from pauth.errors import PAuthError, ReauthorizationRequired, RecordTampered, StorageUnavailable
from pauth.events import Event, ServedStale, TokenRecovered, TokenUnsaved
from pauth.refresh import coordinator
from pauth.refresh.policy import RefreshPolicy
from pauth.storage import RecordKey
from tests.refresh.faulty import FaultyStorage, Hold, Outage, Write, lose, refuse, work
from tests.refresh.kit import KEY, LIFETIME, NAMESPACE, AsyncClass, World, is_hash_of, passing, settle, stored_token, until
from tests.refresh.rotating import Rotating
from tests.support.canary_plugin import Canary

_ATTEMPTS = 6
"""How often one refresh tries to store its token."""


@pytest.fixture
def storage(strict: World) -> FaultyStorage:
    return FaultyStorage(strict.clock)


async def _acknowledged_token(client: OAuth2Client, storage: FaultyStorage) -> Token:
    """What ``get_token`` gives, which the store must have acknowledged at the moment it is given."""
    token = await client.get_token("alice")
    assert token.access_token in storage.acknowledged
    return token


@pytest.mark.parametrize("explicit", [False, True])
async def test_p3_nobody_gets_the_token_while_the_write_is_held(strict: World, storage: FaultyStorage, *, explicit: bool) -> None:
    async with strict.client(storage) as client, strict.client(storage) as other:
        old = await strict.log_in(client)
        if not explicit:
            strict.expire()
        with Hold() as hold:
            storage.faults.append(hold)
            early = [asyncio.create_task(client.refresh("alice") if explicit else _acknowledged_token(client, storage)) for _ in range(3)]
            await hold.arrived.wait()
            # The server has rotated, so the old token may be dead: whoever comes now waits for the new one, even if the old one has time left.
            late = [asyncio.create_task(_acknowledged_token(other, storage)) for _ in range(3)]
            await settle()
            assert not any(task.done() for task in early + late)
            assert await stored_token(storage) == old
        tokens = await asyncio.gather(*early, *late)
    assert set(map(id, tokens)) == {id(tokens[0])}
    assert await stored_token(storage) == tokens[0]
    assert len(strict.refreshes) == 1


@pytest.mark.parametrize("failures", range(1, _ATTEMPTS))
@pytest.mark.parametrize("fault", [refuse, lose])
async def test_p4_a_store_that_recovers_gets_the_token_before_anybody_sees_it(
    strict: World, storage: FaultyStorage, failures: int, fault: object
) -> None:
    """Also when a write was applied and only its answer was lost: the next attempt finds its own record."""
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        storage.faults.extend([refuse] * (failures - 1) + [refuse if fault is refuse else lose])
        callers = [asyncio.create_task(_acknowledged_token(client, storage)) for _ in range(3)]
        for _ in range(failures):
            await until(lambda: strict.clock.sleepers)
            await settle()
            assert not any(task.done() for task in callers)
            strict.clock.advance(2.0)
        tokens = await asyncio.gather(*callers)
        assert await client.get_token("alice") == tokens[0]
    assert await stored_token(storage) == tokens[0]
    assert [entry.outcome for entry in strict.refreshes] == ["ok"]
    assert not storage.faults


async def test_p4_reading_back_after_a_lost_answer_may_fail_too(strict: World, storage: FaultyStorage) -> None:
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        storage.faults.append(lose)
        storage.load_faults.extend([None, StorageUnavailable("gone again")])  # the caller's, the look for its own write
        token = await passing(strict.clock, _acknowledged_token(client, storage))
    assert await stored_token(storage) == token
    assert len(strict.refreshes) == 1


async def test_p4_a_store_that_fails_for_good_is_an_error_and_the_next_call_stores_the_token(strict: World, storage: FaultyStorage) -> None:
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        storage.faults.extend([refuse] * _ATTEMPTS)
        callers = [asyncio.create_task(client.get_token("alice")) for _ in range(3)]
        errors = await passing(strict.clock, asyncio.gather(*callers, return_exceptions=True))
        assert [type(error) for error in errors] == [StorageUnavailable] * 3
        assert len(set(map(id, errors))) == 3
        assert all(error.retryable for error in errors)
        (refresh,) = strict.refreshes

        token = await _acknowledged_token(client, storage)
        assert is_hash_of(refresh.access_token_out, token.access_token)
        assert strict.refreshes == [refresh]
        assert await client.get_token("alice") == token
        strict.expire()
        assert await client.get_token("alice") != token
    assert not strict.server.family_revoked("alice")


async def test_p4_an_unsaved_token_that_got_stored_after_all_is_not_refreshed_again(strict: World, storage: FaultyStorage) -> None:
    """Every answer of the store was lost, the last write's too: the next call reads the new record."""
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        storage.faults.extend([refuse] * (_ATTEMPTS - 1) + [lose])
        with pytest.raises(StorageUnavailable):
            await passing(strict.clock, client.get_token("alice"))
        token = await client.get_token("alice")
        assert await stored_token(storage) == token
    assert len(strict.refreshes) == 1


async def test_p4_while_the_old_token_is_valid_a_store_that_only_reads_costs_nothing(
    strict: World, storage: FaultyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one is served after a moment, then at once, but not for longer than needed: the server may have ended it."""
    monkeypatch.setattr(coordinator, "_SOFT_PATIENCE", 0.01)
    events: list[Event] = []
    async with strict.client(storage) as client:
        client.events.subscribe(events.append)
        old = await strict.log_in(client)
        outage = Outage(storage.faults)
        with pytest.raises(StorageUnavailable):
            await passing(strict.clock, client.refresh("alice"))
        for _ in range(5):
            assert await client.get_token("alice") == old  # the first one has begun another try, whose pauses nobody lets pass
        outage.over = True
        strict.clock.advance(5)
        await until(lambda: [event for event in events if isinstance(event, TokenRecovered)])  # and nobody asked for it
        token = await client.get_token("alice")
        assert token != old
        assert await stored_token(storage) == token
    assert len(strict.refreshes) == 1
    kinds = [event.kind for event in events if event.kind != "token_issued"]
    assert sorted(set(kinds)) == ["served_stale", "token_recovered", "token_refreshed", "token_unsaved"]
    assert (kinds.count("token_unsaved"), kinds.count("served_stale"), kinds.count("token_recovered")) == (1, 1, 1)
    assert [event.why for event in events if isinstance(event, ServedStale)] == ["unsaved"]


async def test_p6_a_logout_while_a_valid_token_waits_for_its_successor_is_told(strict: World, storage: FaultyStorage) -> None:
    """The old token is valid for an hour; but the user has gone, in another process, just before the successor could be stored."""
    async with strict.client(storage) as client:
        await strict.log_in(client)
        outage = Outage(storage.faults)
        with pytest.raises(StorageUnavailable):
            await passing(strict.clock, client.refresh("alice"))
        outage.over = True

        async def remove_first(write: Write) -> Any:
            await storage.remove(RecordKey(client.namespace, "alice"))
            return await write()

        storage.faults.clear()
        storage.faults.append(remove_first)
        with pytest.raises(ReauthorizationRequired) as caught:
            await client.get_token("alice")
        assert caught.value.reason == "not_logged_in"
        assert await storage.load(RecordKey(client.namespace, "alice")) is None


async def test_p4_p19_one_task_goes_on_offering_a_token_to_the_store(strict: World, storage: FaultyStorage) -> None:
    """However many calls have failed meanwhile; at growing intervals, of five seconds at most."""
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        outage = Outage(storage.faults)
        for _ in range(5):
            with pytest.raises(StorageUnavailable):
                await passing(strict.clock, client.get_token("alice"))
        await settle()
        assert strict.clock.sleepers == 1
        refused, began = outage.refused, strict.clock.monotonic()
        while strict.clock.monotonic() < began + 60:
            strict.clock.advance(0.5)
            await settle()
        assert 10 <= outage.refused - refused <= 14
        outage.over = True
        strict.clock.advance(5)
        await settle()
        assert not strict.clock.sleepers
        assert client.get_token_nowait("alice") == await stored_token(storage)
    assert len(strict.refreshes) == 1


async def test_p4_an_unsaved_token_outlives_the_clients_of_a_users_own_class(strict: World, canary: Canary) -> None:
    class Full(AsyncClass):
        full = False

        async def save_token(self, user_id: str, tokens: dict[str, object]) -> None:
            if self.full and "refresh_attempts" not in tokens:
                raise OSError("CANARY-text of a driver")
            await super().save_token(user_id, tokens)

    storage = Full()
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        storage.full = True
        with pytest.raises(StorageUnavailable):
            await passing(strict.clock, client.get_token("alice"))
    del client
    canary.examine_errors()  # it holds the errors, which hold the frames, which hold the client
    gc.collect()
    storage.full = False
    async with strict.client(storage) as client:
        token = await client.get_token("alice")
    assert await stored_token(storage) == token
    assert len(strict.refreshes) == 1


async def surprise(write: object) -> None:
    raise RuntimeError("a bug in a driver")


async def tampered(write: object) -> None:
    raise RecordTampered("somebody was here")


@pytest.mark.parametrize("fault", [surprise, tampered])
async def test_p4_whatever_keeps_a_record_from_being_written_does_not_lose_the_token(rotating: Rotating, faulty: FaultyStorage, fault: Any) -> None:
    """Also an error that a storage should not raise: a token is in hand, so it is offered again, and again behind the scenes."""
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    faulty.faults.extend([fault] * (_ATTEMPTS + 2))
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.get(KEY))
    (unsaved,) = rotating.told(TokenUnsaved)
    assert unsaved.error == "StorageUnavailable"
    await passing(rotating.clock, until(lambda: rotating.told(TokenRecovered)))
    assert await stored_token(faulty) == rotating.last
    assert len(rotating.sent) == 1


async def test_p4_one_token_that_a_broken_store_does_not_take_keeps_no_other_from_being_saved_at_the_end(
    rotating: Rotating, faulty: FaultyStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """P9: and all are offered at once, so a store that does not answer is waited for once."""
    coordinator = rotating.coordinator(faulty)
    rotating.forgiving = True
    keys = [KEY, RecordKey(NAMESPACE, "bob"), RecordKey(NAMESPACE, "carol")]
    for key in keys:
        await coordinator.login(key, rotating.issue())
    rotating.clock.advance(LIFETIME)
    outage = Outage(faulty.faults)
    for key in keys:
        with pytest.raises(StorageUnavailable):
            await passing(rotating.clock, coordinator.get(key))
    await settle()  # whoever goes on offering them sleeps
    outage.over = True
    offered: list[Hold] = []

    def slow(then: Any) -> Any:
        hold = Hold()
        offered.append(hold)

        async def wait(write: Any) -> Any:
            await hold.wait()
            return await then(write)

        return wait

    faulty.faults.clear()
    faulty.faults.extend([slow(surprise), slow(work), slow(work)])
    ending = asyncio.create_task(coordinator.drain())
    for hold in offered:
        await hold.arrived.wait()
    for hold in offered:
        hold.released.set()
    await ending
    assert caplog.text.count("it is lost with this process") == 1
    assert [event.user_id for event in rotating.told(TokenRecovered)] == ["bob", "carol"]


@pytest.mark.parametrize("remembered", [True, False])
async def test_p4_a_caller_with_an_old_reading_does_not_lose_an_unsaved_token(rotating: Rotating, faulty: FaultyStorage, *, remembered: bool) -> None:
    """Its record is older than the one that the unsaved token succeeds: it looks again, if this process remembers that it has seen a newer one."""
    coordinator = rotating.coordinator(faulty, None if remembered else RefreshPolicy(cache_entries=0))
    first = rotating.issue()
    await coordinator.login(KEY, first)
    rotating.clock.advance(10)  # what is in memory has to be checked
    slow = faulty.hold_next_load(KEY)
    late = asyncio.create_task(coordinator.get(KEY))
    await slow.arrived.wait()
    await coordinator.refresh(KEY)
    faulty.faults.extend([refuse] * _ATTEMPTS)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.refresh(KEY))
    slow.released.set()
    assert await late == (rotating.last if remembered else first)
    assert await coordinator.get(KEY) == rotating.last
    assert len(rotating.sent) == 2


async def test_p3_the_error_of_a_failed_write_names_no_token(strict: World, storage: FaultyStorage) -> None:
    """P17; the canary of this suite looks at the error's frames."""
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        storage.faults.extend([refuse] * _ATTEMPTS)
        with pytest.raises(PAuthError) as caught:
            await passing(strict.clock, client.get_token("alice"))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
