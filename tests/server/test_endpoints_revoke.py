"""Revocation (RFC 7009; RV-1, RV-2), the providers' own kinds of it, and MD-4."""

from __future__ import annotations

import dataclasses
import json
from urllib.parse import parse_qs

import pytest

from pauth.errors import ProviderUnavailable, ReauthorizationRequired, TokenError
from pauth.providers.github import GITHUB
from pauth.providers.slack import SLACK
from pauth.secret import Secret
from pauth.testing import faults, token_hash
from pauth.testing.messages import SeenRequest
from tests.server.kit import bench
from tests.transport.kit import RawServer, assert_bare, raw_server, sending, whole


async def test_rv2_the_refresh_token_is_revoked_first() -> None:
    async with bench() as made:
        token = await made.token()
        order: list[str] = []

        def note(request: SeenRequest) -> bool:
            order.append(request.params["token_type_hint"])
            return False

        made.server.script("revoke", faults.drop_before(), when=note)
        await made.endpoints.revoke(token)
        assert token.refresh_token is not None
        assert made.server.ledger.select(endpoint="revoke")[0].refresh_token_in == token_hash(token.refresh_token.reveal())
        assert made.server.family_revoked("alice")
    assert order == ["refresh_token", "access_token"]


@pytest.mark.parametrize(("fault", "error"), [(faults.status(503), ProviderUnavailable), (faults.drop_before(), ProviderUnavailable)])
async def test_rv1_a_server_that_is_down_has_not_revoked(fault: faults.Fault, error: type[Exception]) -> None:
    async with bench() as made:
        token = await made.token()
        made.server.script("revoke", fault)
        with pytest.raises(error):
            await made.endpoints.revoke(token)
        assert made.server.ledger.count(endpoint="revoke") == 1
        assert not made.server.family_revoked("alice")
        await made.endpoints.revoke(token)
        assert made.server.family_revoked("alice")


async def test_rv1_a_refusal_is_typed() -> None:
    async with bench() as made:
        token = await made.token()
        made.server.script("revoke", faults.status(400, {"error": "unsupported_token_type"}))
        with pytest.raises(TokenError) as caught:
            await made.endpoints.revoke(token)
    assert caught.value.error == "unsupported_token_type"
    assert_bare(caught.value)


async def test_rv1_a_token_nobody_knows_is_revoked() -> None:
    async with bench() as made:
        token = dataclasses.replace(await made.token(), access_token=Secret("CANARY-at-x"), refresh_token=Secret("CANARY-rt-x"))
        await made.endpoints.revoke(token)
        assert made.server.ledger.count(endpoint="revoke", outcome="ok") == 2


async def test_a_server_without_revocation_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(provider={"metadata": {"revocation_endpoint": None}}) as made:
        await made.endpoints.revoke(await made.token())
        assert made.server.ledger.count(endpoint="revoke") == 0
    assert "no revocation endpoint" in caplog.text


async def test_md4_a_token_of_another_server_is_not_shown_to_this_one(caplog: pytest.LogCaptureFixture) -> None:
    """To revoke it is no error all the same: else a user whose provider has moved could never be logged out."""
    async with bench() as made:
        token = await made.token()
        for foreign in (
            dataclasses.replace(token, issuer="https://other.example"),
            dataclasses.replace(token, token_endpoint="https://other.example/token"),
        ):
            await made.endpoints.revoke(foreign)
            for call in (made.endpoints.refresh, made.endpoints.user_info):
                with pytest.raises(ReauthorizationRequired) as caught:
                    await call(foreign)
                assert caught.value.reason == "issuer_changed"
        assert made.server.ledger.count(endpoint="revoke") == made.server.ledger.count(endpoint="userinfo") == 0
        assert made.server.ledger.count(endpoint="token") == 1
    assert "deleted without being revoked" in caplog.text


# --- GitHub, Slack ----------------------------------------------------------------------------------------------------------------------------------


def _github(api: RawServer) -> dict[str, object]:
    metadata = {"revocation_endpoint": f"http://127.0.0.1:{api.port}/applications"}
    return {"oidc": False, "quirks": GITHUB.quirks, "metadata": metadata}


_DELETED = whole(b"", status="204 No Content")


async def test_github_a_valid_access_token_is_deleted() -> None:
    async with raw_server(sending(_DELETED)) as api, bench(provider=_github(api)) as made:
        token = await made.token(("email",))
        await made.endpoints.revoke(token)
        assert made.server.ledger.count(endpoint="token") == 1
    (seen,) = api.seen
    assert seen.line == "DELETE /applications/client-1/token HTTP/1.1"
    assert json.loads(seen.body) == {"access_token": token.access_token.reveal()}
    assert seen.header("authorization")[0].startswith("Basic ")


async def test_github_an_expired_access_token_is_refreshed_first() -> None:
    async with raw_server(sending(_DELETED)) as api, bench(provider=_github(api)) as made:
        token = await made.token(("email",))
        assert await made.endpoints.renew_for_revocation(token) is None  # it is valid
        made.clock.advance(3600)
        renewed = await made.endpoints.renew_for_revocation(token)
        assert renewed is not None
        await made.endpoints.revoke(renewed)
        (refresh,) = made.server.ledger.select(endpoint="token", grant_type="refresh_token")
    (seen,) = api.seen
    assert token_hash(json.loads(seen.body)["access_token"]) == refresh.access_token_out


async def test_github_a_dead_grant_needs_no_revocation() -> None:
    async with raw_server(sending(_DELETED)) as api, bench(provider=_github(api)) as made:
        token = await made.token(("email",))
        made.clock.advance(3600)
        made.server.revoke_user("alice")
        assert await made.endpoints.renew_for_revocation(token) is None
        await made.endpoints.revoke(token)
    assert api.seen == []


async def test_github_a_server_that_is_down_has_not_revoked() -> None:
    async with raw_server(sending(_DELETED)) as api, bench(provider=_github(api)) as made:
        token = await made.token(("email",))
        made.clock.advance(3600)
        made.server.script("token", faults.status(503))
        with pytest.raises(ProviderUnavailable):
            await made.endpoints.renew_for_revocation(token)
    assert api.seen == []


async def test_github_an_expired_access_token_without_a_refresh_token_is_sent_as_it_is() -> None:
    async with raw_server(sending(whole(b"{}", status="404 Not Found"))) as api, bench(provider=_github(api)) as made:
        token = dataclasses.replace(await made.token(("email",)), refresh_token=None)
        made.clock.advance(3600)
        await made.endpoints.revoke(token)  # 404: it was dead already
    assert len(api.seen) == 1


async def test_slack_the_access_token_presents_itself() -> None:
    async with raw_server(whole(b'{"ok": true, "revoked": true}')) as api:
        metadata = {"revocation_endpoint": api.url}
        async with bench(provider={"oidc": False, "quirks": dataclasses.replace(SLACK.quirks, ok_member=None), "metadata": metadata}) as made:
            token = dataclasses.replace(await made.token(("email",)))
            await made.endpoints.revoke(token)
    (seen,) = api.seen
    assert seen.header("authorization") == [f"Bearer {token.access_token.reveal()}"]
    assert parse_qs(seen.body.decode()) == {}
