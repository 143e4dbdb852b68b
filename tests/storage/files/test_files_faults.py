"""Disks that are full or fail, and other errors of the system: the old record is intact, the error says what to do (P12, P20)."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from pauth.errors import PAuthError, StorageUnavailable, TokenStorageError
from pauth.storage.files import EncryptedFileStorage
from pauth.storage.files.root import error_for
from tests.storage.files.kit import ALICE, files, leftovers
from tests.storage.kit import KEY, TOKENS, plain


def failing(call: Callable[..., Any], number: int, *, at: int = 1) -> Callable[..., Any]:
    """A system call that fails with ``number`` the ``at``-th time and ever after."""
    calls = 0

    def fail(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= at:
            raise OSError(number, os.strerror(number), "CANARY-name")
        return call(*arguments, **options)

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize(("name", "at"), [("open", 4), ("write", 1), ("fsync", 1), ("replace", 1), ("fsync", 2)])
async def test_each_failing_call_of_a_save_leaves_a_whole_record_p12(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int, number: int
) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.replace(ALICE, {"n": 1}, expected_version=0)
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing(getattr(os, name), number, at=at))
            with pytest.raises(StorageUnavailable) as caught:
                await storage.replace(ALICE, TOKENS, expected_version=1)
        assert caught.value.retryable
        assert caught.value.__cause__ is caught.value.__context__ is None
        record = await storage.load(ALICE)
        written = (name, at) == ("fsync", 2)  # of the folder: the new name stands already, but may not outlive a power failure
        assert plain(record) == (TOKENS if written else {"n": 1})
        assert leftovers(tmp_path) == []
        assert record is not None
        assert await storage.replace(ALICE, {"n": 3}, expected_version=record.version) is not None


def mount(folder: Path) -> bool:
    program = shutil.which("mount")
    command = [program or "", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(folder)]
    return program is not None and subprocess.run(command, check=False, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_leaves_the_old_record_p12(tmp_path: Path) -> None:
    """A real one: a small file system in memory, where root may make one; else a limit on the size of files."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = mount(small)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        async with aclosing(EncryptedFileStorage(small / "tokens", KEY)) as storage:
            await storage.replace(ALICE, {"n": 1}, expected_version=0)
            if not mounted:
                resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
            for _ in range(3):
                with pytest.raises(StorageUnavailable, match="unharmed"):
                    await storage.replace(ALICE, {"n": "CANARY" * 20_000}, expected_version=1)
            assert plain(await storage.load(ALICE)) == {"n": 1}
            assert await storage.replace(ALICE, {"n": 2}, expected_version=1) is not None
            assert leftovers(small) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if mounted:
            unmount(small)


async def test_a_disk_that_takes_a_write_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def write_some(descriptor: int, data: memoryview) -> int:
        return write(descriptor, data[:100])

    monkeypatch.setattr(os, "write", write_some)
    async with aclosing(files(tmp_path)) as storage:
        await storage.replace(ALICE, TOKENS, expected_version=0)
        assert plain(await storage.load(ALICE)) == TOKENS


@pytest.mark.parametrize("name", ["open", "listdir", "stat"])
async def test_a_failing_folder_is_an_error_and_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """And once it is better, the same storage works."""
    async with aclosing(files(tmp_path)) as storage:
        await storage.save_token("alice", TOKENS)
        await storage.put_pending("login", {}, expires_at=1.0)
    async with aclosing(files(tmp_path)) as storage:
        if name != "open":
            await storage.count()
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing(getattr(os, name), errno.EIO))
            with pytest.raises(StorageUnavailable):
                await (storage.get_token("alice") if name == "open" else storage.put_pending("login", {}, expires_at=2.0))
        assert await storage.get_token("alice") == TOKENS


@pytest.mark.parametrize("target", ["*.token", "??"])
async def test_what_may_not_be_opened_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    opened = os.open

    def refuse(path: str, *arguments: Any, **options: Any) -> int:
        if Path(path).match(target):
            raise PermissionError(errno.EACCES, "no")
        return opened(path, *arguments, **options)

    async with aclosing(files(tmp_path)) as storage:
        await storage.save_token("alice", TOKENS)
        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(TokenStorageError, match="permissions") as caught:
            await storage.get_token("alice")
    assert not caught.value.retryable


async def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "mkdir", failing(os.mkdir, errno.EROFS))
    async with aclosing(files(tmp_path)) as storage:
        with pytest.raises(TokenStorageError, match="mount it writable"):
            await storage.save_token("alice", TOKENS)
    monkeypatch.setattr(os, "open", failing(os.open, errno.EIO, at=2))
    async with aclosing(files(tmp_path)) as storage:
        with pytest.raises(TokenStorageError):
            await storage.save_token("alice", TOKENS)


def every_errno() -> Iterator[tuple[int, PAuthError]]:
    for number in errno.errorcode:
        yield number, error_for(OSError(number, "CANARY-text", "CANARY-path"))
    yield 0, error_for(OSError("CANARY-text"))


def test_every_error_of_the_system_is_one_of_ours_without_its_text_p20() -> None:
    for number, error in every_errno():
        assert isinstance(error, TokenStorageError)
        assert "CANARY" not in str(error)
        assert error.retryable is (number not in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR})
