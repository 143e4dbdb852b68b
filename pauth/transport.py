"""The one place where pauth talks HTTP.

Protocol endpoints get no redirects, no cookies, no credentials from ``.netrc`` and no proxy from the environment (TE-1, TE-19), and their answers are
bounded in time and in size, also after decompression (TE-5).
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from pauth.clock import Clock, SystemClock
from pauth.core.wire import MAX_BODY, HTTPRequest, HTTPResponse, check_endpoint
from pauth.errors import ConfigurationError, MalformedResponse, PAuthError, ProviderUnavailable, UntrustedServer
from pauth.failpoints import failpoint
from pauth.locks import ForkSafeLock
from pauth.secret import Secret
from pauth.version import __version__

__all__ = ["Transport"]

_USER_AGENT: Final = f"pauth/{__version__}"
_CHUNK: Final = 64 * 1024

# A POST on a connection that the server is just closing looks like a lost answer, so idle connections are dropped before servers do (5 s and more).
_KEEPALIVE: Final = 4.0


# A process that was stopped, or a machine that slept, finds the answer beside its expired deadline; it is read all the same.
_SLEPT: Final = 0.5
_GRACE: Final = 1.0


class _Progress:
    """How far one request has come."""

    __slots__ = ("_clock", "_deadline", "written")

    def __init__(self, clock: Clock, deadline: float | None) -> None:
        self._clock = clock
        self._deadline = deadline
        self.written = False
        """It was written to a connection, so the server may have seen it."""

    def check(self) -> None:
        """Called when nothing of the request has been written and all of it is about to be.

        :raises TimeoutError: it is too late for that.
        """
        if self._deadline is not None and self._clock.monotonic() >= self._deadline:
            raise TimeoutError
        self.written = True


_progress: ContextVar[_Progress] = ContextVar("_progress")


class _Request(aiohttp.ClientRequest):
    """A request that looks at its deadline with the connection in its hand, before the first byte leaves."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        failpoint("mid_send")
        _progress.get().check()
        response = await super().send(conn)
        failpoint("after_send")
        return response


class Transport:
    """Sends protocol requests with aiohttp: one session per event loop, made when first needed.

    :param timeout: seconds for one whole request: connecting, sending and reading the answer.
    :param ssl_context: a context of your own, for a private CA or a client certificate. One that does not verify the server is refused.
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
        if not timeout > 0:
            raise ConfigurationError("the HTTP timeout must be a positive number of seconds")
        if ssl_context is not None and not _verifies(ssl_context):
            raise ConfigurationError("ssl_context must be an ssl.SSLContext that checks certificates and host names, with TLS 1.2 or later")
        if proxy is not None and not _is_proxy(proxy):
            del proxy  # it may hold a password, and a traceback with locals would print it
            raise ConfigurationError("the proxy must be the URL of an HTTP proxy, such as http://proxy.example:3128")
        self._timeout = timeout
        self._ssl: ssl.SSLContext | bool = True if ssl_context is None else ssl_context
        self._proxy = None if proxy is None else Secret(proxy)
        self.allow_insecure_http: bool = allow_insecure_http
        """Whether plain HTTP to other hosts is permitted."""
        self._clock = clock or SystemClock()
        self._lock = ForkSafeLock()
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        self._closed = False

    async def send(self, request: HTTPRequest, *, deadline: float | None = None) -> HTTPResponse:
        """Send ``request`` and read the whole answer, whatever its status; a redirect is an answer like any other.

        :param deadline: when to give up, on the monotonic clock, if that is before the timeout. If nothing was sent by then nothing is.
        :raises ProviderUnavailable: no answer, or one that was cut off; ``request_sent`` is false if the server cannot have seen the request.
        :raises MalformedResponse: the answer is not HTTP, too large, or compressed in an unknown way.
        :raises UntrustedServer: the server's certificate is not valid for its name.
        :raises ConfigurationError: the URL is none that requests may be sent to, or this transport is closed.
        """
        check_endpoint(request.url, name="endpoint", allow_insecure_http=self.allow_insecure_http)
        outcome = await self._exchange(request, deadline)
        if isinstance(outcome, PAuthError):
            raise outcome
        return outcome

    async def aclose(self) -> None:
        """Close the connections of the running loop and of those in other threads; forget those of loops that ended. A second call does nothing."""
        with self._lock:
            self._closed = True
            sessions = dict(self._sessions)
            self._sessions.clear()
        running = asyncio.get_running_loop()
        for loop, session in sessions.items():
            if loop is running:
                await session.close()
            elif loop.is_running():
                await self._close_on(loop, session)
            else:
                session.detach()

    async def _close_on(self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession) -> None:
        closing = session.close()
        try:
            closed = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(closing, loop))
        except RuntimeError:  # the loop has ended just now
            closing.close()
            session.detach()
        else:
            await asyncio.wait((closed,), timeout=self._timeout)  # a loop that ends before it comes to this never answers

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise ConfigurationError("this client is closed; make a new one")
            session = self._sessions.get(loop)
            if session is None:
                for ended in [other for other in self._sessions if other.is_closed()]:  # one for each asyncio.run() of a script
                    self._sessions.pop(ended).detach()
                session = self._sessions[loop] = self._new_session()
        return session

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._ssl, keepalive_timeout=_KEEPALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(),  # none of aiohttp's: one deadline, in _exchange(), covers everything
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
            request_class=_Request,
        )

    async def _exchange(self, request: HTTPRequest, deadline: float | None) -> HTTPResponse | PAuthError:
        # Errors are given back, not raised, so that aiohttp's exceptions, which hold the request with its credentials, end here (SH-2).
        host = urlsplit(request.url).hostname
        session = self._session()
        progress = _Progress(self._clock, deadline)
        _progress.set(progress)
        requested_at = self._clock.time()
        within = self._timeout if deadline is None else max(0.0, min(self._timeout, deadline - self._clock.monotonic()))
        try:
            async with (
                _time_limit(within),
                session.request(
                    request.method,
                    URL(request.url, encoded=True),  # what was checked is what is sent (PX-7)
                    data=request.body,
                    headers=request.headers,
                    allow_redirects=False,
                    proxy=None if self._proxy is None else self._proxy.reveal(),
                ) as response,
            ):
                failpoint("mid_response")
                body = await _read(response)
                if isinstance(body, PAuthError):
                    return body
                headers = {name.lower(): value for name, value in response.headers.items()}
                return HTTPResponse(response.status, headers, body, requested_at)
        except aiohttp.ClientConnectorCertificateError:
            return UntrustedServer(f"the certificate of {host} is not valid; check the URL, or give an ssl_context that trusts its CA")
        except TimeoutError:
            what = "answer" if progress.written else "accept a connection"
            problem = f"{host} did not {what} within {within:g} seconds"
        except aiohttp.ClientPayloadError:
            problem = f"the answer of {host} was cut off"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this task but one that it waited for was cancelled: the end of asyncio.run cancels what looks up addresses.
            problem = f"the request to {host} was cut off"
        except (aiohttp.ClientError, OSError) as exc:
            if progress.written and isinstance(exc, aiohttp.ClientResponseError):
                return MalformedResponse(f"the answer of {host} is not HTTP, or its headers are too large")
            problem = f"{'no answer from' if progress.written else 'could not connect to'} {host} ({type(exc).__name__})"
        return ProviderUnavailable(f"{problem}; try again later", request_sent=progress.written)


@asynccontextmanager
async def _time_limit(seconds: float) -> AsyncGenerator[None, None]:
    """Raise TimeoutError after ``seconds`` (of real time). Who wakes up long after that gets a moment to read what has arrived meanwhile."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    async with asyncio.timeout(None) as limit:

        def expire() -> None:
            now = loop.time()
            limit.reschedule(now + _GRACE if now - end > _SLEPT else now)

        timer = loop.call_at(end, expire)
        try:
            yield
        finally:
            timer.cancel()


def _verifies(context: object) -> bool:
    # the type too: aiohttp takes False for "no verification"
    return (
        isinstance(context, ssl.SSLContext)
        and context.verify_mode is ssl.CERT_REQUIRED
        and context.check_hostname
        and context.minimum_version >= ssl.TLSVersion.TLSv1_2
    )


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


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
    if inflate is not None and received and (not inflate.eof or inflate.unused_data):
        return MalformedResponse("the server's compressed answer is cut off, or followed by something else", status=response.status)
    return bytes(body)
