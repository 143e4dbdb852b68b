"""kill -9 in the middle of a re-encryption or a copy (VC-5, P16): every record is readable at every point, and the next run ends it.

A killed process takes nothing with it that the system has, so the stores are in memory where there is such a place.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.storage.files.kit import ROOT
from tests.storage.kit import KEY, OTHER_KEY

Killed = tuple[str, Path, dict[str, list[dict[str, Any]]]]


@pytest.fixture(scope="module", params=["sqlite", "files"])
def killed(request: pytest.FixtureRequest) -> Iterator[Killed]:
    """The kind of store, where the stores are, and what was found in each. One process does both works: to start one takes longer than they do."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        command = [sys.executable, "-W", "error", "-m", "tests.storage.kill_moving", folder, request.param, "rotate", "copy"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
        assert (done.stderr, done.returncode) == ("", 0)
        outcomes: dict[str, list[dict[str, Any]]] = {"rotate": [], "copy": []}
        for line in done.stdout.splitlines():
            outcome = json.loads(line)
            outcomes[outcome["work"]].append(outcome)
        yield request.param, Path(folder), outcomes


@pytest.mark.parametrize("work", ["rotate", "copy"])
def test_what_was_killed_is_ended_by_the_next_run_p16(killed: Killed, work: str) -> None:
    found = killed[2][work]
    assert [outcome["killed"] for outcome in found] == [True] * (len(found) - 1) + [False]
    assert len(found) > 2
    assert {(outcome["after"], outcome["count"]) for outcome in found} == {("rr", 2)}


def test_a_rotation_that_is_killed_leaves_all_readable_p16(killed: Killed) -> None:
    kind, folder, outcomes = killed
    assert {outcome["before"] for outcome in outcomes["rotate"]} == {"rr"}
    raw = b"".join(path.read_bytes() for path in (folder / "rotate").rglob("*") if path.is_file())
    assert raw
    assert b"CANARY-access" not in raw
    if kind == "files":  # of the old key nothing is left: neither records nor owners nor the folder's secret
        assert KEY.key_id not in raw
    assert OTHER_KEY.key_id in raw


def test_a_copy_that_is_killed_has_whole_records_only(killed: Killed) -> None:
    found = {outcome["before"] for outcome in killed[2]["copy"]}
    assert found >= {"--", "rr"}
    assert all(set(each) <= {"r", "-"} for each in found)
