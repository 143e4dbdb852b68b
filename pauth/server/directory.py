"""A server's metadata and keys: fetched when first needed, kept for a while, fetched once however many ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from pauth.clock import Clock
from pauth.core.jwks import MAX_JWKS_BYTES, Jwks, parse_jwks
from pauth.core.metadata import ServerMetadata, parse_metadata_response, well_known_urls
from pauth.core.wire import HTTPRequest, HTTPResponse, is_json_type, media_type, parse_json_object
from pauth.errors import MalformedResponse, ProviderUnavailable, UntrustedServer
from pauth.refresh.flight import Flight, Flights, drain

__all__ = ["ServerDirectory"]

_KEPT_FOR: Final = 3600.0
"""Seconds after which metadata and keys are fetched again."""

_FORCED_EVERY: Final = 60.0
"""Seconds between two fetches that an unknown key id may cause (JW-9)."""

_RETRIED_AFTER: Final = 60.0
"""Seconds for which an outdated document is used without asking again, when the server could not give a new one."""

T = TypeVar("T")


class _Kept(Generic[T]):
    """One fetched document."""

    __slots__ = ("fresh_until", "value")

    def __init__(self, value: T, fetched_at: float) -> None:
        self.value = value
        self.fresh_until = fetched_at + _KEPT_FOR


class ServerDirectory:
    """Where a server's endpoints are and which keys it signs with.

    :param server: its metadata, if known without asking; then only keys are ever fetched. Else its issuer identifier, to ask.
    """

    def __init__(
        self,
        send: Callable[[HTTPRequest], Awaitable[HTTPResponse]],
        server: ServerMetadata | str,
        *,
        allow_insecure_http: bool,
        clock: Clock,
    ) -> None:
        self._send = send
        self._server = server
        self._allow_insecure_http = allow_insecure_http
        self._clock = clock
        self._metadata: _Kept[ServerMetadata] | None = None
        self._jwks: _Kept[Jwks] | None = None
        self._forced_at: float | None = None
        self._flights = Flights()
        self._begun: set[Flight] = set()

    async def metadata(self) -> ServerMetadata:
        """The server's metadata (RFC 8414).

        :raises ProviderUnavailable: it could not be fetched, and none was kept.
        :raises UntrustedServer: it names another issuer, or an endpoint without https.
        """
        server = self._server
        if isinstance(server, ServerMetadata):
            return server
        kept = self._metadata
        if kept is None or self._clock.monotonic() >= kept.fresh_until:
            kept = self._metadata = await self._renewed("metadata", lambda: self._discover(server, had_one=kept is not None), kept)
        return kept.value

    async def jwks(self, uri: str, *, unknown_kid: bool = False) -> Jwks:
        """The keys the server signs ID tokens with.

        :param uri: the ``jwks_uri`` of its metadata.
        :param unknown_kid: the kept keys lack one that was just seen, so fetch them again, unless that was done a moment ago.
        :raises ProviderUnavailable: they could not be fetched, and none were kept.
        :raises MalformedResponse: what is there is no key set.
        :raises UntrustedServer: what is there is no key set that can be used.
        """
        now = self._clock.monotonic()
        kept = self._jwks
        if kept is not None:
            if unknown_kid:
                if self._forced_at is not None and now - self._forced_at < _FORCED_EVERY:
                    return kept.value
                self._forced_at = now
            elif now < kept.fresh_until:
                return kept.value
        kept = self._jwks = await self._renewed(("jwks", uri), lambda: self._fetch_jwks(uri), kept)
        return kept.value

    async def drain(self) -> None:
        """Wait until no fetch is under way."""
        await drain(self._begun)

    async def _renewed(self, key: Hashable, fetch: Callable[[], Awaitable[_Kept[T]]], kept: _Kept[T] | None) -> _Kept[T]:
        try:
            return await self._flights.run(key, fetch, begun=self._begun)
        except ProviderUnavailable:
            if kept is None:
                raise
        kept.fresh_until = self._clock.monotonic() + _RETRIED_AFTER
        return kept

    async def _discover(self, issuer: str, *, had_one: bool) -> _Kept[ServerMetadata]:
        for url in well_known_urls(issuer, allow_insecure_http=self._allow_insecure_http):
            response = await self._send(HTTPRequest("GET", url, {"Accept": "application/json"}))
            metadata = parse_metadata_response(response, issuer=issuer, allow_insecure_http=self._allow_insecure_http)
            if metadata is not None:
                return _Kept(metadata, self._clock.monotonic())
        if had_one:
            raise ProviderUnavailable("the server gives its metadata no more; try again later")
        raise UntrustedServer(
            "the issuer publishes no metadata (RFC 8414, OpenID Connect Discovery); check its URL, or describe the server with a Provider"
        )

    async def _fetch_jwks(self, uri: str) -> _Kept[Jwks]:
        response = await self._send(HTTPRequest("GET", uri, {"Accept": "application/json"}))
        if response.status == 429 or response.status >= 500:
            raise ProviderUnavailable("the server could not give its keys (jwks_uri); try again later", status=response.status)
        if response.status != 200 or not is_json_type(media_type(response.headers)):
            raise MalformedResponse("the server's jwks_uri gave no JSON document", status=response.status)
        if len(response.body) > MAX_JWKS_BYTES:
            raise MalformedResponse(f"the server's jwks_uri gave more than {MAX_JWKS_BYTES} bytes")
        return _Kept(parse_jwks(parse_json_object(response.body)), self._clock.monotonic())
