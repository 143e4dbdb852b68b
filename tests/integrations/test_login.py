"""A browser logs in, is known, and logs out: the way as it should go, in each framework."""

from __future__ import annotations

import re

from tests.client.kit import Bench, query_of
from tests.integrations.web_kit import REDIRECT_URI, Sites, web_client

QUIET = {"cache-control": "no-store", "referrer-policy": "no-referrer", "x-content-type-options": "nosniff"}


async def test_in_and_out(sites: Sites, bench: Bench) -> None:
    client = web_client(bench)
    browser = await sites.browser(sites.login(client))
    assert await browser.who() is None
    started = await browser.get("/auth/login?next=/page/7?tab=2")
    assert query_of(started.headers["Location"])["redirect_uri"] == REDIRECT_URI
    done = await browser.get(await browser.decide(started))
    assert (done.status_code, done.headers["Location"], done.text) == (303, "/page/7?tab=2", "")
    assert await browser.who() == "alice"
    assert (await browser.get("/token")).json()["subject"] == "alice"
    page = await browser.get("/auth/logout")
    assert await browser.who() == "alice"
    gone = await browser.press(page)
    assert (gone.status_code, gone.headers["Location"]) == (303, "/")
    assert (await browser.who(), browser.cookies) == (None, {})
    assert (await client.get_token("alice")).subject == "alice"  # programs may go on


async def test_no_answer_holds_what_is_the_server_s(sites: Sites, bench: Bench) -> None:
    """SH-1, AX-11: no code, state or verifier in what follows the redirect. Tokens and codes are canaries besides, which each browser looks for."""
    seen = bench.watch("token")
    browser = await sites.browser()
    callback = await browser.start()
    before = len(browser.answers)
    await browser.get(callback)
    await browser.get("/token")
    await browser.get(callback)
    await browser.press(await browser.get("/auth/disconnect"))
    secrets = {seen[0].params["code_verifier"], seen[0].params["code"], query_of(callback)["state"]}
    assert not [answer for answer in browser.answers[before:] for secret in secrets if secret in answer]


async def test_every_answer_is_kept_by_nobody_and_tells_nobody(sites: Sites) -> None:
    """AX-11: no-store and no-referrer on each, errors included; no frames; nothing from elsewhere on a page."""
    browser = await sites.browser()
    callback = await browser.start()
    answers = [
        await browser.get("/auth/login"),
        await browser.get("/auth/callback"),
        await browser.get(callback),
        await browser.get(callback),
        await browser.get("/auth/logout"),
        await browser.post("/auth/logout"),
        await browser.get("/auth/disconnect"),
        await browser.press(await browser.get("/auth/disconnect")),
        await browser.get("/auth/logout"),
    ]
    assert [answer.status_code for answer in answers] == [303, 400, 303, 400, 200, 403, 200, 303, 303]
    for answer in answers:
        assert {name: answer.headers[name] for name in QUIET} == QUIET
        if answer.status_code != 303:
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-frame-options"] == "DENY"
            assert not re.search(r"(?:src|href|url)[=(]\W*(?:https?:)?//|<script", answer.text)
    assert answers[2].headers["location"] == "/"


async def test_the_cookies_are_for_this_host_and_out_of_reach(sites: Sites) -> None:
    """WS-1"""
    browser = await sites.browser()
    started = await browser.get("/auth/login")
    done = await browser.get(await browser.decide(started))
    cookies = [cookie for answer in (started, done) for cookie in answer.headers.get_list("set-cookie")]
    assert len(cookies) == 3
    for cookie in cookies:
        assert re.fullmatch(r"__Host-pauth-[0-9a-f]{12}(?:-[0-9a-f]{16})?=[\w-]*; Path=/; Max-Age=\d+; HttpOnly; SameSite=Lax; Secure", cookie)


async def test_on_this_machine_http_will_do(sites: Sites, bench: Bench) -> None:
    """Browsers take no Secure cookie, and none that begins with __Host-, over http."""
    login = sites.login(web_client(bench, "http://127.0.0.1:8000/callback"))
    browser = await (await sites(login)).browser(base_url="http://127.0.0.1:8000")
    started = await browser.get("/login")
    (cookie,) = started.headers.get_list("set-cookie")
    assert re.fullmatch(r"pauth-[0-9a-f]{12}-[0-9a-f]{16}=[\w-]+; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax", cookie)


async def test_routes_at_the_root(sites: Sites, bench: Bench) -> None:
    login = sites.login(web_client(bench, "https://app.example/oauth2callback"))
    assert (login.login_url(), login.logout_url, login.disconnect_url) == ("/login", "/logout", "/disconnect")
    browser = await sites.browser(login)
    assert (await browser.log_in("/login")).status_code == 303
    assert await browser.who() == "alice"
    assert 'action="/logout"' in (await browser.get("/logout")).text
    assert 'action="/disconnect"' in (await browser.get("/disconnect")).text


async def test_a_callback_that_ends_with_a_slash(sites: Sites, bench: Bench) -> None:
    browser = await sites.browser(sites.login(web_client(bench, "https://app.example/auth/done/")))
    assert (await browser.log_in("/auth/login")).status_code == 303
    assert await browser.who() == "alice"


async def test_only_a_browser_that_asks_is_answered(sites: Sites) -> None:
    """AX-9: HEAD, which scanners of links send, spends no callback; nothing but GET and the forms' POST is there."""
    browser = await sites.browser()
    callback = await browser.start()
    for method in ("HEAD", "POST", "PUT", "DELETE", "PATCH"):
        assert (await browser.client.request(method, callback)).status_code == 405
    for path in ("/auth/login", "/auth/logout", "/auth/disconnect"):
        assert (await browser.client.head(path)).status_code == 405
    assert (await browser.post("/auth/login")).status_code == 405
    assert (await browser.get(callback)).status_code == 303


async def test_the_session_ends_by_itself(sites: Sites, bench: Bench) -> None:
    browser = await sites.browser(session_lifetime=7200)
    done = await browser.log_in()
    assert "Max-Age=7200" in done.headers.get_list("set-cookie")[-1]
    kept = browser.cookies
    bench.clock.advance(7199)
    assert await browser.who() == "alice"
    bench.clock.advance(2)
    browser.client.cookies.update(kept)  # whatever the browser makes of Max-Age
    assert await browser.who() is None


async def test_a_new_session_for_each_login(sites: Sites) -> None:
    """WS-3: what somebody knew before the login is worth nothing after it."""
    browser = await sites.browser()
    cookies: list[dict[str, str]] = []
    for user in ("alice", "alice", "bob"):
        await browser.log_in(user=user)
        cookies.append(browser.cookies)
        assert await browser.who() == user
    (name,) = cookies[0]
    assert len({each[name] for each in cookies}) == 3
    old = (await browser.get("/form-token")).json()
    await browser.log_in(user="bob")
    assert (await browser.post("/auth/logout", {"csrf_token": old})).status_code == 403  # bound to the session, not only to the user


async def test_after_login_and_after_logout(sites: Sites) -> None:
    browser = await sites.browser(after_login="/start?x=1", after_logout="/bye")
    assert (await browser.log_in()).headers["Location"] == "/start?x=1"
    assert (await browser.press(await browser.get("/auth/logout"))).headers["Location"] == "/bye"
    assert (await browser.get("/auth/logout")).headers["Location"] == "/bye"
    assert (await browser.post("/auth/logout")).headers["Location"] == "/bye"
    assert (await browser.get("/auth/disconnect")).headers["Location"] == "/bye"
    assert (await browser.post("/auth/disconnect")).headers["Location"] == "/bye"


async def test_what_is_asked_for(sites: Sites) -> None:
    browser = await sites.browser(scope=["openid", "email"], extra_params={"prompt": "consent"})
    asked = query_of((await browser.get("/auth/login")).headers["Location"])
    assert (asked["scope"], asked["prompt"]) == ("openid email", "consent")


async def test_nobody_is_told_to_log_in(sites: Sites) -> None:
    """WS-7: 401 for programs; pages lead to the login and back."""
    browser = await sites.browser()
    for path in ("/user", "/token"):
        answer = await browser.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"], answer.headers["cache-control"]) == (401, "Cookie", "no-store")
    answer = await browser.get("/page/a%20b/%C3%A4?q=1&q=%2F")
    assert (answer.status_code, answer.headers["cache-control"]) == (303, "no-store")
    done = await browser.log_in(answer.headers["Location"])
    assert done.headers["Location"] == "/page/a%20b/%C3%A4?q=1&q=%2F"
    assert (await browser.get(done.headers["Location"])).json()["subject"] == "alice"
    assert (await browser.get("/user")).json() == "alice"


async def test_what_was_posted_is_not_repeated_after_a_login(sites: Sites) -> None:
    browser = await sites.browser()
    assert (await browser.post("/page/order", {"a": "1"})).headers["Location"] == "/auth/login"
