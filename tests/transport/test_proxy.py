"""A proxy is used if it is configured, and says nothing of the secrets that pass it."""

from __future__ import annotations

import asyncio

import pytest

from pauth.errors import ConfigurationError, ProviderUnavailable
from pauth.transport import Transport
from tests.transport.kit import assert_bare, raw_server, secret_request, unused_port, whole


async def test_a_configured_proxy_is_used_with_its_own_credentials() -> None:
    async with raw_server(whole()) as proxy:
        transport = Transport(proxy=f"http://user:CANARY-proxy@127.0.0.1:{proxy.port}")
        await transport.send(secret_request("http://localhost:9/token"))
        await transport.aclose()
    (seen,) = proxy.seen
    assert seen.line == "POST http://localhost:9/token HTTP/1.1"
    assert seen.header("proxy-authorization")


async def test_te20_https_passes_a_proxy_in_a_tunnel_and_a_refused_tunnel_has_carried_nothing() -> None:
    async with raw_server(whole(b"", status="407 Proxy Authentication Required")) as proxy:
        transport = Transport(proxy=f"http://user:CANARY-proxy@127.0.0.1:{proxy.port}")
        with pytest.raises(ProviderUnavailable) as caught:
            await transport.send(secret_request("https://as.example/token"))
        await transport.aclose()
    assert [seen.line for seen in proxy.seen] == ["CONNECT as.example:443 HTTP/1.1"]
    assert proxy.seen[0].header("authorization") == []
    assert not caught.value.request_sent
    assert_bare(caught.value)


async def test_te20_an_unreachable_proxy() -> None:
    transport = Transport(proxy=f"http://user:CANARY-proxy@127.0.0.1:{unused_port()}")
    with pytest.raises(ProviderUnavailable) as caught:
        await transport.send(secret_request("https://as.example/token"))
    await transport.aclose()
    assert not caught.value.request_sent
    assert_bare(caught.value)


async def test_p9_a_silent_proxy_ends_with_the_deadline() -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with raw_server(silent) as proxy:
        transport = Transport(proxy=f"http://127.0.0.1:{proxy.port}", timeout=0.1)
        with pytest.raises(ProviderUnavailable) as caught:
            await transport.send(secret_request("https://as.example/token"))
        await transport.aclose()
    assert not caught.value.request_sent


@pytest.mark.parametrize(
    "proxy",
    ["", "proxy.example:3128", "socks5://CANARY@proxy.example", "http://", "http://user:CANARY@:3128", "http://[::1", "http://p:99999", "http://p:0"],
)
def test_sh1_an_unusable_proxy_is_refused_without_repeating_it(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="URL of an HTTP proxy") as caught:
        Transport(proxy=proxy)
    assert_bare(caught.value)
