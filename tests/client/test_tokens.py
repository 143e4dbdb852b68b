"""After the login: valid tokens, userinfo, logout, and tokens of the client itself. (What refreshing promises is tested in tests/refresh.)"""

from __future__ import annotations

import asyncio

import pytest

from pauth import (
    ConfigurationError,
    MemoryTokenStorage,
    OAuth2Client,
    ProviderUnavailable,
    ReauthorizationRequired,
    Remedy,
    TokenError,
    UserInfoError,
)
from pauth.errors import InvalidUserId
from pauth.testing import faults, token_hash
from tests.client.kit import STORAGES, Bench, record_of
from tests.refresh.kit import landed


async def reason(client: OAuth2Client, user: str = "alice") -> str:
    with pytest.raises(ReauthorizationRequired) as caught:
        await client.get_token(user)
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN
    return caught.value.reason


@pytest.mark.parametrize("kind", STORAGES)
async def test_p1_p3_a_thousand_callers_over_ten_clients_make_one_refresh(bench: Bench, kind: str) -> None:
    """P1, P3: the server revokes the family when a refresh token comes twice."""
    storage = bench.storage(kind)
    clients = [bench.client(token_storage=storage) for _ in range(10)]
    before = await bench.log_in(clients[0])
    bench.clock.advance(3601)
    tokens = await asyncio.gather(*(clients[number % 10].get_token("alice") for number in range(1000)))
    assert bench.refreshes() == 1
    assert not bench.server.family_revoked("alice")
    assert {token.access_token for token in tokens} == {tokens[0].access_token} != {before.token.access_token}
    assert (await bench.client(token_storage=storage).get_token("alice")).access_token == tokens[0].access_token


async def test_a_token_with_time_left_costs_no_request(bench: Bench) -> None:
    client = bench.client()
    login = await bench.log_in(client)
    requests = len(bench.server.ledger)
    assert (await client.get_token("alice")).access_token == login.token.access_token
    assert len(bench.server.ledger) == requests


async def test_refresh_now_whatever_the_expiry(bench: Bench) -> None:
    client = bench.client()
    login = await bench.log_in(client)
    token = await client.refresh("alice")
    assert token.access_token != login.token.access_token
    assert (token.subject, bench.refreshes()) == ("alice", 1)


async def test_a_503_costs_nothing_while_the_token_is_valid(bench: Bench) -> None:
    client = bench.client()
    login = await bench.log_in(client)
    bench.clock.advance(3460)
    bench.server.script("token", faults.status(503))
    assert (await client.get_token("alice")).access_token == login.token.access_token
    await landed(client)
    assert bench.refreshes() == 1
    bench.clock.advance(3601)
    assert (await client.get_token("alice")).access_token != login.token.access_token


async def test_users_nobody_knows(bench: Bench) -> None:
    client = bench.client()
    assert await reason(client) == "not_logged_in"
    for call in (client.get_token, client.refresh, client.revoke, client.get_user_info):
        with pytest.raises(InvalidUserId):
            await call("")


# Userinfo


async def test_user_info(bench: Bench) -> None:
    client = bench.client()
    await bench.log_in(client)
    info = await client.get_user_info("alice")
    assert (info.subject, info.email, info.email_verified, info.name) == ("alice", "alice@example.com", True, "alice")
    assert "alice" not in repr(info)


async def test_rq4_a_refused_token_is_refreshed_once_and_tried_again(bench: Bench) -> None:
    """RQ-4: the server has forgotten the access token before its time."""
    client = bench.client()
    await bench.log_in(client)
    bench.server.expire_access_tokens()
    assert (await client.get_user_info("alice")).subject == "alice"
    assert [use.outcome for use in bench.server.uses] == ["invalid_token", "ok"]
    assert bench.refreshes() == 1


async def test_rq4_a_server_that_always_refuses_is_asked_twice(bench: Bench) -> None:
    """RQ-4: two uses, one refresh; and nobody is told to go on trying."""
    client = bench.client()
    await bench.log_in(client)
    bench.server.script("userinfo", faults.status(401, {"error": "invalid_token"}), times=None)
    with pytest.raises(UserInfoError, match="log in again") as caught:
        await client.get_user_info("alice")
    assert (caught.value.status, caught.value.remedy, caught.value.retryable) == (401, Remedy.LOG_IN_AGAIN, False)
    assert (bench.server.uses.count(endpoint="userinfo"), bench.refreshes()) == (2, 1)


async def test_a_refused_token_that_cannot_be_refreshed(bench: Bench) -> None:
    bench.server.script("token", faults.omit("refresh_token"))
    client = bench.client()
    await bench.log_in(client)
    bench.server.expire_access_tokens()
    with pytest.raises(UserInfoError, match="log in again") as caught:
        await client.get_user_info("alice")
    assert (caught.value.remedy, bench.refreshes()) == (Remedy.LOG_IN_AGAIN, 0)


async def test_a_token_that_somebody_else_has_refreshed_meanwhile_is_not_refreshed_again(bench: Bench) -> None:
    client = bench.client()
    await bench.log_in(client)
    refusing = bench.server.script("userinfo", faults.hold(then=faults.status(401, {"error": "invalid_token"})))
    asking = asyncio.create_task(client.get_user_info("alice"))
    await refusing.arrived.wait()
    await client.refresh("alice")
    refusing.release()
    assert (await asking).subject == "alice"
    assert bench.refreshes() == 1


async def test_a_dead_grant_behind_a_refused_token(bench: Bench) -> None:
    client = bench.client()
    await bench.log_in(client)
    bench.server.revoke_user("alice")
    with pytest.raises(ReauthorizationRequired) as caught:
        await client.get_user_info("alice")
    assert caught.value.reason == "invalid_grant"


@pytest.mark.parametrize(
    ("fault", "remedy", "match"),
    [
        (faults.status(403, {"error": "insufficient_scope"}), Remedy.FIX_CONFIGURATION, "lacks a scope"),
        (faults.override(sub="bob"), Remedy.FIX_CONFIGURATION, "another user"),
        (faults.omit("sub"), Remedy.FIX_CONFIGURATION, "does not name the user"),
        (faults.body("[]"), Remedy.FIX_CONFIGURATION, "cannot be read"),
    ],
)
async def test_id16_other_answers_of_the_userinfo_endpoint(bench: Bench, fault: faults.Fault, remedy: Remedy, match: str) -> None:
    """ID-16; no refresh helps, so none is tried (RQ-4)."""
    client = bench.client()
    await bench.log_in(client)
    bench.server.script("userinfo", fault)
    with pytest.raises(UserInfoError, match=match) as caught:
        await client.get_user_info("alice")
    assert caught.value.remedy is remedy
    assert "bob" not in str(caught.value)
    assert bench.refreshes() == 0


async def test_id16_holds_after_the_retry_too(bench: Bench) -> None:
    client = bench.client()
    await bench.log_in(client)
    bench.server.script("userinfo", faults.status(401))
    bench.server.script("userinfo", faults.override(sub="bob"))
    with pytest.raises(UserInfoError, match="another user"):
        await client.get_user_info("alice")


async def test_id16_a_plain_provider_is_held_to_the_subject_of_the_login(bench: Bench) -> None:
    client = bench.client(bench.provider(userinfo_endpoint=bench.server.userinfo_endpoint))
    await bench.log_in(client)
    bench.server.script("userinfo", faults.override(sub="bob"))
    with pytest.raises(UserInfoError, match="another user"):
        await client.get_user_info("alice")


async def test_a_server_without_a_userinfo_endpoint(bench: Bench) -> None:
    client = bench.client(bench.provider())
    await bench.log_in(client, user_id="u1")
    with pytest.raises(ConfigurationError, match="no userinfo endpoint"):
        await client.get_user_info("u1")


# Logout


@pytest.mark.parametrize("kind", STORAGES)
async def test_rv2_revoke_ends_the_grant_at_the_server_and_here(bench: Bench, kind: str) -> None:
    """RV-1, RV-2: the refresh token first."""
    storage = bench.storage(kind)
    client = bench.client(token_storage=storage)
    login = await bench.log_in(client)
    await client.revoke("alice")
    assert bench.server.family_revoked("alice")
    assert login.token.refresh_token is not None
    presented = [entry.refresh_token_in for entry in bench.server.ledger.select(endpoint="revoke")]
    assert presented[0] == token_hash(login.token.refresh_token.reveal())
    assert await reason(client) == "not_logged_in"
    assert await reason(bench.client(token_storage=storage)) == "not_logged_in"
    assert (await bench.log_in(client)).user_id == "alice"
    await client.get_token("alice")


async def test_revoking_nobody_does_nothing(bench: Bench) -> None:
    client = bench.client()
    await client.revoke("nobody")
    await bench.log_in(client)
    await client.revoke("alice")
    await client.revoke("alice")
    assert bench.server.ledger.count(endpoint="revoke") == 2  # the refresh token and the access token


async def test_rv1_a_revocation_that_fails_leaves_a_record_that_is_out_of_use(bench: Bench) -> None:
    """RV-1, RV-2: not silent success, and no token of it is handed out; the next call tries again."""
    storage = MemoryTokenStorage(clock=bench.clock)
    client = bench.client(token_storage=storage)
    await bench.log_in(client)
    bench.server.script("revoke", faults.status(503, headers={"Retry-After": "7"}))
    with pytest.raises(ProviderUnavailable) as caught:
        await client.revoke("alice")
    assert (caught.value.retryable, caught.value.retry_after) == (True, 7)
    assert await record_of(storage, client, "alice") is not None
    assert await reason(client) == "revoked"
    await client.revoke("alice")
    assert bench.server.family_revoked("alice")
    assert await record_of(storage, client, "alice") is None


async def test_a_server_without_revocation_is_only_forgotten(bench: Bench) -> None:
    client = bench.client(bench.provider())
    await bench.log_in(client, user_id="u1")
    await client.revoke("u1")
    assert await reason(client, "u1") == "not_logged_in"
    assert bench.server.ledger.count(endpoint="revoke") == 0


# The client's own tokens


async def test_a_token_of_the_client_itself(bench: Bench) -> None:
    storage = MemoryTokenStorage(clock=bench.clock)
    seen = bench.watch("token")
    token = await bench.client(token_storage=storage).get_client_token(scope=["read", "write"], resource=["https://api.example/"])
    assert (token.scope, token.refresh_token, token.subject) == (("read", "write"), None, None)
    assert [(name, value) for name, value in seen[0].pairs if name in {"grant_type", "scope", "resource"}] == [
        ("grant_type", "client_credentials"),
        ("scope", "read write"),
        ("resource", "https://api.example/"),
    ]
    assert repr(storage) == "<MemoryTokenStorage with 0 records>"


async def test_a_token_of_the_client_itself_without_a_scope(bench: Bench) -> None:
    assert (await bench.client().get_client_token()).scope == ()


@pytest.mark.parametrize("argument", ["scope", "resource"])
async def test_scopes_and_resources_are_lists(bench: Bench, argument: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"write \[{argument}\]"):
        await bench.client().get_client_token(**{argument: "read"})


async def test_a_client_that_may_not_act_for_itself(bench: Bench) -> None:
    bench.server.register_client("client-1", bench.registered.client_secret, grant_types=["authorization_code"])
    with pytest.raises(TokenError) as caught:
        await bench.client().get_client_token()
    assert (caught.value.error, caught.value.remedy) == ("unauthorized_client", Remedy.FIX_CONFIGURATION)
