"""Every fault and the one error it becomes: its class, what is to be done, and what the server said. The canary searches each of them."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite
import pytest

from pauth import (
    DatabaseTokenStorage,
    EncryptionKey,
    MemoryTokenStorage,
    OAuth2Client,
    PAuthError,
    ReauthorizationRequired,
    Remedy,
    SyncTokenStorage,
    errors,
)
from pauth.sync import _portal
from pauth.testing import faults
from tests.client.kit import SESSION, Bench, bench_at, edited
from tests.storage.kit import KEY, OTHER_KEY, DictStorage

RETRY, LOG_IN_AGAIN, FIX = Remedy.RETRY, Remedy.LOG_IN_AGAIN, Remedy.FIX_CONFIGURATION

HINTS = {
    RETRY: r"try again|SQLITE_\w+\)|raised \w+",  # of a store only the cause is known
    LOG_IN_AGAIN: "log in|start the login again",
    FIX: "check|correct|choose|need|upgrade|add that|make a new|must|ask for|describe|see |turn PKCE|convert|log in again|pass|report|use another",
}
"""Words of which the message has one, so that a line in a log says what to do."""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(tmp_path) as bench:
        yield bench


class Row(NamedTuple):
    fault: str
    provoke: Callable[[Bench], Awaitable[object]]
    expected: type[PAuthError]
    remedy: Remedy
    error: str | None = None
    status: int | None = None
    attributes: tuple[tuple[str, Any], ...] = ()


def on_refresh(*played: faults.Fault, **options: Any) -> Callable[[Bench], Awaitable[object]]:
    async def provoke(bench: Bench) -> object:
        client = bench.client(**options)
        await bench.log_in(client)
        for fault in played:
            bench.server.script("token", fault)
        return await client.refresh("alice")

    return provoke


def on_exchange(*played: faults.Fault, **options: Any) -> Callable[[Bench], Awaitable[object]]:
    async def provoke(bench: Bench) -> object:
        client = bench.client(**options)
        callback = await bench.callback(client)
        for fault in played:
            bench.server.script("token", fault)
        return await client.handle_callback(callback)

    return provoke


def on_callback(*, session_id: str | None = SESSION, **changes: str | None) -> Callable[[Bench], Awaitable[object]]:
    async def provoke(bench: Bench) -> object:
        client = bench.client()
        callback = await bench.callback(client, session_id=SESSION, deny=changes.pop("deny", None) is not None)
        return await client.handle_callback(edited(callback, **changes), session_id=session_id)

    return provoke


def on_metadata(*played: faults.Fault) -> Callable[[Bench], Awaitable[object]]:
    async def provoke(bench: Bench) -> object:
        for fault in played:
            bench.server.script("metadata", fault, times=None)
        return await bench.client().get_authorization_url()

    return provoke


def at_endpoint(url: str) -> Callable[[Bench], Awaitable[object]]:
    async def provoke(bench: Bench) -> object:
        return await bench.client(bench.provider(token_endpoint=url)).get_client_token()

    return provoke


async def no_answer(bench: Bench) -> object:
    hold = bench.server.script("token", faults.hold())
    try:
        return await bench.client(bench.provider(), timeout=0.05).get_client_token()
    finally:
        hold.release()


async def rate_limited_until(bench: Bench) -> object:
    return await on_refresh(faults.rate_limited(formatdate(bench.clock.time() + 30, usegmt=True)))(bench)


async def not_logged_in(bench: Bench) -> object:
    return await bench.client().get_token("alice")


async def no_refresh_token(bench: Bench) -> object:
    bench.server.script("token", faults.omit("refresh_token"))
    client = bench.client()
    await bench.log_in(client)
    bench.clock.advance(3601)
    return await client.get_token("alice")


async def issuer_changed(bench: Bench) -> object:
    storage = MemoryTokenStorage(clock=bench.clock)
    await bench.log_in(bench.client(token_storage=storage, namespace="one"))
    moved = bench.provider(issuer="https://moved.example", token_endpoint="https://moved.example/token")
    return await bench.client(moved, storage, namespace="one").refresh("alice")


async def revocation_under_way(bench: Bench) -> object:
    client = bench.client()
    await bench.log_in(client)
    bench.server.script("revoke", faults.status(503))
    await asyncio.gather(client.revoke("alice"), return_exceptions=True)
    return await client.get_token("alice")


def on_later_refresh(*played: faults.Fault, pause: float, attempts: int = 2) -> Callable[[Bench], Awaitable[object]]:
    """Refreshes that fail, ``pause`` seconds apart; it is the last one that counts."""

    async def provoke(bench: Bench) -> object:
        client = bench.client()
        await bench.log_in(client)
        for fault in played:
            bench.server.script("token", fault)
        for _ in range(attempts - 1):
            await asyncio.gather(client.refresh("alice"), return_exceptions=True)
            bench.clock.advance(pause)
        return await client.refresh("alice")

    return provoke


async def failing_endpoint(bench: Bench) -> object:
    """Five users have found that the server is down; a sixth asks."""
    client = bench.client()
    users = [f"user-{number}" for number in range(6)]
    for user in users:
        await bench.log_in(client, user)
    bench.server.script("token", faults.status(503), times=None)
    for user in users[:5]:
        await asyncio.gather(client.refresh(user), return_exceptions=True)
    return await client.refresh(users[5])


async def dead_grant(bench: Bench) -> object:
    client = bench.client()
    await bench.log_in(client)
    bench.server.revoke_user("alice")
    return await client.refresh("alice")


def on_user_info(fault: faults.Fault) -> Callable[[Bench], Awaitable[object]]:
    async def provoke(bench: Bench) -> object:
        client = bench.client()
        await bench.log_in(client)
        bench.server.script("userinfo", fault, times=None)
        return await client.get_user_info("alice")

    return provoke


def on_revoke(fault: faults.Fault) -> Callable[[Bench], Awaitable[object]]:
    async def provoke(bench: Bench) -> object:
        client = bench.client()
        await bench.log_in(client)
        bench.server.script("revoke", fault)
        await client.revoke("alice")
        return None

    return provoke


def in_database(change: str, key: EncryptionKey = KEY) -> Callable[[Bench], Awaitable[object]]:
    """Two users log in; somebody changes the database; the program restarts, perhaps with another key, and wants a token."""

    async def provoke(bench: Bench) -> object:
        path = bench.folder / "tokens.db"
        client = bench.client(token_storage=bench.storage("sqlite"))
        for user in ("alice", "bob"):
            await bench.log_in(client, user)
        async with aiosqlite.connect(path) as database:
            await database.executescript(change)
        bench.clock.advance(11)  # what was read before is not handed out any more
        reopened = DatabaseTokenStorage(f"sqlite+aiosqlite:///{path}", encryption_key=key, clock=bench.clock)
        bench.stack.push_async_callback(reopened.aclose)
        return await bench.client(token_storage=reopened).get_token("alice")

    return provoke


class Failing(DictStorage):
    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        raise ConnectionResetError("postgresql://user:CANARY-password@db.example")


def stored(tokens: Any) -> Callable[[Bench], Awaitable[object]]:
    async def provoke(bench: Bench) -> object:
        storage = DictStorage()
        storage.saved["alice"] = tokens
        return await bench.client(token_storage=storage).get_token("alice")

    return provoke


async def dead_store(bench: Bench) -> object:
    return await bench.client(token_storage=Failing()).get_token("alice")


async def wrong_user_id(bench: Bench) -> object:
    return await bench.client().get_token("")


async def closed(bench: Bench) -> object:
    client = bench.client()
    await client.aclose()
    return await client.get_token("alice")


async def too_late(bench: Bench) -> object:
    go_on = asyncio.Event()

    class Slow(DictStorage):
        async def get_token(self, user_id: str) -> dict[str, Any] | None:
            await go_on.wait()
            return None

    try:
        return await asyncio.to_thread(SyncTokenStorage(Slow(), deadline=0.01).get_token, "alice")
    finally:
        _portal.current().soon(go_on.set)


async def no_key(bench: Bench) -> object:
    return OAuth2Client("github", "client-1", "CANARY-secret", token_storage="sqlite+aiosqlite:///tokens.db")


MOVED = "UPDATE pauth_tokens SET record = (SELECT record FROM pauth_tokens WHERE user_id = x'626f62') WHERE user_id = x'616c696365'"
NEWER = "UPDATE pauth_tokens SET record = CAST(substr(record, 1, 4) || x'63' || substr(record, 6) AS BLOB)"

TABLE = [
    # The network. A refresh token is on file, so the same call may be tried again.
    Row("connection refused", at_endpoint("http://127.0.0.1:9/token"), errors.ProviderUnavailable, RETRY, attributes=(("request_sent", False),)),
    Row("DNS", at_endpoint("https://no-such-host.example/token"), errors.ProviderUnavailable, RETRY, attributes=(("request_sent", False),)),
    Row("no answer in time", no_answer, errors.ProviderUnavailable, RETRY),
    Row("dropped", on_refresh(faults.drop_before()), errors.ProviderUnavailable, RETRY, attributes=(("request_sent", True),)),
    Row("cut reply", on_refresh(faults.cut(-1)), errors.ProviderUnavailable, RETRY, attributes=(("request_sent", True),)),
    Row("500", on_refresh(faults.status(500)), errors.ProviderUnavailable, RETRY, status=500),
    Row("503", on_refresh(faults.status(503, headers={"Retry-After": "5"})), errors.ProviderUnavailable, RETRY, None, 503, (("retry_after", 5),)),
    Row("429 in seconds", on_refresh(faults.rate_limited(30)), errors.ProviderUnavailable, RETRY, None, 429, (("retry_after", 30),)),
    Row("429 with a date", rate_limited_until, errors.ProviderUnavailable, RETRY, None, 429, (("retry_after", 30),)),
    Row("429 without", on_refresh(faults.rate_limited(None)), errors.ProviderUnavailable, RETRY, None, 429, (("retry_after", None),)),
    Row(
        "a moment after 503", on_later_refresh(faults.status(503), pause=0), errors.ProviderUnavailable, RETRY, attributes=(("request_sent", False),)
    ),
    Row("soon after a refusal", on_later_refresh(faults.status(401, {"error": "invalid_client"}), pause=0), errors.TokenError, FIX, "invalid_client"),
    Row("a failing endpoint", failing_endpoint, errors.ProviderUnavailable, RETRY, attributes=(("request_sent", False), ("retry_after", 5.0))),
    # Answers that break the protocol.
    Row("HTML", on_refresh(faults.body("<html>", content_type="text/html")), errors.MalformedResponse, FIX, status=200),
    Row("malformed JSON", on_refresh(faults.body('{"access_token": "CANARY-a')), errors.MalformedResponse, FIX, status=200),
    Row(
        "duplicate members",
        on_refresh(faults.body('{"access_token": "CANARY-a", "access_token": "CANARY-b"}')),
        errors.MalformedResponse,
        FIX,
        status=200,
    ),
    Row("no access token", on_refresh(faults.omit("access_token")), errors.MalformedResponse, FIX, status=200),
    Row("redirect", on_refresh(faults.status(307, headers={"Location": "https://evil.example/"})), errors.MalformedResponse, FIX, status=307),
    Row("error without code", on_refresh(faults.status(400, {"message": "CANARY-no"})), errors.MalformedResponse, FIX, status=400),
    # What the token endpoint says.
    Row("dead grant", dead_grant, ReauthorizationRequired, LOG_IN_AGAIN, "invalid_grant", 400, (("reason", "invalid_grant"),)),
    Row("invalid_client", on_refresh(client_secret="CANARY-wrong"), errors.TokenError, FIX, "invalid_client", 401),
    Row("unauthorized_client", on_refresh(faults.status(400, {"error": "unauthorized_client"})), errors.TokenError, FIX, "unauthorized_client", 400),
    Row("invalid_scope", on_refresh(faults.status(400, {"error": "invalid_scope"})), errors.TokenError, FIX, "invalid_scope", 400),
    Row("unknown error", on_refresh(faults.status(400, {"error": "teapot"})), errors.TokenError, FIX, "teapot", 400),
    Row("error with status 200", on_refresh(faults.body('{"error": "invalid_client"}')), errors.TokenError, FIX, "invalid_client", 200),
    Row(
        "invalid_grant for a code", on_exchange(faults.status(400, {"error": "invalid_grant"})), errors.TokenError, LOG_IN_AGAIN, "invalid_grant", 400
    ),
    Row("no answer for a code", on_exchange(faults.cut(-1)), errors.AmbiguousExchange, LOG_IN_AGAIN),
    Row("503 for a code", on_exchange(faults.status(503)), errors.AmbiguousExchange, LOG_IN_AGAIN, status=503),
    Row("foreign ID token", on_exchange(faults.override(id_token="CANARY.id.token")), errors.UntrustedServer, FIX),
    # The callback.
    Row("wrong state", on_callback(state="CANARY-state-0123456789-0123456789-012345"), errors.InvalidStateError, LOG_IN_AGAIN),
    Row("no state", on_callback(state=None), errors.InvalidStateError, LOG_IN_AGAIN),
    Row("another browser", on_callback(session_id="CANARY-other"), errors.InvalidStateError, LOG_IN_AGAIN),
    Row("denied", on_callback(deny="yes"), errors.AuthorizationError, LOG_IN_AGAIN, "access_denied"),
    Row("iss mismatch", on_callback(iss="https://evil.example"), errors.AuthorizationError, LOG_IN_AGAIN),
    Row("refused scope", on_callback(code=None, error="invalid_scope"), errors.AuthorizationError, FIX, "invalid_scope"),
    # Metadata.
    Row("metadata: 503", on_metadata(faults.status(503)), errors.ProviderUnavailable, RETRY, status=503),
    Row("metadata: none", on_metadata(faults.status(404)), errors.UntrustedServer, FIX),
    Row("metadata: another issuer", on_metadata(faults.override(issuer="https://evil.example")), errors.UntrustedServer, FIX),
    Row("metadata: no PKCE", on_metadata(faults.override(code_challenge_methods_supported=["plain"])), errors.UntrustedServer, FIX),
    Row("metadata: no token endpoint", on_metadata(faults.omit("token_endpoint")), errors.MalformedResponse, FIX),
    # The grant.
    Row("not logged in", not_logged_in, ReauthorizationRequired, LOG_IN_AGAIN, attributes=(("reason", "not_logged_in"),)),
    Row(
        "used up by a lost answer",
        on_later_refresh(faults.cut(20), pause=60),
        ReauthorizationRequired,
        LOG_IN_AGAIN,
        "invalid_grant",
        400,
        (("reason", "ambiguous_rotation"),),
    ),
    Row(
        "sent too often without an answer",
        on_later_refresh(faults.drop_before(), faults.drop_before(), pause=60, attempts=3),
        ReauthorizationRequired,
        LOG_IN_AGAIN,
        attributes=(("reason", "ambiguous_rotation"),),
    ),
    Row("no refresh token", no_refresh_token, ReauthorizationRequired, LOG_IN_AGAIN, attributes=(("reason", "no_refresh_token"),)),
    Row("issuer changed", issuer_changed, ReauthorizationRequired, LOG_IN_AGAIN, attributes=(("reason", "issuer_changed"),)),
    Row("revocation under way", revocation_under_way, ReauthorizationRequired, LOG_IN_AGAIN, attributes=(("reason", "revoked"),)),
    # Userinfo and revocation.
    Row("userinfo: 401", on_user_info(faults.status(401, {"error": "invalid_token"})), errors.UserInfoError, LOG_IN_AGAIN, None, 401),
    Row("userinfo: 403", on_user_info(faults.status(403, {"error": "insufficient_scope"})), errors.UserInfoError, FIX, "insufficient_scope", 403),
    Row("userinfo: another user", on_user_info(faults.override(sub="bob")), errors.UserInfoError, FIX, None, 200),
    Row("userinfo: 503", on_user_info(faults.status(503)), errors.ProviderUnavailable, RETRY, status=503),
    Row("revoke: 503", on_revoke(faults.status(503)), errors.ProviderUnavailable, RETRY, status=503),
    Row("revoke: refused", on_revoke(faults.status(400, {"error": "unsupported_token_type"})), errors.TokenError, FIX, "unsupported_token_type", 400),
    # The store.
    Row("wrong key", in_database("", OTHER_KEY), errors.UnknownEncryptionKey, FIX),
    Row("moved row", in_database(MOVED), errors.RecordTampered, FIX),
    Row("changed row", in_database("UPDATE pauth_tokens SET record = substr(record, 1, 40)"), errors.RecordTampered, FIX),
    Row("newer record", in_database(NEWER), errors.UnsupportedRecord, FIX),
    Row("newer database", in_database("UPDATE pauth_schema SET version = 99"), errors.ConfigurationError, FIX),
    Row("dead database", in_database("DROP TABLE pauth_tokens"), errors.StorageUnavailable, RETRY),
    Row("dead store", dead_store, errors.StorageUnavailable, RETRY),
    Row("a store that gives no dict", stored(["CANARY"]), errors.UnsupportedRecord, FIX),
    Row("a store that gives no token", stored({"password": "CANARY"}), errors.UnsupportedRecord, FIX),
    # The program.
    Row("no encryption key", no_key, errors.ConfigurationError, FIX),
    Row("wrong user id", wrong_user_id, errors.InvalidUserId, FIX),
    Row("closed client", closed, errors.ConfigurationError, FIX),
    Row("a blocking call that takes too long", too_late, errors.DeadlineExceeded, RETRY),
]


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no key in the environment, and one name that no DNS server knows."""
    for name in ("PAUTH_ENCRYPTION_KEY", "PAUTH_ENCRYPTION_KEYS"):
        monkeypatch.delenv(name, raising=False)
    getaddrinfo = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        if host == "no-such-host.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return getaddrinfo(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.fault)
async def test_every_fault_is_one_error_that_says_what_to_do(bench: Bench, row: Row) -> None:
    """P20, SH-1, SH-2"""
    with pytest.raises(PAuthError) as caught:
        await row.provoke(bench)
    error = caught.value
    assert type(error) is row.expected, error
    assert (error.remedy, error.retryable) == (row.remedy, row.remedy is RETRY)
    assert (error.error, error.status) == (row.error, row.status)
    assert [getattr(error, name) for name, _ in row.attributes] == [value for _, value in row.attributes]
    assert re.search(HINTS[row.remedy], str(error))
    assert (error.__cause__, error.__context__) == (None, None)
    assert "alice" not in str(error)
    assert len(str(error)) < 300


def test_every_error_is_in_the_table() -> None:
    seen = {base for row in TABLE for base in row.expected.__mro__}
    every = {getattr(errors, name) for name in errors.__all__ if name != "Remedy"}
    assert every <= seen
