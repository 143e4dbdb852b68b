"""What a :class:`~pauth.TokenRefresher` has done, in numbers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Outcome", "RefresherProgress", "Tally"]

Outcome: TypeAlias = Literal["refreshed", "fresh", "resting", "elsewhere", "failed", "dead", "skipped"]
"""What became of one record that was listed; the fields of :class:`RefresherProgress` say what each means."""


@dataclass(frozen=True, slots=True)
class RefresherProgress:
    """What a refresher has done so far. Each record listed is counted under one of ``refreshed`` to ``skipped`` when its turn has come."""

    scans: int = 0
    """How often it has gone through what was due, from one end to the other; each client counts."""

    listed: int = 0
    """Records that were due, or nearly, when they were listed."""

    expired: int = 0
    """Of these, how many access tokens had expired: if they are many and do not become fewer, it needs more workers, or a higher rate."""

    refreshed: int = 0
    """Tokens that it has refreshed."""

    fresh: int = 0
    """Records that needed nothing: refreshed or removed by somebody else since the listing, or not due before the next scan."""

    resting: int = 0
    """Records whose last refresh failed so lately that it is not tried again yet."""

    elsewhere: int = 0
    """Records that another worker was at, also when they were looked at again."""

    failed: int = 0
    """Refreshes that failed and will be tried again, and records that cannot be read."""

    dead: int = 0
    """Users who have to log in again."""

    skipped: int = 0
    """Records left to the next scan, since their server or the store did not answer any more, or :meth:`TokenRefresher.stop` was called."""

    unknown: int = 0
    """Records of clients that this refresher does not have: listed, and left alone."""

    seconds: float = 0.0
    """How long the last scan took."""


class Tally:
    """Counts what is done; also for the one above it."""

    __slots__ = ("_above", "_counts", "seconds")

    def __init__(self, above: Tally | None = None) -> None:
        self._above = above
        self._counts: defaultdict[str, int] = defaultdict(int)
        self.seconds: float = 0.0
        """How long the last scan took."""

    def add(self, name: Outcome | Literal["scans", "listed", "expired", "unknown"], number: int = 1) -> None:
        """So many more of these."""
        self._counts[name] += number
        if self._above is not None:
            self._above.add(name, number)

    def took(self, seconds: float) -> None:
        """A scan has ended that took so long."""
        self.seconds = seconds
        if self._above is not None:
            self._above.took(seconds)

    def progress(self) -> RefresherProgress:
        """All of it, as it is now."""
        return RefresherProgress(**self._counts, seconds=self.seconds)
