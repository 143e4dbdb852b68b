"""What is particular to one HTTP library."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx
import pytest
import requests
from yarl import URL

from pauth import ConfigurationError, OAuth2Client, ProviderUnavailable, Token
from pauth.integrations.aiohttp import TokenMiddleware
from pauth.integrations.httpx import SyncTokenAuth, TokenAuth
from pauth.integrations.requests import TokenAuth as RequestsTokenAuth
from pauth.testing import faults
from tests.client.kit import Bench
from tests.integrations.resources import Resource, resource
from tests.integrations.sources import BlockingSource

SECRET = "https://ann:CANARY-password@api.example"


@pytest.fixture
async def client(bench: Bench) -> OAuth2Client:
    client = bench.client()
    await bench.log_in(client)
    return client


@pytest.fixture
async def token(client: OAuth2Client) -> Token:
    return await client.get_token("alice")


def sent(token: Token) -> str:
    return token.auth_headers()["Authorization"]


@pytest.mark.parametrize("kind", [TokenAuth, SyncTokenAuth, RequestsTokenAuth, TokenMiddleware])
def test_an_origin_with_a_password_is_refused_without_showing_it(kind: Any) -> None:
    """SH-5"""
    with pytest.raises(ConfigurationError, match="user name or password"):
        kind(object(), "alice", origins=SECRET)


@pytest.mark.parametrize("kind", [TokenAuth, SyncTokenAuth, RequestsTokenAuth])
def test_libraries_that_follow_http_to_https_with_the_token_are_told_both(kind: Any) -> None:
    """RQ-2"""
    with pytest.raises(ConfigurationError, match="list both"):
        kind(object(), "alice", origins="http://localhost")
    kind(object(), "alice", origins=["http://localhost", "https://localhost"])
    TokenMiddleware(object(), "alice", origins="http://localhost")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # never asked


@pytest.mark.parametrize(("scheme", "carried"), [("http", True), ("https", False)])
async def test_that_is_why(scheme: str, *, carried: bool) -> None:
    """httpx and Requests strip the header from every redirect to another origin but this one. If one of them stops it, the check can go."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/there":
            return httpx.Response(200, text=str("Authorization" in request.headers))
        return httpx.Response(302, headers={"Location": f"{'https' if scheme == 'http' else 'http'}://api.example/there"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), follow_redirects=True) as http:
        response = await http.get(f"{scheme}://api.example/", headers={"Authorization": "x"})
    assert response.text == str(carried)
    with requests.Session() as session:
        other = "https" if scheme == "http" else "http"
        anything: Any = session  # its types are incomplete
        assert anything.should_strip_auth(f"{scheme}://api.example/", f"{other}://api.example/") is not carried


# httpx


async def test_each_kind_of_httpx_client_has_its_own_kind_of_auth(client: OAuth2Client, api: Resource) -> None:
    async with httpx.AsyncClient(auth=SyncTokenAuth(BlockingSource(client), "alice", origins=api.origin)) as http:
        with pytest.raises(ConfigurationError, match=r"use TokenAuth and an OAuth2Client"):
            await http.get(api.url())
    with (
        httpx.Client(auth=TokenAuth(client, "alice", origins=api.origin)) as blocking,
        pytest.raises(ConfigurationError, match="use SyncTokenAuth and a SyncOAuth2Client"),
    ):
        await asyncio.to_thread(blocking.get, api.url())
    with pytest.raises(NotImplementedError):
        TokenAuth(client, "alice", origins=api.origin).auth_flow(httpx.Request("GET", api.url()))
    assert api.seen == []


async def test_an_auth_for_a_single_request(client: OAuth2Client, token: Token, api: Resource) -> None:
    async with httpx.AsyncClient() as http:
        await http.get(api.url(), auth=TokenAuth(client, "alice", origins=api.origin))
        await http.get(api.url())
    assert api.tokens() == [sent(token), None]


# Requests


async def test_a_file_is_wound_back_to_where_it_was(client: OAuth2Client, token: Token, api: Resource, tmp_path: Path) -> None:
    api.refused.add(sent(token))
    auth = RequestsTokenAuth(BlockingSource(client), "alice", origins=api.origin)
    (tmp_path / "body").write_bytes(b"skipped, sent")

    def upload() -> int:
        with (tmp_path / "body").open("rb") as file:
            file.seek(9)
            return requests.post(api.url(), data=file, auth=auth, timeout=60).status_code

    assert await asyncio.to_thread(upload) == 200
    assert [seen.body for seen in api.seen] == [b"sent", b"sent"]


class Pipe(io.RawIOBase):
    """A file that cannot be wound back."""

    def __init__(self, content: bytes) -> None:
        self.content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.content.readinto(buffer)


async def test_a_pipe_is_not_sent_twice(client: OAuth2Client, token: Token, api: Resource) -> None:
    api.refused.add(sent(token))
    auth = RequestsTokenAuth(BlockingSource(client), "alice", origins=api.origin)
    response = await asyncio.to_thread(requests.post, api.url(), data=Pipe(b"body"), auth=auth, timeout=60)
    assert (response.status_code, [seen.body for seen in api.seen]) == (401, [b"body"])


async def test_the_answer_is_the_second_and_the_first_is_in_its_history(client: OAuth2Client, token: Token, api: Resource) -> None:
    api.refused.add(sent(token))
    auth = RequestsTokenAuth(BlockingSource(client), "alice", origins=api.origin)
    with requests.Session() as session:
        session.auth = auth
        response = await asyncio.to_thread(session.get, api.url(), timeout=60)
        assert [earlier.status_code for earlier in response.history] == [401]
        assert response.request.headers["Authorization"] == sent(await client.get_token("alice"))
        answers = await asyncio.gather(*(asyncio.to_thread(session.get, api.url(), timeout=60) for _ in range(8)))  # one object, many threads
        assert {answer.status_code for answer in answers} == {200}


# aiohttp


async def test_two_middlewares_each_for_an_api_of_its_own(bench: Bench, client: OAuth2Client, token: Token, api: Resource) -> None:
    """Each remembers the way of a redirect, whichever of them is asked last."""
    bob = (await bench.log_in(client, "bob")).token
    async with resource("localhost") as other:
        bearers = [
            TokenMiddleware(client, "alice", origins=api.origin),
            TokenMiddleware(client, "bob", origins=other.origin),
        ]
        for order in (bearers, bearers[::-1]):
            async with aiohttp.ClientSession(middlewares=order) as session:
                await session.get(api.url())
                await session.get(other.url())
                await session.get(URL(api.url(f"/go?to={quote(other.url('/there'), safe='')}"), encoded=True))
                await session.get(URL(other.url(f"/go?to={quote(api.url('/there'), safe='')}"), encoded=True))
        assert api.tokens() == [sent(token), sent(token), None] * 2
        assert other.tokens() == [sent(bob), None, sent(bob)] * 2


async def test_a_second_attempt_is_on_the_way_of_the_first(client: OAuth2Client, token: Token, api: Resource) -> None:
    """A middleware outside sends a request again; the one inside still knows that a stranger led here. Asked for anew, it is another request."""

    async def twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        (await handler(request)).release()
        return await handler(request)

    async with resource("localhost") as stranger:
        bearer = TokenMiddleware(client, "alice", origins=api.origin)
        async with aiohttp.ClientSession(middlewares=[twice, bearer]) as session:
            await session.get(URL(stranger.url(f"/go?to={quote(api.url(), safe='')}"), encoded=True))
            assert api.tokens() == [None] * 2
            await session.get(api.url())
            assert api.tokens() == [None] * 2 + [sent(token)] * 2


@pytest.mark.parametrize("requote", [True, False])
@pytest.mark.parametrize("path", ["/a b", "/a%20b?x=%2f&y=a+b", "/ä", "/%C3%A4?q=ä", "/x?a=b%26c#part", "/%7Euser", "/a/../b", "/%zz"])
async def test_a_stranger_cannot_hide_behind_how_a_url_is_written(client: OAuth2Client, api: Resource, path: str, *, requote: bool) -> None:
    sent: list[tuple[str | None, str | None]] = []

    async def spy(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        sent.append((request.url.host, request.headers.get("Authorization")))
        return await handler(request)

    async with resource("localhost") as stranger:
        bearer = TokenMiddleware(client, "alice", origins=api.origin)
        async with aiohttp.ClientSession(middlewares=[bearer, spy], requote_redirect_url=requote) as session:
            await session.get(URL(stranger.url(f"/go?to={quote(api.url(path), safe='')}"), encoded=True))
    assert sent == [("localhost", None), ("127.0.0.1", None)]


async def test_a_stranger_cannot_hide_behind_a_zero(client: OAuth2Client, token: Token) -> None:
    """RQ-2: `:0443`, which is another URL object than `:443`, and the same server."""
    async with AsyncExitStack() as stack:
        served: list[Resource] = []
        for port in range(9000, 9999):  # of four digits: one that has five of them already would be none with a zero
            with suppress(OSError):
                served.append(await stack.enter_async_context(resource(port=port)))
                break
        (api,) = served
        stranger = await stack.enter_async_context(resource("localhost"))
        bearer = TokenMiddleware(client, "alice", origins=api.origin)
        async with aiohttp.ClientSession(middlewares=[bearer], requote_redirect_url=False) as session:
            await session.get(URL(stranger.url(f"/go?to={quote(f'http://127.0.0.1:0{api.port}/x', safe='')}"), encoded=True))
            await session.get(api.url("/x"))
        assert api.tokens() == [None, sent(token)]


async def test_a_redirect_that_is_not_followed_says_nothing_of_other_urls(client: OAuth2Client, token: Token, api: Resource) -> None:
    bearer = TokenMiddleware(client, "alice", origins=api.origin)
    async with resource("localhost") as stranger, aiohttp.ClientSession(middlewares=[bearer]) as session:
        for location in (api.url("/there"), "http://[broken", "http://[]@", ""):
            await session.get(URL(stranger.url(f"/go?to={quote(location, safe='')}"), encoded=True), allow_redirects=False)
            await session.get(api.url("/elsewhere"))
    assert api.tokens() == [sent(token)] * 4


async def test_a_redirect_that_is_not_followed_costs_the_next_request_to_that_url_its_token(
    client: OAuth2Client, token: Token, api: Resource
) -> None:
    """RQ-2: aiohttp does not say which of the two it is, and a stranger's redirect must not bring a token along."""
    bearer = TokenMiddleware(client, "alice", origins=api.origin)
    async with resource("localhost") as stranger, aiohttp.ClientSession(middlewares=[bearer]) as session:
        await session.get(URL(stranger.url(f"/go?to={quote(api.url('/there'), safe='')}"), encoded=True), allow_redirects=False)
        for _ in range(2):
            await session.get(api.url("/there"))
    assert api.tokens() == [None, sent(token)]


async def test_a_middleware_for_a_single_request(client: OAuth2Client, token: Token, api: Resource) -> None:
    async with aiohttp.ClientSession() as session:
        await session.get(api.url(), middlewares=[TokenMiddleware(client, "alice", origins=api.origin)])
        await session.get(api.url())
    assert api.tokens() == [sent(token), None]


async def test_a_refused_answer_is_let_go(bench: Bench, client: OAuth2Client, token: Token, api: Resource) -> None:
    """Also when the refresh fails: the one connection there may be is free for what comes."""
    api.refused.add(sent(token))
    bearer = TokenMiddleware(client, "alice", origins=api.origin)
    async with aiohttp.ClientSession(middlewares=[bearer], connector=aiohttp.TCPConnector(limit=1)) as session:
        bench.server.script("token", faults.status(503), times=None)
        for _ in range(2):
            with pytest.raises(ProviderUnavailable):
                await session.get(api.url())
        bench.server.clear_script()
        bench.clock.advance(60)  # it is not asked again at once
        async with session.get(api.url()) as response:
            assert response.status == 200


async def test_a_form_is_sent_again_and_a_stream_is_not(client: OAuth2Client, token: Token, api: Resource) -> None:
    api.refused.add(sent(token))

    async def stream() -> AsyncIterator[bytes]:
        yield b"body"

    bearer = TokenMiddleware(client, "alice", origins=api.origin)
    async with aiohttp.ClientSession(middlewares=[bearer]) as session:
        async with session.post(api.url(), data=stream()) as response:
            assert response.status == 401
        api.refused.add(sent(await client.get_token("alice")))
        async with session.post(api.url(), data={"a": "1"}) as response:
            assert response.status == 200
    assert [seen.body for seen in api.seen] == [b"body", b"a=1", b"a=1"]
