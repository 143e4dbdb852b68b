"""A storage that fails as scripted."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self, TypeAlias

from pauth.errors import StorageUnavailable
from pauth.secret import Secret
from pauth.storage import Lease, MemoryTokenStorage, Record, RecordKey
from pauth.testing import ManualClock

Write: TypeAlias = Callable[[], Awaitable[Record | None]]
Fault: TypeAlias = Callable[[Write], Awaitable[Record | None]]


async def refuse(write: Write) -> Record | None:
    """Nothing is written."""
    raise StorageUnavailable("the disk is full")


async def lose(write: Write) -> Record | None:
    """It is written, and nobody is told."""
    await write()
    raise StorageUnavailable("the connection was lost")


async def work(write: Write) -> Record | None:
    return await write()


class Hold:
    """The write waits until it is released; at the latest at the end of a ``with``: who closes a client after a failed assertion waits for it too."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.released.set()

    async def wait(self) -> None:
        self.arrived.set()
        await self.released.wait()

    async def __call__(self, write: Write) -> Record | None:
        await self.wait()
        return await write()


class Outage:
    """The writes of ``faults`` are refused until it is :attr:`over`."""

    def __init__(self, faults: deque[Fault]) -> None:
        self.over = False
        self.refused = 0
        self._faults = faults
        faults.append(self)

    async def __call__(self, write: Write) -> Record | None:
        if self.over:
            return await write()
        self._faults.appendleft(self)
        self.refused += 1
        raise StorageUnavailable("the disk is full")


class FaultyStorage(MemoryTokenStorage):
    """A storage whose writes, reads and leases fail as scripted, and which knows what it has acknowledged. As most, it tells nobody of changes."""

    watch: Any = None

    def __init__(self, clock: ManualClock | None = None) -> None:
        super().__init__(clock=clock)
        self.faults: deque[Fault] = deque()
        """For the next writes of tokens, and of marks that end a grant."""
        self.intent_faults: deque[Fault] = deque()
        """For the next writes that say that a refresh token is about to be sent."""
        self.note_faults: deque[Fault] = deque()
        """For the next writes that say how an attempt ended."""
        self.load_faults: deque[Exception | None] = deque()
        self.lease_faults: deque[Callable[[str], Awaitable[object]]] = deque()
        """Awaited with the name of the method before the next calls about leases."""
        self.before_load: Callable[[int], Awaitable[object]] | None = None
        self.stale: Record | None = None
        """What the next ``load`` gives instead of the record of the moment, if anything."""
        self.loads = 0
        self.acknowledged: set[Secret] = set()
        """The access tokens that it has confirmed to hold: it took them, or read them back."""

    async def load(self, key: RecordKey) -> Record | None:
        self.loads += 1
        if self.before_load is not None:
            await self.before_load(self.loads)
        error = self.load_faults.popleft() if self.load_faults else None
        if error is not None:
            raise error
        stale, self.stale = self.stale, None
        record = stale or await super().load(key)
        if record is not None:
            self.acknowledged.add(Secret(record.tokens["access_token"]))
        return record

    def hold_next_load(self, key: RecordKey) -> Hold:
        """Let the next reader of ``key`` read now, and have what it read when the hold is released: old by then."""
        hold, number = Hold(), self.loads + 1

        async def read_and_wait(loads: int) -> None:
            if loads == number:
                read = await MemoryTokenStorage.load(self, key)
                await hold.wait()
                self.stale = read

        self.before_load = read_and_wait
        return hold

    async def replace(self, key: RecordKey, tokens: Mapping[str, Any], *, expected_version: int | None, **options: Any) -> Record | None:
        async def write() -> Record | None:
            return await super(FaultyStorage, self).replace(key, tokens, expected_version=expected_version, **options)

        faults = self._faults_of(tokens)
        fault = faults.popleft() if faults else work
        written = await fault(write)
        if written is not None:
            self.acknowledged.add(Secret(tokens["access_token"]))
        return written

    def snapshot(self) -> Callable[[], None]:
        """What it holds now; the function that is given brings it back, as a failover to a replica that lags behind does."""
        entries = dict(self._entries)

        def go_back() -> None:
            self._entries = dict(entries)

        return go_back

    def _faults_of(self, tokens: Mapping[str, Any]) -> deque[Fault]:
        attempts = tokens.get("refresh_attempts")
        if attempts is None or "grant_ended" in tokens:
            return self.faults
        return self.intent_faults if "under_way" in attempts else self.note_faults

    async def take_lease(self, key: RecordKey, owner: str, *, ttl: float) -> Lease | None:
        await self._before("take")
        return await super().take_lease(key, owner, ttl=ttl)

    async def extend_lease(self, key: RecordKey, owner: str, *, ttl: float) -> bool:
        await self._before("extend")
        return await super().extend_lease(key, owner, ttl=ttl)

    async def release_lease(self, key: RecordKey, owner: str) -> bool:
        await self._before("release")
        return await super().release_lease(key, owner)

    async def _before(self, name: str) -> None:
        if self.lease_faults:
            await self.lease_faults.popleft()(name)


class WithoutLeases(FaultyStorage):
    """What a class of three methods becomes: compare-and-set, and no leases."""

    has_leases = False

    async def _before(self, name: str) -> None:
        raise AssertionError(f"this storage has no leases to {name}")
