"""NW-3, NW-4: the server is who its URL says, or nothing is sent to it. RQ-3: nothing switches that off."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pauth.errors import ConfigurationError, PAuthError, Remedy, UntrustedServer
from pauth.transport import Transport
from tests.transport.authority import Authority
from tests.transport.kit import RawServer, assert_bare, raw_server, secret_request, whole


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def _refusal(server: RawServer, context: ssl.SSLContext | None) -> PAuthError:
    transport = Transport(ssl_context=context)
    with pytest.raises(PAuthError) as caught:
        await transport.send(secret_request(server.url))
    await transport.aclose()
    assert_bare(caught.value)
    assert server.seen == []
    return caught.value


async def test_nw4_a_private_ca_is_trusted_through_a_context(authority: Authority) -> None:
    async with raw_server(whole(), tls=authority.server("127.0.0.1")) as server:
        transport = Transport(ssl_context=authority.trusting())
        response = await transport.send(secret_request(server.url))
        await transport.aclose()
    assert response.status == 200
    assert len(server.seen) == 1


async def test_nw4_an_unknown_ca_is_refused(authority: Authority) -> None:
    async with raw_server(whole(), tls=authority.server("127.0.0.1")) as server:
        error = await _refusal(server, None)
    assert isinstance(error, UntrustedServer)
    assert error.remedy is Remedy.FIX_CONFIGURATION
    assert "certificate of 127.0.0.1" in error.message
    assert "ssl_context" in error.message


async def test_nw4_another_ca_of_the_same_name_is_refused(authority: Authority, tmp_path: Path) -> None:
    async with raw_server(whole(), tls=authority.server("127.0.0.1")) as server:
        assert isinstance(await _refusal(server, Authority(tmp_path).trusting()), UntrustedServer)


@pytest.mark.parametrize("name", ["as.example", "127.0.0.2", "localhost"])
async def test_nw4_a_certificate_for_another_name_is_refused(name: str, authority: Authority) -> None:
    async with raw_server(whole(), tls=authority.server(name)) as server:
        assert isinstance(await _refusal(server, authority.trusting()), UntrustedServer)


async def test_nw4_a_certificate_that_has_ended_is_refused(authority: Authority) -> None:
    async with raw_server(whole(), tls=authority.server("127.0.0.1", ended=True)) as server:
        assert isinstance(await _refusal(server, authority.trusting()), UntrustedServer)


@pytest.mark.parametrize("name", ["PYTHONHTTPSVERIFY", "SSL_NO_VERIFY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
async def test_rq3_the_environment_does_not_switch_verification_off(name: str, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "0")
    async with raw_server(whole(), tls=authority.server("127.0.0.1")) as server:
        assert isinstance(await _refusal(server, None), UntrustedServer)


def _no_host_name() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


def _optional() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _nothing() -> ssl.SSLContext:
    context = _no_host_name()
    context.verify_mode = ssl.CERT_NONE
    return context


def _old_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    return context


@pytest.mark.parametrize("make", [_no_host_name, _optional, _nothing, _old_tls, lambda: False, lambda: True, lambda: aiohttp.Fingerprint(bytes(32))])
def test_nw4_a_context_that_does_not_verify_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError, match="ssl_context"):
        Transport(ssl_context=make())


def test_nw4_a_context_of_tls_1_3_alone_is_taken() -> None:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    Transport(ssl_context=context)


async def test_nw4_without_a_context_aiohttp_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    connector = aiohttp.TCPConnector

    def spy(*, ssl: object, **options: Any) -> aiohttp.TCPConnector:
        given.append(ssl)
        return connector(**options)

    monkeypatch.setattr(aiohttp, "TCPConnector", spy)
    async with raw_server(whole()) as server:
        transport = Transport()
        await transport.send(secret_request(server.url))
        await transport.aclose()
    assert given == [True]
