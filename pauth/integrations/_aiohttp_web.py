"""Logins in applications of aiohttp.web."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Final

from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from pauth.core.token import Token
from pauth.errors import PAuthError, ReauthorizationRequired
from pauth.integrations._pages import CHALLENGE, Reply, problem_of
from pauth.integrations._web import MAX_FORM, WebLoginBase

__all__ = ["WebLogin"]

_CALLBACKS: Final = web.AppKey("pauth_callbacks", dict[str, Any])


class WebLogin(WebLoginBase[web.Request, web.Response]):
    """Logging in to an application of aiohttp.web at a provider: routes that take a browser there and back, and who is logged in.

    ::

        login = WebLogin(client)
        login.setup(app)

        async def repositories(request: web.Request) -> web.Response:
            token = await login.token(request)

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

    def setup(self, app: web.Application) -> None:
        """Add the routes to an application, where the redirect URI (or ``prefix``) says.

        :raises ConfigurationError: another login has its callback at the same path.
        """
        if _CALLBACKS not in app:
            app[_CALLBACKS] = {}
        self._claim(app[_CALLBACKS])
        self._add_routes(app, "")

    def sub_application(self) -> web.Application:
        """The same as an application of its own, for ``app.add_subapp("/auth", login.sub_application())``.

        In it ``request.app`` is not your application: hooks find what is in yours in ``request.config_dict``.
        """
        app = web.Application()
        app[_CALLBACKS] = {self._routes.callback: self}
        self._add_routes(app, self._routes.prefix)
        return app

    def _add_routes(self, app: web.Application, below: str) -> None:
        for method, path, handler in self._table():
            options: dict[str, Any] = {"allow_head": False} if method == "GET" else {}
            app.add_routes([web.route(method, path.removeprefix(below), handler, **options)])

    async def user(self, request: web.Request) -> str:
        """The id of the user whom a request comes from, for :meth:`pauth.OAuth2Client.get_token`.

        :raises aiohttp.web.HTTPUnauthorized: nobody is logged in.
        """
        user_id = await self.user_or_none(request)
        if user_id is None:
            raise _refusal(ReauthorizationRequired("nobody is logged in", reason="not_logged_in"))
        return user_id

    async def token(self, request: web.Request) -> Token:
        """A valid token of the user whom a request comes from.

        :raises aiohttp.web.HTTPUnauthorized: nobody is logged in, or the user has to log in again.
        :raises aiohttp.web.HTTPServiceUnavailable: the provider, or the token store, does not answer.
        :raises PAuthError: any other failure, as :meth:`pauth.OAuth2Client.get_token` raises it.
        """
        token = await self._token_or_error(request)
        if isinstance(token, PAuthError):
            raise _refusal(token)
        return token

    async def token_or_login(self, request: web.Request) -> Token:
        """The same, for pages: who has to log in is sent there, and comes back to this page afterwards.

        :raises aiohttp.web.HTTPSeeOther: to the login.
        """
        token = await self._token_or_error(request)
        if isinstance(token, ReauthorizationRequired):
            here = self._routes.for_browsers(request.rel_url.raw_path_qs, mount=_mount(request)) if request.method == "GET" else ""
            raise web.HTTPSeeOther(URL(self.login_url(here), encoded=True), headers={"Cache-Control": "no-store"})
        if isinstance(token, PAuthError):
            raise _refusal(token)
        return token

    def _headers(self, request: web.Request, name: str) -> Iterable[str]:
        return request.headers.getall(name, ())

    def _query(self, request: web.Request) -> str:
        return request.rel_url.raw_query_string

    def _address(self, request: web.Request) -> str | None:
        return request.remote

    async def _body(self, request: web.Request) -> bytes | None:
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > MAX_FORM:
                return None
        return bytes(body)

    def _logins(self, request: web.Request) -> Iterator[WebLoginBase[Any, Any]]:
        waiting = list(request.match_info.apps[:1])
        while waiting:
            app = waiting.pop()
            if _CALLBACKS in app:
                yield from app[_CALLBACKS].values()
            waiting += [inner for resource in app.router.resources() if isinstance(inner := resource.get_info().get("app"), web.Application)]

    def _response(self, reply: Reply) -> web.Response:
        return web.Response(status=reply.status, headers=CIMultiDict(reply.headers), body=reply.body.encode())


def _mount(request: web.Request) -> str:
    """What the application that serves a request is mounted at, in others."""
    pairs = [(inner, resource.get_info()) for outer, inner in pairwise(request.match_info.apps) for resource in outer.router.resources()]
    prefixes = [info["prefix"] for inner, info in pairs if info.get("app") is inner and "prefix" in info]  # one by its domain has none
    return prefixes[-1] if prefixes else ""  # the innermost has those around it in it


def _refusal(error: PAuthError) -> web.HTTPException:
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, ReauthorizationRequired):
        return web.HTTPUnauthorized(text="log in", headers={**headers, "WWW-Authenticate": CHALLENGE})
    problem = problem_of(error)
    return web.HTTPServiceUnavailable(text=problem.title, headers={**headers, "Retry-After": str(math.ceil(problem.retry_after or 5))})
