"""The SQLite file: its permissions, its pragmas, what is in its bytes."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from pauth.errors import ConfigurationError, StorageUnavailable
from pauth.storage import DatabaseTokenStorage
from pauth.storage.sql.sqlite import prepare_file
from tests.storage.kit import KEY, TOKENS, database, engine_of


@pytest.fixture(params=[0o000, 0o777, 0o022])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def modes(folder: Path) -> dict[str, str]:
    return {file.name: f"{stat.S_IMODE(file.stat().st_mode):04o}" for file in folder.iterdir()}


async def test_files_are_private_whatever_the_umask_fs_2_sq_5(tmp_path: Path, umask: None) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", TOKENS)
        assert modes(tmp_path) == {"tokens.db": "0600", "tokens.db-wal": "0600", "tokens.db-shm": "0600"}
    assert modes(tmp_path) == {"tokens.db": "0600"}
    async with aclosing(database(tmp_path)) as storage:
        assert await storage.get_token("alice") == TOKENS


@pytest.mark.parametrize("mode", [0o640, 0o606, 0o666, 0o601])
async def test_a_file_open_to_others_is_warned_about_and_in_plaintext_refused_fs_2(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "tokens.db"
    file.touch()
    file.chmod(mode)
    with pytest.warns(UserWarning, match=f"mode {mode:04o}.*chmod 600"):
        async with aclosing(database(tmp_path)) as storage:
            await storage.save_token("alice", TOKENS)
    with pytest.warns(UserWarning, match="insecure_plaintext"):
        plaintext = DatabaseTokenStorage(f"sqlite:///{file}", insecure_plaintext=True)
    async with aclosing(plaintext):
        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*chmod 600"):
            await plaintext.save_token("alice", TOKENS)


async def test_pragmas_are_set_on_the_connection_sq_5_p12(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path, timeout=7.0)) as storage:
        await storage.save_token("alice", {"a": 1})
        engine = await engine_of(storage)
        async with engine.connect() as connection:
            found = {
                name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one() for name in ("journal_mode", "synchronous", "busy_timeout")
            }
    assert found == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 3500}


async def test_no_secret_is_in_the_bytes_of_any_file_p16(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", TOKENS)
        await storage.put_pending("login", {"code_verifier": "CANARY-code-verifier"}, expires_at=4e9)
        files = contents(tmp_path)
        assert set(files) == {"tokens.db", "tokens.db-wal", "tokens.db-shm"}
        assert b"alice" in files["tokens.db-wal"]  # so it is the right place to look
        assert [name for name, content in files.items() if b"CANARY" in content or b"code_verifier" in content] == []
    assert b"CANARY" not in (tmp_path / "tokens.db").read_bytes()


@pytest.mark.plaintext_files
async def test_the_same_search_finds_plaintext(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="insecure_plaintext"):
        storage = DatabaseTokenStorage(f"sqlite:///{tmp_path}/tokens.db", insecure_plaintext=True)
    async with aclosing(storage):
        await storage.save_token("alice", TOKENS)
        assert b"CANARY" in (tmp_path / "tokens.db-wal").read_bytes()


async def fails(storage: DatabaseTokenStorage, expected: type[Exception], words: str) -> None:
    async with aclosing(storage):
        for _ in range(2):
            with pytest.raises(expected, match=words):
                await storage.get_token("alice")


async def test_a_path_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "missing" / "tokens.db")
    for name in ("missing/tokens.db", "file/tokens.db", "loop", "dangling", "x" * 300):
        await fails(database(tmp_path, name=name), ConfigurationError, "its folder must exist")


async def test_a_path_that_is_no_file_is_a_configuration_error_and_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("folder", "fifo"):
        await fails(database(tmp_path, name=name), ConfigurationError, "is not a file")


async def test_a_folder_without_write_permission_is_a_configuration_error(tmp_path: Path) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "/secret/path")

    with pytest.MonkeyPatch.context() as patch:  # the tests may run as root
        patch.setattr("pauth.storage.sql.sqlite.os.open", refuse)
        await fails(database(tmp_path), ConfigurationError, "^the token database's file cannot be opened: Permission denied; its folder")


async def test_a_full_disk_at_the_first_start_is_worth_another_try_p12(tmp_path: Path) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/path")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pauth.storage.sql.sqlite.os.open", refuse)
        await fails(database(tmp_path), StorageUnavailable, "^the token database's file cannot be opened: No space left on device; try again later$")


async def test_a_storage_works_once_its_folder_is_there(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path, name="folder/tokens.db")) as storage:
        with pytest.raises(ConfigurationError):
            await storage.get_token("alice")
        (tmp_path / "folder").mkdir()
        assert await storage.get_token("alice") is None


def test_a_file_system_without_shared_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # SQLite answers with the mode it stays in: as for a database in memory
    monkeypatch.setattr("pauth.storage.sql.sqlite._create", bool)
    with pytest.raises(ConfigurationError, match="local disk"):
        prepare_file(":memory:", plaintext=False, timeout=1)


def test_a_database_locked_before_its_first_start_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "tokens.db"
    path.touch(0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageUnavailable, match="SQLITE_BUSY"):
            prepare_file(str(path), plaintext=False, timeout=0.01)
    prepare_file(str(path), plaintext=False, timeout=0.01)


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.db"
    for _ in range(2):
        prepare_file(str(path), plaintext=True, timeout=1)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_several_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pauth.storage import DatabaseTokenStorage, EncryptionKey
storage = DatabaseTokenStorage("sqlite:///{tmp_path}/tokens.db", encryption_key={KEY.to_string().reveal()!r})
async def main():
    sys.stdin.readline()
    await storage.save_token(sys.argv[1], {{"n": sys.argv[1]}})
    await storage.aclose()
asyncio.run(main())
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(number)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 4
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as connection:
        assert connection.execute("SELECT count(*) FROM pauth_tokens").fetchone() == (4,)
