"""What the tests of the refresher share: users by the dozen, clients as in other processes, and clients that do as they are told."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from pauth.client import OAuth2Client
from pauth.clock import Clock
from pauth.core.token import Token, token_to_dict
from pauth.errors import TokenStorageError
from pauth.events import Event, EventStream
from pauth.refresh import coordinator as coordinator_module
from pauth.refresh.leases import HeldLease, take_lease
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.progress import RefresherProgress
from pauth.refresh.shared import Shared
from pauth.refresh.slices import SLICES, slice_key
from pauth.secret import Secret
from pauth.storage import CoordinatedTokenStorage, Expiring, Lease, MemoryTokenStorage, Page, Record, RecordKey
from pauth.testing import AuthorizationServer, Client, ManualClock
from pauth.testing.model import Grant
from tests.refresh.kit import LIFETIME, NAMESPACE, World

OTHER: Final = "other"
"""The namespace of a second client."""


def users(number: int, first: int = 0) -> list[str]:
    return [f"user-{each:04}" for each in range(first, first + number)]


def granted(server: AuthorizationServer, registered: Client, user: str, *, issued_at: float, lifetime: float | None = LIFETIME) -> Token:
    """The token of a login that took place long ago, without a request."""
    state = server._state  # pyright: ignore[reportPrivateUsage]
    grant = Grant(registered.client_id, user, ("read",), auth_time=issued_at)
    state.grants.append(grant)
    issued = state._issue(grant, grant.scope, None, with_refresh_token=True, now=issued_at)  # pyright: ignore[reportPrivateUsage]
    assert issued.refresh_token is not None
    return Token(
        Secret(issued.access_token),
        refresh_token=Secret(issued.refresh_token),
        scope=grant.scope,
        issued_at=issued_at,
        expires_at=None if lifetime is None else issued_at + lifetime,
        token_endpoint=server.token_endpoint,
    )


async def log_in_all(made: World, client: OAuth2Client, names: Sequence[str], **options: Any) -> None:
    """Let all of them be logged in, since a moment ago."""
    for name in names:
        token = granted(made.server, made.registered, name, issued_at=made.clock.time(), **options)
        await client._tokens.login(RecordKey(client.namespace, name), token)  # pyright: ignore[reportPrivateUsage]


def elsewhere(made: World, storage: CoordinatedTokenStorage, **options: Any) -> OAuth2Client:
    """A client as in another process: it shares the store with the others, and nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        shared = Shared()

        def shared_by_nobody(_: object) -> Shared:
            return shared

        patch.setattr(coordinator_module, "shared_over", shared_by_nobody)
        return made.client(storage, **options)


def each_once(made: World, names: Sequence[str]) -> bool:
    """Whether the server was sent one refresh token of each of these users, and nothing else."""
    return Counter(entry.user for entry in made.refreshes if entry.outcome == "ok") == Counter(names) and len(made.refreshes) == len(names)


def sums_up(progress: RefresherProgress) -> bool:
    """Whether each record that was listed has come to something."""
    p = progress
    return p.listed == p.refreshed + p.fresh + p.resting + p.elsewhere + p.failed + p.dead + p.skipped


def told(stream: EventStream, kind: type[Event]) -> list[Any]:
    """The events of this class from now on, as they come."""
    events: list[Any] = []

    def take(event: Event) -> None:
        if isinstance(event, kind):
            events.append(event)

    stream.subscribe(take)
    return events


class Hasty(ManualClock):
    """A clock on which nobody sleeps for long: for those who look again and again whether others have come to an end."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.001))


class Store(MemoryTokenStorage):
    """A storage whose lists, batches and leases fail or wait as scripted, and which counts."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.list_faults: deque[TokenStorageError | None] = deque()
        self.batch_faults: deque[TokenStorageError | None] = deque()
        self.lease_faults: deque[TokenStorageError | None] = deque()
        self.extend_faults: deque[TokenStorageError | None] = deque()
        self.before_batch: Callable[[], Awaitable[object]] | None = None
        self.before_lease: Callable[[int], Awaitable[object]] | None = None
        """Awaited with how many leases have been asked for before."""
        self.unreadable: dict[str, TokenStorageError] = {}
        self.lists = 0
        self.leases = 0
        self.extended = 0

    async def list_expiring(self, before: float, *, cursor: str | None = None, limit: int = 1000) -> Page[Expiring]:
        self.lists += 1
        _play(self.list_faults)
        await asyncio.sleep(0)
        return await super().list_expiring(before, cursor=cursor, limit=limit)

    async def get_many(self, keys: Sequence[RecordKey]) -> list[Record | TokenStorageError | None]:
        if self.before_batch is not None:
            await self.before_batch()
        _play(self.batch_faults)
        return [self.unreadable.get(key.user_id, record) for key, record in zip(keys, await super().get_many(keys), strict=True)]

    async def take_lease(self, key: RecordKey, owner: str, *, ttl: float) -> Lease | None:
        if self.before_lease is not None:
            await self.before_lease(self.leases)
        self.leases += 1
        _play(self.lease_faults)
        return await super().take_lease(key, owner, ttl=ttl)

    async def extend_lease(self, key: RecordKey, owner: str, *, ttl: float) -> bool:
        self.extended += 1
        _play(self.extend_faults)
        return await super().extend_lease(key, owner, ttl=ttl)

    async def add(self, name: str, *, namespace: str = NAMESPACE, lifetime: float = 3600.0, **members: Any) -> None:
        """A user whose token has expired."""
        now = self._clock.time()
        token = Token(Secret(f"CANARY-at-{name}"), refresh_token=Secret(f"CANARY-rt-{name}"), issued_at=now - lifetime, expires_at=now - 1)
        await self.replace(RecordKey(namespace, name), token_to_dict(token) | members, expected_version=None, expires_at=token.expires_at)

    async def add_all(self, names: Sequence[str], *, namespace: str = NAMESPACE) -> None:
        for name in names:
            await self.add(name, namespace=namespace)


async def take_all_slices(store: CoordinatedTokenStorage, clock: Clock, namespace: str = NAMESPACE) -> list[HeldLease]:
    """Be another worker that is at everything."""
    taken = [await take_lease(store, slice_key(namespace, number), ttl=60, clock=clock) for number in range(SLICES)]
    held = [lease for lease in taken if lease is not None]
    assert len(held) == SLICES
    return held


def _play(faults: deque[TokenStorageError | None]) -> None:
    fault = faults.popleft() if faults else None
    if fault is not None:
        raise fault


@dataclass
class Obedient:
    """A client that does with a user what the test says; else it stores a token that is fresh."""

    store: Store
    clock: ManualClock
    namespace: str = NAMESPACE
    then: Callable[[str], Awaitable[bool]] | None = None
    refresh_policy: RefreshPolicy = field(default_factory=RefreshPolicy)
    events: EventStream = field(default_factory=lambda: EventStream(log=False))
    asked: list[str] = field(default_factory=list[str])
    under_way: int = 0
    most: int = 0
    """The most that were under way at once."""

    endpoint: str = ""
    """That of a server for this namespace alone, unless one is given."""

    def __post_init__(self) -> None:
        self.endpoint = self.endpoint or f"https://{self.namespace}.example/token"

    @property
    def token_storage(self) -> CoordinatedTokenStorage:
        return self.store

    async def keep_fresh(self, user_id: str, *, within: float = 0.0) -> bool:
        self.asked.append(user_id)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            if self.then is not None and not await self.then(user_id):
                return False
            await self.refreshed(user_id)
        finally:
            self.under_way -= 1
        return True

    async def refreshed(self, user_id: str) -> None:
        """Store a fresh token."""
        now = self.clock.time()
        token = Token(Secret(f"CANARY-new-{user_id}"), refresh_token=Secret(f"CANARY-rt2-{user_id}"), issued_at=now, expires_at=now + 3600)
        await self.store.replace(RecordKey(self.namespace, user_id), token_to_dict(token), expected_version=None, expires_at=token.expires_at)


def raising(error: Exception, *names: str) -> Callable[[str], Awaitable[bool]]:
    """For :attr:`Obedient.then`: it fails for these users, or for all."""

    async def fail(user_id: str) -> bool:
        if not names or user_id in names:
            raise error
        return True

    return fail
