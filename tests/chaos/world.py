"""One run: a server, a store, processes, what they did, and whether that was right."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from pauth.storage import EncryptionKey, RecordKey
from pauth.testing import token_hash
from tests.chaos import checkers, checkers_reads, checkers_system, worker
from tests.chaos.fleet import Fleet, Process
from tests.chaos.history import Run, read_run
from tests.chaos.recording import Recorder, watch_storage
from tests.chaos.stores import Store

__all__ = ["Timing", "World"]

_KEY: Final = EncryptionKey(b"CANARY" + hashlib.sha256(b"chaos").digest()[:26]).to_string().reveal()

_PAUSES: Final = 120.0
"""Seconds after a failure for which nobody asks a server again, at most."""

_numbers: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take. In tests short, and still longer than a busy machine stands still."""

    timeout: float = 2.0
    """Seconds for one HTTP exchange."""

    lease_margin: float = 1.0
    """Seconds that a lease outlives the request made under it."""

    store_timeout: float = 20.0
    bound: float = 60.0
    """Seconds after which a call that has not returned never will (K7)."""

    @property
    def lease(self) -> float:
        """Seconds a lease runs."""
        return self.timeout + self.lease_margin


@dataclass(slots=True)
class World:
    """To be used with ``async with``. Its processes are killed at the end."""

    fleet: Fleet
    double: Any
    store: Store
    folder: Path
    timing: Timing = field(default_factory=Timing)
    policy: dict[str, float] = field(default_factory=dict[str, float])
    seed: int = 0
    name: str = field(default_factory=lambda: f"w{os.getpid()}-{next(_numbers)}")
    processes: list[Process] = field(default_factory=list[Process])
    logins: set[str] = field(default_factory=set[str])
    passed: float = 0.0
    _recorder: Recorder = field(init=False)
    _storage: Any = field(init=False)
    _client: Any = field(init=False)
    _clock: worker.ShiftedClock = field(init=False, default_factory=worker.ShiftedClock)
    _count: int = 0

    async def __aenter__(self) -> Self:
        for name in ("history", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._recorder = Recorder(self.folder / "history" / f"{self.name}.harness.jsonl", f"{self.name}.harness", kept=True)
        self._storage = worker.make_storage(self._config("harness"))
        watch_storage(self._storage, self._recorder)
        self._client = worker.make_client(self._config("harness"), self._storage, self._clock)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            await process.over.wait()
        await self._client.aclose()
        await self._storage.aclose()
        self._recorder.close()

    def _config(self, name: str, **changes: Any) -> dict[str, Any]:
        return {
            "name": f"{self.name}.{name}",
            "url": self.store.url,
            "key": _KEY,
            "history": str(self.folder / "history" / f"{self.name}.{name}.jsonl"),
            "log": str(self.folder / "logs" / f"{self.name}.{name}.log"),
            "namespace": self.name,
            "timeout": self.timing.timeout,
            "store_timeout": self.timing.store_timeout,
            "policy": {"lease_margin": self.timing.lease_margin, **self.policy},
            "journal": str(self.folder / "journal"),
            "passed": self.passed,
            "wrong": 0.0,
            "seed": self.seed,
            "environment": {},
            **self.double.config(),
            **changes,
        }

    # --- what happens

    async def begin(self, count: int = 1, *, orders: str = "", prefork: bool = False, **changes: Any) -> list[Process]:
        """Begin so many processes; ``prefork``: of one that made the client for all.

        :param orders: what is to be done to them, as in ``PAUTH_FP``.
        """
        changes["environment"] = {"PAUTH_FP": orders} if orders else {}
        if prefork:
            self._count += 1
            begun = await self.fleet.begin(self._config(f"p{self._count}", prefork=count, **changes))
        else:
            self._count += count
            names = [f"p{number}" for number in range(self._count - count + 1, self._count + 1)]
            groups = await asyncio.gather(*(self.fleet.begin(self._config(name, **changes)) for name in names))
            begun = [process for group in groups for process in group]
        self.processes += begun
        return begun

    async def log_in(self, *users: str, at: Process | None = None) -> None:
        """Let users log in; whatever was stored for them is replaced. The callbacks reach the process ``at``, or the harness."""

        async def one(user: str) -> None:
            if at is None:
                url = await self._client.get_authorization_url(user_id=user)
                await self._client.handle_callback(await self.double.authorize(url, user))
            else:
                url = await at.ask("authorization_url", user=user)
                await at.ask("callback", url=await self.double.authorize(url, user))

        await asyncio.gather(*(one(user) for user in users))
        self.logins.update(users)

    async def expire(self, seconds: float | None = None) -> None:
        """Let so much time pass on all clocks, until every access token has expired: at once, and nobody has to wait."""
        passed = self.double.lifetime if seconds is None else seconds
        self.passed += passed
        self._clock.passed = self.passed
        self.double.clock.advance(passed)
        await asyncio.gather(*(process.ask("clock", passed=self.passed) for process in self.alive))

    @property
    def alive(self) -> list[Process]:
        return [process for process in self.processes if process.died is None]

    async def close(self) -> None:
        """Let the processes end as they should."""
        await asyncio.gather(*(process.ask("close") for process in self.alive))
        await asyncio.gather(*(process.over.wait() for process in self.processes))

    async def until(self, condition: Any, *, seconds: float = 60.0) -> bool:
        """Wait until something is so; whether it is in the end."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.01)
        return True

    def reached(self, process: Process, name: str) -> bool:
        """Whether a process has come to the failpoint it was to act at."""
        text = (self.folder / "history" / f"{process.name}.jsonl").read_text(encoding="utf-8")
        return any('"e":"hit"' in line and f'"name":"{name}"' in line for line in text.splitlines())

    async def rest(self) -> None:
        """Let the pauses after failures pass on everybody's clock; but the deadlines of requests that were sent on the true one."""
        await asyncio.sleep(self.timing.lease)
        await self.expire(_PAUSES)

    async def heal(self, *users: str, at: Process | None = None, rested: bool = False) -> float:
        """Let those log in who are asked to, then all tokens expire and everybody ask for all of them. Gives the moment from which all is well.

        After an outage a process may go on for a while sending callers away; that is not counted, if it serves them in the end.

        :param rested: let the pauses after failures pass first, on everybody's clock, since nobody wants to wait for them.
        """
        if rested:
            await self.rest()
        for user in users:
            asked = await asyncio.gather(*(self.served(process, user) for process in self.alive))
            if not all(asked):
                await self.log_in(user, at=at)
        healed = 0.0
        for _ in range(2):
            healed = time.monotonic()
            await self.expire()
            await asyncio.gather(*(process.ask("call", op="get", users=list(users), times=3) for process in self.alive))
            await asyncio.gather(*(self.served(process, user) for process in self.alive for user in users))
        return healed

    async def served(self, process: Process, user: str) -> bool:
        """Whether a process gives the user's token, as soon as it gives an answer that lasts; ``False``: the user has to log in."""
        end = time.monotonic() + self.timing.bound
        outcome = ["?"]
        while time.monotonic() < end:
            outcome = await process.ask("call", op="get", users=[user])
            if outcome in (None, ["ok"], ["ReauthorizationRequired"]):
                break
            await asyncio.sleep(0.2)
        return outcome == ["ok"]

    # --- what became of it

    async def record(self) -> Run:
        """All that is known so far."""
        self._recorder.flush()
        staleness = self.policy.get("cache_age", 10.0) + 0.1
        run = Run(
            rotation=self.double.rotation, staleness=staleness, timeout=self.timing.timeout, lifetime=self.double.lifetime, lasting=self.store.lasting
        )
        read_run(sorted((self.folder / "history").glob(f"{self.name}.*.jsonl")), run)
        self.double.tell(run)
        run.deaths = {process.name: process.died for process in self.processes if process.died is not None}
        run.deaths |= {hit.process: hit.t for hit in run.hits if hit.action == "kill"}
        if self.store.lasting:
            for user in sorted(self.logins):
                record = await self._storage.load(RecordKey(self.name, user))
                if record is not None:
                    run.final[user] = record.version, token_hash(record.tokens["access_token"])
        return run

    async def violations(self, run: Run | None = None, *, healed: float | None = None) -> list[str]:
        """What K1 to K7, K9 and the deaths of grants say of the run; nothing, if all was right."""
        run = run or await self.record()
        found = checkers.k1_no_double_spend(run) + checkers.k1_recorded(run) + checkers.k2_single_flight(run) + checkers.no_false_death(run)
        found += checkers.k3_chain(run) if self.store.lasting else []
        found += checkers_reads.k4_linearizable_reads(run) + checkers_reads.k5_persist_before_use(run) + checkers_reads.k6_isolation(run)
        found += checkers_system.k7_progress(run, bound=self.timing.bound, healed=healed)
        return found + checkers_system.k9_canary(self.folder)
