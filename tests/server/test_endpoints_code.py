"""The code exchange: a code is sent once (AX-12), and to the server of its login alone (MX-1, PK-2, TE-18)."""

from __future__ import annotations

import dataclasses
from urllib.parse import parse_qs

import pytest

from pauth.errors import AmbiguousExchange, AuthorizationError, MalformedResponse, ProviderUnavailable, Remedy, TokenError
from pauth.testing import faults
from pauth.testing.messages import SeenRequest
from tests.server.kit import CALLBACK, bench, metadata_of
from tests.transport.kit import assert_bare, raw_server, unused_port, whole


async def test_te2_pk2_what_a_code_exchange_sends() -> None:
    seen: list[SeenRequest] = []

    def note(request: SeenRequest) -> bool:
        seen.append(request)
        return False

    async with bench() as made:
        response = await made.log_in()
        made.server.script("token", faults.drop_before(), when=note)
        await made.endpoints.exchange_code(response)
    (request,) = seen
    assert (request.method, request.query) == ("POST", "")
    assert set(request.params) == {"grant_type", "code", "redirect_uri", "code_verifier"}  # the client is in the header (TE-3)
    assert request.params["redirect_uri"] == CALLBACK
    assert request.headers["content-type"] == "application/x-www-form-urlencoded;charset=UTF-8"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (faults.drop_before(), None),
        (faults.cut(), None),
        (faults.cut(40), None),
        (faults.cut(-1), None),
        (faults.status(500), 500),
        (faults.status(503, {"error": "temporarily_unavailable"}), 503),
        (faults.rate_limited(5), 429),
    ],
)
async def test_ax12_an_exchange_without_an_answer_is_ambiguous_and_not_repeated(fault: faults.Fault, status: int | None) -> None:
    async with bench() as made:
        response = await made.log_in()
        made.server.script("token", fault)
        with pytest.raises(AmbiguousExchange) as caught:
            await made.endpoints.exchange_code(response)
        assert made.server.ledger.count(endpoint="token") == 1
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN
    assert caught.value.status == status
    assert_bare(caught.value)


async def test_ax12_te20_an_exchange_that_did_not_leave_is_not_ambiguous() -> None:
    nobody = f"http://127.0.0.1:{unused_port()}/token"
    async with bench(provider={"metadata": {"token_endpoint": nobody}}) as made:
        response = await made.log_in()
        with pytest.raises(ProviderUnavailable) as caught:
            await made.endpoints.exchange_code(response)
    assert not caught.value.request_sent
    assert caught.value.retryable
    assert_bare(caught.value)


@pytest.mark.parametrize("fault", [faults.body("{"), faults.body("<html>", content_type="text/html"), faults.omit("access_token")])
async def test_ax12_an_answer_that_cannot_be_read_is_not_asked_for_again(fault: faults.Fault) -> None:
    async with bench() as made:
        response = await made.log_in()
        made.server.script("token", fault)
        with pytest.raises(MalformedResponse) as caught:
            await made.endpoints.exchange_code(response)
        assert made.server.ledger.count(endpoint="token") == 1
    assert_bare(caught.value)


async def test_te8_a_refused_code_asks_for_a_new_login() -> None:
    async with bench() as made:
        response = await made.log_in()
        made.clock.advance(61)  # the double's codes live a minute
        with pytest.raises(TokenError) as caught:
            await made.endpoints.exchange_code(response)
    assert caught.value.error == "invalid_grant"
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN


# --- Mix-up -----------------------------------------------------------------------------------------------------------------------------------------


async def test_mx1_metadata_that_moves_between_the_legs_does_not_get_the_code() -> None:
    async with raw_server(whole()) as evil, bench() as made:
        response = await made.log_in()
        made.server.script("metadata", faults.override(token_endpoint=evil.url), times=None)
        made.restart()
        with pytest.raises(AuthorizationError, match="token endpoint") as caught:
            await made.endpoints.exchange_code(response)
        assert made.server.ledger.count(endpoint="token") == 0
    assert evil.connections == 0
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN
    assert_bare(caught.value)


async def test_mx1_metadata_that_was_kept_since_the_first_leg_does_not_matter() -> None:
    async with raw_server(whole()) as evil, bench() as made:
        response = await made.log_in()
        made.server.script("metadata", faults.override(token_endpoint=evil.url), times=None)
        assert (await made.endpoints.exchange_code(response)).subject == "alice"
    assert evil.connections == 0


async def test_te18_ax5_a_login_at_one_server_is_not_completed_by_the_client_of_another() -> None:
    """Both know the client by the same id: neither server gets the other's code, and A does not get the secret registered at B."""
    async with bench() as a, bench() as b:
        response = await a.log_in()
        with pytest.raises(AuthorizationError):
            await b.endpoints.exchange_code(response)
        assert a.server.ledger.count(endpoint="token") == b.server.ledger.count(endpoint="token") == 0


async def test_ax5_a_login_of_another_client_of_the_same_server_is_refused() -> None:
    async with bench() as made:
        response = await made.log_in()
        foreign = dataclasses.replace(response, request=dataclasses.replace(response.request, client_id="client-2"))
        with pytest.raises(AuthorizationError):
            await made.endpoints.exchange_code(foreign)
        assert made.server.ledger.count(endpoint="token") == 0


async def test_te9_scopes_that_the_server_does_not_name_are_the_requested_ones_and_only_assumed() -> None:
    async with bench() as made:
        made.server.script("token", faults.omit("scope"))
        token = await made.token(("openid", "email"))
    assert token.scope == ("openid", "email")
    assert not token.has_scope("email")


async def test_rfc8707_resources_go_into_the_exchange() -> None:
    async with raw_server(whole(b"{}")) as elsewhere, bench(provider={"oidc": False, "metadata": {"token_endpoint": elsewhere.url}}) as made:
        response = await made.log_in(("email",), resource=["https://api.example/1", "https://api.example/2"])
        with pytest.raises(MalformedResponse):
            await made.endpoints.exchange_code(response)
        assert parse_qs(elsewhere.seen[0].body.decode())["resource"] == ["https://api.example/1", "https://api.example/2"]
        assert (await made.endpoints.metadata()) == metadata_of(made.server, token_endpoint=elsewhere.url)
