"""Logins in FastAPI applications.

::

    login = WebLogin(client)
    app.include_router(login.router)

    @app.get("/repositories")
    async def repositories(token: Annotated[Token, Depends(login.token)]): ...
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, Final, cast

from pauth.core.token import Token
from pauth.errors import PAuthError, ReauthorizationRequired
from pauth.integrations._pages import CHALLENGE, Reply, problem_of
from pauth.integrations._paths import path_with_query
from pauth.integrations._web import MAX_FORM, DisconnectRefused, LoginRefused, WebLoginBase

try:
    from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
    from fastapi.requests import HTTPConnection
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "pauth.integrations.fastapi needs fastapi, which is not installed: pip install 'pauth[fastapi]'", name="fastapi"
    ) from None

__all__ = ["DisconnectRefused", "LoginRefused", "WebLogin"]

_LOGIN: Final = "pauth_login"
"""The attribute of a route's function that says whose it is."""


class WebLogin(WebLoginBase[HTTPConnection, Response]):
    """Logging in to a FastAPI application at a provider: routes that take a browser there and back, and dependencies that say who is logged in.

    :attr:`router` has the routes. :meth:`user`, :meth:`user_or_none`, :meth:`token`, :meth:`token_or_login` and :meth:`form_token` are dependencies.

    The routes stand beside the client's ``redirect_uri``. For ``https://app.example/auth/callback`` they are ``/auth/login`` (which takes
    ``?next=/path``), ``/auth/callback``, ``/auth/logout`` and ``/auth/disconnect``. Logging out ends the session of this browser; disconnecting
    revokes the user's tokens too. Both ask first, or take a form post with the token that :meth:`form_token` gives.

    :param client: an :class:`~pauth.OAuth2Client` with a ``redirect_uri``. It stays yours to close.
    :param encryption_key: seals the cookies, as the storages take it: one key or several, of which the first seals; by default what is in
        ``PAUTH_ENCRYPTION_KEY`` or ``PAUTH_ENCRYPTION_KEYS``. All processes of a site need the same.
    :param scope: what to ask for, if not the client's ``scopes``.
    :param extra_params: more parameters for the provider, such as ``prompt``.
    :param current_user: given a request, the id of the user whom the *application* has logged in, or ``None``. With it there is no session here
        and no logout: a login adds the provider's account to that user's. Without it whom the provider names is logged in, by a cookie.
    :param on_login: ``await on_login(request, login)`` before a browser is let in; raise :class:`LoginRefused` to keep it out. A :class:`PAuthError`
        shows the page that other failures do, any other exception is the framework's to answer.
    :param on_disconnect: ``await on_disconnect(request, user_id)`` before the user's tokens are given up; raise :class:`DisconnectRefused` to keep
        them, where the account is the user's last way in. Other exceptions are taken as those of ``on_login``.
    :param after_login: where a login without ``next`` ends: a path of this site, as browsers see it.
    :param after_logout: where logging out and disconnecting end.
    :param session_lifetime: seconds until a session ends by itself.
    :param starts_per_minute: how many logins one address may start; ``None`` for any number. Each is a row in the store for ten minutes.
    :param form_post: the provider posts the callback (``response_mode=form_post``), as Apple does. With ``current_user`` the application's own
        session cookie has to be ``SameSite=None`` then: browsers leave others out where another site posts.
    :param prefix: where the routes stand in the application, if a proxy in front of it changes paths, or it is mounted in another one.
    :param clock: where the time comes from, for tests.
    :raises ConfigurationError: an option is unusable.
    """

    @cached_property
    def router(self) -> APIRouter:
        """The routes, for ``app.include_router(login.router)``. They are not in the OpenAPI schema."""
        router = APIRouter(include_in_schema=False, lifespan=self._lifespan)
        for method, path, handler in self._table():
            router.add_api_route(path, _endpoint(handler, self), methods=[method], response_model=None)
        return router

    async def user_or_none(self, request: HTTPConnection) -> str | None:
        """Dependency: the id of the user whom a request or WebSocket comes from, for :meth:`pauth.OAuth2Client.get_token`; ``None`` for nobody."""
        return await super().user_or_none(request)

    async def user(self, request: HTTPConnection) -> str:
        """Dependency: the same; nobody gets an answer 401."""
        user_id = await self.user_or_none(request)
        if user_id is None:
            raise _refusal(ReauthorizationRequired("nobody is logged in", reason="not_logged_in"))
        return user_id

    async def token(self, request: HTTPConnection) -> Token:
        """Dependency: a valid token of the user. Nobody, and a user who has to log in again, gets an answer 401; 503 if the provider does not answer.

        :raises PAuthError: any other failure, as :meth:`pauth.OAuth2Client.get_token` raises it.
        """
        token = await self._token_or_error(request)
        if isinstance(token, PAuthError):
            raise _refusal(token)
        return token

    async def token_or_login(self, request: HTTPConnection) -> Token:
        """Dependency, for pages: the same, but who has to log in is sent there, and comes back to this page afterwards."""
        token = await self._token_or_error(request)
        if isinstance(token, ReauthorizationRequired):
            here = path_with_query(request.scope["path"], self._query(request)) if request.scope.get("method") == "GET" else ""
            here = self._routes.for_browsers(here, _root(request), _mount(request)) if here else ""
            raise HTTPException(303, headers={"Location": self.login_url(here), "Cache-Control": "no-store"})
        if isinstance(token, PAuthError):
            raise _refusal(token)
        return token

    async def form_token(self, request: HTTPConnection) -> str:
        """Dependency: the value for the field ``csrf_token`` of a form that posts to ``logout``, ``disconnect`` or, to connect an account, ``login``.

        A script may send it in the header ``X-CSRF-Token`` instead. Empty if nobody is logged in.
        """
        return await super().form_token(request)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncGenerator[None]:
        callbacks: dict[str, object] = getattr(app.state, "pauth_callbacks", {})
        app.state.pauth_callbacks = callbacks
        self._claim(callbacks)
        yield

    def _headers(self, request: HTTPConnection, name: str) -> Iterable[str]:
        return request.headers.getlist(name)

    def _query(self, request: HTTPConnection) -> str:
        query: bytes = request.scope["query_string"]
        return query.decode("latin-1")

    def _address(self, request: HTTPConnection) -> str | None:
        return None if request.client is None else request.client.host

    async def _body(self, request: HTTPConnection) -> bytes | None:
        body = bytearray()
        async for chunk in cast("Request", request).stream():
            body += chunk
            if len(body) > MAX_FORM:
                return None
        return bytes(body)

    def _logins(self, request: HTTPConnection) -> Iterator[WebLoginBase[Any, Any]]:
        waiting = list(request.scope["router"].routes)
        while waiting:
            route = waiting.pop()
            login = getattr(getattr(route, "endpoint", None), _LOGIN, None)
            if isinstance(login, WebLogin):
                yield login
            # What is mounted, and a router that FastAPI keeps whole; older versions copy its routes.
            inside = getattr(route, "original_router", route)
            waiting += getattr(inside, "routes", None) or ()

    def _response(self, reply: Reply) -> Response:
        response = Response(reply.body, reply.status)
        for name, value in reply.headers:
            response.headers.append(name, value)
        return response


def _endpoint(handler: Callable[[HTTPConnection], Awaitable[Response]], login: WebLogin) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await handler(request)

    setattr(endpoint, _LOGIN, login)
    return endpoint


def _root(request: HTTPConnection) -> str:
    """The ``root_path`` that the server or the application was told of, without what applications are mounted at."""
    root: str = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    return path_with_query(root.rstrip("/"), "")


def _mount(request: HTTPConnection) -> str:
    """What the application that serves a request is mounted at, in others."""
    path: str = request.scope.get("root_path", "")
    return path.removeprefix(request.scope.get("app_root_path", path))


def _refusal(error: PAuthError) -> HTTPException:
    problem = problem_of(error)
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, ReauthorizationRequired):
        return HTTPException(401, "log in", headers={**headers, "WWW-Authenticate": CHALLENGE})
    return HTTPException(problem.status, problem.title, headers={**headers, "Retry-After": str(math.ceil(problem.retry_after or 5))})
