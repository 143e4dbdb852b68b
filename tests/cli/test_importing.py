"""`pauth import`: what another library keeps, into the command line's own storage or another."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cli.kit import CLIENT_ID, Home, ServerThread

pytestmark = pytest.mark.plaintext_files  # other libraries do not encrypt

PROFILE = f'[profiles.work]\nprovider = "https://as.example"\nclient_id = "{CLIENT_ID}"\npublic = true\n'
TOKEN: dict[str, Any] = {"access_token": "CANARY-access", "refresh_token": "CANARY-refresh", "token_type": "Bearer", "expires_at": 4_102_444_800}
MSAL = {
    "RefreshToken": {"k": {"home_account_id": "u.t", "environment": "login.example", "client_id": CLIENT_ID, "secret": "CANARY-refresh"}},
    "AccessToken": {"k": {"home_account_id": "u.t", "environment": "login.example", "client_id": "another", "secret": "CANARY-access"}},
    "Account": {"k": {"home_account_id": "u.t", "environment": "login.example", "username": "alice@contoso.example"}},
}


@pytest.fixture
def configured(home: Home) -> Home:
    home.configure(PROFILE)
    return home


def written(home: Home, content: object, name: str = "tokens.json") -> str:
    path = home.folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_tokens_are_tried_dry_imported_and_used(configured: Home) -> None:
    file = written(configured, {"alice": TOKEN, "bob": {**TOKEN, "access_token": "CANARY-bob"}})
    done = configured.run("import", "authlib", file, "work", "--dry-run", "--json")
    assert (done.code, done.json) == (
        0,
        {"login": "work", "dry_run": True, "found": 2, "written": ["alice", "bob"], "same": [], "kept": [], "problems": [], "skipped": []},
    )
    assert not configured.tokens.exists()
    assert not configured.key_file.exists()
    done = configured.run("import", "authlib", file, "work")
    assert (done.code, done.err) == (0, "")
    assert done.out == "Tokens found: 2, written: 2, there already: 0, kept as they were: 0, problems: 0, left out on purpose: 0.\n"
    assert [(row["login"], row["user"]) for row in configured.run("list", "--json").json] == [("work", "alice"), ("work", "bob")]
    process = configured.process("token", "work", "--user", "bob")
    assert (process.code, process.out) == (0, "CANARY-bob\n")
    assert configured.run("import", "authlib", file, "--dry-run", "--json").json["same"] == ["alice", "bob"], "the only login is meant"


def test_what_is_there_is_kept_unless_it_is_to_be_replaced(home: Home, work: ServerThread) -> None:
    file = written(home, {"work": TOKEN})
    assert home.run("import", "requests-oauthlib", file, "work", "--json").json["kept"] == ["work"]
    assert home.run("import", "requests-oauthlib", file, "work", "--overwrite", "--json").json["written"] == ["work"]
    shown = home.run("show", "work", "--json").json
    assert (shown["expires_at"], shown["client_secret"]) == ("2100-01-01T00:00:00Z", True), "the login itself is as it was"


@pytest.mark.parametrize(
    ("form", "content", "options", "users"),
    [
        ("authlib", TOKEN, [], ["work"]),
        ("authlib", TOKEN, ["--user", "alice"], ["alice"]),
        ("requests-oauthlib", {"alice": json.dumps(TOKEN)}, [], ["alice"]),
        ("google-auth", {"token": "CANARY-a", "refresh_token": "CANARY-r", "client_id": CLIENT_ID, "expiry": "2100-01-01T00:00:00Z"}, [], ["work"]),
        ("msal", MSAL, [], ["u.t"]),
        ("msal", MSAL, ["--user-id", "username"], ["alice@contoso.example"]),
        ("mcp", {"tokens": {"access_token": "CANARY-a", "expires_in": 3600}}, ["--user", "alice"], ["alice"]),
    ],
)
def test_every_format(configured: Home, form: str, content: object, options: list[str], users: list[str]) -> None:
    done = configured.run("import", form, written(configured, content), "work", *options, "--json")
    assert (done.code, done.json["written"]) == (0, users)
    listed = configured.run("list", "--json").json
    assert [row["user"] for row in listed] == users
    if form == "mcp":
        assert listed[0]["expires_at"] is not None, "an hour after the file was written"


def test_a_table_of_flask_dance(configured: Home) -> None:
    file = configured.folder / "app.db"
    connection = sqlite3.connect(file)
    with connection:
        connection.execute("CREATE TABLE logins (id INTEGER PRIMARY KEY, provider TEXT, created_at DATETIME, token JSON, who INTEGER)")
        for number, provider, who in ((1, "work", 7), (2, "work", None), (3, "other", 8)):
            connection.execute("INSERT INTO logins VALUES (?, ?, '2026-11-27 18:39:29', ?, ?)", (number, provider, json.dumps(TOKEN), who))
    connection.close()
    arguments = ["import", "flask-dance", str(file), "work", "--table", "logins", "--user-column", "who", "--json"]
    done = configured.run(*arguments, "--dry-run")
    assert (done.code, done.json["written"], len(done.json["problems"])) == (1, ["7"], 1)
    done = configured.run(*arguments, "--provider", "other")
    assert (done.code, done.json["written"]) == (0, ["8"])
    assert configured.run(*arguments, "--user", "mine").json["written"] == ["7", "mine"]
    done = configured.run("import", "flask-dance", "-", "work")
    assert (done.code, "cannot come from standard input" in done.err) == (2, True)


def test_a_table_without_users(configured: Home) -> None:
    """One of an application that has a single user, or none."""
    file = configured.folder / "app.db"
    connection = sqlite3.connect(file)
    with connection:
        connection.execute("CREATE TABLE flask_dance_oauth (id INTEGER PRIMARY KEY, provider TEXT, created_at DATETIME, token JSON)")
        connection.execute("INSERT INTO flask_dance_oauth VALUES (1, 'work', '2026-11-27 18:39:29', ?)", [json.dumps(TOKEN)])
    connection.close()
    arguments = ["import", "flask-dance", str(file), "work"]
    done = configured.run(*arguments, "--user", "mine")
    assert (done.code, "(--no-user-column)" in done.err) == (3, True)
    done = configured.run(*arguments, "--no-user-column")
    assert (done.code, done.err) == (1, "row 1: it is nobody's: its user is NULL, or in no column; say whose it is with user_id= (--user)\n")
    assert configured.run(*arguments, "--no-user-column", "--user", "mine", "--json").json["written"] == ["mine"]
    done = configured.run(*arguments, "--no-user-column", "--user-column", "who")
    assert (done.code, "--user-column and --no-user-column contradict each other" in done.err) == (2, True)


def test_a_byte_order_mark(configured: Home) -> None:
    """Windows' editors and shells write one."""
    text = "\ufeff" + json.dumps({"alice": TOKEN})
    assert configured.run("import", "authlib", written(configured, text), "work", "--json").json["written"] == ["alice"]
    assert configured.run("import", "authlib", "-", "work", "--json", input=text).json["same"] == ["alice"]


def test_standard_input(configured: Home) -> None:
    done = configured.run("import", "mcp", "-", "work", input=json.dumps({"tokens": TOKEN}))
    assert done.out.startswith("Tokens found: 1, written: 1,")


def test_what_cannot_be_imported_is_named(configured: Home) -> None:
    file = written(configured, {f"user-{number}": {} if number else TOKEN for number in range(25)})
    done = configured.run("import", "authlib", file, "work")
    lines = done.err.splitlines()
    assert (done.code, len(lines), lines[0], lines[-1]) == (
        1,
        21,
        "entry 2 (user-1): it has neither an access token nor a refresh token",
        "and 4 more",
    )
    assert "written: 1" in done.out
    done = configured.run("import", "msal", written(configured, {**MSAL, "RefreshToken": {}}), "work", "--json")
    assert (done.code, done.json["found"]) == (0, 0)
    assert done.json["skipped"] == [{"where": done.json["skipped"][0]["where"], "user": None, "reason": "it belongs to another client_id"}]


@pytest.mark.parametrize(("content", "problem"), [(b"[1]", "no JSON object"), (b"CANARY-{", "no JSON object"), (b"\xff{}", "it is not UTF-8")])
def test_a_file_that_is_none(configured: Home, content: bytes, problem: str) -> None:
    file = configured.folder / "tokens.json"
    file.write_bytes(content)
    done = configured.run("import", "authlib", str(file), "work")
    assert (done.code, problem in done.err, str(file) in done.err) == (3, True, True)


def test_a_file_that_cannot_be_read(configured: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "CANARY-text")

    file = written(configured, {})
    monkeypatch.setattr(Path, "read_bytes", fail)
    done = configured.run("import", "authlib", file, "work")
    assert (done.code, "cannot be read: Input/output error" in done.err) == (3, True)


def test_p13_an_empty_user_is_nobody(configured: Home) -> None:
    done = configured.run("import", "authlib", written(configured, TOKEN), "work", "--user", "")
    assert (done.code, "it is empty; name what is meant" in done.err) == (2, True)


def test_the_client_has_to_be_known(home: Home) -> None:
    """Said before a key or a store is made."""
    done = home.run("import", "authlib", written(home, {"alice": TOKEN}), "github")
    assert (done.code, "no client id is known for 'github': put the client that the tokens were issued to" in done.err) == (3, True)
    assert not home.tokens.exists()
    assert not home.key_file.exists()
