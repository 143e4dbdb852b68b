"""How users write against the integrations, for the type checkers. It never runs."""

from __future__ import annotations

from typing import Annotated, assert_type

import aiohttp
import httpx
import requests
from aiohttp import web
from fastapi import APIRouter, Depends, FastAPI, Request

from pauth import Login, OAuth2Client, Token
from pauth.integrations.aiohttp import LoginRefused, TokenMiddleware
from pauth.integrations.aiohttp import WebLogin as AiohttpLogin
from pauth.integrations.fastapi import DisconnectRefused, WebLogin
from pauth.integrations.httpx import SyncTokenAuth, TokenAuth
from pauth.integrations.requests import TokenAuth as RequestsAuth
from tests.integrations.sources import BlockingSource


async def known(request: Request) -> str | None:
    return request.headers.get("X-User")


async def staff(request: Request, login: Login) -> None:
    if login.user_id != "ann":
        raise LoginRefused(request.url.path)


async def keep(request: Request, user_id: str) -> None:
    if user_id == "ann":
        raise DisconnectRefused(request.url.path)


def in_fastapi(client: OAuth2Client) -> None:
    login = WebLogin(client, scope=["openid"], current_user=known, on_login=staff, on_disconnect=keep, after_login="/account", starts_per_minute=None)
    app = FastAPI()
    app.include_router(login.router)
    assert_type(login.router, APIRouter)

    @app.get("/")
    async def page(token: Annotated[Token, Depends(login.token)], user: Annotated[str, Depends(login.user)]) -> str:
        return f"{user}{token!r}"

    _ = page


async def in_aiohttp(client: OAuth2Client, app: web.Application, request: web.Request) -> None:
    login = AiohttpLogin(client, current_user=lambda request: "ann", form_post=True, prefix="")
    login.setup(app)
    assert_type(await login.user_or_none(request), str | None)
    assert_type(await login.user(request), str)
    assert_type(await login.token(request), Token)
    assert_type(await login.token_or_login(request), Token)
    assert_type(await login.form_token(request), str)
    assert_type(login.login_url("/x"), str)
    AiohttpLogin(client, sessions={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def on_requests(client: OAuth2Client, blocking: BlockingSource) -> None:
    bearer = TokenMiddleware(client, "ann", origins="https://api.example")
    async with aiohttp.ClientSession(middlewares=[bearer]) as session, session.get("https://api.example", middlewares=(bearer,)):
        pass
    async with httpx.AsyncClient(auth=TokenAuth(client, "ann", origins=["https://api.example"], refresh_on_any_401=True)):
        pass
    with httpx.Client(auth=SyncTokenAuth(blocking, "ann", origins="https://api.example")):
        pass
    with requests.Session() as requests_session:
        requests_session.auth = RequestsAuth(blocking, "ann", origins="https://api.example")
    TokenAuth(client, "ann")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    TokenAuth(blocking, "ann", origins="https://api.example")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RequestsAuth(client, "ann", origins="https://api.example")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
