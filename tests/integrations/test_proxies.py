"""Pages that who logs in comes back to, where browsers see other paths than the application does."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from aiohttp import web

from pauth.integrations import aiohttp as in_aiohttp
from tests.client.kit import Bench
from tests.integrations.web_kit import FRAMEWORKS, HOST, KEY, Sites, Tls, login_of, served, site_of, web_client
from tests.support.canary_plugin import Canary

PROXIES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "it takes /app away": ("/app/auth/callback", {"prefix": "/auth"}, "/page/x", "/app/page/x"),
    "with a query": ("/app/auth/callback", {"prefix": "/auth"}, "/page/%C3%A9%20x?a=%2F&b", "/app/page/%C3%A9%20x?a=%2F&b"),
    "more than one segment": ("/a/b/auth/callback", {"prefix": "/auth"}, "/page/x", "/a/b/page/x"),
    "everything before the callback": ("/auth/callback", {"prefix": ""}, "/page/x", "/auth/page/x"),
    "a name that only begins alike": ("/page/x/auth/callback", {"prefix": "/auth"}, "/page/xy", "/page/x/page/xy"),
    "the path is whole already": ("/page/auth/callback", {"prefix": "/auth"}, "/page/x", "/page/x"),
    "nobody can tell": ("/auth/callback", {"prefix": "/inside"}, "/page/x", "/page/x"),
    "it takes nothing away": ("/app/auth/callback", {}, "/page/x", "/page/x"),
}


@pytest.mark.parametrize("proxy", PROXIES)
async def test_who_logs_in_comes_back_to_the_page_as_browsers_see_it(sites: Sites, bench: Bench, proxy: str) -> None:
    """WS-6"""
    callback, options, page, expected = PROXIES[proxy]
    login = sites.login(web_client(bench, HOST + callback), **options)
    browser = await sites.browser(login)
    sent = urlsplit((await browser.get(page)).headers["Location"])
    assert (sent.path, parse_qsl(sent.query)) == (login.login_url(), [("next", expected)])
    inside = (await browser.start(f"{options.get('prefix', '/app/auth')}/login?{sent.query}")).replace(
        callback, f"{options.get('prefix', '/app/auth')}/callback"
    )
    assert (await browser.get(inside)).headers["Location"] == expected


@pytest.mark.parametrize(
    ("callback", "prefix", "expected"),
    [("/app/auth/callback", "/auth", "/app/page/x"), ("/auth/callback", None, "/app/page/x"), ("/out/app/auth/callback", "/auth", "/out/app/page/x")],
)
@pytest.mark.parametrize("server", ["puts it in front", "does not", "is told it with a slash"])
async def test_a_root_path_stands_in_front_once(
    bench: Bench, canary: Canary, quiet_browsers: None, callback: str, prefix: str | None, expected: str, server: str
) -> None:
    """WS-6: uvicorn puts it into the path, other servers leave it out."""
    login = login_of("fastapi", web_client(bench, HOST + callback), prefix=prefix, clock=bench.clock)
    root = "/app/" if server == "is told it with a slash" else "/app"
    async with site_of("fastapi", bench, canary, login) as site:
        transport = httpx.ASGITransport(site.app, root_path=root)
        browser = await site.browser(transport=transport)
        sent = await browser.get("/app/page/x" if server == "puts it in front" else "/page/x")
    assert dict(parse_qsl(urlsplit(sent.headers["Location"]).query)) == {"next": expected}


async def test_a_mounted_application_s_pages(bench: Bench, canary: Canary, quiet_browsers: None) -> None:
    """WS-6: the frameworks' paths are whole there."""
    for framework in FRAMEWORKS:
        login = login_of(framework, web_client(bench, f"{HOST}/{framework}/auth/callback"), prefix="/auth", clock=bench.clock)
        async with site_of(framework, bench, canary, login, at=f"/{framework}") as site:
            browser = await site.browser()
            page = f"/{framework}/page/x"
            sent = (await browser.get(page)).headers["Location"]
            assert (await browser.log_in(sent)).headers["Location"] == page


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("callback", "at", "expected"),
    [
        ("/app/sub/auth/callback", "/sub", "/app/sub/page/x"),
        ("/sub/sub/auth/callback", "/sub", "/sub/sub/page/x"),
        ("/a/b/c/d/auth/callback", "/c/d", "/a/b/c/d/page/x"),
        ("/app/sub/auth/callback", "/sub/deep", "/app/sub/deep/page/x"),
        ("/app/auth/callback", "/sub", "/app/sub/page/x"),
        ("/app/xsub/auth/callback", "/sub", "/app/xsub/sub/page/x"),
    ],
)
async def test_a_mounted_application_s_pages_behind_a_proxy(
    bench: Bench, canary: Canary, quiet_browsers: None, framework: str, callback: str, at: str, expected: str
) -> None:
    """WS-6: what it is mounted at is in the redirect URI and in the path that the application sees, and is there once."""
    login = login_of(framework, web_client(bench, HOST + callback), prefix="/auth", clock=bench.clock)
    async with site_of(framework, bench, canary, login, at=at) as site:
        sent = await (await site.browser()).get(f"{at}/page/x?a=b")
    assert dict(parse_qsl(urlsplit(sent.headers["Location"]).query)) == {"next": f"{expected}?a=b"}


@pytest.mark.parametrize("outside", ["/app/sub", "/out/app/sub"])
async def test_a_mounted_application_s_pages_below_a_root_path(bench: Bench, canary: Canary, quiet_browsers: None, outside: str) -> None:
    """WS-6: Starlette finds them where the server puts it into the path."""
    login = login_of("fastapi", web_client(bench, f"{HOST}{outside}/auth/callback"), prefix="/auth", clock=bench.clock)
    async with site_of("fastapi", bench, canary, login, at="/sub") as site:
        browser = await site.browser(transport=httpx.ASGITransport(site.app, root_path="/app"))
        sent = await browser.get("/app/sub/page/x")
    assert dict(parse_qsl(urlsplit(sent.headers["Location"]).query)) == {"next": f"{outside}/page/x"}


async def test_applications_in_applications(bench: Bench, quiet_browsers: None) -> None:
    """WS-6: the innermost one's path has the others' in it; where a domain leads to an application that is no path."""
    login = in_aiohttp.WebLogin(web_client(bench, f"{HOST}/app/a/b/auth/callback"), encryption_key=KEY, prefix="/auth", clock=bench.clock)
    inner, middle, outer, outermost = (web.Application() for _ in range(4))
    login.setup(inner)

    async def page(request: web.Request) -> web.Response:
        await login.token_or_login(request)
        raise AssertionError("nobody is logged in")

    inner.router.add_get("/page", page)
    middle.add_subapp("/b", inner)
    middle.add_subapp("/c", web.Application())
    outer.add_subapp("/a", middle)
    outermost.add_domain("app.example", outer)
    async with served(outermost) as port, httpx.AsyncClient(transport=Tls(port), base_url=HOST) as browser:
        sent = await browser.get("/a/b/page")
    assert dict(parse_qsl(urlsplit(sent.headers["Location"]).query)) == {"next": "/app/a/b/page"}
