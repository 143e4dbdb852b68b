"""kill -9 at each step of a writer (P5, P12): what was acknowledged is there, what was not is there whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.storage.files.kit import ROOT


def outcomes(folder: Path, scenario: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-W", "error", "-m", "tests.storage.files.kill_program", str(folder), scenario]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.stderr, done.returncode) == ("", 0)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [outcome.pop("killed") for outcome in found] == [True] * (len(found) - 1) + [False]
    assert all(outcome.pop("leftovers") == 0 for outcome in found)  # the next writer has swept them
    return found


UNTOUCHED = {"record": "old", "version": 1, "count": 1, "next version": 2, "login": "old", "fence": 2}


def test_saving_p12(memory_folder: Path) -> None:
    saved = {**UNTOUCHED, "record": "new", "version": 2, "next version": 3}
    found = outcomes(memory_folder, "save")
    assert len(found) == 5  # write, fsync, replace, fsync of the folder; and the one that got through
    assert found == [UNTOUCHED] * 3 + [saved] * 2


def test_saving_for_the_first_time_p12(memory_folder: Path) -> None:
    """The folder, its secret, a shard and their locks are made on the way."""
    missing = {"record": None, "version": None, "count": 0, "next version": 1, "login": None, "fence": 1}
    saved = {"record": "new", "version": 1, "count": 1, "next version": 2, "login": None, "fence": 1}
    found = outcomes(memory_folder, "first save")
    assert len(found) > 12
    assert found == [missing] * (len(found) - 2) + [saved] * 2


def test_deleting_p12(memory_folder: Path) -> None:
    deleted = {**UNTOUCHED, "record": None, "version": None, "count": 0}
    found = outcomes(memory_folder, "delete")
    assert len(found) == 7
    assert found == [UNTOUCHED] * 5 + [deleted] * 2


def test_beginning_a_login_p12(memory_folder: Path) -> None:
    found = outcomes(memory_folder, "login")
    assert found == [UNTOUCHED] * 3 + [{**UNTOUCHED, "login": "new"}] * 2


def test_taking_a_login_p12(memory_folder: Path) -> None:
    found = outcomes(memory_folder, "taking")
    assert found == [UNTOUCHED] + [{**UNTOUCHED, "login": None}] * 2


def test_taking_a_lease_p12(memory_folder: Path) -> None:
    """The same owner takes it again at the end: with the fence it got, if it got one."""
    assert outcomes(memory_folder, "lease") == [UNTOUCHED] * 5
