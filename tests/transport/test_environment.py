"""TE-19: nothing of the environment gets into protocol requests, and nothing is carried from one answer to the next request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pauth.core.wire import HTTPRequest
from pauth.transport import Transport
from tests.transport.kit import BASIC, RawServer, raw_server, secret_request, sending, whole


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with raw_server(sending(whole(headers="Set-Cookie: session=CANARY-cookie; Path=/\r\n"), close=False)) as server:
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport()
    yield transport
    await transport.aclose()


@pytest.mark.plaintext_files  # a netrc file is one
@pytest.mark.parametrize("headers", [{}, {"Authorization": BASIC}], ids=["public client", "HTTP Basic"])
async def test_te19_netrc_is_not_read(
    headers: dict[str, str], server: RawServer, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login mallory password CANARY-netrc\ndefault login mallory password CANARY-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    await transport.send(HTTPRequest("POST", server.url, headers, b""))
    assert server.seen[0].header("authorization") == list(headers.values())


@pytest.mark.parametrize("scheme", ["http", "https", "all"])
async def test_te19_proxies_of_the_environment_are_not_used(
    scheme: str, server: RawServer, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server(whole()) as proxy:
        for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        await transport.send(secret_request(server.url))
    assert proxy.connections == 0
    assert len(server.seen) == 1


async def test_te19_cookies_are_not_replayed(server: RawServer, transport: Transport) -> None:
    for _ in range(2):
        await transport.send(secret_request(server.url))
    assert server.connections == 1  # one session, one connection: a cookie would have had every chance
    assert [seen.header("cookie") for seen in server.seen] == [[], []]


async def test_te18_no_credentials_stay_behind_in_the_session(server: RawServer, transport: Transport) -> None:
    await transport.send(secret_request(server.url))
    await transport.send(HTTPRequest("GET", server.url))
    assert server.seen[1].header("authorization") == []
    assert server.seen[1].body == b""
