"""Pages that who logs in comes back to, where browsers see other paths than the application does."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from tests.client.kit import Bench
from tests.integrations.web_kit import FRAMEWORKS, HOST, Sites, login_of, site_of, web_client
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
