"""A process that is killed at each of its system calls in turn: ``python -m tests.storage.files.kill_program FOLDER SCENARIO``.

For each n = 1, 2, … a child does one operation and kills itself with SIGKILL in the place of the n-th call that changes the disk, until one
gets through. After each, a new process-like storage looks at what is there. What it finds goes to standard output, one JSON object a line.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from pauth.storage.base import RecordKey
from pauth.storage.files import EncryptedFileStorage
from pauth.storage.keys import EncryptionKey

# not from the tests' kit, which imports what this does without, and takes longer for it than for all that follows
ALICE = RecordKey("provider-a", "alice")
KEY = EncryptionKey(hashlib.sha256(b"CANARY key of a killed program").digest())
CHANGING = ("mkdir", "write", "fsync", "replace", "unlink")


def leftovers(folder: Path) -> int:
    return len(list(folder.rglob("*.tmp")))


async def operate(storage: EncryptedFileStorage, scenario: str) -> None:
    match scenario:
        case "first save" | "save":
            await storage.replace(ALICE, {"n": "CANARY-new" * 50}, expected_version=None)
        case "delete":
            await storage.remove(ALICE)
        case "login":
            await storage.put_pending("login", {"n": "new"}, expires_at=4e9)
        case "taking":
            await storage.take_pending("login")
        case _:
            await storage.take_lease(ALICE, "new", ttl=60)


async def prepare(folder: Path) -> None:
    async with aclosing(EncryptedFileStorage(folder, KEY)) as storage:
        await storage.replace(ALICE, {"n": "old"}, expected_version=None)
        await storage.put_pending("login", {"n": "old"}, expires_at=4e9)
        await storage.take_lease(ALICE, "old", ttl=0.001)


async def examine(folder: Path) -> dict[str, Any]:
    async with aclosing(EncryptedFileStorage(folder, KEY)) as storage:
        record = await storage.load(ALICE)
        found: dict[str, Any] = {
            "record": record and str(record.tokens["n"])[:10].removeprefix("CANARY-"),
            "version": record and record.version,
            "count": await storage.count(),
        }
        written = await storage.replace(ALICE, {"n": "after"}, expected_version=record.version if record else 0)
        found["next version"] = written and written.version
        login = await storage.take_pending("login")
        found["login"] = login and login["n"]
        lease = await storage.take_lease(ALICE, "new", ttl=60)
        found["fence"] = lease and lease.fence
        found["leftovers"] = leftovers(folder)
    return found


def killed_at(step: int, operation: Callable[[], None]) -> bool:
    """Whether a child that runs ``operation`` was killed before it came to its end."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SystemExit("the child failed")
        return os.WIFSIGNALED(status)
    calls = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                if call is written:  # not all of it got there
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return counting

    written = os.write
    for name in CHANGING:
        setattr(os, name, counted(cast("Callable[..., Any]", getattr(os, name))))
    operation()
    os._exit(0)


def main(base: Path, scenario: str) -> None:
    async def child(folder: Path) -> None:
        async with aclosing(EncryptedFileStorage(folder, KEY)) as storage:
            await operate(storage, scenario)

    step, killed = 0, True
    while killed:
        step += 1
        folder = base / str(step)
        if scenario != "first save":
            asyncio.run(prepare(folder))
        killed = killed_at(step, lambda folder=folder: asyncio.run(child(folder)))  # type: ignore[misc]  # mypy cannot infer it
        print(json.dumps({"killed": killed, **asyncio.run(examine(folder))}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
