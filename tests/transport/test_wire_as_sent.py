"""What a request looks like on the wire (TE-2, PX-7), and what comes back."""

from __future__ import annotations

import asyncio

import pytest

from pauth.core.wire import HTTPRequest
from pauth.errors import ConfigurationError
from pauth.testing import ManualClock
from pauth.transport import Transport
from pauth.version import __version__
from tests.transport.kit import BASIC, BODY, FORM, raw_server, secret_request, sending, whole


async def test_te2_a_form_is_posted_in_the_body_and_nothing_is_added_to_the_url() -> None:
    async with raw_server(whole()) as server:
        transport = Transport()
        await transport.send(secret_request(server.url))
        await transport.aclose()
    (seen,) = server.seen
    assert seen.line == "POST /token HTTP/1.1"
    assert seen.body == BODY
    assert seen.header("content-type") == [FORM]
    assert seen.header("authorization") == [BASIC]
    assert seen.header("user-agent") == [f"pauth/{__version__}"]
    assert seen.header("accept-encoding") == ["identity"]
    assert seen.header("content-length") == [str(len(BODY))]
    assert seen.header("cookie") == []


async def test_headers_of_the_request_win_over_those_of_the_transport() -> None:
    async with raw_server(whole()) as server:
        transport = Transport()
        await transport.send(HTTPRequest("GET", server.url, {"User-Agent": "acme/1"}))
        await transport.aclose()
    assert server.seen[0].header("user-agent") == ["acme/1"]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("/", "/"),
        ("?a=b", "/?a=b"),
        ("/a/../b", "/a/../b"),
        ("/a//b/./c", "/a//b/./c"),
        ("/%7Ealice/%2F%2f", "/%7Ealice/%2F%2f"),
        ("/x?redirect=https%3A%2F%2Fevil.example%2F&b=+%20", "/x?redirect=https%3A%2F%2Fevil.example%2F&b=+%20"),
        ("/x?q=a'b(c)*!;@:$", "/x?q=a'b(c)*!;@:$"),
    ],
)
async def test_px7_the_url_that_was_checked_is_the_one_that_is_sent(path: str, target: str) -> None:
    async with raw_server(whole()) as server:
        transport = Transport()
        await transport.send(HTTPRequest("GET", f"http://127.0.0.1:{server.port}{path}"))
        await transport.aclose()
    assert server.seen[0].line == f"GET {target} HTTP/1.1"
    assert server.seen[0].header("host") == [f"127.0.0.1:{server.port}"]


@pytest.mark.parametrize(
    "url",
    [
        "http://as.example/token",
        "http://as.example:8080/token",
        "HTTP://as.example/token",
        "http://127.0.0.1@as.example/token",
        "http://127.0.0.1\\@as.example/token",
        "http://localhost.example/token",
        "http://[::1%25eth0]/token",
        "http://0x7f.1/token",
        "http://2130706433/token",
        "https://as.example/token#x",
        "ftp://as.example/token",
        "//as.example/token",
        "https:as.example",
        "https://as.example/\r\nX: y",
        "",
    ],
)
async def test_px7_nw1_urls_that_no_request_may_go_to_are_refused_before_anything_is_sent(url: str) -> None:
    transport = Transport()
    with pytest.raises(ConfigurationError) as caught:
        await transport.send(secret_request(url))
    await transport.aclose()
    assert "as.example" not in str(caught.value)


async def test_plain_http_elsewhere_needs_the_option_with_the_dangerous_name() -> None:
    # A name that is no loopback literal, so that only the option lets it pass; it reaches this machine through a proxy.
    async with raw_server(whole()) as proxy:
        transport = Transport(proxy=f"http://127.0.0.1:{proxy.port}", allow_insecure_http=True)
        response = await transport.send(HTTPRequest("GET", "http://as.example/token"))
        await transport.aclose()
    assert response.status == 200
    assert proxy.seen[0].line == "GET http://as.example/token HTTP/1.1"


async def test_te11_the_answer_tells_when_its_request_was_sent() -> None:
    clock = ManualClock(wall_time=1_800_000_000.0)

    async def late(writer: asyncio.StreamWriter) -> None:
        clock.advance(5)
        await sending(whole(b'{"a": 1}', headers="X-Thing: 1\r\nRETRY-AFTER: 7\r\n"))(writer)

    async with raw_server(late) as server:
        transport = Transport(clock=clock)
        response = await transport.send(secret_request(server.url))
        await transport.aclose()
    assert response.requested_at == 1_800_000_000.0
    assert (response.status, response.body) == (200, b'{"a": 1}')
    assert response.headers["retry-after"] == "7"
    assert response.headers["x-thing"] == "1"


async def test_an_error_status_is_an_answer_like_any_other() -> None:
    async with raw_server(whole(b"no", status="503 Service Unavailable")) as server:
        transport = Transport()
        response = await transport.send(secret_request(server.url))
        await transport.aclose()
    assert (response.status, response.body) == (503, b"no")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"])
@pytest.mark.parametrize("same_origin", [True, False])
async def test_te1_a_redirect_is_given_back_and_not_followed(status: str, same_origin: bool) -> None:
    async with raw_server(whole()) as elsewhere:
        home: list[str] = []

        async def redirect(writer: asyncio.StreamWriter) -> None:
            location = home[0] if same_origin else elsewhere.url
            await sending(whole(b"", status=status, headers=f"Location: {location}\r\n"))(writer)

        async with raw_server(redirect) as server:
            home.append(f"http://127.0.0.1:{server.port}/elsewhere")
            transport = Transport()
            response = await transport.send(secret_request(server.url))
            await transport.aclose()
    assert response.status == int(status[:3])
    assert len(server.seen) == 1
    assert elsewhere.seen == []
