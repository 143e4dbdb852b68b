"""NA-6: which URLs a browser is opened with, and how."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.cli import browser
from pauth.cli.browser import browser_named, can_be_opened, open_browser

URL = "https://as.example/authorize?response_type=code&state=abc-_~.123&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcb"

# Writes its arguments, then renames the file into place: who sees it sees all of it.
SPY = "import json, os, sys; open(sys.argv[1] + '.part', 'w').write(json.dumps(sys.argv[2:])); os.replace(sys.argv[1] + '.part', sys.argv[1])"


@pytest.fixture
def spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that writes down its arguments, as ``BROWSER``."""
    program = tmp_path / "spy.py"
    program.write_text(SPY)
    monkeypatch.setenv("BROWSER", f'{sys.executable} "{program}" "{tmp_path}/seen"')
    return tmp_path / "seen"


def finish() -> None:
    """Wait for the programs that were started."""
    for thread in threading.enumerate():
        if thread.name == "pauth-browser":
            thread.join()


HOSTILE = [
    "",
    "a:$(calc)?",
    "--flag",
    "-https://as.example",
    " https://as.example",
    "https://as.example/ --flag",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "data:text/html,x",
    "ftp://as.example/",
    "http://as.example/authorize",
    "https:as.example",
    "https://user:password@as.example/",
    "https://as.example/#fragment",
    "https://as.example/?a='b",
    "https://as.example/'?a=b",
    'https://as.example/"',
    'https://as.example/?a="b"',
    "https://as.example/?a=`id`",
    "https://as.example/$(calc)?a=b",
    "https://as.example/?a=$(calc)",
    "https://as.example/?$a=b",
    "https://as.example/?(calc)",
    "https://as.example/a;calc?b",
    "https://as.example/?a;calc",
    "https://as.example/?a=*",
    "https://as.example/?a=!calc",
    "https://as.example/?a=b c",
    "https://as.example/?a=%PATH%",
    "https://as.example/?a=%zz",
    "https://as.example/?a=b\nopen -a Calculator",
    "https://as.example/?a=\x1b[31m",
    "https://as.example/?a=\x00",
    "https://as.example/?a=b|calc",
    "https://as.example/?a=b<c>d",
    "https://as.example/?a=b^c",
    "https://as.example/?a=\u202eb",
    "https://exämple/",
    "https://as.example/\\\\evil",
    "https://as.example/?a={b}",
    "https://" + "a" * 20_000,
    f"https://as.example/?{'a' * 20_000}",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_na6_what_could_be_taken_for_something_else_is_never_started(url: str, spy: Path) -> None:
    assert not can_be_opened(url)
    assert not open_browser(url)
    finish()
    assert not spy.exists()


@given(st.text(st.characters(codec=None), max_size=60))
def test_na6_whatever_is_opened_is_an_https_url_of_plain_characters(text: str) -> None:
    for url in (text, f"https://as.example/{text}", f"https://as.example/?{text}"):
        if can_be_opened(url):
            assert url.startswith(("https://", "http://127.", "http://localhost", "http://[::1]", "HTTPS://", "HTTP://"))
            assert url.isascii()
            assert not set(url) & set(" \"'`<>|^\\{}$()*;!\n\r\t\0")


@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:8080/authorize?a=b", "https://as.example/~x/y:z@1,2/?a=b+c&d=%28e%29"])
def test_na6_one_argument_and_no_shell(url: str, spy: Path) -> None:
    assert open_browser(url)
    finish()
    assert json.loads(spy.read_text()) == [url]


@pytest.mark.parametrize(
    ("command", "arguments"), [("{} --new-window %s --x", ["--new-window", URL, "--x"]), ("{} --url=%s", [f"--url={URL}"]), ("{} &", [URL])]
)
def test_browser_as_pythons_own_module_reads_it(command: str, arguments: list[str], spy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", command.format(os.environ["BROWSER"]))
    assert open_browser(URL)
    finish()
    assert json.loads(spy.read_text()) == arguments


def test_the_first_of_several_that_can_be_started(spy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", os.pathsep.join(["no-such-browser %s", 'an "unclosed quote', "", "&", os.environ["BROWSER"]]))
    assert open_browser(URL)
    assert browser_named() == sys.executable
    finish()
    assert json.loads(spy.read_text()) == [URL]


def test_none_that_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "no-such-browser")
    assert not open_browser(URL)
    assert browser_named() is None


def test_a_desktops_own_opener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"):
        monkeypatch.delenv(name, raising=False)
    opener = tmp_path / "xdg-open"
    opener.write_text(f'#!/bin/sh\nprintf "%s|%s" "$#" "$1" > {tmp_path}/seen.part && mv {tmp_path}/seen.part {tmp_path}/seen\n')
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert not open_browser(URL), "without a display it would open one in this terminal"
    assert browser_named() is None
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert browser_named() == str(opener)
    assert open_browser(URL)
    finish()
    assert (tmp_path / "seen").read_text() == f"1|{URL}"


def test_a_program_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not browser._start(["no-such-program\0", URL])  # pyright: ignore[reportPrivateUsage]
    assert not browser._start([])  # pyright: ignore[reportPrivateUsage]
