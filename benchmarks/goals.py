"""What was aimed at: each goal is a ratio of figures taken in one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.contender import Role
from benchmarks.measure import Figures, Work

__all__ = ["GOALS", "Goal", "verdict"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on one ratio.

    Against the floor with one task it is a share of latency: so many times the raw driver's, at most. Everything else is "so many times as fast,
    at least": by latency with one task, by throughput with more.
    """

    driver: str
    work: Work
    against: Role
    bound: float

    @property
    def at_most(self) -> bool:
        """Whether less is better."""
        return self.against is Role.FLOOR and self.work.tasks == 1

    def ratio(self, ours: Figures, theirs: Figures) -> float:
        """What was reached."""
        if self.at_most:
            return ours.p50 / theirs.p50
        return theirs.p50 / ours.p50 if self.work.tasks == 1 else ours.per_second / theirs.per_second

    def __str__(self) -> str:
        who = "the raw driver" if self.against is Role.FLOOR else "py-key-value"
        return f"at most {self.bound:g}x {who}'s latency" if self.at_most else f"at least {self.bound:g}x as fast as {who}"


def verdict(goal: Goal, ratio: float) -> str:
    """``reached`` or ``missed``."""
    return "reached" if (ratio <= goal.bound if goal.at_most else ratio >= goal.bound) else "missed"


def _both(driver: str, tasks: int, against: Role, save: float, get: float) -> tuple[Goal, Goal]:
    return Goal(driver, Work("save", tasks), against, save), Goal(driver, Work("get", tasks), against, get)


GOALS: Final = (
    *_both("memory", 1, Role.FLOOR, 4, 4),
    *_both("memory", 1, Role.PEER, 30, 30),
    *_both("sqlite", 1, Role.FLOOR, 2.2, 2.2),
    *_both("sqlite", 64, Role.FLOOR, 4, 2),
    *_both("redis", 1, Role.FLOOR, 1.15, 1.15),
    *_both("redis", 64, Role.FLOOR, 2.5, 5),
    *_both("redis", 1, Role.PEER, 1.5, 1.5),
    *_both("redis", 64, Role.PEER, 5, 5),
    *_both("postgresql", 1, Role.FLOOR, 1.25, 1.25),
    *_both("postgresql", 64, Role.FLOOR, 4, 4),
    *_both("postgresql", 1, Role.PEER, 1, 1),
    *_both("postgresql", 64, Role.PEER, 5, 5),
    *_both("files", 1, Role.FLOOR, 1.1, 1.15),
    *_both("files", 1, Role.PEER, 1.5, 1.5),
    *_both("files", 64, Role.PEER, 5, 5),
)
"""py-key-value has no store on SQLite, MariaDB or MySQL, so there is nothing to be compared with there."""
