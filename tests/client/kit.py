"""What the client's tests share: a server, clients of it, and callbacks to tamper with."""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pauth import AsyncTokenStorage, BaseTokenStorage, Login, MemoryTokenStorage, OAuth2Client, Provider, ServerMetadata
from pauth.storage import CoordinatedTokenStorage, Record, RecordKey
from pauth.testing import AuthorizationServer, Client, ManualClock, SeenRequest, faults
from pauth.testing.messages import Endpoint
from tests.storage.kit import BlockingStorage, DictStorage, database

CALLBACK: Final = "https://app.example/callback"
SESSION: Final = "CANARY-browser-session-1"
CLIENT_SECRET: Final = "CANARY-client:secret+%é"

STORAGES: Final = ("memory", "sqlite", "three methods", "blocking")

T = TypeVar("T")


def query_of(url: str) -> dict[str, str]:
    """The parameters of a URL; each is there once."""
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def edited(url: str, **changes: str | None) -> str:
    """``url`` with parameters set or, for ``None``, removed."""
    params = {name: value for name, value in {**query_of(url), **changes}.items() if value is not None}
    return urlunsplit(urlsplit(url)._replace(query=urlencode(params)))


@dataclass(repr=False)
class Bench:
    """A server with one confidential client, on a clock that stands still."""

    server: AuthorizationServer
    clock: ManualClock
    registered: Client
    stack: AsyncExitStack
    folder: Path

    def client(self, provider: Provider | str | None = None, token_storage: Any = None, **options: Any) -> OAuth2Client:
        """A client of the server, told its issuer unless ``provider`` says something else; closed at the end of the test."""
        arguments: dict[str, Any] = {
            "client_id": self.registered.client_id,
            "client_secret": self.registered.client_secret,
            "redirect_uri": CALLBACK,
            "scopes": ["openid", "profile", "email"],
            "clock": self.clock,
        } | options
        client = OAuth2Client(provider or self.server.issuer, token_storage=token_storage, **arguments)
        self.stack.push_async_callback(client.aclose)
        return client

    def storage(self, kind: str) -> AsyncTokenStorage | BaseTokenStorage:
        """A storage of one of :data:`STORAGES`, closed at the end of the test."""
        if kind == "sqlite":
            storage = database(self.folder, clock=self.clock, timeout=120)  # a thousand callers on a busy machine take their time
            self.stack.push_async_callback(storage.aclose)
            return storage
        return MemoryTokenStorage(clock=self.clock) if kind == "memory" else DictStorage() if kind == "three methods" else BlockingStorage()

    def metadata(self, **changes: Any) -> ServerMetadata:
        """The server's metadata as a record, without the members that only OpenID Connect has."""
        arguments: dict[str, Any] = {
            "authorization_endpoint": self.server.authorization_endpoint,
            "token_endpoint": self.server.token_endpoint,
        } | changes
        return ServerMetadata(**arguments)

    def provider(self, **changes: Any) -> Provider:
        """The server as a plain OAuth provider: no issuer, no ID tokens, no userinfo."""
        return Provider(name="acme", metadata=self.metadata(**changes))

    async def callback(self, client: OAuth2Client, *, user: str = "alice", deny: bool = False, **options: Any) -> str:
        """A login up to the callback: its URL."""
        return await self.server.authorize(await client.get_authorization_url(**options), user=user, deny=deny)

    async def log_in(self, client: OAuth2Client, user: str = "alice", **options: Any) -> Login:
        return await client.handle_callback(await self.callback(client, user=user, **options))

    def watch(self, endpoint: Endpoint) -> list[SeenRequest]:
        """The requests to an endpoint from now on, as they come."""
        seen: list[SeenRequest] = []

        def look(request: SeenRequest) -> bool:
            seen.append(request)
            return False  # so the fault is never played

        self.server.script(endpoint, faults.drop_before(), when=look)
        return seen

    def exchanges(self) -> int:
        """How many authorization codes the server was sent."""
        return self.server.ledger.count(endpoint="token", grant_type="authorization_code")

    def refreshes(self) -> int:
        return self.server.ledger.count(endpoint="token", grant_type="refresh_token")


@asynccontextmanager
async def bench_at(folder: Path, **options: Any) -> AsyncGenerator[Bench, None]:
    clock = ManualClock()
    async with AuthorizationServer(clock=clock, secret_marker="CANARY-", **options) as server:
        registered = server.register_client("client-1", CLIENT_SECRET, redirect_uris=[CALLBACK])
        async with AsyncExitStack() as clients:
            yield Bench(server, clock, registered, clients, folder)


async def record_of(storage: CoordinatedTokenStorage, client: OAuth2Client, user_id: str) -> Record | None:
    return await storage.load(RecordKey(client.namespace, user_id))


@types.coroutine
def suspending(coroutine: Coroutine[Any, Any, T], on_suspension: Any) -> Generator[Any, Any, T]:
    """Drive ``coroutine`` as ``await`` would, and call ``on_suspension(number)`` each time it is about to wait, from 0."""
    number = 0
    step: Any = lambda: coroutine.send(None)  # noqa: E731
    while True:
        try:
            waited_for = step()
        except StopIteration as stop:
            result: T = stop.value
            return result
        on_suspension(number)
        number += 1
        try:
            value = yield waited_for
        except BaseException as error:  # noqa: BLE001
            step = lambda thrown=error: coroutine.throw(thrown)  # noqa: E731
        else:
            step = lambda sent=value: coroutine.send(sent)  # noqa: E731
