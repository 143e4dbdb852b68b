"""The command `pauth` itself: how it starts, and what it says when it cannot."""

from __future__ import annotations

import io
import runpy
import subprocess
import sys

import pytest
from click.testing import CliRunner

from pauth import __version__
from pauth.cli import main
from pauth.cli.app import app
from pauth.errors import PAuthError

MISSING = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {library!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)

sys.meta_path.insert(0, Missing())
from pauth.cli import main
main()
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option: str) -> None:
    result = CliRunner().invoke(app, [option])
    assert result.exit_code == 0
    assert "demo" in result.output
    about_demo = CliRunner().invoke(app, ["demo", option])
    assert about_demo.exit_code == 0
    assert "--callers" in about_demo.output
    assert "Exit code 1 if anything did not go as it should." in " ".join(about_demo.output.split())


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["pauth", "--version"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert capsys.readouterr().out == f"pauth, version {__version__}\n"


def test_python_m_pauth_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["pauth", "--version"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("pauth.cli", run_name="__main__")
    assert (left.value.code, capsys.readouterr().out) == (0, f"pauth, version {__version__}\n")


@pytest.mark.parametrize("arguments", [["no-such"], ["demo", "--callers", "0"], ["demo", "--callers", "many"], ["demo", "--no-such"]])
def test_wrong_usage(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.output


@pytest.mark.parametrize("library", ["click", "rich"])
def test_a_missing_extra_is_named(library: str) -> None:
    """In an interpreter of its own, where the library is not there."""
    result = python(MISSING.format(library=library))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.strip() == "the command line needs more packages; install them with: pip install 'pauth[cli,sql]'"


def test_the_same_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pauth.cli.app")
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit) as left:
        main()
    assert "pauth[cli,sql]" in str(left.value.code)


def test_another_missing_module_is_not_called_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pauth.cli.app")
    monkeypatch.setitem(sys.modules, "pauth.version", None)
    with pytest.raises(ModuleNotFoundError, match=r"pauth\.version"):
        main()


@pytest.mark.parametrize("library", ["sqlalchemy", "aiosqlite"])
def test_the_demo_without_a_database_library(library: str) -> None:
    result = python(f"import sys; sys.modules[{library!r}] = None; sys.argv = ['pauth', 'demo']; from pauth.cli import main; main()")
    assert result.returncode == 1
    assert result.stderr.strip().endswith(f" needs {library}, which is not installed: pip install 'pauth[sql]'")


def test_a_terminal_without_a_check_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows writes files in code page 1252, which has none."""
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="cp1252"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys, "argv", ["pauth", "demo"])

    def only_a_check_mark(console: object, *, callers: int) -> None:
        print("✓", callers, flush=True)

    monkeypatch.setattr("pauth.cli.demo.run_demo", only_a_check_mark)
    with pytest.raises(SystemExit) as left:
        main()
    assert (left.value.code, out.getvalue().strip()) == (0, b"? 1000")


def test_an_error_of_pauth_is_a_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(console: object, *, callers: int) -> None:
        raise PAuthError("it went wrong; try again")

    monkeypatch.setattr("pauth.cli.demo.run_demo", fails)
    result = CliRunner().invoke(app, ["demo"])
    assert (result.exit_code, result.output) == (1, "Error: it went wrong; try again\n")
