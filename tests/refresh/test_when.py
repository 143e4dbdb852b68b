"""When a token is refreshed: ahead of its expiry behind the scenes, the rest after a failure, unknown expiry, and lifetimes of all sizes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pauth.core.token import Token, token_to_dict
from pauth.errors import ProviderUnavailable, StorageUnavailable
from pauth.refresh.policy import RefreshPolicy, spread
from pauth.refresh.stored import NO_ATTEMPTS
from pauth.secret import Secret
from pauth.storage import RecordKey
from pauth.testing import faults
from tests.refresh.faulty import FaultyStorage, refuse
from tests.refresh.kit import FRESH, KEY, LIFETIME, NAMESPACE, STALE, World, attempts_of, landed, passing, stored_token, world
from tests.refresh.rotating import Rotating, failing


async def test_the_clients_policy_is_the_one_that_counts(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    late = RefreshPolicy(soft_margin=0, hard_margin=0, cache_age=0)
    async with strict.client(storage, refresh_policy=late) as patient, strict.client(storage) as client:
        token = await strict.log_in(client)
        strict.clock.advance(3599)
        assert await patient.get_token("alice") == token
        assert await client.get_token("alice") != token
    assert len(strict.refreshes) == 1


async def test_a_client_without_memory_asks_the_store_though_another_client_remembers(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    careful = RefreshPolicy(cache_age=0)
    async with strict.client(storage, refresh_policy=careful) as client, strict.client(storage) as other:
        token = await strict.log_in(other)
        assert other.get_token_nowait("alice") == token
        assert client.get_token_nowait("alice") is None
        for _ in range(3):
            loads = storage.loads
            assert await client.get_token("alice") == token
            assert storage.loads == loads + 1


async def test_a_stale_token_is_served_at_once_and_refreshed_once_behind_the_scenes(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client, strict.client(storage) as other:
        token = await strict.log_in(client)
        strict.clock.advance(FRESH)
        assert await client.get_token("alice") == token
        await landed(client)
        assert not strict.refreshes
        strict.clock.advance(STALE - FRESH)
        hold = strict.server.script("token", faults.hold())
        for asker in (client, other):
            assert await asyncio.gather(*(asker.get_token("alice") for _ in range(10))) == [token] * 10
        await hold.arrived.wait()
        for seconds in (0, 0.5, 1, 5):  # looked up in memory, then in the store
            strict.clock.advance(seconds)
            assert await other.get_token("alice") == token
        hold.release()
        await landed(client)
        newer = await client.get_token("alice")
        assert newer != token
        assert newer == await other.get_token("alice") == await stored_token(storage)
    assert len(strict.refreshes) == 1


async def test_when_a_token_is_stale_follows_from_it_and_is_not_drawn_anew(rotating: Rotating, faulty: FaultyStorage) -> None:
    """P10: tokens that were issued together are refreshed at moments of their own, the same in every process."""
    users = [RecordKey(NAMESPACE, f"user-{number}") for number in range(20)]
    coordinators = [rotating.coordinator(faulty), rotating.elsewhere(faulty)]
    tokens: dict[RecordKey, Token] = {}
    for user in users:
        tokens[user] = rotating.issue()
        await coordinators[0].login(user, tokens[user])
    rotating.forgiving = True
    start, refreshed_at = rotating.clock.time(), dict[RecordKey, float]()
    rotating.clock.advance(3300)
    while len(refreshed_at) < len(users):
        for number, user in enumerate(users):
            if user not in refreshed_at:
                asker = coordinators[number % 2]
                expected = RefreshPolicy().thresholds(tokens[user], spread=spread(NAMESPACE, user.user_id, tokens[user].version))[0]
                before = len(rotating.sent)
                assert await asker.get(user) == tokens[user]
                await landed(asker)
                assert (len(rotating.sent) > before) == (rotating.clock.time() >= expected)
                if len(rotating.sent) > before:
                    refreshed_at[user] = rotating.clock.time() - start
        rotating.clock.advance(5)
    assert min(refreshed_at.values()) >= 3300
    assert max(refreshed_at.values()) <= 3455
    assert len(set(refreshed_at.values())) >= 10


@pytest.mark.parametrize(
    ("fault", "rest", "most"),
    [
        (faults.status(503), 0.5, 1),
        (faults.status(503, "", {"Retry-After": "60"}), 60, 66),
        (faults.rate_limited(30), 30, 33),
        (faults.rate_limited(0), 0.5, 1),
        (faults.rate_limited(1), 1, 1.1),
        (faults.rate_limited(None), 0.5, 1),
        (faults.status(401, {"error": "invalid_client"}), 0.5, 1),
    ],
)
async def test_p10_after_a_failure_a_valid_token_is_served_and_the_server_left_alone(strict: World, fault: Any, rest: float, most: float) -> None:
    """For a second, or as long as its Retry-After says and at most a tenth more; for all clients on the storage."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client, strict.client(storage) as other:
        token = await strict.log_in(client)
        strict.clock.advance(STALE)
        strict.server.script("token", fault)
        assert await asyncio.gather(*(client.get_token("alice") for _ in range(10))) == [token] * 10
        await landed(client)
        assert len(strict.refreshes) == 1
        strict.clock.advance(rest - 0.01)
        for asker in (client, other, client):
            client._tokens.cached.expire("alice")  # pyright: ignore[reportPrivateUsage]  # so that the record is looked at
            assert await asker.get_token("alice") == token
            await landed(asker)
        assert len(strict.refreshes) == 1
        strict.clock.advance(most - rest + 1)
        assert await other.get_token("alice") == token
        await landed(other)
        assert await client.get_token("alice") != token
    assert len(strict.refreshes) == 2


async def test_p10_failures_behind_the_scenes_come_further_and_further_apart(strict: World) -> None:
    """While a token is served for minutes from a server that is down: back-off counts there as for those who wait."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        token = await strict.log_in(client)
        strict.clock.advance(STALE - 60)
        strict.server.script("token", faults.status(503), times=None)
        for _ in range(190):
            strict.clock.advance(1)
            assert await client.get_token("alice") == token
            await landed(client)
    assert 6 <= len(strict.refreshes) <= 14


async def test_p10_other_processes_rest_too(rotating: Rotating, faulty: FaultyStorage) -> None:
    """The moment of the next try stands in the record: for a second at first, then longer and longer, and as long as Retry-After says."""
    await rotating.stored_expired(faulty)
    here, there = rotating.coordinator(faulty), rotating.elsewhere(faulty)
    unavailable = ProviderUnavailable("down", status=503)
    slow = ProviderUnavailable("slow down", status=429, retry_after=300)
    pauses: list[float] = []
    for number, error in enumerate([unavailable] * 4 + [slow] + [unavailable] * 8):
        rotating.script.append(failing(error))
        with pytest.raises(ProviderUnavailable) as caught:
            await here.get(KEY)
        assert caught.value.request_sent
        assert len(rotating.sent) == number + 1
        for asker in (there, here):
            for ask in (asker.get, asker.refresh):
                with pytest.raises(ProviderUnavailable, match="try again in") as resting:
                    await ask(KEY)
                assert not resting.value.request_sent
                assert resting.value.retry_after is not None
        assert len(rotating.sent) == number + 1
        attempts = await attempts_of(faulty)
        assert attempts.failures == number + 1
        assert not attempts.under_way
        pauses.append(attempts.retry_at - rotating.clock.time())
        rotating.clock.advance(max(pauses[-1], 61))  # and the breaker's longest pause
    for number, pause in enumerate(pauses):
        longest = min(2.0**number, 60)
        low, high = (300, 330) if number == 4 else (longest / 2, longest)
        assert low <= pause <= high, f"pause {number} is {pause}"
    assert await there.get(KEY) == rotating.last
    assert await attempts_of(faulty) == NO_ATTEMPTS


async def test_p10_a_retry_after_counts_for_an_hour_at_most_and_longer_than_the_token(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        token = await strict.log_in(client)
        strict.clock.advance(STALE)
        strict.server.script("token", faults.rate_limited(7200))
        assert await client.get_token("alice") == token
        await landed(client)
        strict.clock.advance(3600 - STALE)
        left = 0.0
        for ask in (client.get_token, client.refresh):
            with pytest.raises(ProviderUnavailable) as caught:
                await ask("alice")
            assert not caught.value.request_sent
            left = caught.value.retry_after or 0.0
            assert 3600 - 150 <= left <= 3960
        assert len(strict.refreshes) == 1
        strict.clock.advance(left)
        assert await client.get_token("alice") != token
    assert len(strict.refreshes) == 2


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("jump", [-2 * 3600.0, -60.0])
async def test_p11_nobody_rests_longer_than_was_meant_when_a_clock_was_put_back(
    rotating: Rotating, faulty: FaultyStorage, jump: float, *, explicit: bool
) -> None:
    """Whoever finds a moment of the next try far ahead rests for as long as the pause was to last, from when it first saw it."""
    coordinator = rotating.elsewhere(faulty)
    token = rotating.issue()
    await coordinator.login(KEY, token)
    rotating.script.append(failing(ProviderUnavailable("slow down", status=429, retry_after=10)))
    with pytest.raises(ProviderUnavailable):
        await coordinator.refresh(KEY)
    rotating.clock.set_wall_time(rotating.clock.time() + jump)
    record = await faulty.load(KEY)
    assert record is not None
    now = rotating.clock.time()
    stale = {**record.tokens, "issued_at": now - STALE, "expires_at": now - STALE + LIFETIME}
    await faulty.replace(KEY, stale, expected_version=record.version, lineage=record.lineage)
    there = rotating.elsewhere(faulty)
    for seconds in (0, 5):
        rotating.clock.advance(seconds)
        if explicit:
            with pytest.raises(ProviderUnavailable, match="try again in"):
                await there.refresh(KEY)
        else:
            assert (await there.get(KEY)).access_token == token.access_token
            await landed(there)
        assert len(rotating.sent) == 1
    rotating.clock.advance(6)
    served = await (there.refresh(KEY) if explicit else there.get(KEY))
    await landed(there)
    assert (served.access_token == token.access_token) is not explicit
    assert (len(rotating.sent), rotating.issued) == (2, 2)


async def test_p10_a_new_login_ends_the_rest(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.clock.advance(STALE)
        strict.server.script("token", faults.rate_limited(3600))
        await client.get_token("alice")
        await landed(client)
        assert len(strict.refreshes) == 1
        token = await strict.log_in(client)
        newer = await client.refresh("alice")
        assert newer != token
        strict.clock.advance(STALE)
        assert await client.get_token("alice") == newer
        await landed(client)
        assert await client.get_token("alice") != newer
    assert len(strict.refreshes) == 3


async def test_a_valid_token_is_served_when_the_store_does_not_take_the_new_one(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        old = await strict.log_in(client)
        strict.clock.advance(STALE)
        storage.faults.extend([refuse] * 6)
        assert await client.get_token("alice") == old
        await passing(strict.clock, landed(client))
        newer = await client.get_token("alice")
        assert newer != old
        assert await stored_token(storage) == newer
    assert len(strict.refreshes) == 1


async def test_te_10_a_token_of_unknown_expiry_is_served() -> None:
    async with world(access_token_lifetime=None) as vague:
        storage = FaultyStorage(vague.clock)
        async with vague.client(storage) as client:
            token = await vague.log_in(client)
            assert token.expires_at is None
            vague.clock.advance(3599)
            assert await client.get_token("alice") == token
            await landed(client)
            assert not vague.refreshes
            vague.clock.advance(1)
            assert await client.get_token("alice") == token
            await landed(client)
            newer = await client.get_token("alice")
            assert newer != token
            vague.clock.advance(10 * 366 * 86_400)
            vague.server.script("token", faults.status(503))
            for _ in range(3):  # not zero, and not for ever: used on while nothing better is to be had
                assert await client.get_token("alice") == newer
                await landed(client)
            assert len(vague.refreshes) == 2
            vague.clock.advance(1)
            assert await client.refresh("alice") != newer


@pytest.mark.parametrize(("lifetime", "step", "steps", "most"), [(1, 0.0625, 320, 24), (60, 0.5, 1200, 12), (3600, 30, 720, 7)])
async def test_p10_short_lifetimes_are_no_refresh_storm(lifetime: float, step: float, steps: int, most: int) -> None:
    """A caller every ``step`` seconds: about one refresh a lifetime, and never an expired token."""
    async with world(access_token_lifetime=lifetime) as brief:
        storage = FaultyStorage(brief.clock)
        async with brief.client(storage) as client:
            await brief.log_in(client)
            for _ in range(steps):
                token = await client.get_token("alice")
                assert not token.is_expired(brief.clock.time())
                await landed(client)
                brief.clock.advance(step)
        assert steps * step / lifetime <= len(brief.refreshes) + 1 <= most + 1


async def test_a_zero_lifetime_is_one_refresh_a_call_and_no_loop(rotating: Rotating, faulty: FaultyStorage) -> None:
    rotating.lifetime = 0.0
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    tokens = await asyncio.gather(*(coordinator.get(KEY) for _ in range(5)))
    assert tokens == [rotating.last] * 5
    assert len(rotating.sent) == 1


async def test_p11_a_record_without_issue_time_uses_the_margins_as_they_are(rotating: Rotating, faulty: FaultyStorage) -> None:
    """As other libraries write it: ``expires_at`` alone."""
    members = token_to_dict(rotating.issue())
    del members["issued_at"]
    await faulty.replace(KEY, members, expected_version=0)
    coordinator = rotating.coordinator(faulty)
    for seconds, access_token in ((FRESH, "CANARY-at-1"), (STALE - FRESH, "CANARY-at-1"), (0, "CANARY-at-2")):
        rotating.clock.advance(seconds)
        assert (await coordinator.get(KEY)).access_token == Secret(access_token)
        await landed(coordinator)


DAY = 86_400.0


@pytest.mark.parametrize("lifetime", [LIFETIME, None], ids=["an hour", "unknown"])
@pytest.mark.parametrize("ahead", [700.0, 2 * DAY, 3000 * DAY])
async def test_p11_a_token_from_the_future_is_used_for_its_lifetime_and_not_until_then(
    rotating: Rotating, faulty: FaultyStorage, ahead: float, lifetime: float | None
) -> None:
    """The clock was wrong when it was issued, or went back since. Its lifetime counts from when it was first seen; and one refresh mends it."""
    rotating.lifetime = lifetime
    true_time = rotating.clock.time()
    rotating.clock.set_wall_time(true_time + ahead)
    token = rotating.issue()
    await faulty.replace(KEY, token_to_dict(token), expected_version=0, expires_at=token.expires_at)
    rotating.clock.set_wall_time(true_time)
    coordinator = rotating.elsewhere(faulty)
    for seconds in (0, FRESH, 0):
        rotating.clock.advance(seconds)
        assert await coordinator.get(KEY) == token
        await landed(coordinator)
        assert not rotating.sent
    rotating.clock.advance(LIFETIME - FRESH + 0.5)
    if lifetime is None:  # it is served meanwhile
        await coordinator.get(KEY)
        await landed(coordinator)
    assert await coordinator.get(KEY) == rotating.last != token
    rotating.clock.advance(FRESH)
    assert await coordinator.get(KEY) == rotating.last
    await landed(coordinator)
    assert len(rotating.sent) == 1


async def test_p11_a_clock_that_is_far_behind_causes_no_more_refreshes(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Two processes whose clocks are a day apart take turns on one user: one refresh an hour, and no storm."""
    here, there = rotating.elsewhere(faulty), rotating.elsewhere(faulty)
    await here.login(KEY, rotating.issue())
    for _ in range(48):
        rotating.clock.set_wall_time(rotating.clock.time() - DAY)
        await there.get(KEY)
        await landed(there)
        rotating.clock.set_wall_time(rotating.clock.time() + DAY)
        await here.get(KEY)
        await landed(here)
        rotating.clock.advance(300)
    assert len(rotating.sent) <= 5


async def test_a_store_that_cannot_be_read_is_an_error(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    faulty.load_faults.append(StorageUnavailable("gone"))
    with pytest.raises(StorageUnavailable):
        await rotating.coordinator(faulty).get(KEY)
    assert not rotating.sent
