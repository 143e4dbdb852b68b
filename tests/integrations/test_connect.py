"""Adding a provider's account to a user whom the application knows already."""

from __future__ import annotations

from typing import Any

import pytest

from pauth import InvalidStateError, ReauthorizationRequired
from tests.client.kit import Bench, query_of
from tests.integrations.web_kit import HOST, Browser, Sites, web_client


def by_header(request: Any) -> str | None:
    """The application's own way to know its users."""
    user: str | None = request.headers.get("X-User")
    return user


async def also_by_header(request: Any) -> str | None:
    return by_header(request)


def as_user(browser: Browser, user: str | None) -> Browser:
    browser.client.headers.pop("X-User", None)
    if user is not None:
        browser.client.headers["X-User"] = user
    return browser


@pytest.mark.parametrize("hook", [by_header, also_by_header])
async def test_an_account_is_added_to_the_user_who_asked(sites: Sites, bench: Bench, hook: Any) -> None:
    client = web_client(bench)
    browser = as_user(await sites.browser(sites.login(client, current_user=hook)), "u-1")
    redirected = await browser.get("/page/files")
    page = await browser.get(redirected.headers["Location"])
    assert (page.status_code, "Continue" in page.text, page.headers.get_list("set-cookie")) == (200, True, [])
    started = await browser.press(page)
    done = await browser.get(await browser.decide(started, user="alice-at-the-provider"))
    assert done.headers["Location"] == "/page/files"
    assert browser.cookies == {}  # the session is the application's
    assert (await client.get_token("u-1")).subject == "alice-at-the-provider"
    assert (await browser.get("/token")).json()["subject"] == "alice-at-the-provider"
    assert await browser.who() == "u-1"
    assert await as_user(browser, "u-2").who() == "u-2"
    assert (await browser.get("/token")).status_code == 401
    assert await as_user(browser, None).who() is None


async def test_nobody_can_add_nothing(sites: Sites) -> None:
    browser = await sites.browser(current_user=by_header)
    for answer in (await browser.get("/auth/login"), await browser.post("/auth/login")):
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Cookie")


async def test_a_link_or_form_of_another_site_begins_nothing(sites: Sites, bench: Bench) -> None:
    """WS-5, CVE-2015-9284: else an attacker's account at the provider could be added to a victim who only follows a link."""
    browser = as_user(await sites.browser(current_user=by_header), "u-1")
    mallory = (await as_user(browser, "u-2").get("/form-token")).json()
    as_user(browser, "u-1")
    assert (await browser.get("/auth/login?csrf_token=x")).status_code == 200
    for data in ({}, {"csrf_token": mallory}):
        answer = await browser.post("/auth/login", data)
        assert (answer.status_code, "Location" in answer.headers) == (403, False)
    own = (await browser.get("/form-token")).json()
    assert (await browser.post("/auth/login", {"csrf_token": own, "next": "/page/1"})).status_code == 303
    assert (await browser.post("/auth/login", headers={"X-CSRF-Token": own})).status_code == 303
    bench.clock.advance(86_401)
    assert (await browser.post("/auth/login", {"csrf_token": own})).status_code == 403


async def test_what_was_begun_for_a_user_logs_nobody_in(sites: Sites, bench: Bench) -> None:
    """AX-5: the purpose is part of it, also for one client at one address."""
    client = web_client(bench)
    connecting = as_user(await sites.browser(sites.login(client, current_user=by_header)), "u-1")
    logging_in = await sites.browser(sites.login(client))
    callback = await connecting.decide(await connecting.press(await connecting.get("/auth/login")))
    await logging_in.start()
    ((name, value),), (there,) = connecting.cookies.items(), logging_in.attempts()
    assert name != there
    forged = there[: there.rindex("-")] + name[name.rindex("-") :]
    assert (await logging_in.get(callback, cookies={forged: value})).status_code == 400
    assert bench.exchanges() == 0


@pytest.mark.parametrize("finisher", ["u-2", None])
async def test_who_starts_has_to_finish(sites: Sites, bench: Bench, finisher: str | None) -> None:
    """AX-6: also in the same browser, with its cookie."""
    client = web_client(bench)
    browser = as_user(await sites.browser(sites.login(client, current_user=by_header)), "u-1")
    callback = await browser.decide(await browser.press(await browser.get("/auth/login")), user="mallory")
    assert (await as_user(browser, finisher).get(callback)).status_code == 400
    assert bench.exchanges() == 0
    for user in ("u-1", "u-2", "mallory"):
        with pytest.raises(ReauthorizationRequired):
            await client.get_token(user)
    assert (await as_user(browser, "u-1").get(callback)).status_code == 400  # its cookie has gone


async def test_the_client_itself_refuses_another_user_too(bench: Bench) -> None:
    """AX-6: the cookie is not the only lock."""
    client = web_client(bench)
    url = await client.get_authorization_url(user_id="u-1", session_id="CANARY-session")
    with pytest.raises(InvalidStateError, match="another user"):
        await client.handle_callback(await bench.server.authorize(url), user_id="u-2", session_id="CANARY-session")


async def test_disconnecting_leaves_the_user_logged_in(sites: Sites, bench: Bench) -> None:
    """WS-11"""
    client = web_client(bench)
    browser = as_user(await sites.browser(sites.login(client, current_user=by_header)), "u-1")
    await browser.get(await browser.decide(await browser.press(await browser.get("/auth/login"))))
    page = await browser.get("/auth/disconnect")
    assert "logged out" not in page.text
    assert (await browser.press(page)).status_code == 303
    assert (await browser.get("/token")).status_code == 401
    assert await browser.who() == "u-1"
    assert (await browser.get("/auth/logout")).status_code == 404  # not this login's to do
    as_user(browser, None)
    assert (await browser.get("/auth/disconnect")).headers["Location"] == "/"


async def test_one_provider_logs_in_and_another_is_added(sites: Sites, bench: Bench) -> None:
    """Two clients, one user: the second login asks the first who is here."""
    first = sites.login(web_client(bench))
    files = web_client(bench, f"{HOST}/files/callback")
    hook: Any = first.user_or_none
    browser = await sites.browser(first, sites.login(files, current_user=hook))
    await browser.log_in(user="alice")
    page = await browser.get("/files/login?next=/page/files")
    done = await browser.get(await browser.decide(await browser.press(page), user="alice-elsewhere"))
    assert done.headers["Location"] == "/page/files"
    assert (await browser.get("/tokens")).json() == ["alice", "alice"]
    assert (await files.get_token("alice")).subject == "alice-elsewhere"


async def test_the_confirmation_keeps_where_to_go_and_escapes_it(sites: Sites) -> None:
    browser = as_user(await sites.browser(current_user=by_header), "u-1")
    page = await browser.get("/auth/login?next=/page/%3Fa%3D%27%26amp%3Bb")
    assert "/page/?a=&#x27;&amp;amp;b" in page.text
    started = await browser.press(page)
    assert (await browser.get(await browser.decide(started))).headers["Location"] == "/page/?a='&amp;b"
    assert "next" not in query_of(started.headers["Location"])
