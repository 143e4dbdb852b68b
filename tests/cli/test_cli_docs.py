"""docs/cli.md: its commands run, its tables are complete, its configuration file is read."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

import pauth
from pauth import Provider, ServerMetadata
from pauth.cli.app import COMMANDS
from pauth.cli.importing import import_command
from pauth.cli.login import login
from pauth.cli.output import EXIT_CODES, FAILED, INTERRUPTED, Output
from pauth.cli.refresher import refresher
from pauth.cli.settings import Profile, load_config
from pauth.providers import catalog
from tests.cli.kit import CLIENT_SECRET, ROOT, Browser, Home, ServerThread

PAGE: Final = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
FENCES: Final = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CLIENTS: Final = ("Iv1.0123456789", "0123-abc.apps.googleusercontent.com")


def commands() -> Iterator[list[str]]:
    """Every call of pauth on the page, also those inside ``$(…)`` and before a pipe."""
    for language, text in FENCES:
        if language == "console":
            for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
                for call in re.findall(r"\$\((pauth [^)]*)\)", line) or [line.partition("|")[0]]:
                    yield shlex.split(call, comments=True)


@pytest.fixture
def world(plain: ServerThread, monkeypatch: pytest.MonkeyPatch) -> ServerThread:
    """What the page assumes: GitHub, Google and an issuer, with applications registered there. The double stands in their place."""
    server = plain.server
    metadata = ServerMetadata(
        issuer=server.issuer,
        authorization_endpoint=server.authorization_endpoint,
        token_endpoint=server.token_endpoint,
        revocation_endpoint=server.revocation_endpoint,
        device_authorization_endpoint=server.device_authorization_endpoint,
    )
    presets = {name: Provider(name=name, metadata=metadata) for name in ("github", "google")}
    monkeypatch.setattr(catalog, "_PRESETS", {**catalog._PRESETS, **presets})  # pyright: ignore[reportPrivateUsage]
    for client in CLIENTS:
        server.register_client(client, CLIENT_SECRET, redirect_uris=["http://127.0.0.1/callback"])
    server.register_client("my-app", redirect_uris=["http://127.0.0.1/callback"], auth_method="none")
    tell = Output.tell

    def read_by_a_user(self: Output, *lines: str) -> None:
        """Whoever reads a code on the terminal confirms it on another device."""
        tell(self, *lines)
        for code in re.findall("^  ([A-Z]{4}-[A-Z]{4})$", "\n".join(lines), re.MULTILINE):
            server.decide_device(code)

    monkeypatch.setattr(Output, "tell", read_by_a_user)
    return plain


def test_every_command_of_the_page_runs(home: Home, world: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, in one home."""
    used: set[str] = set()
    (home.folder / "tokens.json").write_text('{"imported": {"access_token": "not-secret", "refresh_token": "not-secret-either"}}')
    for call in commands():
        arguments = [world.server.issuer if word == "https://login.example.com" else word for word in call[1:]]
        if any(word.endswith((CLIENTS[0], CLIENTS[1])) for word in arguments):
            monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)  # what the user would type
        done = home.run(*arguments)
        monkeypatch.delenv("PAUTH_CLIENT_SECRET", raising=False)
        assert (call[0], done.code) == ("pauth", 0), (call, done)
        used.add(arguments[0])
    assert used == set(COMMANDS), "each command has an example"


@pytest.mark.parametrize("command", [login, refresher, import_command])
def test_every_option_is_on_the_page(command: click.Command) -> None:
    named = set(re.findall(r"--[a-z-]+", PAGE))
    options = {name for option in command.params for name in (*option.opts, *option.secondary_opts) if name.startswith("--")}
    assert options <= named


def test_the_exit_codes_are_those_of_the_program() -> None:
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert rows == {0, FAILED, 2, *EXIT_CODES.values(), INTERRUPTED}


def test_every_variable_is_on_the_page_and_no_other() -> None:
    package = Path(pauth.__file__).parent
    sources = [path.read_text(encoding="utf-8") for path in package.rglob("*.py") if "testing" not in path.relative_to(package).parts]
    read = {name for source in sources for name in re.findall(r'(?:get\(|environ\[|variable\()"(PAUTH_[A-Z_]+)"', source)}
    section = PAGE[PAGE.index("## Environment") : PAGE.index("## Exit codes")]
    assert set(re.findall(r"`(PAUTH_[A-Z_]+)`", section)) == read


def test_the_configuration_file_of_the_page_is_read(home: Home) -> None:
    (text,) = [text for language, text in FENCES if language == "toml"]
    home.configure(text)
    config = load_config()
    work = config.profiles["work"]
    assert {name for name in Profile.__slots__ if getattr(work, name) is None} == {"client_secret_env"}
    assert config.key_file == str(home.config_file.with_name("encryption.key"))
    home.configure(text.replace("client_secret_file", "# ").replace("# client_secret_env", "client_secret_env").replace("# public", "public"))
    assert (load_config().profiles["work"].client_secret_env, load_config().profiles["work"].public) == ("MY_APP_SECRET", True)


@pytest.mark.parametrize(("code", "says"), [(0, "at-token"), (4, "run: pauth login work"), (3, "")])
def test_the_script_of_the_page(tmp_path: Path, code: int, says: str) -> None:
    """With a `pauth` that ends as the test wants it."""
    (script,) = [text for language, text in FENCES if language == "sh" and "esac" in text]
    program = tmp_path / "pauth"
    program.write_text(f"#!/bin/sh\n[ {code} = 0 ] && echo at-token\nexit {code}\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", f'{script}\necho "$token"'], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, (done.stdout + done.stderr).strip()) == (0 if code == 0 else 1, says)
