"""What has to hold whatever the order: the checkers K1, K2, K3, K5 and K7 over one run of the simulation."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from pauth.core.quirks import RotationClass
from tests.interleavings.sim import Sim

_STRICT = {RotationClass.RS, RotationClass.RSF}


def violations(sim: Sim, *, undisturbed: bool) -> list[str]:
    """What is wrong with a run; nothing, if all is well.

    :param undisturbed: nobody was killed or stopped, and nothing failed.
    """
    return [*_double_spend(sim), *_overlaps(sim), *_forks(sim), *_early(sim), *_unanswered(sim), *(_herd(sim) if undisturbed else [])]


def _double_spend(sim: Sim) -> list[str]:
    """K1: a refresh token is sent once, and a second time only when the answer to the first can come no more."""
    if sim.server.kind not in _STRICT:
        return []
    sends = [each for each in sim.server.sends if not each.refused]
    wrong = [f"K1: {each.by} sent {each.refresh_token} though it had not announced it" for each in sends if not each.announced]
    counts = Counter(each.refresh_token for each in sends)
    wrong += [f"K1: {token} was sent {count} times" for token, count in counts.items() if count > 2]
    for token in (token for token, count in counts.items() if count == 2):
        first, second = sorted((each for each in sends if each.refresh_token == token), key=lambda each: each.began)
        over = first.deadline if first.ended is None else min(first.ended, first.deadline)
        if second.began < over:
            wrong.append(f"K1: {token} was sent again while an answer could come")
    return wrong


def _overlaps(sim: Sim) -> list[str]:
    """K2: no two refreshes at once, but that of one who was killed or stopped."""
    if sim.server.kind not in _STRICT:
        return []  # elsewhere a token may be sent while nobody knows what became of the first
    sends = sorted(sim.server.sends, key=lambda each: each.began)
    return [
        f"K2: {one.by} and {two.by} asked at once"
        for one, two in pairwise(sends)
        if two.began < (one.deadline if one.ended is None else min(one.ended, one.deadline))
    ]


def _forks(sim: Sim) -> list[str]:
    """K3: each token that is stored was obtained with the one that was stored before it."""
    wrong: list[str] = []
    tokens = [each.tokens for each in sim.store.history]
    for old, new in pairwise(tokens):
        if new["access_token"] != old["access_token"] and sim.server.parents[new["access_token"]] != old["refresh_token"]:
            wrong.append(f"K3: {new['access_token']} was written over {old['access_token']}")
    return wrong


def _early(sim: Sim) -> list[str]:
    """K5: nobody gets a token that the store has not acknowledged."""
    return [f"K5: {call.by} got a token that is not stored" for call in sim.calls if not call.committed]


def dropped(sim: Sim) -> list[str]:
    """P4: an answer that came to a living process was not the last of its refresh token, or is stored."""
    stored = {each.tokens["access_token"] for each in sim.store.history}
    spent = {sim.server.parents[access] for access in stored}
    return [
        f"P4: {each.by} got the successor of {each.refresh_token}, and it is lost"
        for each in sim.server.sends
        if each.answered and each.by not in sim.killed and each.refresh_token not in spent
    ]


def _unanswered(sim: Sim) -> list[str]:
    """K7: every call of a living process ends."""
    return [f"K7: a call of {call.by} never ended" for call in sim.calls if call.ended is None and call.by not in sim.loop.dead]


def _herd(sim: Sim) -> list[str]:
    """P1: one request, and all get its result."""
    got = {call.token.access_token.reveal() if call.token is not None else repr(call.error) for call in sim.calls}
    slow = [f"P9: {call.by} waited {call.ended - call.began:.1f} s" for call in sim.calls if call.ended is not None and call.ended - call.began > 2.0]
    wrong = slow if len(sim.server.sends) == 1 else [*slow, f"P1: {len(sim.server.sends)} requests for one expiry"]
    return wrong if len(got) == 1 else [*wrong, f"P1: callers got {sorted(got)}"]
