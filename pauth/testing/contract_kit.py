"""What the storage contract tries storages with: records, user ids, and a loop to try them in."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from pauth.storage import CoordinatedTokenStorage, Record, RecordKey

__all__ = ["ALICE", "CONFUSABLE_IDS", "JSON_OBJECTS", "NOT_JSON", "TOKENS", "in_a_loop", "tokens_of"]

P = ParamSpec("P")
S = TypeVar("S")

ALICE: Final = RecordKey("provider-a", "alice")

TOKENS: Final[dict[str, Any]] = {
    "access_token": "CANARY-access-token",
    "refresh_token": "CANARY-refresh-token",
    "scope": "read write",
    "expires_at": 1_767_229_200.25,
    "extra": {"team": {"id": 2**53 + 1, "admins": ["ü", None, True]}},
}

# PX-5: every one of them is a user of its own, whatever it looks like or normalises to.
CONFUSABLE_IDS: Final = (
    *("alice", "Alice", "ALICE", "alice ", " alice", "alice\n", "alice\t", "alice\0", "al\u0131ce", "al\u0456ce", "ali\u200dce", "ali\u00adce"),
    *("\ufeffalice", "\u202ealice", "\u00e9", "e\u0301", "\u212a", "K", "k", "\ufb01", "fi", "\u00df", "ss", "1", "01", "1.0", "\uff11"),
    *("9007199254740993", "9007199254740992", "../../etc/passwd", "CON", ".", "a:b", "a%3Ab", "a/b", "a\\b", "{a}", "*", "\r\nDEL *"),
    *("'; DROP TABLE pauth_tokens; --", "%s", "x" * 1024),
)

JSON_OBJECTS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"": ""},
    {"a": None, "b": True, "c": False},
    {"numbers": [0, -0.0, 0.1, 1e300, -1, 2**31, 2**63, -(2**63) - 1, 2**70, 1, 1.0]},
    {"text": 'é e\u0301 😀 \0 \\ " \u2028 \ud800 \x7f'},
    {"é": {"e\u0301": {"\0": []}}},
    {"deep": [[[[[[[[{"a": [{}]}]]]]]]]]},
    {"large": "x" * 65_536, "wide": "ü€😀" * 10_000},
)

NOT_JSON: Final[tuple[object, ...]] = (float("nan"), float("inf"), (1, 2), {1, 2}, b"bytes", {1: "one"}, object(), [{"a": {3.5: 1}}])


def in_a_loop(test: Callable[Concatenate[S, CoordinatedTokenStorage, P], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test method that is a coroutine, as one that is not, so that it needs no plugin. The storage is closed in the loop it was used in."""

    @functools.wraps(test)
    def run(self: S, store: CoordinatedTokenStorage, *arguments: P.args, **options: P.kwargs) -> None:
        async def main() -> None:
            try:
                await test(self, store, *arguments, **options)
            finally:
                await store.aclose()

        asyncio.run(main())

    return run


def tokens_of(record: object) -> dict[str, Any]:
    """The tokens of a record that must be there."""
    assert isinstance(record, Record), f"there is no record, but {record!r}"
    return dict(record.tokens)
