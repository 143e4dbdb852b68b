"""A site of aiohttp.web that people log in to at a provider, and that asks the provider about them.

pip install 'pauth[sql]'
export PAUTH_ENCRYPTION_KEY=$(python -c "from pauth import EncryptionKey; print(EncryptionKey.generate().to_string().reveal())")
export ISSUER=https://accounts.google.com CLIENT_ID=... CLIENT_SECRET=... REDIRECT_URI=http://127.0.0.1:8000/auth/callback
python aiohttp_app.py
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from html import escape

from aiohttp import web

from pauth import OAuth2Client
from pauth.integrations.aiohttp import WebLogin

CLIENT = web.AppKey("client", OAuth2Client)
LOGIN = web.AppKey("login", WebLogin)


async def home(request: web.Request) -> web.Response:
    user = await request.app[LOGIN].user_or_none(request)
    if user is None:
        return page(f'<a href="{request.app[LOGIN].login_url("/profile")}">Log in</a>')
    return page(f'You are {escape(user)}. <a href="/profile">Your profile</a>')


async def profile(request: web.Request) -> web.Response:
    await request.app[LOGIN].token_or_login(request)  # who is not logged in is sent there, and comes back
    info = await request.app[CLIENT].get_user_info(await request.app[LOGIN].user(request))
    logout = request.app[LOGIN].logout_url
    token = await request.app[LOGIN].form_token(request)
    button = f'<form method="post" action="{logout}"><input type="hidden" name="csrf_token" value="{token}"><button>Log out</button></form>'
    return page(f"<p>Hello, {escape(info.name or info.subject)}.</p>{button}")


def page(body: str) -> web.Response:
    return web.Response(text=f"<!doctype html><title>Example</title>{body}", content_type="text/html", headers={"Cache-Control": "no-store"})


async def client_of_app(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[CLIENT].aclose()


def make_app() -> web.Application:
    app = web.Application()
    app[CLIENT] = OAuth2Client(
        os.environ["ISSUER"],
        os.environ["CLIENT_ID"],
        os.environ["CLIENT_SECRET"],
        os.environ["REDIRECT_URI"],
        scopes=["openid", "profile", "email"],
        token_storage="sqlite:///tokens.db",
    )
    app[LOGIN] = WebLogin(app[CLIENT])
    app[LOGIN].setup(app)  # beside the redirect URI: /auth/login, /auth/callback, /auth/logout, /auth/disconnect
    app.add_routes([web.get("/", home), web.get("/profile", profile)])
    app.cleanup_ctx.append(client_of_app)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=8000, access_log=None)  # an access log would hold the callbacks' codes
