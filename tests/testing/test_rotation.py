"""Refreshing: the six rotation classes of real servers (reliability.md 2.1)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pauth.core.quirks import RotationClass
from pauth.errors import ConfigurationError
from pauth.testing import AuthorizationServer
from tests.testing.kit import CALLBACK, Driver, driving

EVERY_CLASS = ["NR", "RO", "RG", "RU", "RS", "RSF"]
ROTATING = EVERY_CLASS[1:]


async def logged_in(driver: Driver) -> str:
    refresh_token: str = (await driver.login())["refresh_token"]
    return refresh_token


async def refreshed(driver: Driver, refresh_token: str) -> dict[str, Any]:
    answer = await driver.refresh(refresh_token)
    assert answer.status == 200, answer.error
    return answer.json


async def dead(driver: Driver, refresh_token: str) -> bool:
    """Whether the server refuses ``refresh_token``. Asking spends a live one."""
    answer = await driver.refresh(refresh_token)
    return (answer.status, answer.json.get("error")) == (400, "invalid_grant")


@pytest.mark.parametrize("rotation", EVERY_CLASS)
async def test_a_chain_of_refreshes_works_in_every_class(rotation: str) -> None:
    async with driving(rotation=rotation) as driver:
        refresh_token = await logged_in(driver)
        for _ in range(5):
            tokens = await refreshed(driver, refresh_token)
            assert (await driver.use(tokens["access_token"])).status == 200
            assert tokens.get("refresh_token") != refresh_token
            refresh_token = tokens.get("refresh_token", refresh_token)
        assert not driver.server.family_revoked("alice")


async def test_nr_keeps_the_token_and_sends_none() -> None:
    async with driving(rotation="NR") as driver:
        refresh_token = await logged_in(driver)
        assert "refresh_token" not in await refreshed(driver, refresh_token)
        assert driver.server.ledger[-1].refresh_token_out is None
        assert "refresh_token" not in await refreshed(driver, refresh_token)


async def test_ro_rotates_and_leaves_the_old_one_valid() -> None:
    async with driving(rotation="RO") as driver:
        old = await logged_in(driver)
        new = (await refreshed(driver, old))["refresh_token"]
        newest = (await refreshed(driver, new))["refresh_token"]
        driver.clock.advance(1e6)
        for token in (old, new, newest):
            await refreshed(driver, token)


async def test_rg_takes_the_previous_one_inside_the_grace_window() -> None:
    async with driving(rotation="RG", grace=30.0) as driver:
        old = await logged_in(driver)
        new = (await refreshed(driver, old))["refresh_token"]
        driver.clock.advance(30.0)
        twin = (await refreshed(driver, old))["refresh_token"]
        assert twin != new
        await refreshed(driver, new)
        await refreshed(driver, twin)
        assert not driver.server.family_revoked("alice")


async def test_rg_revokes_the_family_after_the_grace_window() -> None:
    async with driving(rotation="RG", grace=30.0) as driver:
        old = await logged_in(driver)
        tokens = await refreshed(driver, old)
        driver.clock.advance(30.1)
        assert await dead(driver, old)
        assert driver.server.family_revoked("alice")
        assert await dead(driver, tokens["refresh_token"])
        assert (await driver.use(tokens["access_token"])).status == 401


async def test_rg_counts_the_window_from_the_first_use() -> None:
    async with driving(rotation="RG", grace=30.0) as driver:
        old = await logged_in(driver)
        await refreshed(driver, old)
        driver.clock.advance(20.0)
        await refreshed(driver, old)
        driver.clock.advance(20.0)
        assert await dead(driver, old)


async def test_rg_takes_only_the_previous_one_inside_the_window() -> None:
    async with driving(rotation="RG", grace=30.0) as driver:
        oldest = await logged_in(driver)
        old = (await refreshed(driver, oldest))["refresh_token"]
        await refreshed(driver, old)
        assert await dead(driver, oldest)
        assert driver.server.family_revoked("alice")


async def test_ru_keeps_the_old_one_until_the_new_access_token_is_used() -> None:
    async with driving(rotation="RU") as driver:
        old = await logged_in(driver)
        await refreshed(driver, old)
        tokens = await refreshed(driver, old)
        assert (await driver.use(tokens["access_token"])).status == 200
        assert await dead(driver, old)
        assert not driver.server.family_revoked("alice")
        await refreshed(driver, tokens["refresh_token"])


async def test_ru_keeps_the_old_one_until_the_new_access_token_asks_for_userinfo() -> None:
    async with driving(rotation="RU") as driver:
        old = await logged_in(driver)
        tokens = await refreshed(driver, old)
        await driver.send("GET", driver.server.userinfo_endpoint, headers={"Authorization": f"Bearer {tokens['access_token']}"})
        assert await dead(driver, old)


async def test_ru_keeps_the_old_one_until_the_new_refresh_token_is_used() -> None:
    async with driving(rotation="RU") as driver:
        old = await logged_in(driver)
        new = (await refreshed(driver, old))["refresh_token"]
        newest = (await refreshed(driver, new))["refresh_token"]
        assert await dead(driver, old)
        assert not driver.server.family_revoked("alice")
        await refreshed(driver, newest)


async def test_ru_an_access_token_from_the_login_retires_nothing() -> None:
    async with driving(rotation="RU") as driver:
        tokens = await driver.login()
        await driver.use(tokens["access_token"])
        await refreshed(driver, tokens["refresh_token"])


async def test_rs_works_once_and_the_family_lives_on() -> None:
    async with driving(rotation="RS") as driver:
        old = await logged_in(driver)
        tokens = await refreshed(driver, old)
        assert await dead(driver, old)
        assert not driver.server.family_revoked("alice")
        assert (await driver.use(tokens["access_token"])).status == 200
        await refreshed(driver, tokens["refresh_token"])


async def test_rsf_works_once_and_reuse_revokes_the_family() -> None:
    async with driving(rotation="RSF") as driver:
        old = await logged_in(driver)
        tokens = await refreshed(driver, old)
        assert not driver.server.family_revoked("alice")
        assert await dead(driver, old)
        assert driver.server.family_revoked("alice")
        assert await dead(driver, tokens["refresh_token"])
        assert (await driver.use(tokens["access_token"])).status == 401


@pytest.mark.parametrize(
    ("rotation", "successes", "revoked"),
    [("NR", 20, False), ("RO", 20, False), ("RG", 20, False), ("RU", 20, False), ("RS", 1, False), ("RSF", 1, True)],
)
async def test_concurrent_reuse(rotation: str, successes: int, revoked: bool) -> None:
    async with driving(rotation=rotation) as driver:
        refresh_token = await logged_in(driver)
        answers = await asyncio.gather(*(driver.refresh(refresh_token) for _ in range(20)))
        assert sum(answer.status == 200 for answer in answers) == successes
        assert driver.server.ledger.count(grant_type="refresh_token", outcome="ok") == successes
        assert driver.server.ledger.count(grant_type="refresh_token", outcome="invalid_grant") == 20 - successes
        assert driver.server.family_revoked("alice") is revoked


async def test_one_family_a_login() -> None:
    async with driving(rotation="RSF") as driver:
        first = await driver.login()
        second = await driver.login()
        bob = await driver.login("bob")
        await refreshed(driver, first["refresh_token"])
        assert await dead(driver, first["refresh_token"])
        assert not driver.server.family_revoked("alice")  # it speaks of the latest
        assert not driver.server.family_revoked("bob")
        assert not driver.server.family_revoked("nobody")
        await refreshed(driver, second["refresh_token"])
        await refreshed(driver, bob["refresh_token"])


@pytest.mark.parametrize("rotation", ROTATING)
async def test_scope_narrows_for_one_access_token_only(rotation: str) -> None:
    async with driving(rotation=rotation) as driver:
        narrow = (await driver.refresh(await logged_in(driver), scope="read")).json
        assert narrow["scope"] == "read"
        assert (await driver.use(narrow["access_token"])).json["scope"] == "read"
        assert (await refreshed(driver, narrow["refresh_token"]))["scope"] == "openid email read"


async def test_a_wider_scope_is_refused_and_costs_nothing() -> None:
    async with driving(rotation="RSF") as driver:
        refresh_token = await logged_in(driver)
        for scope in ("read write", "read\x7f"):
            answer = await driver.refresh(refresh_token, scope=scope)
            assert (answer.status, answer.error) == (400, "invalid_scope")
        await refreshed(driver, refresh_token)


async def test_a_refresh_token_is_bound_to_its_client(driver: Driver) -> None:
    refresh_token, owner = await logged_in(driver), driver.client
    driver.client = driver.server.register_client("client-2", "CANARY-secret-2", redirect_uris=[CALLBACK])
    assert await dead(driver, refresh_token)
    driver.client = owner
    await refreshed(driver, refresh_token)


async def test_an_unknown_refresh_token(driver: Driver) -> None:
    assert await dead(driver, "CANARY-rt-unknown")


async def test_a_user_revoked_at_the_server(driver: Driver) -> None:
    alice, bob = await driver.login("alice"), await driver.login("bob")
    driver.server.revoke_user("alice")
    assert driver.server.family_revoked("alice")
    assert await dead(driver, alice["refresh_token"])
    assert (await driver.use(alice["access_token"])).status == 401
    assert (await driver.use(bob["access_token"])).status == 200


@pytest.mark.parametrize("rotation", [*EVERY_CLASS, *RotationClass])
def test_a_class_is_given_as_itself_or_by_name(rotation: str | RotationClass) -> None:
    assert AuthorizationServer(rotation=rotation).rotation.name == (rotation if isinstance(rotation, str) else rotation.name)


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="NR, RO, RG, RU, RS, RSF"):
        AuthorizationServer(rotation="rotating")


async def test_a_thousand_refreshes_at_once() -> None:
    async with driving(rotation="RSF") as driver:
        logins = [await driver.login(f"user-{number}", scope="read") for number in range(50)]
        tokens = [login["refresh_token"] for login in logins]
        for _ in range(4):
            answers = await asyncio.gather(*(driver.refresh(token) for token in tokens))
            tokens = [answer.json["refresh_token"] for answer in answers]
        assert driver.server.ledger.count(grant_type="refresh_token", outcome="ok") == 200
        burst = await asyncio.gather(*(driver.refresh("CANARY-rt-unknown") for _ in range(1000)))
        assert {answer.status for answer in burst} == {400}
