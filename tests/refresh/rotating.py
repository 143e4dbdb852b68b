"""A strict authorization server in a few lines, with no HTTP, and the coordinators that refresh there."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import pytest

from pauth.core.token import Token, token_to_dict
from pauth.errors import PAuthError, ProviderUnavailable, ReauthorizationRequired
from pauth.events import Event, EventStream
from pauth.refresh import coordinator as module
from pauth.refresh.attempt import Exchange
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.shared import Shared
from pauth.secret import Secret
from pauth.storage import CoordinatedTokenStorage, RecordKey
from pauth.testing import ManualClock
from tests.refresh.kit import KEY, LIFETIME, NAMESPACE

EventOf = TypeVar("EventOf", bound=Event)


@dataclass
class Rotating:
    """A strict server in a few lines: it exchanges each refresh token once, or fails as scripted."""

    clock: ManualClock
    lifetime: float | None = LIFETIME
    forgiving: bool = False
    """It takes a refresh token that was used before, too."""
    sent: list[Secret] = field(default_factory=list[Secret])
    script: deque[Callable[[], Awaitable[object]]] = field(default_factory=deque[Callable[[], Awaitable[object]]])
    """Awaited before the next requests are answered; one that raises answers with its error."""

    after: deque[Callable[[], Awaitable[object]]] = field(default_factory=deque[Callable[[], Awaitable[object]]])
    """Awaited when the next requests have been applied; one that raises takes the place of the answer."""

    issued: int = 0
    last: Token | None = None
    events: list[Event] = field(default_factory=list[Event])
    """What the coordinators told."""

    def issue(self) -> Token:
        self.issued += 1
        now = self.clock.time()
        self.last = Token(
            Secret(f"CANARY-at-{self.issued}"),
            refresh_token=Secret(f"CANARY-rt-{self.issued}"),
            issued_at=now,
            expires_at=None if self.lifetime is None else now + self.lifetime,
        )
        return self.last

    async def prepare(self, token: Token) -> Exchange:
        return partial(self._send, token)

    async def _send(self, token: Token, deadline: float) -> Token:
        assert deadline > self.clock.monotonic()
        assert token.refresh_token is not None
        self.sent.append(token.refresh_token)
        if self.script:
            await self.script.popleft()()
        if self.last is None or (token.refresh_token != self.last.refresh_token and not self.forgiving):
            raise ReauthorizationRequired("the refresh token was used before", reason="invalid_grant")
        token = self.issue()
        if self.after:
            await self.after.popleft()()
        return token

    def coordinator(self, storage: CoordinatedTokenStorage, policy: RefreshPolicy | None = None, **options: Any) -> RefreshCoordinator:
        stream = EventStream()
        stream.subscribe(self.events.append)
        arguments: dict[str, Any] = {"clock": self.clock, "namespace": NAMESPACE, "endpoint": "https://acme.example/token", "events": stream}
        arguments |= {"refreshable": _has_refresh_token, "policy": policy or RefreshPolicy()}
        return RefreshCoordinator(storage, options.pop("prepare", self.prepare), **arguments | options)

    def elsewhere(self, storage: CoordinatedTokenStorage, policy: RefreshPolicy | None = None, **options: Any) -> RefreshCoordinator:
        """A coordinator as in another process: it shares the store with the others, and nothing else."""
        with pytest.MonkeyPatch.context() as patch:
            shared = Shared()

            def own(_: object) -> Shared:
                return shared

            patch.setattr(module, "shared_over", own)
            return self.coordinator(storage, policy, **options)

    async def stored_expired(self, storage: CoordinatedTokenStorage, key: RecordKey = KEY) -> Token:
        """Store a first token, and let it expire."""
        token = self.issue()
        await storage.replace(key, token_to_dict(token), expected_version=None, expires_at=token.expires_at)
        self.clock.advance(self.lifetime or LIFETIME)
        return token

    def told(self, *kinds: type[EventOf]) -> list[EventOf]:
        """The events of these classes, in their order."""
        return [event for event in self.events if isinstance(event, kinds)]


def _has_refresh_token(token: Token) -> bool:
    return token.refresh_token is not None


def failing(error: PAuthError) -> Callable[[], Awaitable[object]]:
    """For :attr:`Rotating.script` and :attr:`Rotating.after`."""

    async def fail() -> None:
        raise copy.copy(error)

    return fail


def no_answer() -> Callable[[], Awaitable[object]]:
    """The request was sent and nothing came back."""
    return failing(ProviderUnavailable("the answer was cut off"))


def foreign(token: Token, marker: str) -> Token:
    """Another token, as another process might have stored it meanwhile."""
    return replace(token, access_token=Secret(f"CANARY-at-{marker}"), refresh_token=Secret(f"CANARY-rt-{marker}"))
