"""What goes wrong: told to the browser in few words, to the log in full, and nobody is let in."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi import Depends, WebSocket

from pauth import (
    ConfigurationError,
    Login,
    MalformedResponse,
    PAuthError,
    ProviderUnavailable,
    ReauthorizationRequired,
    Remedy,
    TokenError,
    TokenStorageError,
)
from pauth.errors import AmbiguousExchange, StorageUnavailable
from pauth.integrations import aiohttp as in_aiohttp
from pauth.integrations import fastapi as in_fastapi
from pauth.integrations._pages import page, problem_of
from pauth.testing import faults
from tests.client.kit import Bench, edited
from tests.integrations.web_kit import HOST, Sites, login_of, site_of, web_client
from tests.support.canary_plugin import Canary


async def test_a_user_who_says_no(sites: Sites) -> None:
    browser = await sites.browser()
    answer = await browser.get(await browser.start(deny=True))
    assert answer.status_code == 400
    assert "The provider said: access_denied" in answer.text and 'href="/auth/login"' in answer.text
    assert browser.cookies == {}


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "\"'><img src=x>", "a\r\nSet-Cookie: x=y", "\u202eevil", "https://evil.example/", "x" * 20_000]
)
async def test_what_the_callback_says_is_text_and_short(sites: Sites, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """AX-10"""
    browser = await sites.browser()
    callback = edited(HOST + await browser.start(deny=True), error=text, error_description=text, error_uri=text)
    answer = await browser.get(callback)
    assert answer.status_code == 400
    assert len(answer.text) < 3000
    for forbidden in ("<script>", "<img", "\u202e", 'href="https://evil', "error_description", "\r\nSet-Cookie"):
        assert forbidden not in answer.text
    assert "x=y" not in browser.cookies
    for record in caplog.records:
        if record.name == "pauth.integrations":
            assert len(record.getMessage()) < 1000 and record.getMessage().isprintable()


async def test_an_error_from_another_issuer_is_not_shown(sites: Sites) -> None:
    """MX-2"""
    browser = await sites.browser()
    callback = edited(HOST + await browser.start(deny=True), iss="https://evil.example", error="evil_error")
    answer = await browser.get(callback)
    assert (answer.status_code, "evil" in answer.text) == (400, False)


@pytest.mark.parametrize(
    "query",
    ["", "code=CANARY-x", "state=", "state=x", "code=a&code=b&state=x", "state=x&state=y", "%ff", "&" * 200, "access_token=CANARY-x", "x" * 70_000],
)
async def test_a_callback_that_nobody_asked_for(sites: Sites, bench: Bench, query: str) -> None:
    """AX-1, AX-7, WS-8"""
    browser = await sites.browser()
    answer = await browser.get(f"/auth/callback?{query[:7000]}")
    assert (answer.status_code, bench.exchanges()) == (400, 0)


@pytest.mark.parametrize("extra", ["code=CANARY-other", "state=other", "error=x", "id_token=CANARY-x"])
async def test_a_callback_that_says_two_things(sites: Sites, bench: Bench, extra: str) -> None:
    """AX-7, AX-8"""
    browser = await sites.browser()
    assert (await browser.get(f"{await browser.start()}&{extra}")).status_code == 400
    assert (await browser.who(), bench.exchanges()) == (None, 0)


@pytest.mark.parametrize(("status", "expected"), [(503, 503), (429, 503), (400, 400), (500, 503)])
async def test_a_token_endpoint_that_fails(sites: Sites, bench: Bench, caplog: pytest.LogCaptureFixture, status: int, expected: int) -> None:
    """WS-7, NW-5: nobody is logged in; the page holds nothing of the server's answer, the log says what happened."""
    browser = await sites.browser()
    callback = await browser.start()
    fault = faults.status(status, {"error": "invalid_grant", "error_description": "<b>internal</b>"} if status == 400 else "<b>internal</b>")
    bench.server.script("token", fault)
    answer = await browser.get(callback)
    assert (answer.status_code, await browser.who()) == (expected, None)
    assert "internal" not in answer.text
    assert [record for record in caplog.records if record.name == "pauth.integrations" and record.levelno >= logging.WARNING]
    assert browser.attempts() == []


async def test_a_provider_whose_metadata_cannot_be_had(sites: Sites, bench: Bench) -> None:
    """WS-7"""
    bench.server.script("metadata", faults.status(500), times=None)
    browser = await sites.browser()
    answer = await browser.get("/auth/login")
    assert (answer.status_code, "location" in answer.headers, browser.cookies) == (503, False, {})
    assert int(answer.headers["retry-after"]) > 0


async def test_a_client_that_is_set_up_wrongly_says_so_in_the_log_only(sites: Sites, caplog: pytest.LogCaptureFixture) -> None:
    browser = await sites.browser(extra_params={"state": "mine"})
    answer = await browser.get("/auth/login")
    assert (answer.status_code, "state" in answer.text) == (500, False)
    (record,) = [record for record in caplog.records if record.name == "pauth.integrations"]
    assert record.levelno == logging.ERROR and "state" in record.getMessage()


def _errors() -> list[tuple[PAuthError, int]]:
    return [
        (AmbiguousExchange("x"), 503),
        (TokenError("x", error="invalid_grant", remedy=Remedy.LOG_IN_AGAIN), 400),
        (TokenError("x", error="invalid_client"), 500),
        (ProviderUnavailable("x"), 503),
        (MalformedResponse("x"), 502),
        (StorageUnavailable("x"), 503),
        (TokenStorageError("x"), 500),
        (ConfigurationError("x"), 500),
    ]


@pytest.mark.parametrize(("error", "status"), _errors(), ids=lambda value: type(value).__name__)
def test_each_error_has_its_status(error: PAuthError, status: int) -> None:
    problem = problem_of(error)
    assert problem.status == status
    assert (problem.retry_after is not None) == (status == 503)


async def test_on_login_may_look_and_may_refuse(sites: Sites, bench: Bench) -> None:
    seen: list[tuple[str, str]] = []
    client = web_client(bench)

    async def on_login(request: Any, login: Login) -> None:
        seen.append((request.url.path, login.user_id))
        if login.user_id == "mallory":
            await client.revoke(login.user_id)
            raise in_fastapi.LoginRefused("Only <staff>, please.")
        if login.user_id == "crash":
            raise ZeroDivisionError

    browser = await sites.browser(sites.login(client, on_login=on_login))
    answer = await browser.log_in(user="mallory")
    assert (answer.status_code, "Only &lt;staff&gt;, please." in answer.text, browser.cookies) == (403, True, {})
    with pytest.raises(ReauthorizationRequired):
        await client.get_token("mallory")
    callback = await browser.start(user="crash")
    if sites.framework == "fastapi":
        with pytest.raises(ZeroDivisionError):
            await browser.get(callback)
    else:
        assert (await browser.get(callback)).status_code == 500
    assert await browser.who() is None  # WS-7
    assert ((await browser.get(callback)).status_code, browser.attempts()) == (400, [])  # its code was spent before
    await browser.log_in(user="alice")
    assert await browser.who() == "alice"
    assert seen == [("/auth/callback", user) for user in ("mallory", "crash", "alice")]
    assert in_aiohttp.LoginRefused is in_fastapi.LoginRefused


@pytest.mark.parametrize(("status", "expected"), [(503, 503), (403, 500)])
async def test_what_on_login_asks_may_fail(sites: Sites, bench: Bench, caplog: pytest.LogCaptureFixture, status: int, expected: int) -> None:
    """AX-11, WS-7: the short page, on the URL that holds the code."""
    client = web_client(bench)

    async def on_login(request: Any, login: Login) -> None:
        await client.get_user_info(login.user_id)

    browser = await sites.browser(sites.login(client, on_login=on_login))
    callback = await browser.start()
    bench.server.script("userinfo", faults.status(status))
    answer = await browser.get(callback)
    assert (answer.status_code, browser.cookies, await browser.who()) == (expected, {}, None)
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert ("retry-after" in answer.headers) == (expected == 503)
    (record,) = [record for record in caplog.records if record.name == "pauth.integrations"]
    assert "userinfo" in record.getMessage()
    await browser.log_in()
    assert await browser.who() == "alice"


async def test_a_token_that_cannot_be_had(sites: Sites, bench: Bench) -> None:
    """WS-7: 503 while the provider does not answer, 401 when only a login helps, and the page leads there."""
    browser = await sites.browser()
    await browser.log_in()
    bench.clock.advance(3601)
    bench.server.script("token", faults.rate_limited(30))
    answer = await browser.get("/token")
    assert (answer.status_code, answer.headers["retry-after"], answer.headers["cache-control"]) == (503, "30", "no-store")
    assert (await browser.get("/page/x")).status_code == 503
    bench.clock.advance(120)  # it is not asked again at once
    assert (await browser.get("/token")).status_code == 200
    bench.server.revoke_user("alice")
    bench.clock.advance(3601)
    assert (await browser.get("/token")).status_code == 401
    assert (await browser.get("/page/x")).headers["Location"] == "/auth/login?next=%2Fpage%2Fx"
    assert await browser.who() == "alice"


async def test_an_error_of_the_configuration_is_the_application_s(sites: Sites, bench: Bench) -> None:
    client = web_client(bench)
    browser = await sites.browser(sites.login(client))
    await browser.log_in()
    await client.aclose()
    for path in ("/token", "/page/x"):
        if sites.framework == "fastapi":
            with pytest.raises(ConfigurationError, match="closed"):
                await browser.get(path)
        else:
            assert (await browser.get(path)).status_code == 500


def test_a_page_escapes_all_that_is_put_in() -> None:
    text = "<&>\"'"
    reply = page(200, text, text, link=(text, text))
    assert text not in reply.body and reply.body.count("&lt;&amp;&gt;&quot;&#x27;") == 5


async def test_pages_know_a_websocket_s_user(bench: Bench, canary: Canary, quiet_browsers: None) -> None:
    login = login_of("fastapi", web_client(bench), clock=bench.clock)
    assert isinstance(login, in_fastapi.WebLogin)
    async with site_of("fastapi", bench, canary, login) as site:

        async def socket(websocket: WebSocket, user: str = Depends(login.user)) -> None:
            await websocket.accept()
            await websocket.send_text(user)
            await websocket.close()

        site.app.add_api_websocket_route("/socket", socket)
        browser = await site.browser()
        await browser.log_in()
        ((name, value),) = browser.cookies.items()
        assert await talk(site.app, f"{name}={value}") == ["websocket.accept", "alice", "websocket.close"]
        assert "websocket.accept" not in await talk(site.app, "")


async def talk(app: Any, cookie: str) -> list[str]:
    """What a WebSocket connection is sent, as an ASGI server would see it."""
    sent: list[str] = []
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/socket",
        "raw_path": b"/socket",
        "query_string": b"",
        "headers": [(b"host", b"app.example"), (b"cookie", cookie.encode())],
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("text") or message["type"])

    await app(scope, receive, send)
    return sent
