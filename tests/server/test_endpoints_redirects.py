"""TE-1, MD-7: no protocol endpoint's redirect is followed, whatever its status and wherever it leads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pauth.core.token import Token
from pauth.errors import MalformedResponse, PAuthError, TokenError, UntrustedServer, UserInfoError
from pauth.testing import faults
from pauth.testing.messages import Endpoint
from tests.server.kit import Bench, bench
from tests.transport.kit import assert_bare, raw_server, whole

Call = Callable[[Bench, Token], Awaitable[Any]]


async def _exchange(made: Bench, _: Token) -> Any:
    response = await made.log_in()
    made.restart()
    return await made.endpoints.exchange_code(response)


async def _metadata(made: Bench, _: Token) -> Any:
    made.restart()
    return await made.endpoints.metadata()


_CALLS: dict[str, tuple[Endpoint, Call]] = {
    "token": ("token", _exchange),
    "refresh": ("token", lambda made, token: made.endpoints.refresh(token)),
    "revoke": ("revoke", lambda made, token: made.endpoints.revoke(token)),
    "userinfo": ("userinfo", lambda made, token: made.endpoints.user_info(token)),
    "jwks": ("jwks", _exchange),
    "metadata": ("metadata", _metadata),
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("same_origin", [True, False], ids=["same origin", "cross origin"])
@pytest.mark.parametrize(("endpoint", "call"), _CALLS.values(), ids=_CALLS.keys())
async def test_te1_redirects_are_refused(endpoint: Endpoint, call: Call, *, same_origin: bool, status: int) -> None:
    async with raw_server(whole()) as elsewhere, bench() as made:
        token = await made.token()
        location = f"{made.server.issuer}/resource" if same_origin else elsewhere.url
        before = made.server.ledger.count(endpoint=endpoint)
        # Only this endpoint redirects; the login before the call needs the metadata as it is.
        made.server.script(endpoint, faults.status(status, headers={"Location": location}), times=None)
        with pytest.raises((MalformedResponse, TokenError, UserInfoError, UntrustedServer)) as caught:
            await call(made, token)
        assert made.server.ledger.count(endpoint=endpoint) - before == (2 if endpoint == "metadata" else 1)  # metadata: both of its places
        assert made.server.uses.count(endpoint="resource") == 0
    assert elsewhere.connections == 0
    assert isinstance(caught.value, PAuthError)
    assert caught.value.status == (None if endpoint == "metadata" else status)
    assert location not in str(caught.value)
    assert_bare(caught.value)
