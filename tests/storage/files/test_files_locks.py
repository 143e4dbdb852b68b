"""Locks: between threads, processes and forks, with an end to waiting (FS-5)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.errors import StorageUnavailable
from pauth.storage.files.locks import locked
from tests.storage.files.kit import ALICE, ROOT, files, run, token_files

TRY = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("free")
except BlockingIOError:
    print("held")
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "lock"
    path.touch(0o600)
    return path


def open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def test_opening_and_closing_the_file_in_the_same_process_releases_nothing_fs_5(lock: Path) -> None:
    with locked(lambda: open_lock(lock), patience=1):
        os.close(open_lock(lock))
        with lock.open("r+b"):
            pass
        assert run(TRY, str(lock)) == "held\n"
    assert run(TRY, str(lock)) == "free\n"


def test_the_end_of_a_forked_child_releases_nothing_fs_5(lock: Path) -> None:
    program = f"""
import os, subprocess, sys
from pauth.storage.files.locks import locked
with locked(lambda: os.open({str(lock)!r}, os.O_RDWR), patience=1):
    child = os.fork()
    if child == 0:
        sys.exit(0)  # with all that the interpreter does at its end
    os.waitpid(child, 0)
    print(subprocess.run([sys.executable, "-c", {TRY!r}, {str(lock)!r}], capture_output=True, text=True).stdout.strip())
print(subprocess.run([sys.executable, "-c", {TRY!r}, {str(lock)!r}], capture_output=True, text=True).stdout.strip())
"""
    assert run(program) == "held\nfree\n"


def test_a_forked_child_keeps_no_lock_of_a_killed_parent_fs_5(lock: Path) -> None:
    program = f"""
import os, signal, sys
from pauth.storage.files.locks import locked
with locked(lambda: os.open({str(lock)!r}, os.O_RDWR), patience=1):
    if os.fork() == 0:
        with locked(lambda: os.open({str(lock)!r}, os.O_RDWR), patience=60):  # the parent's, until it is dead
            print("the child has it", flush=True)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr, done.returncode) == ("the child has it\n", "", -signal.SIGKILL)


def test_threads_of_one_process_exclude_each_other_fs_5(lock: Path) -> None:
    inside = 0
    most = 0

    def enter() -> None:
        nonlocal inside, most
        for _ in range(50):
            with locked(lambda: open_lock(lock), patience=60):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)


def test_waiting_ends(lock: Path) -> None:
    with (
        locked(lambda: open_lock(lock), patience=1),
        pytest.raises(StorageUnavailable, match=r"held the lock .* for 0\.05 seconds"),
        locked(lambda: open_lock(lock), patience=0.05),
    ):
        pytest.fail("two hold it")  # pragma: no cover (it would be the bug)


def test_waiting_at_the_gate_ends_too(lock: Path) -> None:
    gate = threading.Lock()
    with locked(lambda: open_lock(lock), patience=1, gate=gate):
        with (
            pytest.raises(StorageUnavailable, match=r"held the lock .* for 0\.05 seconds"),
            locked(lambda: open_lock(lock), patience=0.05, gate=gate),
        ):
            pytest.fail("two hold it")  # pragma: no cover (it would be the bug)
        assert gate.locked()
    with locked(lambda: open_lock(lock), patience=0.05, gate=gate):
        pass
    assert not gate.locked()


def test_what_fails_at_the_gate_leaves_it_open() -> None:
    gate = threading.Lock()
    with pytest.raises(StorageUnavailable), locked(lambda: None, patience=1, gate=gate):
        pytest.fail("nothing is held")  # pragma: no cover (it would be the bug)
    assert not gate.locked()


def test_a_missing_lock_is_made_or_an_error() -> None:
    with pytest.raises(StorageUnavailable, match="a lock file is missing"), locked(lambda: None, patience=1):
        pytest.fail("nothing is held")  # pragma: no cover (it would be the bug)


async def test_a_stopped_process_stops_nobody_for_ever_p9(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path, timeout=0.4)) as storage:
        await storage.replace(ALICE, {"n": 1}, expected_version=0)
        lock = token_files(tmp_path)[0].with_name("lock")
        with locked(lambda: open_lock(lock), patience=1):
            assert await storage.load(ALICE) is not None  # readers need no lock
            with pytest.raises(StorageUnavailable):
                await storage.replace(ALICE, {"n": 2}, expected_version=1)
            with pytest.raises(StorageUnavailable):
                await storage.list_users()
        assert await storage.replace(ALICE, {"n": 2}, expected_version=1) is not None


async def test_a_lost_lock_file_is_made_again(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.save_token("alice", {"n": 1})
        lock = token_files(tmp_path)[0].with_name("lock")
        lock.unlink()
        await storage.save_token("alice", {"n": 2})
        assert lock.stat().st_mode & 0o7777 == 0o600
