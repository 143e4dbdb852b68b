"""What the tests of the SQL drivers share."""

from __future__ import annotations

from typing import Any

from pauth.storage import DatabaseTokenStorage
from pauth.storage.driver import Driver, Put
from pauth.storage.identity import row_id
from tests.storage.kit import KEY


def by(library: str, url: str) -> str:
    """The URL for one library."""
    dialect, separator, rest = url.partition("://")
    return f"{dialect}+{library}{separator}{rest}"


def at(url: str, port: int) -> str:
    """The URL on another port."""
    head, _, tail = url.partition("@")
    return f"{head}@127.0.0.1:{port}/{tail.partition('/')[2]}"


def storage_at(url: Any, **options: Any) -> DatabaseTokenStorage:
    """An encrypted storage."""
    return DatabaseTokenStorage(url, encryption_key=KEY, **options)


def driver_at(url: str, **options: Any) -> Driver:
    return storage_at(url, **options)._driver  # pyright: ignore[reportPrivateUsage]


def put(user: str, **changes: Any) -> Put:
    """A write for a user, unconditional unless changed."""
    written = Put(row_id("", user), b"", user.encode(), None, None, 1_000, None, None, None, memoryview(b"CANARY-data of " + user.encode()))
    return written._replace(**changes)
