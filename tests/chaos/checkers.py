"""K1, K2, K3 and the deaths of grants: what may never happen to a refresh token. Pure functions from a run to the violations found in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from pauth.core.quirks import RotationClass
from tests.chaos.history import INF, Attempt, Exchange, Run, Write

__all__ = [
    "k1_no_double_spend",
    "k1_recorded",
    "k2_single_flight",
    "k3_chain",
    "lost_rotations",
    "needless_refreshes",
    "no_false_death",
    "one_refresh_each",
]

STRICT: Final = frozenset({RotationClass.RS, RotationClass.RSF})
"""Servers at which a refresh token that was spent is lost, whoever spent it."""


_ROUNDING: Final = 0.05
"""Seconds between the moment a request is counted from and the moment it is written down."""


def by_user(attempts: Iterable[Attempt], run: Run) -> dict[str, list[Attempt]]:
    """The refresh requests of each user that left their process, by their beginning."""
    owners = run.user_of()
    found: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in sorted(attempts, key=lambda each: each.t0):
        if attempt.outcome != "unsent":
            found[owners.get(attempt.rt, "?")].append(attempt)
    return found


def k1_no_double_spend(run: Run) -> list[str]:
    """A refresh token is sent once; once more only if nobody can know what became of it, and its request's deadline has passed.

    A whole answer that is no token and no ``invalid_grant`` (429, 503) says that it was not spent. At a server that does not rotate, it is to be
    sent again when its last answer has been received.
    """
    found: list[str] = []
    committed = _acknowledged(run)
    by_token: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in sorted(run.attempts, key=lambda each: each.t0):
        if attempt.outcome != "unsent":
            by_token[attempt.rt].append(attempt)
    for rt, sends in by_token.items():
        for number, later in enumerate(sends):
            in_doubt = 0
            for earlier in sends[:number]:
                problem = _wrongly_sent_again(earlier, later, run, committed)
                if problem is not None:
                    found.append(
                        f"K1: {rt[:8]} of {run.user_of().get(rt, '?')} was sent by {earlier.process} and again by {later.process}: {problem}"
                    )
                in_doubt += not _known_unspent(earlier, run) and not _rests(earlier, run)
            if in_doubt > 1 and run.rotation in STRICT:
                found.append(f"K1: {rt[:8]} was sent {in_doubt + 1} times, though twice nobody knew what had become of it")
    arrived = Counter(exchange.rt_in for exchange in run.refreshes() if exchange.rt_in is not None)
    sent = Counter(attempt.rt for attempt in run.attempts)
    found += [
        f"K1: the server saw {rt[:8]} {count} times and no client wrote down more than {sent[rt]}"
        for rt, count in arrived.items()
        if count > sent[rt]
    ]
    return found


def _acknowledged(run: Run) -> dict[str, float]:
    """When each access token was first known to be stored: a write was acknowledged, or somebody read it."""
    times: dict[str, float] = {}
    for write in run.writes:
        if write.version is not None and write.t1 is not None:
            times[write.at] = min(times.get(write.at, INF), write.t1)
    for load in run.loads:
        times[load.at] = min(times.get(load.at, INF), load.t1)
    return times


def _known_unspent(attempt: Attempt, run: Run) -> bool:
    """Whether its answer said that the refresh token was not exchanged."""
    return attempt.outcome == "refused" and attempt.error != "invalid_grant" and run.end_of(attempt) < INF


def _rests(attempt: Attempt, run: Run) -> bool:
    """Whether the server does not rotate, and had answered."""
    return attempt.outcome == "ok" and run.rotation is RotationClass.NR


def _wrongly_sent_again(earlier: Attempt, later: Attempt, run: Run, committed: dict[str, float]) -> str | None:
    deadline = earlier.t0 + run.timeout
    if run.end_of(earlier) > later.t0 and deadline > later.t0:
        return "while the first request was under way"
    if _known_unspent(earlier, run) or _rests(earlier, run):
        return None
    if earlier.error == "invalid_grant" and earlier.outcome == "refused":
        return "after the server had refused it for good"
    if earlier.at is not None and committed.get(earlier.at, INF) < later.t0:
        return "after its successor was stored"
    if run.rotation in STRICT and deadline > later.t0:
        return f"{deadline - later.t0:.2f} s before the deadline of the first request, at a server that takes it once"
    return None


def k1_recorded(run: Run) -> list[str]:
    """Each send is announced in the store before it leaves, by an intent of its own; one that repeats another says so (P2)."""
    found: list[str] = []
    intents = {(write.process, write.intent): write for write in run.writes if write.intent is not None and write.version is not None}
    sends: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in sorted(run.attempts, key=lambda each: each.t0):
        if attempt.outcome == "unsent":
            continue
        mine = [key for key, write in intents.items() if key[0] == attempt.process and write.rt == attempt.rt and (write.t1 or INF) <= attempt.t0]
        intent = intents.pop(max(mine, key=lambda key: intents[key].t0)) if mine else None
        in_doubt = [earlier for earlier in sends[attempt.rt] if not _known_unspent(earlier, run)]
        if intent is None:
            found.append(f"K1: {attempt.process} sent {attempt.rt[:8]} without having said so in the store")
        elif in_doubt and intent.retry_of is None:
            found.append(f"K1: {attempt.process} sent {attempt.rt[:8]} again without having said that it is a retry")
        if _rests(attempt, run):
            sends[attempt.rt].clear()  # whatever became of those before: it was told now
        else:
            sends[attempt.rt].append(attempt)
    return found


def k2_single_flight(run: Run) -> list[str]:
    """At no time are two refreshes of one user under way, but that one of them is past its deadline."""
    found: list[str] = []
    for user, attempts in by_user(run.attempts, run).items():
        ends = [min(run.end_of(attempt), attempt.t0 + run.timeout) for attempt in attempts]
        latest, who = 0.0, ""
        for attempt, end in zip(attempts, ends, strict=True):
            if attempt.t0 < latest:
                found.append(f"K2: a refresh of {user} by {attempt.process} began {latest - attempt.t0:.3f} s before that of {who} was over")
            if end > latest:
                latest, who = end, attempt.process
    return found


def k3_chain(run: Run) -> list[str]:
    """The versions of a record form one path, on which each token was issued for the one before it, and nothing acknowledged is lost."""
    found: list[str] = []
    issued: dict[str | None, Exchange] = {exchange.at_out: exchange for exchange in run.exchanges if exchange.at_out is not None}
    for user in sorted({write.user for write in run.writes}):
        writes = [write for write in run.writes if write.user == user]
        versions: dict[int, Write] = {}
        for write in writes:
            if write.version is not None:
                other = versions.setdefault(write.version, write)
                if other is not write and (other.at, other.rt) != (write.at, write.rt):
                    found.append(
                        f"K3: version {write.version} of {user} is two: {other.process} and {write.process} were both told that they made it"
                    )
        final = run.final.get(user)
        top = max([*versions, 0 if final is None else final[0]])
        missing = [number for number in range(1, top + 1) if number not in versions]
        uncertain = [write for write in writes if write.uncertain]
        guessed = {number: _guess(number, uncertain, versions, run, user) for number in missing}
        found += [f"K3: version {number} of {user} is there, and nobody wrote it" for number, guess in guessed.items() if guess is None]
        if final is not None:
            found += _check_end(user, final, versions)
        path = {**versions, **{number: guess for number, guess in guessed.items() if guess is not None}}
        ordered = [path[number] for number in sorted(path)]
        for before, after in pairwise(ordered):
            found += _check_step(user, before, after, issued)
    return found


def _guess(number: int, uncertain: list[Write], versions: dict[int, Write], run: Run, user: str) -> Write | None:
    """The write without an answer that made a version."""
    seen = next((load.at for load in run.loads if load.user == user and load.version == number), None)
    final = run.final.get(user)
    if final is not None and final[0] == number:
        seen = final[1]
    candidates = [write for write in uncertain if write.expected in {None, number - 1} and seen in {None, write.at}]
    before, after = versions.get(number - 1), versions.get(number + 1)
    # Two may have lost their answers: the one that fits its neighbours in time was it.
    fitting = [
        write
        for write in candidates
        if (after is None or after.t1 is None or write.t0 <= after.t1) and (before is None or write.t1 is None or before.t0 <= write.t1)
    ]
    return next(iter(fitting), None)


def _check_end(user: str, final: tuple[int, str], versions: dict[int, Write]) -> list[str]:
    acknowledged = max(versions, default=0)
    if final[0] < acknowledged:
        return [f"K3: version {acknowledged} of {user} was acknowledged, and in the end there is only {final[0]}"]
    if final[0] in versions and versions[final[0]].at != final[1]:
        return [f"K3: version {final[0]} of {user} is not what was acknowledged"]
    return []


def _check_step(user: str, before: Write, after: Write, issued: dict[str | None, Exchange]) -> list[str]:
    if (before.at, before.rt) == (after.at, after.rt):
        return []  # book-keeping: an intent, a mark
    exchange = issued.get(after.at)
    if exchange is None:
        return [f"K3: {after.process} stored a token of {user} that the server never issued"]
    if exchange.grant == "refresh_token" and exchange.rt_in != before.rt:
        return [f"K3: {after.process} replaced a token of {user} by one that is not its successor"]
    return []


def lost_rotations(run: Run, user: str) -> list[Exchange]:
    """The exchanges that the server made and whose tokens no process can have been told to be stored."""
    stored = _acknowledged(run)
    return [exchange for exchange in run.refreshes() if exchange.user == user and exchange.at_out is not None and exchange.at_out not in stored]


def no_false_death(run: Run) -> list[str]:
    """P8, P5: the user is asked to log in only where a strict server has rotated a token and its answer was lost; and is told that this is why."""
    ends = [
        (call.process, call.user, call.t0, call.t1 or INF, call.reason, "was told")
        for call in run.calls
        if call.error == "ReauthorizationRequired" and (run.lasting or call.reason != "not_logged_in")  # who has lost its memory knows nobody
    ]
    ends += [(write.process, write.user, write.t0, write.t1 or INF, write.ended, "wrote") for write in run.writes if write.ended is not None]
    found: list[str] = []
    for process, user, t0, t1, reason, what in ends:
        true = _causes_of_death(run, user, t0, t1)
        if reason not in true:
            instead = f"it is {' or '.join(sorted(true))}" if true else "it is alive"
            found.append(f"P8: {process} {what} that the grant of {user} is over ({reason}), and {instead}")
    return found


def _causes_of_death(run: Run, user: str, t0: float, t1: float) -> set[str]:
    """What may truly be said of a grant by who has looked from ``t0`` to ``t1``; nothing if it is alive."""
    if run.rotation not in STRICT:
        return set()
    stored = _acknowledged(run)
    logins = [stored.get(each.at_out or "", INF) for each in run.exchanges if each.user == user and each.grant == "authorization_code"]
    login = max((t for t in logins if t < t0), default=-INF)
    family = [each for each in run.refreshes() if each.user == user and login < each.t < t1]
    causes: set[str] = set()
    if any(each.at_out is not None and stored.get(each.at_out, INF) > t0 for each in family):
        causes.add("ambiguous_rotation")  # a rotation that nobody has, at that time at least
    if run.rotation is RotationClass.RSF:
        spent: set[str | None] = set()
        reused = False
        for each in family:
            if each.outcome == "invalid_grant" and each.rt_in in spent:
                reused = True
                causes.add("ambiguous_rotation")
            elif each.outcome == "invalid_grant" and reused:
                causes.add("invalid_grant")  # stored by who woke up late, and revoked with the whole family before that
            if each.at_out is not None:
                spent.add(each.rt_in)
    return causes


def one_refresh_each(run: Run, expiries: int, users: Iterable[str]) -> list[str]:
    """P1: so many times all tokens expired, and so many refreshes were sent for each user; none was refused."""
    sent = {user: len(attempts) for user, attempts in by_user(run.attempts, run).items()}
    found = [f"P1: {expiries} expiries and {sent.get(user, 0)} refresh requests of {user}" for user in sorted(users) if sent.get(user, 0) != expiries]
    return found + [f"P1: a refresh of {each.user} was answered {each.outcome}" for each in run.refreshes() if each.outcome != "ok"]


def needless_refreshes(run: Run, *, margin: float = 0.1) -> list[str]:
    """P1 with the time as it is: a token is refreshed only in the last tenth of its life (``margin``, as a share of it), or after."""
    obtained = {attempt.at: attempt for attempt in run.attempts if attempt.at is not None}
    tokens = {write.rt: write.at for write in run.writes if write.rt is not None}
    found: list[str] = []
    for attempt in run.attempts:
        before = obtained.get(tokens.get(attempt.rt, ""))
        if before is not None and attempt.outcome != "unsent":
            early = before.t0 + run.lifetime * (1.0 - margin) - attempt.t0
            if early > _ROUNDING:
                found.append(f"P1: {attempt.process} refreshed a token {early:.2f} s before its time")
    return found
