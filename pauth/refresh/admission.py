"""Whether to ask the server at all: not while a failure rests, nor while the breaker is open, but for one probe."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from pauth.clock import Clock
from pauth.core.token import Token
from pauth.errors import PAuthError, ProviderUnavailable, ReauthorizationRequired, Remedy, TokenError
from pauth.refresh.failures import MAX_RETRY_AFTER, Breaker, Failure, classify, rest_left
from pauth.refresh.leases import take_lease
from pauth.refresh.records import Stored
from pauth.refresh.reports import Reporter
from pauth.refresh.shared import Shared, is_ahead
from pauth.storage.base import CoordinatedTokenStorage, RecordKey

__all__ = ["Admission"]

_PROBE_NAMESPACE: Final = "pauth:probe"
_LOCAL_REST: Final = 1.0
"""Seconds without another try in this process after a failure that the record knows nothing of, at least."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may ask one server, for one client."""

    storage: CoordinatedTokenStorage
    shared: Shared
    breaker: Breaker
    reporter: Reporter
    endpoint: str
    clock: Clock

    def check_rest(self, stored: Stored) -> None:
        """Raise as long as nobody shall try to refresh this token, with what the last try came to.

        :raises PAuthError: the last failure, or its like.
        """
        rest = self.shared.resting(stored.record.key, stored.edition, self.clock.monotonic())
        if rest is not None:
            left, failure = rest
            raise failure.after(left)
        attempts = stored.grant.attempts
        seen_at = self.shared.first_seen(attempts.attempt_id, self.clock.monotonic())
        left = rest_left(attempts, self.clock.time(), seen_for=self.clock.monotonic() - seen_at)
        if left <= 0:
            return
        again = f"it was asked a moment ago, and is asked again in {left:.1f} seconds"
        if attempts.refusal is None:
            raise ProviderUnavailable(
                f"refreshing this token failed a moment ago; try again in {left:.1f} seconds", request_sent=False, retry_after=left
            )
        if attempts.user_wanted:
            raise ReauthorizationRequired(f"the server wants to see the user: {attempts.refusal}; {again}; log in again", reason=attempts.refusal)
        message = f"the token endpoint refuses this client: {attempts.refusal}; {again}; correct the client's settings"
        raise TokenError(message, error=attempts.refusal, retry_after=left, remedy=Remedy.FIX_CONFIGURATION)

    def rest_here(self, stored: Stored, failure: PAuthError) -> None:
        """Let nobody in this process try again for a moment, or for as long as the failure says."""
        seconds = max(_LOCAL_REST, min(failure.retry_after or 0.0, MAX_RETRY_AFTER))
        self.shared.rest(stored.record.key, stored.edition, self.clock.monotonic() + seconds, failure)

    @asynccontextmanager
    async def admitted(self) -> AsyncGenerator[None]:
        """Where the breaker lets through. If it is open this is a probe, and the only one of all processes, by a lease of its own.

        :raises ProviderUnavailable: it does not.
        """
        left = self.breaker.wait()
        if left > 0:
            raise _not_admitted(left)
        if not self.breaker.is_open:
            yield
            return
        pause = self.breaker.pause
        try:
            probe = await take_lease(self.storage, self._probe_key, ttl=pause, clock=self.clock)
            if probe is None:
                raise _not_admitted(pause)
            try:
                yield
            finally:
                if self.breaker.left <= 0:  # it is closed, or nothing was learnt; else the lease runs out when the next probe is due
                    await probe.release()
        finally:
            self.breaker.gave_up()

    def tell_breaker(self, failure: PAuthError | None, key: RecordKey) -> None:
        """What came of asking the server; ``None`` for a good answer."""
        if failure is not None and classify(failure) in {Failure.TRANSIENT, Failure.AMBIGUOUS}:
            opened = self.breaker.failed(retry_after=failure.retry_after, who=key)
            if opened is not None:
                self.reporter.breaker_opened(opened)
        else:
            closed = self.breaker.succeeded()
            if closed is not None:
                self.reporter.breaker_closed(closed)

    def heard(self, token: Token) -> None:
        """A token was found in the store: if it is newer than the last failure the server has answered another process, and answers this one too."""
        now = self.clock.time()
        if self.breaker.is_open and not is_ahead(token, now):
            closed = self.breaker.heard(now - token.issued_at)
            if closed is not None:
                self.reporter.breaker_closed(closed)

    def closed_for(self, token: Token) -> float:
        """Seconds until somebody may ask the server again, for all that is known when ``token`` has been read; 0 for now."""
        self.heard(token)
        return self.breaker.left

    def refused(self, error: Exception) -> bool:
        """Whether ``error`` says that the breaker is open, or that a probe found no way to the server."""
        return self.breaker.is_open and isinstance(error, ProviderUnavailable) and not error.request_sent

    @property
    def _probe_key(self) -> RecordKey:
        return RecordKey(_PROBE_NAMESPACE, hashlib.sha256(self.endpoint.encode()).hexdigest())


def _not_admitted(left: float) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"the token endpoint has failed several times in a row; try again in {left:.1f} seconds", request_sent=False, retry_after=left
    )
