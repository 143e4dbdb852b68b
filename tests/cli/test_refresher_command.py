"""`pauth refresher`: it refreshes what is due, once or until it is stopped."""

from __future__ import annotations

import signal

import pytest

from pauth.testing import faults
from tests.cli.kit import CLIENT_ID, CLIENT_SECRET, Browser, Home, ServerThread
from tests.support.canary_plugin import Canary


def refreshes(double: ServerThread) -> int:
    return double.server.ledger.count(grant_type="refresh_token")


def test_once(home: Home, work: ServerThread) -> None:
    done = home.run("refresher", "--once", "--json")
    assert (done.code, done.json["logins"], done.json["scans"], done.json["refreshed"]) == (0, ["work"], 1, 0)
    home.expire()
    done = home.run("refresher", "work", "--once")
    assert (done.code, done.out) == (0, "Refreshed: 1; failed: 0; users who have to log in again: 0; of 1 that were due in 1 scan.\n")
    assert refreshes(work) == 1


def test_a_refresh_that_fails(home: Home, work: ServerThread) -> None:
    home.expire()
    work.server.script("token", faults.status(503), times=None)
    done = home.run("refresher", "work", "--once", "--json")
    assert (done.code, done.json["failed"], done.json["refreshed"]) == (1, 1, 0)


def test_two_names_of_one_client_are_refreshed_once(home: Home, work: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)
    assert home.run("login", work.server.issuer, "--name", "play", "--client-id", CLIENT_ID, "--scope", "openid").code == 0
    for user in ("work", "play"):
        home.expire(user)
    done = home.run("refresher", "--once", "--json")
    assert (done.json["logins"], done.json["listed"], done.json["refreshed"], refreshes(work)) == (["play", "work"], 2, 2, 2)


def test_a_profile_is_enough(home: Home, work: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tokens that another program keeps in this store."""
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)
    home.configure(
        f'[profiles.app]\nprovider = "{work.server.issuer}"\nclient_id = "{CLIENT_ID}"\n[profiles.bare]\nprovider = "https://as.example"\n'
    )
    home.expire()
    done = home.run("refresher", "app", "--once", "--json")
    assert (done.json["logins"], done.json["refreshed"]) == (["app"], 1)
    assert home.run("refresher", "--once", "--json").json["logins"] == ["app", "work"]


def test_p9_a_login_that_cannot_be_used_does_not_stop_the_others(home: Home, work: ServerThread) -> None:
    home.configure(
        f'[profiles.aa]\nprovider = "{work.server.issuer}"\nclient_id = "x"\nclient_secret_env = "NO_SUCH"\n'
        '[profiles.bb]\nprovider = "no-preset"\nclient_id = "x"\npublic = true\n'
    )
    home.expire()
    done = home.run("refresher", "--once", "--json")
    assert (done.code, done.json["logins"], done.json["refreshed"], done.json["failed"], refreshes(work)) == (1, ["work"], 1, 0, 1)
    assert {name: error.split(",")[0] for name, error in done.json["unusable"].items()} == {
        "aa": "the environment variable 'NO_SUCH'",
        "bb": "there is no preset for a provider named 'no-preset' (pauth providers lists them); for any other give the URL of its issuer",
    }
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["aa is left out", "bb is left out"]
    assert home.run("refresher", "--once").out.endswith("in 1 scan; logins that cannot be used: 2.\n")
    assert home.run("refresher", "aa", "work", "--once").code == 3, "it is named"


def test_p9_a_login_that_cannot_be_read_does_not_stop_the_others(home: Home, work: ServerThread, browser: Browser) -> None:
    assert home.run("login", "work").code == 0
    home.configure(f'[profiles.app]\nprovider = "{work.server.issuer}"\nclient_id = "{CLIENT_ID}"\n')
    file = home.login_file("work")
    file.write_bytes(file.read_bytes() + b"x")
    done = home.run("refresher", "--once", "--json")
    assert (done.code, done.json["logins"], list(done.json["unusable"])) == (1, ["app"], ["work"])


def test_no_login_can_be_used(home: Home, work: ServerThread) -> None:
    file = home.login_file("work")
    file.write_bytes(file.read_bytes() + b"x")
    done = home.run("refresher", "--json")
    assert (done.code, done.out) == (3, "")
    assert done.error["message"].startswith("no login can be used: work: what is kept of the login 'work' cannot be read (")


def test_p9_it_keeps_running_for_the_others(home: Home, work: ServerThread, canary: Canary) -> None:
    home.configure('[profiles.aa]\nprovider = "no-preset"\nclient_id = "x"\npublic = true\n')
    home.expire()
    process = home.start("refresher", "--verbose")
    assert process.stderr is not None
    told = ""
    while "token_refreshed" not in told:
        line = process.stderr.readline()
        assert line, told
        told += line
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    canary.check(out + told + err, "output of pauth refresher")
    assert (process.returncode, "aa is left out: " in told, out.endswith("logins that cannot be used: 1.\n")) == (0, True, True)


def test_there_is_nobody(home: Home, work: ServerThread) -> None:
    assert home.run("refresher", "nobody", "--once").code == 4
    assert home.run("logout", "work", "--local").code == 0
    done = home.run("refresher", "--once")
    assert (done.code, done.err) == (4, "Error: there is no login yet: pauth login PROVIDER\n")


def test_it_runs_until_it_is_stopped(home: Home, work: ServerThread, canary: Canary) -> None:
    home.expire()
    process = home.start("refresher", "--interval", "1", "--verbose", "--json")
    assert process.stderr is not None
    told = ""
    while "token_refreshed" not in told:
        line = process.stderr.readline()
        assert line, told
        told += line
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    canary.check(out + told + err, "output of pauth refresher")
    assert (process.returncode, '"refreshed": 1' in out, refreshes(work)) == (0, True, 1)
