"""The one place where pauth talks HTTP.

Protocol endpoints get no redirects, no cookies, no credentials from ``.netrc`` and no proxy from the environment (TE-1, TE-19), and their answers are
bounded in time and in size, also after decompression (TE-5).
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from typing import Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from pauth.clock import Clock, SystemClock
from pauth.core.wire import MAX_BODY, HTTPRequest, HTTPResponse, check_endpoint
from pauth.errors import ConfigurationError, MalformedResponse, PAuthError, ProviderUnavailable, UntrustedServer
from pauth.version import __version__

__all__ = ["Transport"]

_USER_AGENT: Final = f"pauth/{__version__}"
_CHUNK: Final = 64 * 1024

# A POST on a connection that the server is just closing looks like a lost answer, so idle connections are dropped before servers do (5 s and more).
_KEEPALIVE: Final = 4.0


class Transport:
    """Sends protocol requests with aiohttp: one session per event loop, made when first needed.

    :param timeout: seconds for one whole request: connecting, sending and reading the answer.
    :param ssl_context: a context of your own, for a private CA or a client certificate; verification cannot be switched off otherwise.
    :param proxy: URL of an HTTP proxy; the environment's proxy settings are not read.
    :param allow_insecure_http: send credentials over plain HTTP to hosts other than this machine. Dangerous.
    """

    def __init__(
        self,
        *,
        timeout: float = 15.0,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        allow_insecure_http: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if timeout <= 0:
            raise ConfigurationError("the HTTP timeout must be a positive number of seconds")
        self._timeout = timeout
        self._ssl: ssl.SSLContext | bool = True if ssl_context is None else ssl_context
        self._proxy = proxy
        self._allow_insecure_http = allow_insecure_http
        self._clock = clock or SystemClock()
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()
        self._closed = False

    async def send(self, request: HTTPRequest) -> HTTPResponse:
        """Send ``request`` and read the whole answer, whatever its status; a redirect is an answer like any other.

        :raises ProviderUnavailable: no answer; ``request_sent`` is false if the server cannot have seen the request.
        :raises MalformedResponse: the answer is too large, cut off, or compressed in an unknown way.
        :raises UntrustedServer: the server's certificate is not valid for its name.
        """
        check_endpoint(request.url, name="the endpoint", allow_insecure_http=self._allow_insecure_http)
        if self._closed:
            raise ConfigurationError("this client is closed; make a new one")
        outcome = await self._exchange(request)
        if isinstance(outcome, PAuthError):
            raise outcome
        return outcome

    async def aclose(self) -> None:
        """Close the connections of the running loop, and forget those of others. A second call does nothing."""
        self._closed = True
        running = asyncio.get_running_loop()
        for loop, session in list(self._sessions.items()):
            if loop is running:
                await session.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(session.close(), loop))
            else:
                session.detach()
        self._sessions.clear()

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            session = self._sessions[loop] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._ssl, keepalive_timeout=_KEEPALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
            )
        return session

    async def _exchange(self, request: HTTPRequest) -> HTTPResponse | PAuthError:
        # Errors are given back, not raised, so that aiohttp's exceptions, which hold the request with its credentials, end here (SH-2).
        host = urlsplit(request.url).hostname
        requested_at = self._clock.time()
        try:
            async with self._session().request(
                request.method,
                URL(request.url, encoded=True),  # what was checked is what is sent (PX-7)
                data=request.body,
                headers=request.headers,
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                body = await _read(response)
                if isinstance(body, PAuthError):
                    return body
                headers = {name.lower(): value for name, value in response.headers.items()}
                return HTTPResponse(response.status, headers, body, requested_at)
        except aiohttp.ClientConnectorCertificateError:
            return UntrustedServer(f"the certificate of {host} is not valid; check the URL, or give an ssl_context that trusts its CA")
        except aiohttp.ClientConnectorError as exc:
            return ProviderUnavailable(f"could not connect to {host} ({type(exc).__name__}); try again later", request_sent=False)
        except aiohttp.ConnectionTimeoutError:
            return ProviderUnavailable(f"{host} did not accept a connection in time; try again later", request_sent=False)
        except TimeoutError:
            return ProviderUnavailable(f"{host} did not answer within {self._timeout:g} seconds; try again later")
        except aiohttp.ClientPayloadError:
            return ProviderUnavailable(f"the answer of {host} was cut off; try again later")
        except (aiohttp.ClientError, OSError) as exc:
            return ProviderUnavailable(f"no usable answer from {host} ({type(exc).__name__}); try again later")


async def _read(response: aiohttp.ClientResponse) -> bytes | PAuthError:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "deflate", ""):
        return MalformedResponse("the server compressed its answer in a way that was not asked for", status=response.status)
    # wbits 47: zlib or gzip header, whichever comes
    inflate = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None
    body = bytearray()
    received = 0
    async for chunk in response.content.iter_chunked(_CHUNK):
        received += len(chunk)
        if inflate is None:
            body += chunk
        else:
            try:
                body += inflate.decompress(chunk, MAX_BODY + 1 - len(body))
            except zlib.error:
                return MalformedResponse("the server's compressed answer is broken", status=response.status)
        if received > MAX_BODY or len(body) > MAX_BODY:
            return MalformedResponse(f"the server's answer is larger than {MAX_BODY} bytes", status=response.status)
    if inflate is not None and not inflate.eof:
        return MalformedResponse("the server's compressed answer ends too early", status=response.status)
    return bytes(body)
