"""What happened in a run: what each process wrote down line by line, what the server saw, and what the harness did to the processes.

A line is written before and after each thing that counts, straight to the file, so that a process that is killed leaves all it had come to. What has
a beginning and no end may have happened or not (Jepsen's ``:info``). Times are the machine's monotonic clock, which its processes share. Tokens stand
here as SHA-256, as in the ledgers of the server.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pauth.core.quirks import RotationClass

__all__ = ["Attempt", "Call", "Exchange", "Hit", "Load", "Run", "Usage", "Use", "Write", "read_run"]

INF: Final = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the client's public API."""

    process: str
    user: str
    op: str
    t0: float
    t1: float | None = None
    """``None``: it never returned."""

    at: str | None = None
    """The access token it gave."""

    error: str | None = None
    """The type of the error it raised; ``Cancelled`` if the harness cancelled the caller."""

    reason: str | None = None
    """Of a ``ReauthorizationRequired``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One refresh request, as the process that sent it saw it."""

    process: str
    rt: str
    """The refresh token sent."""

    t0: float
    t1: float | None = None
    outcome: str | None = None
    """``ok``, ``refused`` (a whole answer without a token), ``unsent`` (no connection), ``ambiguous`` (none, or half of one); ``None``: it died."""

    error: str | None = None
    """The OAuth error code of a refusal."""

    status: int | None = None
    at: str | None = None
    """The access token that came back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One write of a record."""

    process: str
    user: str
    t0: float
    t1: float | None = None
    version: int | None = None
    """The version it made; ``None`` if it lost, failed, or nobody knows."""

    at: str
    rt: str | None = None
    expected: int | None = None
    """The version it was to succeed."""

    failed: str | None = None
    """The error it ended with: then it may have been done or not."""

    ended: str | None = None
    """Why the grant is over, if the record says so."""

    intent: str | None = None
    """The attempt that is about to send the refresh token, if the record says so."""

    retry_of: str | None = None
    """The attempt which that one repeats."""

    @property
    def uncertain(self) -> bool:
        """Whether it may have been done though nobody was told."""
        return self.t1 is None or self.failed is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One record as it was read."""

    process: str
    user: str
    t0: float
    t1: float
    version: int
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A failpoint that was reached by a process that was told to act there."""

    process: str
    name: str
    action: str
    t: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process held at one moment."""

    process: str
    label: str
    """``base``, before it had anything to do, or ``end``, when all was done."""

    fds: int
    tasks: int
    threads: int
    memory: int = 0
    """Bytes, resident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request to the token endpoint, as the server saw it."""

    t: float
    user: str | None
    grant: str | None
    outcome: str
    """As in :class:`pauth.testing.LedgerEntry`."""

    rt_in: str | None = None
    rt_out: str | None = None
    at_out: str | None = None
    """If there is one the request was applied, whatever the client was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """An access token at the resource server."""

    t: float
    user: str | None
    at: str | None
    outcome: str


@dataclass(slots=True, kw_only=True)
class Run:
    """All that is known of a run, and what it was set up with."""

    rotation: RotationClass = RotationClass.RSF
    timeout: float = 2.0
    """Seconds after which a refresh request is given up: then its deadline has passed."""

    lifetime: float = 3600.0
    """Seconds an access token lives."""

    staleness: float = 0.0
    """Seconds for which a process may go on handing out a valid token that another one has replaced."""

    lasting: bool = True
    """Whether the store outlives its process."""

    calls: list[Call] = field(default_factory=list[Call])
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    writes: list[Write] = field(default_factory=list[Write])
    loads: list[Load] = field(default_factory=list[Load])
    hits: list[Hit] = field(default_factory=list[Hit])
    usages: list[Usage] = field(default_factory=list[Usage])
    exchanges: list[Exchange] = field(default_factory=list[Exchange])
    uses: list[Use] = field(default_factory=list[Use])
    deaths: dict[str, float] = field(default_factory=dict[str, float])
    """When a process was seen to have ended."""

    final: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    """The version and the access token that each user's record has in the end."""

    def end_of(self, attempt: Attempt) -> float:
        """When an attempt was over for its process at the latest: it had its outcome, or the process was dead."""
        died = self.deaths.get(attempt.process, INF)
        return min(INF if attempt.t1 is None else attempt.t1, died)

    def user_of(self) -> dict[str, str]:
        """Whose each refresh token is, as far as anybody knows."""
        known = {write.rt: write.user for write in self.writes if write.rt is not None}
        for exchange in self.exchanges:
            for rt in (exchange.rt_in, exchange.rt_out):
                if rt is not None and exchange.user is not None:
                    known[rt] = exchange.user
        return known

    def refreshes(self) -> list[Exchange]:
        """The refresh requests the server saw."""
        return [exchange for exchange in self.exchanges if exchange.grant == "refresh_token"]


_ENDS: Final = {"return": "invoke", "sent": "send", "wrote": "write"}


def read_run(files: Iterable[Path], run: Run) -> Run:
    """Add what the processes wrote down to ``run``."""
    for file in files:
        pending: dict[tuple[str, int], dict[str, Any]] = {}
        for line in file.read_text(encoding="utf-8").splitlines():
            event: dict[str, Any] = json.loads(line)
            kind: str = event.pop("e")
            if kind in {"invoke", "send", "write"}:
                pending[kind, event["id"]] = event
            elif kind in _ENDS:
                _add(run, _ENDS[kind], {**pending.pop((_ENDS[kind], event["id"])), **event, "t1": event["t"]})
            else:
                _add(run, kind, event)
        for (kind, _), event in pending.items():
            _add(run, kind, event)
    for events in (run.calls, run.attempts, run.writes, run.loads):
        events.sort(key=lambda event: event.t0)
    return run


def _add(run: Run, kind: str, event: dict[str, Any]) -> None:
    event.pop("id", None)
    t = event.pop("t", 0.0)
    if kind == "invoke":
        run.calls.append(Call(**event))
    elif kind == "send":
        run.attempts.append(Attempt(**event))
    elif kind == "write":
        run.writes.append(Write(**event))
    elif kind == "load":
        run.loads.append(Load(**event))
    elif kind == "hit":
        run.hits.append(Hit(t=t, **event))
    elif kind == "usage":
        run.usages.append(Usage(**event))
    elif kind != "note":  # for who reads a history
        raise ValueError(f"a history has a line of an unknown kind: {kind}")
