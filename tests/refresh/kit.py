"""What the refresh tests share: a server with clients of it, and storages of every kind."""

from __future__ import annotations

import asyncio
import copy
import itertools
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from pauth.client import OAuth2Client
from pauth.core.metadata import ServerMetadata
from pauth.core.token import Token
from pauth.providers import Provider
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.refresh.flight import drain
from pauth.refresh.stored import Attempts, StoredGrant, read_grant
from pauth.secret import Secret
from pauth.storage import (
    AsyncTokenStorage,
    BaseTokenStorage,
    CoordinatedTokenStorage,
    DatabaseTokenStorage,
    EncryptionKey,
    MemoryTokenStorage,
    RecordKey,
    coordinated,
)
from pauth.testing import AuthorizationServer, Client, LedgerEntry, ManualClock, token_hash

CALLBACK: Final = "https://app.example/callback"
LIFETIME: Final = 3600.0
FRESH: Final = 3299.0
"""So long after its issue no token of :data:`LIFETIME` is refreshed ahead of its expiry: 300 seconds are left, and a bit."""
STALE: Final = 3451.0
"""So long after its issue every one of them is: not even half of the 300 seconds is left."""
NAMESPACE: Final = "acme"
KEY: Final = RecordKey(NAMESPACE, "alice")

Storage: TypeAlias = AsyncTokenStorage | BaseTokenStorage
KINDS: Final = ("memory", "sqlite", "async class", "blocking class")


TURNS: Final = 5_000_000
"""Of the event loop: more than anything takes on a busy machine, so that what never comes is a failure and not a hang."""

PAUSES: Final = 100_000
"""Of two seconds: days, on the clock of a test."""


def patience(turns: int) -> Iterator[None]:
    """What a loop that waits goes through.

    :raises AssertionError: after so many turns.
    """
    yield from itertools.repeat(None, turns)
    raise AssertionError(f"what is waited for has not come in {turns} turns")


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until ``condition`` holds."""
    for _ in patience(TURNS):  # what is waited for has no event
        if condition():
            return
        await asyncio.sleep(0)


async def settle() -> None:
    """Let the event loop turn until whoever can go on without I/O has come to a stop."""
    for _ in range(50):
        await asyncio.sleep(0)


async def landed(asker: OAuth2Client | RefreshCoordinator) -> None:
    """Return when nothing goes on behind the scenes that was begun here."""
    coordinator = asker._tokens if isinstance(asker, OAuth2Client) else asker  # pyright: ignore[reportPrivateUsage]
    await drain(set(coordinator._begun))  # pyright: ignore[reportPrivateUsage]


async def passing(clock: ManualClock, work: Awaitable[Any]) -> Any:
    """What ``work`` gives, or its error, while time passes for it as soon as it sleeps."""
    task, pauses = asyncio.ensure_future(work), patience(PAUSES)
    for _ in patience(TURNS):
        if task.done():
            break
        if clock.sleepers:
            next(pauses)
            clock.advance(2.0)
        await asyncio.sleep(0)
    return await task


class HurryingClock(ManualClock):
    """A clock on which whoever sleeps lets the time pass: for programs that end, in which nobody is left to do it."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.advance(max(0.0, seconds))


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


async def attempts_of(storage: Storage, user: str = "alice") -> Attempts:
    """What the storage holds about the attempts to refresh a user's token."""
    grant = await stored(storage, user)
    assert grant is not None
    return grant.attempts


async def stored_token(storage: Storage, user: str = "alice") -> Token:
    grant = await stored(storage, user)
    assert grant is not None
    assert grant.ended is None
    return grant.token
