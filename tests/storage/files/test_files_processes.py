"""Several processes on one folder, and forks."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.errors import StorageUnavailable
from pauth.storage.files import FileDriver
from tests.storage.files.kit import ALICE, files, run, start
from tests.storage.kit import KEY, plain

HEAD = f"""
import asyncio, os, sys
from pauth.storage import EncryptionKey, RecordKey
from pauth.storage.files import EncryptedFileStorage
ALICE = RecordKey("provider-a", "alice")
storage = EncryptedFileStorage(sys.argv[1], EncryptionKey.from_string({KEY.to_string().reveal()!r}), timeout=600)
"""

COUNT_UP = (
    HEAD
    + """
async def main():
    won = []
    while len(won) < 40:
        record = await storage.load(ALICE)
        version, count = (record.version, record.tokens["count"]) if record else (0, 0)
        written = await storage.replace(ALICE, {"count": count + 1}, expected_version=version)
        if written is not None:
            won.append(written.version)
    await storage.aclose()
    print(*won)
asyncio.run(main())
"""
)


async def test_processes_count_up_one_record_and_lose_nothing_p13(memory_folder: Path) -> None:
    processes = [start(COUNT_UP, str(memory_folder / "tokens")) for _ in range(4)]
    outputs = [process.communicate() for process in processes]
    assert [errors for _, errors in outputs] == [""] * 4
    versions = [int(version) for output, _ in outputs for version in output.split()]
    assert sorted(versions) == list(range(1, 161))
    async with aclosing(files(memory_folder)) as storage:
        record = await storage.load(ALICE)
    assert record is not None
    assert (record.version, plain(record)) == (160, {"count": 160})


TAKE = (
    HEAD
    + """
async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    taken = [await storage.take_pending(f"login {number}") for number in range(40)]
    await storage.aclose()
    print(*(number for number, payload in enumerate(taken) if payload == {"n": number}))
asyncio.run(main())
"""
)


async def test_of_several_processes_one_takes_each_pending_login_ax_3(memory_folder: Path) -> None:
    async with aclosing(files(memory_folder)) as storage:
        for number in range(40):
            await storage.put_pending(f"login {number}", {"n": number}, expires_at=4e9)
    processes = [start(TAKE, str(memory_folder / "tokens")) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    taken = [int(number) for process in processes for number in process.communicate("go\n")[0].split()]
    assert sorted(taken) == list(range(40))


FORK = (
    HEAD
    + """
async def main(name):
    for number in range(20):
        assert await storage.replace(RecordKey(name, str(number)), {"n": number}, expected_version=0) is not None
    assert [item.tokens["n"] for item in await storage.get_many([RecordKey(name, str(number)) for number in range(20)])] == list(range(20))

asyncio.run(main("before"))
children = []
for name in ("one", "two"):
    child = os.fork()
    if child == 0:
        asyncio.run(main(name))
        asyncio.run(storage.aclose())
        os._exit(0)
    children.append(child)
asyncio.run(main("parent"))
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], asyncio.run(storage.count()))
asyncio.run(storage.aclose())
"""
)


def test_a_storage_goes_on_in_forked_children_p15(memory_folder: Path) -> None:
    """As prefork servers do it: made and used before the fork. The threads stay behind, the child starts its own."""
    assert run("import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + FORK, str(memory_folder / "tokens")) == "[0, 0] 80\n"


async def test_threads_of_another_process_are_not_waited_for_p15(memory_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a forked child sees it, which has none of its parent's threads."""
    async with aclosing(files(memory_folder)) as storage:
        await storage.save_token("alice", {"n": 1})
        driver = storage._driver  # pyright: ignore[reportPrivateUsage]
        assert isinstance(driver, FileDriver)
        threads = driver._threads  # pyright: ignore[reportPrivateUsage]
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert await storage.get_token("alice") == {"n": 1}
        await storage.save_token("alice", {"n": 2})
        assert driver._threads is not threads  # pyright: ignore[reportPrivateUsage]
        await asyncio.to_thread(threads.close)


async def test_a_lock_that_a_thread_held_at_the_fork_stops_no_child_p15(memory_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has no such thread. What excludes its parent is the lock of the file, which here nobody holds."""
    async with aclosing(files(memory_folder, timeout=0.4)) as storage:
        await storage.save_token("alice", {"n": 1})
        driver = storage._driver  # pyright: ignore[reportPrivateUsage]
        assert isinstance(driver, FileDriver)
        assert driver._records is not None  # pyright: ignore[reportPrivateUsage]
        for gate in driver._records._folder._gates.values():  # pyright: ignore[reportPrivateUsage]
            gate.acquire()
        with pytest.raises(StorageUnavailable):
            await storage.save_token("alice", {"n": 2})
        monkeypatch.setattr(os, "getpid", lambda: -1)
        await storage.save_token("alice", {"n": 3})


async def test_a_storage_may_be_used_first_in_a_child_p15(memory_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with aclosing(files(memory_folder)) as storage:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        await storage.save_token("alice", {"n": 1})
