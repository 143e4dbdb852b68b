"""Checks of what callers of a storage pass in, the same for every driver, and the cursors of listings."""

from __future__ import annotations

import base64
import math
import os
import struct
from contextlib import suppress
from typing import Final

from pauth.errors import ConfigurationError
from pauth.storage.payload import check_moment

__all__ = [
    "FIRST_EXPIRING",
    "absolute_path",
    "check_limit",
    "check_lineage",
    "check_timeout",
    "check_version",
    "expiring_cursor",
    "milliseconds",
    "owner_bytes",
    "position_of_expiring",
    "position_of_user",
    "ttl_milliseconds",
    "user_cursor",
]

LINEAGE_BYTES: Final = 16
MAX_PAGE: Final = 10_000
FIRST_EXPIRING: Final = (-(2**63), b"")
"""The position before the first expiring record."""

_EXPIRING: Final = struct.Struct(">q")
_MAX_OWNER_BYTES: Final = 128
_MAX_TTL: Final = 86_400.0
_MAX_VERSION: Final = 2**53
_NO_CURSOR: Final = "this is no cursor of this listing; pass the next_cursor of the page before"


def absolute_path(path: str | os.PathLike[str]) -> str:
    """The path as it is now: a program may change its folder before a store is first opened."""
    return os.path.abspath(path)  # noqa: PTH100  # Path.absolute would leave ".." in


def check_timeout(timeout: float) -> float:
    """Give back the seconds after which an operation is given up, if they can be that.

    :raises ConfigurationError: not a positive number.
    """
    if type(timeout) not in (int, float) or not 0 < timeout <= _MAX_TTL:  # callers without a type checker; and NaN
        raise ConfigurationError("timeout must be a positive number of seconds, at most a day")
    return timeout


def check_version(version: int | None) -> int | None:
    """Give back an expected version if it can be one.

    :raises ConfigurationError: not a whole number from 0 on.
    """
    if version is not None and (type(version) is not int or not 0 <= version < _MAX_VERSION):
        raise ConfigurationError("expected_version must be the version of a record, 0 for none, or None for any")
    return version


def milliseconds(seconds: float) -> int:
    """A moment as drivers keep it: milliseconds since the Unix epoch.

    :raises TokenStorageError: not a moment that can be stored.
    """
    return round(check_moment(seconds) * 1000)


def ttl_milliseconds(ttl: float) -> int:
    """How long a lease runs.

    :raises ConfigurationError: not more than nothing and at most a day.
    """
    if not 0.001 <= ttl <= _MAX_TTL:  # NaN fails too
        raise ConfigurationError("the ttl of a lease must be from 0.001 to 86400 seconds")
    return math.ceil(ttl * 1000)


def owner_bytes(owner: str) -> bytes:
    """The owner of a lease.

    :raises ConfigurationError: empty, too long, or no text.
    """
    encoded = owner.encode("utf-8", "surrogatepass")
    if not 0 < len(encoded) <= _MAX_OWNER_BYTES:
        raise ConfigurationError(f"the owner of a lease must be a text of 1 to {_MAX_OWNER_BYTES} bytes")
    return encoded


def check_lineage(lineage: bytes | None) -> bytes | None:
    """Give back a lineage if it is one.

    :raises ConfigurationError: not 16 bytes.
    """
    if lineage is not None and (type(lineage) is not bytes or len(lineage) != LINEAGE_BYTES):
        raise ConfigurationError(f"a lineage is {LINEAGE_BYTES} bytes")
    return lineage


def check_limit(limit: int) -> int:
    """Give back the size of a page if it can be one.

    :raises ConfigurationError: less than 1 or more than 10,000.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ConfigurationError(f"limit must be from 1 to {MAX_PAGE}")
    return limit


def user_cursor(row_id: bytes) -> str:
    """A cursor that goes on after a row."""
    return base64.urlsafe_b64encode(b"u" + row_id).decode()


def position_of_user(cursor: str | None) -> bytes:
    """The row a listing goes on after; ``b""`` before the first.

    :raises ConfigurationError: not a cursor of this listing.
    """
    return b"" if cursor is None else _opened(cursor, b"u")


def expiring_cursor(expires_at: int, row_id: bytes) -> str:
    """A cursor that goes on after a row."""
    return base64.urlsafe_b64encode(b"e" + _EXPIRING.pack(expires_at) + row_id).decode()


def position_of_expiring(cursor: str | None) -> tuple[int, bytes]:
    """The moment and row a listing goes on after; :data:`FIRST_EXPIRING` before the first.

    :raises ConfigurationError: not a cursor of this listing.
    """
    if cursor is None:
        return FIRST_EXPIRING
    opened = _opened(cursor, b"e")
    if len(opened) < _EXPIRING.size:
        raise ConfigurationError(_NO_CURSOR)
    return _EXPIRING.unpack_from(opened)[0], opened[_EXPIRING.size :]


def _opened(cursor: str, kind: bytes) -> bytes:
    opened = b""
    with suppress(ValueError):
        opened = base64.b64decode(cursor, altchars=b"-_", validate=True)
    if opened[:1] != kind:
        raise ConfigurationError(_NO_CURSOR)
    return opened[1:]
