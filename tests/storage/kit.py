"""What the storage tests share: keys, payloads, hypothesis strategies, storages as users write them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from pauth.storage import BaseTokenStorage, DatabaseTokenStorage, EncryptionKey, Record
from pauth.storage.sql.sqlite_driver import SqliteDriver
from pauth.testing.clock import ManualClock
from pauth.testing.contract_kit import CONFUSABLE_IDS, TOKENS

__all__ = [
    "CONFUSABLE_IDS",
    "JSON_OBJECTS",
    "KEY",
    "OTHER_KEY",
    "TOKENS",
    "BlockingStorage",
    "DictStorage",
    "database",
    "engine_of",
    "plain",
    "same_json",
]

KEY: Final = EncryptionKey(bytes(range(0, 256, 8))[:-1] + b"\xff")
OTHER_KEY: Final = EncryptionKey(bytes(range(255, -1, -8))[:-1] + b"\x01")

_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
_atoms = st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | _text
JSON_OBJECTS: Final = st.dictionaries(
    _text, st.recursive(_atoms, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4), max_leaves=12), max_size=6
)
"""Any JSON object, lone surrogates and integers of any size among it."""


def plain(record: Record | None) -> dict[str, Any]:
    """The tokens of a record that must be there."""
    assert record is not None
    return dict(record.tokens)


def same_json(one: object, other: object) -> bool:
    """Equal, and of equal types: 1, 1.0 and True are three things, 0.0 and -0.0 two."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) and one == other


def database(
    folder: Path, *, name: str = "tokens.db", clock: ManualClock | None = None, timeout: float = 10.0, keys: Any = KEY
) -> DatabaseTokenStorage:
    """An encrypted storage on a file of this folder."""
    return DatabaseTokenStorage(f"sqlite+aiosqlite:///{folder / name}", encryption_key=keys, clock=clock, timeout=timeout)


async def engine_of(storage: DatabaseTokenStorage) -> AsyncEngine:
    """The engine a SQLite storage uses in this event loop."""
    driver = storage._driver  # pyright: ignore[reportPrivateUsage]
    assert isinstance(driver, SqliteDriver)
    return await driver._engines.get()  # pyright: ignore[reportPrivateUsage]


class DictStorage:
    """The simplest class a user would write: it keeps the very dicts it is given."""

    def __init__(self) -> None:
        self.saved: dict[str, dict[str, Any]] = {}

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        self.saved[user_id] = tokens

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        return self.saved.get(user_id)

    async def delete_token(self, user_id: str) -> None:
        del self.saved[user_id]


class BlockingStorage(BaseTokenStorage):
    """A user's class with blocking code."""

    def __init__(self) -> None:
        self.saved: dict[str, dict[str, Any]] = {}

    def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        self.saved[user_id] = copy.deepcopy(tokens)

    def get_token(self, user_id: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.saved.get(user_id))

    def delete_token(self, user_id: str) -> None:
        self.saved.pop(user_id, None)
