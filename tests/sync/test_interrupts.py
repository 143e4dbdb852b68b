"""Ctrl-C, and signal handlers that raise: they end the call, never the refresh."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.sync.kit import Town
from tests.sync.programs.common import make_storage

pytestmark = pytest.mark.usefixtures("canary")


def traceback_of(program: Any) -> str:
    """What a program tells of the error that ends it, up to its last line."""
    lines: list[str] = []
    while not lines or lines[-1].startswith((" ", "Traceback")):
        lines.append(program.process.stderr.readline())
        assert lines[-1]
    return "".join(lines)


def test_p14_ctrl_c_ends_the_call_and_not_the_refresh(real_town: Town, tmp_path: Path, canary: Any) -> None:
    with real_town.held() as refresh:
        program = real_town.program(tmp_path, "interrupted", "caught")
        refresh.arrived()
        program.process.send_signal(signal.SIGINT)
        assert program.line() == "interrupted"
        refresh.release()
        assert program.finish(canary) == (0, "alice\n", "")
    real_town.check_session(make_storage("url", tmp_path))


@pytest.mark.parametrize("way", ["uncaught", "with"])
def test_p4_a_program_that_ctrl_c_ends_stores_the_refresh_first(real_town: Town, tmp_path: Path, canary: Any, way: str) -> None:
    with real_town.held() as refresh:
        program = real_town.program(tmp_path, "interrupted", way)
        refresh.arrived()
        program.process.send_signal(signal.SIGINT)
        if way == "uncaught":
            shown = traceback_of(program)
            refresh.release()
            status, _, rest = program.finish(canary)
        else:  # the traceback comes last: the client is closed first, and waits
            refresh.release()
            status, shown, rest = -signal.SIGINT, program.finish(canary)[2], ""
    assert (status, rest) == (-signal.SIGINT, "")
    assert shown.splitlines()[-1] == "KeyboardInterrupt"
    assert "asyncio" not in shown
    assert "concurrent" not in shown
    real_town.check_session(make_storage("url", tmp_path))


def test_a_second_ctrl_c_does_not_wait(real_town: Town, tmp_path: Path, canary: Any) -> None:
    with real_town.held() as refresh:
        program = real_town.program(tmp_path, "interrupted", "twice")
        refresh.arrived()
        program.process.send_signal(signal.SIGINT)
        assert program.line() == "waiting"
        program.process.send_signal(signal.SIGINT)
        status, _, errors = program.finish(canary)  # while the server still holds its answer
    assert (status, errors.count("Traceback"), errors.splitlines()[-1]) == (-signal.SIGINT, 1, "KeyboardInterrupt")


def test_a_signal_handler_that_exits(real_town: Town, tmp_path: Path, canary: Any) -> None:
    """As those of servers' worker processes do."""
    with real_town.held() as refresh:
        program = real_town.program(tmp_path, "interrupted", "uncaught")
        refresh.arrived()
        program.process.terminate()
        refresh.release()
        assert program.finish(canary) == (3, "", "")
    real_town.check_session(make_storage("url", tmp_path))
