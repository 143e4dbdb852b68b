"""What somebody else put into the folder is refused, loudly and without waiting (FS-2, FS-3)."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.errors import ConfigurationError, RecordTampered, TokenStorageError
from pauth.storage import RecordKey
from pauth.storage.files import EncryptedFileStorage
from pauth.storage.files.folder import MAX_FILE_BYTES, Folder, open_folder
from tests.storage.files.kit import ALICE, files, found, token_files
from tests.storage.kit import KEY, TOKENS

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
async def test_a_folder_others_can_enter_is_refused_fs_2(tmp_path: Path, mode: int) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens").chmod(mode)
    async with aclosing(files(tmp_path)) as storage:
        with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*chmod 700"):
            await storage.get_token("alice")


@as_root
async def test_somebody_elses_folder_is_refused_fs_2(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir(mode=0o700)
    os.chown(tmp_path / "tokens", 12345, 12345)
    async with aclosing(files(tmp_path)) as storage:
        with pytest.raises(ConfigurationError, match="belongs to another user"):
            await storage.get_token("alice")


@pytest.mark.parametrize("kind", ["link", "file", "dangling link"])
async def test_a_path_that_is_no_folder_is_refused_fs_3(tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if kind == "file":
        (tmp_path / "tokens").touch()
    else:
        (tmp_path / "tokens").symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    async with aclosing(files(tmp_path)) as storage:
        with pytest.raises(ConfigurationError, match="is a link or a file"):
            await storage.save_token("alice", {"a": 1})
    assert list((tmp_path / "elsewhere").iterdir()) == []


def plant(kind: str, path: Path, tmp_path: Path) -> None:
    if kind != "hard link":
        path.unlink()
    match kind:
        case "symlink":
            path.symlink_to("/etc/passwd")
        case "dangling symlink":
            path.symlink_to(tmp_path / "nowhere")
        case "FIFO":
            os.mkfifo(path, 0o600)
        case "folder":
            path.mkdir(0o700)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                here = os.open(path.parent, os.O_RDONLY)
                try:
                    listener.bind(f"/proc/self/fd/{here}/{path.name}")  # the path of a socket must be short
                finally:
                    os.close(here)
        case "hard link":
            os.link(path, tmp_path / "second name")
        case "huge file":
            path.touch(0o600)
            os.truncate(path, MAX_FILE_BYTES + 1)
        case "readable by all":
            path.touch(0o644)
            path.chmod(0o644)
        case _:
            path.touch(0o600)
            os.chown(path, 12345, 12345)


KINDS = [
    "symlink",
    "dangling symlink",
    "FIFO",
    "folder",
    "socket",
    "hard link",
    "huge file",
    "readable by all",
    pytest.param("foreign", marks=as_root),
]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_planted_record_is_refused_and_stays_fs_3(tmp_path: Path, kind: str) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.replace(ALICE, TOKENS, expected_version=0)
        (record,) = token_files(tmp_path)
        plant(kind, record, tmp_path)
        with pytest.raises(RecordTampered, match="token folder"):
            await storage.load(ALICE)
        for version in (1, None):
            with pytest.raises(RecordTampered, match="token folder"):
                await storage.replace(ALICE, TOKENS, expected_version=version)
            with pytest.raises(RecordTampered, match="token folder"):
                await storage.remove(ALICE, expected_version=version)
        assert (await storage.list_users()).items == []
        assert await storage.count() == 1
        assert (await storage.list_expiring(4e9)).items == []
        assert record.is_symlink() or record.exists()


@pytest.mark.parametrize("kind", ["symlink", "FIFO", "folder"])
async def test_a_planted_login_or_lease_file_is_refused_fs_3(tmp_path: Path, kind: str) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.put_pending("login", {}, expires_at=4e9)
        await storage.take_lease(ALICE, "owner", ttl=60)
        plant(kind, found(tmp_path, "*.login")[0], tmp_path)
        plant(kind, found(tmp_path, "leases")[0], tmp_path)
        with pytest.raises(RecordTampered):
            await storage.take_pending("login")
        with pytest.raises(RecordTampered):
            await storage.take_lease(ALICE, "owner", ttl=60)


@pytest.mark.parametrize("kind", ["link", "file"])
async def test_a_planted_shard_is_refused_fs_3(tmp_path: Path, kind: str) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.save_token("alice", TOKENS)
        (record,) = token_files(tmp_path)
        record.parent.rename(tmp_path / "elsewhere")
        if kind == "link":
            record.parent.symlink_to(tmp_path / "elsewhere")
        else:
            record.parent.touch(0o600)
        with pytest.raises(RecordTampered):
            await storage.get_token("alice")


@pytest.mark.parametrize("kind", ["symlink", "FIFO", "folder"])
async def test_a_planted_lock_is_refused_without_waiting_fs_3(tmp_path: Path, kind: str) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.save_token("alice", TOKENS)
        plant(kind, token_files(tmp_path)[0].with_name("lock"), tmp_path)
        if kind == "FIFO":  # which can be locked like any file, and nothing is read from it
            await storage.save_token("alice", TOKENS)
        else:
            with pytest.raises(TokenStorageError):
                await storage.save_token("alice", TOKENS)


async def test_swapping_the_folder_leads_nobody_astray_fs_3(tmp_path: Path) -> None:
    """The folder is opened once: renaming it, or a folder above, and putting another in its place has no effect."""
    target = tmp_path / "above" / "tokens"
    other = tmp_path / "other"
    (other / "tokens").mkdir(parents=True)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (tmp_path / "above").rename(tmp_path / "away")
            (tmp_path / "above").symlink_to(other)
            (tmp_path / "above").unlink()
            (tmp_path / "away").rename(tmp_path / "above")

    async with aclosing(EncryptedFileStorage(target, KEY)) as storage:
        await storage.save_token("alice", {"n": 0})
        swapper = threading.Thread(target=swap)
        swapper.start()
        try:
            for number in range(60):
                await storage.save_token(f"user {number}", {"n": number})
                assert await storage.get_token("alice") == {"n": 0}
        finally:
            stop.set()
            swapper.join()
        assert await storage.count() == 61
    assert list((other / "tokens").iterdir()) == []


def test_a_cleaner_deletes_only_the_file_it_looked_at_fs_8(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path / "private"))
    folder.replace("a", b"old")
    looked_at = folder.read("a")
    assert looked_at is not None
    folder.replace("a", b"new")
    assert folder.remove("a", looked_at.identity) is False
    again = folder.read("a")
    assert again is not None
    assert bytes(again.data) == b"new"
    assert folder.remove("a", again.identity) is True
    assert folder.remove("a", again.identity) is False
    folder.close()


async def test_a_folder_without_descriptor_calls_works_by_paths_fs_7(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which has neither openat nor modes."""
    monkeypatch.setattr("pauth.storage.files.folder._AT", False)
    monkeypatch.setattr("pauth.storage.files.root.open_folder", open_folder_by_path)
    async with aclosing(files(tmp_path)) as storage:
        await storage.replace(RecordKey("a", "alice"), TOKENS, expected_version=0)
        await storage.delete_token("nobody")
        assert await storage.remove(RecordKey("a", "alice"))
        await storage.save_token("bob", TOKENS)
        assert await storage.get_token("bob") == TOKENS
        assert await storage.get_token("carol") is None
        assert await storage.count() == 1
    async with aclosing(files(tmp_path)) as storage:
        assert await storage.get_token("bob") == TOKENS


def open_folder_by_path(path: str) -> Folder:
    Path(path).mkdir(mode=0o700, exist_ok=True)
    return Folder(path, None)


def test_a_sharing_violation_is_retried_for_a_while_fs_7(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to replace a file that another process has open."""
    folder = open_folder_by_path(str(tmp_path / "private"))
    replace = os.replace
    refusals = iter([True, True, False])

    def refuse_twice(old: str, new: str, **options: int | None) -> None:
        if next(refusals, True):
            raise PermissionError(13, "sharing violation")
        replace(old, new)

    monkeypatch.setattr("pauth.storage.files.folder._POSIX", False)
    monkeypatch.setattr(os, "replace", refuse_twice)
    folder.replace("a", b"1")
    with pytest.raises(PermissionError):
        folder.replace("a", b"2")
    monkeypatch.undo()
    again = folder.read("a")
    assert again is not None
    assert bytes(again.data) == b"1"
    assert folder.names() == ["a"]
    folder.close()
