"""K7, K8, K9, K10: time, rate, secrets and resources. Pure functions from a run, or from files, to the violations found."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tests.chaos.history import Run
from tests.support.canary import leaks_in_files

__all__ = ["k7_progress", "k8_rate", "k9_canary", "k10_resources"]

_LASTING = frozenset({"ReauthorizationRequired"})
"""Errors that are an answer: the user logs in, and is served again."""


def k7_progress(run: Run, *, bound: float, healed: float | None = None) -> list[str]:
    """Every call returns within ``bound`` seconds, unless its process was killed; those begun after ``healed`` give a token, or send to the login."""
    found: list[str] = []
    for call in run.calls:
        died = run.deaths.get(call.process)
        if call.t1 is None:
            if died is None:
                found.append(f"K7: {call.op} of {call.user} by {call.process} never returned")
        elif call.t1 - call.t0 > bound:
            found.append(f"K7: {call.op} of {call.user} by {call.process} took {call.t1 - call.t0:.1f} s")
        if healed is not None and call.t0 >= healed and call.error is not None and call.error not in _LASTING:
            found.append(f"K7: {call.op} of {call.user} by {call.process} raised {call.error} though all was well again")
    return found


def k8_rate(run: Run, *, begin: float, end: float, per_user: float, total: float, window: float = 60.0) -> list[str]:
    """While the server is down, no more than so many refresh requests of one user, and of all, arrive in any ``window`` seconds."""
    found: list[str] = []
    by_user: dict[str, list[float]] = defaultdict(list)
    for exchange in run.refreshes():
        if begin <= exchange.t <= end:
            by_user[exchange.user or "?"].append(exchange.t)
    for user, times in by_user.items():
        most = _most(times, window)
        if most > per_user:
            found.append(f"K8: {most} refresh requests of {user} in {window:g} s")
    most = _most([t for times in by_user.values() for t in times], window)
    if most > total:
        found.append(f"K8: {most} refresh requests in {window:g} s")
    return found


def _most(times: list[float], window: float) -> int:
    """How many of ``times`` lie in one window at most."""
    ordered = sorted(times)
    most = first = 0
    for last, t in enumerate(ordered):
        while t - ordered[first] > window:
            first += 1
        most = max(most, last - first + 1)
    return most


def k9_canary(*folders: Path) -> list[str]:
    """No file of a run holds a secret: logs, histories, the store itself, a journal."""
    return [f"K9: {leak}" for folder in folders for leak in leaks_in_files(folder)]


def k10_resources(run: Run, *, memory: int | None = None) -> list[str]:
    """What a process held before it had anything to do is all that it holds in the end; some more ``memory`` (bytes) where that is looked at."""
    found: list[str] = []
    base = {usage.process: usage for usage in run.usages if usage.label == "base"}
    for usage in run.usages:
        if usage.label != "end":
            continue
        first = base[usage.process]
        for name, before, after in (
            ("open files", first.fds + 1, usage.fds),  # the interpreter, and what measures its coverage, open one when they first need it
            ("tasks", first.tasks, usage.tasks),
            ("threads", first.threads, usage.threads),
        ):
            if after > before:
                found.append(f"K10: {usage.process} had {before} {name}, and has {after}")
        if memory is not None and usage.memory - first.memory > memory:
            found.append(f"K10: {usage.process} has grown by {(usage.memory - first.memory) >> 20} MiB")
    return found
