"""The command `pauth` itself: how it starts, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import runpy
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from pauth import ConfigurationError, Providers, ProviderUnavailable, ReauthorizationRequired, Remedy, __version__
from pauth.cli import main
from pauth.cli.app import COMMANDS, app
from pauth.cli.common import Number
from pauth.cli.demo import DemoFailed
from pauth.cli.output import Output
from pauth.errors import PAuthError
from tests.cli.kit import Home, ServerThread

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


def test_the_help_says_each_command_in_full() -> None:
    """At 80 columns; and examples stand on lines of their own."""
    for arguments in (["--help"], ["storage", "--help"]):
        listing = CliRunner().invoke(app, arguments, terminal_width=80).output.partition("Commands:")[2]
        assert listing.count("\n") > 4
        assert "..." not in listing
    for name in ("login", "token", "completion"):
        lines = CliRunner().invoke(app, [name, "--help"], terminal_width=80).output.splitlines()
        assert any(line.startswith("  pauth ") or "pauth completion bash" in line for line in lines)
        assert not any("\\b" in line or "\b" in line for line in lines)


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["pauth", "--version"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert capsys.readouterr().out == f"pauth, version {__version__}\n"


@pytest.mark.parametrize("module", ["pauth", "pauth.cli"])
def test_python_m(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["pauth", "--version"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module(module, run_name="__main__")
    assert (left.value.code, capsys.readouterr().out) == (0, f"pauth, version {__version__}\n")


@pytest.mark.parametrize("arguments", [["no-such"], ["demo", "--callers", "0"], ["demo", "--callers", "many"], ["demo", "--no-such"]])
def test_wrong_usage(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.output


@pytest.mark.parametrize("number", ["nan", "NaN", "-nan", "inf"])
@pytest.mark.parametrize(
    "arguments",
    [["storage", "bench", "--seconds"], ["login", "github", "--timeout"], ["refresher", "--interval"], ["refresher", "--rate"]],
)
def test_what_is_no_number(home: Home, arguments: list[str], number: str) -> None:
    """`nan` is beyond no bound, and a wait of so many seconds never ends."""
    assert home.run(*arguments, number).code == 2


def test_every_number_is_checked_so() -> None:
    def numbers(command: click.Command) -> list[object]:
        inner = list(command.commands.values()) if isinstance(command, click.Group) else []
        found = [each for name in inner for each in numbers(name)]
        kinds = (click.FloatRange, click.types.FloatParamType)
        return [*found, *(option.type for option in command.params if isinstance(option.type, kinds))]

    context = click.Context(app)
    found = [each for name in COMMANDS if (command := app.get_command(context, name)) is not None for each in numbers(command)]
    assert [each for each in found if not isinstance(each, Number)] == []
    assert len(found) == 4


@pytest.mark.parametrize("library", ["click", "rich"])
def test_a_missing_extra_is_named(library: str) -> None:
    """In an interpreter of its own, where the library is not there."""
    result = python(MISSING.format(library=library))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.strip() == "the command line needs more packages; install them with: pip install 'pauth[cli,sql]'"


def test_python_m_names_the_missing_extra() -> None:
    program = MISSING.format(library="click").replace(
        "from pauth.cli import main\nmain()", "import runpy; runpy.run_module('pauth', run_name='__main__')"
    )
    result = python(program)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.strip().endswith("install them with: pip install 'pauth[cli,sql]'")


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
    assert result.returncode == 3
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


def shell(home: Home, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a line in which `pauth` is the command."""
    command, inherited = home.command()
    return subprocess.run(
        ["bash", "-c", line.replace("pauth", shlex.join(command))], env={**inherited, **environment}, capture_output=True, text=True, check=False
    )


def test_streams_that_are_closed_lead_nowhere(home: Home, work: ServerThread) -> None:
    """As in a daemon's or a job's environment: the command does its work, and nobody is asked anything."""
    assert shell(home, "pauth refresh work <&- >&- 2>&-").returncode == 0
    assert work.server.ledger.count(grant_type="refresh_token") == 1
    assert shell(home, "pauth list >&-").returncode == 0
    assert shell(home, "pauth token nobody >&-").returncode == 4
    secret = shell(home, "pauth login github --client-id x --client-secret-stdin <&-")
    assert (secret.returncode, "a client secret is one line" in secret.stderr) == (3, True)
    asked = shell(home, "pauth login github <&-")
    assert (asked.returncode, "no client id is configured" in asked.stderr) == (3, True)


def test_no_file_is_opened_in_the_place_of_a_closed_stream(home: Home) -> None:
    """What a library writes to standard error would go into it, and into a file of tokens for good."""
    program = "import os, sys; sys.argv = ['pauth', '--version']; from pauth.cli import main\ntry: main()\nfinally: sys.exit(os.open('.', 0))"
    opened = subprocess.run(["bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, "-c", program], check=False, cwd=home.folder)
    assert opened.returncode > 2


def written_to(home: Home, stdout: int, *arguments: str, unbuffered: str) -> tuple[int, str]:
    """The exit code, and what is on standard error, of a command whose standard output is a file that cannot be written."""
    home.environment["PYTHONUNBUFFERED"] = unbuffered
    process = home.start(*arguments, stdout=stdout)
    os.close(stdout)
    err = process.communicate()[1]
    return process.returncode, err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["completion", "bash"], ["token", "work"], ["token", "work", "--json"]])
def test_output_that_cannot_be_written_is_said(home: Home, plain_work: ServerThread, arguments: list[str], unbuffered: str) -> None:
    """As on a full disk. The program ends with the error, and not with a traceback."""
    done = written_to(home, os.open(os.devnull, os.O_RDONLY), *arguments, unbuffered=unbuffered)
    assert done == (1, f"Error: the output could not be written: {os.strerror(errno.EBADF)}\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["token", "work", "--json"]])
def test_nobody_reads_any_more(home: Home, plain_work: ServerThread, arguments: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert written_to(home, writing, *arguments, unbuffered=unbuffered) == (1, "")


def test_another_error_of_the_system_is_shown_as_it_is(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(console: object, *, callers: int) -> None:
        raise FileNotFoundError(2, "No such file or directory", "somewhere")

    monkeypatch.setattr("pauth.cli.demo.run_demo", fails)
    monkeypatch.setattr(sys, "argv", ["pauth", "demo"])
    with pytest.raises(FileNotFoundError):
        main()


def test_ctrl_c_while_the_command_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pauth.cli.quick.quick_token", interrupted)
    monkeypatch.setattr(sys, "argv", ["pauth", "token"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 3),
        (ReauthorizationRequired("x", reason="not_logged_in"), 4),
        (ProviderUnavailable("x"), 5),
        (PAuthError("x", remedy=Remedy.RETRY), 5),
        (DemoFailed("x"), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
    ],
)
def test_exit_codes_say_what_is_to_be_done(home: Home, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    """An error of pauth is one line on standard error."""

    def fails(console: object, *, callers: int) -> None:
        raise error

    monkeypatch.setattr("pauth.cli.demo.run_demo", fails)
    done = home.run("demo")
    assert (done.code, done.out, done.err) == (code, "", "Interrupted.\n" if code == 130 else "Error: x\n")


def test_an_error_as_json(home: Home) -> None:
    error = PAuthError("x \x1b", error="e", error_description="d\x1b[31m", status=400, retry_after=7.0)
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        Output(as_json=True).error(error)
    assert json.loads(printed.getvalue()) == {
        "error": {
            "type": "PAuthError",
            "message": "x \x1b",
            "remedy": "fix_configuration",
            "error": "e",
            "error_description": "d\x1b[31m",
            "status": 400,
            "retry_after": 7.0,
        }
    }
    assert "\x1b" not in printed.getvalue(), "JSON escapes it"


def test_every_command_has_its_help(home: Home) -> None:
    listing = home.run("--help").out
    for name in COMMANDS:
        assert f"  {name} " in listing
        done = home.run(name, "--help")
        assert (done.code, done.out.startswith(f"Usage: pauth {name}")) == (0, True)
    for name in ("bench", "migrate", "rotate-keys", "check"):
        assert home.run("storage", name, "--help").code == 0


def test_every_command_takes_json_and_all_but_the_shows_the_common_options(home: Home) -> None:
    in_storage = [["storage", each] for each in ("bench", "migrate", "rotate-keys", "check")]
    for arguments in [*in_storage, *([name] for name in COMMANDS if name not in {"storage", "demo", "completion"})]:
        text = home.run(*arguments, "--help").out
        assert [option for option in ("--json", "--config", "--storage", "--verbose") if option not in text] == []
    for name in ("demo", "completion"):
        assert "--json" in home.run(name, "--help").out


@pytest.mark.parametrize("name", ["login", "token", "show", "refresh", "revoke", "logout", "doctor"])
def test_p13_who_is_not_named_is_not_the_user_that_is_meant_by_default(home: Home, work: ServerThread, name: str) -> None:
    """`--user "$USER_ID"` in a script in which the variable is not set: not the token of somebody else, nor its end."""
    requests = len(work.server.ledger)
    assert home.run("refresher", "work", "", "--once").code == 2
    for arguments in (["work", "--user", ""], ["work", "--user="], ["work", "-u", ""], [""], ["work", "--config", ""]):
        done = home.run(name, *arguments)
        assert (done.code, done.out, "it is empty; name what is meant, or leave it out" in done.err) == (2, "", True), arguments
    assert len(work.server.ledger) == requests
    assert len(home.run("list", "--json").json) == 1


@pytest.mark.parametrize("option", ["--name", "--client-id"])
def test_a_login_whose_name_or_client_was_left_empty(home: Home, option: str) -> None:
    assert home.run("login", "github", option, "").code == 2


def test_a_configuration_file_with_a_mistake(home: Home) -> None:
    home.configure("stroage = 1")
    done = home.run("list", "--json")
    assert (done.code, done.error["type"], "unknown name 'stroage'" in done.error["message"]) == (3, "ConfigurationError", True)
    assert home.run("list", "--config", "no-such-file").code == 3


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (["token", "--json", "--nope"], "NoSuchOption", "--nope"),
        (["token", "--user", "x", "y", "z", "--json"], "UsageError", "unexpected extra argument"),
        (["import", "authlib", "no-such-file", "--json"], "BadParameter", "no-such-file"),
        (["refresh", "--all", "--user", "x", "--json"], "UsageError", "--all and --user contradict each other"),
        (["no-such", "--json"], "UsageError", "no-such"),
        (["--json"], "NoSuchOption", "--json"),
        (["storage", "no-such", "--json"], "UsageError", "no-such"),
        (["demo", "--callers", "0", "--json"], "BadParameter", "--callers"),
    ],
)
def test_wrong_usage_as_json(home: Home, arguments: list[str], kind: str, says: str) -> None:
    done = home.run(*arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert done.error["type"].startswith(kind) or kind == "UsageError"  # click 8.2 has a class of its own for some
    assert (says in done.error["message"], done.error["remedy"]) == (True, "fix_usage")


@pytest.mark.parametrize("arguments", [["token", "--nope"], ["token", "--nope", "--", "--json"], ["--nope", "--", "--json"]])
def test_wrong_usage_for_people(home: Home, arguments: list[str]) -> None:
    done = home.run(*arguments)
    assert (done.code, done.out, done.err.startswith("Usage: pauth ")) == (2, "", True)


@pytest.mark.parametrize("columns", ["0", "00", "", "-1", "many"])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_width_that_is_none(home: Home, monkeypatch: pytest.MonkeyPatch, columns: str, terminal: bool) -> None:
    """Some shells and debuggers say that a terminal has no columns."""
    monkeypatch.setenv("COLUMNS", columns)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", stream)
    output = Output(as_json=False)
    output.say("something")
    assert "something" in stream.getvalue()
    assert (output.out.width == 200) is not terminal


def test_a_width_that_is_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "41")
    assert Output(as_json=False).out.width == 41


def test_progress_is_for_terminals_only(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, as_json, shows in ((True, False, True), (True, True, False), (False, False, False)):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal)
        with Output(as_json=as_json).progress("counting [bold]\x1b") as tell:
            tell(1, 2)
        assert ("counting [bold]" in stream.getvalue()) is shows


def test_a_table_is_as_wide_as_it_has_to_be_where_there_is_no_terminal(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    assert max(len(line.rstrip()) for line in home.run("providers").out.splitlines()) > 120


# --- providers and completion


def test_providers(home: Home) -> None:
    rows = {row["name"]: row for row in home.run("providers", "--json").json}
    assert list(rows) == [preset.name for preset in Providers.all()]
    assert (rows["google"]["device"], rows["google"]["rotates_refresh_tokens"], rows["google"]["refresh_tokens"]) == (True, False, True)
    assert (rows["facebook"]["device"], rows["facebook"]["refresh_tokens"], rows["facebook"]["rotates_refresh_tokens"]) == (False, False, False)
    assert (rows["slack"]["pkce"], rows["github"]["rotates_refresh_tokens"]) == (False, True)
    text = home.run("providers").out
    assert all(f"{name} " in text for name in rows)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(home: Home, shell: str) -> None:
    done = home.run("completion", shell)
    assert (done.code, "_PAUTH_COMPLETE" in done.out) == (0, True)
    assert home.run("completion", shell, "--json").json == {"shell": shell, "script": done.out.removesuffix("\n")}


def test_a_shell_that_nobody_has_a_script_for(home: Home) -> None:
    assert home.run("completion", "cmd").code == 2


def test_what_a_shell_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of presets and profiles; the store, whose key may be in a keyring that asks for a password, is left alone."""
    home.configure('[profiles.githost]\nprovider = "https://git.example"\n')
    home.environment = {"_PAUTH_COMPLETE": "bash_complete", "COMP_WORDS": "pauth token git", "COMP_CWORD": "2"}
    assert home.process("token", "git").out.split() == ["plain,githost", "plain,github"]
    home.configure("not TOML")
    assert home.process("token", "git").out.split() == ["plain,github"]
    assert not home.tokens.exists()
