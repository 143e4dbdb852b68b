"""A program that ends in the middle of what its client does, and closes nothing.

``python -m tests.refresh.ending_program refresh|login STORAGE ISSUER CLIENT_ID FOLDER [CALLBACK]``; the client's secret and the key of the store are
in the environment. Its main coroutine returns, or is interrupted, as soon as a line comes in on standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from pauth import OAuth2Client
from pauth.storage import AsyncTokenStorage, BaseTokenStorage
from tests.refresh.kit import CALLBACK, NAMESPACE


class JsonFiles(BaseTokenStorage):
    """A user's class: a JSON file for each user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        new = self.folder / f"{user_id}.new"
        new.write_text(json.dumps(tokens), encoding="utf-8")
        new.replace(self.folder / f"{user_id}.json")

    def get_token(self, user_id: str) -> dict[str, Any] | None:
        file = self.folder / f"{user_id}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def delete_token(self, user_id: str) -> None:
        (self.folder / f"{user_id}.json").unlink(missing_ok=True)


def storage_of(kind: str, folder: Path) -> str | AsyncTokenStorage | BaseTokenStorage:
    """A storage of one of three kinds, as a program would name it."""
    if kind == "a class of one's own":
        return JsonFiles(folder)
    return f"sqlite+aiosqlite:///{folder / 'tokens.db'}" if kind == "sqlite" else f"file://{folder / 'tokens'}"


def client_of(kind: str, issuer: str, client_id: str, folder: Path) -> OAuth2Client:
    return OAuth2Client(
        issuer,
        client_id,
        os.environ["TEST_CLIENT_SECRET"],
        CALLBACK,
        token_storage=storage_of(kind, folder),
        pending_storage=f"sqlite+aiosqlite:///{folder / 'pending.db'}",
        namespace=NAMESPACE,
        timeout=30,
        journal=folder / "journal",
    )


async def main(what: str, kind: str, issuer: str, client_id: str, folder: str, *callback: str) -> None:
    client = client_of(kind, issuer, client_id, Path(folder))
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, told.set)
    if what == "refresh":
        asking: asyncio.Task[Any] = asyncio.create_task(client.refresh("alice"))
    else:
        asking = asyncio.create_task(client.handle_callback(callback[0], user_id="alice"))
    await told.wait()
    assert not asking.done()
    print("main has returned", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
