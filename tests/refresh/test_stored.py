"""What stands in a record besides the token: whether its grant has ended, and what is known of attempts; whatever somebody has written there."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.core.token import Token, token_to_dict
from pauth.errors import ProviderUnavailable, ReauthorizationRequired, StorageUnavailable
from pauth.refresh.stored import NO_ATTEMPTS, Attempts, StoredGrant, read_grant, write_grant
from tests.refresh.faulty import FaultyStorage, refuse
from tests.refresh.kit import KEY, passing, stored_token
from tests.refresh.rotating import Rotating, failing

FULL = Attempts(
    attempt_id="a2",
    under_way=True,
    deadline=1_800_000_020.5,
    retry_of="a1",
    suspect="a1",
    unanswered=1,
    lost_at=1_800_000_000.25,
    failures=3,
    retry_at=1_800_000_060.0,
    pause=45.5,
    refusal="interaction_required",
    user_wanted=True,
)


def read_back(rotating: Rotating, grant: StoredGrant) -> StoredGrant:
    del rotating
    return read_grant(json.loads(json.dumps(write_grant(grant))))


def test_every_field_of_attempts_is_read_as_it_was_written(rotating: Rotating) -> None:
    for field in fields(Attempts):
        assert getattr(FULL, field.name) != getattr(NO_ATTEMPTS, field.name), f"give FULL a {field.name} of its own"
        alone = replace(NO_ATTEMPTS, **{field.name: getattr(FULL, field.name)})
        grant = StoredGrant(rotating.issue(), attempts=alone)
        assert read_back(rotating, grant) == grant
    grant = StoredGrant(rotating.issue(), "invalid_grant", FULL)
    assert read_back(rotating, grant) == grant


def test_what_says_nothing_takes_no_room(rotating: Rotating) -> None:
    """A million records have no attempts most of the time."""
    token = rotating.issue()
    assert write_grant(StoredGrant(token)) == token_to_dict(token)
    noted = write_grant(StoredGrant(token, attempts=replace(NO_ATTEMPTS, failures=1)))
    assert noted["refresh_attempts"] == {"failures": 1}
    assert read_grant(write_grant(StoredGrant(token, attempts=replace(NO_ATTEMPTS)))).attempts == NO_ATTEMPTS


@given(
    st.builds(
        Attempts,
        attempt_id=st.none() | st.text(min_size=1),
        under_way=st.booleans(),
        deadline=st.floats(0, 1e12),
        retry_of=st.none() | st.text(min_size=1),
        suspect=st.none() | st.text(min_size=1),
        unanswered=st.integers(0, 999_999),
        lost_at=st.none() | st.floats(0, 1e12),
        failures=st.integers(0, 999_999),
        retry_at=st.floats(0, 1e12),
        pause=st.floats(0, 1e12),
        refusal=st.none() | st.text(min_size=1),
        user_wanted=st.booleans(),
    )
)
def test_whatever_is_known_is_read_as_it_was_written(attempts: Attempts) -> None:
    token = {"access_token": "CANARY-at"}
    grant = StoredGrant(read_grant(token).token, attempts=attempts)
    assert read_grant(json.loads(json.dumps(write_grant(grant)))) == grant


HOSTILE: list[Any] = [
    None,
    "",
    "under_way",
    0,
    1,
    True,
    [],
    [1],
    {},
    {"under_way": "yes", "attempt_id": 7, "deadline": "soon", "retry_of": [], "suspect": {}, "unanswered": -1, "lost_at": -5, "failures": 1e3},
    {"under_way": 1, "attempt_id": "", "deadline": True, "retry_of": "", "unanswered": True, "lost_at": False, "failures": 10**9, "retry_at": 1e300},
    {"deadline": float("nan"), "lost_at": float("inf"), "retry_at": float("-inf"), "pause": float("nan"), "failures": None, "unanswered": 2**70},
    {"retry_at": 10**400, "deadline": [1], "pause": "1", "refusal": 7, "user_wanted": "no"},
    {"unknown": {"members": ["of", "a", "newer", "pauth"]}},
]


@pytest.mark.parametrize("written", HOSTILE, ids=range(len(HOSTILE)))
def test_p18_what_cannot_be_understood_counts_as_nothing(written: Any) -> None:
    """By another program, by a newer pauth, or by somebody who means harm: it never keeps a token from being used or refreshed."""
    grant = read_grant({"access_token": "CANARY-at", "refresh_attempts": written})
    assert grant.attempts == NO_ATTEMPTS
    assert grant.ended is None


def test_p18_of_what_can_be_understood_in_part_that_part_counts() -> None:
    grant = read_grant({"access_token": "CANARY-at", "refresh_attempts": {"under_way": True, "deadline": "soon", "attempt_id": "a1", "newer": 1}})
    assert grant.attempts == Attempts(attempt_id="a1", under_way=True)


_SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text()


@given(st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_reading_attempts_never_fails(written: Any) -> None:
    attempts = read_grant({"access_token": "CANARY-at", "refresh_attempts": written}).attempts
    assert 0 <= attempts.deadline <= 1e12
    assert 0 <= attempts.retry_at <= 1e12
    assert 0 <= attempts.failures < 1_000_000
    assert 0 <= attempts.unanswered < 1_000_000


NEWER = {"sender_key": "CANARY-of a newer pauth", "pinned": {"a": [1, None]}, "nothing": None}


def test_p18_what_is_not_known_stays(rotating: Rotating) -> None:
    """It may be a secret, so it is not printed."""
    grant = read_grant(token_to_dict(rotating.issue()) | NEWER | {"expires_in": 3600})
    assert grant.others == NEWER
    assert "newer" not in repr(grant)
    assert write_grant(grant) == token_to_dict(grant.token) | NEWER
    assert read_back(rotating, grant) == grant


async def test_p18_what_a_newer_version_keeps_with_a_grant_outlives_refreshes_until_the_next_login(rotating: Rotating, faulty: FaultyStorage) -> None:
    """A failed one, one that succeeds, a token that waited for the store, a refusal and a revocation."""

    async def others() -> dict[str, Any]:
        record = await faulty.load(KEY)
        assert record is not None
        return {name: record.tokens.get(name) for name in NEWER}

    coordinator = rotating.coordinator(faulty)
    token = rotating.issue()
    await faulty.replace(KEY, token_to_dict(token) | NEWER, expected_version=None)
    rotating.script.append(failing(ProviderUnavailable("down", status=503)))
    with pytest.raises(ProviderUnavailable):
        await coordinator.refresh(KEY)
    assert await others() == NEWER
    rotating.clock.advance(60)
    assert await coordinator.refresh(KEY) == rotating.last
    assert await others() == NEWER
    faulty.faults.extend([refuse] * 6)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.refresh(KEY))
    await coordinator.drain()
    assert await stored_token(faulty) == rotating.last
    assert await others() == NEWER
    rotating.script.append(failing(ReauthorizationRequired("dead", reason="invalid_grant")))
    with pytest.raises(ReauthorizationRequired):
        await rotating.coordinator(faulty).refresh(KEY)
    assert await others() == NEWER
    with pytest.raises(ProviderUnavailable):
        await coordinator.end(KEY, failing_revocation)
    assert await others() == NEWER
    await coordinator.login(KEY, rotating.issue())
    assert await others() == dict.fromkeys(NEWER)


async def failing_revocation(_: Token) -> None:
    raise ProviderUnavailable("down", status=503)


async def test_p18_a_store_that_fell_back_gets_it_back_too(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    await faulty.replace(KEY, token_to_dict(rotating.issue()) | NEWER, expected_version=None)
    await coordinator.refresh(KEY)
    go_back = faulty.snapshot()
    await coordinator.refresh(KEY)
    go_back()
    assert await coordinator.get(KEY) == rotating.last
    record = await faulty.load(KEY)
    assert record is not None
    assert NEWER.items() <= record.tokens.items()


def test_attempts_hold_no_secret(rotating: Rotating) -> None:
    """They may be printed, logged and told."""
    assert "CANARY" not in repr(StoredGrant(rotating.issue(), "revoked", FULL))
