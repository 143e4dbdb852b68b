"""What a part of the run found out: a table, and whether what was aimed at was reached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.tokens.authority import Authority

__all__ = ["Aim", "Cell", "Found", "Setting", "Way"]

Cell: TypeAlias = str | float | int | None


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound on a figure that was measured in this run: a ratio, a difference, a count."""

    what: str
    """In words, with the bound."""

    measured: float
    bound: float
    at_most: bool = True
    unit: str = "x"

    @property
    def verdict(self) -> str:
        """``reached`` or ``missed``."""
        return "reached" if (self.measured <= self.bound if self.at_most else self.measured >= self.bound) else "missed"


@dataclass(slots=True)
class Found:
    """One part of the report."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list[Sequence[Cell]])
    aims: list[Aim] = field(default_factory=list[Aim])
    absent: dict[str, str] = field(default_factory=dict[str, str])
    """Who did not take part, and why."""

    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where and how long a part may measure."""

    seconds: float | None
    """For each contender and each work, over all rounds; ``None``: just enough to see that it runs."""

    rounds: int
    authority: Authority
    folder: Path
    """Of this part's own."""

    urls: Mapping[str, str]
    """By driver, the servers that are there already."""

    records: int
    """How many there are in the stores of the refresher."""

    say: Callable[[str], None]

    @property
    def quick(self) -> bool:
        """Whether the figures mean nothing."""
        return self.seconds is None


Way: TypeAlias = Callable[[Setting], Awaitable[Found]]
"""A part: measures, and gives what it found."""

Numbers: TypeAlias = Mapping[str, Any]
