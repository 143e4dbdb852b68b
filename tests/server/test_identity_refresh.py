"""ID tokens that come with a refresh (TE-14, OpenID Connect Core 12.2). The refresh token is spent by then: what can be kept is kept."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any

import pytest

from pauth.core.token import Token
from pauth.errors import Remedy, UntrustedServer
from pauth.secret import Secret
from pauth.testing import faults
from pauth.testing.messages import SeenRequest
from tests.core.id_token_kit import OTHER_RSA, RSA
from tests.server.kit import Bench, bench, key_set
from tests.transport.kit import assert_bare


def _refresh(request: SeenRequest) -> bool:
    return request.grant_type == "refresh_token"


def _rotated(new: Token, old: Token) -> bool:
    return new.access_token != old.access_token and new.refresh_token != old.refresh_token and new.refresh_token is not None


async def test_a_checked_id_token_replaces_the_old_one() -> None:
    async with bench() as made:
        old = await made.token()
        made.clock.advance(100)
        new = await made.endpoints.refresh(old)
    assert _rotated(new, old)
    assert new.id_token is not None
    assert new.id_token != old.id_token
    assert new.subject == "alice"


async def test_te13_without_a_new_id_token_the_old_one_stays() -> None:
    async with bench() as made:
        old = await made.token()
        made.server.script("token", faults.omit("id_token", "refresh_token"))
        new = await made.endpoints.refresh(old)
    assert new.id_token == old.id_token
    assert new.refresh_token == old.refresh_token
    assert new.access_token != old.access_token
    assert new.subject == "alice"


async def _with_other_keys(made: Bench) -> Token:
    """A login, with the server's keys changed to ones that the test can sign with."""
    token = await made.token()
    made.server.script("jwks", faults.body(json.dumps(key_set(OTHER_RSA))), times=None)
    made.restart()
    return token


@pytest.mark.parametrize(
    "claims",
    [{"sub": "mallory"}, {"sub": "ALICE"}, {"iss": "https://evil.example"}, {"sub": "mallory", "exp": 1}],
    ids=["another user", "another user by case", "another issuer", "another user, and expired"],
)
@pytest.mark.parametrize("key", [OTHER_RSA, RSA], ids=["signed", "forged"])
async def test_te14_an_id_token_of_another_user_spoils_the_whole_answer(key: object, claims: dict[str, Any]) -> None:
    async with bench() as made:
        old = await _with_other_keys(made)
        made.server.script("token", faults.override(id_token=made.id_token(key=key, **claims)), when=_refresh)
        with pytest.raises(UntrustedServer, match="another user") as caught:
            await made.endpoints.refresh(old)
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN
    assert caught.value.status == 200  # so that nobody takes the refresh token for unspent (P2)
    assert_bare(caught.value)


async def test_te14_the_same_key_and_user_would_have_passed() -> None:
    async with bench() as made:
        old = await _with_other_keys(made)
        made.server.script("token", faults.override(id_token=made.id_token()), when=_refresh)
        new = await made.endpoints.refresh(old)
    assert new.id_token not in {None, old.id_token}


_UNCHECKABLE = [
    pytest.param({"key": RSA}, id="signed with an unknown key"),
    pytest.param({"exp": 1}, id="expired"),
    pytest.param({"aud": "client-2"}, id="for another client"),
    pytest.param({"nonce": Secret("CANARY-nonce-2")}, id="with a nonce of its own"),
    pytest.param({"auth_time": 1}, id="of another login of the same user"),
]


@pytest.mark.parametrize("changes", _UNCHECKABLE)
async def test_p4_an_id_token_that_fails_otherwise_does_not_cost_the_rotation(changes: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as made:
        old = await _with_other_keys(made)
        made.server.script("token", faults.override(id_token=made.id_token(**changes)), when=_refresh)
        new = await made.endpoints.refresh(old)
    assert _rotated(new, old)
    assert new.id_token == old.id_token
    assert new.subject == "alice"
    (record,) = [record for record in caplog.records if record.name == "pauth.server.identity"]
    assert record.levelno == logging.WARNING
    assert "is not kept" in record.getMessage()


@pytest.mark.parametrize("fault", [faults.status(503), faults.drop_before(), faults.body("{}"), faults.status(404)])
async def test_p4_keys_that_cannot_be_had_do_not_cost_the_rotation(fault: faults.Fault, caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as made:
        old = await made.token()
        made.restart()
        made.server.script("jwks", fault, times=None)
        new = await made.endpoints.refresh(old)
        order = [entry.endpoint for entry in made.server.ledger][-2:]
    assert _rotated(new, old)
    assert new.id_token == old.id_token
    assert "could not be fetched" in caplog.text
    assert order[-1] == "token"  # nothing is asked for after the refresh token is spent


@pytest.mark.parametrize("id_token", [None, Secret("CANARY.stored.elsewhere")], ids=["none", "unreadable"])
async def test_an_id_token_that_nothing_can_be_compared_with_is_not_kept(id_token: Secret | None) -> None:
    async with bench() as made:
        old = dataclasses.replace(await made.token(), id_token=id_token)
        new = await made.endpoints.refresh(old)
    assert _rotated(new, old)
    assert new.id_token == id_token


async def test_tokens_without_an_id_token_need_no_keys() -> None:
    async with bench() as made:
        old = await made.token(("email",))
        await made.endpoints.refresh(old)
        assert made.server.ledger.count(endpoint="jwks") == 0


async def test_a_server_that_has_no_keys_any_more_does_not_cost_the_rotation() -> None:
    async with bench() as made:
        old = await made.token()
        made.server.script("metadata", faults.omit("jwks_uri"), times=None)
        made.restart()
        new = await made.endpoints.refresh(old)
    assert _rotated(new, old)
    assert new.id_token == old.id_token
