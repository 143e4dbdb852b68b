"""What a failed refresh means (P8), whether it may have spent the refresh token, and when and how often it may be tried again (P2, P10)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pauth.core.quirks import Rotation, RotationClass
from pauth.errors import (
    ConfigurationError,
    MalformedResponse,
    PAuthError,
    ProviderUnavailable,
    ReauthorizationRequired,
    StorageUnavailable,
    TokenError,
    UntrustedServer,
)
from pauth.refresh.failures import Failure, after_failure, classify, may_have_spent, rest_left, sends_left, takes_again
from pauth.refresh.stored import NO_ATTEMPTS, Attempts

TRANSIENT, PERMANENT, AMBIGUOUS, CONFIGURATION = Failure.TRANSIENT, Failure.PERMANENT, Failure.AMBIGUOUS, Failure.CONFIGURATION
NOW = 1_800_000_000.0


def unavailable(status: int | None = None, *, sent: bool = True, retry_after: float | None = None) -> ProviderUnavailable:
    return ProviderUnavailable("down", status=status, request_sent=sent, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "kind", "spent"),
    [
        # no answer
        (unavailable(), AMBIGUOUS, True),
        (unavailable(sent=False), TRANSIENT, False),
        # an answer that says: not now
        (unavailable(429), TRANSIENT, False),
        (unavailable(503), TRANSIENT, False),
        (unavailable(408), TRANSIENT, False),
        (unavailable(425), TRANSIENT, False),
        # an answer that says nothing of what was done before it
        (unavailable(500), TRANSIENT, True),
        (unavailable(502), TRANSIENT, True),
        (unavailable(504), TRANSIENT, True),
        (unavailable(400), TRANSIENT, True),
        # an answer that nobody can read
        (MalformedResponse("cut"), AMBIGUOUS, True),
        (MalformedResponse("no JSON", status=200), AMBIGUOUS, True),
        (MalformedResponse("no JSON", status=299), AMBIGUOUS, True),
        (MalformedResponse("a redirect", status=302), CONFIGURATION, False),
        (MalformedResponse("no JSON", status=400), CONFIGURATION, False),
        (MalformedResponse("early hints", status=199), CONFIGURATION, False),
        # a refusal
        (ReauthorizationRequired("dead", reason="invalid_grant"), PERMANENT, False),
        (ReauthorizationRequired("see the user", reason="interaction_required"), CONFIGURATION, False),
        (ReauthorizationRequired("another server", reason="issuer_changed"), CONFIGURATION, False),
        (TokenError("no", error="invalid_client", status=401), CONFIGURATION, False),
        (UntrustedServer("no certificate"), CONFIGURATION, False),
        # an answer that nobody may use
        (UntrustedServer("the ID token of another user", status=200), AMBIGUOUS, True),
        (ConfigurationError("no endpoint"), CONFIGURATION, False),
        (StorageUnavailable("not even a request"), CONFIGURATION, False),
        (PAuthError("whatever comes later"), CONFIGURATION, False),
    ],
)
def test_p8_what_a_failure_means(error: PAuthError, kind: Failure, spent: bool) -> None:
    assert classify(error) is kind
    assert may_have_spent(error) is spent


ATTEMPT = Attempts(attempt_id="a1", under_way=True, deadline=NOW + 20)


def after(error: PAuthError, attempts: Attempts = ATTEMPT, *, chance: float = 1.0, max_backoff: float = 60.0, now: float = NOW) -> Attempts:
    return after_failure(attempts, error, began=now - 15, now=now, max_backoff=max_backoff, chance=chance)


@pytest.mark.parametrize(
    ("error", "failures", "shortest", "longest"),
    [
        (unavailable(503), 0, 0.5, 1.0),
        (unavailable(503), 1, 1.0, 2.0),
        (unavailable(503), 2, 2.0, 4.0),
        (unavailable(503), 5, 16.0, 32.0),
        (unavailable(503), 6, 30.0, 60.0),
        (unavailable(503), 999_999, 30.0, 60.0),  # no number too large
        (unavailable(), 3, 4.0, 8.0),
        # who corrects a setting does not want to wait long
        (TokenError("no", status=401), 0, 0.5, 1.0),
        (TokenError("no", status=401), 10, 10.0, 10.0),
        # what the server asks for, and up to a tenth more
        (unavailable(429, retry_after=30), 0, 30.0, 33.0),
        (unavailable(429, retry_after=30), 10, 30.0, 60.0),  # unless the pause is longer anyway
        (unavailable(503, retry_after=0.25), 0, 0.5, 1.0),
        (unavailable(503, retry_after=0), 0, 0.5, 1.0),
        (unavailable(503, retry_after=-5), 0, 0.5, 1.0),
        (unavailable(503, retry_after=86_400), 0, 3600.0, 3960.0),
        (unavailable(503, retry_after=float("inf")), 0, 0.5, 1.0),
        (unavailable(503, retry_after=float("nan")), 0, 0.5, 1.0),
        (TokenError("no", status=429, retry_after=100), 0, 100.0, 110.0),
    ],
)
def test_p10_when_it_may_be_tried_again(error: PAuthError, failures: int, shortest: float, longest: float) -> None:
    attempts = replace(ATTEMPT, failures=failures)
    assert after(error, attempts, chance=0.0).retry_at == pytest.approx(NOW + shortest)
    assert after(error, attempts, chance=1.0).retry_at == pytest.approx(NOW + longest)
    assert after(error, attempts).failures == failures + 1


def test_p10_the_longest_pause_is_the_policys() -> None:
    assert after(unavailable(503), replace(ATTEMPT, failures=20), max_backoff=7.0).retry_at == NOW + 7.0
    assert after(unavailable(503, retry_after=20), replace(ATTEMPT, failures=20), max_backoff=7.0).retry_at == NOW + 22.0


@pytest.mark.parametrize(
    "error", [unavailable(503), unavailable(429), unavailable(sent=False), TokenError("no"), MalformedResponse("no", status=400)]
)
def test_p2_a_failure_that_spent_nothing_is_no_unanswered_sending(error: PAuthError) -> None:
    known = after(error)
    assert (known.under_way, known.unanswered, known.lost_at, known.suspect) == (False, 0, None, None)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_p2_a_5xx_is_an_answer_that_leaves_a_suspicion(status: int) -> None:
    """The server may have rotated before it failed: if it then refuses the token, that was its own doing."""
    known = after(unavailable(status))
    assert (known.unanswered, known.lost_at, known.suspect) == (0, None, "a1")


def test_p2_sendings_without_an_answer_are_counted_from_the_first() -> None:
    first = after(unavailable())
    assert (first.under_way, first.unanswered, first.suspect) == (False, 1, "a1")
    assert first.lost_at == NOW - 15  # a server's grace began when it answered, which may have been as early
    second = after(unavailable(), replace(first, attempt_id="a2", under_way=True), now=NOW + 100)
    assert (second.unanswered, second.suspect, second.lost_at) == (2, "a2", first.lost_at)
    third = after(unavailable(503), replace(second, attempt_id="a3", under_way=True), now=NOW + 200)
    assert (third.unanswered, third.suspect, third.lost_at, third.failures) == (2, "a2", first.lost_at, 3)


@pytest.mark.parametrize(
    ("pause", "ahead", "seen_for", "left"),
    [
        (10, 10, 0, 10),
        (10, 3, 7, 3),
        (10, 0, 10, 0),
        (10, -5, 15, 0),
        # this machine's clock is behind, or was put back: no longer than it was meant to be
        (10, 3600, 0, 10),
        (10, 3600, 9, 1),
        (10, 3600, 11, 0),
        (10, 1e9, 0, 10),
        # it is ahead
        (3600, 1, 0, 1),
        (3600, -1, 0, 0),
        # a failure that says nothing
        (0, 1e9, 0, 0),
    ],
)
def test_p11_nobody_rests_longer_than_the_pause_was_meant_to_be(pause: float, ahead: float, seen_for: float, left: float) -> None:
    assert rest_left(replace(NO_ATTEMPTS, retry_at=NOW + ahead, pause=pause), NOW, seen_for=seen_for) == pytest.approx(left)


@pytest.mark.parametrize(
    ("error", "refusal", "user_wanted"),
    [
        (TokenError("no", error="invalid_client"), "invalid_client", False),
        (TokenError("no"), None, False),
        (ReauthorizationRequired("see the user", reason="interaction_required"), "interaction_required", True),
        (MalformedResponse("no", status=400), None, False),
        (unavailable(503), None, False),
        (unavailable(), None, False),
    ],
)
def test_p20_a_refusal_is_kept_for_who_asks_while_it_rests(error: PAuthError, refusal: str | None, *, user_wanted: bool) -> None:
    known = after(error)
    assert (known.refusal, known.user_wanted) == (refusal, user_wanted)
    later = after(unavailable(503), known)
    assert (later.refusal, later.user_wanted) == (None, False)


@pytest.mark.parametrize(
    ("error", "shortest", "longest"),
    [(unavailable(), 30.0, 40.0), (MalformedResponse("cut"), 30.0, 40.0), (unavailable(503), 0.5, 1.0), (unavailable(sent=False), 0.5, 1.0)],
)
def test_p2_the_one_retry_at_a_strict_server_is_not_wasted_on_a_short_outage(error: PAuthError, shortest: float, longest: float) -> None:
    pauses = [after_failure(ATTEMPT, error, began=NOW, now=NOW, max_backoff=60.0, chance=chance, strict=True).retry_at - NOW for chance in (0.0, 1.0)]
    assert pauses == [pytest.approx(shortest), pytest.approx(longest)]
    known = after_failure(ATTEMPT, error, began=NOW, now=NOW, max_backoff=60.0, chance=1.0, strict=True)
    assert known.pause == pytest.approx(known.retry_at - NOW)


LENIENT = (RotationClass.NR, RotationClass.RO, RotationClass.RU)
STRICT = (RotationClass.RS, RotationClass.RSF)


@pytest.mark.parametrize("kind", LENIENT)
@pytest.mark.parametrize("attempts", [NO_ATTEMPTS, Attempts(unanswered=50, lost_at=0.0), Attempts(under_way=True, unanswered=3)])
def test_p2_where_a_server_takes_it_again_a_refresh_token_is_always_sent(kind: RotationClass, attempts: Attempts) -> None:
    assert sends_left(attempts, Rotation(kind), now=NOW, ambiguous_retries=0)


@pytest.mark.parametrize("rotation", [*map(Rotation, STRICT), Rotation(RotationClass.RG)])  # whose grace nobody knows
@pytest.mark.parametrize(
    ("unanswered", "under_way", "retries", "left"),
    [
        (0, False, 0, True),
        (0, False, 1, True),
        (1, False, 0, False),
        (0, True, 0, False),
        (1, False, 1, True),
        (0, True, 1, True),
        (1, True, 1, False),
        (2, False, 1, False),
        (2, False, 2, True),
        (999_999, True, 100, False),
    ],
)
def test_p2_where_it_may_be_used_up_it_is_sent_again_only_so_often(
    rotation: Rotation, unanswered: int, under_way: bool, retries: int, left: bool
) -> None:
    attempts = Attempts(unanswered=unanswered, under_way=under_way, lost_at=NOW if unanswered else None)
    assert sends_left(attempts, rotation, now=NOW, ambiguous_retries=retries) is left


@pytest.mark.parametrize(
    ("lost_at", "left"),
    [
        (NOW, True),
        (NOW - 29, True),
        (NOW - 30, False),
        (NOW - 3600, False),
        (NOW + 29, True),  # by another machine's clock
        (NOW + 31, False),
    ],
)
def test_p2_within_the_grace_it_is_sent_again(lost_at: float, left: bool) -> None:
    rotation: Any = Rotation(RotationClass.RG, grace=30.0)
    assert sends_left(Attempts(unanswered=5, lost_at=lost_at), rotation, now=NOW, ambiguous_retries=1) is left
    assert sends_left(Attempts(unanswered=1, lost_at=lost_at), rotation, now=NOW, ambiguous_retries=1)  # as often as anywhere
    assert sends_left(NO_ATTEMPTS, rotation, now=NOW, ambiguous_retries=0)
    assert takes_again(Attempts(unanswered=5, lost_at=lost_at), rotation, now=NOW) is left


@pytest.mark.parametrize(("kind", "taken"), [*((kind, True) for kind in LENIENT), *((kind, False) for kind in STRICT), (RotationClass.RG, False)])
def test_which_servers_take_a_used_refresh_token(kind: RotationClass, *, taken: bool) -> None:
    assert takes_again(NO_ATTEMPTS, Rotation(kind), now=NOW) is taken
