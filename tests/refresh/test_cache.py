"""Tokens in memory: one read of a dict; only newer versions replace what is there; bounded; nothing comes back that was dropped."""

from __future__ import annotations

import threading

import pytest

from pauth.core.token import Token
from pauth.refresh.cache import Cached, TokenCache
from pauth.secret import Secret
from pauth.testing import ManualClock

NEVER = float("-inf")


@pytest.fixture
def cache(clock: ManualClock) -> TokenCache:
    return TokenCache(100, clock.monotonic)


def token(name: object) -> Token:
    return Token(Secret(f"CANARY-{name}"))


def entry(clock: ManualClock, version: int, *, seconds: float = 10.0, lineage: bytes | None = None, predecessor: bytes | None = None) -> Cached:
    return Cached(token(version), clock.monotonic() + seconds, version, lineage, predecessor)


def test_a_token_is_given_until_its_moment(cache: TokenCache, clock: ManualClock) -> None:
    assert cache.get("alice") is None
    assert cache.latest("alice") is None
    assert cache.put("alice", entry(clock, 1))
    clock.advance(9.999)
    assert cache.get("alice") == token(1)
    clock.advance(0.001)
    assert cache.get("alice") is None
    latest = cache.latest("alice")
    assert latest is not None
    assert latest.version == 1  # what was last seen is still known
    assert cache.get("bob") is None


def test_an_older_version_does_not_replace_a_newer_one(cache: TokenCache, clock: ManualClock) -> None:
    for version, kept in ((2, 2), (1, 2), (3, 3), (2, 3)):
        assert cache.put("alice", entry(clock, version)) is (version == kept)
        assert cache.get("alice") == token(kept)


def test_the_same_version_says_how_long_it_may_be_given(cache: TokenCache, clock: ManualClock) -> None:
    cache.put("alice", entry(clock, 1, seconds=10))
    assert cache.put("alice", entry(clock, 1, seconds=60))
    clock.advance(30)
    assert cache.get("alice") == token(1)
    assert cache.put("alice", entry(clock, 1, seconds=0))
    assert cache.get("alice") is None


def test_what_was_dropped_does_not_come_back(cache: TokenCache, clock: ManualClock) -> None:
    """A reader that was under way puts the version that was marked, or one before it."""
    cache.put("alice", entry(clock, 5))
    cache.drop("alice", 6)
    for version in (5, 6):
        assert not cache.put("alice", entry(clock, version))
        assert cache.get("alice") is None
    assert cache.put("alice", entry(clock, 7))
    assert cache.get("alice") == token(7)


def test_dropping_an_older_version_harms_no_newer_one(cache: TokenCache, clock: ManualClock) -> None:
    cache.put("alice", entry(clock, 5))
    cache.drop("alice", 4)
    assert cache.get("alice") == token(5)
    cache.drop("alice", 5)
    assert cache.get("alice") is None


def test_what_was_forgotten_leaves_no_trace(cache: TokenCache, clock: ManualClock) -> None:
    cache.put("alice", entry(clock, 5))
    cache.forget("alice")
    cache.forget("bob")
    assert cache.latest("alice") is None
    assert cache.put("alice", entry(clock, 1))
    assert cache.get("alice") == token(1)


@pytest.mark.parametrize("everybody", [True, False])
def test_what_has_expired_is_not_given_and_stays_known(cache: TokenCache, clock: ManualClock, *, everybody: bool) -> None:
    cache.put("alice", entry(clock, 5))
    cache.put("bob", entry(clock, 1))
    cache.expire(None if everybody else "alice")
    cache.expire("carol")
    assert cache.get("alice") is None
    assert cache.get("bob") == (None if everybody else token(1))
    latest = cache.latest("alice")
    assert latest is not None
    assert (latest.version, latest.token) == (5, token(5))
    assert not cache.put("alice", entry(clock, 4))
    assert cache.put("alice", entry(clock, 5))
    assert cache.get("alice") == token(5)


def test_all_that_has_expired_is_put_aside_as_a_whole_and_only_once(cache: TokenCache, clock: ManualClock) -> None:
    """A watch that loses its connection again and again must not forget what was seen, nor pile it up."""
    for number in range(50):
        cache.put(f"user-{number}", entry(clock, 7))
    for _ in range(3):
        cache.expire()
    assert len(cache) == 0
    assert all(cache.latest(f"user-{number}") is not None for number in range(50))
    assert not cache.put("user-1", entry(clock, 6))
    cache.put("user-1", entry(clock, 8))
    cache.expire()
    latest = cache.latest("user-1")
    assert latest is not None
    assert latest.version == 8
    cache.drop("user-1", 9)
    cache.forget("user-1")
    assert cache.latest("user-1") is None


def test_the_lineage_that_was_replaced_here_stays_known_while_the_refresh_token_does(cache: TokenCache, clock: ManualClock) -> None:
    cache.put("alice", entry(clock, 2, lineage=b"two", predecessor=b"one"))
    cache.put("alice", entry(clock, 3, lineage=b"two"))  # read again, with a note in the record
    latest = cache.latest("alice")
    assert latest is not None
    assert (latest.version, latest.predecessor) == (3, b"one")
    cache.put("alice", entry(clock, 4, lineage=b"three"))  # somebody else has refreshed it
    latest = cache.latest("alice")
    assert latest is not None
    assert latest.predecessor is None
    cache.put("alice", entry(clock, 5, lineage=b"four", predecessor=b"three"))
    latest = cache.latest("alice")
    assert latest is not None
    assert latest.predecessor == b"three"


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_p19_the_oldest_make_room(clock: ManualClock, limit: int) -> None:
    cache = TokenCache(limit, clock.monotonic)
    for number in range(20):
        cache.put(f"user-{number}", entry(clock, 1))
        assert len(cache) <= limit
    kept = [number for number in range(20) if cache.get(f"user-{number}") is not None]
    assert kept == list(range(20 - limit, 20))
    cache.put(f"user-{20 - limit}", entry(clock, 2))  # newest again
    cache.put("another", entry(clock, 1))
    assert (cache.get(f"user-{20 - limit}") is not None) == (limit > 1)


def test_p19_without_room_nothing_is_kept(clock: ManualClock) -> None:
    cache = TokenCache(0, clock.monotonic)
    assert cache.put("alice", entry(clock, 1))
    assert cache.get("alice") is None
    assert len(cache) == 0


@pytest.mark.parametrize("room", [10, 100])
def test_p15_of_many_threads_the_newest_version_stays(clock: ManualClock, room: int) -> None:
    """Where it has to make room, an older version may come back for as long as an entry is kept; but there are never more entries than that."""
    cache = TokenCache(room, clock.monotonic)
    together = threading.Barrier(8)
    seen: list[list[int]] = []

    def write(first: int) -> None:
        together.wait()
        for version in range(first, 4000, 4):
            cache.put("alice", entry(clock, version))
            cache.put(f"user-{version % 40}", entry(clock, version))

    def read() -> None:
        together.wait()
        versions: list[int] = []
        for _ in range(4000):
            latest = cache.latest("alice")
            versions.append(0 if latest is None else latest.version)
        seen.append(versions)

    threads = [threading.Thread(target=write, args=(first,)) for first in range(1, 5)] + [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) <= room
    if room == 100:
        assert all(versions == sorted(versions) for versions in seen)


def test_a_record_that_has_gone_is_kept_as_that(cache: TokenCache, clock: ManualClock) -> None:
    cache.put("alice", entry(clock, 5))
    cache.put("alice", Cached(None, NEVER, 6, gone=True))
    latest = cache.latest("alice")
    assert latest is not None
    assert latest.gone
    assert cache.get("alice") is None
    assert not cache.put("alice", entry(clock, 6))
    assert cache.put("alice", entry(clock, 7))
    latest = cache.latest("alice")
    assert latest is not None
    assert not latest.gone
