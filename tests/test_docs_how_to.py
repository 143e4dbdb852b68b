"""The programs of the how-to pages serve a browser, against a server that stands where GitHub would."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

import pauth
from pauth import EncryptionKey, MemoryTokenStorage, OAuth2Client, Provider, ServerMetadata
from pauth.testing import AuthorizationServer, ManualClock
from pauth.testing.contract import StorageContract
from tests.client.kit import CALLBACK
from tests.support.doc_blocks import blocks_of, run_block

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"
MARK = "# how-to: "
SESSION = "__Host-session"


def block_named(name: str) -> Any:
    (found,) = [block for page in HOW_TO.glob("*.md") for block in blocks_of(page) if block.code.startswith(f"{MARK}{name}\n")]
    return found


async def names_of(block: str) -> dict[str, Any]:
    """What a block defines."""
    namespace: dict[str, Any] = {"__name__": "how_to"}
    await run_block(block_named(block), namespace)
    return namespace


@pytest.fixture
async def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AuthorizationServer]:
    """What the pages assume: GitHub, an application registered there, a key in the environment."""
    async with AuthorizationServer(secret_marker="CANARY-", access_token_lifetime=3600) as server:
        server.register_client("client id", "client secret", redirect_uris=[CALLBACK])
        metadata = ServerMetadata(
            authorization_endpoint=server.authorization_endpoint,
            token_endpoint=server.token_endpoint,
            userinfo_endpoint=server.userinfo_endpoint,
            revocation_endpoint=server.revocation_endpoint,
        )
        monkeypatch.setattr(pauth.Providers, "GITHUB", Provider(name="github", metadata=metadata, default_scopes=("openid",)))
        monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", EncryptionKey.generate().to_string().reveal())
        monkeypatch.chdir(tmp_path)  # tokens.db is made here; the canary searches it
        yield server


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    cookie: str | None
    """The session's cookie, if one was set."""

    body: bytes


Ask = Callable[[str, str, str | None], Awaitable[Answer]]
"""Method, path with query, session cookie."""


async def check_program(github: AuthorizationServer, page: dict[str, Any], ask: Ask) -> None:
    """A login, a use, a logout; and what must not work."""
    page["api_url"] = github.resource_url
    assert (await ask("GET", "/repos", None)).status == 401
    begun = await ask("GET", "/login", None)
    assert begun.status in {302, 303, 307}
    assert begun.cookie is not None
    callback = f"/callback?{urlsplit(await github.authorize(begun.headers['location'], user='alice')).query}"
    assert (await ask("GET", callback, "CANARY-another-browser")).status == 400  # AX-2; and the login is over
    assert (await ask("GET", callback, begun.cookie)).status == 400

    begun = await ask("GET", "/login", begun.cookie)
    callback = f"/callback?{urlsplit(await github.authorize(begun.headers['location'], user='alice')).query}"
    done = await ask("GET", callback, begun.cookie)
    assert (done.status, done.headers["location"]) == (303, "/repos")
    assert (done.headers["cache-control"], done.headers["referrer-policy"]) == ("no-store", "no-referrer")  # AX-11
    assert done.cookie not in {None, begun.cookie}  # WS-3
    assert (await ask("GET", "/repos", begun.cookie)).status == 401
    used = await ask("GET", "/repos", done.cookie)
    assert (used.status, b"alice" in used.body) == (200, True)

    assert (await ask("GET", "/logout", done.cookie)).status == 405  # WS-5
    assert (await ask("POST", "/logout", done.cookie)).status == 204
    assert (await ask("GET", "/repos", done.cookie)).status == 401
    assert github.ledger.count(endpoint="revoke") > 0
    assert github.ledger.count(endpoint="token") == 1


async def test_the_aiohttp_program(github: AuthorizationServer) -> None:
    page = await names_of("aiohttp")
    runner = web.AppRunner(page["app"], access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def ask(method: str, path: str, cookie: str | None) -> Answer:
        headers = {} if cookie is None else {"Cookie": f"{SESSION}={cookie}"}
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(method, URL(base + path, encoded=True), headers=headers, allow_redirects=False) as response,
        ):
            found = response.cookies.get(SESSION)
            given = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, given, found.value if found else None, await response.read())

    await check_program(github, page, ask)
    await runner.cleanup()
    with pytest.raises(pauth.ConfigurationError, match="closed"):  # the program closes its client
        await page["client"].get_token("alice")


async def test_the_fastapi_program(github: AuthorizationServer) -> None:
    pytest.importorskip("fastapi")
    page = await names_of("fastapi")
    app = page["app"]

    async def ask(method: str, path: str, cookie: str | None) -> Answer:
        sent: list[dict[str, Any]] = []
        where, _, query = path.partition("?")
        headers = [(b"host", b"app.example"), *([] if cookie is None else [(b"cookie", f"{SESSION}={cookie}".encode())])]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": where,
            "raw_path": where.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("app.example", 443),
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope, receive, send)
        given = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        name, _, value = given.get("set-cookie", "").partition(";")[0].partition("=")
        return Answer(sent[0]["status"], given, value if name == SESSION else None, b"".join(message.get("body", b"") for message in sent[1:]))

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(page["lifespan"](app))
        await check_program(github, page, ask)
    with pytest.raises(pauth.ConfigurationError, match="closed"):
        await page["client"].get_token("alice")


@pytest.mark.parametrize("browser", [True, False])
async def test_the_program_at_a_keyboard(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, browser: bool) -> None:
    """NA-1, NA-2: bound first, on the loopback, for the time of one login."""
    log_in = (await names_of("loopback"))["log_in"]
    clock = ManualClock()
    async with AuthorizationServer(clock=clock) as server:  # no marker: without a browser the program prints the URL, with its state
        opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def open_browser(url: str) -> bool:
            loop.call_soon_threadsafe(opened.set_result, url)
            return browser

        monkeypatch.setattr(webbrowser, "open", open_browser)
        seen: list[str] = []

        async def person() -> None:
            url = await opened
            redirect_uri = URL(url).query["redirect_uri"]
            seen.append(redirect_uri)
            callback = await server.authorize(url, user="alice")
            async with aiohttp.ClientSession() as session:
                async with session.get(URL(redirect_uri).with_query("junk=1")) as junk:  # NA-4: it keeps waiting
                    assert junk.status == 200
                async with session.get(URL(callback, encoded=True)) as page:
                    assert "close this window" in await page.text()

        storage = MemoryTokenStorage()
        # a native application's registration allows any port; the double wants to know it, so it is registered when the port is known
        register = server.register_client
        original = OAuth2Client.get_authorization_url

        async def registered(self: OAuth2Client, **options: Any) -> str:
            register("desktop", None, redirect_uris=[self._redirect_uri or ""], auth_method="none")  # pyright: ignore[reportPrivateUsage]
            return await original(self, **options)

        monkeypatch.setattr(OAuth2Client, "get_authorization_url", registered)
        issuer = Provider(
            name="acme",
            metadata=ServerMetadata(
                authorization_endpoint=server.authorization_endpoint, token_endpoint=server.token_endpoint, userinfo_endpoint=server.userinfo_endpoint
            ),
            default_scopes=("openid",),
        )
        person_at_work = asyncio.ensure_future(person())
        assert await log_in(issuer, "desktop", None, storage) == "alice"
        await person_at_work
        assert await storage.count() == 1
        assert seen[0].startswith("http://127.0.0.1:")
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):  # NA-3: nobody listens any more
                await session.get(seen[0])
    assert ("open this address" in capsys.readouterr().out) is not browser


@pytest.mark.plaintext_files  # as the page says
class TestTheStorageOfTheGuide(StorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> Any:
        namespace = await names_of("own-storage")
        with contextlib.closing(sqlite3.connect(tmp_path / "legacy.db")) as connection, connection:
            connection.execute("CREATE TABLE tokens (user_id TEXT PRIMARY KEY, tokens TEXT)")
        return namespace["LegacyTable"](str(tmp_path / "legacy.db"))

    def break_storage(self, storage: Any) -> None:
        storage._path += "/not/there"

    def mend_storage(self, storage: Any) -> None:
        storage._path = storage._path.removesuffix("/not/there")
