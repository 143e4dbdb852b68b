"""The server's HTTP side: it listens, plays scripted faults, keeps the ledgers and sends the replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http.client import responses
from typing import Final

from aiohttp import web

from pauth.clock import Clock
from pauth.testing.faults import Delivery, Fault
from pauth.testing.ledger import Ledger, ResourceLedger
from pauth.testing.messages import Endpoint, Refusal, Reply, SeenRequest, render, seen_request
from pauth.testing.model import State
from pauth.testing.note import Note, first_note

__all__ = ["Handler", "Site"]

Handler = Callable[[SeenRequest, Note, float], Reply]
"""An endpoint: it is told the request and the time, completes the note, and replies or raises :class:`Refusal`. It does not await."""

_PATHS: Final[dict[str, Endpoint]] = {
    "/.well-known/oauth-authorization-server": "metadata",
    "/.well-known/openid-configuration": "metadata",
    "/jwks": "jwks",
    "/authorize": "authorize",
    "/token": "token",
    "/userinfo": "userinfo",
    "/revoke": "revoke",
    "/resource": "resource",
    "/device_authorization": "device_authorization",
    "/device": "device",
}
_BACKLOG: Final = 4096
"""Connections that may wait to be accepted: a thousand callers at once are an ordinary test."""


@dataclass(slots=True)
class _Scripted:
    fault: Fault
    times: int | None
    when: Callable[[SeenRequest], bool] | None


class Site:
    """What listens on loopback."""

    def __init__(self, state: State, clock: Clock) -> None:
        self.ledger: Ledger = Ledger()
        self.uses: ResourceLedger = ResourceLedger()
        self.state = state
        self.clock = clock
        self.handlers: Mapping[Endpoint, Handler] = {}
        self._scripted: dict[Endpoint, list[_Scripted]] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen on a free port, and give it. Set :attr:`handlers` before awaiting anything else."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._serve)
        # No access log: its lines would hold authorization requests. What still waits in a fault at the end is cancelled soon.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=_BACKLOG).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Close all connections and stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def script(self, endpoint: Endpoint, fault: Fault, times: int | None, when: Callable[[SeenRequest], bool] | None) -> None:
        """Add a fault to the end of the endpoint's script."""
        self._scripted.setdefault(endpoint, []).append(_Scripted(fault, times, when))

    def clear_script(self, endpoint: Endpoint | None) -> None:
        """Forget the faults of ``endpoint``, or of all."""
        if endpoint is None:
            self._scripted.clear()
        else:
            self._scripted.pop(endpoint, None)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        endpoint = _PATHS.get(request.path)
        if endpoint is None:
            raise web.HTTPNotFound
        seen = seen_request(endpoint, request.method, request.rel_url.raw_query_string, list(request.headers.items()), await request.read())
        fault = self._next_fault(seen)
        exchange = _Exchange(self, seen, None if fault is None else fault.label)
        return await _deliver(request, Delivery(exchange.apply()) if fault is None else await fault.play(exchange), now=self.clock.time())

    def _next_fault(self, request: SeenRequest) -> Fault | None:
        script = self._scripted.get(request.endpoint, [])
        entry = next((entry for entry in script if entry.when is None or entry.when(request)), None)
        if entry is None:
            return None
        if entry.times is not None:
            entry.times -= 1
            if entry.times <= 0:
                script.remove(entry)
        return entry.fault


class _Exchange:
    """A request on its way through a fault; see :class:`pauth.testing.faults.Exchange`."""

    def __init__(self, site: Site, request: SeenRequest, label: str | None) -> None:
        self._site = site
        self._request = request
        self._label = label
        self._reply: Reply | None = None

    def apply(self) -> Reply:
        if self._reply is None:
            note = first_note(self._request, self._site.state)
            now = self._site.clock.time()
            try:
                self._reply = self._site.handlers[self._request.endpoint](self._request, note, now)
            except Refusal as refusal:
                note.outcome = refusal.error
                self._reply = refusal.reply()
            self._record(note, now)
        return self._reply

    def skip(self) -> None:
        if self._reply is None:
            self._record(first_note(self._request, self._site.state), self._site.clock.time())

    def _record(self, note: Note, now: float) -> None:
        endpoint = self._request.endpoint
        if self._label is not None:
            note.outcome = f"fault:{self._label}"
        if endpoint != "resource":
            self._site.ledger.append(note.entry(endpoint, now))
        if endpoint in {"resource", "userinfo"}:
            self._site.uses.append(note.use(endpoint, now))


async def _deliver(request: web.Request, delivery: Delivery, *, now: float) -> web.Response:
    reply = delivery.reply
    if reply is not None and delivery.whole and "Content-Type" in reply.headers:
        headers = {"Date": formatdate(now, usegmt=True), **reply.headers}  # a server has one clock, by which its other dates go too
        return web.Response(status=reply.status, headers=headers, body=reply.body)
    transport = request.transport
    if transport is not None:  # else the client has hung up
        data = b"" if reply is None else render(reply, responses.get(reply.status, ""))[: delivery.stop_after]
        step = delivery.bytes_per_chunk or max(len(data), 1)
        for start in range(0, len(data), step):
            if start:
                await asyncio.sleep(delivery.interval)
            transport.write(data[start : start + step])
        transport.close()
    return web.Response()  # reaches nobody: the connection is closed
