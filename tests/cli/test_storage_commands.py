"""`pauth storage migrate`, `rotate-keys` and `check`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pauth.cli import storage as storage_commands
from pauth.cli.store import Place
from pauth.secret import Secret
from pauth.storage import (
    CoordinatedTokenStorage,
    DatabaseTokenStorage,
    EncryptionKey,
    RecordKey,
    keys_in_use,
)
from pauth.storage.files.keyfile import keyring_from_file, write_key_file
from tests.cli.kit import Home, ServerThread
from tests.storage.kit import KEY, OTHER_KEY


async def fill(storage: CoordinatedTokenStorage, count: int = 5) -> None:
    for number in range(count):
        key = RecordKey("namespace", f"user-{number}")
        await storage.replace(key, {"access_token": f"CANARY-{number}"}, expected_version=None)


def using(storage: Any, work: Any) -> Any:
    async def session() -> Any:
        try:
            return await work(storage)
        finally:
            await storage.aclose()

    return asyncio.run(session())


# --- migrate


def test_migrate_to_a_database_and_go_on_there(home: Home, work: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logins are records too: after the move everything works in the new place."""
    done = home.run("storage", "migrate", "sqlite:///moved.db")
    assert (done.code, done.out) == (0, "Copied 2 of 2 records; 2 are the same in both, 0 newer in the target, 0 failed.\n")
    home.configure('storage = "sqlite:///moved.db"\nkey = "file"\n')
    assert home.run("refresh", "work").code == 0
    assert home.run("show", "work", "--json").json["subject"] == "alice"
    assert home.run("list", "--all", "--json").json[0]["login"] == "work"
    again = home.run("storage", "migrate", "--storage", f"file://{home.tokens}", "sqlite:///moved.db", "--json")
    assert (again.json["copied"], again.json["kept"], again.json["verified"]) == (0, 1, True)


def test_migrate_to_another_key_and_options(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.run("storage", "bench", "--seconds", "0.01")
    home.stored(fill)
    monkeypatch.setenv("TARGET_KEYS", f"{OTHER_KEY.to_string().reveal()}, {KEY.to_string().reveal()}")
    monkeypatch.setenv("TARGET", f"sqlite:///{home.folder}/target.db")
    done = home.run("storage", "migrate", "env:TARGET", "--target-key-env", "TARGET_KEYS", "--namespace", "namespace", "--json")
    assert (done.code, done.json["copied"], done.json["total"]) == (0, 5, 5)

    async def look(storage: CoordinatedTokenStorage) -> None:
        assert await keys_in_use(storage) == {OTHER_KEY.key_id.hex(): 5}
        await storage.replace(RecordKey("namespace", "extra"), {"access_token": "CANARY"}, expected_version=None)

    using(DatabaseTokenStorage(f"sqlite:///{home.folder}/target.db", encryption_key=[OTHER_KEY]), look)
    done = home.run("storage", "migrate", "env:TARGET", "--target-key-env", "TARGET_KEYS", "--prefer-source")
    assert done.out.endswith("0 failed, 1 only in the target.\n")
    done = home.run("storage", "migrate", "env:TARGET", "--target-key-env", "TARGET_KEYS", "--delete-missing")
    assert done.out.endswith("0 failed, 1 deleted.\n")
    done = home.run("storage", "migrate", "env:TARGET", "--target-key-env", "NO_SUCH")
    assert (done.code, "environment variable 'NO_SUCH', which is to hold encryption keys, is not set" in done.err) == (3, True)


@pytest.mark.parametrize("failing", [1, 30])
def test_migrate_names_what_it_could_not_copy(home: Home, failing: int) -> None:
    home.run("storage", "bench", "--seconds", "0.01")
    home.stored(lambda storage: fill(storage, failing))
    for file in home.tokens.rglob("*.token"):
        content = bytearray(file.read_bytes())
        content[-40] ^= 1
        file.write_bytes(content)
    done = home.run("storage", "migrate", "sqlite:///target.db", "--json")
    assert (done.code, done.json["verified"]) == (1, False)
    lines = done.err.splitlines()
    assert all(line.startswith("user-") for line in lines[:20])
    assert lines[20:] == (["and 10 more"] if failing > 20 else [])


def test_migrate_before_the_first_login(home: Home) -> None:
    """What is missing is the source, not a key for the target; and nothing is made."""
    done = home.run("storage", "migrate", "sqlite:///tokens.db")
    assert (done.code, done.err) == (4, "Error: there is no login yet: pauth login PROVIDER\n")
    assert not (home.folder / "tokens.db").exists()
    done = home.run("storage", "migrate", "memory://")
    assert (done.code, "memory:// keeps nothing after the command has ended" in done.err) == (3, True)


def test_migrate_to_itself(home: Home) -> None:
    home.run("storage", "bench", "--seconds", "0.01")
    done = home.run("storage", "migrate", f"file://{home.tokens}")
    assert (done.code, "source and target are the same store" in done.err) == (3, True)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:CANARY-password@host/db",
        "redis://:CANARY-password@host/0",
        "mysql://host/db?user=x&password=CANARY-password",
        "postgresql://user:CANARY-password@[broken/db",
    ],
)
def test_na10_a_password_on_the_command_line_is_refused(home: Home, url: str) -> None:
    for arguments in (["storage", "migrate", url], ["list", "--storage", url], ["doctor", "--storage", url]):
        done = home.run(*arguments)
        assert done.code == 3
        assert "a storage URL with a password must not stand on the command line" in done.err


def test_a_variable_that_is_not_set(home: Home) -> None:
    done = home.run("storage", "check", "--storage", "env:NO_SUCH")
    assert (done.code, "environment variable 'NO_SUCH', which is to hold the URL of a storage, is not set" in done.err) == (3, True)


def test_a_url_that_is_none(home: Home) -> None:
    done = home.run("storage", "check", "--storage", "postgresql://[broken/db")
    assert (done.code, "this is no database URL" in done.err or "set PAUTH_ENCRYPTION_KEY" in done.err) == (3, True)


def test_memory_is_no_place(home: Home) -> None:
    for arguments in (["list", "--storage", "memory://"], ["storage", "migrate", "memory://"]):
        done = home.run(*arguments)
        assert (done.code, "memory:// keeps nothing after the command has ended" in done.err) == (3, True)


# --- rotate-keys


def key_ids(home: Home) -> list[str]:
    return [key.key_id.hex() for key in keyring_from_file(home.key_file).keys if isinstance(key, EncryptionKey)]


def put_in_front(home: Home) -> None:
    """Make another key the first one."""
    kept = [key for key in keyring_from_file(home.key_file).keys if isinstance(key, EncryptionKey)]
    write_key_file(home.key_file, [key.to_string() for key in (OTHER_KEY, *kept)])


def test_rotate_keys_and_drop_the_old_one(home: Home, work: ServerThread) -> None:
    (old,) = key_ids(home)
    done = home.run("storage", "rotate-keys", "--json")
    new, second = key_ids(home)
    assert (done.code, second, new != old) == (0, old, True)
    assert done.json == {
        "total": 2,
        "checked": 2,
        "rewritten": 2,
        "failed": 0,
        "remaining": 0,
        "complete": True,
        "key_id": new,
        "key_place": str(home.key_file),
    }
    assert home.stored(keys_in_use) == {new: 2}
    assert home.run("refresh", "work").code == 0
    done = home.run("storage", "rotate-keys", "--drop-unused")
    assert (done.code, done.out, key_ids(home)) == (0, f"{old}: taken out; 1 left.\n", [new])
    assert home.run("refresh", "work").code == 0
    assert home.run("storage", "rotate-keys", "--drop-unused", "--json").json == {"dropped": [], "kept": 1, "key_place": str(home.key_file)}


def test_vc5_a_key_in_use_is_not_dropped(home: Home) -> None:
    home.run("storage", "bench", "--seconds", "0.01")
    home.stored(fill)
    (old,) = key_ids(home)
    put_in_front(home)
    done = home.run("storage", "rotate-keys", "--drop-unused")
    assert (done.out, key_ids(home)) == ("Every key but the first is in use, or there is only one.\n", [OTHER_KEY.key_id.hex(), old])


def test_an_interrupted_rotation_goes_on(home: Home) -> None:
    """There is no third key: what is left is brought under the second."""
    home.run("storage", "bench", "--seconds", "0.01")
    home.stored(fill)
    (old,) = key_ids(home)
    put_in_front(home)
    done = home.run("storage", "rotate-keys")
    assert done.out == (
        f"Key {OTHER_KEY.key_id.hex()} ({home.key_file}) is the first one; "
        "5 records were brought under it, 0 failed, 0 are still under an older key.\n"
    )
    assert key_ids(home) == [OTHER_KEY.key_id.hex(), old]


def test_keys_in_the_environment_are_not_ours_to_change(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{home.folder}/tokens.db"
    using(DatabaseTokenStorage(url, encryption_key=KEY), fill)
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEYS", f"{OTHER_KEY.to_string().reveal()},{KEY.to_string().reveal()}")
    done = home.run("storage", "rotate-keys", "--storage", url, "--json")
    assert (done.json["rewritten"], done.json["key_id"], done.json["key_place"]) == (5, OTHER_KEY.key_id.hex(), "the environment")
    assert home.run("storage", "rotate-keys", "--storage", url, "--json").json["rewritten"] == 0
    done = home.run("storage", "rotate-keys", "--storage", url, "--drop-unused")
    assert done.out == f"{KEY.key_id.hex()}: may be taken out of the environment; 1 left.\n"


def test_a_record_that_cannot_be_re_encrypted(home: Home) -> None:
    home.run("storage", "bench", "--seconds", "0.01")
    home.stored(fill)
    broken = min(home.tokens.rglob("*.token"))
    content = bytearray(broken.read_bytes())
    content[-40] ^= 1
    broken.write_bytes(content)
    done = home.run("storage", "rotate-keys")
    assert (done.code, "1 failed" in done.out) == (1, True)


def test_no_key_to_rotate(home: Home) -> None:
    done = home.run("storage", "rotate-keys")
    assert (done.code, "this storage has no key yet" in done.err) == (3, True)
    done = home.run("storage", "rotate-keys", "--storage", "sqlite:///tokens.db")
    assert (done.code, "none that is configured here" in done.err) == (3, True)


# --- check


def test_check_reads_everything(home: Home, work: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_commands, "_PAGE", 1)
    (key_id,) = key_ids(home)
    done = home.run("storage", "check")
    assert (done.code, done.out) == (0, f"{home.tokens}: 2 records, 2 readable, 0 not; 2 under key {key_id}.\n")

    async def plant(storage: CoordinatedTokenStorage) -> None:
        await storage.replace(RecordKey("other", "eve"), {"no": "token"}, expected_version=None)

    home.stored(plant)
    done = home.run("storage", "check", "--json")
    assert (done.code, done.json["records"], done.json["readable"], done.json["unreadable"]) == (1, 3, 2, 1)
    assert done.err.startswith("eve: the stored tokens cannot be used")


def test_check_counts_what_nobody_can_tell_the_owner_of(home: Home) -> None:
    home.run("storage", "bench", "--seconds", "0.01")
    home.stored(fill)
    min(home.tokens.rglob("*.token")).write_bytes(b"nothing of pauth's")
    done = home.run("storage", "check", "--json")
    assert (done.code, done.json["records"], done.json["readable"], done.json["unreadable"]) == (1, 5, 4, 1)


@pytest.mark.filterwarnings("ignore:insecure_plaintext")
@pytest.mark.plaintext_files
def test_check_finds_what_is_not_encrypted(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{home.folder}/plain.db"
    using(DatabaseTokenStorage(url, insecure_plaintext=True), fill)
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", KEY.to_string().reveal())
    done = home.run("storage", "check", "--storage", url, "--json")
    assert (done.code, done.json["unreadable"], done.json["keys"]) == (1, 5, {"not encrypted by pauth": 5})


def test_a_database_without_a_key(home: Home) -> None:
    """A key that is made for the command line's own folder opens nobody else's database."""
    home.run("storage", "bench", "--seconds", "0.01")
    using(DatabaseTokenStorage(f"sqlite:///{home.folder}/tokens.db", encryption_key=KEY), DatabaseTokenStorage.count)
    done = home.run("storage", "check", "--storage", "sqlite:///tokens.db")
    assert (done.code, "set PAUTH_ENCRYPTION_KEY" in done.err) == (3, True)
    home.configure('key = "file"')
    assert home.run("storage", "check", "--storage", "sqlite:///tokens.db").code == 0


# --- a name that is wrong


@pytest.mark.parametrize("url", ["sqlite:///typo.db", "sqlite+aiosqlite:////{folder}/typo.db", "file:///{folder}/ty%70o"])
def test_who_only_reads_makes_no_storage(home: Home, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", KEY.to_string().reveal())
    url = url.format(folder=str(home.folder).strip("/"))
    says = f"here is no login yet: pauth login PROVIDER (there is no storage at {url})\n"
    done = home.run("list", "--storage", url)
    assert (done.code, done.out, done.err) == (0, f"T{says}", "")
    done = home.run("list", "--storage", url, "--json")
    assert (done.code, done.json, done.err) == (0, [], f"T{says}")
    for arguments in (["token", "work"], ["show"], ["refresh"], ["revoke"], ["logout"], ["storage", "check"], ["storage", "rotate-keys"]):
        done = home.run(*arguments, "--storage", url)
        assert (done.code, done.out, done.err) == (4, "", f"Error: t{says}")
    done = home.run("doctor", "--storage", url, "--json")
    assert (done.code, "nothing is stored yet in " in done.out) == (0, True)
    assert list(home.folder.iterdir()) == []
    assert home.run("storage", "bench", "--seconds", "0.01", "--storage", url).code == 0, "which makes it"
    assert home.run("list", "--storage", url).out == "There is no login yet: pauth login PROVIDER\n"
    assert home.run("list", "--storage", url, "--json").err == ""
    assert len(list(home.folder.iterdir())) >= 1


@pytest.mark.parametrize(
    "url", ["postgresql://host/db", "redis:///0", "sqlite://:memory:", "sqlite:///:memory:", "sqlite:///", "sqlite:///file:x?uri=true"]
)
def test_of_others_it_cannot_be_known(url: str) -> None:
    assert Place("", Secret(url)).is_there


def test_the_refresher_may_run_before_the_program_that_it_serves(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", KEY.to_string().reveal())
    home.configure('storage = "sqlite:///tokens.db"\n[profiles.app]\nprovider = "https://as.example"\nclient_id = "x"\npublic = true\n')
    assert home.run("refresher", "--once", "--json").json["logins"] == ["app"]
