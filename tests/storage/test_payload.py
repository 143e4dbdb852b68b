"""What may be stored, exactly."""

from __future__ import annotations

import enum
import types
from typing import Any

import pytest

from pauth.errors import TokenStorageError
from pauth.secret import Secret
from pauth.storage.payload import MAX_DEPTH, PLAIN_JSON, WIDE_JSON, check_moment, dump, json_copy, parse
from tests.storage.kit import same_json


def nested(levels: int, *, lists: bool) -> dict[str, Any]:
    value: Any = {} if not lists else []
    for _ in range(levels - 2):
        value = [value] if lists else {"a": value}
    return {"a": value}


@pytest.mark.parametrize("lists", [True, False])
def test_nesting_has_a_limit(lists: bool) -> None:
    deepest = nested(MAX_DEPTH, lists=lists)
    assert json_copy(deepest) == deepest
    assert parse(*dump(deepest)) == deepest
    for levels in (MAX_DEPTH + 1, 500):
        with pytest.raises(TokenStorageError, match="deeper than 32"):
            json_copy(nested(levels, lists=lists))


def test_a_structure_that_holds_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = [loop]
    with pytest.raises(TokenStorageError, match="deeper than 32"):
        json_copy(loop)


class Colour(enum.StrEnum):
    RED = "red"


class Number(int):
    pass


NOT_JSON: list[object] = [Colour.RED, Number(3), (), frozenset[int](), Secret("CANARY-secret"), types.MappingProxyType({"a": 1}), 1j]


@pytest.mark.parametrize("value", NOT_JSON)
def test_what_would_come_back_as_something_else_is_refused_by_its_type(value: object) -> None:
    for payload in ({"a": value}, {"a": [value]}, {"a": {"b": value}}):
        with pytest.raises(TokenStorageError, match=type(value).__name__):
            dump(payload)


def test_any_mapping_may_be_outermost() -> None:
    assert dump(types.MappingProxyType({"a": 1})) == (PLAIN_JSON, b'{"a":1}')


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, -(2**63), 1e308, 5e-324, -0.0, 0.1, True, None, "", "\0\u2028😀", []])
def test_what_everybody_reads_is_written_as_plain_json(value: object) -> None:
    dialect, text = dump({"v": value})
    assert dialect == PLAIN_JSON
    assert same_json(parse(dialect, text), {"v": value})


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**4000, "\ud800", "\ud83d\ude00", {"\udfff": 1}])
def test_what_not_everybody_reads_is_kept_as_it_is(value: object) -> None:
    dialect, text = dump({"v": [value]})
    assert dialect == WIDE_JSON
    assert parse(dialect, text) == {"v": [value]}
    assert parse(dialect, memoryview(text)) == {"v": [value]}


def test_moments_are_finite_and_near() -> None:
    assert check_moment(1e12) == 1e12
    assert check_moment(-5) == -5
    for absurd in (float("nan"), float("inf"), -float("inf"), 1e13):
        with pytest.raises(TokenStorageError):
            check_moment(absurd)
