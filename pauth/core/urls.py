"""Which URLs requests may be sent to. Where two URL parsers could read one differently, it is refused (PX-7)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from pauth.errors import ConfigurationError

__all__ = ["MAX_URL", "check_endpoint", "url_problem"]

MAX_URL: Final = 2048
"""The longest endpoint URL, in characters."""

# Only what RFC 3986 allows, and only an authority that every parser splits alike.
_URL_TEXT: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_HTTP_URL: Final = re.compile(r"(https?)://([^/?]*)[^\[\]]*", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LOOPBACK_V4: Final = ipaddress.IPv4Network("127.0.0.0/8")
_LOOPBACK_V6: Final = ipaddress.IPv6Address("::1")


def _host_problem(v6: str | None, name: str) -> tuple[str | None, bool]:
    """What is wrong with a host, and whether it is loopback."""
    try:
        if v6 is not None:
            return None, ipaddress.IPv6Address(v6) == _LOOPBACK_V6
        labels = name.split(".")
        if _NUMBER.fullmatch(labels[-1]):  # 127.1, 0x7f.1 and 2130706433 are addresses to some resolvers and names to others
            return None, ipaddress.IPv4Address(name) in _LOOPBACK_V4
    except ValueError:
        return "has an address that is not a valid IP literal", False
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "has a host that is not a valid name", False
    return None, name.lower() == "localhost"


def url_problem(url: object, *, allow_insecure_http: bool = False) -> str | None:
    """What keeps ``url`` from being used as an endpoint, as the end of a sentence without any piece of the URL; ``None`` if nothing does.

    The rules are those of :func:`check_endpoint`.
    """
    if not isinstance(url, str) or not url:
        return "must be a non-empty str"
    if len(url) > MAX_URL:
        return f"is longer than {MAX_URL} characters"
    if "#" in url:
        return "must not have a fragment"
    if not _URL_TEXT.fullmatch(url):
        return "holds characters that a URL must not hold; write them percent-encoded, and an international host name in its xn-- form"
    parts = _HTTP_URL.fullmatch(url)
    if parts is None:
        return "must be an https: URL"
    if "@" in parts[2]:
        return "must not have a user name or password"
    authority = _AUTHORITY.fullmatch(parts[2])
    if authority is None or not 0 < int(authority[3] or 443) < 65_536:
        return "has no valid host and port"
    problem, loopback = _host_problem(authority[1], authority[2])
    if problem is None and parts[1].lower() == "http" and not loopback and not allow_insecure_http:
        return "must be an https: URL; http: is accepted only on 127.0.0.0/8, [::1] and localhost, or with allow_insecure_http=True"
    return problem


def check_endpoint(url: str, *, name: str, allow_insecure_http: bool = False) -> str:
    """Give back ``url``, unchanged, if requests may be sent to it (PX-7, AR-7, MD-3).

    That is: ``https:`` with a host; ``http:`` only for a literal of 127.0.0.0/8, ``[::1]`` or ``localhost``, or with ``allow_insecure_http``; no user
    name, no fragment, none but the characters of RFC 3986, and a host that every URL parser reads alike.

    :param name: what the URL is, for the message.
    :raises ConfigurationError: the URL is refused; the message does not repeat it.
    """
    problem = url_problem(url, allow_insecure_http=allow_insecure_http)
    if problem is None:
        return url
    del url  # it may hold a password, and a traceback with locals would print it
    raise ConfigurationError(f"the {name} {problem}")
