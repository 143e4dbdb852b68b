"""Who takes part: pauth, the raw driver as the floor, other ways to write it, and the peer."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["Contender", "Entry", "Missing", "Operation", "Place", "Role", "Row", "optional"]

Operation: TypeAlias = Callable[[str], Awaitable[object]]
"""Saves the token of a user, or gets it."""


class Missing(Exception):
    """Something this contender needs is not here. The message says how to get it; the run goes on without."""


class Role(enum.Enum):
    """What a contender is beside pauth for."""

    PAUTH = "pauth"
    FLOOR = "floor"
    """The raw driver moving the same bytes: what goals are ratios of."""

    OTHER = "other"
    PEER = "peer"
    """py-key-value, with its encryption where pauth encrypts."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One that is open and ready."""

    save: Operation
    get: Operation
    server: str = ""
    """Name and version of the server, from the one who asked it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a driver's contenders keep what they are given."""

    url: str
    """Of the server; ``""`` for a driver without one."""

    folder: Path
    users: Sequence[str]
    """Whose tokens are saved here. They are removed at the end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One that can be opened."""

    name: str
    role: Role
    open: Callable[[Place], AbstractAsyncContextManager[Contender]]


@dataclass(frozen=True, slots=True)
class Row:
    """One driver and all who take part in it."""

    name: str
    entries: Sequence[Entry]
    calls_per_sample: int = 1
    """How many calls are timed together: more than one where a clock's reading would cost as much as the call."""


def optional(module: str, package: str | None = None) -> Any:
    """A module that may not be installed.

    :raises Missing: it is not; the message is the line that installs it.
    """
    try:
        return import_module(module)
    except ImportError:
        raise Missing(f"not installed: pip install {package or module}") from None
