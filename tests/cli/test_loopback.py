"""The listener of a login, and who is not the callback (NA-1 to NA-5, NA-8)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from pauth.cli import loopback
from pauth.cli.loopback import DEFAULT_REDIRECT_URI, Listener, bind
from pauth.errors import AuthorizationError, ConfigurationError
from pauth.secret import Secret

STATE = Secret("CANARY-state-0123456789-0123456789-0123456789")
GOOD = f"/callback?code=CANARY-code&state={STATE.reveal()}"


def close(sockets: Sequence[socket.socket]) -> None:
    for each in sockets:
        each.close()


async def ask(uri: str, request: bytes) -> bytes:
    """Send raw bytes to the listener; everything it answers."""
    parts = urlsplit(uri)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    with suppress(ConnectionError):
        await writer.drain()
    answer = b""
    with suppress(ConnectionError):
        answer = await reader.read()
    writer.close()
    return answer


def head(uri: str, target: str = GOOD, *, method: str = "GET", host: str | None = None, version: str = "HTTP/1.1", more: str = "") -> bytes:
    return f"{method} {target} {version}\r\nHost: {urlsplit(uri).netloc if host is None else host}\r\n{more}\r\n".encode()


@asynccontextmanager
async def listening(redirect_uri: str = DEFAULT_REDIRECT_URI) -> AsyncGenerator[tuple[str, Listener]]:
    uri, sockets = await asyncio.to_thread(bind, redirect_uri)
    listener = Listener(uri, STATE)
    async with listener.listening(sockets):
        yield uri, listener


# --- Binding


def test_na1_na2_a_free_port_of_this_machine_which_is_kept() -> None:
    uri, sockets = bind()
    try:
        (only,) = sockets
        assert only.getsockname() == ("127.0.0.1", urlsplit(uri).port)
        assert (urlsplit(uri).scheme, urlsplit(uri).hostname, urlsplit(uri).path) == ("http", "127.0.0.1", "/callback")
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind(only.getsockname())
        with socket.socket() as visitor:  # it listens before anybody is told of it
            visitor.connect(only.getsockname())
    finally:
        close(sockets)


@pytest.mark.parametrize(
    ("uri", "addresses"),
    [
        ("http://127.0.0.1", ["127.0.0.1"]),
        ("http://[::1]/back", ["::1"]),
        ("http://localhost/", ["127.0.0.1", "::1"]),
        ("HTTP://LOCALHOST/x", ["127.0.0.1", "::1"]),
    ],
)
def test_na1_every_address_that_a_browser_may_take(uri: str, addresses: list[str]) -> None:
    given, sockets = bind(uri)
    try:
        assert [each.getsockname()[0] for each in sockets] == addresses
        assert {each.getsockname()[1] for each in sockets} == {urlsplit(given).port}
        assert urlsplit(given).path == (urlsplit(uri).path or "/")
    finally:
        close(sockets)


def test_na1_a_machine_without_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    true = loopback._listening  # pyright: ignore[reportPrivateUsage]

    def only_six(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
        if family is socket.AF_INET:
            raise OSError(97, "Address family not supported by protocol")
        return true(family, address, port)

    monkeypatch.setattr(loopback, "_listening", only_six)
    uri, sockets = bind()
    close(sockets)
    assert uri.startswith("http://[::1]:")
    given, sockets = bind("http://localhost/x")
    close(sockets)
    assert given.startswith("http://localhost:")
    with pytest.raises(ConfigurationError, match=r"no port of 127\.0\.0\.1 can be had"):
        bind("http://127.0.0.1/mine")


def test_na1_a_port_that_somebody_has_in_the_other_family_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sits on [::1] would get the callback of a browser that takes localhost for that."""
    true, numbers = loopback._listening, list[int]()  # pyright: ignore[reportPrivateUsage]

    def squatted(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
        if family is socket.AF_INET6 and len(numbers) < 2:
            numbers.append(port)
            raise OSError(98, "Address already in use")
        return true(family, address, port)

    monkeypatch.setattr(loopback, "_listening", squatted)
    uri, sockets = bind("http://localhost/x")
    close(sockets)
    assert len(sockets) == 2
    assert urlsplit(uri).port not in numbers


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1/callback",
        "http://0.0.0.0/callback",
        "http://192.168.0.1/callback",
        "http://app.example/callback",
        "http://127.0.0.2/callback",
        "http://127.0.0.1/callback?x=1",
        "http://127.0.0.1/callback#x",
        "http://user@127.0.0.1/callback",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:99999/callback",
        "com.example.app:/callback",
        "",
    ],
)
def test_na1_other_hosts_are_not_listened_on(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="of a login on this machine is http"):
        bind(uri)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} of 127.0.0.1 is taken"):
            bind(f"http://127.0.0.1:{port}/callback")


# --- Serving


async def test_the_callback_comes_and_is_answered() -> None:
    async with listening() as (uri, listener):
        visitor = asyncio.create_task(ask(uri, head(uri)))
        callback = await listener.callback(timeout=30)
        assert callback.query.reveal() == GOOD.partition("?")[2]
        await callback.answer(succeeded=True)
        answer = await visitor
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'" in lines
    assert "Cache-Control: no-store" in lines
    assert "Referrer-Policy: no-referrer" in lines
    assert b"You are logged in" in answer
    assert b"CANARY" not in answer


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80", "localhost"])
async def test_a_browser_leaves_out_the_port_of_http(host: str) -> None:
    """Only who may listen on port 80 can register it; here the browser comes to another one, and says what it would say there."""
    uri, sockets = await asyncio.to_thread(bind)
    listener = Listener(f"http://{host.removesuffix(':80')}:80/callback", STATE)
    async with listener.listening(sockets):
        assert b" 403 " in await ask(uri, head(uri)), "this is another one's port"
        visitor = asyncio.create_task(ask(uri, head(uri, host=host)))
        await (await listener.callback(timeout=30)).answer(succeeded=True)
        assert b"You are logged in" in await visitor


async def test_na8_nothing_that_came_with_it_is_on_the_page() -> None:
    async with listening() as (uri, listener):
        visitor = asyncio.create_task(ask(uri, head(uri, f"/callback?error=%3Csvg%3E&error_description=<svg/onload=x>&state={STATE.reveal()}")))
        await (await listener.callback(timeout=30)).answer(succeeded=False)
        answer = await visitor
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"svg" not in answer


OTHERS: dict[str, tuple[int, dict[str, Any]]] = {
    "no state": (403, {"target": "/callback?code=CANARY-x"}),
    "a wrong state": (403, {"target": "/callback?code=CANARY-x&state=CANARY-wrong"}),
    "a state that is no ASCII": (403, {"target": "/callback?code=CANARY-x&state=%F0%9F%92%A9"}),
    "two states": (403, {"target": f"{GOOD}&state={STATE.reveal()}"}),
    "too many parameters": (403, {"target": "/callback?" + "a=1&" * 100}),
    "another path": (404, {"target": GOOD.replace("/callback", "/favicon.ico")}),
    "a path above": (404, {"target": GOOD.replace("/callback", "/callback/../../etc/passwd")}),
    "a path that is encoded": (404, {"target": GOOD.replace("/callback", "/%63allback")}),
    "an absolute target": (404, {"target": f"http://127.0.0.1{GOOD}"}),
    "no target": (404, {"target": ""}),
    "another host": (403, {"host": "evil.example"}),
    "another host with our port": (403, {"host": "evil.example:{port}"}),
    "the other name of this host": (403, {"host": "localhost:{port}"}),
    "no host": (403, {"host": "", "more": ""}),
    "two hosts": (403, {"more": "Host: 127.0.0.1\r\n"}),
    "a POST": (405, {"method": "POST"}),
    "a HEAD": (405, {"method": "HEAD"}),
    "a CONNECT": (405, {"method": "CONNECT"}),
    "another protocol": (400, {"version": "HTTP/2.0"}),
    "no protocol": (400, {"version": ""}),
}


@pytest.mark.parametrize("other", OTHERS)
async def test_na4_what_is_not_the_callback_is_refused_and_the_waiting_goes_on(other: str) -> None:
    status, changes = OTHERS[other]
    async with listening() as (uri, listener):
        changes = {name: value.replace("{port}", str(urlsplit(uri).port)) for name, value in changes.items()}
        answer = await ask(uri, head(uri, **changes))
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert (b"\r\nAllow: GET\r\n" in answer) == (status == 405)
        assert b"CANARY" not in answer
        visitor = asyncio.create_task(ask(uri, head(uri)))
        await (await listener.callback(timeout=30)).answer(succeeded=True)
        assert b"You are logged in" in await visitor


@pytest.mark.parametrize(
    "request_", [b"", b"GET", b"\x16\x03\x01\x02\x00\x01\x00", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe" * 50 + b"\r\n\r\n"]
)
async def test_na4_what_is_no_http_at_all(request_: bytes) -> None:
    async with listening() as (uri, listener):
        parts = urlsplit(uri)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(request_)
        writer.write_eof()
        assert (await reader.read())[9:12] in {b"", b"400", b"403"}
        writer.close()
        visitor = asyncio.create_task(ask(uri, head(uri)))
        await (await listener.callback(timeout=30)).answer(succeeded=True)
        assert b"You are logged in" in await visitor


async def test_na4_a_huge_request_is_cut_off() -> None:
    async with listening() as (uri, listener):
        for more in ("X: " + "a" * 100_000, "X: a\r\n" * 20_000):
            answer = await ask(uri, head(uri, more=f"{more}\r\n"))
            assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
        visitor = asyncio.create_task(ask(uri, head(uri)))
        await (await listener.callback(timeout=30)).answer(succeeded=True)
        assert b"You are logged in" in await visitor


async def test_na4_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "_PATIENCE", 0.05)
    async with listening() as (uri, listener):
        assert await ask(uri, b"GET /call") == b""
        assert listener._refused == 1  # pyright: ignore[reportPrivateUsage]


async def test_na4_no_more_connections_than_can_be_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "_AT_ONCE", 1)
    async with listening() as (uri, listener):
        parts = urlsplit(uri)
        _, silent = await asyncio.open_connection(parts.hostname, parts.port)
        while not listener._serving:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0)
        assert await ask(uri, head(uri)) == b""
        silent.close()


async def test_na4_guessing_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "_MAX_REQUESTS", 3)
    async with listening() as (uri, listener):
        for number in range(4):
            await ask(uri, head(uri, f"/callback?code=x&state=CANARY-guess-{number}"))
        with pytest.raises(AuthorizationError, match="too many requests"):
            await listener.callback(timeout=30)


async def test_na3_a_second_callback_finds_nothing() -> None:
    async with listening() as (uri, listener):
        visitor = asyncio.create_task(ask(uri, head(uri)))
        callback = await listener.callback(timeout=30)
        assert (await ask(uri, head(uri))).startswith(b"HTTP/1.1 404 ")
        await callback.answer(succeeded=True)
        await visitor


async def test_na3_nobody_is_listened_to_afterwards() -> None:
    """Who was in the middle of a request is hung up on."""
    async with listening() as (uri, listener):
        parts = urlsplit(uri)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"GET /")
        while not listener._serving:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0)
    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection(parts.hostname, parts.port)


async def test_a_browser_that_goes_away_before_it_is_answered() -> None:
    async with listening() as (uri, listener):
        parts = urlsplit(uri)
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head(uri))
        callback = await listener.callback(timeout=30)
        writer.transport.abort()
        await callback.answer(succeeded=True)


async def test_nobody_comes() -> None:
    async with listening() as (_, listener):
        with pytest.raises(AuthorizationError, match="nobody came back from the browser within 0 seconds"):
            await listener.callback(timeout=0)


async def test_na5_two_listeners_share_nothing() -> None:
    async with listening() as (one, first), listening() as (two, second):
        assert one != two
        visitors = [asyncio.create_task(ask(uri, head(uri))) for uri in (two, one)]
        for listener, succeeded in ((first, True), (second, False)):
            await (await listener.callback(timeout=30)).answer(succeeded=succeeded)
        assert [b"You are logged in" in answer for answer in await asyncio.gather(*visitors)] == [False, True]
