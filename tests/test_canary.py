"""The canary finds a secret in every sink it watches: it is fed one at a time (SH-1), and must fail that test and name the sink."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from types import FunctionType

import pytest

import pauth.errors
from pauth.errors import ConfigurationError
from pauth.secret import Secret
from tests.support.canary import CANARY, excerpt, leaks_in_error

# The inner suite. `MARK` keeps the marker out of the source lines that pytest may print.
INNER = '''
import asyncio, base64, logging, os, pathlib, shutil, sys, types, warnings
import click, pytest
from click.testing import CliRunner
import pauth.errors
from pauth.errors import ConfigurationError, PAuthError
from pauth.secret import Secret

MARK = "CAN" "ARY-secret"
PACKAGE = pathlib.Path(pauth.errors.__file__).parent

def inside_pauth(source):
    """Run source as if it stood in the pauth package, so that its frames count as pauth's."""
    namespace = {"ConfigurationError": ConfigurationError, "Secret": Secret}
    exec(compile(source, str(PACKAGE / "invented.py"), "exec"), namespace)
    return namespace["f"]

def test_log_message():
    logging.getLogger("aiohttp.client").debug("sending %s", MARK)

def test_log_traceback():
    try:
        raise ValueError(MARK)
    except ValueError:
        logging.getLogger("x").exception("failed")

def test_log_args():
    logging.getLogger("x").info("%.3s…", MARK)

def test_log_extra():
    logging.getLogger("x").info("hello", extra={"request": {"body": MARK}})

def test_warning_caught():
    with pytest.warns(UserWarning):
        warnings.warn(MARK)

def test_stdout():
    print(MARK)

def test_stderr():
    print(MARK, file=sys.stderr)

def test_capsys(capsys):
    print(MARK)
    capsys.readouterr()

def test_click():
    CliRunner().invoke(click.command()(lambda: click.echo(MARK)))

def test_given_text(canary):
    canary.check(MARK.encode(), "stdout of a subprocess")

def test_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "tokens.json").write_text(MARK)

def test_journal():
    journal = pathlib.Path(os.environ["PAUTH_JOURNAL"])
    journal.mkdir()
    (journal / "a.unsaved").write_text(MARK)

def test_ok_journal_is_empty_again():
    shutil.rmtree(os.environ["PAUTH_JOURNAL"])

def test_file_name(tmp_path):
    (tmp_path / MARK).write_text("")

@pytest.mark.plaintext_files
def test_marked_file_but_log(tmp_path):
    (tmp_path / "tokens.json").write_text(MARK)
    logging.getLogger("x").info(MARK)

@pytest.fixture
def leaks_in_its_end():
    yield
    print(MARK)

def test_fixture_end(leaks_in_its_end):
    pass

def test_error_message():
    ConfigurationError(f"bad key {MARK}")

def test_error_attribute():
    PAuthError("x").request = types.SimpleNamespace(headers=[("Authorization", MARK.encode())])

def test_error_slots():
    class Request:
        __slots__ = ("body",)
    request = Request()
    request.body = (MARK,)
    PAuthError("x").request = request

def test_error_note():
    PAuthError("x").add_note(MARK)

def test_error_cause():
    with pytest.raises(PAuthError):
        raise PAuthError("x") from KeyError(MARK)

def test_error_suppressed_context():
    with pytest.raises(PAuthError):
        try:
            raise OSError(f"https://x/?code={MARK}")
        except OSError:
            raise PAuthError("x") from None

def test_error_context_header():
    class ClientError(Exception):
        def __init__(self, request_info): self.request_info = request_info
        def __str__(self): return "400"
        __repr__ = __str__
    basic = base64.b64encode(b"id:" + MARK.encode()).decode()
    with pytest.raises(PAuthError):
        try:
            raise ClientError({"headers": {"Authorization": f"Basic {basic}"}})
        except ClientError:
            raise PAuthError("x")

def test_error_group():
    with pytest.raises(PAuthError):
        raise PAuthError("x") from ExceptionGroup("g", [ValueError(MARK)])

def test_error_local():
    f = inside_pauth("def f(body): raise ConfigurationError('x')")
    with pytest.raises(PAuthError):
        f(MARK.encode())

async def test_error_local_of_coroutine():
    f = inside_pauth("async def f(body): raise ConfigurationError('x')")
    with pytest.raises(PAuthError):
        await asyncio.create_task(f(MARK))

# what is allowed

@pytest.mark.plaintext_files
def test_ok_marked_file(tmp_path):
    (tmp_path / "tokens.json").write_text(MARK)

def test_ok_secret_in_local():
    f = inside_pauth("def f(body): raise ConfigurationError('x')")
    with pytest.raises(PAuthError):
        f(Secret(MARK))

def test_ok_local_outside_pauth():
    secret = MARK
    with pytest.raises(PAuthError):
        raise PAuthError("x")

def test_ok_everything_masked(tmp_path, capsys):
    secret = Secret(MARK)
    logging.getLogger("x").info("%s %r", secret, secret, extra={"a": secret})
    print(secret)
    capsys.readouterr()
    PAuthError(f"x {secret}").secret = [secret]
    (tmp_path / "x").write_text(str(secret))

def test_own_failure_is_kept():
    print(MARK)
    raise ValueError("my own failure")
'''

SINKS = {
    "test_log_message": "log record of 'aiohttp.client' (DEBUG)",
    "test_log_traceback": "log record of 'x' (ERROR)",
    "test_log_args": "log record of 'x' (INFO), args",
    "test_log_extra": "log record of 'x' (INFO), extra 'request'",
    "test_warning_caught": "warning",
    "test_stdout": "Captured stdout call",
    "test_stderr": "Captured stderr call",
    "test_capsys": "standard output",
    "test_click": "output of the command line",
    "test_given_text": "stdout of a subprocess",
    "test_file": "file sub/tokens.json",
    "test_journal": "file a.unsaved",
    "test_file_name": "file name",
    "test_marked_file_but_log": "log record of 'x' (INFO)",
    "test_fixture_end": "Captured stdout teardown",
    "test_error_message": "ConfigurationError: str()",
    "test_error_attribute": "PAuthError.__dict__[str].headers[][]",
    "test_error_slots": "PAuthError.__dict__[str].body[]",
    "test_error_note": "PAuthError.__notes__[]",
    "test_error_cause": "PAuthError.__cause__<KeyError>: str()",
    "test_error_suppressed_context": "PAuthError.__context__<OSError>: str()",
    "test_error_context_header": "PAuthError.__context__<ClientError>.args[][str][str]",
    "test_error_group": "PAuthError.__cause__<ExceptionGroup>.exceptions<ValueError>: str()",
    "test_error_local": "ConfigurationError: traceback local 'body' of f() in invented.py:1",
    "test_error_local_of_coroutine": "ConfigurationError: traceback local 'body' of f() in invented.py:1",
    "test_own_failure_is_kept": "Captured stdout call",
}


@pytest.fixture(scope="module")
def inner_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    import subprocess
    import sys
    from xml.etree import ElementTree as ET

    folder = tmp_path_factory.mktemp("inner")
    (folder / "test_inner.py").write_text(INNER, encoding="utf-8")
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.canary_plugin", "-c", str(root / "pyproject.toml"), "--rootdir", str(folder)]
    command += ["-p", "no:cacheprovider", "--junitxml", str(folder / "report.xml"), str(folder / "test_inner.py")]
    environment = {**os.environ, "PAUTH_JOURNAL": str(folder / "journal")}
    subprocess.run(command, cwd=folder, check=False, capture_output=True, timeout=120, env=environment)
    cases = ET.parse(folder / "report.xml").getroot().iter("testcase")
    return "\n".join(
        f"{case.get('name')} :: {kind.tag} :: {line}"
        for case in cases
        for kind in case
        if kind.tag in {"error", "failure"}
        for line in (kind.text or "").splitlines()
    )


@pytest.mark.parametrize(("test", "sink"), SINKS.items(), ids=list(SINKS))
def test_a_secret_in_a_sink_fails_the_test_and_names_the_sink(inner_run: str, test: str, sink: str) -> None:
    assert f"{test} :: error ::   - {sink}: " in inner_run


def test_nothing_else_failed(inner_run: str) -> None:
    """SH-1: the sinks see secrets only, and a test that failed by itself keeps its own report."""
    errors = {line.split(" :: ")[0] for line in inner_run.splitlines()}
    assert errors == set(SINKS)
    assert "test_own_failure_is_kept :: failure :: E       ValueError: my own failure" in inner_run


@pytest.mark.parametrize("shift", range(3))
def test_the_marker_is_found_in_base64_whatever_its_alignment(shift: int) -> None:
    for tail in range(3):
        text = base64.b64encode(b"~" * shift + CANARY.encode() + b"~" * tail).decode()
        assert excerpt(f"Basic {text}") is not None
    assert excerpt(base64.b64encode(b"CANARD, CANAR, anary").decode()) is None


def test_the_marker_is_found_in_hexadecimal_and_the_excerpt_masks_it() -> None:
    assert excerpt(CANARY.encode().hex()) is not None
    assert excerpt("a" * 100 + CANARY + "-1" + CANARY) == "a" * 60 + "<canary>-1<canary>"


def test_the_walk_ends_with_cycles_and_at_its_depth() -> None:
    error = ConfigurationError("x")
    error.__cause__ = error.__context__ = error
    loop: list[object] = [Secret(f"{CANARY}-1")]
    loop.append(loop)
    error.__dict__["loop"] = loop
    assert list(leaks_in_error(error)) == []


def test_a_value_without_a_repr_does_not_stop_the_search() -> None:
    def fail(number: int, text: str) -> None:
        raise ConfigurationError("x")

    inside = fail.__code__.replace(co_filename=str(Path(pauth.errors.__file__).with_name("invented.py")))
    with pytest.raises(ConfigurationError) as caught:
        FunctionType(inside, globals())(10**5000, CANARY.lower())
    assert list(leaks_in_error(caught.value)) == []
