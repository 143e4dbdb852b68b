from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.kit import CLIENT_ID, CLIENT_SECRET, Browser, Home, ServerThread


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A user without anything: no settings, no keyring, no browser."""
    for name in os.environ:
        if name.startswith("PAUTH_") or name in {"BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"}:
            monkeypatch.delenv(name)
    home = Home(tmp_path / "home")
    home.folder.mkdir(mode=0o700)
    for name, folder in (("HOME", "."), ("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state")):
        monkeypatch.setenv(name, str(home.folder / folder))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")  # never that of who runs the tests
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(home.folder)
    return home


@pytest.fixture
def double() -> Iterator[ServerThread]:
    """The double in a thread, with a client that may come back to any port of this machine. Each of its tokens and codes is a canary."""
    with ServerThread(secret_marker="CANARY-", device_interval=1) as running:
        running.server.register_client(CLIENT_ID, CLIENT_SECRET, redirect_uris=["http://127.0.0.1/callback"])
        yield running


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    """Whoever opens the browser is logged in as alice."""
    browser = Browser()
    monkeypatch.setattr("pauth.cli.login.open_browser", browser)
    yield browser
    browser.join()


@pytest.fixture
def plain() -> Iterator[ServerThread]:
    """The same without canaries, for commands that are there to print a token."""
    with ServerThread() as running:
        running.server.register_client(CLIENT_ID, CLIENT_SECRET, redirect_uris=["http://127.0.0.1/callback"])
        yield running


@pytest.fixture
def work(home: Home, double: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> ServerThread:
    """A login named `work` at the double, as alice; nothing in the environment."""
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)
    assert home.run("login", double.server.issuer, "--name", "work", "--client-id", CLIENT_ID, "--scope", "openid", "--scope", "email").code == 0
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    return double


@pytest.fixture
def plain_work(home: Home, plain: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> ServerThread:
    """The same at the double without canaries."""
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)
    assert home.run("login", plain.server.issuer, "--name", "work", "--client-id", CLIENT_ID, "--scope", "openid").code == 0
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    return plain
