"""The server that all processes of a run share: pauth's double, in the harness's process, with times that can be compared with the workers'."""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import Callable
from typing import Any, Final, Self

from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import RotationClass
from pauth.testing import AuthorizationServer, Fault, Hold, SeenRequest
from tests.chaos.history import Exchange, Run, Use

__all__ = ["Double", "DoubleClock"]

CALLBACK: Final = "https://app.example/callback"


class DoubleClock:
    """A wall clock that runs with the machine's monotonic one, and can be put forward; the times it gave can be told as monotonic ones."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._begins = [0.0]
        self._offsets = [self._offset]

    def time(self) -> float:
        return time.monotonic() + self._offset

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Let so much time have passed, at once."""
        self._offset += seconds
        self._begins.append(self.time())
        self._offsets.append(self._offset)

    def monotonic_of(self, t: float) -> float:
        """When :meth:`time` gave ``t``."""
        return t - self._offsets[bisect.bisect_right(self._begins, t) - 1]


class Double:
    """A server, with the one client that all processes are."""

    def __init__(self, *, rotation: str = "RSF", lifetime: float = 3600.0, grace: float = 60.0) -> None:
        self.clock = DoubleClock()
        self.lifetime = lifetime
        self.grace = grace
        self.server = AuthorizationServer(
            rotation=rotation, access_token_lifetime=lifetime, grace=grace, clock=self.clock, secret_marker="CANARY-", require_pkce=True
        )
        self._holds: list[Hold] = []
        self.client = self.server.register_client("chaos-client", redirect_uris=[CALLBACK])

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.server.__aexit__(*exc_info)

    @property
    def rotation(self) -> RotationClass:
        return self.server.rotation

    def config(self) -> dict[str, Any]:
        """What a worker has to know of it."""
        server = self.server
        metadata = {
            "issuer": server.issuer,
            "authorization_endpoint": server.authorization_endpoint,
            "token_endpoint": server.token_endpoint,
            "revocation_endpoint": server.revocation_endpoint,
        }
        ServerMetadata(**metadata)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a misspelt name is told here
        secret = self.client.client_secret
        return {
            "metadata": metadata,
            "client_id": self.client.client_id,
            "client_secret": secret,
            "rotation": self.rotation.name,
            "grace": self.grace,
            "resource": server.resource_url,
        }

    async def authorize(self, url: str, user: str) -> str:
        """Log in and consent; gives the callback."""
        return await self.server.authorize(url, user=user)

    def disturb(self, fault: Fault, *, times: int | None = 1, user: str | None = None) -> None:
        """Play ``fault`` on the next refresh requests, of this ``user`` or of anybody; logins go on as always."""
        marker = "" if user is None else f"rt-{user}-"
        wanted: Callable[[SeenRequest], bool] = lambda request: (  # noqa: E731  # with its type
            request.grant_type == "refresh_token" and marker in request.params.get("refresh_token", "")
        )
        self.server.script("token", fault, times=times, when=wanted)
        if isinstance(fault, Hold):
            self._holds.append(fault)

    def calm(self) -> None:
        """No more faults; who was held goes on."""
        self.server.clear_script("token")
        while self._holds:
            self._holds.pop().release()

    def tell(self, run: Run) -> None:
        """Add what the server saw."""
        at = self.clock.monotonic_of
        run.exchanges += [
            Exchange(
                t=at(entry.at),
                user=entry.user,
                grant=entry.grant_type,
                outcome=entry.outcome,
                rt_in=entry.refresh_token_in,
                rt_out=entry.refresh_token_out,
                at_out=entry.access_token_out,
            )
            for entry in self.server.ledger
            if entry.endpoint == "token"
        ]
        run.uses += [Use(t=at(use.at), user=use.user, at=use.access_token, outcome=use.outcome) for use in self.server.uses]
