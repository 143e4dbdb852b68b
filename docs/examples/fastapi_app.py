"""A FastAPI application that people log in to at a provider, with a page and an API of its own.

pip install 'pauth[sql,fastapi]' uvicorn
export PAUTH_ENCRYPTION_KEY=$(python -c "from pauth import EncryptionKey; print(EncryptionKey.generate().to_string().reveal())")
export ISSUER=https://accounts.google.com CLIENT_ID=... CLIENT_SECRET=... REDIRECT_URI=http://127.0.0.1:8000/auth/callback
uvicorn --no-access-log fastapi_app:app
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from html import escape
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

from pauth import OAuth2Client, Token
from pauth.integrations.fastapi import WebLogin

client = OAuth2Client(
    os.environ["ISSUER"],
    os.environ["CLIENT_ID"],
    os.environ["CLIENT_SECRET"],
    os.environ["REDIRECT_URI"],
    scopes=["openid", "profile", "email"],
    token_storage="sqlite:///tokens.db",
)
login = WebLogin(client)

User = Annotated[str, Depends(login.user)]
UserOrNone = Annotated[str | None, Depends(login.user_or_none)]
ValidToken = Annotated[Token, Depends(login.token)]
TokenOrLogin = Annotated[Token, Depends(login.token_or_login)]
FormToken = Annotated[str, Depends(login.form_token)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    async with client:
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(login.router)  # beside the redirect URI: /auth/login, /auth/callback, /auth/logout, /auth/disconnect


@app.get("/", response_class=HTMLResponse)
async def home(user: UserOrNone) -> str:
    if user is None:
        return f'<a href="{login.login_url("/profile")}">Log in</a>'
    return f'You are {escape(user)}. <a href="/profile">Your profile</a>'


@app.get("/profile", response_class=HTMLResponse)
async def profile(token: TokenOrLogin, user: User, form_token: FormToken) -> str:  # who is not logged in is sent there, and comes back
    info = await client.get_user_info(user)
    fields = f'<input type="hidden" name="csrf_token" value="{form_token}">'
    return (
        f'<p>Hello, {escape(info.name or info.subject)}.</p><form method="post" action="{login.logout_url}">{fields}<button>Log out</button></form>'
    )


@app.get("/api/scopes")
async def scopes(token: ValidToken) -> list[str]:  # who is not logged in gets 401
    return list(token.scope)
