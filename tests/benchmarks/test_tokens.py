"""``python -m benchmarks tokens`` runs, and what it writes is whole. Nothing here is about speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.tokens.report import BEGIN, END
from benchmarks.tokens.result import Aim
from benchmarks.tokens.run import PARTS

CHOSEN = ("hot", "endpoint", "herd", "client", "memory", "id-token", "import", "shell")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "page.md").write_text(f"before\n{BEGIN}\nold figures\n{END}\nafter\n", encoding="utf-8")
    outputs = [f"--{kind}={folder / name}" for kind, name in (("json", "run.json"), ("markdown", "page.md"))]
    assert main(["tokens", *CHOSEN, "--quick", f"--folder={folder}", *outputs]) == 0
    return folder


@pytest.fixture(scope="module")
def parts(written: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads((written / "run.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = run["parts"]
    return found


def test_every_part_has_rows_of_pauth_and_of_what_it_is_compared_with(parts: dict[str, Any]) -> None:
    assert list(parts) == list(CHOSEN)
    for name, part in parts.items():
        assert part["rows"], name
        assert {len(row) for row in part["rows"]} == {len(part["columns"])}, name
        ours = [row for row in part["rows"] if any("pauth" in str(cell) for cell in row)]
        assert ours, name
        assert name == "herd" or len(part["rows"]) > len(ours), name  # a herd of peers needs peers


def test_a_herd_makes_one_refresh_an_expiry_p1(parts: dict[str, Any]) -> None:
    columns = parts["herd"]["columns"]
    for row in parts["herd"]["rows"]:
        told = dict(zip(columns, row, strict=True))
        if told["contender"] == "pauth":
            assert (told["refreshes"], told["callers failed"], told["session"]) == (told["expiries"], 0, "alive")


def test_the_page_keeps_what_is_around_its_figures(written: Path) -> None:
    page = (written / "page.md").read_text(encoding="utf-8")
    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"\n{END}\nafter\n")
    assert "old figures" not in page
    assert "| pauth token work" in page


@pytest.mark.parametrize(
    ("measured", "at_most", "verdict"), [(1.3, True, "reached"), (1.4, True, "missed"), (1.2, False, "missed"), (1.3, False, "reached")]
)
def test_a_goal_is_reached_or_missed(measured: float, at_most: bool, verdict: str) -> None:
    assert Aim("a goal", measured, 1.3, at_most).verdict == verdict


@pytest.mark.parametrize("arguments", [["nothing"], ["--url=mysql://host"], ["--seconds=0"], ["--rounds=0"], ["--records=0"]])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["tokens", *arguments])


def test_what_there_is_to_measure() -> None:
    assert [name for name in PARTS if name not in CHOSEN] == ["race", "refresher"], "which need servers"
