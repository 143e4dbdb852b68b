"""Logins under way: bound to the browser, in tabs beside each other, bounded in number."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from pauth import MemoryTokenStorage
from pauth.integrations._attempts import Attempts, new_secret
from pauth.integrations._budget import StartBudget
from pauth.integrations._cookies import CookieSealer, cookies_of
from pauth.testing import ManualClock
from tests.client.kit import Bench, query_of
from tests.integrations.web_kit import HOST, KEY, REDIRECT_URI, Sites, web_client
from tests.storage.kit import DictStorage


@pytest.mark.parametrize("storage", ["memory", "sqlite", "three methods"])
async def test_a_callback_in_another_browser_is_refused(sites: Sites, bench: Bench, storage: str) -> None:
    """AX-2, for each kind of place where the state is kept: no session, no token stored, and the code is not exchanged."""
    client = web_client(bench, token_storage=bench.storage(storage))
    site = await sites(sites.login(client))
    attacker, victim, busy_victim = await site.browser(), await site.browser(), await site.browser()
    callback = await attacker.start(user="mallory")
    await busy_victim.start()
    for browser in (victim, busy_victim):
        answer = await browser.get(callback)
        assert (answer.status_code, answer.headers.get_list("set-cookie")) == (400, [])
        assert await browser.who() is None
    assert bench.exchanges() == 0
    assert (await attacker.get(callback)).status_code == 303  # it was not spent by the others


async def test_a_denial_in_another_browser_is_refused_without_repeating_it(sites: Sites) -> None:
    """AX-1, AX-2"""
    site = await sites()
    callback = await (await site.browser()).start(deny=True)
    answer = await (await site.browser()).get(callback)
    assert (answer.status_code, "access_denied" in answer.text) == (400, False)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_tabs_do_not_disturb_each_other(sites: Sites, order: tuple[int, ...]) -> None:
    """WS-1, E18: each login has a cookie of its own, whichever is done first."""
    browser = await sites.browser()
    callbacks = [await browser.start(f"/auth/login?next=/page/{number}", user=f"user-{number}") for number in range(3)]
    assert len(browser.attempts()) == 3
    for number in order:
        assert (await browser.get(callbacks[number])).headers["Location"] == f"/page/{number}"
        assert await browser.who() == f"user-{number}"
    assert browser.attempts() == []


async def test_a_callback_serves_once(sites: Sites, bench: Bench) -> None:
    """AX-3"""
    browser = await sites.browser()
    callback = await browser.start()
    kept = browser.cookies
    answers = await asyncio.gather(*(browser.get(callback, cookies=kept) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [303] + [400] * 9
    browser.client.cookies.update(kept)
    assert (await browser.get(callback)).status_code == 400
    assert bench.exchanges() == 1


async def test_a_login_ends_after_ten_minutes_whatever_the_browser_keeps(sites: Sites, bench: Bench) -> None:
    """AX-4"""
    browser = await sites.browser()
    started = [await browser.get("/auth/login") for _ in range(2)]
    bench.clock.advance(599)
    callbacks = [await browser.decide(each) for each in started]
    kept = browser.cookies
    assert (await browser.get(callbacks[0])).status_code == 303
    bench.clock.advance(2)
    assert (await browser.get(callbacks[1], cookies=kept)).status_code == 400
    assert bench.exchanges() == 1


async def test_a_cookie_of_an_attempt_ends_after_an_hour_by_itself(sites: Sites, bench: Bench) -> None:
    """AX-4: even for a client that waits as long as it may."""
    browser = await sites.browser(sites.login(web_client(bench, login_timeout=3600)))
    callback = await browser.start()
    bench.clock.advance(3601)
    assert (await browser.get(callback)).status_code == 400


async def test_a_cookie_means_nothing_to_another_login(sites: Sites, bench: Bench) -> None:
    """AX-5, WS-2: another client, another redirect URI or another purpose, on one key and one storage, even if the cookie is given the name there."""
    storage = DictStorage()
    first = web_client(bench, token_storage=storage)
    second = web_client(bench, f"{HOST}/second/callback", token_storage=storage)
    site = await sites(sites.login(first), sites.login(second))
    browser = await site.browser()
    callback = await browser.start()
    assert (await browser.get(callback.replace("/auth/", "/second/"))).status_code == 400
    other = await site.browser()
    await other.start("/second/login")
    (mine,), (theirs,) = browser.attempts(), other.attempts()
    name = theirs[: theirs.rindex("-")] + mine[mine.rindex("-") :]
    assert (await browser.get(callback.replace("/auth/", "/second/"), cookies={name: browser.cookies[mine]})).status_code == 400
    assert bench.exchanges() == 0
    assert (await browser.get(callback)).status_code == 303
    assert (await browser.get("/tokens")).json() == ["alice", None]
    (session,) = browser.cookies
    there = theirs[: theirs.rindex("-")]
    assert (await other.get("/tokens", cookies={there: browser.cookies[session]})).json() == [None, None]


@pytest.mark.parametrize(("client_id", "path"), [("another", "/auth"), ("web-auth-callback", "/another")])
async def test_a_cookie_is_for_one_client_at_one_redirect_uri(sites: Sites, bench: Bench, client_id: str, path: str) -> None:
    """AX-5, WS-2: either is enough to make it worthless, as between two stages of one application that share a key."""
    one = await sites.browser(sites.login(web_client(bench)))
    two = await sites.browser(sites.login(bench.client(client_id=client_id, redirect_uri=f"{HOST}{path}/callback")))
    await one.log_in()
    await two.get(f"{path}/login")
    ((mine, session),), (theirs,) = one.cookies.items(), two.attempts()
    there = theirs[: theirs.rindex("-")]
    assert there != mine
    assert (await one.get("/who", cookies={mine: session})).json() == "alice"
    assert (await two.get("/who", cookies={there: session})).json() is None


async def test_neither_kind_of_cookie_passes_for_the_other(sites: Sites) -> None:
    """WS-2, CVE-2023-48309"""
    site = await sites()
    browser, other = await site.browser(), await site.browser()
    callback = await browser.start()
    (attempt,) = browser.attempts()
    sealed = browser.cookies[attempt]
    session = attempt[: attempt.rindex("-")]
    assert (await other.get("/who", cookies={session: sealed})).json() is None
    await browser.get(callback)
    form_token = (await browser.get("/form-token")).json()
    for name, value in ((session, form_token), (attempt, browser.cookies[session]), (attempt, form_token)):
        assert (await other.get("/who", cookies={name: value})).json() is None
        assert (await other.get(callback, cookies={name: value})).status_code == 400
    assert (await browser.post("/auth/logout", {"csrf_token": browser.cookies[session]})).status_code == 403
    assert (await browser.post("/auth/logout", {"csrf_token": sealed})).status_code == 403


class CountedStorage(MemoryTokenStorage):
    """Knows which logins wait in it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.waiting: set[str] = set()

    async def put_pending(self, pending_id: str, payload: Mapping[str, Any], *, expires_at: float) -> None:
        self.waiting.add(pending_id)
        await super().put_pending(pending_id, payload, expires_at=expires_at)

    async def take_pending(self, pending_id: str) -> dict[str, Any] | None:
        self.waiting.discard(pending_id)
        return await super().take_pending(pending_id)


async def test_cookies_stay_few_and_so_do_the_rows_behind_them(sites: Sites, bench: Bench) -> None:
    """WS-1, CVE-2021-22119: five at most, the oldest goes; what waited for it in the store is gone too, and the newest still works."""
    storage = CountedStorage(clock=bench.clock)
    browser = await sites.browser(sites.login(web_client(bench, token_storage=storage)))
    callbacks: list[str] = []
    for number in range(100):
        started = await browser.get(f"/auth/login?next=/page/{'x' * (number * 10)}")
        bench.clock.advance(1)
        sent = sum(len(name) + len(value) + 3 for name, value in browser.cookies.items())
        assert sent < 4096
        assert len(browser.attempts()) <= 5
        if number in {0, 49, 99}:
            callbacks.append(await browser.decide(started))
        assert len(storage.waiting) == len(browser.attempts())
    assert [(await browser.get(callback)).status_code for callback in callbacks] == [400, 400, 303]


async def test_what_is_no_attempt_any_more_is_removed(sites: Sites) -> None:
    browser = await sites.browser()
    await browser.start()
    (name,) = browser.attempts()
    browser.client.cookies.delete(name)
    forged = f"{name[: name.rindex('-')]}-{'0' * 16}"
    browser.client.cookies.set(forged, "x" * 100, domain="app.example")
    answer = await browser.get("/auth/login")
    assert any(cookie.startswith(f"{forged}=; Path=/; Max-Age=0;") for cookie in answer.headers.get_list("set-cookie"))
    assert forged not in browser.cookies


async def test_one_address_cannot_start_logins_without_end(sites: Sites, bench: Bench) -> None:
    """WS-1"""
    site = await sites(starts_per_minute=3)
    answers = [await (await site.browser()).get("/auth/login") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [303, 303, 303, 429]
    assert answers[-1].headers["retry-after"] == "60"
    bench.clock.advance(20)
    assert (await (await site.browser()).get("/auth/login")).status_code == 303
    assert (await (await site.browser()).get("/auth/login")).status_code == 429
    unlimited = await sites(starts_per_minute=None)
    assert {(await (await unlimited.browser()).get("/auth/login")).status_code for _ in range(5)} == {303}


def test_an_attempt_ends_by_its_own_time_too() -> None:
    """AX-4"""
    clock = ManualClock()
    attempts = Attempts(CookieSealer(KEY), name="pauth", purpose="x", secure=True, same_site="Lax", clock=clock)
    state = new_secret()
    cookie, _ = attempts.begin(state=state, secret=new_secret(), next_path="/", user_id=None)
    cookies = cookies_of([cookie.partition(";")[0]])
    clock.advance(3599)
    assert attempts.find(state, cookies) is not None
    assert attempts.crowded_out(cookies, room_for=100) == ([], [])
    clock.advance(1)
    assert attempts.find(state, cookies) is None
    assert attempts.crowded_out(cookies, room_for=100)[1] == [f"{next(iter(cookies))}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"]


def test_a_budget_is_one_customer_s_and_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    budget = StartBudget(2, clock)
    same: list[list[str | None]] = [
        ["198.51.100.1"],
        ["::ffff:198.51.100.2", "198.51.100.2"],
        ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2"],
        [None, "", "unix:"],
    ]
    for addresses in same:
        taken = [budget.take(addresses[turn % len(addresses)]) for turn in range(3)]
        assert taken == [True, True, False]
    assert budget.take("2001:db8:0:2::1")
    clock.advance(3600)
    assert [budget.take("198.51.100.1") for _ in range(3)] == [True, True, False]
    monkeypatch.setattr("pauth.integrations._budget._MAX_ADDRESSES", 3)
    for number in range(10):
        assert [budget.take(f"192.0.2.{number}") for _ in range(3)] == [True, True, False], "who comes last is counted: the oldest goes"
    assert len(budget) == 3  # P19


async def test_a_proxy_s_headers_decide_nothing(sites: Sites) -> None:
    """WS-6: where the browser is sent back to, what it is redirected to and which cookies it gets follows from the redirect URI."""
    spoofed = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Uri": "//evil.example",
        "X-Original-URL": "//evil.example",
        "Forwarded": "host=evil.example;proto=http",
        "Referer": "https://evil.example/",
        "Origin": "https://evil.example",
    }
    browser = await sites.browser()
    started = await browser.get("/auth/login", headers=spoofed)
    assert query_of(started.headers["Location"])["redirect_uri"] == REDIRECT_URI
    assert all(cookie.startswith("__Host-") and cookie.endswith("; Secure") for cookie in started.headers.get_list("set-cookie"))
    done = await browser.get(await browser.decide(started), headers=spoofed)
    assert done.headers["Location"] == "/"
    page = await browser.get("/auth/logout", headers=spoofed)
    answers = [started, done, page, await (await sites.browser()).get("/page/x", headers=spoofed)]
    assert not [answer for answer in answers if "evil" in answer.text + str(answer.headers)]


@pytest.mark.parametrize("prefix", ["", "/inside"])
async def test_a_proxy_may_change_the_path(sites: Sites, bench: Bench, prefix: str) -> None:
    """WS-6: browsers see /auth, the application sees something else."""
    browser = await sites.browser(sites.login(prefix=prefix))
    inside = (await browser.start(f"{prefix}/login")).replace("/auth/callback", f"{prefix}/callback")
    assert (await browser.get(inside)).status_code == 303
    assert 'action="/auth/logout"' in (await browser.get(f"{prefix}/logout")).text
