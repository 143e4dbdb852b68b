"""README.md, end to end: its handlers serve a browser, against a server that stands where GitHub would."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

import pauth
from pauth import EncryptionKey, OAuth2Client, Provider, ServerMetadata, Token
from pauth.testing import AuthorizationServer, faults
from tests.client.kit import CALLBACK, Bench, bench_at
from tests.support.doc_blocks import blocks_of, run_block

README = Path(__file__).parents[1] / "README.md"
BLOCKS = {block.code.partition("\n")[0].removeprefix("# readme: "): block for block in blocks_of(README)}
BROWSER = "CANARY-cookie-of-this-browser"
REDIRECTS = {302, 303, 307}


@pytest.fixture
async def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AuthorizationServer]:
    """What the README assumes: GitHub, an application registered there, a key in the environment."""
    async with AuthorizationServer(secret_marker="CANARY-", access_token_lifetime=3600) as server:
        server.register_client("client id", "client secret", redirect_uris=[CALLBACK])
        metadata = ServerMetadata(
            authorization_endpoint=server.authorization_endpoint, token_endpoint=server.token_endpoint, userinfo_endpoint=server.userinfo_endpoint
        )
        monkeypatch.setattr(pauth.Providers, "GITHUB", Provider(name="github", metadata=metadata, default_scopes=("openid",)))
        monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", EncryptionKey.generate().to_string().reveal())
        monkeypatch.chdir(tmp_path)  # tokens.db is made here; the canary searches it
        yield server


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(tmp_path) as bench:
        yield bench


async def names_of(block: str) -> dict[str, Any]:
    """What a block defines."""
    namespace: dict[str, Any] = {"__name__": "readme"}
    await run_block(BLOCKS[block], namespace)
    return namespace


def test_the_blocks_that_are_tested_here_are_all_there_are() -> None:
    assert sorted(BLOCKS) == ["errors", "fastapi", "handlers", "storage"]
    assert all(block.run for block in BLOCKS.values())


async def test_the_aiohttp_handlers(github: AuthorizationServer, tmp_path: Path) -> None:
    readme = await names_of("handlers")
    client: OAuth2Client = readme["client"]

    async def api(request: web.Request) -> web.Response:
        return web.json_response(await readme["api_call"](request.query["user"]))

    application = web.Application()
    application.add_routes([web.get("/login", readme["login"]), web.get("/callback", readme["callback"]), web.get("/api", api)])
    runner = web.AppRunner(application, access_log=None)  # its lines would hold the code and the state
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = URL(f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with (
        contextlib.aclosing(client),
        aiohttp.ClientSession(base, cookies={"session": BROWSER}, cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser,
        aiohttp.ClientSession(base, cookies={"session": "CANARY-another-browser"}, cookie_jar=aiohttp.CookieJar(unsafe=True)) as other,
    ):

        async def log_in() -> str:
            async with browser.get("/login", allow_redirects=False) as response:
                assert response.status in REDIRECTS
                callback = await github.authorize(response.headers["Location"], user="alice")
            assert callback.startswith(CALLBACK)
            return f"/callback?{urlsplit(callback).query}"

        async with browser.get(URL(await log_in(), encoded=True)) as response:
            assert (response.status, await response.text()) == (200, "hello, user alice")
        async with other.get(URL(await log_in(), encoded=True)) as response:  # AX-2
            assert response.status == 500
        async with browser.get("/api", params={"user": "alice"}) as response:
            headers = await response.json()
        async with browser.get(URL(github.resource_url), headers=headers) as response:
            assert (response.status, (await response.json())["user"]) == (200, "alice")
    await runner.cleanup()
    assert (tmp_path / "tokens.db").stat().st_size > 0
    assert github.ledger.count(endpoint="token") == 1


async def asgi_get(app: Any, path: str, query: str, cookie: str) -> tuple[int, dict[str, str], bytes]:
    """One GET, as an ASGI server would hand it over: status, headers, body."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"host", b"app.example"), (b"cookie", cookie.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("app.example", 443),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


async def test_the_fastapi_handlers(github: AuthorizationServer) -> None:
    pytest.importorskip("fastapi")
    readme = await names_of("fastapi")
    app, client = readme["app"], readme["client"]
    async with contextlib.aclosing(client):
        status, headers, _ = await asgi_get(app, "/login", "", f"session={BROWSER}")
        assert status in REDIRECTS
        callback = await github.authorize(headers["location"], user="alice")
        query = urlsplit(callback).query
        assert (await asgi_get(app, "/callback", query, ""))[0] == 422  # no cookie, no login
        status, _, body = await asgi_get(app, "/callback", query, f"session={BROWSER}")
        assert (status, body) == (200, b'{"user":"alice"}')
        assert (await client.get_token("alice")).has_scope("openid")
        with pytest.raises(pauth.InvalidStateError):
            await asgi_get(app, "/callback", query, f"session={BROWSER}")
    assert github.ledger.count(endpoint="token") == 1


@pytest.mark.parametrize("callers", [1, 100])
async def test_the_storage(bench: Bench, callers: int) -> None:
    storage = (await names_of("storage"))["ShelfStorage"]()
    client = bench.client(token_storage=storage)
    await bench.log_in(client)
    bench.clock.advance(3601)
    tokens = await asyncio.gather(*(client.get_token("alice") for _ in range(callers)))
    assert bench.refreshes() == 1
    assert storage.get_token("alice")["access_token"] == tokens[-1].access_token.reveal()
    await client.revoke("alice")
    assert storage.shelf == {}


async def test_the_errors(bench: Bench) -> None:
    token_or_login = (await names_of("errors"))["token_or_login"]
    client = bench.client()
    url = await token_or_login(client, "alice", BROWSER)
    assert url.startswith(bench.server.authorization_endpoint)
    await client.handle_callback(await bench.server.authorize(url), user_id="alice", session_id=BROWSER)
    assert isinstance(await token_or_login(client, "alice", BROWSER), Token)
    bench.clock.advance(3601)
    bench.server.script("token", faults.rate_limited(30))
    bench.server.script("token", faults.status(503))
    for passing, seconds in ((0, "30"), (0, "3[0-3]"), (33, "5")):  # the second of them is not sent
        bench.clock.advance(passing)
        with pytest.raises(SystemExit, match=f"try again in {seconds} seconds"):
            await token_or_login(client, "alice", BROWSER)
    assert bench.refreshes() == 2
