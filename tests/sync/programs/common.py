"""What the programs share: a client of the server that the environment names. They import little else, for the time it takes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pauth import BaseTokenStorage, MemoryTokenStorage, SyncOAuth2Client
from pauth.storage import storage_from_url

CALLBACK = "https://app.example/callback"


class ThreeMethods:
    def __init__(self) -> None:
        self.saved: dict[str, dict[str, Any]] = {}

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        self.saved[user_id] = tokens

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        return self.saved.get(user_id)

    async def delete_token(self, user_id: str) -> None:
        self.saved.pop(user_id, None)


class Blocking(BaseTokenStorage):
    """Keeps tokens in a file for each user, as a script might."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        import json

        (self.folder / user_id).write_text(json.dumps(tokens), encoding="utf-8")

    def get_token(self, user_id: str) -> dict[str, Any] | None:
        import json

        file = self.folder / user_id
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def delete_token(self, user_id: str) -> None:
        (self.folder / user_id).unlink(missing_ok=True)


def make_storage(kind: str, folder: Path) -> Any:
    """A storage object of this kind; encrypted, if it is one of pauth's on a disk, with the key in the environment."""
    match kind:
        case "memory":
            return MemoryTokenStorage()
        case "sqlite":
            return storage_from_url(f"sqlite:///{folder / 'tokens.db'}")
        case "files":
            return storage_from_url(f"file://{folder / 'tokens'}", encryption_key=os.environ["PAUTH_ENCRYPTION_KEY"])
        case "three methods":
            return ThreeMethods()
        case "blocking":
            return Blocking(folder)
        case "none":
            return None
        case _:
            return f"sqlite:///{folder / 'tokens.db'}"


def make_client(kind: str = "url", **options: Any) -> SyncOAuth2Client:
    storage = make_storage(kind, Path(os.environ["FOLDER"]))
    return SyncOAuth2Client(os.environ["ISSUER"], "client-1", os.environ["CLIENT_SECRET"], CALLBACK, ["openid"], storage, **options)


def log_in(client: SyncOAuth2Client, user: str = "alice") -> None:
    """The test is the browser."""
    say(client.get_authorization_url(user_id=user))
    client.handle_callback(hear())


def say(text: object) -> None:
    os.write(1, f"{text}\n".encode())  # whole lines, whoever else writes


def hear() -> str:
    """A line of what the test says."""
    return sys.stdin.readline().strip()
