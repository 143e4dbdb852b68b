"""What the coordinators over one store share in a process: bounded notes, and tokens that wait."""

from __future__ import annotations

from typing import Any

import pytest

from pauth.core.token import Token
from pauth.errors import ProviderUnavailable, ReauthorizationRequired
from pauth.refresh import shared as module
from pauth.refresh.saving import Unsaved
from pauth.refresh.shared import Shared
from pauth.refresh.stored import NO_ATTEMPTS
from pauth.secret import Secret
from pauth.storage import Record, RecordKey
from pauth.testing import ManualClock
from tests.refresh.kit import KEY
from tests.refresh.rotating import Rotating


def unsaved(rotating: Rotating, *, version: int = 2, predecessor: bytes = b"one") -> Unsaved:
    return Unsaved("a1", predecessor, version, b"two", rotating.issue(), None)


def record(version: int, lineage: bytes | None) -> Record:
    return Record(KEY, {}, version, 0.0, None, lineage)


def test_a_token_rests_until_its_moment_and_its_successor_does_not() -> None:
    shared = Shared()
    shared.rest(KEY, "v1", 1000.0, ProviderUnavailable("down"))
    found = shared.resting(KEY, "v1", 999.0)
    assert found is not None
    assert found[0] == 1.0
    assert shared.resting(KEY, "v1", 1000.0) is None
    assert shared.resting(KEY, "v2", 0.0) is None
    assert shared.resting(RecordKey("acme", "bob"), "v1", 0.0) is None


def test_who_asks_too_early_gets_the_failure_once_more() -> None:
    """Of its own class, and a new one each time."""
    shared = Shared()
    original = ReauthorizationRequired("log in", reason="invalid_grant", error="x", status=400)
    try:
        raise original
    except ReauthorizationRequired as error:
        shared.rest(KEY, "v1", 1000.0, error)
    found = shared.resting(KEY, "v1", 990.0)
    assert found is not None
    left, rest = found
    again: Any = rest.after(left)
    assert (type(again), again.reason, again.error, again.status, again.retry_after) == (ReauthorizationRequired, "invalid_grant", "x", 400, 10.0)
    assert str(again) == "log in (it is tried again in 10.0 seconds)"
    assert again is not rest.after(left)
    assert rest.failure is not original
    assert rest.failure.__traceback__ is None  # its frames hold tokens and clients
    assert original.retry_after is None


def test_p11_an_attempt_is_seen_for_the_first_time_once() -> None:
    shared = Shared()
    assert shared.first_seen("a1", 5.0) == 5.0
    assert shared.first_seen("a1", 9.0) == 5.0
    assert shared.first_seen("a2", 9.0) == 9.0
    assert shared.first_seen(None, 11.0) == 11.0
    assert shared.first_seen(None, 12.0) == 12.0


def test_p19_all_notes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_NOTES", 3)
    monkeypatch.setattr(module, "_MAX_AHEAD", 3)
    clock = ManualClock()
    shared = Shared()
    for number in range(10):
        shared.rest(RecordKey("acme", f"user-{number}"), "v1", 1000.0, ProviderUnavailable("down"))
        shared.first_seen(f"a{number}", float(number))
        shared.now_for(Token(Secret(f"CANARY-{number}"), issued_at=clock.time() + 700.0), clock)
    assert len(shared.ahead) == 3
    assert [key.user_id for key in shared.rests] == ["user-7", "user-8", "user-9"]
    assert list(shared.seen) == ["a7", "a8", "a9"]


def test_p15_notes_that_another_thread_changes_in_the_same_moment_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one more of them then, for once."""

    class Changing(dict[str, Any]):
        def __iter__(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(module, "_MAX_NOTES", 2)
    shared = Shared()
    shared.outcomes = Changing()
    for number in range(3):
        shared.note_outcome(str(number), NO_ATTEMPTS)
    assert len(shared.outcomes) == 3


def test_the_successor_of_a_record_is_the_one_that_names_it(rotating: Rotating) -> None:
    shared = Shared()
    waiting = unsaved(rotating)
    assert shared.unsaved_successor(record(2, b"one")) is None
    shared.unsaved[KEY] = waiting
    for version in (1, 2, 3, 9):  # notes may have come since, or have not been read yet
        assert shared.unsaved_successor(record(version, b"one")) is waiting


def test_a_token_waits_no_more_when_something_newer_stands_there(rotating: Rotating) -> None:
    shared = Shared()
    waiting = unsaved(rotating)
    shared.unsaved[KEY] = waiting
    assert shared.unsaved_successor(record(1, b"zero")) is None  # read a while ago
    assert shared.unsaved[KEY] is waiting
    assert shared.unsaved_successor(record(3, b"other")) is None
    assert shared.unsaved == {}


def test_only_the_token_that_is_meant_is_forgotten(rotating: Rotating) -> None:
    shared = Shared()
    first, second = unsaved(rotating), unsaved(rotating)
    shared.unsaved[KEY] = second
    assert not shared.forget(KEY, first)
    assert shared.unsaved == {KEY: second}
    assert shared.forget(KEY, second)
    assert not shared.forget(KEY, second)


def test_a_token_that_waits_does_not_print(rotating: Rotating) -> None:
    assert repr(unsaved(rotating)) == "<Unsaved version=2>"


def test_one_namespace_has_one_cache_and_one_endpoint_one_breaker(clock: ManualClock) -> None:
    shared = Shared()
    assert shared.cache("acme", 10, clock.monotonic) is shared.cache("acme", 99, clock.monotonic)
    assert shared.cache("acme", 10, clock.monotonic) is not shared.cache("other", 10, clock.monotonic)
    assert shared.breaker("https://a", clock.monotonic) is shared.breaker("https://a", clock.monotonic)
    assert shared.breaker("https://a", clock.monotonic) is not shared.breaker("https://b", clock.monotonic)
