"""Where a token may go, as a pure function of text, beside what the HTTP libraries make of the same text."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url
from yarl import URL

from pauth.errors import ConfigurationError
from pauth.integrations._origins import Origin, Origins, conceal_origins, origin_of

API = "https://api.example"


def origins(named: str | list[str], *, allow_insecure_http: bool = False) -> Origins:
    return Origins(conceal_origins(named), allow_insecure_http=allow_insecure_http)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example/", "https://api.example"),
        ("HTTPS://API.example:443/a?b#c", "https://api.example"),
        ("https://api.example:8443/", "https://api.example:8443"),
        ("http://127.0.0.1:80/x", "http://127.0.0.1"),
        ("https://[0:0:0:0:0:0:0:1]:443/x", "https://[::1]"),
        ("wss://api.example/socket", "https://api.example"),
        ("ws://localhost:80/socket", "http://localhost"),
        ("https://api.example?q=https://evil.example", "https://api.example"),
        ("https://api.example#@evil.example", "https://api.example"),
        ("https://api.example/\\@evil.example\r\n\t/", "https://api.example"),
    ],
)
def test_the_origin_of_a_url(url: str, origin: str) -> None:
    assert str(origin_of(url)) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example",
        "//api.example/",
        "https:",
        "https:/api.example/",
        "https:api.example/",
        "https:///api.example/",
        "https://",
        "https:///",
        "ftp://api.example/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        " https://api.example/",
        "https://api.example /",
        "https://api.example\\@evil.example/",
        "https://api.example\\.evil.example/",
        "https://api.exam\tple/",
        "https://api.example\n.evil.example/",
        "https://ann@api.example/",
        "https://ann:secret@api.example/",
        "https://evil.example@api.example/",
        "https://@api.example/",
        "https://api.example:/",
        "https://api.example:0/",
        "https://api.example:65536/",
        "https://api.example:443443/",
        "https://api.example:+443/",
        "https://api%2eexample/",
        "https://äpi.example/",
        "https://api。example/",
        "https://[::1%25eth0]/",
        "https://[::1/",
        "https://::1/",
        "https://[1.2.3.4]/",
        "https://[:::]/",
    ],
)
def test_what_could_be_read_in_two_ways_has_no_origin(url: str) -> None:
    """PX-7"""
    assert origin_of(url) is None
    assert not origins([API, "https://[::1]"]).covers(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example/",  # RQ-2: scheme
        "https://api.example:8443/",  # port
        "https://evil.example/",  # host
        "https://www.api.example/",  # subdomain
        "https://example/",
        "https://api.example.evil.example/",
        "https://api.example./",
        "https://apiXexample/",
        "https://ann:secret@api.example/",  # user name
        "https://evil.example/https://api.example/",
        "https://evil.example?https://api.example/",
    ],
)
def test_another_origin_is_not_covered_however_alike(url: str) -> None:
    """RQ-2"""
    assert not origins(API).covers(url)


def test_one_origin_or_several() -> None:
    several = origins([API, "https://files.example:8443/", "http://localhost:8080", "http://[::1]:8080"])
    assert repr(several) == "<Origins http://[::1]:8080, http://localhost:8080, https://api.example, https://files.example:8443>"
    assert several.covers("https://files.example:8443/a") and several.covers("http://LOCALHOST:8080/") and several.covers("http://[::1]:8080/")
    assert not several.covers("https://files.example/a")
    assert origins("https://API.example:443").covers("https://api.example/me")


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "api.example",
        "*",
        "https://*.api.example",
        "https://api.example/v1",
        "https://api.example/v1/",
        "https://api.example?x",
        "https://api.example/?x=1",
        "https://api.example/?x=/",
        "https://api.example#x",
        "https://ann:CANARY-password@api.example",
        "http://api.example",  # RQ-3
        "ws://api.example",
        "wss://api.example",
        "ftp://api.example",
        "https://api.example:99999",
    ],
)
def test_what_is_no_origin_is_refused_when_it_is_named(origin: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write https://api\.example"):
        origins(origin)


def test_no_origin_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="name the origins"):
        origins([])


def test_plain_http_to_another_machine_has_to_be_asked_for() -> None:
    """RQ-3"""
    assert origins("http://api.internal:8080", allow_insecure_http=True).covers("http://api.internal:8080/x")


def test_a_library_that_takes_the_token_from_http_to_https_needs_both() -> None:
    with pytest.raises(ConfigurationError, match=r"from http://127\.0\.0\.1 along to https://127\.0\.0\.1 when it is redirected"):
        origins("http://127.0.0.1").check_upgrades()
    origins(["http://127.0.0.1", "https://127.0.0.1"]).check_upgrades()
    origins(["http://127.0.0.1:8080", API]).check_upgrades()


HOSTS = ["api.example", "API.example", "evil.example", "api.example.evil.example", "127.0.0.1", "[::1]", "xn--pi-xia.example", "äpi.example"]
PIECES = st.sampled_from(
    [
        *HOSTS,
        "https",
        "http",
        "://",
        ":",
        "/",
        "//",
        "\\",
        "@",
        "?",
        "#",
        ":443",
        ":80",
        ":8443",
        ".",
        "%2e",
        "%40",
        "\t",
        "\n",
        " ",
        "ann",
        "[",
        "]",
        "a",
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join) | st.tuples(st.sampled_from(["https://", "http://"]), st.text(max_size=12)).map("".join))
@example("https://api.example\\@evil.example/")
@example("https://evil.example#@api.example/")
def test_every_library_sends_what_is_covered_to_the_origin_that_was_named(url: str) -> None:
    """PX-7: of any text at all, either no token is sent there, or all parsers agree where there is."""
    origin = origin_of(url)
    if origin is None:
        return
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    parsed = urlsplit(url)
    assert (parsed.scheme, (parsed.hostname or "").lower(), parsed.port or {"http": 80, "https": 443}[origin.scheme]) == _plain(origin)
    aiohttp_url = URL(url)
    assert (aiohttp_url.scheme, aiohttp_url.raw_host, aiohttp_url.port) == _plain(origin)
    requests_url = parse_url(url)
    assert (requests_url.scheme, requests_url.host, requests_url.port or {"http": 80, "https": 443}[origin.scheme]) == (
        origin.scheme,
        host,
        origin.port,
    )
    try:
        httpx_url = httpx.URL(url)
    except httpx.InvalidURL:
        return  # sent nowhere
    assert (httpx_url.scheme, httpx_url.raw_host.decode(), httpx_url.port or {"http": 80, "https": 443}[origin.scheme]) == _plain(origin)


def _plain(origin: Origin) -> tuple[str, str, int]:
    return origin.scheme, origin.host, origin.port


@given(st.text())
def test_no_text_makes_it_raise(text: str) -> None:
    assert not origins(API).covers(f"x{text}")
    assert not origins(API).covers(f"https://evil.example/{text}")
    assert not origins(API).covers(f"https://{text}@api.example/") or text[:11].lower() == "api.example"
