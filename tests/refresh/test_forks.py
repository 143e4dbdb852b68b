"""P15: a process forks while threads hold locks and a flight is under way; parent and child both go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pauth.locks import ForkSafeLock

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_p15_a_forked_child_finds_all_locks_free_and_does_not_wait_for_its_parents_flights() -> None:
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT), "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    command = [sys.executable, "-m", "tests.refresh.fork_program"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ["child has ended", "status 0 parent the parent's heard True"]
    assert ended.returncode == 0


def test_a_lock_can_be_taken_again_by_who_holds_it() -> None:
    """The collector may run a finalizer that wants it while it is held."""
    lock = ForkSafeLock()
    with lock, lock:
        pass
    lock.begin_anew()
    with lock:
        pass
