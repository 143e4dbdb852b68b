"""P2 and P5: an attempt that a dead process left behind. P6: the answer of one that was only asleep."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pauth.core.quirks import Rotation, RotationClass
from pauth.core.token import Token, token_to_dict
from pauth.errors import ProviderUnavailable, ReauthorizationRequired
from pauth.events import AmbiguousRefresh, LeaseLost, ReauthorizationNeeded, StorageConflict, TokenRefreshed
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.stored import NO_ATTEMPTS, Attempts, StoredGrant, write_grant
from pauth.storage import RecordKey
from tests.refresh.faulty import FaultyStorage, Hold
from tests.refresh.kit import KEY, LIFETIME, NAMESPACE, attempts_of, passing, settle, stored, stored_token, until
from tests.refresh.rotating import Rotating, failing, no_answer

ANSWER = 20.0
"""Seconds after an intent in which its answer may come: the timeout of 15, and half of the lease's margin."""

AT_ONCE = ("NR", "RO", "RU", "RG")
STRICT = ("RS", "RSF")
LINEAGE = b"sixteen bytes 01"


def rotation(name: str, grace: float | None = 60.0) -> Rotation:
    return Rotation(RotationClass[name], grace if name == "RG" else None)


async def left_behind(rotating: Rotating, storage: FaultyStorage, *, applied: bool = False, ago: float = 0.0, **attempts: Any) -> Token:
    """An expired token whose refresh token a process was about to send when it was killed; the lease has run out since."""
    token = rotating.issue()
    rotating.clock.advance(LIFETIME - ago)
    deadline = rotating.clock.time() + ANSWER
    intent = Attempts(attempt_id="dead", under_way=True, deadline=deadline, **attempts)
    await storage.replace(KEY, write_grant(StoredGrant(token, attempts=intent)), expected_version=0, expires_at=token.expires_at, lineage=LINEAGE)
    if applied:
        rotating.issue()  # whose answer nobody has
    rotating.clock.advance(ago)
    return token


@pytest.mark.parametrize("kind", AT_ONCE)
async def test_p5_where_a_server_takes_it_again_nobody_waits(rotating: Rotating, faulty: FaultyStorage, kind: str) -> None:
    rotating.forgiving = True
    await left_behind(rotating, faulty, applied=True)
    assert await rotating.elsewhere(faulty, rotation=rotation(kind)).get(KEY) == rotating.last
    assert len(rotating.sent) == 1
    assert rotating.clock.sleepers == 0
    (ambiguous,), (refreshed,) = rotating.told(AmbiguousRefresh), rotating.told(TokenRefreshed)
    assert (ambiguous.attempt_id, ambiguous.retry_of) == ("dead", None)
    assert refreshed.retry_of == "dead"
    assert refreshed.attempt_id != "dead"


@pytest.mark.parametrize("kind", STRICT)
async def test_p2_where_a_token_may_be_used_up_it_is_sent_when_no_answer_can_come_any_more(
    rotating: Rotating, faulty: FaultyStorage, kind: str
) -> None:
    await left_behind(rotating, faulty)
    waiting = asyncio.create_task(rotating.elsewhere(faulty, rotation=rotation(kind)).get(KEY))
    await until(lambda: rotating.clock.sleepers)
    rotating.clock.advance(ANSWER - 0.01)
    await settle()
    assert not rotating.sent
    rotating.clock.advance(0.01)
    assert await waiting == rotating.last == await stored_token(faulty)
    assert len(rotating.sent) == 1
    assert rotating.told(TokenRefreshed)[0].retry_of == "dead"
    assert not rotating.told(LeaseLost)  # the waiting was no loss of time
    assert await attempts_of(faulty) == NO_ATTEMPTS


async def test_p5_who_was_thought_dead_and_says_that_nothing_was_sent_ends_the_wait(rotating: Rotating, faulty: FaultyStorage) -> None:
    """It was stopped before its request, and takes its attempt back."""
    token = await left_behind(rotating, faulty)
    waiting = asyncio.create_task(rotating.elsewhere(faulty, rotation=rotation("RSF")).get(KEY))
    await until(lambda: rotating.clock.sleepers)
    await faulty.replace(KEY, write_grant(StoredGrant(token)), expected_version=1, expires_at=token.expires_at, lineage=LINEAGE)
    rotating.clock.advance(1)
    assert await waiting == rotating.last == await stored_token(faulty)
    (refreshed,) = rotating.told(TokenRefreshed)
    assert refreshed.retry_of is None
    assert not rotating.told(AmbiguousRefresh)


@pytest.mark.parametrize("deadline", [1e12, 2e9])
async def test_p11_nobody_waits_longer_than_any_attempt_could_have_lasted(rotating: Rotating, faulty: FaultyStorage, deadline: float) -> None:
    """Its deadline is on another machine's clock."""
    token = await left_behind(rotating, faulty)
    intent = Attempts(attempt_id="dead", under_way=True, deadline=deadline)
    await faulty.replace(KEY, write_grant(StoredGrant(token, attempts=intent)), expected_version=1, lineage=LINEAGE)
    before = rotating.clock.monotonic()
    assert await passing(rotating.clock, rotating.elsewhere(faulty).get(KEY)) == rotating.last
    assert ANSWER <= rotating.clock.monotonic() - before <= ANSWER + 2


@pytest.mark.parametrize("kind", STRICT)
async def test_p2_p8_a_refusal_of_the_second_sending_ends_the_grant_by_its_right_name(rotating: Rotating, faulty: FaultyStorage, kind: str) -> None:
    """It was used up by the first sending: nothing that the user or the provider did."""
    token = await left_behind(rotating, faulty, applied=True)
    process = rotating.elsewhere(faulty, rotation=rotation(kind))
    with pytest.raises(ReauthorizationRequired, match="used up by an earlier request") as caught:
        await passing(rotating.clock, process.get(KEY))
    assert caught.value.reason == "ambiguous_rotation"
    assert len(rotating.sent) == 1
    grant = await stored(faulty)
    assert grant is not None
    assert (grant.token, grant.ended) == (token, "ambiguous_rotation")  # nothing was deleted
    for ask in (process.get, process.refresh, rotating.elsewhere(faulty).get):
        with pytest.raises(ReauthorizationRequired) as caught:
            await ask(KEY)
        assert caught.value.reason == "ambiguous_rotation"
    assert len(rotating.sent) == 1
    (needed,) = rotating.told(ReauthorizationNeeded)
    assert needed.reason == "ambiguous_rotation"
    assert needed.attempt_id not in {None, "dead"}


@pytest.mark.parametrize("kind", [*STRICT, "RG"])
@pytest.mark.parametrize("expired", [True, False])
async def test_p2_what_may_be_used_up_is_not_sent_more_often_than_the_policy_says(
    rotating: Rotating, faulty: FaultyStorage, kind: str, *, expired: bool
) -> None:
    """Nothing is marked, since an answer may still come; what is valid is served; the event comes once, however many ask."""
    token = await left_behind(rotating, faulty, unanswered=1, ago=3600.0)
    if not expired:
        rotating.clock.set_wall_time(rotating.clock.time() - 3000)
    process = rotating.elsewhere(faulty, rotation=rotation(kind))
    for seconds in (0, 1, 58, 1, 60):
        rotating.clock.advance(seconds)
        for _ in range(3):
            with pytest.raises(ReauthorizationRequired, match="only once") as caught:
                await process.refresh(KEY)
            assert caught.value.reason == "ambiguous_rotation"
        assert [event.reason for event in rotating.told(ReauthorizationNeeded)] == ["ambiguous_rotation"]
        if not expired:
            assert await process.get(KEY) == token
    other = RecordKey(NAMESPACE, "somebody with the same tokens")
    record = await faulty.load(KEY)
    assert record is not None
    await faulty.replace(other, record.tokens, expected_version=0)
    with pytest.raises(ReauthorizationRequired, match="only once"):
        await process.refresh(other)
    assert [event.user_id for event in rotating.told(ReauthorizationNeeded)] == [KEY.user_id, other.user_id]
    assert not rotating.sent
    grant = await stored(faulty)
    assert grant is not None
    assert (grant.token, grant.ended) == (token, None)


async def test_p2_the_verdict_waits_for_a_record_that_has_just_changed(rotating: Rotating, faulty: FaultyStorage) -> None:
    """A login, which takes no lease, comes in the very moment in which the grant is given up."""
    await left_behind(rotating, faulty, unanswered=1, ago=3600.0)
    newer = rotating.issue()

    async def login(loads: int) -> None:
        if loads == 3:  # the caller's, once more with the lease; and this is the one before the verdict
            await rotating.elsewhere(faulty).login(KEY, newer)

    faulty.before_load = login
    assert await rotating.elsewhere(faulty).get(KEY) == newer
    assert not rotating.told(ReauthorizationNeeded)
    assert not rotating.sent


@pytest.mark.parametrize(("retries", "sends"), [(0, 1), (1, 2), (2, 3), (5, 6)])
async def test_p2_a_refresh_token_is_sent_again_as_often_as_the_policy_says(
    rotating: Rotating, faulty: FaultyStorage, retries: int, sends: int
) -> None:
    """While no answer comes, each after the rest of the one before, and each the retry of the one before."""
    await rotating.stored_expired(faulty)
    process = rotating.elsewhere(faulty, RefreshPolicy(ambiguous_retries=retries))
    rotating.script.extend([no_answer()] * 20)
    for number in range(sends):
        with pytest.raises(ProviderUnavailable) as caught:
            await process.get(KEY)
        assert caught.value.request_sent
        assert len(rotating.sent) == number + 1
        rotating.clock.advance(120)
    with pytest.raises(ReauthorizationRequired) as ended:
        await process.get(KEY)
    assert ended.value.reason == "ambiguous_rotation"
    assert len(rotating.sent) == sends
    events = rotating.told(AmbiguousRefresh)
    assert len(events) == sends
    assert [event.retry_of for event in events] == [None, *(event.attempt_id for event in events[:-1])]


@pytest.mark.parametrize("kind", ["NR", "RO", "RU"])
async def test_p2_elsewhere_it_is_sent_until_an_answer_comes(rotating: Rotating, faulty: FaultyStorage, kind: str) -> None:
    rotating.forgiving = True
    await rotating.stored_expired(faulty)
    process = rotating.elsewhere(faulty, RefreshPolicy(ambiguous_retries=0), rotation=rotation(kind))
    rotating.script.extend([no_answer()] * 8)
    for _ in range(8):
        with pytest.raises(ProviderUnavailable):
            await process.get(KEY)
        rotating.clock.advance(120)
    assert await process.get(KEY) == rotating.last
    assert len(rotating.sent) == 9


@pytest.mark.parametrize(("ago", "waits", "sent"), [(0.0, False, True), (50.0, False, True), (70.0, False, False), (3600.0, False, False)])
async def test_p2_a_grace_period_counts_from_the_first_sending(
    rotating: Rotating, faulty: FaultyStorage, ago: float, *, waits: bool, sent: bool
) -> None:
    """Of 60 seconds; and no retry beyond it."""
    rotating.forgiving = True
    await left_behind(rotating, faulty, ago=ago)
    process = rotating.elsewhere(faulty, RefreshPolicy(ambiguous_retries=0), rotation=rotation("RG"))
    asking = asyncio.create_task(process.get(KEY))
    await settle()
    assert bool(rotating.clock.sleepers) is waits
    if sent:
        assert await asking == rotating.last
    else:
        with pytest.raises(ReauthorizationRequired):
            await asking
    assert len(rotating.sent) == sent


async def test_p2_a_grace_period_does_not_begin_anew_with_each_sending(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    process = rotating.elsewhere(faulty, RefreshPolicy(ambiguous_retries=0), rotation=rotation("RG"))
    rotating.script.extend([no_answer()] * 10)
    sends = 0
    for _ in range(4):
        with pytest.raises(ProviderUnavailable):
            await process.get(KEY)
        sends += 1
        rotating.clock.advance(15.5)  # the fifth would be 62 seconds after the first
    with pytest.raises(ReauthorizationRequired):
        await process.get(KEY)
    assert len(rotating.sent) == sends


@pytest.mark.parametrize("grace", [None, 5.0])
async def test_p2_outside_a_grace_period_an_attempt_of_the_dead_is_waited_for(rotating: Rotating, faulty: FaultyStorage, grace: float | None) -> None:
    """One that nobody knows, or that ends before the attempt's answer may come: then it may be used up, as at a strict server."""
    await left_behind(rotating, faulty, ago=6.0)
    waiting = asyncio.create_task(rotating.elsewhere(faulty, rotation=rotation("RG", grace)).get(KEY))
    await settle()
    assert (rotating.clock.sleepers, rotating.sent) == (1, [])
    rotating.clock.advance(ANSWER - 6.0)
    assert await waiting == rotating.last


async def test_p2_a_lease_that_is_lost_while_an_attempt_is_waited_for(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Nothing is sent without it: the flight begins anew, and finds what the other one has stored."""
    await left_behind(rotating, faulty)
    first = rotating.elsewhere(faulty)
    waiting = asyncio.create_task(first.get(KEY))
    await until(lambda: rotating.clock.sleepers)

    async def restarted(_: str) -> None:
        """The store has forgotten all leases; another process is faster, and refreshes."""
        newer = rotating.issue()
        await faulty.replace(KEY, token_to_dict(newer), expected_version=1, lineage=b"sixteen bytes 02")
        faulty._leases._held.clear()  # pyright: ignore[reportPrivateUsage]

    faulty.lease_faults.append(restarted)
    rotating.clock.advance(ANSWER)
    assert await waiting == rotating.last
    assert not rotating.sent
    assert len(rotating.told(LeaseLost)) == 1


async def test_p2_without_its_lease_a_process_that_has_waited_sends_nothing(rotating: Rotating, faulty: FaultyStorage) -> None:
    """The store has forgotten all leases, and somebody else has taken this one: it is waited for."""
    await left_behind(rotating, faulty)
    waiting = asyncio.create_task(rotating.elsewhere(faulty).get(KEY))
    await until(lambda: rotating.clock.sleepers)

    async def restarted(_: str) -> None:
        faulty._leases._held.clear()  # pyright: ignore[reportPrivateUsage]
        await faulty.take_lease(KEY, "somebody", ttl=30)

    faulty.lease_faults.append(restarted)
    rotating.clock.advance(ANSWER)
    await until(lambda: rotating.clock.sleepers)
    attempts = await attempts_of(faulty)
    assert (attempts.attempt_id, attempts.under_way) == ("dead", True)
    before = rotating.clock.monotonic()
    assert await passing(rotating.clock, waiting) == rotating.last
    assert rotating.clock.monotonic() - before >= 30 - 2
    assert len(rotating.sent) == 1


# Late answers (P6)


async def _late(rotating: Rotating, faulty: FaultyStorage) -> tuple[asyncio.Task[Token], Hold]:
    """A process that was stopped when its answer was on its way: the server has rotated."""
    await rotating.stored_expired(faulty)
    hold = Hold()
    rotating.after.append(hold.wait)
    late = asyncio.create_task(rotating.elsewhere(faulty).get(KEY))
    await hold.arrived.wait()
    return late, hold


async def test_p6_a_late_answer_is_adopted_over_the_verdict_of_who_took_over(rotating: Rotating, faulty: FaultyStorage) -> None:
    """The second sending was refused, and the grant marked as ended; but here comes its true successor."""
    late, hold = await _late(rotating, faulty)
    other = rotating.elsewhere(faulty)
    with pytest.raises(ReauthorizationRequired) as caught:
        await passing(rotating.clock, other.get(KEY))
    assert caught.value.reason == "ambiguous_rotation"
    hold.released.set()
    token = await late
    assert token == rotating.last == await stored_token(faulty)
    assert await other.get(KEY) == token
    assert [event.outcome for event in rotating.told(StorageConflict)] == ["adopted"]
    assert await attempts_of(faulty) == NO_ATTEMPTS


async def test_p6_a_late_answer_is_adopted_over_the_failure_of_who_took_over(rotating: Rotating, faulty: FaultyStorage) -> None:
    late, hold = await _late(rotating, faulty)
    rotating.script.append(failing(ProviderUnavailable("down", status=503)))
    other = rotating.elsewhere(faulty)
    with pytest.raises(ProviderUnavailable):
        await passing(rotating.clock, other.get(KEY))
    hold.released.set()
    token = await late
    assert token == rotating.last == await stored_token(faulty)
    assert await attempts_of(faulty) == NO_ATTEMPTS  # nobody rests any more
    assert await other.get(KEY) == token
    assert [event.outcome for event in rotating.told(StorageConflict)] == ["adopted"]


async def test_p6_a_late_answer_is_adopted_while_who_took_over_waits_for_its_own(rotating: Rotating, faulty: FaultyStorage) -> None:
    """The other's answer then names a predecessor that is not on record any more."""
    late, hold = await _late(rotating, faulty)
    answer = Hold()
    rotating.forgiving = True
    rotating.after.append(answer.wait)
    taking_over = asyncio.create_task(rotating.elsewhere(faulty).get(KEY))
    await passing(rotating.clock, answer.arrived.wait())
    hold.released.set()
    token = await late
    answer.released.set()
    assert await taking_over == token == await stored_token(faulty)
    assert [event.outcome for event in rotating.told(StorageConflict)] == ["adopted", "superseded"]


async def test_p6_a_late_answer_never_overwrites_what_is_newer(rotating: Rotating, faulty: FaultyStorage) -> None:
    late, hold = await _late(rotating, faulty)
    rotating.forgiving = True
    newer = await passing(rotating.clock, rotating.elsewhere(faulty).get(KEY))
    hold.released.set()
    assert await late == newer == await stored_token(faulty)
    assert [event.outcome for event in rotating.told(StorageConflict)] == ["superseded"]
    assert len(rotating.told(TokenRefreshed)) == 1


async def test_p8_a_late_refusal_condemns_nothing(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Whoever took over has refreshed meanwhile: the refusal is about a token that is not on record any more."""
    await rotating.stored_expired(faulty)
    hold = Hold()

    async def refused() -> None:
        await hold.wait()
        raise ReauthorizationRequired("used before", reason="invalid_grant")

    rotating.script.append(refused)
    late = asyncio.create_task(rotating.elsewhere(faulty).get(KEY))
    await hold.arrived.wait()
    newer = await passing(rotating.clock, rotating.elsewhere(faulty).get(KEY))
    hold.released.set()
    assert await late == newer == await stored_token(faulty)
    assert not rotating.told(ReauthorizationNeeded)


@pytest.mark.parametrize("error", [ProviderUnavailable("down", status=503), ProviderUnavailable("cut off")])
async def test_p6_a_late_failure_is_no_news_when_there_is_a_newer_token(rotating: Rotating, faulty: FaultyStorage, error: Any) -> None:
    await rotating.stored_expired(faulty)
    hold = Hold()

    async def fail() -> None:
        await hold.wait()
        raise error

    rotating.script.append(fail)
    late = asyncio.create_task(rotating.elsewhere(faulty).get(KEY))
    await hold.arrived.wait()
    newer = await passing(rotating.clock, rotating.elsewhere(faulty).get(KEY))
    hold.released.set()
    assert await late == newer
    assert await attempts_of(faulty) == NO_ATTEMPTS
