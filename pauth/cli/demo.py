"""``pauth demo``: the whole path of a token, against a true authorization server, told to a person."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import aiohttp
from anyio import to_thread
from rich.console import Console
from rich.table import Table

from pauth import DatabaseTokenStorage, EncryptionKey, OAuth2Client, PAuthError, ReauthorizationRequired, Secret, Token
from pauth.cli.output import CheckFailed
from pauth.testing import AuthorizationServer, Client, ManualClock

__all__ = ["DemoFailed", "run_demo"]

_CLIENTS = 10
_PATIENCE = 120.0
"""Seconds: a slow machine shall show the demo slowly, not an error."""

_CALLBACK = "http://127.0.0.1:8400/callback"


class DemoFailed(CheckFailed):
    """Something that pauth promises was not seen to happen."""


def run_demo(console: Console, *, callers: int) -> dict[str, Any]:
    """Play the demo and tell of it on ``console``.

    :returns: what was seen, for programs.
    :raises DemoFailed: something did not go as promised.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pauth-demo-", ignore_cleanup_errors=True) as folder:
        seen = asyncio.run(_play(console, Path(folder) / "tokens.db", callers))
    seconds = time.monotonic() - started
    console.print(f"\n[bold green]All of it worked[/], in {seconds:.1f} seconds. The temporary folder is gone.")
    return {**seen, "seconds": round(seconds, 3)}


async def _play(console: Console, path: Path, callers: int) -> dict[str, Any]:
    clock = ManualClock(time.time())
    async with AuthorizationServer(rotation="RSF", access_token_lifetime=3600, clock=clock) as server:
        demo = _Demo(console, server, clock, path)
        await demo.log_in()
        await demo.refresh_for_many(callers)
        await demo.restart()
        await demo.revoke()
        return demo.seen


class _Demo:
    """The chapters, in order."""

    def __init__(self, console: Console, server: AuthorizationServer, clock: ManualClock, path: Path) -> None:
        self.console = console
        self.server = server
        self.clock = clock
        self.path = path
        self.key = EncryptionKey.generate()
        self.seen: dict[str, Any] = {}
        self.registered: Client = server.register_client("demo-app", redirect_uris=[_CALLBACK])

    def storage(self) -> DatabaseTokenStorage:
        url = f"sqlite+aiosqlite:///{self.path.as_posix()}"
        return DatabaseTokenStorage(url, encryption_key=self.key, timeout=_PATIENCE, clock=self.clock)

    def client(self, storage: DatabaseTokenStorage) -> OAuth2Client:
        secret = self.registered.client_secret
        return OAuth2Client(
            provider=self.server.issuer,
            client_id=self.registered.client_id,
            client_secret=None if secret is None else Secret(secret),
            redirect_uri=_CALLBACK,
            scopes=["openid", "profile", "email"],
            token_storage=storage,
            clock=self.clock,
        )

    def chapter(self, title: str) -> None:
        self.console.print(f"\n[bold cyan]{title}[/]")

    def tell(self, text: str) -> None:
        self.console.print(f"  [green]✓[/] {text}")

    def check(self, what: str, *, failed: bool) -> None:
        if failed:
            raise DemoFailed(f"the demo failed: {what}")

    async def log_in(self) -> None:
        self.chapter("1. Alice logs in")
        self.tell(f"an authorization server runs at {self.server.issuer}; it rotates refresh tokens, and using one twice ends the session")
        async with aclosing(self.storage()) as storage, self.client(storage) as client:
            url = await client.get_authorization_url(session_id="the browser's session")
            self.tell("her browser is sent there with a fresh state, nonce and PKCE challenge, and she consents")
            callback = Secret(await self.server.authorize(url, user="alice"))
            login = await client.handle_callback(callback.reveal(), session_id="the browser's session")
            self.tell(f"the callback was checked and its code exchanged; her ID token was verified: [bold]{login.user_id}[/]")
            replayed = await _error_of(client.handle_callback(callback.reveal(), session_id="the browser's session"))
            self.check("a callback worked twice", failed=replayed is None)
            self.tell(f"the same callback again is refused ({type(replayed).__name__})")
            self.seen |= {"user": login.user_id, "second_callback": type(replayed).__name__}
            await self.show_storage(login.token)

    async def show_storage(self, token: Token) -> None:
        size, readable = await to_thread.run_sync(_search, self.path.parent, token)
        self.check("a token can be read in the database file", failed=readable)
        self.tell(f"her tokens are stored in {self.path.name}, AES-256-GCM encrypted: none of them is found in its {size:,} bytes")

    async def refresh_for_many(self, callers: int) -> None:
        self.chapter(f"2. An hour later, {callers:,} callers want her token at once")
        self.clock.advance(3601)
        async with aclosing(self.storage()) as storage, AsyncExitStack() as opened:
            clients = [await opened.enter_async_context(self.client(storage)) for _ in range(_CLIENTS)]
            began = time.monotonic()
            tokens = await asyncio.gather(*(clients[number % _CLIENTS].get_token("alice") for number in range(callers)))
            took = time.monotonic() - began
        refreshes = self.server.ledger.count(endpoint="token", grant_type="refresh_token")
        self.check(f"{refreshes} refreshes were sent", failed=refreshes != 1)
        self.check("callers got different tokens", failed=len({token.access_token for token in tokens}) != 1)
        self.check("the session was lost", failed=self.server.family_revoked("alice"))
        table = Table(show_header=False, box=None, padding=(0, 2))
        for name, value in (
            ("callers", f"{callers:,}, over {_CLIENTS} clients on one storage"),
            ("refresh requests the server saw", f"[bold]{refreshes}[/]"),
            ("callers that failed", "0"),
            ("time", f"{took:.2f} s"),
        ):
            table.add_row(name, value)
        self.console.print(table)
        self.tell("the new tokens were in the database before any caller saw them")
        self.seen |= {"callers": callers, "clients": _CLIENTS, "refreshes": refreshes, "failed_callers": callers - len(tokens)}
        self.seen["refresh_seconds"] = round(took, 3)

    async def restart(self) -> None:
        self.chapter("3. The program restarts")
        async with aclosing(self.storage()) as storage, self.client(storage) as client:
            requests = self.server.ledger.count(endpoint="token")
            token = await client.get_token("alice")
            self.check("a valid stored token was refreshed", failed=self.server.ledger.count(endpoint="token") != requests)
            status = await _use(self.server.resource_url, token)
            self.check(f"the resource answered {status}", failed=status != 200)
            info = await client.get_user_info("alice")
            self.seen["status_after_restart"] = status
            self.tell(f"a new client read her token from disk, without a request; the API accepts it, and says she is {info.email}")

    async def revoke(self) -> None:
        self.chapter("4. She logs out")
        async with aclosing(self.storage()) as storage, self.client(storage) as client:
            token = await client.get_token("alice")
            await client.revoke("alice")
            status = await _use(self.server.resource_url, token)
            self.check(f"the API still accepted her token ({status})", failed=status != 401)
            self.seen["status_after_logout"] = status
            self.tell("her tokens are revoked at the server: the API answers 401")
            gone = await _error_of(client.get_token("alice"))
            self.check("a token was handed out after the logout", failed=not isinstance(gone, ReauthorizationRequired))
            self.tell("and deleted here: the next call says that she has to log in")


async def _error_of(call: Awaitable[object]) -> PAuthError | None:
    try:
        await call
    except PAuthError as error:
        return error
    return None


async def _use(url: str, token: Token) -> int:
    async with aiohttp.ClientSession() as session, session.get(url, headers=token.auth_headers()) as response:
        return response.status


def _search(folder: Path, token: Token) -> tuple[int, bool]:
    """How many bytes the files hold, and whether one of the token's secrets is among them."""
    kept = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    secrets = (token.access_token, token.refresh_token, token.id_token)
    return len(kept), any(secret.reveal().encode() in kept for secret in secrets if secret is not None)
