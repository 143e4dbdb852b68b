"""The end of the program: nothing under way is lost, nothing hangs, nothing is complained of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sync.kit import STORAGES, Town
from tests.sync.programs.common import make_storage

pytestmark = pytest.mark.plaintext_files  # the blocking class of these programs writes what it is given


def outcome(town: Town, folder: Path, canary: Any, way: str, kind: str = "url") -> tuple[int, str, str]:
    return town.program(folder, "ending", way, kind).finish(canary)


@pytest.mark.parametrize("kind", [*STORAGES, "url"])
def test_a_program_that_closes_nothing_ends_quietly(real_town: Town, tmp_path: Path, canary: Any, kind: str) -> None:
    assert outcome(real_town, tmp_path, canary, "end", kind) == (0, "ended\n", "")


def test_its_exit_status_is_its_own(real_town: Town, tmp_path: Path, canary: Any) -> None:
    assert outcome(real_town, tmp_path, canary, "exit") == (7, "", "")


def test_an_error_that_ends_it_is_all_that_is_told(real_town: Town, tmp_path: Path, canary: Any) -> None:
    status, _, errors = outcome(real_town, tmp_path, canary, "raise")
    assert (status, errors.count("\n"), errors.splitlines()[-1]) == (1, 4, "LookupError: as programs do")


def test_a_client_that_is_not_used_starts_no_thread(real_town: Town, tmp_path: Path, canary: Any) -> None:
    assert real_town.program(tmp_path, "ending", "unused", "url", log_in=False).finish(canary) == (0, "1\n", "")


@pytest.mark.parametrize("kind", ["sqlite", "files", "three methods", "blocking"])
@pytest.mark.parametrize("way", ["threads", "pool"])
def test_threads_that_outlive_the_main_one_go_on_calling(real_town: Town, tmp_path: Path, canary: Any, way: str, kind: str) -> None:
    """P15: an executor would refuse their work from the main thread's end on."""
    status, output, errors = outcome(real_town, tmp_path, canary, way, kind)
    assert (status, set(output.split()), errors) == (0, {"alice"} if way == "pool" else {"worked"}, "")
    assert real_town.refreshes() == 3


@pytest.mark.parametrize("kind", ["sqlite", "files", "blocking"])
def test_p4_a_refresh_that_nobody_waits_for_is_stored_before_the_program_ends(real_town: Town, tmp_path: Path, canary: Any, kind: str) -> None:
    """The server has rotated; the answer comes when the main thread has ended, and executors with it."""
    with real_town.held() as refresh:
        program = real_town.program(tmp_path, "ending", "refreshing", kind)
        refresh.arrived()
        program.tell("it has arrived")
        assert program.line() == "ending"
        refresh.release()
        assert program.finish(canary) == (0, "", "")
    real_town.check_session(make_storage(kind, tmp_path))


def test_p4_so_it_is_in_a_worker_process(real_town: Town, tmp_path: Path, canary: Any) -> None:
    """multiprocessing ends its children without asking atexit."""
    with real_town.held() as refresh:
        program = real_town.program(tmp_path, "ending", "worker process", "sqlite")
        refresh.arrived()
        program.tell("it has arrived")
        assert program.line() == "ending"
        refresh.release()
        assert program.finish(canary) == (0, "", "")
    real_town.check_session(make_storage("sqlite", tmp_path))


def test_a_call_of_a_daemon_thread_does_not_hold_up_the_end(real_town: Town, tmp_path: Path, canary: Any) -> None:
    with real_town.held(applied=False) as refresh:
        program = real_town.program(tmp_path, "ending", "daemon", "url")
        refresh.arrived()
        program.tell("end")
        refresh.release()
        assert program.finish(canary) == (0, "", "")


def test_a_handler_of_the_programs_own_may_still_call(real_town: Town, tmp_path: Path, canary: Any) -> None:
    assert outcome(real_town, tmp_path, canary, "in atexit") == (0, "alice\n", "")


def test_in_an_older_handler_everything_is_closed(real_town: Town, tmp_path: Path, canary: Any) -> None:
    """One that was registered before pauth was imported is called after pauth's."""
    assert outcome(real_town, tmp_path, canary, "in an atexit handler that is older") == (0, "ended\nclosed\n", "")


def test_there_a_first_call_is_refused(real_town: Town, tmp_path: Path, canary: Any) -> None:
    program = real_town.program(tmp_path, "ending", "for the first time in an atexit handler that is older", "url", log_in=False)
    assert program.finish(canary) == (0, "closed\n", "")


def test_what_hangs_is_given_up_in_bounded_time(real_town: Town, tmp_path: Path, canary: Any) -> None:
    program = real_town.program(tmp_path, "ending", "hanging", "memory", log_in=False)
    told = "what was under way at the end of the program took longer than 0.09 seconds\n"
    assert program.finish(canary) == (0, "ended\n", told)


def test_listings_and_contexts_that_are_open_are_left(real_town: Town, tmp_path: Path, canary: Any) -> None:
    """Whatever they raise on their way out: there is nobody to tell."""
    program = real_town.program(tmp_path, "ending", "left open", "memory", log_in=False)
    assert program.finish(canary) == (0, "ended\nleft\nleft\n", "")
