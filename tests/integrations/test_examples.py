"""docs/examples, driven as their readers would: by a browser, on a command line."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from aiohttp import web
from playwright.async_api import Page, Response, expect

from pauth import EncryptionKey, OAuth2Client, ReauthorizationRequired
from pauth.testing import AuthorizationServer
from tests.integrations.web_kit import HOST, Browser, served
from tests.support.canary_plugin import Canary
from tests.support.chromium import Chromium, find_chromium
from tests.support.servers import RealServer, ServerMissing

expect.set_options(timeout=60_000)  # milliseconds: a browser that has just started, beside other work, is slow

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CALLBACK = f"{HOST}/callback"
SECRET = "CANARY-example"


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer(secret_marker="CANARY-") as server:
        server.register_client("example", SECRET, redirect_uris=[CALLBACK])
        yield server


def environment(issuer: str, client_id: str = "example", secret: str = SECRET) -> dict[str, str]:
    key = EncryptionKey.generate().to_string().reveal()
    return {"ISSUER": issuer, "CLIENT_ID": client_id, "CLIENT_SECRET": secret, "REDIRECT_URI": CALLBACK, "PAUTH_ENCRYPTION_KEY": key}


def load(name: str) -> Any:
    """An example as a module, made anew."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where annotations are looked up
    spec.loader.exec_module(module)
    return module


def set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def chromium() -> Chromium:
    return find_chromium()


async def test_the_fastapi_app(
    server: AuthorizationServer, canary: Canary, quiet_browsers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, tmp_path, environment(server.issuer))
    app = load("fastapi_app").app
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as client:
        browser = Browser(client, server, canary)
        assert '<a href="/login?next=%2Fprofile">Log in</a>' in (await browser.get("/")).text
        assert (await browser.get("/api/scopes")).status_code == 401
        redirected = await browser.get("/profile")
        done = await browser.log_in(redirected.headers["Location"])
        page = await browser.get(done.headers["Location"])
        assert "Hello, " in page.text and "alice" in page.text
        assert "You are alice." in (await browser.get("/")).text
        assert set((await browser.get("/api/scopes")).json()) == {"openid", "profile", "email"}
        assert (await browser.press(page)).headers["Location"] == "/"
        assert (await browser.get("/api/scopes")).status_code == 401
        assert "/login" not in (await browser.get("/openapi.json")).text


async def test_the_script(server: AuthorizationServer, canary: Canary, tmp_path: Path) -> None:
    variables = environment(server.issuer) | {"API_URL": server.resource_url, "TOKENS": f"file://{tmp_path / 'tokens'}"}

    async def run() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLES / "script.py"),
            cwd=tmp_path,
            env={**os.environ, **variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    first = await run()
    assert first.stdin is not None and first.stdout is not None
    line = (await first.stdout.readline()).decode()
    callback = await server.authorize(line.rpartition(" ")[2].strip(), user="alice")
    output, _ = await first.communicate(f"{callback}\n".encode())
    canary.check(line.encode() + output, "output of script.py")
    assert (first.returncode, b'"user": "alice"' in output) == (0, True), output.decode()
    server.expire_access_tokens()  # the API refuses what the script has, which gets it another
    second = await run()
    output, _ = await second.communicate()
    canary.check(output, "output of script.py")
    assert (second.returncode, output.startswith(b"{")) == (0, True), output.decode()
    assert server.ledger.count(endpoint="token", grant_type="refresh_token") == 1


async def test_a_person_with_a_real_browser_at_a_real_provider(
    oidc_provider: RealServer, chromium: Chromium, canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The aiohttp application over TLS, in Chromium, at oidc-provider: AX-11, WS-1, WS-5 as a browser sees them."""
    registered = oidc_provider.basic
    assert registered.client_secret is not None
    set_up(monkeypatch, tmp_path, environment(oidc_provider.issuer, registered.client_id, registered.client_secret))
    example = load("aiohttp_app")
    app: web.Application = example.make_app()
    client: OAuth2Client = app[example.CLIENT]
    async with served(app, tls_for("app.example")) as port, chromium.page(hosts=[f"app.example:443 127.0.0.1:{port}"]) as page:
        answers = listen(page)
        tab = await page.context.new_page()
        for each in (page, tab):  # two tabs, both on their way
            await each.goto(f"{HOST}/")
            await each.get_by_text("Log in").click()
            await expect(each.locator("input[name=login]")).to_be_visible()
        for each in (tab, page):
            await at_the_provider(each, "alice")
            await each.wait_for_url(f"{HOST}/profile")
            await expect(each.get_by_text("Hello, Name of alice.")).to_be_visible()
        (cookie,) = await page.context.cookies(HOST)
        assert cookie.get("name", "").startswith("__Host-pauth-") and cookie.get("path") == "/"
        assert (cookie.get("secure"), cookie.get("httpOnly"), cookie.get("sameSite")) == (True, True, "Lax")
        assert await page.evaluate("document.cookie") == ""

        await submitted_by_another_site(page, f"{HOST}/logout")
        assert await page.context.cookies(HOST) == [cookie]
        await page.goto(f"{HOST}/profile")
        await expect(page.get_by_text("Hello, Name of alice.")).to_be_visible()
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url(f"{HOST}/")
        await expect(page.get_by_text("Log in")).to_be_visible()
        assert await page.context.cookies(HOST) == []

        await page.goto(f"{HOST}/callback?code=x&state=y")
        await expect(page.get_by_text("No login was started in this browser")).to_be_visible()
        assert await page.evaluate("getComputedStyle(document.body).maxWidth") == "512px"  # the page's policy lets its own style in
        await page.get_by_role("link", name="Start again").click()  # the provider still knows alice
        await page.wait_for_url(f"{HOST}/")
        await expect(page.get_by_text("You are alice.")).to_be_visible()
        token = await client.get_token("alice")
        await page.goto(f"{HOST}/disconnect")
        await page.get_by_role("button", name="Disconnect").click()
        await page.wait_for_url(f"{HOST}/")
        await expect(page.get_by_text("Log in")).to_be_visible()
        assert await page.context.cookies(HOST) == []
        with pytest.raises(ReauthorizationRequired):
            await client.get_token("alice")

        texts = [await answer for answer in answers]
    assert len(texts) > 15
    for text in texts:
        canary.check(text, "answer of aiohttp_app.py")
        for secret in (token.access_token, token.refresh_token, token.id_token):
            assert secret is not None and secret.reveal() not in text


def test_where_there_is_no_browser_the_run_fails_with_what_installs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAUTH_TEST_CHROMIUM", raising=False)

    def nothing(name: str) -> None: ...

    monkeypatch.setattr("shutil.which", nothing)
    monkeypatch.setattr("platform.machine", lambda: "another")
    with pytest.raises(ServerMissing, match="apt-get install chromium"):
        find_chromium()
    monkeypatch.setenv("PAUTH_TEST_CHROMIUM", "/named/chromium")
    assert find_chromium().program == "/named/chromium"


def tls_for(host: str) -> ssl.SSLContext:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert(host).configure_cert(tls)  # pyright: ignore[reportUnknownMemberType]  # its SSLContext is pyOpenSSL's too
    return tls


def listen(page: Page) -> list[asyncio.Task[str]]:
    """What the application answers from now on to any tab: headers, and bodies of what is no redirect."""
    answers: list[asyncio.Task[str]] = []

    async def read(response: Response) -> str:
        headers = await response.headers_array()
        body = "" if 300 <= response.status < 400 else await response.text()
        return "\n".join([*(f"{header.get('name')}: {header.get('value')}" for header in headers), body])

    def note(response: Response) -> None:
        if response.url.startswith(HOST):
            answers.append(asyncio.ensure_future(read(response)))

    page.context.on("response", note)
    return answers


async def at_the_provider(page: Page, user: str) -> None:
    """Log in and consent; a tab that comes later is let through sooner."""
    await page.locator("input[name=login]").fill(user)
    await page.locator("input[name=password]").fill("any")
    await page.locator("button[type=submit]").click()
    consent = page.get_by_role("button", name="Continue")
    await consent.or_(page.get_by_text("Hello, ")).first.wait_for()
    if await consent.is_visible():
        await consent.click()


async def submitted_by_another_site(page: Page, target: str) -> None:
    """A page elsewhere posts a form to ``target`` by itself."""
    form = f'<form method="post" action="{target}"></form><script>document.forms[0].submit()</script>'

    async def evil(request: web.Request) -> web.Response:
        return web.Response(text=form, content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", evil)])
    async with served(app) as port:
        await page.goto(f"http://127.0.0.1:{port}/")
        await page.wait_for_url(f"{HOST}/")
