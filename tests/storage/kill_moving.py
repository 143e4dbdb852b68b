"""Re-encryptions and copies that are killed at each of their steps: ``python -m tests.storage.kill_moving FOLDER KIND WORK…``.

For each n = 1, 2, … a child kills itself with SIGKILL in the place of the n-th thing it does to the disk (files) or the n-th statement inside of a
transaction (SQLite), until one gets through. After each, what is there is looked at, and the work is started again. Findings go to standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from pauth.storage import MemoryTokenStorage, Record, RecordKey, copy_storage, reencrypt
from pauth.storage.base import Write
from pauth.storage.driven import DrivenTokenStorage
from pauth.storage.files import EncryptedFileStorage
from pauth.storage.sql import sqlite_statements
from tests.storage.files.kill_program import killed_at
from tests.storage.kit import KEY, OTHER_KEY, database

KEYS = [RecordKey("n", f"user-{number}") for number in range(2)]
TOKENS = [{"access_token": f"CANARY-access-{number}", "n": number} for number in range(2)]


def opened(folder: Path, kind: str, *keys: Any) -> DrivenTokenStorage:
    return EncryptedFileStorage(folder / "tokens", keys) if kind == "files" else database(folder, keys=keys)


async def fill(storage: Any) -> None:
    await storage.put_many([Write(key, tokens, 0, 5000.0, None, b"a lineage of 16 b"[:16], 1234.5) for key, tokens in zip(KEYS, TOKENS, strict=True)])


async def state(storage: Any) -> str:
    found = await storage.get_many(KEYS)
    right = [
        isinstance(each, Record)
        and (each.tokens, each.stored_at, each.expires_at, each.lineage) == (tokens, 1234.5, 5000.0, b"a lineage of 16 b"[:16])
        for each, tokens in zip(found, TOKENS, strict=True)
    ]
    return "".join("r" if ok else ("-" if each is None else "?") for ok, each in zip(right, found, strict=True))


def count_statements(step: int) -> None:
    """Kill this process at its n-th statement that changes a row."""
    calls = 0

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(*arguments)

        return counting

    for name in ("_put", "_rewrite"):
        setattr(sqlite_statements, name, counted(getattr(sqlite_statements, name)))


async def rotate(folder: Path, kind: str) -> None:
    async with aclosing(opened(folder, kind, OTHER_KEY, KEY)) as storage:
        await reencrypt(storage, batch=1)


async def copy(folder: Path, kind: str) -> None:
    source = MemoryTokenStorage()
    await fill(source)
    async with aclosing(opened(folder, kind, KEY)) as target:
        await copy_storage(source, target, batch=1)


async def examine(folder: Path, kind: str, work: str) -> dict[str, Any]:
    keys = (OTHER_KEY, KEY) if work == "rotate" else (KEY,)
    async with aclosing(opened(folder, kind, *keys)) as storage:
        found = {"before": await state(storage)}
    await (rotate if work == "rotate" else copy)(folder, kind)
    async with aclosing(opened(folder, kind, keys[0])) as storage:  # the old key is gone
        return {**found, "after": await state(storage), "count": await storage.count()}


def main(base: Path, kind: str, work: str) -> None:
    async def prepare(folder: Path) -> None:
        async with aclosing(opened(folder, kind, KEY)) as storage:
            if work == "rotate":
                await fill(storage)
            else:
                await storage.count()

    def child(folder: Path, step: int) -> None:
        if kind == "sqlite":
            count_statements(step)
        asyncio.run((rotate if work == "rotate" else copy)(folder, kind))

    step, killed = 0, True
    while killed:
        step += 3 if (kind, work) == ("files", "copy") else 1  # each step of a write is killed in test_files_killed.py
        folder = base / work / str(step)
        folder.mkdir(parents=True)
        asyncio.run(prepare(folder))
        killed = killed_at(step if kind == "files" else -1, lambda folder=folder, step=step: child(folder, step))  # type: ignore[misc]
        print(json.dumps({"work": work, "killed": killed, **asyncio.run(examine(folder, kind, work))}), flush=True)


if __name__ == "__main__":
    for each in sys.argv[3:]:
        main(Path(sys.argv[1]), sys.argv[2], each)
