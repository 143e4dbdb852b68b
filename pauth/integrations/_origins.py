"""Which origins a token may be sent to (RFC 6750 section 5.3, RFC 9700 section 4.9.1; RQ-2, RQ-3). Pure functions of text.

An origin is scheme, host and port (RFC 6454). A URL is read here by the narrowest grammar that covers what HTTP libraries print: a URL which two
parsers could read differently has no origin, and a URL without origin is sent no token (PX-7).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pauth.core.urls import url_problem
from pauth.errors import ConfigurationError
from pauth.secret import Secret

__all__ = ["Origin", "Origins", "conceal_origins", "origin_of"]

_URL: Final = re.compile(r"(https?|wss?)://(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?(?:[/?#].*)?", re.IGNORECASE | re.DOTALL)
_BARE: Final = re.compile(r"[^/]*//[^/?#]*/?")
_HTTP: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}  # a WebSocket begins as an HTTP request
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme (``http`` or ``https``), host in lower case, and port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" if self.port == _PORTS[self.scheme] else f"{self.scheme}://{host}:{self.port}"


def origin_of(url: str) -> Origin | None:
    """The origin of a URL; ``None`` if it has a user name, a host that is no plain ASCII name or address, or is no URL of HTTP at all."""
    parts = _URL.fullmatch(url)
    if parts is None:
        return None
    scheme, host = _HTTP[parts[1].lower()], (parts[3] or "").lower()
    port = int(parts[4]) if parts[4] else _PORTS[scheme]
    if not 0 < port < 65_536:
        return None
    if parts[2]:
        try:
            host = ipaddress.IPv6Address(parts[2]).compressed
        except ValueError:
            return None
    return Origin(scheme, host, port)


class Origins:
    """The origins that a token belongs to.

    :param origins: as :func:`conceal_origins` gives them: such as ``https://api.example``, without path, query or user name.
    :param allow_insecure_http: permit plain ``http:`` to other hosts than this machine. Dangerous: tokens travel readable.
    :raises ConfigurationError: none is given, or one is not an origin.
    """

    __slots__ = ("_listed",)

    def __init__(self, origins: tuple[Secret, ...], *, allow_insecure_http: bool = False) -> None:
        if not origins:
            raise ConfigurationError('name the origins that the token may be sent to: origins=["https://api.example"]')
        self._listed = frozenset(_listed(origin, allow_insecure_http=allow_insecure_http) for origin in origins)

    def __repr__(self) -> str:
        return f"<Origins {', '.join(sorted(map(str, self._listed)))}>"

    def __contains__(self, origin: Origin | None) -> bool:
        return origin in self._listed

    def covers(self, url: str) -> bool:
        """Whether a token may be sent to ``url``, the whole URL as the HTTP library is about to request it. Never raises."""
        return origin_of(url) in self._listed

    def check_upgrades(self) -> None:
        """For libraries that carry ``Authorization`` along on a redirect from ``http://host`` to ``https://host``: both have to be listed.

        :raises ConfigurationError: the second of such a pair is not listed.
        """
        for origin in self._listed:
            if origin.scheme == "http" and origin.port == 80 and (secure := Origin("https", origin.host, 443)) not in self._listed:
                raise ConfigurationError(
                    f"this HTTP library takes a token from {origin} along to {secure} when it is redirected there: list both, or use another port"
                )


def conceal_origins(origins: str | Iterable[str]) -> tuple[Secret, ...]:
    """One origin or several, out of the sight of tracebacks: by mistake one may hold a password (SH-5)."""
    return tuple(map(Secret, (origins,) if isinstance(origins, str) else origins))


def _listed(text: Secret, *, allow_insecure_http: bool) -> Origin:
    problem = url_problem(text.reveal(), allow_insecure_http=allow_insecure_http)
    origin = None if problem or not _BARE.fullmatch(text.reveal()) else origin_of(text.reveal())
    if origin is None:
        raise ConfigurationError(f"an origin {problem or 'is scheme, host and port only'}: write https://api.example")
    return origin
