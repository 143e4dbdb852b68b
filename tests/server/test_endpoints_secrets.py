"""SH-9: a server that repeats what it was sent does not get it into an error. SH-2: nor does anything else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from pauth.core.token import Token
from pauth.errors import PAuthError, ReauthorizationRequired
from pauth.secret import Secret
from tests.server.kit import Bench, bench
from tests.support.canary import excerpt
from tests.transport.kit import RawServer, assert_bare, raw_server, sending, whole


@pytest.fixture
async def echo() -> AsyncIterator[RawServer]:
    """A server that answers with an error which repeats the whole request."""
    seen: list[RawServer] = []

    async def answer(writer: asyncio.StreamWriter) -> None:
        request = seen[0].seen[-1]
        text = f"not accepted: {request.header('authorization')} {request.body.decode()}"
        document = {"error": "invalid_request", "error_description": text}
        await sending(whole(json.dumps(document).encode(), status="400 Bad Request"))(writer)

    async with raw_server(answer) as server:
        seen.append(server)
        yield server


def _token(made: Bench) -> Token:
    return Token(
        access_token=Secret("CANARY-access-token"),
        refresh_token=Secret("CANARY-refresh+token/with=odd~characters"),
        id_token=Secret("CANARY.id.token"),
        issuer=made.server.issuer,
    )


Call = Callable[[Bench], Awaitable[Any]]


async def _exchange(made: Bench) -> Any:
    return await made.endpoints.exchange_code(await made.log_in(("email",)))


_CALLS: dict[str, Call] = {
    "code": _exchange,
    "refresh": lambda made: made.endpoints.refresh(_token(made)),
    "client credentials": lambda made: made.endpoints.client_credentials(scope=(), resource=()),
    "revocation": lambda made: made.endpoints.revoke(_token(made)),
    "userinfo": lambda made: made.endpoints.user_info(_token(made)),
}


@pytest.mark.parametrize("auth_method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS.keys())
async def test_sh9_what_the_server_repeats_is_masked(call: Call, auth_method: str, echo: RawServer) -> None:
    endpoints = dict.fromkeys(("token_endpoint", "revocation_endpoint", "userinfo_endpoint"), echo.url)
    provider = {"oidc": False, "client_auth": auth_method, "metadata": endpoints}
    async with bench(provider=provider, auth_method=auth_method) as made:
        with pytest.raises(PAuthError) as caught:
            await call(made)
    assert excerpt(f"{echo.seen[0].header('authorization')}{echo.seen[0].body!r}") is not None  # there was something to repeat
    error = caught.value
    assert error.error == "invalid_request"
    assert error.error_description is not None
    assert "[redacted]" in error.error_description
    assert excerpt(error.error_description) is None
    assert_bare(error)


async def test_sh9_a_dead_refresh_token_is_not_named() -> None:
    async with bench() as made:
        token = await made.token()
        made.server.revoke_user("alice")
        with pytest.raises(ReauthorizationRequired) as caught:
            await made.endpoints.refresh(token)
    assert caught.value.reason == "invalid_grant"
    assert_bare(caught.value)
