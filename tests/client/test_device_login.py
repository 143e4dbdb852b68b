"""Logins on another device (RFC 8628): start_device_login and complete_device_login against the double, on a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pauth import (
    AuthorizationError,
    ConfigurationError,
    DeviceLogin,
    InvalidStateError,
    Login,
    OAuth2Client,
    ProviderUnavailable,
    ReauthorizationRequired,
    Remedy,
    Secret,
    TokenError,
    TokenStorageError,
)
from pauth.errors import InvalidUserId, PAuthError
from pauth.storage import MemoryTokenStorage, RecordKey
from pauth.testing import faults
from tests.client.kit import STORAGES, Bench, bench_at, record_of
from tests.testing.kit import until

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(tmp_path, device_code_lifetime=100) as bench:
        yield bench


def polls(bench: Bench) -> list[float]:
    """When the device code was asked for."""
    return [entry.at for entry in bench.server.ledger.select(endpoint="token", grant_type=GRANT)]


async def wait_out(bench: Bench, completing: asyncio.Task[Any], *, polls_first: int | None = None) -> None:
    """Let time pass, second by second, until the login has ended or was polled for so often."""
    while True:
        await until(lambda: bench.clock.sleepers or completing.done())
        if completing.done() or (polls_first is not None and len(polls(bench)) >= polls_first):
            return
        bench.clock.advance(1)


async def complete(bench: Bench, client: OAuth2Client, login: DeviceLogin, **options: Any) -> Login:
    completing = asyncio.create_task(client.complete_device_login(login, **options))
    await wait_out(bench, completing)
    return await completing


async def error_of(bench: Bench, client: OAuth2Client, login: DeviceLogin, **options: Any) -> PAuthError:
    with pytest.raises(PAuthError) as caught:
        await complete(bench, client, login, **options)
    return caught.value


@pytest.mark.parametrize("kind", STORAGES)
async def test_a_login_on_another_device(bench: Bench, kind: str) -> None:
    client = bench.client(token_storage=bench.storage(kind))
    started = await client.start_device_login()
    assert started.verification_uri == f"{bench.server.issuer}/device"
    assert started.verification_uri_complete == f"{started.verification_uri}?user_code={started.user_code}"
    assert started.expires_at == bench.clock.time() + 100
    bench.server.decide_device(started.user_code, user="alice")
    login = await complete(bench, client, started)
    assert (login.user_id, login.token.subject, login.token.has_scope("openid", "profile", "email")) == ("alice", "alice", True)
    assert await client.get_token("alice") == login.token
    assert (await client.refresh("alice")).access_token != login.token.access_token


async def test_dv1_the_gaps_between_polls(bench: Bench) -> None:
    """5 seconds; after slow_down 10, for good; the first poll comes after one interval."""
    client = bench.client()
    began = bench.clock.time()
    started = await client.start_device_login()
    slow_down = faults.status(400, {"error": "slow_down"})
    bench.server.script("token", slow_down, when=lambda _: len(polls(bench)) == 2)
    completing = asyncio.create_task(client.complete_device_login(started))
    await wait_out(bench, completing, polls_first=5)
    bench.server.decide_device(started.user_code)
    await wait_out(bench, completing)
    at = [began, *polls(bench)]
    assert [later - earlier for earlier, later in pairwise(at)] == [5, 5, 5, 10, 10, 10]
    assert (await completing).user_id == "alice"


async def test_dv2_a_server_that_does_not_answer_is_asked_later_and_later(bench: Bench) -> None:
    client = bench.client()
    began = bench.clock.time()
    started = await client.start_device_login()
    for fault in (faults.drop_before(), faults.status(503), faults.rate_limited(35)):
        bench.server.script("token", fault)
    completing = asyncio.create_task(client.complete_device_login(started))
    await wait_out(bench, completing, polls_first=4)
    bench.server.decide_device(started.user_code)
    await wait_out(bench, completing)
    at = [began, *polls(bench)]
    assert [later - earlier for earlier, later in pairwise(at)] == [5, 10, 20, 40, 5]
    assert (await completing).user_id == "alice"


async def test_dv1_nobody_asks_after_the_code_has_expired(bench: Bench) -> None:
    client = bench.client()
    began = bench.clock.time()
    error = await error_of(bench, client, await client.start_device_login())
    assert (type(error), error.error, error.remedy) == (AuthorizationError, "expired_token", Remedy.LOG_IN_AGAIN)
    assert polls(bench) == [began + 5 * number for number in range(1, 20)]
    assert bench.clock.time() == began + 100


async def test_dv1_a_no_ends_it_at_once(bench: Bench) -> None:
    client = bench.client()
    started = await client.start_device_login()
    bench.server.decide_device(started.user_code, deny=True)
    error = await error_of(bench, client, started)
    assert (type(error), error.error, len(polls(bench))) == (AuthorizationError, "access_denied", 1)


async def test_a_wall_clock_that_jumps_changes_nothing(bench: Bench) -> None:
    """P11"""
    client = bench.client()
    started = await client.start_device_login()
    completing = asyncio.create_task(client.complete_device_login(started))
    await wait_out(bench, completing, polls_first=1)
    bench.clock.set_wall_time(bench.clock.time() - 86_400)
    bench.server.decide_device(started.user_code)
    await wait_out(bench, completing)
    assert (await completing).user_id == "alice"


async def test_dv4_a_login_is_completed_once(bench: Bench) -> None:
    client = bench.client()
    started = await client.start_device_login()
    bench.server.decide_device(started.user_code)
    await complete(bench, client, started)
    for other in (client, bench.client()):
        error = await error_of(bench, other, started)
        assert isinstance(error, InvalidStateError)
    assert len(polls(bench)) == 1


async def test_dv4_a_login_can_be_completed_by_another_process(bench: Bench) -> None:
    storage = bench.storage("sqlite")
    started = await bench.client(token_storage=storage).start_device_login()
    bench.server.decide_device(started.user_code)
    assert (await complete(bench, bench.client(token_storage=storage), started)).user_id == "alice"


async def test_dv4_a_device_code_goes_to_no_other_client_or_server(bench: Bench) -> None:
    storage = bench.storage("memory")
    started = await bench.client(token_storage=storage).start_device_login()
    other = bench.client(bench.provider(device_authorization_endpoint=bench.server.device_authorization_endpoint), storage)
    error = await error_of(bench, other, started, user_id="alice")
    assert isinstance(error, InvalidStateError)
    assert polls(bench) == []


async def test_dv4_a_handle_that_nobody_made(bench: Bench) -> None:
    unknown = DeviceLogin("A", "https://as.example/device", None, bench.clock.time() + 60, Secret("CANARY-\ud800"))
    assert isinstance(await error_of(bench, bench.client(), unknown), InvalidStateError)


async def test_ax6_the_tokens_are_for_who_the_login_was_started_for(bench: Bench) -> None:
    client = bench.client()
    started = await client.start_device_login(user_id="user-1")
    bench.server.decide_device(started.user_code)
    assert (await complete(bench, client, started, user_id="user-1")).user_id == "user-1"
    named_later = await client.start_device_login()
    bench.server.decide_device(named_later.user_code)
    assert (await complete(bench, client, named_later, user_id="user-2")).user_id == "user-2"
    other = await client.start_device_login(user_id="user-1")
    bench.server.decide_device(other.user_code)
    assert isinstance(await error_of(bench, client, other, user_id="user-2"), InvalidStateError)
    with pytest.raises(InvalidUserId):
        await client.start_device_login(user_id="")
    with pytest.raises(InvalidUserId):
        await client.complete_device_login(started, user_id="")


async def test_the_user_is_asked_for_where_no_id_token_says_who_it_is(bench: Bench) -> None:
    endpoint = {"device_authorization_endpoint": bench.server.device_authorization_endpoint}
    client = bench.client(bench.provider(**endpoint, userinfo_endpoint=bench.server.userinfo_endpoint))
    started = await client.start_device_login()
    bench.server.decide_device(started.user_code, user="bob")
    login = await complete(bench, client, started)
    assert (login.user_id, login.token.subject) == ("bob", "bob")
    nameless = bench.client(bench.provider(**endpoint))
    error = await error_of(bench, nameless, await nameless.start_device_login())
    assert isinstance(error, ConfigurationError)
    named = await nameless.start_device_login(user_id="carol")
    bench.server.decide_device(named.user_code, user="carol")
    assert (await complete(bench, nameless, named)).token.subject is None


async def test_a_server_that_cannot_say_who_logged_in(bench: Bench) -> None:
    """The device code is spent: asking again would not bring the tokens back, and says so."""
    endpoint = {"device_authorization_endpoint": bench.server.device_authorization_endpoint}
    client = bench.client(bench.provider(**endpoint, userinfo_endpoint=bench.server.userinfo_endpoint))
    started = await client.start_device_login()
    bench.server.decide_device(started.user_code)
    bench.server.script("userinfo", faults.status(503))
    error = await error_of(bench, client, started)
    assert (type(error), error.status, error.remedy) == (AuthorizationError, 503, Remedy.LOG_IN_AGAIN)
    assert len(polls(bench)) == 1


async def test_id_an_id_token_is_checked(bench: Bench) -> None:
    client = bench.client()
    started = await client.start_device_login()
    bench.server.decide_device(started.user_code)
    bench.server.script("token", faults.omit("id_token"))
    error = await error_of(bench, client, started)
    assert "gave none" in str(error)
    with pytest.raises(ReauthorizationRequired):
        await client.get_token("alice")


async def test_a_server_without_the_grant(bench: Bench) -> None:
    client = bench.client(bench.provider())
    with pytest.raises(ConfigurationError, match="no device authorization endpoint"):
        await client.start_device_login()


async def test_a_client_that_is_not_registered_for_it(bench: Bench) -> None:
    bench.server.register_client(bench.registered.client_id, bench.registered.client_secret, grant_types=["authorization_code"])
    with pytest.raises(TokenError) as caught:
        await bench.client().start_device_login()
    assert (caught.value.error, caught.value.remedy) == ("unauthorized_client", Remedy.FIX_CONFIGURATION)


async def test_a_server_that_does_not_answer_at_the_start(bench: Bench) -> None:
    bench.server.script("device_authorization", faults.status(503))
    with pytest.raises(ProviderUnavailable):
        await bench.client().start_device_login()


async def test_the_scope_and_the_resource_asked_for(bench: Bench) -> None:
    client = bench.client()
    seen = bench.watch("device_authorization")
    await client.start_device_login(scope=["openid"], resource=["https://api.example/"])
    assert [(name, value) for name, value in seen[0].pairs if name in {"scope", "resource"}] == [
        ("scope", "openid"),
        ("resource", "https://api.example/"),
    ]
    with pytest.raises(ConfigurationError, match="scope must be a list"):
        await client.start_device_login(scope="openid")


async def test_p14_who_goes_away_stops_the_polling(bench: Bench) -> None:
    client = bench.client()
    completing = asyncio.create_task(client.complete_device_login(await client.start_device_login()))
    await until(lambda: bench.clock.sleepers)
    completing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completing
    assert (bench.clock.sleepers, polls(bench)) == (0, [])


async def test_p4_the_tokens_of_a_poll_under_way_are_stored(bench: Bench) -> None:
    storage = MemoryTokenStorage(clock=bench.clock)
    client = bench.client(token_storage=storage)
    started = await client.start_device_login()
    bench.server.decide_device(started.user_code)
    hold = bench.server.script("token", faults.hold(applied=True))
    completing = asyncio.create_task(client.complete_device_login(started))
    await until(lambda: bench.clock.sleepers)
    bench.clock.advance(5)
    await hold.arrived.wait()
    completing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completing
    hold.release()
    await client.aclose()  # waits for it
    assert await record_of(storage, client, "alice") is not None


async def test_p3_tokens_that_cannot_be_stored_are_not_handed_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryTokenStorage(clock=bench.clock)
    client = bench.client(token_storage=storage)
    started = await client.start_device_login()
    bench.server.decide_device(started.user_code)

    async def fails(*_: object, **__: object) -> None:
        raise TokenStorageError("the disk is full")

    monkeypatch.setattr(storage, "replace", fails)
    assert isinstance(await error_of(bench, client, started), TokenStorageError)
    assert await storage.load(RecordKey(client.namespace, "alice")) is None
