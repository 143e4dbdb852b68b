"""Forms: logging out and disconnecting need one of this site's own; what is posted is read with care."""

from __future__ import annotations

from typing import Any

import pytest

from pauth import ReauthorizationRequired
from pauth.errors import StorageUnavailable
from pauth.integrations import aiohttp as in_aiohttp
from pauth.integrations import fastapi as in_fastapi
from pauth.testing import faults
from tests.client.kit import Bench
from tests.integrations.web_kit import HOST, Sites, web_client


@pytest.mark.parametrize("route", ["logout", "disconnect"])
async def test_a_form_of_another_site_does_nothing(sites: Sites, bench: Bench, route: str) -> None:
    """WS-5"""
    client = web_client(bench)
    site = await sites(sites.login(client))
    browser, other, mallory = await site.browser(), await site.browser(), await site.browser()
    await browser.log_in()
    await other.log_in()  # the same user, elsewhere
    await mallory.log_in(user="mallory")
    foreign = [(await each.get("/form-token")).json() for each in (other, mallory)]
    for data in ({}, {"csrf_token": ""}, {"csrf_token": "x" * 100}, {"csrf_token": foreign[0]}, {"csrf_token": foreign[1]}, {"x": "1" * 70_000}):
        answer = await browser.post(f"/auth/{route}", data)
        assert (answer.status_code, answer.headers.get_list("set-cookie")) == (403 if len(str(data)) < 70_000 else 413, [])
    assert await browser.who() == "alice"
    assert (await client.get_token("alice")).subject == "alice"
    own = (await browser.get("/form-token")).json()
    twice = await browser.client.post(f"/auth/{route}", content=f"csrf_token={own}&csrf_token={own}", headers=FORM)
    as_text = await browser.client.post(f"/auth/{route}", content=f"csrf_token={own}", headers={"Content-Type": "text/plain"})
    in_query = await browser.post(f"/auth/{route}?csrf_token={own}")
    assert [answer.status_code for answer in (twice, as_text, in_query)] == [403] * 3
    assert (await browser.post(f"/auth/{route}", {"csrf_token": own})).status_code == 303


FORM = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}


@pytest.mark.parametrize("body", [b"\xff\xfe", b"csrf_token=%ff", b"&" * 100, b"csrf_token", b"=" * 1000, b"\x00" * 10])
async def test_a_body_that_is_no_form(sites: Sites, body: bytes) -> None:
    """WS-8"""
    browser = await sites.browser()
    await browser.log_in()
    assert (await browser.client.post("/auth/logout", content=body, headers=FORM)).status_code == 403


async def test_the_application_s_own_form_and_its_own_script(sites: Sites) -> None:
    browser = await sites.browser()
    assert (await browser.get("/form-token")).json() == ""
    await browser.log_in()
    tokens = [(await browser.get("/form-token")).json() for _ in range(2)]
    assert tokens[0] != tokens[1]  # so that compression tells nothing of it
    assert (await browser.post("/auth/logout", {"csrf_token": tokens[0]})).status_code == 303
    await browser.log_in()
    assert (await browser.post("/auth/logout", headers={"X-CSRF-Token": tokens[1]})).status_code == 403  # of the session before
    new = (await browser.get("/form-token")).json()
    assert (await browser.post("/auth/logout", headers={"X-CSRF-Token": new})).status_code == 303
    assert await browser.who() is None


async def test_a_form_is_good_for_a_day(sites: Sites, bench: Bench) -> None:
    browser = await sites.browser(session_lifetime=10 * 86_400)
    await browser.log_in()
    page = await browser.get("/auth/logout")
    bench.clock.advance(86_401)
    assert (await browser.press(page)).status_code == 403
    assert (await browser.press(await browser.get("/auth/logout"))).status_code == 303


@pytest.mark.parametrize("route", ["logout", "disconnect"])
async def test_a_browser_that_sends_no_cookie_is_not_told_to_remove_any(sites: Sites, route: str) -> None:
    """WS-5: with another site's form it sends none, but it would do what the answer says."""
    browser = await sites.browser()
    await browser.log_in()
    await browser.start()
    for answer in (await browser.client.post(f"/auth/{route}", headers={"Cookie": ""}), await browser.get(f"/auth/{route}", cookies={})):
        assert (answer.status_code, answer.headers.get_list("set-cookie")) == (303, [])
    assert await browser.who() == "alice"


async def test_logging_out_ends_what_was_begun(sites: Sites) -> None:
    """WS-3: attempts of before are no use to whoever sits down next."""
    browser = await sites.browser()
    await browser.log_in()
    callback = await browser.start()
    await browser.press(await browser.get("/auth/logout"))
    assert browser.cookies == {}
    assert (await browser.get(callback)).status_code == 400


async def test_disconnecting_gives_up_the_tokens_of_this_provider_only(sites: Sites, bench: Bench) -> None:
    """WS-11: and says that it logs out."""
    first, second = web_client(bench), web_client(bench, f"{HOST}/second/callback")
    browser = await sites.browser(sites.login(first), sites.login(second))
    await browser.log_in()
    await browser.log_in("/second/login")
    page = await browser.get("/auth/disconnect")
    assert "you will be logged out" in page.text
    assert (await browser.press(page)).status_code == 303
    assert bench.server.ledger.count(endpoint="revoke") > 0
    with pytest.raises(ReauthorizationRequired):
        await first.get_token("alice")
    assert (await second.get_token("alice")).subject == "alice"
    assert (await browser.get("/tokens")).json() == [None, "alice"]


async def test_the_last_way_in_is_not_given_up_unless_the_application_lets_it(sites: Sites, bench: Bench) -> None:
    """WS-11: it is asked before anything is revoked, and only after a form of the site's own."""
    client = web_client(bench)
    ways_in = {"alice": 1}
    asked: list[tuple[str, str]] = []

    async def on_disconnect(request: Any, user_id: str) -> None:
        asked.append((request.url.path, user_id))
        if ways_in[user_id] == 1:
            raise in_fastapi.DisconnectRefused("Set a <password> first.")

    browser = await sites.browser(sites.login(client, on_disconnect=on_disconnect))
    await browser.log_in()
    assert (await browser.post("/auth/disconnect", {"csrf_token": "CANARY-x"})).status_code == 403
    assert asked == []
    refused = await browser.press(await browser.get("/auth/disconnect"))
    assert (refused.status_code, "Set a &lt;password&gt; first." in refused.text, refused.headers.get_list("set-cookie")) == (403, True, [])
    assert (await browser.get("/token")).status_code == 200
    assert bench.server.ledger.count(endpoint="revoke") == 0
    ways_in["alice"] = 2
    assert (await browser.press(await browser.get("/auth/disconnect"))).status_code == 303
    assert (await browser.who(), bench.server.ledger.count(endpoint="revoke") > 0) == (None, True)
    assert asked == [("/auth/disconnect", "alice")] * 2
    assert in_aiohttp.DisconnectRefused is in_fastapi.DisconnectRefused


async def test_what_on_disconnect_asks_may_fail(sites: Sites, bench: Bench) -> None:
    """WS-7, WS-11: then nothing is given up."""

    async def on_disconnect(request: Any, user_id: str) -> None:
        raise StorageUnavailable("the application's own users cannot be had")

    browser = await sites.browser(on_disconnect=on_disconnect)
    await browser.log_in()
    assert (await browser.press(await browser.get("/auth/disconnect"))).status_code == 503
    assert (await browser.get("/token")).status_code == 200


async def test_a_server_that_does_not_revoke_is_asked_again(sites: Sites, bench: Bench) -> None:
    client = web_client(bench)
    browser = await sites.browser(sites.login(client))
    await browser.log_in()
    bench.server.script("revoke", faults.status(503), times=1)
    failed = await browser.press(await browser.get("/auth/disconnect"))
    assert (failed.status_code, "retry-after" in failed.headers) == (503, True)
    assert (await browser.get("/token")).status_code == 401  # nothing of it is handed out
    assert (await browser.press(await browser.get("/auth/disconnect"))).status_code == 303
    assert await browser.who() is None


async def test_no_link_and_no_other_server_ends_a_session(sites: Sites, bench: Bench) -> None:
    """WS-5: by what a front-channel logout or a back-channel logout would send. Neither is supported (docs/threat-model.md)."""
    browser = await sites.browser()
    await browser.log_in()
    assert (await browser.get("/auth/logout?iss=https://evil.example&sid=1")).status_code == 200
    assert (await browser.post("/auth/logout", {"logout_token": "e30.e30.x"})).status_code == 403
    assert bench.server.ledger.count(endpoint="revoke") == 0
    assert await browser.who() == "alice"
