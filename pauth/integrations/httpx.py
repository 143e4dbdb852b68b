"""A user's token on requests of httpx.

::

    auth = TokenAuth(client, "alice", origins="https://api.example")
    async with httpx.AsyncClient(auth=auth) as http:
        await http.get("https://api.example/me")
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable
from typing import NoReturn

from pauth.errors import ConfigurationError
from pauth.integrations._bearer import AsyncTokenSource, Bearer, SyncTokenSource, UsableToken
from pauth.integrations._origins import conceal_origins
from pauth.secret import Secret

try:
    import httpx
except ModuleNotFoundError:
    raise ModuleNotFoundError("pauth.integrations.httpx needs httpx, which is not installed: pip install 'pauth[httpx]'", name="httpx") from None

__all__ = ["SyncTokenAuth", "TokenAuth"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class _Auth(httpx.Auth):
    def __init__(self, user_id: str, origins: tuple[Secret, ...], *, refresh_on_any_401: bool, allow_insecure_http: bool) -> None:
        self._bearer = Bearer(user_id, origins, refresh_on_any_401=refresh_on_any_401, allow_insecure_http=allow_insecure_http)
        self._bearer.origins.check_upgrades()

    def auth_flow(self, request: httpx.Request) -> NoReturn:
        raise NotImplementedError  # both kinds of client have a flow of their own

    def _applies(self, request: httpx.Request) -> bool:
        """Whether the token goes on this request. A header that the caller has set stays as it is."""
        return self._bearer.origins.covers(str(request.url)) and "Authorization" not in request.headers

    def _wants_refresh(self, token: UsableToken, request: httpx.Request, response: httpx.Response) -> bool:
        if response.request.headers.get("Authorization") != request.headers["Authorization"]:
            return False  # it was redirected to where the token does not go: that is another server's answer
        return self._bearer.wants_refresh(token, response.status_code, response.headers.get_list("WWW-Authenticate"))


def _may_be_repeated(request: httpx.Request, response: httpx.Response) -> bool:
    """Whether the request can be sent again: its body is in memory, and what was refused was it, not the page it led to when it had been done."""
    try:
        _ = request.content
    except httpx.RequestNotRead:
        return False
    return not response.history or request.method in _SAFE_METHODS


class TokenAuth(_Auth):
    """``auth=`` for an ``httpx.AsyncClient``, or for one of its requests: a valid token of one user.

    The token goes to the origins named and nowhere else; a request to another goes out without it, and so does one that is redirected to another.
    An answer 401 with ``invalid_token`` makes it refresh the token, once for all that were refused the same one, and send the request again, once,
    if its body is in memory. A request with an ``Authorization`` header of its own is left alone.

    :param client: an :class:`~pauth.OAuth2Client`.
    :param origins: such as ``"https://api.example"``, or several.
    :param refresh_on_any_401: for servers that do not say why they refuse: take any 401 for ``invalid_token``.
    :param allow_insecure_http: permit plain ``http:`` origins on other hosts than this machine. Dangerous: tokens travel readable.
    :raises ConfigurationError: an origin is unusable.

    Requests raise what :meth:`pauth.OAuth2Client.get_token` raises.
    """

    def __init__(
        self,
        client: AsyncTokenSource,
        user_id: str,
        *,
        origins: str | Iterable[str],
        refresh_on_any_401: bool = False,
        allow_insecure_http: bool = False,
    ) -> None:
        named = conceal_origins(origins)
        del origins
        super().__init__(user_id, named, refresh_on_any_401=refresh_on_any_401, allow_insecure_http=allow_insecure_http)
        self._client = client

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Called by httpx."""
        if not self._applies(request):
            yield request
            return
        user_id = self._bearer.user_id
        token = await self._client.get_token(user_id)
        request.headers.update(token.auth_headers())
        response = yield request
        if self._wants_refresh(token, request, response):
            newer = await self._client.refresh(user_id, if_version=token.version)
            if _may_be_repeated(request, response):
                request.headers.update(newer.auth_headers())
                response = yield request
                self._bearer.was_refused_again(newer, response.status_code)

    def sync_auth_flow(self, request: httpx.Request) -> NoReturn:
        """Called by an ``httpx.Client``, which cannot await.

        :raises ConfigurationError: always.
        """
        del request
        raise ConfigurationError("TokenAuth is for httpx.AsyncClient; with httpx.Client use SyncTokenAuth and a SyncOAuth2Client")


class SyncTokenAuth(_Auth):
    """The same for an ``httpx.Client``, with a :class:`~pauth.SyncOAuth2Client`."""

    def __init__(
        self,
        client: SyncTokenSource,
        user_id: str,
        *,
        origins: str | Iterable[str],
        refresh_on_any_401: bool = False,
        allow_insecure_http: bool = False,
    ) -> None:
        named = conceal_origins(origins)
        del origins
        super().__init__(user_id, named, refresh_on_any_401=refresh_on_any_401, allow_insecure_http=allow_insecure_http)
        self._client = client

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Called by httpx."""
        if not self._applies(request):
            yield request
            return
        user_id = self._bearer.user_id
        token = self._client.get_token(user_id)
        request.headers.update(token.auth_headers())
        response = yield request
        if self._wants_refresh(token, request, response):
            newer = self._client.refresh(user_id, if_version=token.version)
            if _may_be_repeated(request, response):
                request.headers.update(newer.auth_headers())
                response = yield request
                self._bearer.was_refused_again(newer, response.status_code)

    def async_auth_flow(self, request: httpx.Request) -> NoReturn:
        """Called by an ``httpx.AsyncClient``, which must not block.

        :raises ConfigurationError: always.
        """
        del request
        raise ConfigurationError("SyncTokenAuth is for httpx.Client; with httpx.AsyncClient use TokenAuth and an OAuth2Client")
