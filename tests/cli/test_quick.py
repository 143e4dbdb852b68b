"""The quick way of `pauth token`: what it answers, what it leaves to the command, and that it loads nothing that takes long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from pauth.cli.quick import quick_token
from pauth.cli.settings import LOGINS
from pauth.storage import CoordinatedTokenStorage, EncryptedFileStorage, RecordKey
from tests.cli.kit import CLIENT_ID, Home
from tests.storage.kit import KEY, OTHER_KEY

NAMESPACE = '["https://as.example", "cli-client"]'
LOGIN = {"provider": "https://as.example", "client_id": CLIENT_ID, "namespace": NAMESPACE}
SLOW = ["aiohttp", "asyncio", "click", "joserfc", "keyring", "platformdirs", "pathlib", "rich", "sqlalchemy", "tomllib", "urllib.parse"]


def tokens(access_token: str = "CANARY-access", **changes: Any) -> dict[str, Any]:
    now = time.time()
    return {"access_token": access_token, "token_type": "Bearer", "issued_at": now, "expires_at": now + 3600, **changes}


def store(home: Home, *records: tuple[str, str, dict[str, Any]]) -> None:
    async def write(storage: CoordinatedTokenStorage) -> None:
        for namespace, user, members in records:
            await storage.replace(RecordKey(namespace, user), members, expected_version=None)

    home.stored(write)


@pytest.fixture
def stored(home: Home) -> Home:
    """A login named `work`, with tokens of two users."""
    store(home, (LOGINS, "work", LOGIN), (NAMESPACE, "work", tokens()), (NAMESPACE, "bob", tokens("CANARY-bob")))
    return home


def answer(*arguments: str) -> str | None:
    token = quick_token(arguments)
    return None if token is None else token.reveal()


@pytest.mark.parametrize(
    ("arguments", "token"),
    [
        (["work"], "CANARY-access"),
        ([" WORK"], "CANARY-access"),
        (["work", "--user", "bob"], "CANARY-bob"),
        (["--user=bob", "work"], "CANARY-bob"),
        (["-u", "bob", "work"], "CANARY-bob"),
        (["work", "--user", "nobody"], None),
        (["other"], None),
        ([], None),
    ],
)
def test_a_stored_and_valid_token_is_printed(stored: Home, arguments: list[str], token: str | None) -> None:
    assert answer(*arguments) == token


@pytest.mark.parametrize(
    "arguments",
    [
        ["work", "--json"],
        ["work", "--header"],
        ["--help"],
        ["work", "more"],
        ["work", "--user"],
        ["work", "--user", "--json"],
        ["work", "--user", ""],
        ["work", "--user="],
        ["work", "-u", ""],
        ["", "work"],
        ["-v"],
    ],
)
def test_all_other_arguments_are_the_commands(stored: Home, arguments: list[str]) -> None:
    assert answer(*arguments) is None


def test_the_environment_and_pauth_toml_say_which(stored: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    stored.configure('default = "work"')
    assert answer() == "CANARY-access"
    monkeypatch.setenv("PAUTH_LOGIN", "other")
    assert answer() is None
    monkeypatch.setenv("PAUTH_LOGIN", "work")
    monkeypatch.setenv("PAUTH_USER", "bob")
    assert answer() == "CANARY-bob"
    monkeypatch.delenv("PAUTH_USER")
    stored.configure('[profiles.work]\nuser = "bob"')
    assert answer() == "CANARY-bob"


@pytest.mark.parametrize(
    ("settings", "same"),
    [
        ('[profiles.work]\nprovider = "https://as.example"', True),
        ('[profiles.work]\nprovider = "https://other.example"', False),
        (f'[profiles.work]\nclient_id = "{CLIENT_ID}"', True),
        ('[profiles.work]\nclient_id = "other"', False),
        ("[profiles.work]\nclientid = 1", False),
    ],
)
def test_another_provider_or_client_than_at_the_login_is_the_commands(stored: Home, settings: str, same: bool) -> None:
    stored.configure(settings)
    assert (answer("work") is not None) is same


def test_another_client_in_the_environment(stored: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_CLIENT_ID", "other")
    assert answer("work") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": 1.0},
        {"grant_ended": "invalid_grant"},
        {"access_token": ""},
        {"token_type": "MAC"},
    ],
)
def test_a_token_that_will_not_do_is_the_commands(stored: Home, changes: dict[str, Any]) -> None:
    store(stored, (NAMESPACE, "work", tokens(**changes)))
    assert answer("work") is None


def test_a_token_that_is_stale_is_the_commands(stored: Home) -> None:
    """It refreshes it ahead."""
    now = time.time()
    store(stored, (NAMESPACE, "work", tokens(issued_at=now - 3500, expires_at=now + 100)))
    assert answer("work") is None


def test_what_is_kept_of_a_login_in_another_form(stored: Home) -> None:
    for login in ({"provider": "https://as.example"}, {**LOGIN, "namespace": 7, "client_secret": "CANARY"}):
        store(stored, (LOGINS, "work", login))
        assert answer("work") is None


def test_the_key_in_the_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    async def write() -> None:
        storage = EncryptedFileStorage(home.folder / "elsewhere", KEY)
        await storage.replace(RecordKey(LOGINS, "work"), LOGIN, expected_version=None)
        await storage.replace(RecordKey(NAMESPACE, "work"), tokens(), expected_version=None)
        await storage.aclose()

    asyncio.run(write())
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", KEY.to_string().reveal())
    monkeypatch.setenv("PAUTH_STORAGE_URL", f"file://{home.folder}/elsewhere")
    assert answer("work") == "CANARY-access"
    monkeypatch.setenv("PAUTH_STORAGE_URL", f"file://{home.folder}/else%77here")
    assert answer("work") is None
    monkeypatch.delenv("PAUTH_STORAGE_URL")
    home.configure(f'storage = "file://{home.folder}/elsewhere"')
    assert answer("work") == "CANARY-access"
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", OTHER_KEY.to_string().reveal())
    assert answer("work") is None
    monkeypatch.setenv("PAUTH_STORAGE_URL", "sqlite:///tokens.db")
    assert answer("work") is None


def damage_manifest(home: Home) -> None:
    (home.tokens / "folder").write_bytes(b"x")


def damage_record(home: Home) -> None:
    for file in home.tokens.rglob("*.token"):
        file.write_bytes(file.read_bytes()[:-1])


def open_folder(home: Home) -> None:
    home.tokens.chmod(0o755)


def no_key(home: Home) -> None:
    home.key_file.unlink()


def no_store(home: Home) -> None:
    home.tokens.rename(home.folder / "gone")


def no_manifest(home: Home) -> None:
    (home.tokens / "folder").unlink()


@pytest.mark.parametrize("damage", [damage_manifest, damage_record, open_folder, no_key, no_store, no_manifest])
def test_whatever_is_wrong_is_the_commands_to_say(stored: Home, damage: Callable[[Home], None]) -> None:
    """Nothing is made or mended on the way."""
    damage(stored)
    before = sorted(str(path) for path in stored.folder.rglob("*"))
    assert answer("work") is None
    assert sorted(str(path) for path in stored.folder.rglob("*")) == before


def test_nothing_that_takes_long_is_loaded(home: Home) -> None:
    """The goal is 1.3 times the time of `python -c "import asyncio"`, which only a process can show; this is what it is reached with."""
    store(home, (LOGINS, "work", LOGIN), (NAMESPACE, "work", tokens("not-secret")))
    program = (
        "import sys, json; sys.argv = ['pauth', 'token', 'work']; from pauth.cli import main; main(); "
        f"print(json.dumps([name for name in {SLOW!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    token, loaded = done.stdout.splitlines()
    assert (token, json.loads(loaded)) == ("not-secret", [])


def test_the_command_line_prints_it(home: Home) -> None:
    store(home, (LOGINS, "work", LOGIN), (NAMESPACE, "work", tokens("not-secret")))
    done = home.process("token", "work")
    assert (done.code, done.out, done.err) == (0, "not-secret\n", "")


def test_nobody_reads_what_is_printed(home: Home) -> None:
    """A closed pipe ends it quietly."""
    store(home, (LOGINS, "work", LOGIN), (NAMESPACE, "work", tokens("not-secret")))
    reading, writing = os.pipe()
    os.close(reading)
    process = home.start("token", "work", stdout=writing)
    os.close(writing)
    _, err = process.communicate()
    assert (process.returncode, err) == (1, "")
