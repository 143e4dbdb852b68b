"""The ledgers: append-only, in hashes, and nothing of the server prints a secret (SH-1)."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

import pauth.testing
from pauth.testing import LedgerEntry, token_hash
from tests.testing.kit import Driver


def test_a_token_is_named_by_its_sha256() -> None:
    assert token_hash("CANARY-x") == hashlib.sha256(b"CANARY-x").hexdigest()
    assert token_hash("CANARY-\udc80") != token_hash("CANARY-\udc81")


async def test_a_chain_of_refreshes_is_a_chain_in_the_ledger_k3(driver: Driver) -> None:
    tokens = [await driver.login()]
    for _ in range(3):
        driver.clock.advance(10.0)
        tokens.append((await driver.refresh(tokens[-1]["refresh_token"])).json)
    entries = driver.server.ledger.select(endpoint="token", outcome="ok", user="alice", client_id="client-1")
    assert [entry.grant_type for entry in entries] == ["authorization_code", *["refresh_token"] * 3]
    assert [entry.refresh_token_in for entry in entries] == [None, *(token_hash(token["refresh_token"]) for token in tokens[:-1])]
    assert [entry.refresh_token_out for entry in entries] == [token_hash(token["refresh_token"]) for token in tokens]
    assert [entry.access_token_out for entry in entries] == [token_hash(token["access_token"]) for token in tokens]
    assert [entry.at - entries[0].at for entry in entries] == [0.0, 10.0, 20.0, 30.0]


async def test_counting(driver: Driver) -> None:
    tokens = await driver.login()
    await driver.refresh(tokens["refresh_token"])
    await driver.refresh("CANARY-rt-unknown")
    ledger = driver.server.ledger
    assert ledger.count() == len(ledger) == len(list(ledger)) == 5
    assert ledger.count(endpoint="token", grant_type="refresh_token") == 2
    assert ledger.count(endpoint="token", grant_type="refresh_token", outcome="ok") == 1
    assert ledger.count(outcome="invalid_grant") == 1
    assert ledger.count(user="bob") == ledger.count(client_id="client-2") == 0
    assert ledger.count(where=lambda entry: entry.refresh_token_in == token_hash("CANARY-rt-unknown")) == 1
    assert ledger[-1].user is None


async def test_entries_are_frozen(driver: Driver) -> None:
    await driver.login()
    with pytest.raises(dataclasses.FrozenInstanceError):
        driver.server.ledger[0].outcome = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(driver.server.ledger[0], LedgerEntry)


async def test_nothing_prints_a_secret_sh_1(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    tokens = await driver.login()
    await driver.refresh(tokens["refresh_token"])
    await driver.use(tokens["access_token"])
    await driver.revoke(tokens["refresh_token"])
    server = driver.server
    state = server._state  # pyright: ignore[reportPrivateUsage]
    shown = [repr(thing) for thing in (server, driver.client, server.ledger, server.uses, *server.ledger, *server.uses, state, vars(state))]
    shown.extend(record.getMessage() for record in caplog.records)
    assert "CANARY" not in "\n".join(shown).replace("'secret_marker': 'CANARY-'", "")
    assert repr(server) == f"<AuthorizationServer {server.issuer}>"
    assert repr(server.ledger) == f"<Ledger of {len(server.ledger)} entries>"


def test_the_public_names() -> None:
    assert sorted(pauth.testing.__all__) == pauth.testing.__all__
    for name in pauth.testing.__all__:
        assert hasattr(pauth.testing, name)
