"""Web applications with logins, in each framework, behind what looks like a proxy that speaks TLS; and browsers to visit them."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from aiohttp import web
from fastapi import Depends, FastAPI
from fastapi.requests import HTTPConnection

from pauth import EncryptionKey, OAuth2Client, Token
from pauth.integrations import aiohttp as in_aiohttp
from pauth.integrations import fastapi as in_fastapi
from pauth.testing import AuthorizationServer, token_hash
from tests.client.kit import Bench
from tests.support.canary_plugin import Canary

FRAMEWORKS: Final = ("fastapi", "aiohttp")
HOST: Final = "https://app.example"
REDIRECT_URI: Final = f"{HOST}/auth/callback"
KEY: Final = EncryptionKey.generate()

WebLogin = in_fastapi.WebLogin | in_aiohttp.WebLogin


def web_client(bench: Bench, redirect_uri: str = REDIRECT_URI, **options: Any) -> OAuth2Client:
    """A client of the bench's server with a callback in the application."""
    name = f"web-{urlsplit(redirect_uri).path.strip('/').replace('/', '-')}"
    registered = bench.server.register_client(name, f"CANARY-{name}", redirect_uris=[redirect_uri])
    return bench.client(client_id=registered.client_id, client_secret=registered.client_secret, redirect_uri=redirect_uri, **options)


def login_of(framework: str, client: OAuth2Client, **options: Any) -> WebLogin:
    kind: Any = in_fastapi.WebLogin if framework == "fastapi" else in_aiohttp.WebLogin
    login: WebLogin = kind(client, **({"encryption_key": KEY} | options))
    return login


class _Form(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form":
            assert values["method"] == "post"
            self.action = values["action"]
        elif tag == "input":
            self.fields[values["name"] or ""] = values["value"] or ""


@dataclass(repr=False)
class Browser:
    """Keeps cookies as browsers do, follows nothing by itself. Every answer that it gets is searched for secrets (SH-1)."""

    client: httpx.AsyncClient
    server: AuthorizationServer
    canary: Canary
    answers: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.client.event_hooks["response"].append(self._search)

    async def _search(self, response: httpx.Response) -> None:
        body = await response.aread()
        text = "\n".join([str(response.status_code), *(f"{name}: {value}" for name, value in response.headers.multi_items()), body.decode()])
        self.answers.append(text)
        self.canary.check(text, f"answer to {response.request.method} {response.request.url.path}")

    async def get(self, url: str, *, cookies: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """``cookies`` takes the place of what this browser has."""
        sent = dict(headers or {})
        if cookies is not None:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        return await self.client.get(url, headers=sent)

    async def post(self, url: str, data: Mapping[str, str] | None = None, **options: Any) -> httpx.Response:
        return await self.client.post(url, data=data, **options)

    async def press(self, page: httpx.Response) -> httpx.Response:
        """Press the button of a page."""
        form = _Form(page.text)
        assert form.action is not None
        return await self.post(form.action, form.fields)

    async def start(self, path: str = "/auth/login", user: str = "alice", *, deny: bool = False) -> str:
        """Begin to log in, decide at the provider; the callback's path and query."""
        return await self.decide(await self.get(path), user, deny=deny)

    async def decide(self, started: httpx.Response, user: str = "alice", *, deny: bool = False) -> str:
        assert started.status_code == 303, started.text
        callback = urlsplit(await self.server.authorize(started.headers["Location"], user=user, deny=deny))
        assert f"{callback.scheme}://{callback.netloc}" == HOST
        return f"{callback.path}?{callback.query}"

    async def log_in(self, path: str = "/auth/login", user: str = "alice") -> httpx.Response:
        return await self.get(await self.start(path, user))

    async def who(self) -> str | None:
        user: str | None = (await self.get("/who")).json()
        return user

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.name: cookie.value or "" for cookie in self.client.cookies.jar}

    def attempts(self) -> list[str]:
        """The names of the cookies of logins that are under way."""
        return [name for name in self.cookies if re.fullmatch(r"(?:__Host-)?pauth-[0-9a-f]{12}-[0-9a-f]{16}", name)]


class Tls(httpx.AsyncBaseTransport):
    """Takes requests for the site's address to the server behind it, as a proxy that ends TLS does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.headers["Host"]
        inside = httpx.Request(
            request.method,
            request.url.copy_with(scheme="http", host="127.0.0.1", port=self.port),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        inside.headers["Host"] = host
        return await self.inner.handle_async_request(inside)

    async def aclose(self) -> None:
        await self.inner.aclose()


@dataclass(repr=False)
class Site:
    framework: str
    bench: Bench
    app: Any
    port: int
    canary: Canary
    stack: AsyncExitStack

    async def browser(self, **options: Any) -> Browser:
        transport: httpx.AsyncBaseTransport = httpx.ASGITransport(self.app) if self.framework == "fastapi" else Tls(self.port)
        arguments: dict[str, Any] = {"transport": transport, "base_url": HOST} | options
        client = httpx.AsyncClient(**arguments)
        await self.stack.enter_async_context(client)
        return Browser(client, self.bench.server, self.canary)


def _shown(token: Token) -> dict[str, str | None]:
    return {"subject": token.subject, "hash": token_hash(token.access_token.reveal())}


def _fastapi(logins: tuple[in_fastapi.WebLogin, ...]) -> FastAPI:
    app = FastAPI()
    login = logins[0]
    for each in logins:
        app.include_router(each.router)

    @app.get("/who")
    async def who(user: str | None = Depends(login.user_or_none)) -> str | None:
        return user

    @app.get("/user")
    async def user(user: str = Depends(login.user)) -> str:
        return user

    @app.get("/token")
    async def token(token: Token = Depends(login.token, use_cache=False)) -> dict[str, str | None]:  # noqa: B008
        return _shown(token)

    @app.api_route("/page/{name:path}", methods=["GET", "POST"])
    async def page(token: Token = Depends(login.token_or_login)) -> dict[str, str | None]:  # noqa: B008
        return _shown(token)

    @app.get("/form-token")
    async def form_token(value: str = Depends(login.form_token)) -> str:
        return value

    @app.get("/tokens")
    async def tokens(connection: HTTPConnection) -> list[str | None]:
        return [await each.user_or_none(connection) for each in logins]

    return app


def _aiohttp(logins: tuple[in_aiohttp.WebLogin, ...]) -> web.Application:
    app = web.Application()
    login = logins[0]
    for each in logins:
        each.setup(app)

    async def who(request: web.Request) -> web.Response:
        return web.json_response(await login.user_or_none(request))

    async def user(request: web.Request) -> web.Response:
        return web.json_response(await login.user(request))

    async def token(request: web.Request) -> web.Response:
        return web.json_response(_shown(await login.token(request)))

    async def page(request: web.Request) -> web.Response:
        return web.json_response(_shown(await login.token_or_login(request)))

    async def form_token(request: web.Request) -> web.Response:
        return web.json_response(await login.form_token(request))

    async def tokens(request: web.Request) -> web.Response:
        return web.json_response([await each.user_or_none(request) for each in logins])

    app.add_routes([web.get("/who", who), web.get("/user", user), web.get("/token", token), web.get("/form-token", form_token)])
    app.add_routes([web.get("/page/{name:.*}", page), web.post("/page/{name:.*}", page), web.get("/tokens", tokens)])
    return app


def _mounted(app: FastAPI, at: str) -> FastAPI:
    outer = FastAPI()
    outer.mount(at, app)
    return outer


def _added(app: web.Application, at: str) -> web.Application:
    outer = web.Application()
    outer.add_subapp(at, app)
    return outer


@asynccontextmanager
async def served(app: web.Application, tls: ssl.SSLContext | None = None) -> AsyncGenerator[int, None]:
    """The port at which an application is served."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def site_of(framework: str, bench: Bench, canary: Canary, *logins: WebLogin, at: str = "") -> AsyncGenerator[Site, None]:
    """An application with these logins. ``/who``, ``/user``, ``/token``, ``/page/…`` and ``/form-token`` are the first one's.

    :param at: where it is mounted in another one.
    """
    async with AsyncExitStack() as stack:
        port = 0
        if framework == "fastapi":
            app: Any = _fastapi(logins)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            app = _mounted(app, at) if at else app
            await stack.enter_async_context(app.router.lifespan_context(app))
        else:
            app = _aiohttp(logins)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            app = _added(app, at) if at else app
            port = await stack.enter_async_context(served(app))
        yield Site(framework, bench, app, port, canary, stack)


@dataclass(repr=False)
class Sites:
    """Makes sites of one framework, which end with the test."""

    framework: str
    bench: Bench
    canary: Canary
    stack: AsyncExitStack

    def login(self, client: OAuth2Client | None = None, **options: Any) -> WebLogin:
        options.setdefault("clock", self.bench.clock)
        return login_of(self.framework, client or web_client(self.bench), **options)

    async def __call__(self, *logins: WebLogin, **options: Any) -> Site:
        logins = logins or (self.login(**options),)
        return await self.stack.enter_async_context(site_of(self.framework, self.bench, self.canary, *logins))

    async def browser(self, *logins: WebLogin, **options: Any) -> Browser:
        return await (await self(*logins, **options)).browser()
