from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from pauth.core.urls import MAX_URL, check_endpoint, url_problem
from pauth.errors import ConfigurationError

GOOD = [
    "https://as.example",
    "https://as.example/",
    "https://AS.Example:8443/a/b?c=d&e=%2F",
    "HTTPS://as.example/token",
    "https://xn--bcher-kva.example/token",
    "https://my_host/token",
    "https://localhost/token",
    "https://203.0.113.7/token",
    "https://[2001:db8::1]:444/token",
    "https://as.example/@user",
    "https://as.example?x=1",
    "https://1password.example/",
    "http://127.0.0.1:1/token",
    "http://127.255.0.9/token",
    "http://[::1]:8080/token",
    "http://[0:0:0:0:0:0:0:1]/token",
    "http://localhost/token",
    "http://LocalHost:3000/token",
]


@pytest.mark.parametrize("url", GOOD)
def test_px7_a_good_endpoint_is_given_back_unchanged(url: str) -> None:
    assert check_endpoint(url, name="token endpoint") == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "non-empty"),
        (None, "non-empty str"),
        (b"https://as.example/", "non-empty str"),
        ("https://as.example/" + "x" * MAX_URL, "longer than"),
        ("https://as.example/#", "fragment"),
        ("https://as.example/#x", "fragment"),
        ("https://as.example/ x", "characters"),
        ("https://as.example/\t", "characters"),
        ("https://as.exa\nmple/", "characters"),
        (" https://as.example/", "characters"),
        ("https://as.example\\@evil.example/", "characters"),
        ("https:\\\\as.example/", "characters"),
        ("https://bücher.example/", "xn--"),
        ("https://as。example/", "characters"),
        ("https://\uff21\uff33.example/", "characters"),
        ("https://as.example/%zz", "characters"),
        ("https://as.example/%", "characters"),
        ("https://[::1%25eth0]/", "host and port"),
        ("https://[::1%eth0]/", "characters"),
        ("https://as.example/{tenant}/token", "characters"),
        ("https://as.example/a[0]", "must be an https: URL"),
        ("as.example/token", "must be an https: URL"),
        ("//as.example/token", "must be an https: URL"),
        ("/token", "must be an https: URL"),
        ("ftp://as.example/", "must be an https: URL"),
        ("https:as.example", "must be an https: URL"),
        ("https:/as.example", "must be an https: URL"),
        ("https://user@as.example/", "user name"),
        ("https://user:CANARY-password-1@as.example/", "user name"),
        ("https://@as.example/", "user name"),
        ("https://a@evil/cb", "user name"),
        ("http://localhost:80@evil/cb", "user name"),
        ("https:///token", "host and port"),
        ("https://", "host and port"),
        ("https://:443/", "host and port"),
        ("https://as.example:/", "host and port"),
        ("https://as.example:0/", "host and port"),
        ("https://as.example:65536/", "host and port"),
        ("https://as.example:4x/", "host and port"),
        ("https://as.example:443:443/", "host and port"),
        ("http://[bad/", "host and port"),
        ("https://[]/", "host and port"),
        ("https://[::1]x/", "host and port"),
        ("https://as%2Eexample/", "host and port"),
        ("https://[::g]/", "host and port"),
        ("https://[:::1]/", "IP literal"),
        ("https://[1.2.3.4]/", "IP literal"),
        ("https://127.1/", "IP literal"),
        ("https://2130706433/", "IP literal"),
        ("https://0x7f.1/", "IP literal"),
        ("https://0x7f000001/", "IP literal"),
        ("https://1.2.3.256/", "IP literal"),
        ("https://127.0.0.01/", "IP literal"),
        ("https://as.1/", "IP literal"),
        ("https://as..example/", "valid name"),
        ("https://.example/", "valid name"),
        ("https://as.example./", "valid name"),
        ("https://-as.example/", "valid name"),
        ("https://as-.example/", "valid name"),
        (f"https://{'a' * 64}.example/", "valid name"),
        (f"https://{'a.' * 127}example/", "valid name"),
        ("http://as.example/token", "accepted only on"),
        ("http://128.0.0.1/", "accepted only on"),
        ("http://[::ffff:127.0.0.1]/", "accepted only on"),
        ("http://[::2]/", "accepted only on"),
        ("http://localhost.evil.example/", "accepted only on"),
        ("http://127.0.0.1.evil.example/", "accepted only on"),
        ("http://evil-localhost/", "accepted only on"),
    ],
)
def test_px7_nw3_a_bad_endpoint_is_refused_and_not_repeated(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        check_endpoint(url, name="token endpoint")
    assert str(caught.value).startswith("the token endpoint ")
    assert "evil" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)//https://as.example/",
        "\x00javascript:alert(1)",
        "java\tscript:alert(1)",
        "data:text/html,x",
        "DATA:text/html;base64,eA==",
        "file:///etc/passwd",
        "  file:///etc/passwd",
        "vbscript:msgbox",
        "\x01vbscript:x",
        "blob:https://as.example/x",
        "view-source:https://as.example/",
        "--flag",
        "a:$(calc)?",
    ],
)
def test_ar7_only_https_and_loopback_http_are_schemes(url: str) -> None:
    for insecure in (False, True):
        with pytest.raises(ConfigurationError):
            check_endpoint(url, name="authorization endpoint", allow_insecure_http=insecure)


def test_nw3_http_off_loopback_needs_the_dangerous_option() -> None:
    assert check_endpoint("http://as.example/token", name="token endpoint", allow_insecure_http=True) == "http://as.example/token"
    for url in ("http://user@as.example/", "http://as..example/", "ftp://as.example/"):
        assert url_problem(url, allow_insecure_http=True) is not None


def same_host(one: str | None, other: str | None) -> bool:
    try:
        return ipaddress.ip_address(one or "") == ipaddress.ip_address(other or "")
    except ValueError:
        return one == other


def agree(url: str) -> None:
    """Accepted means: urllib and yarl see the same scheme, host and port, no user, no fragment."""
    if url_problem(url, allow_insecure_http=True) is not None:
        return
    standard, other = urlsplit(url), URL(url)
    assert standard.hostname, url
    assert same_host(standard.hostname, other.raw_host), url
    assert standard.scheme == other.scheme, url
    assert (standard.port or {"http": 80, "https": 443}[standard.scheme]) == other.port, url
    assert standard.username is None, url
    assert other.raw_user is None, url
    assert standard.fragment == other.raw_fragment == "", url
    if url_problem(url) is None and standard.scheme == "http":
        assert standard.hostname == "localhost" or ipaddress.ip_address(standard.hostname).is_loopback, url


@pytest.mark.parametrize("url", GOOD)
def test_px7_parsers_agree_on_good_endpoints(url: str) -> None:
    agree(url)


HOSTS = st.sampled_from(["as.example", "localhost", "127.0.0.1", "[::1]", "evil", "0x7f", "1", "a_b", "xn--bcher-kva", "%61", "[::ffff:1.2.3.4]", ""])
JOINTS = st.sampled_from(
    ["@", ":", "\\", "/", "//", "?", "#", ".", "\t", "\n", "%2F", "%25", "[", "]", ":80", ":65535", "-", "。", "\uff05", " ", ""]
)


def join(scheme: str, parts: list[tuple[str, str]]) -> str:
    return scheme + "".join(host + joint for host, joint in parts)


HOSTILE = st.builds(
    join,
    st.sampled_from(["https://", "http://", "HTTP://", "https:/", "https:", "//", "https:\\\\", "https:///"]),
    st.lists(st.tuples(HOSTS, JOINTS), min_size=1, max_size=4),
)


@given(HOSTILE | st.text(max_size=60) | st.text(alphabet="htps:/.@[]#?%\\0a1-_", max_size=60).map(lambda text: "https://" + text))
@example("https://as.example:80\\@evil/")
@example("https://[::1]@evil/")
def test_px7_where_parsers_disagree_the_url_is_refused(url: str) -> None:
    agree(url)


@pytest.mark.parametrize(
    "url", ["https://" + "a." * 50_000, "https://" + "%61" * 30_000, "http://[" + ":" * 100_000, "https://" + "[" * 100_000 + "@"]
)
def test_px8_adversarial_urls_are_refused_by_length_before_any_pattern(url: str) -> None:
    assert url_problem(url) == f"is longer than {MAX_URL} characters"
