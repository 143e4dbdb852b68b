"""P15: forked children have a loop of their own, and the parent's is as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sync.kit import Town
from tests.sync.programs.common import make_storage

pytestmark = pytest.mark.plaintext_files  # the blocking class of these programs writes what it is given


@pytest.mark.parametrize("kind", ["url", "sqlite", "files", "blocking", "memory"])
def test_p15_a_server_forks_eight_workers_while_a_refresh_is_under_way(real_town: Town, tmp_path: Path, canary: Any, kind: str) -> None:
    with real_town.held() as refresh:
        program = real_town.program(tmp_path, "forking", "prefork", kind)
        for number in range(8):
            program.tell(real_town.run(real_town.server.authorize(program.line(), user=f"user-{number}")))
        refresh.arrived()
        program.tell("it has arrived")
        assert [program.line() for _ in range(9)] == ["0"] * 8 + ["forked"]
        refresh.release()
        assert program.finish(canary) == (0, "['alice']\nalice\n", "")
    assert real_town.refreshes() == 10
    assert not any(real_town.server.family_revoked(user) for user in ("alice", *(f"user-{number}" for number in range(8))))
    if kind != "memory":
        real_town.check_session(make_storage(kind, tmp_path), refreshes=10)


@pytest.mark.parametrize("kind", ["sqlite", "files", "blocking", "memory", "three methods"])
def test_p15_forks_in_the_middle_of_other_threads_calls(real_town: Town, tmp_path: Path, canary: Any, kind: str) -> None:
    assert real_town.program(tmp_path, "forking", "busy", kind).finish(canary) == (0, "done\n", "")


def test_what_was_begun_or_closed_before_a_fork(real_town: Town, tmp_path: Path, canary: Any) -> None:
    status, output, errors = real_town.program(tmp_path, "forking", "leftovers", "sqlite").finish(canary)
    assert (status, errors) == (0, "")
    begun, closed, *rest = output.splitlines()
    assert begun == "this was begun in the parent process and cannot go on in a forked child; begin another one"
    assert closed == "this was closed; make a new one"
    assert rest == ["True", "0", "True"]


def test_tokens_in_a_clients_own_memory_stay_in_the_parent(real_town: Town, tmp_path: Path, canary: Any) -> None:
    assert real_town.program(tmp_path, "forking", "forgetful", "none").finish(canary) == (0, "0\nalice\n", "")


def test_a_fork_before_the_first_call(real_town: Town, tmp_path: Path, canary: Any) -> None:
    program = real_town.program(tmp_path, "forking", "early", "url", log_in=False)
    program.tell(real_town.run(real_town.server.authorize(program.line(), user="carol")))
    assert program.finish(canary) == (0, "carol\n0\n", "")
