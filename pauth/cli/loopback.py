"""The listener that a browser comes back to at the end of a login (RFC 8252 section 7.3): one callback, on this machine, then it is gone.

Everything that reaches it is hostile until it brings the ``state`` of this very login: any page in any browser can make it be called, and any program
of this machine can call it. What is not the callback is refused and the waiting goes on, up to a bound (NA-4).
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

from pauth.core.urls import url_problem
from pauth.errors import AuthorizationError, ConfigurationError
from pauth.secret import Secret

__all__ = ["DEFAULT_REDIRECT_URI", "Callback", "Listener", "bind"]

DEFAULT_REDIRECT_URI: Final = "http://127.0.0.1/callback"
"""Without a port: a free one is taken, and put in."""

_MAX_HEAD: Final = 16 * 1024
"""The largest head of a request, in bytes."""

_MAX_REQUESTS: Final = 200
"""So many requests that are not the callback end the login: somebody is guessing."""

_PATIENCE: Final = 10.0
"""Seconds that a connection has to send its request."""

_AT_ONCE: Final = 32
"""Connections that are served at once; more are closed."""

_ATTEMPTS: Final = 8
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
}


def bind(redirect_uri: str = DEFAULT_REDIRECT_URI) -> tuple[str, Sequence[socket.socket]]:
    """Take the place that ``redirect_uri`` names: the same with its port, and the sockets, which listen already (NA-1, NA-2).

    The host is ``127.0.0.1``, ``[::1]`` or, where a provider demands it, ``localhost``, which a browser may take for either: then both are taken.
    A port that is not named is a free one. Where there is no IPv4, the default becomes ``[::1]``. Blocks for a moment.

    :raises ConfigurationError: it names another host, or its port is taken.
    """
    problem = url_problem(redirect_uri)
    parts = None if problem else urlsplit(redirect_uri)
    if parts is None or parts.scheme.lower() != "http" or parts.hostname not in _FAMILIES or parts.query:
        raise ConfigurationError(
            "the redirect_uri of a login on this machine is http://127.0.0.1, http://[::1] or http://localhost with a path, and a port if the "
            "provider compares it"
        )
    host, port = parts.hostname or "", parts.port
    taken = _bound(host, port)
    if taken is None and redirect_uri == DEFAULT_REDIRECT_URI:
        host, taken = "::1", _bound("::1", None)
    if taken is None:
        where = f"port {port} of {host} is taken" if port else f"no port of {host} can be had"
        raise ConfigurationError(f"the redirect_uri cannot be listened on: {where}; end the program that has it, or register another redirect_uri")
    netloc = f"{f'[{host}]' if ':' in host else host}:{taken[0].getsockname()[1]}"
    return urlunsplit(parts._replace(netloc=netloc, path=parts.path or "/")), taken


_FAMILIES: Final[dict[str | None, tuple[tuple[socket.AddressFamily, str], ...]]] = {
    "127.0.0.1": ((socket.AF_INET, "127.0.0.1"),),
    "::1": ((socket.AF_INET6, "::1"),),
    "localhost": ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")),
}


def _bound(host: str, port: int | None) -> list[socket.socket] | None:
    for _ in range(1 if port else _ATTEMPTS):  # a free port of one family may be taken in the other
        sockets: list[socket.socket] = []
        number, complete = port or 0, True
        for family, address in _FAMILIES[host]:
            try:
                sockets.append(_listening(family, address, number))
                number = sockets[0].getsockname()[1]
            except OSError as error:
                complete = complete and error.errno != errno.EADDRINUSE  # no such family here is no harm: a browser has none either
        if sockets and complete:
            return sockets
        for each in sockets:
            each.close()
    return None


def _listening(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # where another program could listen on the same port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # pragma: no cover (Windows)
        else:  # or a port would be taken for a minute by the connections of the login before; never by two who listen
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port))
        bound.listen(_AT_ONCE)
        bound.settimeout(0)
    except BaseException:
        bound.close()
        raise
    return bound


class Callback:
    """The request that brought the state of this login, and the browser that waits for its answer."""

    def __init__(self, query: Secret, writer: asyncio.StreamWriter) -> None:
        self.query: Secret = query
        """The callback's parameters, for :meth:`.OAuth2Client.handle_callback`."""

        self._writer = writer

    async def answer(self, *, succeeded: bool) -> None:
        """Show the user that the login is over. Nothing that came with the callback is on the page (NA-8)."""
        await _respond(self._writer, 200 if succeeded else 400, _SUCCESS if succeeded else _FAILURE)


class Listener:
    """Waits for the callback of one login (NA-5: nothing is shared between two).

    :param redirect_uri: as :func:`bind` gave it.
    :param state: of this login.
    """

    def __init__(self, redirect_uri: str, state: Secret) -> None:
        parts = urlsplit(redirect_uri)
        self._path = parts.path
        host = parts.netloc.lower()
        self._hosts = {host, host.removesuffix(":80")}  # a browser leaves out the port that http has anyway
        self._state = state
        self._refused = 0
        self._serving: set[asyncio.Task[None]] = set()
        self._found: asyncio.Future[Callback] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def listening(self, sockets: Sequence[socket.socket]) -> AsyncGenerator[None]:
        """Serve the sockets until the block ends; then they are closed, and so is every connection (NA-3)."""
        servers = [await asyncio.start_server(self._serve, sock=each, limit=_MAX_HEAD) for each in sockets]
        try:
            yield
        finally:
            for server in servers:
                server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            if not self._found.done():
                self._found.cancel()

    async def callback(self, *, timeout: float) -> Callback:  # noqa: ASYNC109  # what it ends in is not a TimeoutError
        """The callback, when it comes.

        :raises AuthorizationError: it did not come in time, or too much else did.
        """
        done, _ = await asyncio.wait([self._found], timeout=timeout)
        if not done:
            raise AuthorizationError(f"nobody came back from the browser within {timeout:.0f} seconds; start the login again")
        return self._found.result()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # start_server makes one for each connection
        self._serving.add(task)
        kept = False
        try:
            if len(self._serving) <= _AT_ONCE:
                kept = await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):  # who hangs up, or says nothing
            self._count()
        finally:
            self._serving.discard(task)
            if not kept:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; ``True`` if it is the callback, whose answer comes later."""
        status, query = 431, None
        with suppress(asyncio.LimitOverrunError):
            async with asyncio.timeout(_PATIENCE):
                head = Secret((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            status, query = self._judge(head)
        if query is not None and not self._found.done():
            self._found.set_result(Callback(query, writer))
            return True
        self._count()
        await _respond(writer, 404 if query is not None else status, _REFUSED)  # a second callback finds nothing any more
        return False

    def _judge(self, head: Secret) -> tuple[int, Secret | None]:
        """What a request deserves: a status, or the query of the callback."""
        request, *lines = head.reveal().split("\r\n")
        method, _, rest = request.partition(" ")
        target, _, version = rest.partition(" ")
        hosts = [value.strip().lower() for name, _, value in (line.partition(":") for line in lines) if name.strip().lower() == "host"]
        if version not in {"HTTP/1.1", "HTTP/1.0"}:
            return 400, None
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return 403, None  # a name that leads here is somebody's attempt to be of the same origin (DNS rebinding)
        if method != "GET":
            return 405, None
        path, _, query = target.partition("?")
        if path != self._path:
            return 404, None
        return (200, Secret(query)) if self._brings_state(query) else (403, None)

    def _brings_state(self, query: str) -> bool:
        try:
            states = parse_qs(query, keep_blank_values=True, max_num_fields=64).get("state", [])
        except ValueError:
            return False
        given = states[0] if len(states) == 1 else ""
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._state.reveal().encode())

    def _count(self) -> None:
        self._refused += 1
        if self._refused >= _MAX_REQUESTS and not self._found.done():
            self._found.set_exception(
                AuthorizationError("too many requests that were not the callback of this login have come; start the login again")
            )


async def _respond(writer: asyncio.StreamWriter, status: int, page: str) -> None:
    body = page.encode()
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Cache-Control: no-store",
        "Connection: close",
        *(["Allow: GET"] if status == 405 else []),
    ]
    with suppress(OSError, TimeoutError):  # the browser has gone
        async with asyncio.timeout(_PATIENCE):
            writer.write("\r\n".join((*lines, "", "")).encode() + body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()


def _page(title: str, text: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1><p>{text}</p></body></html>\n"
    )


_SUCCESS: Final = _page("You are logged in", "You can close this window and go back to the terminal.")
_FAILURE: Final = _page("The login failed", "The terminal says why. You can close this window.")
_REFUSED: Final = _page("Nothing here", "This address belongs to a login that waits for another request.")
