"""`pauth storage bench`, `migrate`, `rotate-keys` and `check`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import click
import pytest

from pauth.cli import storage as storage_commands
from pauth.cli.bench import measure_storage
from pauth.cli.common import unless_ended
from pauth.errors import TokenStorageError
from pauth.storage import (
    CoordinatedTokenStorage,
    DatabaseTokenStorage,
    EncryptedFileStorage,
    EncryptionKey,
    MemoryTokenStorage,
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


# --- bench


def test_bench_measures_and_leaves_nothing(home: Home) -> None:
    done = home.run("storage", "bench", "--seconds", "0.01", "--tasks", "1", "--tasks", "3", "--json")
    assert done.code == 0
    assert done.json["storage"] == str(home.tokens)
    lines = done.json["results"]
    assert [(line["operation"], line["tasks"]) for line in lines] == [("save", 1), ("get", 1), ("save", 3), ("get", 3)]
    for line in lines:
        assert 0 < line["p50"] <= line["p95"] <= line["p99"]
        assert line["calls"] >= line["tasks"]
        assert line["per_second"] > 0
    assert home.run("storage", "check", "--json").json["records"] == 0


def test_bench_for_people(home: Home) -> None:
    done = home.run("storage", "bench", "--seconds", "0.01")
    heading, columns, *lines = done.out.splitlines()
    assert heading == f"{home.tokens}: latency in milliseconds"
    assert columns.split() == ["OPERATION", "AT", "ONCE", "P50", "P95", "P99", "PER", "SECOND", "CALLS"]
    assert [line.split()[:2] for line in lines] == [["save", "1"], ["get", "1"], ["save", "64"], ["get", "64"]]


def test_bench_of_another_storage(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", KEY.to_string().reveal())
    done = home.run("storage", "bench", "--storage", "sqlite:///bench.db", "--seconds", "0.01", "--json")
    assert (done.code, done.json["storage"]) == (0, "sqlite:///bench.db")


def test_bench_of_a_storage_that_fails_says_so_and_cleans_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise TokenStorageError("the disk is full")

    monkeypatch.setattr(EncryptedFileStorage, "load", fails)
    done = home.run("storage", "bench", "--seconds", "0.01", "--json")
    assert (done.code, done.error["message"]) == (3, "the disk is full")
    assert home.run("storage", "check", "--json").json["records"] == 0


async def test_bench_as_a_function() -> None:
    storage = MemoryTokenStorage()
    lines = await measure_storage(storage, seconds=0.001, tasks=[2])
    assert [(line.operation, line.tasks) for line in lines] == [("save", 2), ("get", 2)]
    assert await storage.count() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_bench_that_is_ended_cleans_up(home: Home, number: int) -> None:
    process = home.start("storage", "bench", "--seconds", "600")
    while len(list(home.tokens.rglob("*.token"))) < 64:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    if number != signal.SIGINT:
        process.send_signal(number)  # it does not end the cleaning
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "Interrupted.\n")
    assert home.run("storage", "check", "--json").json["records"] == 0


def test_a_signal_that_is_ignored_stays_ignored(home: Home) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert home.run("storage", "bench", "--seconds", "0.01").code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_work_that_is_ended_by_a_signal_or_by_its_caller() -> None:
    begun, cleaned = asyncio.Event(), list[str]()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0)
            cleaned.append("cleaned")

    task = asyncio.create_task(unless_ended(work()))
    await begun.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(click.Abort):
        await task
    begun.clear()
    task = asyncio.create_task(unless_ended(asyncio.sleep(3600)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["cleaned"]


async def test_bench_deletes_what_one_that_was_killed_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not what belongs to one that runs."""
    storage = MemoryTokenStorage()
    delete = storage.delete_many

    async def nothing(keys: object) -> list[Any]:
        return []

    monkeypatch.setattr(storage, "delete_many", nothing)
    monkeypatch.setattr("pauth.cli.bench._OVERDUE", -10.0)
    await measure_storage(storage, seconds=0.001, tasks=[1])
    monkeypatch.setattr("pauth.cli.bench._OVERDUE", 1000.0)
    await measure_storage(storage, seconds=0.001, tasks=[1])
    assert await storage.count() == 128
    monkeypatch.setattr(storage, "delete_many", delete)
    await measure_storage(storage, seconds=0.001, tasks=[1])
    assert await storage.count() == 64


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
    done = home.run("storage", "check", "--storage", "sqlite:///tokens.db")
    assert (done.code, "set PAUTH_ENCRYPTION_KEY" in done.err) == (3, True)
    home.configure('key = "file"')
    assert home.run("storage", "check", "--storage", "sqlite:///tokens.db").code == 0
