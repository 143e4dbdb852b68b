"""`pauth token`, `list` and `show`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from typing import Any

import pytest

from pauth.cli.settings import LOGINS
from pauth.storage import CoordinatedTokenStorage, EncryptedFileStorage, RecordKey
from pauth.testing import faults, token_hash
from tests.cli.kit import CLIENT_ID, CLIENT_SECRET, Browser, Home, ServerThread
from tests.support.canary_plugin import Canary

# --- token


def test_a_valid_token_is_printed_for_a_shell(home: Home, plain_work: ServerThread) -> None:
    """`$(pauth token work)`, with a shell that asks."""
    command, environment = home.command("token", "work")
    shell = subprocess.run(["sh", "-c", 'printf "<%s>" "$("$@")"', "sh", *command], check=True, capture_output=True, text=True, env=environment)
    printed = shell.stdout.removeprefix("<").removesuffix(">")
    (entry,) = plain_work.server.ledger.select(endpoint="token")
    assert token_hash(printed) == entry.access_token_out
    assert (shell.stderr, plain_work.server.ledger.count(grant_type="refresh_token")) == ("", 0)


def test_the_command_gives_what_the_quick_way_gives(home: Home, plain_work: ServerThread) -> None:
    quick = home.process("token", "work").out
    assert home.run("token", "work").out == quick
    assert home.run("token", "WORK ").out == quick
    assert home.run("token").out == quick, "the only one there is"
    document = home.run("token", "work", "--json").json
    assert (document["access_token"], document["token_type"]) == (quick.strip(), "Bearer")
    assert home.run("token", "--header").out == f"Authorization: Bearer {quick}"


def test_an_expired_token_is_refreshed_and_the_new_one_stored_first(home: Home, plain_work: ServerThread) -> None:
    old = home.run("token", "work").out
    home.expire()
    new = home.process("token", "work")
    assert (new.code, new.err) == (0, "")
    assert new.out != old
    assert token_hash(new.out.strip()) == plain_work.server.ledger[-1].access_token_out
    assert home.run("token", "work").out == new.out
    assert plain_work.server.ledger.count(grant_type="refresh_token") == 1


def test_p1_several_processes_at_once_send_one_refresh(home: Home, plain_work: ServerThread) -> None:
    """At a server that revokes everything when a refresh token comes twice."""
    home.expire()
    processes = [home.start("token", "work") for _ in range(5)]
    printed = {token_hash(process.communicate()[0].strip()) for process in processes}
    assert [process.returncode for process in processes] == [0] * 5
    (entry,) = plain_work.server.ledger.select(grant_type="refresh_token")
    assert printed == {entry.access_token_out}
    assert not plain_work.server.family_revoked("alice")


def test_there_is_no_login(home: Home) -> None:
    for name in ([], ["work"]):
        done = home.run("token", *name, "--json")
        assert (done.code, done.out) == (4, "")
        assert (done.error["type"], done.error["reason"]) == ("ReauthorizationRequired", "not_logged_in")
    assert not home.tokens.exists(), "asking makes nothing"
    assert not home.key_file.exists()


def test_there_is_a_store_but_no_login(home: Home) -> None:
    home.run("storage", "bench", "--seconds", "0.01")
    done = home.run("show")
    assert (done.code, done.err) == (4, "Error: there is no login yet: pauth login PROVIDER\n")


def test_there_is_no_such_login(home: Home, work: ServerThread) -> None:
    done = home.run("token", "other")
    assert (done.code, done.err) == (4, "Error: there is no login named 'other': pauth login other\n")
    assert home.run("token", "work", "--user", "nobody").code == 4


def test_several_logins_and_none_is_named(home: Home, work: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)
    home.run("login", work.server.issuer, "--name", "home", "--client-id", CLIENT_ID)
    done = home.run("show")
    assert (done.code, done.err) == (
        3,
        "Error: there are several logins, so name one of them, or make one the default in pauth.toml: home, work\n",
    )
    home.configure('default = "HOME"')
    assert home.run("show", "--json").json["login"] == "home"
    monkeypatch.setenv("PAUTH_LOGIN", "work")
    assert home.run("show", "--json").json["login"] == "work"


def test_a_grant_that_has_ended(home: Home, work: ServerThread) -> None:
    """Exit code 4 stays 4, and nothing is deleted (P8)."""
    work.server.revoke_user("alice")
    home.expire()
    for _ in range(2):
        done = home.run("token", "work", "--json")
        assert (done.code, done.out) == (4, "")
        assert (done.error["reason"], done.error["remedy"]) == ("invalid_grant", "log_in_again")
    assert home.run("show", "work", "--json").json["ended"] == "invalid_grant"
    assert "ended (invalid_grant): log in again" in home.run("list").out


def test_a_server_that_does_not_answer(home: Home, work: ServerThread) -> None:
    home.expire()
    work.server.script("token", faults.rate_limited(17), times=None)
    done = home.run("token", "work", "--json")
    assert (done.code, done.out) == (5, "")
    assert (done.error["type"], done.error["remedy"], done.error["status"], done.error["retry_after"]) == ("ProviderUnavailable", "retry", 429, 17.0)


def test_an_error_is_one_line_and_no_log_beside_it(home: Home, work: ServerThread) -> None:
    """In a process of its own, where nobody has set up logging; a program reads the line as JSON."""
    work.server.script("token", faults.status(503), times=None)
    done = home.process("refresh", "work", "--verbose")
    assert "pauth.events: refresh_failed" in done.err
    done = home.process("refresh", "work", "--json")  # it may rest for a moment: that is an error as well
    assert (done.code, done.out, len(done.err.splitlines())) == (5, "", 1)
    assert done.error["type"] == "ProviderUnavailable"


def test_a_client_that_the_server_does_not_know_any_more(home: Home, work: ServerThread) -> None:
    home.expire()
    work.server.register_client(CLIENT_ID, "CANARY-changed", redirect_uris=["http://127.0.0.1/callback"])
    done = home.run("token", "work", "--json")
    assert (done.code, done.error["error"], done.error["remedy"]) == (3, "invalid_client", "fix_configuration")


def test_na9_what_a_server_says_obeys_no_terminal(home: Home, work: ServerThread) -> None:
    home.expire()
    hostile = "\x1b[2J\x1b]0;owned\x07 bad\u202e\nError: all is well"
    work.server.script("token", faults.status(400, {"error": "invalid_request", "error_description": hostile}), times=None)
    done = home.run("token", "work")
    assert done.code == 3
    assert not set(done.err) & {"\x1b", "\x07", "\u202e"}
    assert len(done.err.splitlines()) == 1


def test_the_secret_can_come_from_elsewhere_later(home: Home, work: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotated client secret, without a new login."""
    home.expire()
    work.server.register_client(CLIENT_ID, "CANARY-rotated", redirect_uris=["http://127.0.0.1/callback"])
    home.configure('[profiles.work]\nclient_secret_env = "ROTATED"')
    done = home.run("refresh", "work")
    assert (done.code, "environment variable 'ROTATED', which is to hold the client secret, is not set" in done.err) == (3, True)
    monkeypatch.setenv("ROTATED", "CANARY-rotated")
    assert home.run("refresh", "work").code == 0


def test_ctrl_c_ends_it_and_loses_no_token(home: Home, work: ServerThread) -> None:
    """P4, P14: the refresh that is under way is stored before the process ends."""
    home.expire()
    hold = work.server.script("token", faults.hold(applied=True))
    process = home.start("token", "work")
    work.call(hold.arrived.wait())
    process.send_signal(signal.SIGINT)
    work.loop.call_soon_threadsafe(hold.release)
    out, err = process.communicate()
    assert (process.returncode, out, err.strip()) == (130, "", "Interrupted.")
    assert home.run("show", "work", "--json").json["ended"] is None
    assert home.run("refresh", "work").code == 0, "the rotated refresh token was kept"


# --- list and show


def test_show_says_everything_but_the_secrets(home: Home, work: ServerThread) -> None:
    document = home.run("show", "work", "--json").json
    assert {
        name: document[name] for name in ("login", "provider", "client_id", "client_secret", "user", "scope", "subject", "issuer", "refreshable")
    } == {
        "login": "work",
        "provider": work.server.issuer,
        "client_id": CLIENT_ID,
        "client_secret": True,
        "user": "work",
        "scope": ["openid", "email"],
        "subject": "alice",
        "issuer": work.server.issuer,
        "refreshable": True,
    }
    text = home.run("show", "work").out
    assert text.startswith("login ")
    assert "access token" in text
    assert text.count("kept, not shown") == 3
    assert "(valid for 60 min)" in text


def test_show_a_login_with_little_to_show(home: Home, work: ServerThread) -> None:
    home.change(refresh_token=None, expires_at=None, id_token=None, subject=None, scope=None)
    text = home.run("show", "work").out
    assert text.count("kept, not shown") == 2
    assert "expires at" not in text
    done = home.run("show", "work", "--user", "nobody")
    assert (done.code, done.err) == (4, "Error: no token of this user is stored: pauth login work\n")


def test_list_says_how_they_stand(home: Home, work: ServerThread) -> None:
    assert home.run("list").out.split() == [
        "LOGIN",
        "USER",
        "PROVIDER",
        "TOKEN",
        "work",
        "work",
        work.server.issuer,
        *["valid", "for", "60", "min,", "refreshable"],
    ]
    home.expire()
    assert "expired 60 min ago, refreshable" in home.run("list").out
    home.change(expires_at=None, refresh_token=None)
    assert home.run("list").out.rstrip().endswith("no expiry known")
    home.change(expires_at=time.time() + 100.5)
    assert re.search(r"valid for (100|99|9\d) s$", home.run("list").out.rstrip())
    home.change(expires_at=time.time() + 90_000 * 24)
    assert home.run("list").out.rstrip().endswith("valid for 25 d")


def test_na9_names_in_the_store_obey_no_terminal(home: Home, work: ServerThread) -> None:
    async def plant(storage: CoordinatedTokenStorage) -> None:
        members = {"access_token": "CANARY", "scope": "a\x1b[31m", "subject": "\u202eeve", "expires_at": 1.0}
        await storage.replace(RecordKey("\x1b[2Jnamespace", "us\x1b]0;x\x07er [bold]b[/]"), members, expected_version=None)
        await storage.replace(RecordKey("else", "unreadable"), {"no": "token"}, expected_version=None)

    home.stored(plant)
    text = home.run("list", "--all").out
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert "user [bold]b[/]" in text
    assert "namespace" in text
    assert "cannot be read: the stored tokens cannot be used" in text
    rows = home.run("list", "--all", "--json")
    assert rows.out.isascii()
    assert [row["user"] for row in rows.json] == ["work", "us\x1b]0;x\x07er [bold]b[/]", "unreadable"]
    assert len(home.run("list", "--json").json) == 1, "the records of other programs only with --all"


def test_list_shows_records_that_cannot_be_decrypted(home: Home, work: ServerThread) -> None:
    for file in home.tokens.rglob("*.token"):
        content = bytearray(file.read_bytes())
        content[-40] ^= 1  # in the tokens, behind the owner
        file.write_bytes(content)
    done = home.run("list", "--all", "--json")
    assert done.code == 0
    row = next(row for row in done.json if row["user"] == "work")
    assert "failed authentication" in row["error"]
    assert home.run("show", "work").code == 3


def test_list_tells_once_of_records_of_nobody_known(home: Home, work: ServerThread) -> None:
    for file in home.tokens.rglob("*.token"):
        file.write_bytes(b"noise" * 50)
    done = home.process("list")
    assert (done.code, done.err.count("records in the token folder that cannot be read: 2;")) == (0, 1)


def test_what_is_kept_of_a_login_by_a_newer_version(home: Home, work: ServerThread) -> None:
    async def change(storage: CoordinatedTokenStorage) -> None:
        await storage.replace(RecordKey(LOGINS, "work"), {"provider": ["https://as.example"]}, expected_version=None)

    home.stored(change)
    done = home.run("show", "work")
    assert (done.code, "log in again" in done.err) == (3, True)


@pytest.mark.parametrize("logins", [False, True])
def test_a_record_that_goes_while_they_are_listed(home: Home, work: ServerThread, monkeypatch: pytest.MonkeyPatch, logins: bool) -> None:
    true = EncryptedFileStorage.get_many

    async def gone(self: EncryptedFileStorage, keys: Any) -> Any:
        found = await true(self, keys)
        return [each if (key.namespace == LOGINS) is not logins else None for key, each in zip(keys, found, strict=True)]

    monkeypatch.setattr(EncryptedFileStorage, "get_many", gone)
    assert home.run("list", "--json").json == []
    assert home.run("storage", "check").code == 0


def test_a_thousand_records_are_listed(home: Home, work: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pauth.cli.tokens._AT_ONCE", 3)

    async def fill(storage: CoordinatedTokenStorage) -> None:
        for number in range(10):
            await storage.replace(RecordKey("others", f"user-{number}"), {"access_token": "CANARY"}, expected_version=None)

    home.stored(fill)
    assert len(home.run("list", "--all", "--json").json) == 11


def test_verbose_tells_what_goes_on(home: Home, work: ServerThread, canary: Canary) -> None:
    work.server.script("metadata", faults.omit("revocation_endpoint"), times=None)
    done = home.process("revoke", "work", "--verbose")
    canary.check(done.out + done.err, "output of pauth revoke --verbose")
    assert (done.code, "pauth.server.endpoints: the server has no revocation endpoint" in done.err) == (0, True)


def test_the_path_of_the_store_may_be_named(home: Home, work: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    key = home.key_file.read_text().strip()
    url = f"file://{home.tokens}"
    elsewhere = home.folder / "another-config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(elsewhere))
    monkeypatch.setenv("XDG_DATA_HOME", str(home.folder / "another-data"))
    assert home.run("list", "--json").json == []
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", key)
    assert len(home.run("list", "--json", "--storage", url).json) == 1
    monkeypatch.setenv("PLACE", url)
    assert len(home.run("list", "--json", "--storage", "env:PLACE").json) == 1
    monkeypatch.setenv("PAUTH_STORAGE_URL", url)
    assert len(home.run("list", "--json").json) == 1
    assert os.environ["PAUTH_STORAGE_URL"] == url
