"""When a token is refreshed: the two thresholds, the rest after a failure, unknown expiry, and lifetimes of all sizes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pauth.core.token import Token, token_to_dict
from pauth.errors import ConfigurationError, ProviderUnavailable, StorageUnavailable, TokenError
from pauth.refresh import coordinator as module
from pauth.refresh.policy import Freshness, RefreshPolicy
from pauth.secret import Secret
from pauth.storage import RecordKey
from pauth.testing import faults
from tests.refresh.faulty import FaultyStorage, refuse
from tests.refresh.kit import KEY, NAMESPACE, World, passing, stored_token, world
from tests.refresh.rotating import Rotating

_FRESH, _STALE, _EXPIRED = Freshness.FRESH, Freshness.STALE, Freshness.EXPIRED


@pytest.mark.parametrize(
    ("policy", "lifetime", "left", "freshness"),
    [
        # the margins as they are
        (RefreshPolicy(), 86_400, 86_400, _FRESH),
        (RefreshPolicy(), 86_400, 301, _FRESH),
        (RefreshPolicy(), 86_400, 300, _STALE),
        (RefreshPolicy(), 86_400, 11, _STALE),
        (RefreshPolicy(), 86_400, 10, _EXPIRED),
        (RefreshPolicy(), 86_400, 0, _EXPIRED),
        (RefreshPolicy(), 86_400, -1, _EXPIRED),
        # an hour: 300 s are less than a tenth
        (RefreshPolicy(), 3600, 300.5, _FRESH),
        (RefreshPolicy(), 3600, 299.5, _STALE),
        # a minute: a tenth and a twentieth
        (RefreshPolicy(), 60, 60, _FRESH),
        (RefreshPolicy(), 60, 6.5, _FRESH),
        (RefreshPolicy(), 60, 6, _STALE),
        (RefreshPolicy(), 60, 3.5, _STALE),
        (RefreshPolicy(), 60, 3, _EXPIRED),
        # a second
        (RefreshPolicy(), 1, 1, _FRESH),
        (RefreshPolicy(), 1, 0.11, _FRESH),
        (RefreshPolicy(), 1, 0.09, _STALE),
        (RefreshPolicy(), 1, 0.04, _EXPIRED),
        # none at all, or one that makes no sense
        (RefreshPolicy(), 0, 0, _EXPIRED),
        (RefreshPolicy(), -5, 1, _FRESH),
        (RefreshPolicy(), -5, 0, _EXPIRED),
        # margins of one's own
        (RefreshPolicy(soft_margin=0, hard_margin=0), 3600, 1, _FRESH),
        (RefreshPolicy(soft_margin=0, hard_margin=0), 3600, 0, _EXPIRED),
        (RefreshPolicy(soft_margin=30, hard_margin=30), 3600, 31, _FRESH),
        (RefreshPolicy(soft_margin=30, hard_margin=30), 3600, 30, _EXPIRED),
        (RefreshPolicy(soft_margin=float("inf"), hard_margin=float("inf")), 3600, 361, _FRESH),
        (RefreshPolicy(soft_margin=float("inf"), hard_margin=float("inf")), 3600, 360, _STALE),
        (RefreshPolicy(soft_margin=float("inf"), hard_margin=float("inf")), 3600, 180, _EXPIRED),
    ],
)
def test_policy_table(policy: RefreshPolicy, lifetime: float, left: float, freshness: Freshness) -> None:
    now = 1_800_000_000.0
    expires_at = now + left
    token = Token(Secret("CANARY-at"), issued_at=expires_at - lifetime, expires_at=expires_at)
    assert policy.freshness(token, now) is freshness


def test_policy_unknown_expiry_is_stale_after_an_hour_and_never_expired() -> None:
    token = Token(Secret("CANARY-at"), issued_at=1e9)
    assert RefreshPolicy().freshness(token, 1e9 + 3599) is Freshness.FRESH
    assert RefreshPolicy().freshness(token, 1e9 + 3600) is Freshness.STALE
    assert RefreshPolicy(unknown_lifetime=60).freshness(token, 1e9 + 60) is Freshness.STALE
    assert RefreshPolicy().freshness(token, 1e12) is Freshness.STALE
    with pytest.raises(ConfigurationError, match="unknown_lifetime"):
        RefreshPolicy(unknown_lifetime=0)


@pytest.mark.parametrize(("soft", "hard"), [(1, 2), (-1, -1), (5, -1), (float("nan"), 0), (5, float("nan"))])
def test_policy_refuses_margins_in_the_wrong_order(soft: float, hard: float) -> None:
    with pytest.raises(ConfigurationError, match="hard_margin"):
        RefreshPolicy(soft_margin=soft, hard_margin=hard)


async def test_the_clients_policy_is_the_one_that_counts(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    late = RefreshPolicy(soft_margin=0, hard_margin=0)
    async with strict.client(storage, refresh_policy=late) as patient, strict.client(storage) as client:
        token = await strict.log_in(client)
        strict.clock.advance(3599)
        assert await patient.get_token("alice") == token
        assert await client.get_token("alice") != token
    assert len(strict.refreshes) == 1


async def test_a_stale_token_is_refreshed_in_time(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        token = await strict.log_in(client)
        strict.clock.advance(3299)
        assert await client.get_token("alice") == token
        strict.clock.advance(2)
        newer = await asyncio.gather(*(client.get_token("alice") for _ in range(10)))
        assert newer[0] != token
        assert newer == [newer[0]] * 10
    assert len(strict.refreshes) == 1


@pytest.mark.parametrize(
    ("fault", "rest"),
    [
        (faults.status(503), 5),
        (faults.status(503, "", {"Retry-After": "60"}), 60),
        (faults.rate_limited(30), 30),
        (faults.rate_limited(0), 5),
        (faults.rate_limited(1), 5),
        (faults.rate_limited(None), 5),
        (faults.status(401, {"error": "invalid_client"}), 5),
    ],
)
async def test_p10_after_a_failure_a_valid_token_is_served_and_the_server_left_alone(strict: World, fault: Any, rest: float) -> None:
    """For some seconds, or as long as its Retry-After says; for all clients on the storage."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client, strict.client(storage) as other:
        token = await strict.log_in(client)
        strict.clock.advance(3301)
        strict.server.script("token", fault)
        assert await asyncio.gather(*(client.get_token("alice") for _ in range(10))) == [token] * 10
        assert len(strict.refreshes) == 1
        strict.clock.advance(rest - 0.5)
        for asker in (client, other, client):
            assert await asker.get_token("alice") == token
        assert len(strict.refreshes) == 1
        strict.clock.advance(1)
        assert await other.get_token("alice") != token
    assert len(strict.refreshes) == 2


async def test_p10_the_rest_ends_with_the_token(strict: World) -> None:
    """However long Retry-After is: without a valid token there is nothing to serve, so the caller gets a token or an error."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        token = await strict.log_in(client)
        strict.clock.advance(3301)
        strict.server.script("token", faults.rate_limited(3600), times=2)
        assert await client.get_token("alice") == token
        strict.clock.advance(300)
        with pytest.raises(ProviderUnavailable) as caught:
            await client.get_token("alice")
        assert caught.value.retry_after == 3600
        assert await client.get_token("alice") != token


async def test_p10_an_explicit_refresh_does_not_rest_and_ends_the_rest(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.clock.advance(3301)
        strict.server.script("token", faults.rate_limited(7200))
        await client.get_token("alice")
        token = await client.refresh("alice")
        strict.server.expire_access_tokens()
        assert await client.get_token("alice") == token
        strict.clock.advance(3301)
        assert await client.get_token("alice") != token


async def test_p10_a_new_login_ends_the_rest(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.clock.advance(3301)
        strict.server.script("token", faults.rate_limited(7200))
        await client.get_token("alice")
        token = await strict.log_in(client)
        strict.clock.advance(3301)
        assert await client.get_token("alice") != token


async def test_a_valid_token_is_served_when_the_store_does_not_take_the_new_one(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        old = await strict.log_in(client)
        strict.clock.advance(3301)
        storage.faults.extend([refuse] * 6)
        assert await passing(strict.clock, client.get_token("alice")) == old
        newer = await client.get_token("alice")
        assert newer != old
        assert await stored_token(storage) == newer
    assert len(strict.refreshes) == 1


async def test_p19_the_rests_are_bounded(rotating: Rotating, faulty: FaultyStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many forgets them all, which costs each one more try."""
    monkeypatch.setattr(module, "_MAX_RESTS", 3)
    coordinator = rotating.coordinator(faulty)
    keys = [RecordKey(NAMESPACE, f"user-{number}") for number in range(4)]

    async def fail() -> None:
        raise TokenError("no")

    for key in keys:
        await coordinator.login(key, rotating.issue())
    rotating.clock.advance(3301)
    for key in keys:
        rotating.script.append(fail)
        await coordinator.get(key)
    assert len(rotating.sent) == 4
    await coordinator.get(keys[3])
    assert len(rotating.sent) == 4
    rotating.script.append(fail)
    await coordinator.get(keys[0])
    assert len(rotating.sent) == 5


async def test_te_10_a_token_of_unknown_expiry_is_served() -> None:
    async with world(access_token_lifetime=None) as vague:
        storage = FaultyStorage(vague.clock)
        async with vague.client(storage) as client:
            token = await vague.log_in(client)
            assert token.expires_at is None
            vague.clock.advance(3599)
            assert await client.get_token("alice") == token
            assert not vague.refreshes
            vague.clock.advance(1)
            newer = await client.get_token("alice")
            assert newer != token
            vague.clock.advance(10 * 366 * 86_400)
            vague.server.script("token", faults.status(503))
            assert await client.get_token("alice") == newer  # not zero, and not for ever: used on while nothing better is to be had
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
    rotating.clock.advance(3299)
    assert (await coordinator.get(KEY)).access_token == Secret("CANARY-at-1")
    rotating.clock.advance(2)
    assert (await coordinator.get(KEY)).access_token == Secret("CANARY-at-2")


async def test_a_store_that_cannot_be_read_is_an_error(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    faulty.load_faults.append(StorageUnavailable("gone"))
    with pytest.raises(StorageUnavailable):
        await rotating.coordinator(faulty).get(KEY)
    assert not rotating.sent
