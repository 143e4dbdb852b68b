"""`pauth login`: a browser's way there and back, against the double."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pauth import OAuth2Client
from pauth.cli.logins import find_login
from pauth.cli.settings import LOGINS
from pauth.storage import CoordinatedTokenStorage, RecordKey
from pauth.testing import faults
from tests.cli.kit import CLIENT_ID, CLIENT_SECRET, FAKE_BROWSER, Browser, Home, ServerThread, address, visit
from tests.support.canary_plugin import Canary


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)


def redirect_uri(url: str) -> str:
    return parse_qs(urlsplit(url).query)["redirect_uri"][0]


def test_a_login_in_the_browser(home: Home, double: ServerThread, browser: Browser) -> None:
    issuer = double.server.issuer
    done = home.run("login", issuer, "--client-id", CLIENT_ID, "--scope", "openid", "--scope", "email")
    assert done.code == 0, done.err
    assert f"Logged in at {issuer} as alice; the access token is valid for 60 min. Get it with: pauth token {issuer}" in done.out
    (url,) = browser.opened
    assert url in done.err
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", redirect_uri(url))
    assert parse_qs(urlsplit(url).query)["scope"] == ["openid email"]
    browser.join()
    assert [(status, "You are logged in" in page) for status, page in browser.pages] == [(200, True)]
    assert double.server.ledger.count(endpoint="token", outcome="ok") == 1


def test_what_a_login_leaves_behind(home: Home, double: ServerThread, browser: Browser) -> None:
    """Tokens and client, encrypted, in the data folder; the key elsewhere. The canary searches every file."""
    home.run("login", double.server.issuer, "--client-id", CLIENT_ID)

    async def look(storage: CoordinatedTokenStorage) -> None:
        known = await find_login(storage, double.server.issuer)
        assert known is not None
        assert (known.provider, known.client_id, known.client_secret is not None) == (double.server.issuer, CLIENT_ID, True)
        assert repr(known) == f"<KnownLogin {double.server.issuer!r}>"
        assert await storage.load(RecordKey(known.namespace, double.server.issuer)) is not None
        assert await storage.count() == 2

    home.stored(look)
    assert home.key_file.stat().st_mode & 0o777 == 0o600
    assert home.tokens.stat().st_mode & 0o777 == 0o700


def test_json(home: Home, double: ServerThread, browser: Browser) -> None:
    done = home.run("login", double.server.issuer, "--name", "Work", "--client-id", CLIENT_ID, "--scope", "openid", "--user", "alice-1", "--json")
    document = done.json
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document.pop("expires_at"))
    assert document == {
        "login": "work",
        "user": "alice-1",
        "provider": double.server.issuer,
        "subject": "alice",
        "scope": ["openid"],
        "refreshable": True,
    }


def test_the_second_login_needs_nothing_said(home: Home, double: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Client, secret and scopes are kept with the tokens."""
    home.run("login", double.server.issuer, "--name", "work", "--client-id", CLIENT_ID, "--scope", "openid")
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    done = home.run("login", "work", "--user", "bob's account")
    assert done.code == 0, done.err
    assert done.out.rstrip().endswith("pauth token work --user 'bob'\"'\"'s account'")
    assert parse_qs(urlsplit(browser.opened[1]).query)["scope"] == ["openid"]
    assert len(home.run("list", "--json").json) == 2


def test_na6_na10_the_browser_is_a_program_and_the_url_one_argument(
    home: Home, double: ServerThread, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, canary: Canary
) -> None:
    """All of it as a user runs it, in processes: `BROWSER` names a program, which is started without a shell."""
    log = tmp_path / "browser.log"
    monkeypatch.setenv("BROWSER", f"{sys.executable} {FAKE_BROWSER} {log} %s")
    process = home.start("login", double.server.issuer, "--client-id", CLIENT_ID)
    out, err = process.communicate()
    canary.check(out + err, "output of pauth login")
    assert (process.returncode, "The browser was opened." in err) == (0, True), err
    arguments, page = log.read_text().split("\n")
    (url,) = json.loads(arguments)
    assert url.startswith(f"{double.server.authorization_endpoint}?response_type=code&client_id={CLIENT_ID}&")
    assert page == "200 You are logged in"


def test_without_a_browser_the_address_is_shown(home: Home, double: ServerThread, canary: Canary) -> None:
    process = home.start("login", double.server.issuer, "--client-id", CLIENT_ID, "--no-browser")
    url = address(process)
    assert asyncio.run(visit(url))[0] == 200
    out, err = process.communicate()
    canary.check(url + out + err, "output of pauth login")
    assert (process.returncode, out.startswith("Logged in at")) == (0, True)


def test_na10_no_process_has_a_secret_in_its_arguments(home: Home, double: ServerThread) -> None:
    process = home.start("login", double.server.issuer, "--client-id", CLIENT_ID, "--client-secret-stdin", "--no-browser")
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(f"{CLIENT_SECRET}\n")
    process.stdin.close()
    url = address(process)
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert "--client-secret-stdin" in listed
    assert CLIENT_SECRET not in listed
    assert asyncio.run(visit(url))[0] == 200
    process.stdin = None
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("signal_number", [signal.SIGINT])
def test_na3_ctrl_c_ends_it_and_the_port_is_free(home: Home, double: ServerThread, signal_number: int) -> None:
    process = home.start("login", double.server.issuer, "--client-id", CLIENT_ID, "--no-browser")
    url = address(process)
    process.send_signal(signal_number)
    _, err = process.communicate()
    assert (process.returncode, err.strip()) == (130, "Interrupted.")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urlsplit(redirect_uri(url)).port or 0)) != 0


def test_na3_the_listener_is_gone_after_the_login(home: Home, double: ServerThread, browser: Browser) -> None:
    home.run("login", double.server.issuer, "--client-id", CLIENT_ID)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urlsplit(redirect_uri(browser.opened[0])).port or 0)) != 0


def test_nobody_comes_back(home: Home, double: ServerThread) -> None:
    done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--no-browser", "--timeout", "1", "--json")
    assert (done.code, done.out) == (4, "")
    assert (done.error["type"], done.error["remedy"]) == ("AuthorizationError", "log_in_again")


def test_na8_the_user_says_no(home: Home, double: ServerThread, browser: Browser) -> None:
    """The page says where the reason is, and repeats nothing of it."""
    browser.options["deny"] = True
    done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID)
    assert (done.code, done.out) == (4, "")
    assert done.err.splitlines()[-1] == "Error: the server refused the login: access_denied (the user said no); start the login again"
    browser.join()
    ((status, page),) = browser.pages
    assert (status, "The login failed" in page, "said no" in page) == (400, True, False)
    assert home.run("list").out == "There is no login yet: pauth login PROVIDER\n"


def test_the_code_cannot_be_exchanged(home: Home, double: ServerThread, browser: Browser) -> None:
    double.server.script("token", faults.status(503))
    done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID)
    assert (done.code, "start the login again" in done.err or "let the user log in again" in done.err) == (4, True)


def test_a_redirect_uri_with_a_port(home: Home, double: ServerThread, browser: Browser) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        uri = f"http://127.0.0.1:{port}/oauth/back"
        double.server.register_client(CLIENT_ID, CLIENT_SECRET, redirect_uris=[uri])
        done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--redirect-uri", uri)
        assert (done.code, f"port {port} of 127.0.0.1 is taken" in done.err, browser.opened) == (3, True, []), done
    done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--redirect-uri", uri)
    assert (done.code, redirect_uri(browser.opened[0])) == (0, uri)
    assert home.run("login", double.server.issuer).code == 0
    assert redirect_uri(browser.opened[1]) == uri, "kept from the login before"


def test_a_public_client(home: Home, double: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    double.server.register_client("native", redirect_uris=["http://127.0.0.1/callback"], auth_method="none")
    assert home.run("login", double.server.issuer, "--client-id", "native", "--public").code == 0

    async def look(storage: CoordinatedTokenStorage) -> None:
        known = await find_login(storage, double.server.issuer)
        assert known is not None
        assert known.client_secret is None

    home.stored(look)


def test_a_secret_goes_to_no_other_client_or_provider(home: Home, double: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a login counts for that client at that provider only."""
    home.run("login", double.server.issuer, "--name", "work", "--client-id", CLIENT_ID)
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    with ServerThread(secret_marker="CANARY-") as other:
        seen: list[dict[str, str]] = []

        def look(request: object) -> bool:
            seen.append({**request.params, **request.headers})  # type: ignore[attr-defined]
            return False

        other.server.register_client(CLIENT_ID, redirect_uris=["http://127.0.0.1/callback"], auth_method="none")
        other.server.script("token", faults.drop_before(), when=look)
        home.configure(f'[profiles.work]\nprovider = "{other.server.issuer}"\n')
        assert home.run("login", "work").code == 0
    assert len(seen) == 1
    assert "client_secret" not in seen[0]
    assert "authorization" not in seen[0]


def test_the_client_secret_may_come_from_a_file(home: Home, double: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    file = home.folder.parent.parent / "client-secret"
    try:
        file.write_text(f"{CLIENT_SECRET}\r\n")
        assert home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--client-secret-file", str(file)).code == 0
    finally:
        file.unlink()


@pytest.mark.parametrize("content", ["", "CANARY one\nCANARY two", "CANARY" * 1000, b"CANARY\xff"])
def test_a_client_secret_that_is_none(home: Home, content: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    done = home.run("login", "https://as.example", "--client-id", CLIENT_ID, "--client-secret-stdin", input=content)  # type: ignore[arg-type]
    assert (done.code, "one line of text" in done.err) == (3, True)


def test_a_file_of_a_secret_that_is_not_there(home: Home) -> None:
    done = home.run("login", "https://as.example", "--client-id", CLIENT_ID, "--client-secret-file", "no-such-file")
    assert (done.code, done.err) == (3, "Error: the file of the client secret cannot be read: No such file or directory (no-such-file)\n")


def test_what_is_missing_is_asked_for_at_a_terminal_and_hidden(
    home: Home, double: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NA-10: the secret is not echoed."""
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    monkeypatch.setattr("pauth.cli.login._is_asked", lambda: True)  # the runner's standard input is none
    done = home.run("login", double.server.issuer, input=f"{CLIENT_ID}\n{CLIENT_SECRET}\n")
    assert done.code == 0, done.err
    assert "Client id, as registered with the provider:" in done.err
    assert "Client secret; leave it empty for a public client:" in done.err
    assert CLIENT_SECRET not in done.out + done.err


@pytest.mark.parametrize(("options", "typed"), [(["--public"], ""), ([], "\n")])
def test_a_public_client_stays_public(
    home: Home, double: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch, options: list[str], typed: str
) -> None:
    """Nobody is asked for a secret again; and one that is given later counts."""
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    monkeypatch.setattr("pauth.cli.login._is_asked", lambda: True)
    double.server.register_client("native", redirect_uris=["http://127.0.0.1/callback"], auth_method="none")
    done = home.run("login", double.server.issuer, "--name", "work", "--client-id", "native", *options, input=typed)
    assert (done.code, "Client secret" in done.err) == (0, bool(typed))
    done = home.run("login", "work")
    assert (done.code, "Client secret" in done.err) == (0, False)
    double.server.register_client("native", CLIENT_SECRET, redirect_uris=["http://127.0.0.1/callback"])
    assert home.run("login", "work", "--client-secret-stdin", input=f"{CLIENT_SECRET}\n").code == 0
    assert home.run("show", "work", "--json").json["client_secret"] is True


def test_na10_a_secret_that_is_typed_on_standard_input_is_hidden(
    home: Home, double: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pauth.cli.login._is_asked", lambda: True)
    done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--client-secret-stdin", input=f"{CLIENT_SECRET}\n")
    assert (done.code, done.err.startswith("Client secret:")) == (0, True), done.err
    assert CLIENT_SECRET not in done.out + done.err


def test_without_a_terminal_nobody_is_asked(home: Home) -> None:
    done = home.run("login", "github")
    assert done.code == 3
    assert "no client id is configured: register an application with the provider (https://docs.github.com/" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--public", "--client-secret-stdin"],
        ["--public", "--client-secret-file", "x"],
        ["--client-secret-stdin", "--client-secret-file", "x"],
        ["--timeout", "0"],
        ["--client-secret", "CANARY"],
    ],
)
def test_na10_options_that_contradict_each_other_or_are_not_there(home: Home, arguments: list[str]) -> None:
    done = home.run("login", "github", "--client-id", "x", *arguments)
    assert (done.code, done.out) == (2, "")


def test_a_provider_without_tls(home: Home) -> None:
    """In the words of the command line, which has no option for it; and before anything is asked or made."""
    done = home.run("login", "http://sso.example", "--client-id", CLIENT_ID, "--public")
    assert (done.code, done.err) == (
        3,
        "Error: the issuer must be an https: URL; the command line speaks http: to a server on this machine only\n",
    )
    assert not home.tokens.exists()


def test_a_provider_that_nobody_knows(home: Home) -> None:
    done = home.run("login", "gitbub", "--client-id", "x")
    assert (done.code, "there is no preset for a provider named 'gitbub' (pauth providers lists them)" in done.err) == (3, True)
    assert not home.key_file.exists(), "nothing is made for a mistake"


def test_a_profile_has_its_name(home: Home) -> None:
    home.configure('[profiles.work]\nprovider = "github"\n')
    done = home.run("login", "work", "--name", "work2", "--client-id", "x")
    assert (done.code, "a profile of pauth.toml is a name already" in done.err) == (2, True)


def test_ax4_the_user_has_as_long_as_was_said(home: Home, double: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    true = OAuth2Client.__init__

    def watch(self: OAuth2Client, *arguments: Any, **options: Any) -> None:
        waits.append(options["login_timeout"])
        true(self, *arguments, **options)

    monkeypatch.setattr(OAuth2Client, "__init__", watch)
    assert home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--timeout", "3000").code == 0
    assert waits == [3000]


def test_two_logins_at_once_do_not_meet(home: Home, double: ServerThread) -> None:
    """NA-5"""
    processes = [
        home.start("login", double.server.issuer, "--name", name, "--client-id", CLIENT_ID, "--no-browser", "--scope", "openid")
        for name in ("one", "two")
    ]
    urls: list[str] = []
    for process in processes:
        urls.append(address(process))
    for url, user in zip(reversed(urls), ("bob", "alice"), strict=True):
        assert asyncio.run(visit(url, user))[0] == 200
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert {row["login"]: row["subject"] for row in home.run("list", "--json").json} == {"one": "alice", "two": "bob"}


def test_the_keeping_of_logins_is_listed_nowhere(home: Home, double: ServerThread, browser: Browser) -> None:
    home.run("login", double.server.issuer, "--client-id", CLIENT_ID)
    rows = home.run("list", "--all", "--json").json
    assert [row["namespace"] for row in rows] != [LOGINS]
    assert len(rows) == 1
