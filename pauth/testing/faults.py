"""Faults to script into the server: ``server.script("token", faults.status(503))``.

A fault that answers *instead of* the server (:func:`status`, :func:`body`, :func:`rate_limited`, :func:`drop_before`) leaves the request unapplied:
no token is issued, none is spent. All others let the server apply the request, so that a refresh token has been rotated whatever the client sees.

As with any real server, a request that has arrived is applied even if its client hangs up while it waits in :func:`delay` or :func:`hold`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pauth.testing.messages import Reply, json_reply

__all__ = [
    "Delivery",
    "Exchange",
    "Fault",
    "Hold",
    "body",
    "cut",
    "delay",
    "drip",
    "drop_before",
    "hold",
    "omit",
    "override",
    "rate_limited",
    "status",
]


class Exchange(Protocol):
    """The request a fault is played on."""

    def apply(self) -> Reply:
        """Let the server handle the request, at the first call, and give its true reply."""
        ...

    def skip(self) -> None:
        """Enter the request in the ledger without handling it."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Delivery:
    """How a reply goes out."""

    reply: Reply | None
    """``None``: not at all, the connection is closed."""

    stop_after: int | None = None
    """Send this many bytes of head and body (negative: all but so many), then close the connection."""

    bytes_per_chunk: int | None = None
    """Send so many bytes at a time, ``interval`` seconds apart."""

    interval: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether the reply goes out in one piece, as an ordinary one does."""
        return self.stop_after is None and self.bytes_per_chunk is None


class Fault(ABC):
    """One way in which a server misbehaves. Made by the functions of this module."""

    label: str | None = None
    """What the ledger calls it, after ``fault:``; ``None`` if the client sees the server's own answer in the end."""

    @abstractmethod
    async def play(self, exchange: Exchange) -> Delivery:
        """Handle ``exchange`` the faulty way."""


class _Answer(Fault):
    def __init__(self, label: str, reply: Reply | None) -> None:
        self.label = label
        self._reply = reply

    async def play(self, exchange: Exchange) -> Delivery:
        exchange.skip()
        return Delivery(self._reply)


class _Cut(Fault):
    label = "cut"

    def __init__(self, after_bytes: int) -> None:
        self._after_bytes = after_bytes

    async def play(self, exchange: Exchange) -> Delivery:
        return Delivery(exchange.apply(), stop_after=self._after_bytes)


class _Drip(Fault):
    def __init__(self, bytes_per_chunk: int, interval: float) -> None:
        self._bytes_per_chunk = bytes_per_chunk
        self._interval = interval

    async def play(self, exchange: Exchange) -> Delivery:
        return Delivery(exchange.apply(), bytes_per_chunk=self._bytes_per_chunk, interval=self._interval)


class _Change(Fault):
    def __init__(self, removed: Iterable[str], changed: Mapping[str, Any]) -> None:
        self._removed = frozenset(removed)
        self._changed = changed

    async def play(self, exchange: Exchange) -> Delivery:
        reply = exchange.apply()
        if reply.document is None or reply.status != 200:
            return Delivery(reply)
        document = {name: value for name, value in {**reply.document, **self._changed}.items() if name not in self._removed}
        return Delivery(dataclasses.replace(reply, body=json.dumps(document).encode(), document=document))


class _Wait(Fault):
    """Wait before the request is applied, or between applying and answering it."""

    def __init__(self, *, applied: bool, then: Fault | None) -> None:
        self.label: str | None = None if then is None else then.label
        self._applied = applied
        self._then = then

    @abstractmethod
    async def _wait(self) -> None:
        """Let the time pass."""

    async def play(self, exchange: Exchange) -> Delivery:
        if self._applied:
            exchange.apply()
        await self._wait()
        return Delivery(exchange.apply()) if self._then is None else await self._then.play(exchange)


class _Delay(_Wait):
    def __init__(self, seconds: float, *, applied: bool, then: Fault | None) -> None:
        super().__init__(applied=applied, then=then)
        self._seconds = seconds

    async def _wait(self) -> None:
        await asyncio.sleep(self._seconds)


class Hold(_Wait):
    """A request held back until the test says so. Made by :func:`hold`."""

    def __init__(self, *, applied: bool, then: Fault | None) -> None:
        super().__init__(applied=applied, then=then)
        self.arrived: asyncio.Event = asyncio.Event()
        """Set when the (first) request has arrived, and has been applied if it was to be."""
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let what is held go on; what comes later passes without waiting."""
        self._released.set()

    async def _wait(self) -> None:
        self.arrived.set()
        await self._released.wait()


def status(code: int, body: Mapping[str, Any] | str | bytes = b"", headers: Mapping[str, str] | None = None) -> Fault:
    """Answer with this HTTP status instead. A mapping becomes JSON, a ``str`` plain text; ``headers`` come on top and win."""
    if isinstance(body, Mapping):
        reply = json_reply(body, code, headers)
    else:
        content = body.encode() if isinstance(body, str) else body
        reply = Reply(code, content, {"Content-Type": "text/plain; charset=utf-8", **(headers or {})})
    return _Answer("status", reply)


def body(
    content: str | bytes, *, content_type: str | None = "application/json", status: int = 200, headers: Mapping[str, str] | None = None
) -> Fault:
    """Answer with exactly this body instead; ``content_type=None`` sends no Content-Type."""
    typed = {} if content_type is None else {"Content-Type": content_type}
    return _Answer("body", Reply(status, content.encode() if isinstance(content, str) else content, {**typed, **(headers or {})}))


def rate_limited(retry_after: int | str | None) -> Fault:
    """Answer 429 instead, with ``Retry-After`` in seconds, as an HTTP date, or without it."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return _Answer("rate_limited", json_reply({"error": "slow_down"}, 429, headers))


def drop_before() -> Fault:
    """Close the connection instead of answering."""
    return _Answer("drop_before", None)


def cut(after_bytes: int = 0) -> Fault:
    """Apply the request, send the first ``after_bytes`` bytes of the reply (head and body; a negative number leaves so many out) and close."""
    return _Cut(after_bytes)


def drip(bytes_per_chunk: int = 1, interval: float = 0.01) -> Fault:
    """Apply the request and send the reply, head and body, in small pieces, ``interval`` seconds of real time apart."""
    return _Drip(bytes_per_chunk, interval)


def delay(seconds: float, *, applied: bool = False, then: Fault | None = None) -> Fault:
    """Wait ``seconds`` of real time before applying the request (``applied=True``: between applying and answering), then play ``then``."""
    return _Delay(seconds, applied=applied, then=then)


def hold(*, applied: bool = False, then: Fault | None = None) -> Hold:
    """Wait for :meth:`Hold.release` before applying the request (``applied=True``: between applying and answering), then play ``then``."""
    return Hold(applied=applied, then=then)


def omit(*members: str) -> Fault:
    """Leave these members out of the JSON of a successful answer. What the server did stays done: a rotated token it does not tell is lost."""
    return _Change(members, {})


def override(**members: Any) -> Fault:
    """Set these members in the JSON of a successful answer, whatever the server meant."""
    return _Change((), members)
