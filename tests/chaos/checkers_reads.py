"""K4, K5, K6: what callers and resource servers may be shown. Pure functions from a run to the violations found in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.history import INF, Call, Run

__all__ = ["k4_linearizable_reads", "k5_persist_before_use", "k6_isolation"]


@dataclass(frozen=True, slots=True)
class _Version:
    """One token of a user, in the order in which they were stored."""

    number: int
    began: float
    """Before this it cannot have been stored."""

    known: float
    """By then it was."""


def _versions(run: Run) -> dict[str, _Version]:
    """By access token; writes that keep the token (an intent, a mark) make no new one."""
    found: dict[str, _Version] = {}

    def learn(at: str, number: int | None, began: float, known: float) -> None:
        old = found.get(at)
        if old is None:
            found[at] = _Version(-1 if number is None else number, began, known)
        else:
            numbers = [each for each in (old.number, number) if each is not None and each >= 0]
            found[at] = _Version(min(numbers, default=-1), min(old.began, began), min(old.known, known))

    for write in run.writes:
        if write.version is not None and write.t1 is not None:
            learn(write.at, write.version, write.t0, write.t1)
        elif write.uncertain:
            learn(write.at, None if write.expected is None else write.expected + 1, write.t0, INF)
    for load in run.loads:
        learn(load.at, load.version, load.t1, load.t1)
    return found


def k4_linearizable_reads(run: Run) -> list[str]:
    """Who asks later is given nothing older; what is given was the newest at some moment of the call.

    A process may hand out what another one has replaced for ``run.staleness`` seconds, and to itself it never goes back.
    """
    found: list[str] = []
    versions = _versions(run)
    by_user: dict[str, list[Call]] = defaultdict(list)
    for call in run.calls:
        if call.at is not None:
            by_user[call.user].append(call)
    for user, calls in by_user.items():
        found += _check_never_back(user, calls, versions, run.staleness, by_process=False)
        for process in sorted({call.process for call in calls}):
            found += _check_never_back(user, [call for call in calls if call.process == process], versions, 0.0, by_process=True)
        found += _check_current(user, calls, versions, run)
    return found


def _check_never_back(user: str, calls: list[Call], versions: dict[str, _Version], staleness: float, *, by_process: bool) -> list[str]:
    """Sweep over the beginnings of calls, with the newest version that any call which had returned before was given."""
    found: list[str] = []
    returns = sorted((call for call in calls if call.t1 is not None), key=lambda call: call.t1 or 0.0)
    newest, giver, position = -1, "", 0
    for call in sorted(calls, key=lambda each: each.t0):
        while position < len(returns) and (returns[position].t1 or 0.0) + staleness < call.t0:
            known = versions.get(returns[position].at or "")
            if known is not None and known.number > newest:
                newest, giver = known.number, returns[position].process
            position += 1
        given = versions.get(call.at or "")
        if given is not None and 0 <= given.number < newest:
            where = "the same process" if by_process else giver
            found.append(f"K4: {call.process} was given version {given.number} of {user} after {where} had been given {newest}")
    return found


def _check_current(user: str, calls: list[Call], versions: dict[str, _Version], run: Run) -> list[str]:
    found: list[str] = []
    tokens = {write.at for write in run.writes if write.user == user}
    order = sorted((versions[at] for at in tokens if at in versions and versions[at].number >= 0), key=lambda version: version.number)
    following = {one.number: two for one, two in pairwise(order)}
    for call in calls:
        given = versions.get(call.at or "")
        if given is None or call.t1 is None:
            continue  # K5 tells of tokens that were never stored
        if given.began > call.t1:
            found.append(f"K4: {call.process} was given version {given.number} of {user} before anybody began to store it")
        after = following.get(given.number)
        late = 0.0 if after is None else call.t0 - after.known
        if after is not None and late > run.staleness:
            found.append(f"K4: {call.process} was given version {given.number} of {user} {late:.3f} s after {after.number} was known to be stored")
    return found


def k5_persist_before_use(run: Run) -> list[str]:
    """No access token is given to a caller, or presented to a resource server, that was not known to be stored."""
    versions = _versions(run)
    given = [(call.t1, call.user, call.at, f"given by {call.process}") for call in run.calls if call.at is not None and call.t1 is not None]
    used = [(use.t, use.user or "?", use.at, "used at the resource server") for use in run.uses if use.at is not None]
    found: list[str] = []
    for t, user, at, what in given + used:
        version = versions.get(at)
        if version is None or version.known == INF:
            found.append(f"K5: a token of {user} was {what} and never stored")
        elif version.known > t:
            found.append(f"K5: a token of {user} was {what} {version.known - t:.3f} s before it was stored")
    return found


def k6_isolation(run: Run) -> list[str]:
    """Whoever asks for a user's token is given one that the server issued for that user; nobody stores it under another name."""
    owners: dict[str, str] = {
        exchange.at_out: exchange.user for exchange in run.exchanges if exchange.at_out is not None and exchange.user is not None
    }

    def check(pairs: Iterable[tuple[str | None, str, str]]) -> list[str]:
        return [
            f"K6: a token of {owners.get(at, 'nobody')} was {what} for {user}"
            for at, user, what in pairs
            if at is not None and owners.get(at) != user
        ]

    return check((call.at, call.user, f"given by {call.process}") for call in run.calls) + check(
        (write.at, write.user, f"stored by {write.process}") for write in run.writes
    )
