"""What the storage tests share: keys, payloads, hypothesis strategies, storages as users write them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from pauth.storage import BaseTokenStorage, DatabaseTokenStorage, EncryptionKey, Record
from pauth.testing.clock import ManualClock

KEY: Final = EncryptionKey(bytes(range(0, 256, 8))[:-1] + b"\xff")
OTHER_KEY: Final = EncryptionKey(bytes(range(255, -1, -8))[:-1] + b"\x01")

TOKENS: Final[dict[str, Any]] = {
    "access_token": "CANARY-access-token",
    "refresh_token": "CANARY-refresh-token",
    "scope": "read write",
    "expires_at": 1_767_229_200.25,
    "extra": {"team": {"id": 2**53 + 1, "admins": ["ü", None, True]}},
}

# PX-5: every one of them is a user of its own, whatever it looks like or normalises to.
CONFUSABLE_IDS: Final = (
    "alice",
    "Alice",
    "ALICE",
    "alice ",
    " alice",
    "alice\n",
    "alice\0",
    "alıce",
    "alіce",  # Cyrillic і  # noqa: RUF003
    "ali\u200dce",  # zero-width joiner
    "ali\u00adce",  # soft hyphen
    "\ufeffalice",
    "é",
    "e\u0301",
    "\u212a",  # Kelvin sign
    "K",
    "k",
    "ﬁ",
    "fi",
    "ß",
    "ss",
    "1",
    "01",
    "1.0",
    "１",  # fullwidth digit
    "9007199254740993",  # 2**53 + 1 (PX-6)
    "9007199254740992",
    "../../etc/passwd",
    "a:b",
    "a%3Ab",
    "*",
    "'; DROP TABLE pauth_tokens; --",
    "x" * 1024,
)

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


def database(folder: Path, *, name: str = "tokens.db", clock: ManualClock | None = None, timeout: float = 10.0) -> DatabaseTokenStorage:
    """An encrypted storage on a file of this folder."""
    return DatabaseTokenStorage(f"sqlite+aiosqlite:///{folder / name}", encryption_key=KEY, clock=clock, timeout=timeout)


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
