"""What the logins of all web frameworks have in common. A framework's module adds the routes, and turns its requests into visits."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar

from pauth.client import Login, OAuth2Client
from pauth.clock import Clock, SystemClock
from pauth.core.token import Token
from pauth.errors import ConfigurationError, PAuthError, ReauthorizationRequired
from pauth.integrations._cookies import CookieSealer, cookies_of
from pauth.integrations._flow import DisconnectRefused, LoginFlow, LoginRefused, Visit
from pauth.integrations._pages import Reply, page
from pauth.integrations._routes import routes_of
from pauth.integrations._sessions import Visitor
from pauth.storage.keys import Keyring, KeySource, conceal

__all__ = ["MAX_FORM", "CurrentUser", "DisconnectRefused", "LoginRefused", "OnDisconnect", "OnLogin", "Route", "WebLoginBase"]

MAX_FORM: Final = 64 * 1024
"""The longest form that is read, in bytes."""

_FORM_TYPE: Final = "application/x-www-form-urlencoded"

CurrentUser: TypeAlias = Callable[[Any], "Awaitable[str | None] | str | None"]
"""The id of the user whom a request comes from, as the application knows it; ``None`` for nobody."""

OnLogin: TypeAlias = Callable[[Any, Login], Awaitable[None]]
"""Called with the request and the login before the browser is let in."""

OnDisconnect: TypeAlias = Callable[[Any, str], Awaitable[None]]
"""Called with the request and the user's id before the tokens are given up."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

Route: TypeAlias = tuple[str, str, Callable[[_Request], Awaitable[_Response]]]
"""Method, path in the application, handler."""


class WebLoginBase(ABC, Generic[_Request, _Response]):
    """Logging in to a web application at a provider. The frameworks' own classes say what they take and do."""

    def __init__(
        self,
        client: OAuth2Client,
        *,
        encryption_key: KeySource | Keyring | None = None,
        scope: Sequence[str] | None = None,
        extra_params: Mapping[str, str] | None = None,
        current_user: CurrentUser | None = None,
        on_login: OnLogin | None = None,
        on_disconnect: OnDisconnect | None = None,
        after_login: str = "/",
        after_logout: str = "/",
        session_lifetime: float = 86_400.0,
        starts_per_minute: int | None = 600,
        form_post: bool = False,
        prefix: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        encryption_key = conceal(encryption_key)
        if form_post and isinstance(getattr(current_user, "__self__", None), WebLoginBase):
            raise ConfigurationError(
                "form_post does not go together with the session of another WebLogin as current_user: its cookie is SameSite=Lax, which browsers "
                "leave out where another site posts, so nobody would be there at the callback"
            )
        self._client = client
        self._routes = routes_of(client.redirect_uri, prefix)
        self._form_post = form_post
        self._current_user = current_user
        self._on_login = on_login
        self._on_disconnect = on_disconnect
        self._is_alone = False
        self._flow = LoginFlow(
            client,
            self._routes,
            CookieSealer(encryption_key),
            connects=current_user is not None,
            scope=scope,
            extra_params=extra_params or {},
            form_post=form_post,
            after_login=after_login,
            after_logout=after_logout,
            session_lifetime=session_lifetime,
            starts_per_minute=starts_per_minute,
            clock=clock or SystemClock(),
        )

    def login_url(self, next_path: str = "") -> str:
        """The path where a browser logs in.

        :param next_path: a path of this site to come to in the end; any other text is ignored.
        """
        return self._flow.login_url(next_path)

    @property
    def logout_url(self) -> str:
        """The path where a browser logs out: a link shows a page with a button, a form with :meth:`form_token` does it."""
        return self._routes.logout

    @property
    def disconnect_url(self) -> str:
        """The path where the user's tokens are given up, likewise."""
        return self._routes.disconnect

    async def user_or_none(self, request: _Request) -> str | None:
        """The id of the user whom a request comes from, for :meth:`pauth.OAuth2Client.get_token`; ``None`` for nobody."""
        visitor = await self._visitor(request)
        return None if visitor is None else visitor.user_id

    async def form_token(self, request: _Request) -> str:
        """The value for the field ``csrf_token`` of a form that posts to ``logout``, ``disconnect`` or, to connect an account, ``login``.

        A script may send it in the header ``X-CSRF-Token`` instead. Empty if nobody is logged in.
        """
        return self._flow.form_token(await self._visitor(request))

    # What a framework's module adds

    @abstractmethod
    def _headers(self, request: _Request, name: str) -> Iterable[str]:
        """The values of all headers of a name."""

    @abstractmethod
    def _query(self, request: _Request) -> str:
        """The query, as it was sent."""

    @abstractmethod
    def _address(self, request: _Request) -> str | None:
        """Where the request comes from."""

    @abstractmethod
    async def _body(self, request: _Request) -> bytes | None:
        """The body; ``None`` if it is longer than :data:`MAX_FORM`."""

    @abstractmethod
    def _logins(self, request: _Request) -> Iterator[WebLoginBase[Any, Any]]:
        """Every login in the application that a request came to first, and in those that are mounted in it."""

    @abstractmethod
    def _response(self, reply: Reply) -> _Response:
        """The framework's response."""

    # What it gets

    def _table(self) -> Iterator[Route[_Request, _Response]]:
        """The routes. None of them answers ``HEAD``: a program that only looks must not spend a callback."""
        routes = self._routes
        connects = self._current_user is not None
        yield "GET", f"{routes.prefix}/login", self._get_login
        if connects:
            yield "POST", f"{routes.prefix}/login", self._post_login
        yield "POST" if self._form_post else "GET", routes.callback, self._callback  # AX-9
        if not connects:
            yield "GET", f"{routes.prefix}/logout", self._get_logout
            yield "POST", f"{routes.prefix}/logout", self._post_logout
        yield "GET", f"{routes.prefix}/disconnect", self._get_disconnect
        yield "POST", f"{routes.prefix}/disconnect", self._post_disconnect

    async def _get_login(self, request: _Request) -> _Response:
        return self._response(await self._flow.login(self._visit(request), await self._visitor(request)))

    async def _post_login(self, request: _Request) -> _Response:
        visit = await self._posted(request)
        return self._response(visit if isinstance(visit, Reply) else await self._flow.connect(visit, await self._visitor(request)))

    async def _callback(self, request: _Request) -> _Response:
        visit = await self._posted(request) if self._form_post else self._visit(request)
        if isinstance(visit, Reply):
            return self._response(visit)
        on_login = None if self._on_login is None else partial(self._on_login, request)
        return self._response(await self._flow.callback(visit, await self._visitor(request), on_login))

    async def _get_logout(self, request: _Request) -> _Response:
        return self._response(self._flow.confirm(await self._visitor(request), disconnect=False))

    async def _post_logout(self, request: _Request) -> _Response:
        visit = await self._posted(request)
        return self._response(visit if isinstance(visit, Reply) else self._flow.logout(visit, await self._visitor(request)))

    async def _get_disconnect(self, request: _Request) -> _Response:
        return self._response(self._flow.confirm(await self._visitor(request), disconnect=True))

    async def _post_disconnect(self, request: _Request) -> _Response:
        visit = await self._posted(request)
        if isinstance(visit, Reply):
            return self._response(visit)
        on_disconnect = None if self._on_disconnect is None else partial(self._on_disconnect, request)
        return self._response(await self._flow.disconnect(visit, await self._visitor(request), on_disconnect))

    def _visit(self, request: _Request, form: str = "") -> Visit:
        if not self._is_alone:
            self._check_alone(request)
        return Visit(
            cookies=self._cookies(request),
            query=self._query(request),
            form=form,
            form_token=next(iter(self._headers(request, "X-CSRF-Token")), None),
            address=self._address(request),
        )

    async def _posted(self, request: _Request) -> Visit | Reply:
        kind = next(iter(self._headers(request, "Content-Type")), "").partition(";")[0].strip().lower()
        body = await self._body(request) if kind == _FORM_TYPE else b""
        if body is None:
            return page(413, "Not done", "This form is too large.")
        return self._visit(request, body.decode("utf-8", "replace"))

    def _cookies(self, request: _Request) -> dict[str, str]:
        return cookies_of(self._headers(request, "Cookie"))

    async def _visitor(self, request: _Request) -> Visitor | None:
        user_id: str | None = None
        if self._current_user is not None:
            answer = self._current_user(request)
            user_id = await answer if inspect.isawaitable(answer) else answer
        return self._flow.visitor(self._cookies(request), user_id)

    def _claim(self, callbacks: dict[str, object]) -> None:
        """Note that this login has its callback path, among those of the application.

        :raises ConfigurationError: another one has the same (RFC 9700 section 4.4.2.2; MX-4).
        """
        if callbacks.setdefault(self._routes.callback, self) is not self:
            raise _shared(self._routes.callback)

    def _check_alone(self, request: _Request) -> None:
        """The same once more with the first request: what is mounted is not told of the application that it is mounted in.

        :raises ConfigurationError: another login has the same redirect URI.
        """
        redirect_uris = [each._routes.redirect_uri for each in self._logins(request) if each is not self]  # noqa: SLF001
        if self._routes.redirect_uri in redirect_uris:
            raise _shared(self._routes.redirect_uri)
        self._is_alone = True

    async def _token_or_error(self, request: _Request) -> Token | PAuthError:
        """The token of the user whom a request comes from, or the reason for which there is none, if it is one that a browser can do something about.

        :raises PAuthError: it is not.
        """
        user_id = await self.user_or_none(request)
        if user_id is None:
            return ReauthorizationRequired("nobody is logged in", reason="not_logged_in")
        try:
            return await self._client.get_token(user_id)
        except PAuthError as error:
            if isinstance(error, ReauthorizationRequired) or error.retryable:
                return error
            raise


def _shared(callback: str) -> ConfigurationError:
    return ConfigurationError(f"two logins have their callback at {callback}: register a redirect_uri of its own for each client, with another path")
