"""A store and an authorization server in a few lines, with suspensions and faults wherever real ones have them, and everything written down."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pauth.core.quirks import Rotation, RotationClass
from pauth.core.token import Token
from pauth.errors import ProviderUnavailable, ReauthorizationRequired, StorageUnavailable
from pauth.events import EventStream
from pauth.refresh import coordinator as coordinator_module
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.shared import Shared
from pauth.secret import Secret
from pauth.storage.base import Lease, Record, RecordKey
from tests.interleavings.loop import VirtualLoop, process

KEY: Final = RecordKey("acme", "alice")
LIFETIME: Final = 100.0
TIMEOUT: Final = 10.0
GRACE: Final = 30.0


class SimClock:
    """Virtual time, with an offset of the wall clock for each process."""

    def __init__(self, loop: VirtualLoop, offset: float = 0.0) -> None:
        self._loop = loop
        self._offset = offset

    def time(self) -> float:
        return self._loop.now + 1e9 + self._offset

    def monotonic(self) -> float:
        return self._loop.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class SimStore:
    """One record and its lease. Each operation takes effect at one moment between being asked and being answered."""

    store_id = None

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.record: Record | None = None
        self.holder: tuple[str, float, int] = ("", 0.0, 0)
        self.history: list[Record] = []
        self.refuse = 0.0
        self.lose = 0.0
        self.writer = 0
        """The process that wrote the newest record."""

    async def _io(self) -> None:
        await asyncio.sleep(self.loop.random.random() * 0.004)

    async def _maybe_refuse(self) -> None:
        await self._io()
        if self.refuse and self.loop.random.random() < self.refuse:
            raise StorageUnavailable("refused")

    async def _maybe_lose(self) -> None:
        await self._io()
        if self.lose and self.loop.random.random() < self.lose:
            raise StorageUnavailable("lost")

    async def load(self, key: RecordKey) -> Record | None:
        await self._maybe_refuse()
        found = self.record
        await self._maybe_lose()
        return found

    async def replace(
        self,
        key: RecordKey,
        tokens: Mapping[str, Any],
        *,
        expected_version: int | None,
        expires_at: float | None = None,
        expected_lineage: bytes | None = None,
        lineage: bytes | None = None,
    ) -> Record | None:
        await self._maybe_refuse()
        current = self.record
        version = 0 if current is None else current.version
        written = None
        if expected_version in {None, version} and (expected_lineage is None or (current is not None and current.lineage == expected_lineage)):
            written = self.record = Record(key, tokens, version + 1, self.loop.now, expires_at, lineage)
            self.history.append(written)
            self.writer = process.get()
        await self._maybe_lose()
        return written

    async def remove(self, key: RecordKey, *, expected_version: int | None = None) -> bool:
        await self._maybe_refuse()
        removed = self.record is not None and expected_version in {None, self.record.version}
        if removed:
            self.record = None
        await self._maybe_lose()
        return removed

    async def take_lease(self, key: RecordKey, owner: str, *, ttl: float) -> Lease | None:
        await self._maybe_refuse()
        holder, until, fence = self.holder
        if holder != owner and until > self.loop.now:
            await self._io()
            return None
        fence += holder != owner
        self.holder = (owner, self.loop.now + ttl, fence)
        asked = self.loop.now
        await self._maybe_lose()
        return Lease(fence, ttl - (self.loop.now - asked))

    def lose_lease(self, _: int) -> None:
        """What a failover of Redis does."""
        self.holder = ("", 0.0, self.holder[2])

    async def extend_lease(self, key: RecordKey, owner: str, *, ttl: float) -> bool:
        await self._maybe_refuse()
        holder, until, fence = self.holder
        held = holder == owner and until > self.loop.now
        if held:
            self.holder = (owner, self.loop.now + ttl, fence)
        await self._maybe_lose()
        return held

    async def release_lease(self, key: RecordKey, owner: str) -> bool:
        await self._maybe_refuse()
        holder, until, fence = self.holder
        held = holder == owner and until > self.loop.now
        if held:
            self.holder = ("", 0.0, fence)
        await self._maybe_lose()
        return held


@dataclass
class Send:
    """One request that reached the server."""

    refresh_token: str
    by: int
    began: float
    deadline: float
    ended: float | None = None
    """When its sender knew how it ended; never, if he died."""

    applied: bool = False
    refused: bool = False
    """The server said "not now", and did nothing."""

    answered: bool = False
    """New tokens reached who asked for them."""

    announced: bool = False
    """The newest record in the store was its sender's intent."""


class SimServer:
    """An authorization server with one user, of one rotation class."""

    def __init__(self, loop: VirtualLoop, kind: RotationClass, store: SimStore) -> None:
        self.loop = loop
        self.store = store
        self.kind = kind
        self.number = 0
        self.parents: dict[str, str | None] = {}
        """The refresh token that each access token was issued for."""
        self.live: set[str] = set()
        self.previous: dict[str, float] = {}
        self.revoked = False
        self.sends: list[Send] = []
        self.unavailable = 0.0
        self.lose_request = 0.0
        self.lose_answer = 0.0
        self.slow = 0.0

    def issue(self, clock: SimClock, parent: str | None = None, refresh_token: str | None = None) -> Token:
        self.number += 1
        rt = refresh_token or f"CANARY-rt-{self.number}"
        access = f"CANARY-at-{self.number}"
        self.parents[access] = parent
        self.live.add(rt)
        now = clock.time()
        return Token(Secret(access), refresh_token=Secret(rt), issued_at=now, expires_at=now + LIFETIME)

    def use(self, token: Token) -> None:
        """The first use of a new token ends the old refresh token (class RU)."""
        if self.kind is RotationClass.RU:
            parent = self.parents[token.access_token.reveal()]
            assert token.refresh_token is not None
            if parent != token.refresh_token.reveal():
                self.live.discard(parent or "")

    async def exchange(self, token: Token, deadline: float, clock: SimClock) -> Token:
        assert token.refresh_token is not None
        text = token.refresh_token.reveal()
        loop, chance = self.loop, self.loop.random.random
        await asyncio.sleep(chance() * 0.01)  # connecting
        if loop.now >= deadline:
            raise ProviderUnavailable("too late", request_sent=False)
        sent = Send(text, process.get(), loop.now, deadline, announced=self.store.writer == process.get())
        self.sends.append(sent)
        try:
            async with asyncio.timeout(deadline - loop.now):
                await asyncio.sleep(chance() * 0.02)
                if chance() < self.unavailable:
                    sent.refused = True
                    raise ProviderUnavailable("busy", status=503)
                if chance() < self.lose_request:
                    await asyncio.sleep(1e6)
                sent.applied = True
                new = self._apply(text, clock)
                if chance() < self.slow:
                    await asyncio.sleep(chance() * 2 * TIMEOUT)
                if chance() < self.lose_answer:
                    raise ProviderUnavailable("cut off")
                if chance() < 0.5:
                    await asyncio.sleep(chance() * 0.02)
                sent.answered = isinstance(new, Token)
        except TimeoutError:
            new = None
        finally:
            sent.ended = loop.now
        if new is None:
            raise ProviderUnavailable("no answer")
        if isinstance(new, ReauthorizationRequired):
            raise new
        return new

    def _apply(self, text: str, clock: SimClock) -> Token | ReauthorizationRequired:
        now = self.loop.now
        in_grace = self.kind is RotationClass.RG and now - self.previous.get(text, -1e9) < GRACE
        if self.revoked or (text not in self.live and not in_grace):
            if self.kind in {RotationClass.RSF, RotationClass.RG}:
                self.revoked = True
            return ReauthorizationRequired("refused", reason="invalid_grant")
        if self.kind is RotationClass.NR:
            return self.issue(clock, text, text)
        if self.kind in {RotationClass.RS, RotationClass.RSF, RotationClass.RG}:
            if text in self.live:
                self.previous[text] = now
            self.live.discard(text)
        return self.issue(clock, text)


@dataclass
class Call:
    """One call of a coordinator."""

    by: int
    began: float
    ended: float | None = None
    token: Token | None = None
    error: BaseException | None = None
    committed: bool = True


@dataclass
class Sim:
    """Processes over one store and one server."""

    loop: VirtualLoop
    store: SimStore
    server: SimServer
    rotation: Rotation
    calls: list[Call] = field(default_factory=list[Call])
    first: Token | None = None
    killed: set[int] = field(default_factory=set[int])
    policy: RefreshPolicy = field(default_factory=lambda: RefreshPolicy(cache_age=0.0, lease_margin=5.0, deadline=1e5))

    @classmethod
    def make(cls, seed: int, kind: RotationClass) -> Sim:
        loop = VirtualLoop(seed)
        grace = GRACE if kind is RotationClass.RG else None
        store = SimStore(loop)
        return cls(loop, store, SimServer(loop, kind, store), Rotation(kind, grace))

    def coordinator(self, offset: float = 0.0) -> RefreshCoordinator:
        """A coordinator as a process of its own has it: nothing is shared with others but the store."""
        clock = SimClock(self.loop, offset)

        async def prepare(token: Token) -> Any:
            async def exchange(deadline: float) -> Token:
                return await self.server.exchange(token, deadline, clock)

            return exchange

        def own(_: object) -> Shared:
            return Shared()

        original: Any = vars(coordinator_module)["shared_over"]
        setattr(coordinator_module, "shared_over", own)  # noqa: B010  # it is imported there, not exported
        try:
            return RefreshCoordinator(
                cast("Any", self.store),  # what a coordinator needs of a store is here
                prepare,
                refreshable=lambda token: token.refresh_token is not None,
                policy=self.policy,
                clock=clock,
                namespace="acme",
                rotation=self.rotation,
                endpoint="https://as.example",
                timeout=TIMEOUT,
                events=EventStream(log=False),
            )
        finally:
            setattr(coordinator_module, "shared_over", original)  # noqa: B010

    async def log_in(self) -> None:
        """Store a first token, and let it expire."""
        clock = SimClock(self.loop)
        self.first = self.server.issue(clock)
        await self.coordinator().login(KEY, self.first)
        await asyncio.sleep(LIFETIME)

    def begin(self, number: int, coordinator: RefreshCoordinator, *, force: bool = False) -> asyncio.Task[None]:
        """A call in the process ``number``."""
        token = process.set(number)
        try:
            return asyncio.Task(self._call(number, coordinator, force=force), loop=self.loop)
        finally:
            process.reset(token)

    async def _call(self, number: int, coordinator: RefreshCoordinator, *, force: bool) -> None:
        call = Call(number, self.loop.now)
        self.calls.append(call)
        try:
            call.token = await (coordinator.refresh(KEY) if force else coordinator.get(KEY))
            call.committed = any(each.tokens["access_token"] == call.token.access_token.reveal() for each in self.store.history)
            self.server.use(call.token)
        except Exception as error:  # noqa: BLE001  # what it is is judged later
            call.error = error
        call.ended = self.loop.now
