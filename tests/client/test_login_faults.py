"""Logins that fail on the way from the callback to the store: what is sent, what is kept, what the error says."""

from __future__ import annotations

from typing import Any

import pytest

from pauth import (
    AmbiguousExchange,
    AuthorizationError,
    InvalidStateError,
    MalformedResponse,
    MemoryTokenStorage,
    PAuthError,
    ProviderUnavailable,
    ReauthorizationRequired,
    Remedy,
    TokenError,
)
from pauth.errors import StorageUnavailable, UntrustedServer
from pauth.testing import faults
from tests.client.kit import Bench, edited, query_of
from tests.storage.kit import DictStorage


async def test_a_denied_consent(bench: Bench) -> None:
    client = bench.client()
    with pytest.raises(AuthorizationError, match=r"access_denied \(the user said no\)") as caught:
        await client.handle_callback(await bench.callback(client, deny=True))
    assert (caught.value.error, caught.value.remedy) == ("access_denied", Remedy.LOG_IN_AGAIN)
    assert bench.exchanges() == 0


@pytest.mark.parametrize("extra", ["&code=CANARY-b", "&state=CANARY-b", "&error=access_denied", "&access_token=CANARY-at", "#CANARY-fragment"])
async def test_ax7_ax8_a_callback_that_says_two_things_is_refused(bench: Bench, extra: str) -> None:
    """AX-7, AX-8. Also SH-5: the callback is in no traceback."""
    client = bench.client()
    callback = await bench.callback(client)
    with pytest.raises(AuthorizationError):
        await client.handle_callback(callback + extra)
    assert bench.exchanges() == 0


async def test_a_callback_with_neither_code_nor_error(bench: Bench) -> None:
    client = bench.client()
    with pytest.raises(AuthorizationError, match="neither"):
        await client.handle_callback(edited(await bench.callback(client), code=None))


async def test_sh9_the_secrets_of_a_login_are_masked_if_the_server_repeats_them(bench: Bench) -> None:
    """SH-9, AX-10"""
    client = bench.client()
    callback = edited(await bench.callback(client), code=None, error="server_error\u202e", error_description="state is ")
    state = query_of(callback)["state"]
    with pytest.raises(AuthorizationError) as caught:
        await client.handle_callback(edited(callback, error_description=f"state is {state}"))
    assert state not in f"{caught.value} {caught.value.error_description}"
    assert (caught.value.error_description or "").startswith("state is ")


FAULTS: dict[str, faults.Fault] = {
    "dropped": faults.drop_before(),
    "cut at the start": faults.cut(0),
    "cut in the middle": faults.cut(40),
    "cut at the end": faults.cut(-1),
    "500": faults.status(500),
    "503": faults.status(503),
    "429": faults.rate_limited(30),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_ax12_a_code_is_sent_once_whatever_happens(bench: Bench, fault: str) -> None:
    """AX-12: the server may have spent it."""
    client = bench.client()
    callback = await bench.callback(client)
    bench.server.script("token", FAULTS[fault])
    with pytest.raises(AmbiguousExchange, match="log in again") as caught:
        await client.handle_callback(callback)
    assert (caught.value.remedy, caught.value.retryable) == (Remedy.LOG_IN_AGAIN, False)
    assert bench.exchanges() == 1
    with pytest.raises(InvalidStateError):
        await client.handle_callback(callback)
    assert bench.exchanges() == 1
    with pytest.raises(ReauthorizationRequired):
        await client.get_token("alice")
    assert (await bench.log_in(client)).user_id == "alice"


async def test_a_server_that_is_not_there_did_not_see_the_code(bench: Bench, unused_tcp_port: int) -> None:
    """The callback is used up even so: no error may say that the same call can be tried again."""
    client = bench.client(bench.provider(token_endpoint=f"http://127.0.0.1:{unused_tcp_port}/token"))
    callback = await bench.callback(client, user_id="u1")
    with pytest.raises(ProviderUnavailable, match="start the login again") as caught:
        await client.handle_callback(callback)
    assert (caught.value.request_sent, caught.value.remedy) == (False, Remedy.LOG_IN_AGAIN)
    assert caught.value.args == (caught.value.message,) == (str(caught.value),)


ANSWERS: dict[str, tuple[faults.Fault, type[PAuthError], Remedy]] = {
    "invalid_grant": (faults.status(400, {"error": "invalid_grant"}), TokenError, Remedy.LOG_IN_AGAIN),
    "invalid_client": (faults.status(401, {"error": "invalid_client"}), TokenError, Remedy.FIX_CONFIGURATION),
    "an error with status 200": (faults.body('{"error": "invalid_grant"}'), TokenError, Remedy.LOG_IN_AGAIN),
    "HTML": (faults.body("<html>", content_type="text/html"), MalformedResponse, Remedy.FIX_CONFIGURATION),
    "a redirect": (faults.status(307, headers={"Location": "https://evil.example/token"}), MalformedResponse, Remedy.FIX_CONFIGURATION),
    "no access token": (faults.omit("access_token"), MalformedResponse, Remedy.FIX_CONFIGURATION),
    "no ID token": (faults.omit("id_token"), UntrustedServer, Remedy.FIX_CONFIGURATION),
    "a broken ID token": (faults.override(id_token="CANARY.id.token"), UntrustedServer, Remedy.FIX_CONFIGURATION),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_answer_that_gives_no_tokens_stores_none(bench: Bench, answer: str) -> None:
    fault, expected, remedy = ANSWERS[answer]
    client = bench.client()
    callback = await bench.callback(client)
    bench.server.script("token", fault)
    with pytest.raises(expected) as caught:
        await client.handle_callback(callback)
    assert caught.value.remedy is remedy
    assert bench.exchanges() == 1
    with pytest.raises(ReauthorizationRequired) as none:
        await client.get_token("alice")
    assert none.value.reason == "not_logged_in"


@pytest.mark.parametrize(("endpoint", "openid", "exchanges"), [("jwks", True, 0), ("userinfo", False, 1)])
async def test_what_fails_when_the_callback_is_used_up_does_not_say_retry(bench: Bench, endpoint: Any, openid: bool, exchanges: int) -> None:
    client = bench.client() if openid else bench.client(bench.provider(userinfo_endpoint=bench.server.userinfo_endpoint))
    callback = await bench.callback(client)
    bench.server.script(endpoint, faults.status(503))
    with pytest.raises(ProviderUnavailable, match="start the login again") as caught:
        await client.handle_callback(callback)
    assert (caught.value.status, caught.value.remedy, caught.value.retryable) == (503, Remedy.LOG_IN_AGAIN, False)
    assert bench.exchanges() == exchanges


class FullStorage(DictStorage):
    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        raise OSError(f"no space left for {tokens}")


async def test_tokens_that_cannot_be_stored_are_not_given(bench: Bench) -> None:
    """P3"""
    client = bench.client(token_storage=FullStorage())
    with pytest.raises(StorageUnavailable, match="start the login again") as caught:
        await bench.log_in(client)
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN


class DeadStorage(MemoryTokenStorage):
    async def take_pending(self, pending_id: str) -> dict[str, Any] | None:
        raise StorageUnavailable("the token storage did not answer; try again later")


async def test_a_store_that_fails_before_the_login_was_taken_may_be_tried_again(bench: Bench) -> None:
    client = bench.client(token_storage=DeadStorage(clock=bench.clock))
    with pytest.raises(StorageUnavailable) as caught:
        await client.handle_callback(await bench.callback(client))
    assert caught.value.retryable
    assert bench.exchanges() == 0


@pytest.mark.parametrize("methods", [["plain"], []])
async def test_pk3_a_server_that_rules_pkce_out_is_refused(bench: Bench, methods: list[str]) -> None:
    """PK-3: no silent downgrade."""
    bench.server.script("metadata", faults.override(code_challenge_methods_supported=methods))
    with pytest.raises(UntrustedServer, match="S256"):
        await bench.client().get_authorization_url()


async def test_pk3_a_server_that_says_nothing_of_pkce_is_sent_it(bench: Bench) -> None:
    bench.server.script("metadata", faults.omit("code_challenge_methods_supported"))
    assert query_of(await bench.client().get_authorization_url())["code_challenge_method"] == "S256"
