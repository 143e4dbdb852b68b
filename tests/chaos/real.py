"""A real authorization server in the place of the double: what it saw is told by what its clients wrote down."""

from __future__ import annotations

from typing import Any

import aiohttp

from pauth.core.quirks import RotationClass
from tests.chaos.double import DoubleClock
from tests.chaos.history import Exchange, Run
from tests.support.servers import RealServer

__all__ = ["RealAuthority", "metadata_of"]


async def metadata_of(issuer: str) -> dict[str, Any]:
    """A server's endpoints, as it publishes them (OpenID Connect Discovery section 4)."""
    async with aiohttp.ClientSession() as session, session.get(f"{issuer}/.well-known/openid-configuration") as response:
        published = await response.json()
    names = ("issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "revocation_endpoint", "jwks_uri")
    return {name: published[name] for name in names}


class RealAuthority:
    """For :class:`tests.chaos.world.World`.

    :param lifetime: seconds an access token lives.
    """

    def __init__(self, server: RealServer, metadata: dict[str, Any], *, lifetime: float) -> None:
        self.clock = DoubleClock()
        self.lifetime = lifetime
        self.rotation = RotationClass.RSF
        self._server = server
        self._metadata = metadata

    def config(self) -> dict[str, Any]:
        client = self._server.basic
        return {
            "metadata": self._metadata,
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "rotation": self.rotation.name,
            "grace": 0.0,
            "resource": self._metadata["userinfo_endpoint"],
            "scopes": ["openid"],
        }

    async def authorize(self, url: str, user: str) -> str:
        return await self._server.authorize(url, user)

    def tell(self, run: Run) -> None:
        """Whose a token is follows from whose record it replaced."""
        owners = run.user_of()
        refreshed = {attempt.at for attempt in run.attempts}
        logins = {write.at: write for write in reversed(run.writes) if write.at not in refreshed}
        run.exchanges += [
            Exchange(t=write.t0, user=write.user, grant="authorization_code", outcome="ok", at_out=at, rt_out=write.rt)
            for at, write in logins.items()
        ]
        for attempt in run.attempts:
            if attempt.t1 is not None and attempt.outcome in {"ok", "refused"}:
                user, outcome = owners.get(attempt.rt), attempt.error or "ok"
                run.exchanges.append(Exchange(t=attempt.t1, user=user, grant="refresh_token", outcome=outcome, rt_in=attempt.rt, at_out=attempt.at))
        run.exchanges.sort(key=lambda exchange: exchange.t)
