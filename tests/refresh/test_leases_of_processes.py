"""Several processes on one store (P1, P2, P6): whoever has the lease refreshes, the others wait for it; without a lease ahead nothing is sent."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pauth.errors import ProviderUnavailable, ReauthorizationRequired, StorageUnavailable
from pauth.events import AmbiguousRefresh, LeaseLost, RefreshFailed, StorageConflict, TokenRefreshed
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.stored import NO_ATTEMPTS
from tests.refresh.faulty import FaultyStorage, Hold, WithoutLeases, Write, lose, refuse
from tests.refresh.kit import KEY, PAUSES, attempts_of, passing, patience, settle, stored_token, until
from tests.refresh.rotating import Rotating, failing

TIMEOUT = 15.0
LEASE = TIMEOUT + RefreshPolicy().lease_margin


def later(clock: Any, seconds: float, then: Callable[[Write], Awaitable[Any]]) -> Callable[[Write], Awaitable[Any]]:
    """A write that takes so long, on the clock."""

    async def write(work: Write) -> Any:
        clock.advance(seconds)
        return await then(work)

    return write


async def done(write: Write) -> Any:
    return await write()


async def test_p1_processes_that_find_the_lease_taken_wait_for_the_refresh(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    hold = Hold()
    rotating.script.append(hold.wait)
    processes = [rotating.elsewhere(faulty) for _ in range(4)]
    first = asyncio.create_task(processes[0].get(KEY))
    await hold.arrived.wait()
    others = [asyncio.create_task(process.get(KEY)) for process in processes[1:] for _ in range(3)]
    await until(lambda: rotating.clock.sleepers == 3)  # one flight in each
    for _ in range(5):
        rotating.clock.advance(1)
        await until(lambda: rotating.clock.sleepers == 3)
    assert not any(task.done() for task in others)
    hold.released.set()
    token = await first
    assert await passing(rotating.clock, asyncio.gather(*others)) == [token] * 9
    assert len(rotating.sent) == 1
    assert token == await stored_token(faulty)
    assert len(rotating.told(TokenRefreshed)) == 1


async def test_p9_who_waits_looks_again_soon_at_first_and_then_twice_a_second(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    await faulty.take_lease(KEY, "somebody", ttl=LEASE)
    looks: list[float] = []
    process = rotating.elsewhere(faulty)
    waiting = asyncio.create_task(process.get(KEY))
    for _ in patience(PAUSES):
        if waiting.done():
            break
        if rotating.clock.sleepers:
            looks.append(rotating.clock.monotonic())
            while rotating.clock.sleepers:
                rotating.clock.advance(0.001)
        await asyncio.sleep(0)
    pauses = [two - one for one, two in itertools.pairwise(looks)]
    assert 0.01 <= pauses[0] <= 0.021
    assert max(pauses) <= 0.51
    assert min(pauses[-10:]) >= 0.24
    assert len(looks) < 100
    assert await waiting == rotating.last


async def test_p9_a_lease_that_never_ends_is_an_error(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Somebody takes it again and again."""
    await rotating.stored_expired(faulty)
    await faulty.take_lease(KEY, "somebody", ttl=80_000)
    began = rotating.clock.monotonic()
    with pytest.raises(ProviderUnavailable, match="another process") as caught:
        await passing(rotating.clock, rotating.elsewhere(faulty).get(KEY))
    assert not caught.value.request_sent
    assert 2 * LEASE <= rotating.clock.monotonic() - began <= 2 * LEASE + 5
    assert not rotating.sent


async def test_p1_a_waiter_that_finds_the_token_revoked_stops_waiting(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    await faulty.take_lease(KEY, "somebody", ttl=LEASE)
    waiting = asyncio.create_task(rotating.elsewhere(faulty).get(KEY))
    await until(lambda: rotating.clock.sleepers)
    await faulty.remove(KEY)
    rotating.clock.advance(0.1)
    with pytest.raises(ReauthorizationRequired) as caught:
        await waiting
    assert caught.value.reason == "not_logged_in"
    assert not rotating.sent


async def test_p1_the_lease_is_given_back_whatever_happens(rotating: Rotating, faulty: FaultyStorage) -> None:
    """So that nobody has to wait until it runs out."""
    await rotating.stored_expired(faulty)
    process = rotating.elsewhere(faulty)
    rotating.script.append(failing(ProviderUnavailable("down", status=503)))
    faulty.intent_faults.append(refuse)
    for error in (StorageUnavailable, ProviderUnavailable):
        with pytest.raises(error):
            await process.get(KEY)
        rotating.clock.advance(1)
        lease = await faulty.take_lease(KEY, "somebody", ttl=1)
        assert lease is not None
        await faulty.release_lease(KEY, "somebody")
    await process.get(KEY)
    assert await faulty.take_lease(KEY, "somebody", ttl=1) is not None


async def test_a_lease_that_cannot_be_given_back_runs_out(rotating: Rotating, faulty: FaultyStorage, caplog: pytest.LogCaptureFixture) -> None:
    await rotating.stored_expired(faulty)

    async def fail(name: str) -> None:
        if name == "release":
            raise StorageUnavailable("gone")

    faulty.lease_faults.extend([fail, fail])
    token = await rotating.elsewhere(faulty).get(KEY)
    assert token == rotating.last
    assert "runs out by itself" in caplog.text
    assert await faulty.take_lease(KEY, "somebody", ttl=1) is None
    rotating.clock.advance(LEASE)
    assert await faulty.take_lease(KEY, "somebody", ttl=1) is not None


async def test_a_store_that_gives_no_answer_about_leases_is_an_error(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)

    async def fail(_: str) -> None:
        raise StorageUnavailable("gone")

    faulty.lease_faults.append(fail)
    process = rotating.elsewhere(faulty)
    with pytest.raises(StorageUnavailable):
        await process.get(KEY)
    assert not rotating.sent
    assert await process.get(KEY) == rotating.last


# Nothing is sent without a lease ahead (reliability 2.2 c)


async def test_p2_after_an_intent_that_took_too_long_nothing_is_sent(rotating: Rotating, faulty: FaultyStorage) -> None:
    """The store was slow, or the process was stopped: with less than half of the time left the attempt is taken back, and made anew."""
    await rotating.stored_expired(faulty)
    sent_before_retry: list[int] = []

    async def slow(write: Write) -> Any:
        rotating.clock.advance(LEASE + 1)  # somebody else may have the lease now
        faulty.intent_faults.append(look)
        return await write()

    async def look(write: Write) -> Any:
        sent_before_retry.append(len(rotating.sent))
        attempts = await attempts_of(faulty)
        assert not attempts.under_way  # it was taken back
        assert (attempts.unanswered, attempts.suspect) == (0, None)
        return await write()

    faulty.intent_faults.append(slow)
    assert await rotating.elsewhere(faulty).get(KEY) == rotating.last
    assert sent_before_retry == [0]
    assert len(rotating.sent) == 1
    (lost,), (refreshed,) = rotating.told(LeaseLost), rotating.told(TokenRefreshed)
    assert lost.attempt_id != refreshed.attempt_id
    assert refreshed.retry_of is None


@pytest.mark.parametrize("seconds", [0.0, 4.0, 7.0, 12.0])
async def test_p2_the_deadline_of_a_request_ends_before_its_lease_and_before_the_deadline_it_told_others(
    rotating: Rotating, faulty: FaultyStorage, seconds: float
) -> None:
    await rotating.stored_expired(faulty)
    deadlines: list[float] = []

    async def prepare(token: Any) -> Any:
        exchange = await rotating.prepare(token)

        async def send(deadline: float) -> Any:
            deadlines.append(deadline)
            return await exchange(deadline)

        return send

    taken_at = rotating.clock.monotonic()
    announced: list[float] = []

    async def slow(write: Write) -> Any:
        rotating.clock.advance(seconds)
        written = await write()
        assert written is not None
        offset = rotating.clock.monotonic() - rotating.clock.time()
        announced.append(written.tokens["refresh_attempts"]["deadline"] + offset)
        return written

    faulty.intent_faults.append(slow)
    assert await rotating.elsewhere(faulty, prepare=prepare).get(KEY) == rotating.last
    assert deadlines[0] - taken_at <= LEASE - 5
    assert deadlines[0] - (taken_at + seconds) >= TIMEOUT / 2
    assert deadlines[0] - (taken_at + seconds) <= TIMEOUT
    assert deadlines[0] <= announced[0] + 1e-6
    assert not rotating.told(LeaseLost)


async def test_p6_who_finds_nothing_sent_too_late_lets_the_other_go_on(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Stopped between the intent and the request, until another process has refreshed: its own attempt is over."""
    await rotating.stored_expired(faulty)
    here, there = rotating.elsewhere(faulty), rotating.elsewhere(faulty)
    hold = Hold()

    async def stopped(write: Write) -> Any:
        written = await write()
        await hold.wait()
        return written

    faulty.intent_faults.append(stopped)
    sleeper = asyncio.create_task(here.get(KEY))
    await hold.arrived.wait()
    token = await passing(rotating.clock, there.get(KEY))
    assert (await attempts_of(faulty)) == NO_ATTEMPTS
    hold.released.set()
    assert await sleeper == token == await stored_token(faulty)
    assert len(rotating.sent) == 1
    assert len(rotating.told(LeaseLost)) == 1


@pytest.mark.parametrize("noted", [True, False])
async def test_p2_an_attempt_that_sent_nothing_counts_for_nothing(rotating: Rotating, faulty: FaultyStorage, *, noted: bool) -> None:
    """Also if the store does not take it back: this process knows it, and waits for nobody."""
    await rotating.stored_expired(faulty)
    faulty.intent_faults.append(later(rotating.clock, LEASE, done))
    if not noted:
        faulty.note_faults.append(refuse)
    process = rotating.elsewhere(faulty, RefreshPolicy(ambiguous_retries=0))
    before = rotating.clock.monotonic()
    assert await process.get(KEY) == rotating.last
    assert rotating.clock.monotonic() == before + LEASE  # it waited for nothing else
    assert rotating.told(TokenRefreshed)[0].retry_of is None


def _too_late(rotating: Rotating, seconds: float) -> Callable[[], Awaitable[object]]:
    """What the transport says when the deadline passes before the first byte has left."""

    async def fail() -> None:
        rotating.clock.advance(seconds)
        raise ProviderUnavailable("no connection", request_sent=False)

    return fail


async def test_p2_a_request_that_came_too_late_to_its_first_byte_is_taken_back(rotating: Rotating, faulty: FaultyStorage) -> None:
    """The process was stopped for longer than its lease: it begins anew."""
    await rotating.stored_expired(faulty)
    rotating.script.append(_too_late(rotating, LEASE + 1))
    assert await rotating.elsewhere(faulty, RefreshPolicy(ambiguous_retries=0)).get(KEY) == rotating.last
    assert len(rotating.told(LeaseLost)) == 1
    assert not rotating.told(RefreshFailed)


@pytest.mark.parametrize("store", ["works", "fails", "has no leases"])
async def test_p9_p10_a_server_that_cannot_be_connected_to_is_a_failure_and_no_lost_lease(rotating: Rotating, store: str) -> None:
    """Nothing was sent until the deadline, and the lease is still ours: so it was the server, which is left alone for a while."""
    storage = WithoutLeases(rotating.clock) if store == "has no leases" else FaultyStorage(rotating.clock)
    await rotating.stored_expired(storage)
    rotating.script.append(_too_late(rotating, TIMEOUT))

    async def fail(name: str) -> None:
        if name == "extend":
            raise StorageUnavailable("gone")

    if store == "fails":
        storage.lease_faults.extend([fail, fail])
    process = rotating.elsewhere(storage)
    with pytest.raises(ProviderUnavailable, match="no connection"):
        await process.get(KEY)
    attempts = await attempts_of(storage)
    assert (attempts.failures, attempts.under_way, attempts.unanswered) == (1, False, 0)
    assert attempts.retry_at > rotating.clock.time()
    with pytest.raises(ProviderUnavailable, match="try again in"):
        await process.get(KEY)
    assert len(rotating.sent) == 1
    assert not rotating.told(LeaseLost)
    assert len(rotating.told(RefreshFailed)) == 1


# Who takes over finds the rest that another one has noted


async def test_p10_who_waited_for_the_lease_does_not_ask_a_server_that_has_just_failed(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    hold = Hold()

    async def unavailable() -> None:
        await hold.wait()
        raise ProviderUnavailable("down", status=503)

    rotating.script.append(unavailable)
    first = asyncio.create_task(rotating.elsewhere(faulty).get(KEY))
    await hold.arrived.wait()
    others = [asyncio.create_task(rotating.elsewhere(faulty).get(KEY)) for _ in range(5)]
    await until(lambda: rotating.clock.sleepers == 5)
    hold.released.set()
    with pytest.raises(ProviderUnavailable) as caught:
        await first
    assert caught.value.request_sent
    for error in await _each_passing(rotating, others):
        assert isinstance(error, ProviderUnavailable)
        assert not error.request_sent
        assert error.retry_after
    assert len(rotating.sent) == 1


async def _each_passing(rotating: Rotating, tasks: list[asyncio.Task[Any]]) -> list[Any]:
    """What they give while time passes in small steps."""
    gathering = asyncio.gather(*tasks, return_exceptions=True)
    for _ in patience(PAUSES):
        if gathering.done():
            break
        rotating.clock.advance(0.005)
        await settle()
    return await gathering


# Without leases, and against the odds


async def test_p6_p8_two_processes_without_leases_the_loser_adopts(rotating: Rotating) -> None:
    """Both have sent; the loser is told invalid_grant, finds the winner's token on record, and condemns nothing."""
    storage = WithoutLeases(rotating.clock)
    await rotating.stored_expired(storage)
    hold = Hold()
    rotating.script.append(hold.wait)
    loser = asyncio.create_task(rotating.elsewhere(storage).get(KEY))
    await hold.arrived.wait()
    winner = asyncio.create_task(rotating.elsewhere(storage).get(KEY))
    token = await passing(rotating.clock, winner)  # it waits for the deadline of the attempt that it finds
    hold.released.set()
    assert await loser == token == await stored_token(storage)
    assert len(rotating.sent) == 2


async def test_p1_a_record_that_changes_all_the_time_is_an_error(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Somebody writes it again and again, with the same token in it."""
    await rotating.stored_expired(faulty)

    async def moved(write: Write) -> Any:
        record = await faulty.load(KEY)
        assert record is not None
        await super(FaultyStorage, faulty).replace(KEY, record.tokens, expected_version=record.version, lineage=record.lineage)
        faulty.intent_faults.append(moved)
        return await write()

    faulty.intent_faults.append(moved)
    with pytest.raises(StorageUnavailable, match="changed all the time"):
        await rotating.elsewhere(faulty).get(KEY)
    assert not rotating.sent
    faulty.intent_faults.clear()
    assert await rotating.elsewhere(faulty).get(KEY) == rotating.last


@pytest.mark.parametrize("fault", [refuse, lose])
async def test_p2_without_an_acknowledged_intent_nothing_is_sent(rotating: Rotating, faulty: FaultyStorage, fault: Any) -> None:
    """If only its answer was lost it stands there: this process knows that nothing was sent, so it neither waits nor counts it."""
    await rotating.stored_expired(faulty)
    process = rotating.elsewhere(faulty, RefreshPolicy(ambiguous_retries=0))
    faulty.intent_faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await process.get(KEY)
    assert not rotating.sent
    assert (await attempts_of(faulty)).under_way == (fault is lose)
    with pytest.raises(StorageUnavailable, match=r"tried again in 1\.0 seconds"):
        await process.get(KEY)
    rotating.clock.advance(1)
    assert await process.get(KEY) == rotating.last
    assert len(rotating.sent) == 1
    assert await attempts_of(faulty) == NO_ATTEMPTS
    assert not rotating.told(StorageConflict, AmbiguousRefresh)


async def test_p2_others_wait_for_an_intent_of_which_only_its_writer_knows_that_nothing_was_sent(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    faulty.intent_faults.append(lose)
    with pytest.raises(StorageUnavailable):
        await rotating.elsewhere(faulty).get(KEY)
    attempts = await attempts_of(faulty)
    waiting = asyncio.create_task(rotating.elsewhere(faulty).get(KEY))
    await until(lambda: rotating.clock.sleepers)
    rotating.clock.advance(attempts.deadline - rotating.clock.time() - 0.001)
    await settle()
    assert not rotating.sent
    rotating.clock.advance(0.001)
    assert await waiting == rotating.last
    assert rotating.told(TokenRefreshed)[0].retry_of == attempts.attempt_id
