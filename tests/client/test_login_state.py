"""A callback is believed once, in the browser, by the client and in the time of the login it belongs to."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from pauth import AuthorizationError, ConfigurationError, InvalidStateError, Login, MemoryTokenStorage, OAuth2Client, PAuthError, Remedy
from pauth.storage import RecordKey
from pauth.testing import AuthorizationServer
from tests.client.kit import CALLBACK, CLIENT_SECRET, SESSION, STORAGES, Bench, edited, query_of


async def refused(client: OAuth2Client, callback: str, session_id: str | None = SESSION) -> PAuthError:
    with pytest.raises(InvalidStateError) as caught:
        await client.handle_callback(callback, session_id=session_id)
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN
    assert "start the login again" in caught.value.message
    assert caught.value.error is None  # the server's own error is not believed either
    return caught.value


@pytest.mark.parametrize("deny", [False, True], ids=["code", "error"])
@pytest.mark.parametrize("state", ["missing", "empty", "odd", "not ASCII", "unknown", "expired", "consumed", "of another browser"])
async def test_ax1_a_callback_that_belongs_to_no_login_is_refused_before_any_request(bench: Bench, state: str, deny: bool) -> None:
    """AX-1: for codes and for errors; the ledger shows no token request."""
    client = bench.client()
    callback = await bench.callback(client, deny=deny, session_id=SESSION)
    changes: dict[str, str | None] = {
        "missing": None,
        "empty": "",
        "odd": "CANARY-odd",
        "not ASCII": "ü" * 43,
        "unknown": secrets.token_urlsafe(32),
    }
    if state in changes:
        callback = edited(callback, state=changes[state])
    elif state == "expired":
        bench.clock.advance(600)
    elif state == "consumed":
        with pytest.raises(AuthorizationError):  # the first use fails later, at the issuer: it counts as a use
            await client.handle_callback(edited(callback, iss="https://evil.example"), session_id=SESSION)
    else:
        callback = await bench.callback(client, deny=deny, session_id="CANARY-browser-session-2")
    requests = len(bench.server.ledger)
    await refused(client, callback)
    assert len(bench.server.ledger) == requests
    assert bench.exchanges() == 0


@pytest.mark.parametrize("kind", STORAGES)
async def test_ax2_an_attackers_login_cannot_be_completed_in_the_victims_browser(bench: Bench, kind: str) -> None:
    """AX-2: the attacker logs in with an account of their own; the victim's browser loads the callback."""
    storage = bench.storage(kind)
    client = bench.client(token_storage=storage)
    callback = await bench.callback(client, user="mallory", session_id="CANARY-session-of-mallory")
    await refused(client, callback, "CANARY-session-of-the-victim")
    again = await bench.callback(client, user="mallory", session_id="CANARY-session-of-mallory")
    await refused(client, again, None)
    assert bench.exchanges() == 0


@pytest.mark.parametrize("kind", STORAGES)
async def test_ax2_a_login_without_a_session_cannot_be_completed_in_one(bench: Bench, kind: str) -> None:
    """AX-2: equality is strict, also where one side has no session."""
    client = bench.client(token_storage=bench.storage(kind))
    callback = await bench.callback(client)
    await refused(client, callback, SESSION)
    assert bench.exchanges() == 0


async def test_ax2_an_empty_session_id_is_a_mistake(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="session_id is empty"):
        await bench.client().get_authorization_url(session_id="")


@pytest.mark.parametrize("kind", STORAGES)
async def test_ax3_of_fifty_callbacks_at_once_one_is_exchanged(bench: Bench, kind: str) -> None:
    """AX-3: over two clients on one storage."""
    storage = bench.storage(kind)
    clients = [bench.client(token_storage=storage) for _ in range(2)]
    callback = await bench.callback(clients[0], session_id=SESSION)
    outcomes = await asyncio.gather(
        *(clients[number % 2].handle_callback(callback, session_id=SESSION) for number in range(50)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes].count(Login) == 1
    assert [type(outcome) for outcome in outcomes].count(InvalidStateError) == 49
    assert bench.exchanges() == 1
    assert not bench.server.family_revoked("alice")


@pytest.mark.parametrize("kind", STORAGES)
async def test_ax3_a_callback_works_once(bench: Bench, kind: str) -> None:
    """AX-3, also for another client object on the same storage."""
    storage = bench.storage(kind)
    client = bench.client(token_storage=storage)
    callback = await bench.callback(client, session_id=SESSION)
    other = bench.client(token_storage=storage)
    await other.handle_callback(callback, session_id=SESSION)
    await refused(client, callback)
    await refused(other, callback)
    assert bench.exchanges() == 1


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize(("after", "in_time"), [(59, True), (60, False)])
async def test_ax4_a_login_expires(bench: Bench, kind: str, after: float, in_time: bool) -> None:
    """AX-4: by the clock, not by the store forgetting it."""
    client = bench.client(token_storage=bench.storage(kind), login_timeout=60)
    url = await client.get_authorization_url(session_id=SESSION)
    bench.clock.advance(after)
    callback = await bench.server.authorize(url)
    if in_time:
        assert (await client.handle_callback(callback, session_id=SESSION)).user_id == "alice"
    else:
        await refused(client, callback)
        assert bench.exchanges() == 0


@pytest.mark.parametrize("seconds", [0, -1, 3601])
async def test_ax4_a_login_timeout_is_at_most_an_hour(bench: Bench, seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="at most 3600"):
        await bench.client(login_timeout=seconds).get_authorization_url()


async def test_ax5_a_login_of_another_client_is_refused(bench: Bench) -> None:
    """AX-5: one storage, one provider, two client ids."""
    storage = MemoryTokenStorage(clock=bench.clock)
    bench.server.register_client("client-2", "CANARY-client-secret-2", redirect_uris=[CALLBACK])
    callback = await bench.callback(bench.client(token_storage=storage), session_id=SESSION)
    other = bench.client(token_storage=storage, client_id="client-2", client_secret="CANARY-client-secret-2")
    await refused(other, callback)
    assert bench.exchanges() == 0


@pytest.mark.parametrize("issuer_url", [True, False], ids=["issuer URL", "record"])
async def test_ax5_a_login_at_another_provider_is_refused(bench: Bench, issuer_url: bool) -> None:
    """AX-5, TE-18, MX-1: the same client id at two providers, on one storage. Neither the code nor this client's secret goes to the other one."""
    storage = MemoryTokenStorage(clock=bench.clock)
    async with AuthorizationServer(clock=bench.clock, secret_marker="CANARY-") as evil:
        evil.register_client("client-1", CLIENT_SECRET, redirect_uris=[CALLBACK])
        callback = await evil.authorize(await bench.client(evil.issuer, storage).get_authorization_url(session_id=SESSION))
        honest = bench.client(bench.server.issuer if issuer_url else bench.provider(issuer=bench.server.issuer), storage)
        assert "another provider" in (await refused(honest, callback)).message
        assert evil.ledger.count(endpoint="token") == bench.exchanges() == 0


async def test_ax5_a_login_at_another_token_endpoint_is_refused(bench: Bench) -> None:
    """AX-5 and MX-1 for providers that have no issuer: a record changed between the legs."""
    storage = MemoryTokenStorage(clock=bench.clock)
    async with AuthorizationServer(clock=bench.clock) as evil:
        callback = await bench.callback(bench.client(bench.provider(), storage), session_id=SESSION, user_id="u1")
        changed = bench.client(bench.provider(token_endpoint=evil.token_endpoint), storage)
        with pytest.raises(AuthorizationError, match="the token endpoint or client_id has changed"):
            await changed.handle_callback(callback, session_id=SESSION)
        assert evil.ledger.count(endpoint="token") == bench.exchanges() == 0


async def test_a_pending_login_is_kept_without_its_state_as_its_name(bench: Bench) -> None:
    """AR-8: the store's index does not hold what a callback must bring."""
    storage = MemoryTokenStorage(clock=bench.clock)
    callback = await bench.callback(bench.client(token_storage=storage))
    assert await storage.take_pending(query_of(callback)["state"]) is None
    assert await storage.load(RecordKey("", query_of(callback)["state"])) is None


async def test_a_pending_login_that_nobody_can_read_is_told_without_its_content(bench: Bench) -> None:
    """P18, SH-5: the record was written by another version."""
    storage = MemoryTokenStorage(clock=bench.clock)
    client = bench.client(token_storage=storage)
    callback = await bench.callback(client)
    from pauth.core.pending import pending_id

    name = pending_id(query_of(callback)["state"])
    pending = await storage.take_pending(name)
    assert pending is not None
    await storage.put_pending(name, pending | {"scope": "CANARY-scope"}, expires_at=bench.clock.time() + 60)
    with pytest.raises(PAuthError, match="start the login again") as caught:
        await client.handle_callback(callback)
    assert type(caught.value).__name__ == "UnsupportedRecord"
