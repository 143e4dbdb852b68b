"""K4, K5, K6 find what was planted, and nothing where nothing was."""

from __future__ import annotations

from dataclasses import replace

from tests.chaos.checkers_reads import k4_linearizable_reads, k5_persist_before_use, k6_isolation
from tests.chaos.history import Load, Use
from tests.chaos.samples import call, clean, write


def test_a_clean_history_passes() -> None:
    run = clean()
    assert k4_linearizable_reads(run) == []
    assert k5_persist_before_use(run) == []
    assert k6_isolation(run) == []


# --- K4


def test_k4_finds_one_who_is_given_an_older_token_after_another_was_given_a_newer_one() -> None:
    run = clean()
    run.calls.append(call(10.8, 10.9, "at0", process="p2"))
    found = k4_linearizable_reads(run)
    assert any("p2 was given version 1 of alice after p1 had been given 3" in each for each in found)
    assert any("p2 was given version 1 of alice 0.200 s after 3 was known to be stored" in each for each in found)


def test_k4_lets_calls_that_overlap_return_in_any_order() -> None:
    run = clean()
    run.calls.append(call(10.55, 10.9, "at0", process="p2"))
    assert k4_linearizable_reads(run) == []


def test_k4_lets_a_process_go_on_with_what_it_knows_for_so_long() -> None:
    run = clean()
    run.staleness = 5.0
    run.calls.append(call(15.5, 15.6, "at0", process="p3"))
    assert k4_linearizable_reads(run) == []
    run.calls.append(call(15.8, 15.9, "at0", process="p3"))
    assert len(k4_linearizable_reads(run)) == 2  # p1 was given the newer one at 10.7


def test_k4_never_lets_a_process_go_back_behind_itself() -> None:
    run = clean()
    run.staleness = 60.0
    run.calls.append(call(11.3, 11.4, "at0", process="p2"))
    (found,) = k4_linearizable_reads(run)
    assert "p2 was given version 1 of alice after the same process had been given 3" in found


def test_k4_finds_a_token_given_before_anybody_began_to_store_it() -> None:
    run = clean()
    run.calls.append(call(20.0, 20.45, "at2", process="p2"))
    (found,) = k4_linearizable_reads(run)
    assert "before anybody began to store it" in found


def test_k4_takes_a_write_without_an_answer_for_possible() -> None:
    run = clean()
    run.writes[5] = replace(run.writes[5], version=None, t1=None)
    run.loads.append(Load(process="p1", user="alice", t0=20.65, t1=20.66, version=5, at="at2"))
    assert k4_linearizable_reads(run) == []


# --- K5


def test_k5_finds_a_token_given_or_used_before_it_was_stored() -> None:
    run = clean()
    run.calls[1] = replace(run.calls[1], t1=10.55)
    run.uses[1] = replace(run.uses[1], t=10.58)
    assert k5_persist_before_use(run) == [
        "K5: a token of alice was given by p1 0.050 s before it was stored",
        "K5: a token of alice was used at the resource server 0.020 s before it was stored",
    ]


def test_k5_finds_a_token_that_was_never_stored() -> None:
    run = clean()
    run.uses.append(Use(t=30.0, user="alice", at="at9", outcome="ok"))
    run.writes.append(write(None, "at8", "rt8", 30.0, None, 5))
    run.calls.append(call(30.0, 30.1, "at8"))
    assert k5_persist_before_use(run) == [
        "K5: a token of alice was given by p1 and never stored",
        "K5: a token of alice was used at the resource server and never stored",
    ]


def test_k5_takes_a_write_without_an_answer_for_done_once_it_was_read() -> None:
    run = clean()
    run.writes[3] = replace(run.writes[3], version=None, t1=None)
    run.calls[1] = replace(run.calls[1], t1=11.15)
    run.uses[1] = replace(run.uses[1], t=11.2)
    assert k5_persist_before_use(run) == []
    run.loads.clear()
    assert len(k5_persist_before_use(run)) == 3


# --- K6


def test_k6_finds_another_users_token_given_or_stored() -> None:
    run = clean()
    run.calls.append(call(5.0, 5.1, "at0", user="bob"))
    run.writes.append(write(2, "at0", "rt0", 5.0, 5.1, 1, user="bob"))
    assert k6_isolation(run) == ["K6: a token of alice was given by p1 for bob", "K6: a token of alice was stored by p1 for bob"]


def test_k6_finds_a_token_that_nobody_issued() -> None:
    run = clean()
    run.calls.append(call(5.0, 5.1, "at9"))
    assert k6_isolation(run) == ["K6: a token of nobody was given by p1 for alice"]
