"""The double's device grant (RFC 8628): endpoint, page and polls."""

from __future__ import annotations

from typing import Any

import pytest

from pauth.errors import ConfigurationError
from pauth.testing import AuthorizationServer
from tests.testing.kit import FORM, Answer, Driver, driving

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


async def start(driver: Driver, **form: str) -> dict[str, Any]:
    answer = await driver.post(driver.server.device_authorization_endpoint, {"scope": "openid email", **form})
    assert answer.status == 200, answer.error
    return answer.json


async def poll(driver: Driver, started: dict[str, Any]) -> Answer:
    return await driver.post(driver.server.token_endpoint, {"grant_type": GRANT, "device_code": started["device_code"]})


async def test_a_device_login(driver: Driver) -> None:
    started = await start(driver)
    assert started.keys() == {"device_code", "user_code", "verification_uri", "verification_uri_complete", "expires_in", "interval"}
    assert (started["expires_in"], started["interval"]) == (600, 5)
    assert (await poll(driver, started)).error == "authorization_pending"
    driver.server.decide_device(started["user_code"].lower().replace("-", " "), user="bob")
    driver.clock.advance(5)
    tokens = (await poll(driver, started)).json
    assert (tokens["scope"], "refresh_token" in tokens, "id_token" in tokens) == ("openid email", True, True)
    assert (await driver.use(tokens["access_token"])).json["user"] == "bob"
    assert (await poll(driver, started)).error == "invalid_grant"
    outcomes = [(entry.endpoint, entry.outcome, entry.user) for entry in driver.server.ledger if entry.endpoint != "device"]
    assert outcomes == [
        ("device_authorization", "ok", None),
        ("token", "authorization_pending", None),
        ("token", "ok", "bob"),
        ("token", "invalid_grant", None),
    ]
    assert driver.server.ledger[-1].grant_type == GRANT


async def test_who_asks_too_soon_is_slowed_down_for_good(driver: Driver) -> None:
    started = await start(driver)
    answers: list[str | None] = []
    for seconds in (0, 5, 3, 6, 10, 15):
        driver.clock.advance(seconds)
        answers.append((await poll(driver, started)).error)
    assert answers == ["authorization_pending", "authorization_pending", "slow_down", "slow_down", "slow_down", "slow_down"]
    driver.clock.advance(25)
    assert (await poll(driver, started)).error == "authorization_pending"


async def test_the_interval_may_be_left_to_the_usual_one() -> None:
    async with driving(device_interval=None) as driver:
        started = await start(driver)
        assert "interval" not in started
        await poll(driver, started)
        driver.clock.advance(4)
        assert (await poll(driver, started)).error == "slow_down"


async def test_no_and_too_late() -> None:
    async with driving(device_code_lifetime=30) as driver:
        denied, late = await start(driver), await start(driver)
        driver.server.decide_device(denied["user_code"], deny=True)
        assert (await poll(driver, denied)).error == "access_denied"
        with pytest.raises(ConfigurationError, match="no device login waits"):
            driver.server.decide_device(denied["user_code"])
        driver.clock.advance(30)
        with pytest.raises(ConfigurationError, match="no device login waits"):
            driver.server.decide_device(late["user_code"])
        assert (await poll(driver, late)).error == "expired_token"


async def test_the_user_may_allow_less(driver: Driver) -> None:
    for scope in ("openid", ["openid"]):
        started = await start(driver)
        driver.server.decide_device(started["user_code"], scope=scope)
        assert (await poll(driver, started)).json["scope"] == "openid"


async def test_a_device_code_is_the_clients_own(driver: Driver) -> None:
    started = await start(driver)
    driver.server.decide_device(started["user_code"])
    other = driver.server.register_client("client-2", "CANARY-other")
    assert other.client_secret is not None
    form = {"grant_type": GRANT, "device_code": started["device_code"], "client_id": "client-2", "client_secret": "CANARY-other"}
    driver.server.register_client("client-2", "CANARY-other", auth_method="client_secret_post")
    assert (await driver.post(driver.server.token_endpoint, form, {})).error == "invalid_grant"
    assert (await poll(driver, {"device_code": "CANARY-unknown"})).error == "invalid_grant"


async def test_who_may_not_is_refused(driver: Driver) -> None:
    driver.server.register_client(driver.client.client_id, driver.client.client_secret, grant_types=["authorization_code"])
    answer = await driver.post(driver.server.device_authorization_endpoint, {})
    assert (answer.status, answer.error) == (400, "unauthorized_client")
    assert (await poll(driver, {"device_code": "CANARY"})).error == "unauthorized_client"
    assert (await driver.send("GET", driver.server.device_authorization_endpoint)).status == 405
    wrong = await driver.post(driver.server.device_authorization_endpoint, {"scope": "a"}, {"Authorization": "Basic eA=="})
    assert (wrong.status, wrong.error) == (401, "invalid_client")


async def test_the_page_asks_for_the_code_and_for_a_decision(driver: Driver) -> None:
    started = await start(driver)
    empty = await driver.send("GET", started["verification_uri"])
    assert b'name="user_code"' in empty.body
    page = await driver.send("GET", started["verification_uri_complete"])
    assert (page.status, b"Let client-1 in?" in page.body) == (200, True)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    form = f"user_code={started['user_code']}&user=carol&scope=openid&decision="
    nobody = await driver.send("POST", started["verification_uri"], data=form.replace("carol", "") + "allow", headers=FORM)
    assert (nobody.status, b"nobody is logged in" in nobody.body) == (400, True)
    done = await driver.send("POST", started["verification_uri"], data=form + "allow", headers=FORM)
    assert (done.status, b"Go back to your device" in done.body) == (200, True)
    assert (driver.server.ledger[-1].user, driver.server.ledger[-1].client_id) == ("carol", "client-1")
    assert (await poll(driver, started)).json["scope"] == "openid"
    again = await driver.send("POST", started["verification_uri"], data=form + "allow", headers=FORM)
    assert (again.status, b"no device waits for this code" in again.body) == (400, True)
    assert (await driver.send("GET", started["verification_uri_complete"])).status == 400


async def test_the_pages_no(driver: Driver) -> None:
    started = await start(driver)
    form = f"user_code={started['user_code']}&user=carol&decision=deny"
    assert (await driver.send("POST", started["verification_uri"], data=form, headers=FORM)).status == 200
    assert driver.server.ledger[-1].outcome == "access_denied"
    assert (await poll(driver, started)).error == "access_denied"


def test_a_server_that_was_never_started() -> None:
    with pytest.raises(ConfigurationError, match="was not started"):
        AuthorizationServer().decide_device("BCDF-GHJK")
