"""What the refresh tests share: a server with clients of it, storages of every kind, and storages that fail as scripted."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from pauth.client import OAuth2Client
from pauth.core.metadata import ServerMetadata
from pauth.core.token import Token, token_to_dict
from pauth.errors import ReauthorizationRequired, StorageUnavailable
from pauth.providers import Provider
from pauth.refresh.attempt import Exchange
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.stored import StoredGrant, read_grant
from pauth.secret import Secret
from pauth.storage import (
    AsyncTokenStorage,
    BaseTokenStorage,
    CoordinatedTokenStorage,
    DatabaseTokenStorage,
    EncryptionKey,
    MemoryTokenStorage,
    Record,
    RecordKey,
    coordinated,
)
from pauth.testing import AuthorizationServer, Client, LedgerEntry, ManualClock, token_hash

CALLBACK: Final = "https://app.example/callback"
LIFETIME: Final = 3600.0
NAMESPACE: Final = "acme"
KEY: Final = RecordKey(NAMESPACE, "alice")

Storage: TypeAlias = AsyncTokenStorage | BaseTokenStorage
KINDS: Final = ("memory", "sqlite", "async class", "blocking class")


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until ``condition`` holds."""
    while not condition():  # what is waited for has no event
        await asyncio.sleep(0)


async def settle() -> None:
    """Let the event loop turn until whoever can go on without I/O has come to a stop."""
    for _ in range(50):
        await asyncio.sleep(0)


async def passing(clock: ManualClock, work: Awaitable[Any]) -> Any:
    """What ``work`` gives, or its error, while time passes for it as soon as it sleeps."""
    task = asyncio.ensure_future(work)
    while not task.done():
        if clock.sleepers:
            clock.advance(2.0)
        await asyncio.sleep(0)
    return await task


class AsyncClass:
    """A user's class: three coroutines that really suspend."""

    def __init__(self) -> None:
        self.saved: dict[str, dict[str, Any]] = {}

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.saved[user_id] = copy.deepcopy(tokens)
        await asyncio.sleep(0)

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        return copy.deepcopy(self.saved.get(user_id))

    async def delete_token(self, user_id: str) -> None:
        await asyncio.sleep(0)
        self.saved.pop(user_id, None)


class BlockingClass(BaseTokenStorage):
    """A user's class: three blocking methods."""

    def __init__(self) -> None:
        self.saved: dict[str, dict[str, Any]] = {}
        self.threads: set[int] = set()

    def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        self.threads.add(threading.get_ident())
        self.saved[user_id] = copy.deepcopy(tokens)

    def get_token(self, user_id: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.saved.get(user_id))

    def delete_token(self, user_id: str) -> None:
        self.saved.pop(user_id, None)


def make_storage(kind: str, folder: Path, clock: ManualClock) -> Storage:
    """A storage of one of :data:`KINDS`; the database is an encrypted SQLite file."""
    if kind == "memory":
        return MemoryTokenStorage(clock=clock)
    if kind == "sqlite":
        return database(folder, clock, EncryptionKey.generate())
    return AsyncClass() if kind == "async class" else BlockingClass()


async def close(storage: Storage) -> None:
    """Let go of connections, where there are any."""
    if isinstance(storage, CoordinatedTokenStorage):
        await storage.aclose()


def database(folder: Path, clock: ManualClock, key: EncryptionKey) -> DatabaseTokenStorage:
    # a thousand callers wait in line; a busy machine must not fail a test
    return DatabaseTokenStorage(f"sqlite+aiosqlite:///{folder / 'tokens.db'}", encryption_key=key, clock=clock, timeout=120.0)


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
    """The write waits until it is released."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()

    async def wait(self) -> None:
        self.arrived.set()
        await self.released.wait()

    async def __call__(self, write: Write) -> Record | None:
        await self.wait()
        return await write()


class FaultyStorage(MemoryTokenStorage):
    """A storage whose writes and reads fail as scripted, and which knows what it has acknowledged."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        super().__init__(clock=clock)
        self.faults: deque[Fault] = deque()
        self.load_faults: deque[Exception | None] = deque()
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

        fault = self.faults.popleft() if self.faults else work
        written = await fault(write)
        if written is not None:
            self.acknowledged.add(Secret(tokens["access_token"]))
        return written


@dataclass
class World:
    """A server, its clock, and clients of it."""

    server: AuthorizationServer
    clock: ManualClock
    registered: Client

    def client(self, storage: Storage, **options: Any) -> OAuth2Client:
        metadata = ServerMetadata(
            issuer=self.server.issuer,
            authorization_endpoint=self.server.authorization_endpoint,
            token_endpoint=self.server.token_endpoint,
            revocation_endpoint=self.server.revocation_endpoint,
        )
        arguments: dict[str, Any] = {
            "provider": Provider(name="double", metadata=metadata),
            "client_id": self.registered.client_id,
            "client_secret": self.registered.client_secret,
            "redirect_uri": CALLBACK,
            "scopes": ["read"],
            "token_storage": storage,
            "namespace": NAMESPACE,
            "clock": self.clock,
        }
        return OAuth2Client(**arguments | options)

    async def log_in(self, client: OAuth2Client, user: str = "alice") -> Token:
        url = await client.get_authorization_url(user_id=user)
        login = await client.handle_callback(await self.server.authorize(url, user=user))
        return login.token

    def expire(self) -> None:
        """Let the access tokens expire."""
        self.clock.advance(LIFETIME)

    @property
    def refreshes(self) -> list[LedgerEntry]:
        """Every refresh request, oldest first, whatever its outcome."""
        return self.server.ledger.select(endpoint="token", grant_type="refresh_token")

    @property
    def revocations(self) -> list[LedgerEntry]:
        return self.server.ledger.select(endpoint="revoke")


@asynccontextmanager
async def world(**options: Any) -> AsyncGenerator[World, None]:
    clock = ManualClock()
    arguments: dict[str, Any] = {"rotation": "RSF", "access_token_lifetime": LIFETIME, "clock": clock, "secret_marker": "CANARY-"}
    async with AuthorizationServer(**arguments | options) as server:
        yield World(server, clock, server.register_client(redirect_uris=[CALLBACK]))


def is_hash_of(name: str | None, secret: Secret | None) -> bool:
    """Whether a ledger means ``secret`` by ``name``."""
    return secret is not None and name == token_hash(secret.reveal())


async def stored(storage: Storage, user: str = "alice", namespace: str = NAMESPACE) -> StoredGrant | None:
    """What the storage holds for a user now."""
    record = await coordinated(storage).load(RecordKey(namespace, user))
    return None if record is None else read_grant(record.tokens)


async def stored_token(storage: Storage, user: str = "alice") -> Token:
    grant = await stored(storage, user)
    assert grant is not None
    assert grant.ended is None
    return grant.token


@dataclass
class Rotating:
    """A strict server in a few lines: it exchanges each refresh token once, or fails as scripted."""

    clock: ManualClock
    lifetime: float | None = LIFETIME
    sent: list[Secret] = field(default_factory=list[Secret])
    script: deque[Callable[[], Awaitable[object]]] = field(default_factory=deque[Callable[[], Awaitable[object]]])
    """Awaited before the next requests are answered; one that raises answers with its error."""

    issued: int = 0
    last: Token | None = None

    def issue(self) -> Token:
        self.issued += 1
        now = self.clock.time()
        self.last = Token(
            Secret(f"CANARY-at-{self.issued}"),
            refresh_token=Secret(f"CANARY-rt-{self.issued}"),
            issued_at=now,
            expires_at=None if self.lifetime is None else now + self.lifetime,
        )
        return self.last

    async def prepare(self, token: Token) -> Exchange:
        return partial(self._send, token)

    async def _send(self, token: Token, deadline: float) -> Token:
        assert deadline > self.clock.monotonic()
        assert token.refresh_token is not None
        self.sent.append(token.refresh_token)
        if self.script:
            await self.script.popleft()()
        if self.last is None or token.refresh_token != self.last.refresh_token:
            raise ReauthorizationRequired("the refresh token was used before", reason="invalid_grant")
        return self.issue()

    def coordinator(self, storage: CoordinatedTokenStorage, policy: RefreshPolicy | None = None) -> RefreshCoordinator:
        return RefreshCoordinator(
            storage, self.prepare, refreshable=_has_refresh_token, policy=policy or RefreshPolicy(), clock=self.clock, namespace=NAMESPACE
        )

    async def stored_expired(self, storage: CoordinatedTokenStorage, key: RecordKey = KEY) -> Token:
        """Store a first token, and let it expire."""
        token = self.issue()
        await storage.replace(key, token_to_dict(token), expected_version=None, expires_at=token.expires_at)
        self.clock.advance(self.lifetime or LIFETIME)
        return token


def _has_refresh_token(token: Token) -> bool:
    return token.refresh_token is not None


def foreign(token: Token, marker: str) -> Token:
    """Another token, as another process might have stored it meanwhile."""
    return replace(token, access_token=Secret(f"CANARY-at-{marker}"), refresh_token=Secret(f"CANARY-rt-{marker}"))
