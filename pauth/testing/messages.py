"""Requests as the endpoints see them, and their replies. No aiohttp here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args
from urllib.parse import parse_qsl

__all__ = ["ENDPOINTS", "FORM", "Endpoint", "Refusal", "Reply", "SeenRequest", "html_page", "html_reply", "json_reply", "render", "seen_request"]

Endpoint = Literal["authorize", "token", "userinfo", "revoke", "jwks", "metadata", "resource", "device_authorization", "device"]
"""The names that the ledgers and the fault scripts know."""

ENDPOINTS: Final[tuple[Endpoint, ...]] = get_args(Endpoint)

FORM: Final = "application/x-www-form-urlencoded"

_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_REPEATABLE: Final = frozenset({"resource", "audience"})
"""RFC 8707 section 2 and RFC 8693 section 2.1 allow these more than once; RFC 6749 section 3.2 allows nothing else."""


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """One HTTP reply."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    document: Mapping[str, Any] | None = None
    """The JSON object that ``body`` holds, if it holds one."""


def json_reply(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """``document`` as a JSON reply that must not be cached (RFC 6749 section 5.1)."""
    body = json.dumps(document).encode()
    return Reply(status, body, {"Content-Type": "application/json", **_NO_STORE, **(headers or {})}, document)


def html_reply(page: str, status: int = 200) -> Reply:
    """A page for a browser: not cached, not framed, leaking no address (RFC 9700 sections 4.2 and 4.16)."""
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        **_NO_STORE,
    }
    return Reply(status, page.encode(), headers)


def html_page(title: str, content: str) -> str:
    """A whole page around ``content``, which is HTML already."""
    return f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title></head>\n<body>\n{content}\n</body>\n</html>\n'


def render(reply: Reply, reason: str) -> bytes:
    """The reply as the bytes of HTTP/1.1, for faults that send only some of them."""
    headers = {**reply.headers, "Content-Length": str(len(reply.body)), "Connection": "close"}
    head = f"HTTP/1.1 {reply.status} {reason}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return head.encode("latin-1") + b"\r\n" + reply.body


class Refusal(Exception):  # it is an answer, not an accident, and never leaves the server
    """An OAuth error to be answered (RFC 6749 section 5.2). ``description`` is fixed text: it repeats nothing that was sent."""

    def __init__(self, error: str, description: str, *, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.headers: Mapping[str, str] = headers or {}

    def reply(self) -> Reply:
        """The refusal as JSON; without a body if it has no description."""
        if not self.description:
            return Reply(self.status, b"", {"Content-Type": "text/plain", **_NO_STORE, **self.headers})
        return json_reply({"error": self.error, "error_description": self.description}, self.status, self.headers)


@dataclass(frozen=True, slots=True, repr=False)
class SeenRequest:
    """A request as it reached the server: what a script's ``when`` is asked about. Its parameters hold secrets; its repr shows none."""

    endpoint: Endpoint
    method: str
    headers: Mapping[str, str]
    """Names in lower case."""

    query: str
    """The query string as it came."""

    pairs: tuple[tuple[str, str], ...] = ()
    """The parameters of the query (GET) or of the form (POST) in their order."""

    problem: str | None = None
    """Why the request cannot be understood, if it cannot."""

    def __repr__(self) -> str:
        return f"<SeenRequest {self.method} {self.endpoint}>"

    @property
    def params(self) -> dict[str, str]:
        """The parameters by name. Those without a value count as left out (RFC 6749 section 3.2)."""
        return {name: value for name, value in self.pairs if value}

    @property
    def grant_type(self) -> str | None:
        """The ``grant_type`` asked for, at the token endpoint."""
        return self.params.get("grant_type") if self.endpoint == "token" else None

    def check_form(self) -> dict[str, str]:
        """The parameters of a POST that has nothing in its query.

        :raises Refusal: ``invalid_request`` for anything else (RFC 6749 section 3.2).
        """
        if self.method != "POST":
            raise Refusal("invalid_request", "this endpoint takes POST only", status=405, headers={"Allow": "POST"})
        if self.query:
            raise Refusal("invalid_request", "parameters belong into the body, not into the URL")
        if self.problem is not None:
            raise Refusal("invalid_request", self.problem)
        return self.params


def seen_request(endpoint: Endpoint, method: str, query: str, headers: list[tuple[str, str]], body: bytes) -> SeenRequest:
    """Parse a request. Nothing is refused here: what is wrong is noted in :attr:`SeenRequest.problem` for the endpoint to answer."""
    by_name = {name.lower(): value for name, value in headers}
    names = [name.lower() for name, _ in headers]
    pairs: tuple[tuple[str, str], ...] = ()
    problem = "more than one Authorization header" if names.count("authorization") > 1 else None
    if body and by_name.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        return SeenRequest(endpoint, method, by_name, query, pairs, f"the body must be {FORM}")
    try:
        encoded = body.decode() if method == "POST" else query
        pairs = tuple(parse_qsl(encoded, keep_blank_values=True, errors="strict", max_num_fields=200))
    except ValueError:  # not UTF-8, or too many parameters
        problem = "the parameters cannot be decoded"
    boxes = {"scope"} if endpoint in {"authorize", "device"} and method == "POST" else frozenset[str]()  # the consent pages'
    given = [name for name, _ in pairs if name not in _REPEATABLE | boxes]
    if len(given) != len(set(given)):
        problem = "a parameter was given more than once"
    return SeenRequest(endpoint, method, by_name, query, pairs, problem)
