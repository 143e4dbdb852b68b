"""`pauth refresh`, `revoke` and `logout`."""

from __future__ import annotations

import pytest

from pauth.cli.logins import all_logins
from pauth.storage import CoordinatedTokenStorage
from pauth.testing import faults
from tests.cli.kit import CLIENT_ID, CLIENT_SECRET, Browser, Home, ServerThread


@pytest.fixture
def three(home: Home, work: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> ServerThread:
    """Three users of `work`, and a login `other` of the same client."""
    for user in ("bob", "carol"):
        assert home.run("login", "work", "--user", user).code == 0
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)
    assert home.run("login", work.server.issuer, "--name", "other", "--client-id", CLIENT_ID).code == 0
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    return work


def users(home: Home) -> list[tuple[str, str]]:
    return sorted((row["login"], row["user"]) for row in home.run("list", "--json", "--all").json)


def names(home: Home) -> list[str]:
    async def look(storage: CoordinatedTokenStorage) -> list[str]:
        return sorted([login.name async for login in all_logins(storage)])

    return home.stored(look)


def test_refresh(home: Home, work: ServerThread) -> None:
    done = home.run("refresh", "work", "--json")
    assert (done.json["login"], done.json["user"], done.json["refreshable"]) == ("work", "work", True)
    assert home.run("refresh").out == "Refreshed: the access token is valid for 60 min.\n"
    assert work.server.ledger.count(grant_type="refresh_token") == 2
    assert home.run("refresh", "work", "--user", "nobody").code == 4


def test_refresh_everybody(home: Home, three: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails does not stop the others; another login of the same client is left alone."""
    monkeypatch.setattr("pauth.cli.logins._PAGE", 1)
    before = three.server.ledger.count(grant_type="refresh_token")
    done = home.run("refresh", "work", "--all")
    assert (done.code, done.out) == (0, "Refreshed: 3; failed: 0.\n")
    assert three.server.ledger.count(grant_type="refresh_token") == before + 3
    home.change("bob", refresh_token=None)
    done = home.run("refresh", "work", "--all", "--json")
    assert (done.code, done.json["refreshed"], list(done.json["failed"])) == (1, 2, ["bob"])
    assert done.err.startswith("bob: the access token has")


def test_refresh_with_contradicting_options(home: Home) -> None:
    for command in ("refresh", "revoke", "logout"):
        done = home.run(command, "work", "--all", "--user", "bob")
        assert (done.code, "--all and --user contradict each other" in done.err) == (2, True)


def test_revoke_keeps_the_client(home: Home, work: ServerThread, browser: Browser) -> None:
    done = home.run("revoke", "work", "--json")
    assert (done.code, done.json) == (0, {"login": "work", "user": "work", "revoked": True})
    assert work.server.family_revoked("alice")
    assert (users(home), names(home)) == ([], ["work"])
    done = home.run("revoke", "work")
    assert (done.code, done.err) == (4, "Error: no token of user 'work' is stored for work\n")
    assert home.run("login", "work").code == 0
    assert home.run("revoke").out == "Revoked: the tokens of 'work' are gone.\n"


def test_rv2_a_server_that_does_not_answer_is_tried_again(home: Home, work: ServerThread) -> None:
    work.server.script("revoke", faults.status(503))
    done = home.run("revoke", "work")
    assert done.code == 5
    assert home.run("token", "work").code == 4, "nothing of it is handed out any more"
    assert home.run("revoke", "work").code == 0
    assert work.server.family_revoked("alice")


def test_revoke_everybody(home: Home, three: ServerThread) -> None:
    assert home.run("revoke", "work", "--all").out == "Revoked: 3; failed: 0.\n"
    assert users(home) == [("other", "other")]


def test_logout_forgets_everything(home: Home, work: ServerThread) -> None:
    done = home.run("logout", "work")
    assert (done.code, done.out) == (0, "Nothing is kept of work any more.\nLogged out: 1; failed: 0.\n")
    assert work.server.family_revoked("alice")
    assert (users(home), names(home)) == ([], [])
    assert home.run("logout", "work").code == 4


def test_logout_keeps_the_client_while_somebody_uses_it(home: Home, three: ServerThread) -> None:
    assert home.run("logout", "work").out.startswith("work is still known, for bob, carol.\n")
    assert ([user for _, user in users(home)], names(home)) == (["bob", "carol", "other"], ["other", "work"])
    assert home.run("logout", "work", "--user", "bob").code == 0
    three.server.script("revoke", faults.status(503))
    done = home.run("logout", "work", "--all", "--json")
    assert (done.code, list(done.json["failed"])) == (1, ["carol"])
    assert names(home) == ["other", "work"], "it takes the client to try again"
    assert home.run("logout", "work", "--all").code == 0
    assert (users(home), names(home)) == ([("other", "other")], ["other"])


def test_logout_of_a_provider_that_is_no_more(home: Home, work: ServerThread) -> None:
    work.server.script("metadata", faults.drop_before(), times=None)
    assert home.run("logout", "work").code == 5
    done = home.run("logout", "work", "--local")
    assert (done.code, users(home), names(home)) == (0, [], [])
    assert not work.server.family_revoked("alice")


@pytest.mark.parametrize("options", [[], ["--local"]])
def test_logout_of_a_user_who_has_no_tokens(home: Home, work: ServerThread, options: list[str]) -> None:
    """As `revoke` and `refresh` say it: a mistyped name must not look like a logout."""
    done = home.run("logout", "work", "--user", "typo", *options)
    assert (done.code, done.out, done.err) == (4, "", "Error: no token of user 'typo' is stored for work\n")
    assert home.run("show", "work").code == 0


@pytest.mark.parametrize("options", [[], ["--local"]])
def test_logout_of_a_login_without_tokens_forgets_the_client(home: Home, work: ServerThread, browser: Browser, options: list[str]) -> None:
    assert home.run("login", "work", "--user", "bob").code == 0
    assert home.run("revoke", "work").code == 0
    assert home.run("logout", "work", *options).code == 4, "bob is left"
    assert home.run("revoke", "work", "--user", "bob").code == 0
    done = home.run("logout", "work", *options)
    assert (done.code, done.out, names(home)) == (0, "Nothing is kept of work any more.\nLogged out: 0; failed: 0.\n", [])
