"""What the tests of the sync face share: a server in a thread of its own, blocking clients of it, and programs run apart."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pauth import Login, MemoryTokenStorage, SyncOAuth2Client, SyncTokenStorage
from pauth.storage import DatabaseTokenStorage, EncryptedFileStorage
from pauth.sync import _portal
from pauth.testing import AuthorizationServer, Client, ManualClock
from pauth.testing.faults import Hold, hold
from tests.storage.kit import KEY, BlockingStorage, DictStorage

ROOT: Final = Path(__file__).parents[2]
CALLBACK: Final = "https://app.example/callback"
CLIENT_SECRET: Final = "CANARY-client-secret"
LIFETIME: Final = 3600.0

STORAGES: Final = ("memory", "sqlite", "files", "three methods", "blocking")

T = TypeVar("T")


def make_storage(kind: str, folder: Path, clock: ManualClock | None = None) -> Any:
    """A storage of one of :data:`STORAGES`."""
    options: dict[str, Any] = {"clock": clock}
    match kind:
        case "memory":
            return MemoryTokenStorage(**options)
        case "sqlite":
            return DatabaseTokenStorage(f"sqlite:///{folder / 'tokens.db'}", encryption_key=KEY, **options)
        case "files":
            return EncryptedFileStorage(folder / "tokens", KEY, **options)
        case _:
            return DictStorage() if kind == "three methods" else BlockingStorage()


@dataclass(repr=False)
class Town:
    """A server with one confidential client, in a thread of its own, on a clock that stands still."""

    server: AuthorizationServer
    clock: ManualClock
    registered: Client
    loop: asyncio.AbstractEventLoop
    stack: ExitStack

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(300)  # a program that died asks for nothing; the test shall end all the same

    def client(self, token_storage: Any = None, **options: Any) -> SyncOAuth2Client:
        """A client of the server; closed at the end of the test."""
        arguments: dict[str, Any] = {
            "client_id": self.registered.client_id,
            "client_secret": self.registered.client_secret,
            "redirect_uri": CALLBACK,
            "scopes": ["openid"],
            "clock": self.clock,
        }
        client = SyncOAuth2Client(self.server.issuer, token_storage=token_storage, **arguments | options)
        self.stack.callback(_close, client)
        return client

    def callback(self, client: SyncOAuth2Client, user: str = "alice", **options: Any) -> str:
        """A login up to the callback: its URL."""
        return self.run(self.server.authorize(client.get_authorization_url(**options), user=user))

    def log_in(self, client: SyncOAuth2Client, user: str = "alice") -> Login:
        return client.handle_callback(self.callback(client, user))

    def check_session(self, storage: Any, *, refreshes: int = 1) -> None:
        """The last refresh token that the server gave is in the storage: it is taken, and ends no session (P4)."""
        assert self.refreshes() == refreshes
        with SyncTokenStorage(storage) as face, self.client(face) as client:
            assert client.refresh("alice").subject == "alice"
        assert not self.server.family_revoked("alice")

    def refreshes(self) -> int:
        return self.server.ledger.count(endpoint="token", grant_type="refresh_token")

    @contextmanager
    def held(self, *, applied: bool = True) -> Generator[HeldRequest, None, None]:
        """The next refresh is held back until it is released, or the block ends."""
        request = HeldRequest(self, hold(applied=applied))
        self.server.script("token", request.fault, when=lambda seen: seen.grant_type == "refresh_token")
        try:
            yield request
        finally:
            request.release()

    def program(self, folder: Path, program: str, *arguments: str, log_in: bool = True) -> Program:
        """Start a program of ours, and be the browser of its login."""
        started = Program(self.environment(folder), program, *arguments)
        self.stack.callback(started.stop)
        if log_in:
            started.tell(self.run(self.server.authorize(started.line())))
        return started

    def environment(self, folder: Path) -> dict[str, str]:
        """What a program of ours needs to make a client of this server."""
        return {"ISSUER": self.server.issuer, "CLIENT_SECRET": CLIENT_SECRET, "FOLDER": str(folder), "PAUTH_ENCRYPTION_KEY": KEY.to_string().reveal()}


@contextmanager
def standing_loop() -> Generator[None, None, None]:
    """pauth's loop stands still: what has to wait for it gets no answer."""
    standing, go_on = threading.Event(), threading.Event()
    _portal.current().soon(_portal._rest, standing, go_on)  # pyright: ignore[reportPrivateUsage]
    standing.wait()
    try:
        yield
    finally:
        go_on.set()


@dataclass
class HeldRequest:
    town: Town
    fault: Hold

    def arrived(self) -> None:
        """Wait until the server has it, and has done it if it was to be applied."""
        self.town.run(self._arrived())

    @property
    def has_arrived(self) -> bool:
        """Whether the server has it by now."""
        return self.fault.arrived.is_set()

    def release(self) -> None:
        self.town.loop.call_soon_threadsafe(self.fault.release)

    async def _arrived(self) -> None:
        await self.fault.arrived.wait()


def _close(client: SyncOAuth2Client) -> None:
    client._deadline = None  # pyright: ignore[reportPrivateUsage]  # the deadline of a test is for what it tests
    client.close()


@contextmanager
def a_town(clock: Any = None, **options: Any) -> Generator[Town, None, None]:
    """
    :param clock: the server's; one that stands still by default.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="town")
    thread.start()
    manual = ManualClock()
    arguments: dict[str, Any] = {"rotation": "RSF", "access_token_lifetime": LIFETIME, "secret_marker": "CANARY-"} | options
    server = AuthorizationServer(clock=clock or manual, **arguments)
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        try:
            registered = server.register_client("client-1", CLIENT_SECRET, redirect_uris=[CALLBACK])
            with ExitStack() as stack:
                yield Town(server, manual, registered, loop, stack)
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Program:
    """A program of ``tests/sync/programs``. What it does not close is told on its standard error."""

    def __init__(self, environment: dict[str, str], program: str, *arguments: str) -> None:
        warnings = ("-W", "always::ResourceWarning", "-W", "ignore::DeprecationWarning:__main__")  # of forks where there are threads
        self.process = subprocess.Popen(
            [sys.executable, *warnings, str(ROOT / "tests/sync/programs" / f"{program}.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )

    def line(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def finish(self, canary: Any) -> tuple[int, str, str]:
        """Wait for its end: its exit status, what it has printed since, and what it complained of."""
        output, errors = self.process.communicate()
        canary.check(output, "standard output of the program")
        canary.check(errors, "standard error of the program")
        return self.process.returncode, output, errors

    def stop(self) -> None:
        """At the end of a test that failed."""
        self.process.kill()
        self.process.communicate()
