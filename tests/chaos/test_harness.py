"""The harness itself: orders at failpoints, histories that are written and read, times that are told, and what the matrix is."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from pauth.core.quirks import RotationClass
from pauth.storage import MemoryTokenStorage, Record, RecordKey
from pauth.testing import token_hash
from tests.chaos.__main__ import arguments
from tests.chaos.catalog import SCENARIOS, Outcome
from tests.chaos.double import DoubleClock
from tests.chaos.history import Run, read_run
from tests.chaos.matrix import NOT_DONE, matrix, report
from tests.chaos.nemesis import FAILPOINTS, Injected, Nemesis, Order, parse_orders
from tests.chaos.recording import Recorder, watch_storage
from tests.chaos.stores import DRIVERS

# --- orders


def test_orders_say_where_what_and_when() -> None:
    assert parse_orders("after_send:kill@3,mid_commit:sleep:0.5") == [Order("after_send", "kill", 3), Order("mid_commit", "sleep", 1, 0.5)]
    assert parse_orders("") == []


@pytest.mark.parametrize("text", ["after_lunch:kill", "after_send:vanish", "after_send", "after_send:kill@x"])
def test_an_order_that_means_nothing_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is no failpoint order"):
        parse_orders(text)


def test_an_order_is_carried_out_when_its_place_is_reached_for_the_nth_time() -> None:
    told: list[Order] = []
    nemesis = Nemesis(parse_orders("after_send:raise@2,before_commit:enospc"), tell=told.append, cut=lambda: None)
    nemesis("after_send")
    nemesis("before_send")
    assert nemesis.waits_for("after_send")
    with pytest.raises(Injected):
        nemesis("after_send")
    assert not nemesis.waits_for("after_send")
    nemesis("after_send")
    with pytest.raises(OSError, match=r"No space left") as caught:
        nemesis("before_commit")
    assert caught.value.errno == errno.ENOSPC
    assert [order.name for order in told] == ["after_send", "before_commit"]


def test_a_process_can_be_cut_off_from_its_store() -> None:
    cut: list[bool] = []
    nemesis = Nemesis([], tell=lambda order: None, cut=lambda: cut.append(True))
    nemesis.order("after_response:cut")
    nemesis("after_response")
    assert cut == [True]


# --- histories


async def test_what_is_written_down_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "p1.jsonl"
    recorder = Recorder(file, "p1")
    storage: Any = MemoryTokenStorage()

    async def around(write: Any, commits: bool) -> Record | None:
        recorder.line("note", text=f"commits: {commits}")
        written: Record | None = await write()
        return written

    watch_storage(storage, recorder, around=around)
    key = RecordKey("n", "alice")
    await storage.replace(key, {"access_token": "CANARY-at0", "refresh_token": "CANARY-rt0"}, expected_version=0)
    await storage.load(key)
    await storage.replace(key, {"access_token": "CANARY-at0", "refresh_token": "CANARY-rt0", "grant_ended": "revoked"}, expected_version=1)
    assert await storage.replace(key, {"access_token": "CANARY-at1"}, expected_version=1) is None
    recorder.begin("send", rt="ab")
    number = recorder.begin("invoke", user="alice", op="get_token")
    recorder.end("return", number, error="ProviderUnavailable")
    recorder.line("hit", process="p1", name="after_send", action="kill")
    recorder.close()

    run = read_run([file], Run())
    first, marked, lost = run.writes
    assert (first.version, first.at, first.rt, first.expected) == (1, token_hash("CANARY-at0"), token_hash("CANARY-rt0"), 0)
    assert (marked.version, marked.ended) == (2, "revoked")
    assert (lost.version, lost.rt, lost.uncertain) == (None, None, False)
    assert [(load.version, load.at) for load in run.loads] == [(1, token_hash("CANARY-at0"))]
    assert [(attempt.rt, attempt.t1, attempt.outcome) for attempt in run.attempts] == [("ab", None, None)]
    assert [(call.user, call.error) for call in run.calls] == [("alice", "ProviderUnavailable")]
    assert [hit.name for hit in run.hits] == ["after_send"]
    assert file.read_text(encoding="utf-8").count("commits: True") == 1


def test_a_line_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "p1.jsonl"
    file.write_text('{"e":"surprise","t":1.0}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="unknown kind: surprise"):
        read_run([file], Run())


# --- times


def test_the_servers_times_can_be_told_as_monotonic_ones() -> None:
    clock = DoubleClock()
    before = clock.monotonic()
    one = clock.time()
    clock.advance(3600.0)
    other = clock.time()
    after = clock.monotonic()
    assert other - one >= 3600.0
    assert before <= clock.monotonic_of(one) <= clock.monotonic_of(other) <= after + 1e-6


# --- the matrix


def test_the_matrix_has_every_failpoint_class_and_driver() -> None:
    cells = matrix(DRIVERS, list(RotationClass.__members__))
    assert len([cell for cell in cells if cell[0].startswith("crash:")]) == 432 == len(FAILPOINTS) * len(RotationClass) * len(DRIVERS)
    assert len(set(cells)) == len(cells)
    assert {cell[0] for cell in cells} <= SCENARIOS.keys()
    # those of one fault each are in "faults"
    assert {name for name in SCENARIOS if not name.startswith("faults:")} == {cell[0] for cell in cells}


def test_the_report_shows_what_failed_and_how_to_run_it_again(tmp_path: Path) -> None:
    outcomes = [
        Outcome("crash:after_send", "sqlite", "RSF", [], 1.0, tmp_path),
        Outcome("crash:before_commit", "sqlite", "RSF", ["K1: twice", "K3: fork"], 1.0, tmp_path, 7),
        Outcome("pause:mid_send:0.5", "redis", "RU", [], 1.0, tmp_path),
        Outcome("herd", "redis", "RU", [], 1.0, tmp_path),
    ]
    text = report(outcomes, command="python -m tests.chaos matrix")
    assert "\n4 runs, 1 with violations; " in text
    assert "| Killed at | class | after_send | before_commit |" in text
    assert "| sqlite | RSF | ✓ | 2 |" in text
    assert "| Stopped for 0.5 leases at | class | mid_send |" in text
    assert "| herd | redis | RU | 1 | 0 |" in text
    assert "- `python -m tests.chaos run 'crash:before_commit' --driver sqlite --rotation RSF --seed 7`\n  - K1: twice" in text
    assert text.endswith(f"\n\n{NOT_DONE}\n")


def test_the_page_says_what_is_not_done() -> None:
    page = Path(__file__).parents[2] / "docs" / "chaos.md"
    assert page.read_text(encoding="utf-8").endswith(f"\n\n{NOT_DONE}\n")


def test_the_command_line_takes_lists() -> None:
    chosen = arguments(["run", "herd", "--driver", "sqlite,redis", "--rotation", "RU"])
    assert (chosen.scenarios, chosen.driver, chosen.rotation) == (["herd"], ["sqlite", "redis"], ["RU"])
    assert arguments(["matrix"]).driver == list(DRIVERS)
    with pytest.raises(SystemExit):
        arguments(["run", "lunch"])
