"""P10: a token endpoint that fails whoever asks is left alone, but for one probe at a time, in one process and between them."""

from __future__ import annotations

import threading

import pytest

from pauth.errors import ProviderUnavailable
from pauth.refresh.failures import Breaker
from pauth.storage import RecordKey
from pauth.testing import ManualClock
from tests.refresh.kit import NAMESPACE

USERS = [RecordKey(NAMESPACE, f"user-{number}") for number in range(20)]
DOWN = ProviderUnavailable("down", status=503)


# The breaker itself


def failures(breaker: Breaker, number: int, retry_after: float | None = None) -> list[float | None]:
    return [breaker.failed(retry_after=retry_after) for _ in range(number)]


def opened(clock: ManualClock) -> Breaker:
    breaker = Breaker(clock.monotonic)
    assert failures(breaker, 5) == [None, None, None, None, 5.0]
    return breaker


def test_it_opens_after_five_failures_in_a_row(clock: ManualClock) -> None:
    breaker = Breaker(clock.monotonic)
    for _ in range(3):
        assert failures(breaker, 4) == [None] * 4
        assert (breaker.is_open, breaker.wait(), breaker.pause) == (False, 0.0, 0.0)
        assert breaker.succeeded() is None
    assert failures(breaker, 5)[-1] == 5.0
    assert (breaker.is_open, breaker.wait(), breaker.pause) == (True, 5.0, 5.0)


def test_who_only_asks_how_long_is_not_the_probe(clock: ManualClock) -> None:
    breaker = Breaker(clock.monotonic)
    assert breaker.left == 0.0
    failures(breaker, 5)
    clock.advance(3)
    assert breaker.left == 2.0
    clock.advance(3)
    assert breaker.left == breaker.left == breaker.wait() == 0.0
    assert breaker.wait() == 5.0


def test_while_it_is_open_one_caller_is_the_probe(clock: ManualClock) -> None:
    breaker = opened(clock)
    clock.advance(4)
    assert breaker.wait() == 1.0
    clock.advance(1)
    assert breaker.wait() == 0.0
    assert breaker.wait() == 5.0  # somebody is asking
    assert breaker.succeeded() == 5.0
    assert (breaker.is_open, breaker.wait(), breaker.wait()) == (False, 0.0, 0.0)
    assert failures(breaker, 4) == [None] * 4  # counted from the beginning


def test_a_failed_probe_doubles_the_pause_up_to_a_minute(clock: ManualClock) -> None:
    breaker = opened(clock)
    for pause in (10.0, 20.0, 40.0, 60.0, 60.0):
        clock.advance(breaker.wait())
        assert breaker.wait() == 0.0
        assert breaker.failed(retry_after=None) == pause
        assert breaker.wait() == breaker.pause == pause
    clock.advance(100)
    assert breaker.succeeded() == 5 + 10 + 20 + 40 + 60 + 100
    assert failures(breaker, 5)[-1] == 5.0


@pytest.mark.parametrize(("retry_after", "pause"), [(30.0, 30.0), (1.0, 5.0), (86_400.0, 60.0), (float("inf"), 60.0), (float("nan"), 5.0)])
def test_it_stays_open_as_long_as_the_server_asks_for(clock: ManualClock, retry_after: float, pause: float) -> None:
    breaker = Breaker(clock.monotonic)
    assert failures(breaker, 5, retry_after)[-1] == pause
    assert breaker.wait() == pause


def test_a_probe_that_learnt_nothing_makes_room_for_another(clock: ManualClock) -> None:
    breaker = opened(clock)
    clock.advance(5)
    assert breaker.wait() == 0.0
    breaker.gave_up()
    assert breaker.is_open
    assert breaker.wait() == 0.0
    assert breaker.wait() == 5.0


def test_of_failures_of_one_user_in_a_row_one_counts(clock: ManualClock) -> None:
    """He rests by himself, and must not stop everybody."""
    breaker = Breaker(clock.monotonic)
    assert [breaker.failed(retry_after=None, who="alice") for _ in range(50)] == [None] * 50
    assert [breaker.failed(retry_after=None, who=who) for who in ("bob", "bob", "alice", "bob")] == [None, None, None, None]
    assert breaker.failed(retry_after=None, who="carol") == 5.0
    clock.advance(5)
    assert breaker.wait() == 0.0
    assert breaker.failed(retry_after=None, who="carol") == 10.0  # a probe is a probe


def test_a_probe_that_tells_nothing_is_forgotten_after_two_minutes(clock: ManualClock) -> None:
    """Its event loop was stopped, or stayed behind in a fork."""
    breaker = opened(clock)
    clock.advance(5)
    assert breaker.wait() == 0.0
    clock.advance(119.9)
    assert breaker.wait() == 5.0
    clock.advance(0.1)
    assert (breaker.wait(), breaker.wait()) == (0.0, 5.0)


def test_a_token_that_is_newer_than_the_last_failure_closes_it(clock: ManualClock) -> None:
    """Somebody else has got it, perhaps another process."""
    breaker = opened(clock)
    clock.advance(3)
    assert breaker.heard(3.5) is None  # issued before the last failure
    assert breaker.heard(3.0) is None
    assert breaker.is_open
    assert breaker.heard(2.5) == 3.0
    assert not breaker.is_open
    assert breaker.heard(0.0) is None


def test_failures_of_what_was_sent_before_it_opened_do_not_count(clock: ManualClock) -> None:
    breaker = opened(clock)
    clock.advance(4)
    assert failures(breaker, 100) == [None] * 100
    assert (breaker.wait(), breaker.pause) == (1.0, 5.0)


def test_threads_that_ask_at_once_make_one_probe(clock: ManualClock) -> None:
    breaker = opened(clock)
    clock.advance(5)
    together = threading.Barrier(16)
    answers: list[float] = []

    def ask() -> None:
        together.wait()
        answers.append(breaker.wait())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [0.0] + [5.0] * 15


def test_threads_that_fail_at_once_open_it_once(clock: ManualClock) -> None:
    breaker = Breaker(clock.monotonic)
    together = threading.Barrier(16)
    told: list[float | None] = []

    def fail() -> None:
        together.wait()
        told.append(breaker.failed(retry_after=None))

    threads = [threading.Thread(target=fail) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each for each in told if each is not None] == [5.0]
