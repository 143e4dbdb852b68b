"""A history in which all went well, to plant faults into."""

from __future__ import annotations

from typing import Any

from pauth.core.quirks import RotationClass
from tests.chaos.history import Attempt, Call, Exchange, Load, Run, Usage, Use, Write

__all__ = ["attempt", "call", "clean", "exchange", "write"]

LIFETIME = 10.0
BOB_LOGIN = 0.5


def call(t0: float, t1: float | None, at: str | None = None, **members: Any) -> Call:
    given: dict[str, Any] = {"process": "p1", "user": "alice", "op": "get_token", "t0": t0, "t1": t1, "at": at, **members}
    return Call(**given)


def attempt(rt: str, t0: float, t1: float | None = None, outcome: str | None = None, **members: Any) -> Attempt:
    given: dict[str, Any] = {"process": "p1", "rt": rt, "t0": t0, "t1": t1, "outcome": outcome, **members}
    return Attempt(**given)


def write(version: int | None, at: str, rt: str, t0: float, t1: float | None, expected: int | None, **members: Any) -> Write:
    given: dict[str, Any] = {
        "process": "p1",
        "user": "alice",
        "version": version,
        "at": at,
        "rt": rt,
        "t0": t0,
        "t1": t1,
        "expected": expected,
        **members,
    }
    return Write(**given)


def exchange(t: float, rt_in: str | None, at_out: str | None = None, rt_out: str | None = None, **members: Any) -> Exchange:
    given: dict[str, Any] = {
        "user": "alice",
        "grant": "refresh_token" if rt_in else "authorization_code",
        "outcome": "ok",
        "t": t,
        "rt_in": rt_in,
        "at_out": at_out,
        "rt_out": rt_out,
        **members,
    }
    return Exchange(**given)


def clean(rotation: RotationClass = RotationClass.RSF) -> Run:
    """Alice logs in at 0; p1 refreshes at 10 and p2 at 20, each after noting its intent; both use the tokens. Bob logs in, and that is all."""
    run = Run(rotation=rotation, timeout=2.0, lifetime=LIFETIME)
    run.writes = [
        write(1, "at0", "rt0", 0.1, 0.2, None, process="harness"),
        write(1, "bob", "rtb", BOB_LOGIN, 0.6, None, process="harness", user="bob"),
        write(2, "at0", "rt0", 10.1, 10.2, 1, intent="first"),
        write(3, "at1", "rt1", 10.5, 10.6, 2),
        write(4, "at1", "rt1", 20.1, 20.2, 3, process="p2", intent="second"),
        write(5, "at2", "rt2", 20.5, 20.6, 4, process="p2"),
    ]
    run.exchanges = [
        exchange(0.05, None, "at0", "rt0"),
        exchange(BOB_LOGIN - 0.1, None, "bob", "rtb", user="bob"),
        exchange(10.3, "rt0", "at1", "rt1"),
        exchange(20.3, "rt1", "at2", "rt2"),
    ]
    run.attempts = [attempt("rt0", 10.25, 10.4, "ok", status=200, at="at1"), attempt("rt1", 20.25, 20.4, "ok", status=200, at="at2", process="p2")]
    run.loads = [Load(process="p2", user="alice", t0=11.0, t1=11.1, version=3, at="at1")]
    run.calls = [
        call(1.0, 1.1, "at0"),
        call(10.0, 10.7, "at1"),
        call(11.0, 11.2, "at1", process="p2"),
        call(20.0, 20.7, "at2", process="p2"),
        call(21.0, 21.1, "at2"),
    ]
    run.uses = [Use(t=1.2, user="alice", at="at0", outcome="ok"), Use(t=10.8, user="alice", at="at1", outcome="ok")]
    run.usages = [Usage(process="p1", label=label, fds=9, tasks=1, threads=1) for label in ("base", "end")]
    run.final = {"alice": (5, "at2"), "bob": (1, "bob")}
    return run
