"""A client middleware for aiohttp."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from pauth.integrations._bearer import AsyncTokenSource, Bearer
from pauth.integrations._origins import Origin, conceal_origins, origin_of

__all__ = ["TokenMiddleware"]

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class TokenMiddleware:
    """A client middleware for an ``aiohttp.ClientSession``, or for one of its requests: a valid token of one user.

    ::

        bearer = TokenMiddleware(client, "alice", origins="https://api.example")
        async with aiohttp.ClientSession(middlewares=[bearer]) as session:
            async with session.get("https://api.example/me") as response: ...

    The token goes to the origins named and nowhere else: aiohttp runs its middlewares again for each redirect, and neither a redirect to another
    origin nor one that comes from there is sent the token. An answer 401 with ``invalid_token`` makes it refresh the token, once for all that were
    refused the same one, and send the request again, once, if its body can be sent twice. A request with an ``Authorization`` header of its own is
    left alone. A middleware around this one has to call it in the task it is called in itself: by that context a redirect is known for one. One
    that a stranger sends and nobody follows (``allow_redirects=False``) is taken to be followed by the next request, if that is to the same URL.

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
        self._bearer = Bearer(user_id, named, refresh_on_any_401=refresh_on_any_401, allow_insecure_http=allow_insecure_http)
        self._client = client

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Called by aiohttp."""
        passed = _way_to(request)
        origin = origin_of(str(request.url))
        origins = self._bearer.origins
        if origin not in origins or any(each not in origins for each in passed) or "Authorization" in request.headers:
            response = await handler(request)
        else:
            response = await self._authorized(request, handler)
        _hop.set(_next_hop(response, passed | {origin}))
        return response

    async def _authorized(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        user_id = self._bearer.user_id
        token = await self._client.get_token(user_id)
        request.headers.update(token.auth_headers())
        response = await handler(request)
        if self._bearer.wants_refresh(token, response.status, response.headers.getall("WWW-Authenticate", ())):
            try:
                newer = await self._client.refresh(user_id, if_version=token.version)
            except BaseException:
                response.close()
                raise
            if not (request.body and request.body.consumed):
                response.release()
                request.headers.update(newer.auth_headers())
                response = await handler(request)
                self._bearer.was_refused_again(newer, response.status)
        return response


_Place: TypeAlias = tuple[Origin | None, str]
"""Origin, path and query: URL objects of one place need not be equal, ``:0443`` is not ``:443`` to them."""


def _place(url: URL) -> _Place:
    return origin_of(str(url)), url.raw_path_qs


@dataclass(frozen=True, slots=True)
class _Hop:
    """A redirect that is about to be followed, perhaps: aiohttp does not tell a middleware whether a request is the first of a call."""

    targets: frozenset[_Place]
    """Where it leads, in each of the ways in which aiohttp may read it."""

    passed: frozenset[Origin | None]
    """The origins that led there."""


# Set by every middleware to the same value, whichever of them is asked last: what is remembered is the way, not who may be trusted on it.
_hop: Final[ContextVar[_Hop | None]] = ContextVar("pauth_redirect", default=None)


# The same for a request that a middleware sends again, ours or another.
_ways: Final[WeakKeyDictionary[ClientRequest, frozenset[Origin | None]]] = WeakKeyDictionary()


def _way_to(request: ClientRequest) -> frozenset[Origin | None]:
    """The origins that redirects have led through to this request; none for the first request of a call."""
    way = _ways.get(request)
    if way is None:
        hop = _hop.get()
        way = _ways[request] = hop.passed if hop is not None and _place(request.url) in hop.targets else frozenset()
    return way


def _next_hop(response: ClientResponse, passed: frozenset[Origin | None]) -> _Hop | None:
    location = response.headers.get("Location") or response.headers.get("URI")
    if response.status not in _REDIRECTS or not location:
        return None
    targets: set[_Place] = set()
    for encoded in (False, True):  # aiohttp's session option requote_redirect_url
        try:
            target = URL(location, encoded=encoded)
            if not target.scheme or not target.raw_host:
                target = response.url.join(target)
            targets.add(_place(target.with_user(None).with_fragment(None)))
        except (ValueError, IndexError):  # which yarl raises too; aiohttp will not follow it either
            continue
    return _Hop(frozenset(targets), passed)
