"""What may be stored: JSON objects. Checking and copying them, and turning them into bytes and back.

Stored is exactly what comes back, equal in value and type; what JSON cannot hold is refused before anything is written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

import orjson

from pauth.errors import TokenStorageError, UnsupportedRecord

__all__ = ["MAX_DEPTH", "PLAIN_JSON", "WIDE_JSON", "check_moment", "dump", "json_copy", "json_copy_flat", "parse"]

MAX_DEPTH: Final = 32
"""The deepest nesting of objects and arrays, counting the outermost."""

PLAIN_JSON: Final = 0
"""Dialect: UTF-8 JSON as everybody reads it."""

WIDE_JSON: Final = 1
"""Dialect: integers beyond 64 bits and lone surrogates are kept as Python has them. orjson reads the former as floats and refuses the latter."""

_ATOMS: Final = frozenset({str, int, bool, type(None)})
_FARTHEST: Final = 1e12


def json_copy(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of a JSON object.

    Only ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None`` themselves are accepted: a tuple or an enum would come back
    as something else.

    :raises TokenStorageError: something in it is not JSON: NaN, a tuple, bytes, a key that is no ``str``, nesting deeper than
        :data:`MAX_DEPTH`.
    """
    return json_copy_flat(payload)[0]


def json_copy_flat(payload: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The same, and whether it is flat: no member is an object or an array, so that ``dict.copy`` copies it as well."""
    # to be a Mapping is the slower test
    if not isinstance(payload, (dict, Mapping)):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a type checker
        raise TokenStorageError(f"tokens must be a dict, not {type(payload).__name__}")
    return _copy_object(payload, 1)


def _copy_object(value: Mapping[str, Any], depth: int) -> tuple[dict[str, Any], bool]:
    if depth > MAX_DEPTH:
        raise TokenStorageError(f"tokens cannot be stored: nested deeper than {MAX_DEPTH} levels")
    copied: dict[str, object] = dict(value)
    flat = True
    for name, member in copied.items():
        if type(name) is not str:
            raise TokenStorageError(f"tokens cannot be stored: a member's name is a {type(name).__name__}, JSON allows str only")
        kind = type(member)
        if kind is not str and kind not in _ATOMS and not (kind is float and math.isfinite(cast("float", member))):
            copied[name], flat = _copy_value(member, depth), False
    return copied, flat


def _copy_value(value: object, depth: int) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is dict:
        return _copy_object(cast("dict[str, Any]", value), depth + 1)[0]
    if kind is list:
        if depth >= MAX_DEPTH:
            raise TokenStorageError(f"tokens cannot be stored: nested deeper than {MAX_DEPTH} levels")
        return [_copy_value(item, depth + 1) for item in cast("list[Any]", value)]
    if kind is float:
        if math.isfinite(cast("float", value)):
            return value
        raise TokenStorageError("tokens cannot be stored: NaN and infinity are not JSON")
    raise TokenStorageError(f"tokens cannot be stored: a {kind.__name__} is not JSON; convert it first")


def dump(payload: Mapping[str, Any]) -> tuple[int, bytes]:
    """The dialect and the bytes of a JSON object.

    :raises TokenStorageError: see :func:`json_copy`.
    """
    checked = json_copy(payload)
    try:
        return PLAIN_JSON, orjson.dumps(checked)
    except TypeError:  # the check left two causes: a large integer, a lone surrogate
        pass  # and below, nothing chained: the encoder's error holds the value
    with suppress(ValueError):  # Python does not write integers of more than 4300 digits
        return WIDE_JSON, json.dumps(checked, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    raise TokenStorageError("tokens cannot be stored: an integer is too large")


def parse(dialect: int, text: bytes | memoryview) -> dict[str, Any]:
    """The JSON object that :func:`dump` made.

    :raises UnsupportedRecord: the text is no JSON object in that dialect.
    """
    value: object = None
    with suppress(ValueError, RecursionError):  # not chained: the parser's own error holds the text
        value = orjson.loads(text) if dialect == PLAIN_JSON else json.loads(str(text, "utf-8", "surrogatepass"))
    if not isinstance(value, dict):
        del value, text
        raise UnsupportedRecord("a stored record does not hold a JSON object as pauth writes it; use another store, or convert it")
    return cast("dict[str, Any]", value)


def check_moment(seconds: float) -> float:
    """Give back a moment (seconds since the Unix epoch) if it can be stored.

    :raises TokenStorageError: not a finite number, or tens of thousands of years away.
    """
    if not abs(seconds) <= _FARTHEST:  # this way round NaN fails too
        raise TokenStorageError("expires_at must be a moment in seconds since the Unix epoch")
    return seconds
