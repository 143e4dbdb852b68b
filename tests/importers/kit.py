"""What the tests of the importers share: what the libraries really wrote, and comparisons."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from pauth.core.token import Token, token_from_dict, token_to_dict
from pauth.importers import Entry, FoundToken, Problem, Skipped
from tests.storage.kit import JSON_OBJECTS

VECTORS: Final = Path(__file__).parent / "vectors"
NOW: Final = 1_800_000_000.0
"""When the libraries were run, by their clock."""


def vector(name: str) -> dict[str, Any]:
    """A file of ``vectors``: what a library wrote, with the library's version and how it was made to."""
    document: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    assert document["made_with"]
    assert document["how"]
    return document


def found(entries: Iterable[Entry]) -> dict[str, Token]:
    """The tokens by user, where there is nothing else."""
    tokens: dict[str, Token] = {}
    for entry in entries:
        assert isinstance(entry, FoundToken), entry
        assert entry.user_id not in tokens
        tokens[entry.user_id] = entry.token
    return tokens


def only(entries: Iterable[Entry]) -> Token:
    (token,) = found(entries).values()
    return token


def reason(entries: Iterable[Entry]) -> str:
    """Why the one entry is a problem."""
    (entry,) = entries
    assert isinstance(entry, Problem), entry
    return entry.reason


def said(token: Token) -> dict[str, Any]:
    """All that a token holds; and it is what the refresh room will read."""
    stored = token_to_dict(token)
    assert token_from_dict(json.loads(json.dumps(stored))) == token
    return stored


def check_hostile(entries: Iterable[Entry]) -> list[Entry]:
    """Whatever came in: entries come out, each of them fit to be stored, and no reason holds a piece of the input."""
    listed = list(entries)
    for entry in listed:
        if isinstance(entry, FoundToken):
            said(entry.token)
            assert entry.user_id
        else:
            assert isinstance(entry, (Problem, Skipped))
            assert "CANARY" not in f"{entry!r} {entry.reason} {entry.where}"
    return listed


_values: Final = st.sampled_from(
    ["CANARY-token", "", "CANARY token", "\ud800", "1800000000", "1e9", "2027-01-15T08:00:00Z", "Bearer", 0, 1, -1, True]
)
_more: Final = st.none() | st.integers() | st.floats() | st.sampled_from([float("nan"), float("inf"), 2**70, 10**400]) | st.text(max_size=8)


def members(*names: str) -> st.SearchStrategy[Any]:
    """Dicts that have some of these names, with values that are sometimes right; and things that are no dict at all."""
    inner = st.dictionaries(st.sampled_from(names), _values | _more | st.lists(_values, max_size=3) | JSON_OBJECTS, max_size=len(names))
    return inner | JSON_OBJECTS | _values | _more | inner.map(_text) | st.binary(max_size=12)


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value)[:-1] + " " * (len(value) % 2) + "}"
