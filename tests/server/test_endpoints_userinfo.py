"""The userinfo endpoint (ID-16, RQ-1)."""

from __future__ import annotations

import dataclasses

import pytest

from pauth.errors import ConfigurationError, ProviderUnavailable, UserInfoError
from pauth.secret import Secret
from pauth.testing import faults
from pauth.testing.messages import SeenRequest
from tests.server.kit import bench
from tests.transport.kit import assert_bare


async def test_rq1_the_token_goes_in_the_header_alone() -> None:
    seen: list[SeenRequest] = []

    def note(request: SeenRequest) -> bool:
        seen.append(request)
        return False

    async with bench() as made:
        token = await made.token(("openid", "email"))
        made.server.script("userinfo", faults.drop_before(), when=note)
        info = await made.endpoints.user_info(token)
    assert (info.subject, info.email, info.email_verified) == ("alice", "alice@example.com", True)
    (request,) = seen
    assert (request.method, request.query, request.params) == ("GET", "", {})
    assert request.headers["authorization"] == f"Bearer {token.access_token.reveal()}"


@pytest.mark.parametrize("subject", ["bob", "ALICE", "alice ", ""])
async def test_id16_an_answer_about_somebody_else_is_discarded(subject: str) -> None:
    async with bench() as made:
        token = await made.token()
        made.server.script("userinfo", faults.override(sub=subject))
        with pytest.raises(UserInfoError) as caught:
            await made.endpoints.user_info(token)
    assert_bare(caught.value)


async def test_id16_without_an_id_token_there_is_nothing_to_compare_with() -> None:
    async with bench(provider={"oidc": False}) as made:
        token = await made.token(user="bob")
        assert token.subject is None
        assert (await made.endpoints.user_info(token)).subject == "bob"


async def test_a_refused_token_is_told_from_a_server_that_is_down() -> None:
    async with bench() as made:
        token = await made.token()
        with pytest.raises(UserInfoError) as caught:
            await made.endpoints.user_info(dataclasses.replace(token, access_token=Secret("CANARY-at-dead")))
        assert caught.value.status == 401
        made.server.script("userinfo", faults.status(503))
        with pytest.raises(ProviderUnavailable):
            await made.endpoints.user_info(token)


async def test_a_server_without_a_userinfo_endpoint() -> None:
    async with bench(provider={"metadata": {"userinfo_endpoint": None}}) as made:
        with pytest.raises(ConfigurationError, match="userinfo"):
            await made.endpoints.user_info(await made.token())
