"""Several processes, and processes that end without warning, on one SQLite file."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.storage import RecordKey
from tests.storage.kit import KEY, database, plain

ALICE = RecordKey("a", "alice")


def start(folder: Path, body: str) -> subprocess.Popen[str]:
    """A process with ``storage`` and ``ALICE``, running the lines of a coroutine."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    program = f"""
import asyncio, os, sys
from pauth.storage import DatabaseTokenStorage, EncryptionKey, RecordKey
ALICE = RecordKey("a", "alice")
storage = DatabaseTokenStorage("sqlite:///{folder}/tokens.db", encryption_key={KEY.to_string().reveal()!r}, timeout=60)
async def main():
{indented}
asyncio.run(main())
"""
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _rest_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process that was killed had printed and nobody has read. (``communicate`` would pass over what ``readline`` has read ahead.)"""
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        return process.stdout.read(), process.stderr.read()


COUNT_UP = """
won = 0
while won < 10:
    record = await storage.load(ALICE)
    version, count = (record.version, record.tokens["count"]) if record else (0, 0)
    won += await storage.replace(ALICE, {"count": count + 1, "token": "CANARY" * 50}, expected_version=version) is not None
await storage.aclose()
"""


async def test_processes_lose_no_write_sq_2(tmp_path: Path) -> None:
    processes = [start(tmp_path, COUNT_UP) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 4
    async with aclosing(database(tmp_path)) as storage:
        record = await storage.load(ALICE)
    assert record is not None
    assert (record.version, record.tokens["count"]) == (40, 40)


TAKE = """
print("ready", flush=True)
sys.stdin.readline()
taken = [await storage.take_pending(f"login {number}") for number in range(30)]
print([number for number, payload in enumerate(taken) if payload == {"n": number}])
await storage.aclose()
"""


async def test_of_several_processes_one_takes_each_pending_login_ax_3(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        for number in range(30):
            await storage.put_pending(f"login {number}", {"n": number}, expires_at=4e9)
    processes = [start(tmp_path, TAKE) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n") for process in processes]
    assert [errors for _, errors in outputs] == [""] * 3
    taken = [int(number) for output, _ in outputs for number in output.strip().strip("[]").split(",") if number]
    assert sorted(taken) == list(range(30))


WRITE_FOR_EVER = """
version = 0
while True:
    version += 1
    await storage.replace(ALICE, {"n": version, "token": "CANARY" * 2000}, expected_version=version - 1)
    print(version, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 2, 7, 40])
async def test_after_kill_9_what_was_acknowledged_is_there_p5_p12(acknowledged: int, tmp_path: Path) -> None:
    process = start(tmp_path, WRITE_FOR_EVER)
    assert process.stdout is not None
    last = 0
    for _ in range(acknowledged):
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest, errors = _rest_of(process)
    assert errors == ""
    last = int(rest.split("\n")[-2]) if "\n" in rest else last
    async with aclosing(database(tmp_path)) as storage:
        record = await storage.load(ALICE)
        assert record is not None
        assert record.version in (last, last + 1)  # the one after may have been stored and not yet printed
        assert record.tokens["n"] == record.version
        assert await storage.replace(ALICE, {"n": "next"}, expected_version=record.version) is not None


WRITE_IN_BATCHES = """
async def user(name):
    version = 0
    while True:
        version += 1
        await storage.replace(RecordKey("a", name), {"n": version, "token": "CANARY" * 100}, expected_version=version - 1)
        sys.stdout.write(f"{name} {version}\\n")
        sys.stdout.flush()
await asyncio.gather(*(user(f"user-{number}") for number in range(32)))
"""


@pytest.mark.parametrize("acknowledged", [1, 3, 31, 33, 64, 150, 333])
async def test_after_kill_9_every_row_acknowledged_in_a_batch_is_there_p5_p12(acknowledged: int, tmp_path: Path) -> None:
    process = start(tmp_path, WRITE_IN_BATCHES)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(acknowledged)]
    process.send_signal(signal.SIGKILL)
    rest, errors = _rest_of(process)
    assert errors == ""
    last: dict[str, int] = {}
    for line in [*lines, *rest.split("\n")[:-1]]:  # the last line may be cut
        name, number = line.split()
        last[name] = int(number)
    async with aclosing(database(tmp_path)) as storage:
        for name, version in last.items():
            record = await storage.load(RecordKey("a", name))
            assert record is not None
            assert record.version in (version, version + 1)
            assert record.tokens["n"] == record.version


CONTEND = """
import time
from pauth.errors import StorageUnavailable
me = str(os.getpid())
print("ready", flush=True)
sys.stdin.readline()
held = 0
while held < 15:
    try:
        lease = await storage.take_lease(ALICE, me, ttl=60)
    except StorageUnavailable:  # SQLite's lock is not fair: on a busy machine the others can have it for all the time there is
        lease = None
    if lease is None:
        await asyncio.sleep(0.001)
        continue
    record = await storage.load(ALICE)
    count = record.tokens["count"] if record else 0
    await asyncio.sleep(0.001)
    await storage.save_token("alice", {"fence": lease.fence})
    written = await storage.replace(ALICE, {"count": count + 1, "fence": lease.fence}, expected_version=None)
    print(lease.fence, flush=True)
    assert await storage.release_lease(ALICE, me)
    held += 1
await storage.aclose()
"""


async def test_processes_hold_a_lease_one_after_the_other_with_rising_fences(tmp_path: Path) -> None:
    processes = [start(tmp_path, CONTEND) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = await asyncio.gather(*(asyncio.to_thread(process.communicate, "go\n") for process in processes))
    assert [errors for _, errors in outputs] == [""] * 3
    fences = [[int(line) for line in output.split()] for output, _ in outputs]
    assert all(mine == sorted(mine) for mine in fences)
    together = [fence for mine in fences for fence in mine]
    assert len(set(together)) == 45
    async with aclosing(database(tmp_path)) as storage:
        assert plain(await storage.load(ALICE)) == {"count": 45, "fence": max(together)}  # nobody worked beside another


FORK = """
await storage.save_token("alice", {"n": 1})
child = os.fork()
if child == 0:
    try:
        import threading
        def in_a_loop_of_its_own():
            asyncio.run(storage.save_token("child", {"n": 2}))
            asyncio.run(storage.aclose())
        thread = threading.Thread(target=in_a_loop_of_its_own)
        thread.start()
        thread.join()
    finally:
        os._exit(0)
os.waitpid(child, 0)
await storage.save_token("parent", {"n": 3})
print(await storage.get_token("alice"), await storage.get_token("child"), await storage.get_token("parent"))
await storage.aclose()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_child_has_connections_of_its_own_p15(tmp_path: Path) -> None:
    process = start(tmp_path, "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + FORK)
    output, errors = process.communicate()
    assert (output, errors) == ("{'n': 1} {'n': 2} {'n': 3}\n", "")


ABANDON = """
for turns in (0, 1, 3, 10, 30, 100):
    def in_a_loop_of_its_own():
        async def abandon():
            task = asyncio.create_task(storage.save_token("alice", {"n": turns}))
            for _ in range(turns):
                await asyncio.sleep(0)
        asyncio.run(abandon())  # which cancels every task, the operation's own too
        asyncio.run(storage.save_token("bob", {"n": turns}))
    await asyncio.to_thread(in_a_loop_of_its_own)
    print(await storage.get_token("bob"))
await storage.aclose()
"""


def test_an_event_loop_that_ends_in_the_middle_leaves_the_storage_usable_p15(tmp_path: Path) -> None:
    # in a process of its own: aiosqlite's thread complains on standard error when the loop it answers to is gone
    output, _ = start(tmp_path, ABANDON).communicate()
    assert output.splitlines() == [f"{{'n': {turns}}}" for turns in (0, 1, 3, 10, 30, 100)]


async def test_two_storages_on_one_file_see_each_other(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as one, aclosing(database(tmp_path)) as other:
        await one.replace(ALICE, {"n": 1}, expected_version=0)
        assert await other.replace(ALICE, {"n": 2}, expected_version=0) is None
        assert await other.replace(ALICE, {"n": 2}, expected_version=1) is not None
        assert plain(await one.load(ALICE)) == {"n": 2}
        outcomes = await asyncio.gather(*(each.replace(ALICE, {"n": 3}, expected_version=2) for each in [one, other] * 16))
        assert sum(outcome is not None for outcome in outcomes) == 1
        await one.put_pending("login", {"n": 1}, expires_at=4e9)
        taken = await asyncio.gather(*(each.take_pending("login") for each in [one, other] * 25))
        assert [payload for payload in taken if payload is not None] == [{"n": 1}]
