"""``python -m benchmarks storage`` runs, and what it writes is whole. Nothing here is about speed."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.__main__ import main
from benchmarks.contender import Missing, Role, optional
from benchmarks.goals import GOALS, Goal, verdict
from benchmarks.measure import Figures, Work
from benchmarks.report import BEGIN, END
from benchmarks.storage import DRIVERS, driver_of

CHOSEN = ("memory", "sqlite", "files")


def near(number: float) -> Any:
    return pytest.approx(number)  # pyright: ignore[reportUnknownMemberType]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "page.md").write_text(f"before\n{BEGIN}\nold figures\n{END}\nafter\n", encoding="utf-8")
    outputs = [f"--{kind}={folder / name}" for kind, name in (("json", "run.json"), ("svg", "run.svg"), ("markdown", "page.md"))]
    assert main(["storage", *CHOSEN, "--quick", "--tasks=1,4", f"--folder={folder}", *outputs]) == 0
    return folder


@pytest.fixture(scope="module")
def run(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written / "run.json").read_text(encoding="utf-8"))
    return found


def test_each_contender_has_a_row_for_each_work_or_a_reason(run: dict[str, Any]) -> None:
    rows = [(row["driver"], row["contender"], row["operation"], row["tasks"]) for row in run["results"]]
    absent = {(row["driver"], row["contender"]) for row in run["absent"]}
    taking_part = [(name, entry.name) for name in CHOSEN for entry in DRIVERS[name].entries if (name, entry.name) not in absent]
    assert sorted(rows) == sorted((*each, *work) for each in taking_part for work in product(("save", "get"), (1, 4)))
    assert all("pip install" in row["why"] for row in run["absent"])
    assert {row["driver"] for row in run["results"] if row["role"] == "pauth"} == set(CHOSEN)


def test_what_is_written_has_its_fields(run: dict[str, Any]) -> None:
    assert set(run) == {"format", "date", "machine", "versions", "settings", "servers", "results", "absent", "goals"}
    assert run["format"] == 1
    for row in run["results"]:
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        assert row["per_second"] > 0


def test_ratios_are_quotients_of_the_figures(run: dict[str, Any]) -> None:
    by_role = {(row["driver"], row["role"], row["operation"], row["tasks"]): row for row in run["results"]}
    for row in run["results"]:
        ours = by_role[row["driver"], "pauth", row["operation"], row["tasks"]]
        if row is ours:
            assert row["pauth_speedup"] is None
        elif row["tasks"] == 1:
            assert row["pauth_speedup"] == near(row["p50"] / ours["p50"])
        else:
            assert row["pauth_speedup"] == near(ours["per_second"] / row["per_second"])
    assert run["goals"]
    for goal in run["goals"]:
        ours, theirs = (by_role[goal["driver"], role, goal["operation"], goal["tasks"]] for role in ("pauth", goal["against"]))
        alone = goal["tasks"] == 1
        latencies = ours["p50"] / theirs["p50"]
        assert goal["ratio"] == near(latencies if goal["at_most"] else 1 / latencies if alone else ours["per_second"] / theirs["per_second"])
        reached = goal["ratio"] <= goal["bound"] if goal["at_most"] else goal["ratio"] >= goal["bound"]
        assert goal["verdict"] == ("reached" if reached else "missed")


def test_the_picture_is_well_formed_and_has_every_bar(written: Path, run: dict[str, Any]) -> None:
    root = ET.parse(written / "run.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall("{*}rect")) == len(run["results"])
    assert "prefers-color-scheme: dark" in str(root.findtext("{*}style"))


def test_the_page_keeps_what_is_around_its_figures(written: Path) -> None:
    page = (written / "page.md").read_text(encoding="utf-8")
    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"\n{END}\nafter\n")
    assert "old figures" not in page
    assert "| aiosqlite, one hop" in page


def test_nothing_is_left_in_the_folder(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == ["page.md", "run.json", "run.svg"]


def test_a_server_that_is_nowhere_is_said_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmarks.storage.SERVERS", {})
    assert main(["storage", "redis", "memory", "--quick", "--tasks=1"]) == 0
    printed = capsys.readouterr().out
    assert "- pauth: no server: name one of yours with --url redis://" in printed
    assert "dict in an async def" in printed


def test_what_is_not_installed_is_said() -> None:
    with pytest.raises(Missing, match=r"^not installed: pip install 'some-package\[extra\]'$"):
        optional("no_module_of_this_name", "'some-package[extra]'")


@pytest.mark.parametrize("arguments", [["nothing"], ["--url=ftp://host"], ["--tasks=0"], ["--tasks=65"], ["--seconds=nan"]])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["storage", *arguments])


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("rediss://h", "redis"),
        ("redis+cluster://h", "redis"),
        ("postgresql+psycopg://h/d", "postgresql"),
        ("mysql://h/d", "mariadb"),
        ("ftp://h", ""),
    ],
)
def test_a_url_names_its_driver(url: str, driver: str) -> None:
    assert driver_of(url) == driver


def test_goals_are_of_drivers_there_are_and_judged_by_their_bounds() -> None:
    assert {goal.driver for goal in GOALS} <= set(DRIVERS)
    ours, theirs = Figures(2, 2, 2, 30), Figures(4, 4, 4, 10)
    latency = Goal("memory", Work("save", 1), Role.FLOOR, 0.5)
    assert (latency.ratio(ours, theirs), verdict(latency, 0.5), verdict(latency, 0.51)) == (0.5, "reached", "missed")
    throughput = Goal("memory", Work("save", 64), Role.FLOOR, 3)
    assert (throughput.ratio(ours, theirs), verdict(throughput, 3), verdict(throughput, 2.99)) == (3, "reached", "missed")
    assert Goal("memory", Work("get", 1), Role.PEER, 2).ratio(ours, theirs) == 2
