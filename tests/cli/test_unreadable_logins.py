"""What is kept of a login is damaged, or written by another version: the other logins go on, and this one can be mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pauth import EncryptionKey
from pauth.cli.logins import UnreadableLogin, all_logins
from pauth.cli.settings import LOGINS
from pauth.errors import StorageUnavailable
from pauth.storage import CoordinatedTokenStorage, RecordKey
from tests.cli.kit import CLIENT_ID, CLIENT_SECRET, Browser, Home, ServerThread

REMEDY = "log in again (pauth login PROVIDER --name pp), or forget it (pauth logout pp --local)"


def damaged(home: Home) -> None:
    file = home.login_file("pp")
    file.write_bytes(file.read_bytes() + b"x")


def of_another_version(home: Home) -> None:
    async def write(storage: CoordinatedTokenStorage) -> None:
        await storage.replace(RecordKey(LOGINS, "pp"), {"provider": ["x"], "client_id": "y", "namespace": "z"}, expected_version=None)

    home.stored(write)


@pytest.fixture(params=[damaged, of_another_version])
def broken(home: Home, work: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ServerThread:
    """A login `work`, and one of the same client, `pp`, of which the record cannot be read any more."""
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)
    assert home.run("login", work.server.issuer, "--name", "pp", "--client-id", CLIENT_ID).code == 0
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    damage: Callable[[Home], None] = request.param
    damage(home)
    return work


def names(home: Home) -> list[tuple[str, bool]]:
    """The logins there are, and whether they can be read."""

    async def look(storage: CoordinatedTokenStorage) -> list[tuple[str, bool]]:
        return sorted([(login.name, not isinstance(login, UnreadableLogin)) async for login in all_logins(storage)])

    return home.stored(look)


@pytest.mark.parametrize("options", [[], ["--all"]])
def test_p9_p18_list_shows_it(home: Home, broken: ServerThread, options: list[str]) -> None:
    done = home.run("list", "--json", *options)
    rows: list[dict[str, Any]] = done.json
    (row,) = [row for row in rows if row["login"] == "pp"]
    assert (done.code, row["user"], "cannot be read (" in row["error"], REMEDY in row["error"]) == (0, None, True, True)
    assert [row["error"] for row in rows if row["login"] == "work" and "error" in row] == []
    text = home.run("list", *options).out
    assert "what is kept of the login 'pp' cannot be read" in text
    assert "valid for 60 min, refreshable" in text


def test_p18_doctor_and_check_say_so(home: Home, broken: ServerThread) -> None:
    done = home.run("doctor", "--json")
    (finding,) = done.json["findings"]["pp"]
    assert (done.code, done.json["problems"], finding["status"], REMEDY in finding["text"]) == (1, 1, "problem", True)
    assert "1 problem." in home.run("doctor").out
    done = home.run("storage", "check", "--json")
    assert (done.code, done.json["readable"], done.json["unreadable"], done.err.startswith("pp: ")) == (1, 3, 1, True)


@pytest.mark.parametrize("arguments", [["token", "pp"], ["show", "pp"], ["refresh", "pp"], ["logout", "pp"]])
def test_p18_what_needs_it_says_what_to_do(home: Home, broken: ServerThread, arguments: list[str]) -> None:
    requests = len(broken.server.ledger)
    done = home.run(*arguments, "--json")
    assert (done.code, done.out, REMEDY in done.error["message"]) == (3, "", True)
    assert done.error["type"] in {"RecordTampered", "UnsupportedRecord"}
    assert (len(broken.server.ledger), names(home)) == (requests, [("pp", False), ("work", True)]), "nothing is revoked or forgotten"


def test_p9_the_other_logins_go_on(home: Home, broken: ServerThread) -> None:
    for command in ("show", "refresh"):
        assert home.run(command, "work", "--json").code == 0
    done = home.run("show")
    assert (done.code, done.err.endswith("pauth.toml: pp, work\n")) == (3, True)
    done = home.run("logout", "work")
    assert (done.code, done.out) == (0, "Nothing is kept of work any more.\nLogged out: 1; failed: 0.\n")
    assert home.run("show").code == 3, "it is the only one now, and cannot be read"


def test_what_is_done_to_every_user_of_a_login_is_not_done_to_its(home: Home, broken: ServerThread) -> None:
    """Whose client it is nobody knows; perhaps the same."""
    assert home.run("logout", "work", "--all", "--json").json["logged out"] == 1
    assert [row["user"] for row in home.run("list", "--all", "--json").json if row["user"]] == ["pp"]


def test_to_log_in_again_mends_it(home: Home, broken: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)
    done = home.run("login", broken.server.issuer, "--name", "pp", "--client-id", CLIENT_ID)
    assert (done.code, done.err.splitlines()[0]) == (0, "What was kept of the login 'pp' cannot be read; this login takes its place.")
    assert names(home) == [("pp", True), ("work", True)]
    assert home.run("logout", "pp").code == 0


def test_to_forget_it_takes_no_client(home: Home, broken: ServerThread) -> None:
    done = home.run("logout", "pp", "--local", "--json")
    assert (done.code, done.json) == (0, {"login": "pp", "logged out": 0, "failed": {}})
    assert "only pauth list --all shows them" in done.err
    assert names(home) == [("work", True)]


def test_to_forget_it_says_nothing_of_tokens_that_were_not_looked_for(home: Home, broken: ServerThread) -> None:
    assert home.run("logout", "pp", "--local").out.splitlines()[0] == "pp is not known any more."
    assert home.run("logout", "pp", "--local").code == 4


def test_the_settings_say_which_tokens_are_its(home: Home, broken: ServerThread) -> None:
    home.configure(f'[profiles.pp]\nprovider = "{broken.server.issuer}"\nclient_id = "{CLIENT_ID}"\n')
    done = home.run("logout", "pp", "--local")
    assert (done.code, done.out.splitlines()[-1]) == (0, "Logged out: 1; failed: 0.")
    assert [row["user"] for row in home.run("list", "--all", "--json").json] == ["work"]


def test_p9_a_damaged_token_can_be_forgotten(home: Home, work: ServerThread) -> None:
    for file in set(home.tokens.rglob("*.token")) - {home.login_file("work")}:
        file.write_bytes(file.read_bytes() + b"x")
    assert home.run("logout", "work").code == 3
    assert home.run("logout", "work", "--local").out.endswith("Logged out: 1; failed: 0.\n")
    assert home.run("list", "--all").out == "There is no login yet: pauth login PROVIDER\n"


@pytest.fixture
def under_another_key(home: Home, double: ServerThread, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerThread]:
    """A login `work` of two users in a database, and then a key that is not its own; with its own nothing has changed.

    A folder of files tells nobody's name without its key; a database does.
    """
    own = EncryptionKey.generate().to_string().reveal()
    monkeypatch.setenv("PAUTH_STORAGE_URL", f"sqlite:///{home.folder}/tokens.db")
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", own)
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)
    for user in ("work", "second"):
        assert home.run("login", double.server.issuer, "--name", "work", "--user", user, "--client-id", CLIENT_ID).code == 0
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", EncryptionKey.generate().to_string().reveal())
    yield double
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", own)
    rows = home.run("list", "--all", "--json").json
    assert sorted((row["login"], row["user"], row["refreshable"]) for row in rows) == [("work", "second", True), ("work", "work", True)]
    assert home.run("refresh", "work", "--all", "--json").json["refreshed"] == 2, "the client secret is there, and nothing was revoked"


def needs_its_key(error: dict[str, Any]) -> bool:
    text: str = error["message"]
    return error["type"] == "UnknownEncryptionKey" and "add that key" in text and "log in" not in text and "logout" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["token", "work"],
        ["logout", "work"],
        ["logout", "work", "--local"],
        ["logout", "--local", "--all"],
        ["login", "URL", "--name", "work", "--public"],
    ],
)
def test_a_login_that_only_lacks_its_key_is_not_given_up(home: Home, under_another_key: ServerThread, arguments: list[str]) -> None:
    done = home.run(*(under_another_key.server.issuer if each == "URL" else each for each in arguments), "--json")
    assert (done.code, done.out, needs_its_key(done.error), done.error["remedy"]) == (3, "", True, "fix_configuration")


def test_list_says_which_key_a_login_lacks(home: Home, under_another_key: ServerThread) -> None:
    (row,) = home.run("list", "--json").json
    assert (row["login"], needs_its_key({"type": "UnknownEncryptionKey", "message": row["error"]})) == ("work", True)


@pytest.mark.parametrize(("options", "code"), [(["--user", "second"], 3), (["--all"], 1)])
def test_tokens_that_only_lack_their_key_are_not_given_up(home: Home, under_another_key: ServerThread, options: list[str], code: int) -> None:
    """The settings say whose they are."""
    home.configure(f'[profiles.other]\nprovider = "{under_another_key.server.issuer}"\nclient_id = "{CLIENT_ID}"\n')
    done = home.run("logout", "other", "--local", *options)
    assert (done.code, "add that key" in done.err) == (code, True)


def test_who_is_left_is_looked_up_before_anything_is_revoked(home: Home, work: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> list[str]:
        raise StorageUnavailable("the store did not answer")

    monkeypatch.setattr("pauth.cli.renewal.users_of", fails)
    assert home.run("logout", "work").code == 5
    assert not work.server.family_revoked("alice")
