"""K1, K2, K3 and the deaths of grants find what was planted, and nothing where nothing was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pauth.core.quirks import RotationClass
from tests.chaos.checkers import (
    k1_no_double_spend,
    k1_recorded,
    k2_single_flight,
    k3_chain,
    lost_rotations,
    needless_refreshes,
    no_false_death,
    one_refresh_each,
)
from tests.chaos.history import Run
from tests.chaos.samples import attempt, call, clean, exchange, write

STRICT = (RotationClass.RS, RotationClass.RSF)
KIND = RotationClass.__members__.values()


@pytest.mark.parametrize("rotation", KIND)
def test_a_clean_history_passes(rotation: RotationClass) -> None:
    run = clean(rotation)
    assert k1_no_double_spend(run) == []
    assert k1_recorded(run) == []
    assert k2_single_flight(run) == []
    assert k3_chain(run) == []
    assert no_false_death(run) == []
    assert needless_refreshes(run) == []
    assert one_refresh_each(run, 2, ["alice"]) == []
    assert lost_rotations(run, "alice") == []


# --- K1


@pytest.mark.parametrize("rotation", KIND)
def test_k1_finds_two_sends_at_once(rotation: RotationClass) -> None:
    run = clean(rotation)
    run.attempts.append(attempt("rt0", 10.3, 10.5, "refused", error="invalid_grant", process="p2"))
    (found,) = k1_no_double_spend(run)
    assert "p1 and again by p2: while the first request was under way" in found


@pytest.mark.parametrize("rotation", KIND)
def test_k1_finds_a_token_sent_after_its_successor_was_stored(rotation: RotationClass) -> None:
    run = clean(rotation)
    run.attempts.append(attempt("rt0", 15.0, 15.1, "refused", error="invalid_grant", process="p2"))
    # where nothing rotates it is the same token that is sent at the next expiry
    assert len(k1_no_double_spend(run)) == (0 if rotation is RotationClass.NR else 1)


@pytest.mark.parametrize("rotation", KIND)
def test_k1_finds_a_token_sent_after_it_was_refused_for_good(rotation: RotationClass) -> None:
    run = clean(rotation)
    run.exchanges.clear()
    run.attempts = [attempt("rt0", 10.0, 10.1, "refused", error="invalid_grant"), attempt("rt0", 14.0, 14.1, "refused", error="invalid_grant")]
    (found,) = k1_no_double_spend(run)
    assert "after the server had refused it for good" in found


def crashed(rotation: RotationClass, again: float) -> Run:
    """p1 was killed with the answer in its hand, and p2 sent the token again."""
    run = clean(rotation)
    run.writes = run.writes[:3]
    run.exchanges = run.exchanges[:3]
    run.attempts = [attempt("rt0", 10.25, 10.4, "ok", at="at1"), attempt("rt0", again, again + 0.1, "refused", error="invalid_grant", process="p2")]
    run.deaths = {"p1": 10.45}
    run.loads.clear()
    return run


@pytest.mark.parametrize("rotation", KIND)
def test_k1_lets_a_token_be_sent_again_whose_answer_was_lost_with_its_process(rotation: RotationClass) -> None:
    assert k1_no_double_spend(crashed(rotation, 12.3)) == []


@pytest.mark.parametrize("rotation", STRICT)
def test_k1_wants_the_deadline_to_have_passed_where_a_token_is_taken_once(rotation: RotationClass) -> None:
    (found,) = k1_no_double_spend(crashed(rotation, 11.0))
    assert "1.25 s before the deadline" in found
    assert k1_no_double_spend(crashed(RotationClass.RU, 11.0)) == []


@pytest.mark.parametrize("rotation", STRICT)
def test_k1_counts_to_two(rotation: RotationClass) -> None:
    run = crashed(rotation, 12.3)
    run.attempts[1] = replace(run.attempts[1], outcome="ambiguous", error=None)
    assert k1_no_double_spend(run) == []
    run.attempts.append(attempt("rt0", 15.0, 15.1, "ok", process="p2"))
    (found,) = k1_no_double_spend(run)
    assert "was sent 3 times" in found


@pytest.mark.parametrize("rotation", KIND)
def test_k1_does_not_count_what_the_server_has_not_done_or_not_seen(rotation: RotationClass) -> None:
    run = clean(rotation)
    run.attempts[:0] = [attempt("rt0", 10.0 + n / 100, 10.005 + n / 100, "refused", status=503) for n in range(5)]
    run.attempts[:0] = [attempt("rt0", 9.0, 9.1, "unsent")] * 5
    assert k1_no_double_spend(run) == []


def test_k1_finds_a_send_that_nobody_wrote_down() -> None:
    run = clean()
    run.exchanges.append(exchange(15.0, "rt1", outcome="invalid_grant"))
    (found,) = k1_no_double_spend(run)
    assert "the server saw rt1 2 times" in found


def test_k1_finds_a_send_without_an_intent() -> None:
    run = clean()
    run.writes[2] = replace(run.writes[2], intent=None)
    assert k1_recorded(run) == ["K1: p1 sent rt0 without having said so in the store"]


@pytest.mark.parametrize("change", [{"t1": 10.3}, {"t1": None, "version": None}, {"process": "p2"}, {"rt": "rt9"}])
def test_k1_wants_the_intent_acknowledged_before_the_send_and_of_its_own(change: dict[str, Any]) -> None:
    run = clean()
    run.writes[2] = replace(run.writes[2], **change)
    assert k1_recorded(run) == ["K1: p1 sent rt0 without having said so in the store"]


def test_k1_wants_one_intent_for_each_send_and_a_retry_to_be_called_one() -> None:
    run = crashed(RotationClass.RSF, 12.3)
    assert k1_recorded(run) == ["K1: p2 sent rt0 without having said so in the store"]
    run.writes.append(write(3, "at0", "rt0", 12.1, 12.2, 2, process="p2", intent="again"))
    assert k1_recorded(run) == ["K1: p2 sent rt0 again without having said that it is a retry"]
    run.writes[-1] = replace(run.writes[-1], retry_of="first")
    assert k1_recorded(run) == []


def test_k1_forgets_what_was_in_doubt_once_a_server_that_does_not_rotate_has_answered() -> None:
    run = crashed(RotationClass.NR, 12.3)
    run.attempts[1] = replace(run.attempts[1], outcome="ok", error=None)
    run.attempts.append(attempt("rt0", 22.0, 22.1, "ok", process="p2"))
    run.writes.append(write(3, "at0", "rt0", 12.1, 12.2, 2, process="p2", intent="again", retry_of="first"))
    run.writes.append(write(5, "at0", "rt0", 21.1, 21.2, 4, process="p2", intent="usual"))
    assert k1_recorded(run) == []
    assert k1_no_double_spend(run) == []


# --- K2


@pytest.mark.parametrize("rotation", KIND)
def test_k2_finds_refreshes_of_one_user_that_overlap(rotation: RotationClass) -> None:
    run = clean(rotation)
    run.attempts.append(attempt("rt1", 20.35, 20.5, "ok"))
    (found,) = k2_single_flight(run)
    assert "a refresh of alice by p1 began 0.050 s before that of p2 was over" in found


def test_k2_lets_users_be_refreshed_at_once() -> None:
    run = clean()
    run.attempts.append(attempt("rtb", 20.3, 20.5, "ok", process="p1"))
    assert k2_single_flight(run) == []


def test_k2_lets_a_refresh_begin_when_the_one_before_is_past_its_deadline_or_its_process_dead() -> None:
    run = clean()
    run.attempts[0] = replace(run.attempts[0], t1=19.0)  # it stood still
    run.attempts.append(attempt("rt0", 12.26, 12.4, "ok", process="p2"))
    assert k2_single_flight(run) == []
    run.attempts[-1] = replace(run.attempts[-1], t0=12.2)
    assert len(k2_single_flight(run)) == 1
    run.deaths = {"p1": 12.1}
    assert k2_single_flight(run) == []


# --- K3


def test_k3_finds_a_version_that_two_were_told_to_have_made() -> None:
    run = clean()
    run.writes.append(write(3, "at9", "rt9", 10.5, 10.7, 2, process="p2"))
    assert any("version 3 of alice is two: p1 and p2" in found for found in k3_chain(run))


def test_k3_finds_a_token_that_is_not_the_successor_of_the_one_it_replaced() -> None:
    run = clean()
    run.exchanges[3] = exchange(20.3, "rt0", "at2", "rt2")
    (found,) = k3_chain(run)
    assert "p2 replaced a token of alice by one that is not its successor" in found


def test_k3_finds_a_token_that_nobody_issued() -> None:
    run = clean()
    del run.exchanges[3]
    (found,) = k3_chain(run)
    assert "never issued" in found


def test_k3_finds_that_what_was_acknowledged_is_gone() -> None:
    run = clean()
    run.final["alice"] = (4, "at1")
    (found,) = k3_chain(run)
    assert "version 5 of alice was acknowledged, and in the end there is only 4" in found
    run.final["alice"] = (5, "at1")
    (found,) = k3_chain(run)
    assert "is not what was acknowledged" in found


def test_k3_finds_a_version_that_nobody_wrote() -> None:
    run = clean()
    del run.writes[4]
    (found,) = k3_chain(run)
    assert "version 4 of alice is there, and nobody wrote it" in found


def test_k3_takes_a_write_without_an_answer_for_done_if_its_version_is_there() -> None:
    run = clean()
    run.writes[4] = replace(run.writes[4], version=None, t1=None)
    assert k3_chain(run) == []
    run.writes[5] = replace(run.writes[5], version=None, failed="StorageUnavailable")
    assert k3_chain(run) == []
    run.final["alice"] = (3, "at1")
    assert k3_chain(run) == []


def test_k3_lets_a_login_replace_anything() -> None:
    run = clean()
    run.exchanges.append(exchange(30.0, None, "at9", "rt9"))
    run.writes.append(write(6, "at9", "rt9", 30.1, 30.2, None))
    run.final["alice"] = (6, "at9")
    assert k3_chain(run) == []


# --- the deaths of grants, P5 and P8


def condemned(rotation: RotationClass, reason: str) -> Run:
    run = crashed(rotation, 12.3)
    run.exchanges = [*run.exchanges, exchange(12.35, "rt0", outcome="invalid_grant")]
    run.writes.append(write(3, "at0", "rt0", 12.41, 12.5, 2, process="p2", ended=reason))
    run.calls = [call(12.2, 12.6, error="ReauthorizationRequired", reason=reason, process="p2")]
    return run


@pytest.mark.parametrize("rotation", STRICT)
def test_p8_lets_a_grant_die_of_a_lost_answer_where_a_token_is_taken_once(rotation: RotationClass) -> None:
    assert no_false_death(condemned(rotation, "ambiguous_rotation")) == []


@pytest.mark.parametrize("rotation", STRICT)
def test_p8_wants_to_be_told_that_it_died_of_a_lost_answer(rotation: RotationClass) -> None:
    call_of, write_of = no_false_death(condemned(rotation, "invalid_grant"))
    assert "p2 was told that the grant of alice is over (invalid_grant), and it is ambiguous_rotation" in call_of
    assert "p2 wrote" in write_of


@pytest.mark.parametrize("rotation", [each for each in KIND if each not in STRICT])
def test_p8_finds_any_death_where_a_token_may_be_sent_again(rotation: RotationClass) -> None:
    found = no_false_death(condemned(rotation, "ambiguous_rotation"))
    assert len(found) == 2
    assert "it is alive" in found[0]


def test_p8_finds_the_death_of_a_grant_whose_rotation_is_stored() -> None:
    run = clean()
    run.calls.append(call(22.0, 22.1, error="ReauthorizationRequired", reason="ambiguous_rotation"))
    (found,) = no_false_death(run)
    assert "it is alive" in found


def test_p8_counts_from_the_last_login() -> None:
    run = condemned(RotationClass.RSF, "ambiguous_rotation")
    run.exchanges.append(exchange(13.0, None, "at9", "rt9"))
    run.writes.append(write(4, "at9", "rt9", 13.1, 13.2, None))
    assert no_false_death(run) == []
    run.calls.append(call(14.0, 14.1, error="ReauthorizationRequired", reason="ambiguous_rotation"))
    assert len(no_false_death(run)) == 1


def test_p8_lets_one_who_wakes_up_late_store_a_token_that_the_server_has_revoked_with_its_family_p6() -> None:
    run = condemned(RotationClass.RSF, "ambiguous_rotation")
    run.writes.append(write(4, "at1", "rt1", 20.0, 20.1, 3))
    run.exchanges.append(exchange(21.0, "rt1", outcome="invalid_grant"))
    run.calls.append(call(20.9, 21.1, error="ReauthorizationRequired", reason="invalid_grant"))
    assert no_false_death(run) == []
    assert len(no_false_death(replace_rotation(run, RotationClass.RS))) == 1


def replace_rotation(run: Run, rotation: RotationClass) -> Run:
    run.rotation = rotation
    return run


def test_p8_lets_an_empty_store_know_nobody() -> None:
    run = clean()
    run.calls.append(call(22.0, 22.1, error="ReauthorizationRequired", reason="not_logged_in"))
    assert len(no_false_death(run)) == 1
    run.lasting = False
    assert no_false_death(run) == []


def test_p4_a_rotation_that_nobody_stored_is_found() -> None:
    (lost,) = lost_rotations(crashed(RotationClass.RSF, 12.3), "alice")
    assert lost.at_out == "at1"


# --- P1


def test_p1_counts_the_refreshes_of_an_expiry() -> None:
    run = clean()
    assert one_refresh_each(run, 3, ["alice"]) == ["P1: 3 expiries and 2 refresh requests of alice"]
    assert one_refresh_each(run, 2, ["alice", "bob"]) == ["P1: 2 expiries and 0 refresh requests of bob"]
    run.exchanges.append(exchange(15.0, "rt1", outcome="invalid_grant"))
    assert one_refresh_each(run, 2, ["alice"]) == ["P1: a refresh of alice was answered invalid_grant"]


def test_p1_finds_a_token_refreshed_before_its_time() -> None:
    run = clean()
    run.attempts[1] = replace(run.attempts[1], t0=15.0)
    (found,) = needless_refreshes(run)
    assert "p2 refreshed a token 4.25 s before its time" in found
