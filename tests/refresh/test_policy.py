"""The policy: two thresholds before expiry, where in its spread a token lies, and options that make sense only."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.core.token import Token
from pauth.errors import ConfigurationError
from pauth.refresh.policy import Freshness, RefreshPolicy, spread
from pauth.secret import Secret

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


# The spread


@pytest.mark.parametrize(
    ("share", "left", "freshness"),
    [
        (0.0, 150.5, _FRESH),
        (0.0, 150, _STALE),
        (0.5, 225.5, _FRESH),
        (0.5, 225, _STALE),
        (1.0, 300.5, _FRESH),
        (1.0, 300, _STALE),
        (0.0, 10, _EXPIRED),
        (1.0, 10, _EXPIRED),
    ],
)
def test_p10_the_soft_margin_is_spread_over_its_second_half(share: float, left: float, freshness: Freshness) -> None:
    token = Token(Secret("CANARY-at"), issued_at=1e9, expires_at=1e9 + 3600)
    assert RefreshPolicy().freshness(token, 1e9 + 3600 - left, spread=share) is freshness


def test_the_soft_threshold_never_comes_after_the_hard_one() -> None:
    """Half of the soft margin may be less than the hard margin."""
    token = Token(Secret("CANARY-at"), issued_at=1e9, expires_at=1e9 + 3600)
    policy = RefreshPolicy(soft_margin=60, hard_margin=50)
    assert policy.thresholds(token, spread=0.0) == (1e9 + 3550, 1e9 + 3550)
    assert policy.thresholds(token, spread=1.0) == (1e9 + 3540, 1e9 + 3550)


def test_the_spread_of_a_token_is_the_same_in_every_process() -> None:
    """A value of another process, written down: it must not follow from this process's hash seed, nor change from version to version."""
    assert spread("acme", "alice", "v1") == pytest.approx(0.05108598341492144)


@pytest.mark.parametrize(
    "changed", [("other", "alice", "v1"), ("acme", "bob", "v1"), ("acme", "alice", "v2"), ("acme\0alice", "", "v1"), ("", "\ud800", "")]
)
def test_the_spread_follows_from_all_of_namespace_user_and_token(changed: tuple[str, str, str]) -> None:
    assert spread(*changed) != spread("acme", "alice", "v1")
    assert 0.0 <= spread(*changed) <= 1.0


def test_p10_tokens_that_were_issued_together_are_refreshed_over_the_whole_spread() -> None:
    tenths = Counter(int(10 * spread("acme", f"user-{number}", f"version-{number}")) for number in range(10_000))
    assert set(tenths) == set(range(10))
    assert all(800 <= count <= 1200 for count in tenths.values())


_SECONDS = st.floats(0, 1e6)


@given(margins=st.tuples(_SECONDS, _SECONDS), lifetime=st.floats(-10, 1e7), share=st.floats(0, 1), moments=st.lists(st.floats(-1e4, 1e7), min_size=2))
def test_a_token_only_ages(margins: tuple[float, float], lifetime: float, share: float, moments: list[float]) -> None:
    """Whatever the policy: fresh, then stale, then expired, each once; and no margin takes more than its share of the lifetime."""
    policy = RefreshPolicy(soft_margin=max(margins), hard_margin=min(margins))
    token = Token(Secret("CANARY-at"), issued_at=1e9, expires_at=1e9 + lifetime)
    soft, hard = policy.thresholds(token, spread=share)
    assert soft <= hard <= 1e9 + lifetime
    assert soft >= 1e9 + lifetime - max(0.0, lifetime) * 0.1 - 1e-6
    order = [_FRESH, _STALE, _EXPIRED]
    seen = [order.index(policy.freshness(token, 1e9 + moment, spread=share)) for moment in sorted(moments)]
    assert seen == sorted(seen)


# The options


@pytest.mark.parametrize(("age", "within", "due"), [(3599, 0, False), (3600, 0, True), (3500, 99, False), (3500, 100, True)])
def test_a_token_of_unknown_expiry_is_due_when_the_lifetime_that_is_assumed_ends(age: float, within: float, due: bool) -> None:
    token = Token(Secret("CANARY-at"), issued_at=1000.0)
    assert RefreshPolicy(unknown_lifetime=3600).is_due(token, 1000.0 + age, within=within) is due


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"cache_age": -1}, "cache_age"),
        ({"cache_age": 3601}, "cache_age"),
        ({"cache_age": float("nan")}, "cache_age"),
        ({"cache_entries": -1}, "cache_entries"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": -1}, "deadline"),
        ({"deadline": float("nan")}, "deadline"),
        ({"lease_margin": 0}, "lease_margin"),
        ({"lease_margin": 3601}, "lease_margin"),
        ({"lease_margin": float("nan")}, "lease_margin"),
        ({"max_backoff": 0.5}, "max_backoff"),
        ({"max_backoff": 3601}, "max_backoff"),
        ({"max_backoff": float("nan")}, "max_backoff"),
        ({"ambiguous_retries": -1}, "ambiguous_retries"),
        ({"ambiguous_retries": 101}, "ambiguous_retries"),
        ({"unknown_lifetime": float("nan")}, "unknown_lifetime"),
        ({"unknown_lifetime": -1}, "unknown_lifetime"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        RefreshPolicy(**options)


def test_options_at_their_limits_are_accepted() -> None:
    limits: dict[str, tuple[Any, ...]] = {
        "cache_age": (0, 3600),
        "cache_entries": (0, 10**9),
        "deadline": (0.001, float("inf")),
        "lease_margin": (0.001, 3600),
        "ambiguous_retries": (0, 100),
        "max_backoff": (1, 3600),
    }
    for values in itertools.product(*limits.values()):
        options = dict(zip(limits, values, strict=True))
        policy = RefreshPolicy(**options)
        assert {name: getattr(policy, name) for name in limits} == options
