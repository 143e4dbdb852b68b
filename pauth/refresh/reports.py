"""What happens in the refresh room, told to the event stream."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pauth.clock import Clock
from pauth.core.token import Token
from pauth.errors import PAuthError
from pauth.events import (
    AmbiguousRefresh,
    BreakerClosed,
    BreakerOpened,
    Event,
    EventStream,
    LeaseLost,
    ReauthorizationNeeded,
    RefreshFailed,
    ServedStale,
    StorageConflict,
    TokenIssued,
    TokenRecovered,
    TokenRefreshed,
    TokenRevoked,
    TokenUnsaved,
    UserEvent,
)
from pauth.refresh.failures import Failure
from pauth.storage.base import RecordKey

__all__ = ["Report", "Reporter"]


class Reporter:
    """Makes the events of one client, if anybody wants them.

    :param endpoint: the URL of the token endpoint, or of the issuer.
    """

    __slots__ = ("__weakref__", "_clock", "_endpoint", "_namespace", "events")

    def __init__(self, events: EventStream, *, namespace: str, endpoint: str, clock: Clock) -> None:
        self.events: EventStream = events
        self._namespace = namespace
        parts = urlsplit(endpoint)
        self._endpoint = f"{parts.scheme}://{parts.netloc}" if parts.netloc else endpoint
        self._clock = clock

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin."""
        return self._clock.monotonic()

    def tell(self, kind: type[Event], **members: Any) -> None:
        """Emit an event that is about no user."""
        if self.events.wants(kind):
            self.events.emit(kind(at=self._clock.time(), namespace=self._namespace, **members))

    def of_user(self, kind: type[UserEvent], key: RecordKey, **members: Any) -> None:
        """Emit an event about a user. Secrets among its members become fingerprints."""
        if self.events.wants(kind):
            told = {name: self.events.fingerprint(value.access_token) if isinstance(value, Token) else value for name, value in members.items()}
            user = self.events.fingerprint(key.user_id)
            self.events.emit(kind(at=self._clock.time(), namespace=key.namespace, user=user, user_id=key.user_id, **told))

    def issued(self, key: RecordKey, token: Token) -> None:
        """A login was completed."""
        self.of_user(TokenIssued, key, token=token, scope=token.scope, expires_at=token.expires_at)

    def revoked(self, key: RecordKey) -> None:
        """A grant was ended on request."""
        self.of_user(TokenRevoked, key)

    def served_stale(self, key: RecordKey, token: Token, why: Literal["refresh_failed", "breaker_open", "unsaved"]) -> None:
        """A valid token was given, though it should have been refreshed."""
        self.of_user(ServedStale, key, why=why, expires_at=token.expires_at)

    def breaker_opened(self, seconds: float) -> None:
        """The token endpoint is not asked for a while."""
        self.tell(BreakerOpened, endpoint=self._endpoint, seconds=seconds)

    def breaker_closed(self, seconds: float) -> None:
        """The token endpoint answers again."""
        self.tell(BreakerClosed, endpoint=self._endpoint, seconds=seconds)


class Report:
    """The events of one attempt."""

    __slots__ = ("_began", "_behind", "_key", "_reporter", "alarmed", "attempt_id", "retry_of")

    def __init__(self, reporter: Reporter, key: RecordKey, attempt_id: str, *, behind_the_scenes: bool = False) -> None:
        self._reporter = reporter
        self._key = key
        self._behind = behind_the_scenes
        self._began = reporter.monotonic()
        self.attempt_id: str = attempt_id
        self.retry_of: str | None = None
        self.alarmed: bool = False
        """It was told that the store does not take the token."""

    def refreshed(self, token: Token, previous: Token) -> None:
        """The new token is stored."""
        self._tell(
            TokenRefreshed,
            token=token,
            previous=previous,
            seconds=self._seconds(),
            expires_at=token.expires_at,
            retry_of=self.retry_of,
            behind_the_scenes=self._behind,
        )

    def failed(self, error: PAuthError, kind: Failure) -> None:
        """The attempt failed."""
        self._tell(
            RefreshFailed,
            failure=kind.value,
            error=type(error).__name__,
            seconds=self._seconds(),
            error_code=error.error,
            status=error.status,
            retry_after=error.retry_after,
            retry_of=self.retry_of,
            behind_the_scenes=self._behind,
        )

    def ambiguous(self, attempt_id: str | None, retry_of: str | None) -> None:
        """Nobody knows whether an attempt, this one or an earlier one, has used up the refresh token."""
        self._reporter.of_user(AmbiguousRefresh, self._key, attempt_id=attempt_id or "unknown", retry_of=retry_of)

    def reauthorization_needed(self, reason: str) -> None:
        """Only the user can help."""
        self._tell(ReauthorizationNeeded, reason=reason)

    def lease_lost(self) -> None:
        """The lease ended before the attempt did."""
        self._tell(LeaseLost)

    def unsaved(self, error: PAuthError, *, journaled: bool) -> None:
        """The store does not take the new token."""
        self.alarmed = True
        self._tell(TokenUnsaved, journaled=journaled, error=type(error).__name__)

    def recovered(self, source: Literal["memory", "journal"]) -> None:
        """The store has taken a token that waited."""
        self._tell(TokenRecovered, source=source)

    def conflict(self, outcome: Literal["adopted", "superseded"]) -> None:
        """Somebody else had written the record."""
        self._tell(StorageConflict, outcome=outcome)

    def _seconds(self) -> float:
        return self._reporter.monotonic() - self._began

    def _tell(self, kind: type[UserEvent], **members: Any) -> None:
        self._reporter.of_user(kind, self._key, attempt_id=self.attempt_id, **members)
