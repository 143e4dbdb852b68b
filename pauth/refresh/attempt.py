"""One refresh of one record, between processes: lease, intent, send, compare-and-set, release.

The order is what the promises rest on. The lease keeps others from asking at the same time. The intent is in the store before the refresh token
leaves, so that after a crash everybody knows that it may have been used up. The write names the token it succeeds, so that who comes late
overwrites nothing newer. Until the store has acknowledged it, nobody sees the new token.
"""

from __future__ import annotations

import hashlib
import logging
import random
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, TypeAlias

from pauth.clock import Clock
from pauth.core.quirks import Rotation
from pauth.core.token import Token
from pauth.errors import PAuthError, ProviderUnavailable, ReauthorizationRequired, StorageUnavailable, TokenStorageError
from pauth.failpoints import failpoint
from pauth.refresh.failures import MAX_RETRY_AFTER, Breaker, Failure, after_failure, classify, rest_left, sends_left, takes_again
from pauth.refresh.leases import HeldLease, take_lease
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.records import Records, Stored, new_lineage
from pauth.refresh.reports import Report, Reporter
from pauth.refresh.saving import Saver, Unsaved
from pauth.refresh.shared import Shared
from pauth.refresh.stored import Attempts, StoredGrant
from pauth.storage.base import CoordinatedTokenStorage, RecordKey

__all__ = ["Attempter", "Exchange", "Prepare"]

Exchange: TypeAlias = Callable[[float], Awaitable[Token]]
"""Sends a refresh request that was prepared, and gives its answer. It is given a moment on the monotonic clock: then it gives up, and if nothing was
sent by then nothing is."""

Prepare: TypeAlias = Callable[[Token], Awaitable[Exchange]]
"""Does whatever may fail by itself before a refresh token is sent (metadata, keys), and gives the request."""

_log = logging.getLogger("pauth.refresh")

_FIRST_LOOK: Final = 0.02
_LAST_LOOK: Final = 0.5
"""Seconds between two looks at a record that somebody else is refreshing: few at first, then more."""

_MAX_ROUNDS: Final = 10
_PROBE_NAMESPACE: Final = "pauth:probe"
_REST: Final = 1.0
"""Seconds without another try in this process after a failure that the record knows nothing of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempter:
    """What is needed to refresh the tokens of one client in one store."""

    storage: CoordinatedTokenStorage
    shared: Shared
    records: Records
    saver: Saver
    reporter: Reporter
    prepare: Prepare
    refreshable: Callable[[Token], bool]
    policy: RefreshPolicy
    rotation: Rotation
    breaker: Breaker
    endpoint: str
    timeout: float
    """Seconds that a request may take."""

    clock: Clock

    @property
    def lease_time(self) -> float:
        """Seconds that a lease is taken for."""
        return self.timeout + self.policy.lease_margin

    async def refresh(self, stored: Stored, *, behind_the_scenes: bool) -> Token | None:
        """The successor of the token in ``stored``, itself stored; ``None`` if that is not the one on record any more, so that it has one already.

        The record is not read again first: the intent is written over exactly what was read, or it is read again then.

        :raises ReauthorizationRequired: the grant is dead, or may be for all we know.
        :raises ProviderUnavailable: the server did not answer, or has failed a moment ago and is not asked again yet.
        :raises PAuthError: the server refused, or the store failed.
        """
        key, seen = stored.record.key, stored.grant.token.version
        unsaved = self.shared.unsaved_successor(stored.record)
        if unsaved is not None:
            return await self._save(stored, unsaved, Report(self.reporter, key, unsaved.attempt_id), recovered="memory")
        if not self.refreshable(stored.grant.token):
            raise ReauthorizationRequired("the access token has expired and has no refresh token; let the user log in", reason="no_refresh_token")
        self._check_rest(stored)
        report = Report(self.reporter, key, secrets.token_hex(8), behind_the_scenes=behind_the_scenes)
        async with self._admitted():
            exchange = await self._prepared(key, stored.grant.token, report)
            failpoint("before_lease")
            lease = await self.lease(key, partial(self._has_moved, key, seen))
            if lease is None:
                return None
            try:
                failpoint("after_lease")
                if stored.grant.attempts.under_way:
                    # Most likely it has ended since we read that, and the lease with it.
                    stored = await self.records.read(key)
                    if stored.grant.token.version != seen:
                        return None
                    self._check_rest(stored)
                return await self._alone(stored, seen, lease, exchange, report)
            finally:
                failpoint("before_release")
                await lease.release()

    async def lease(self, key: RecordKey, moved: Callable[[], Awaitable[bool]]) -> HeldLease | None:
        """The lease on ``key``, as soon as nobody else has it; ``None`` as soon as ``moved``, which is asked now and then meanwhile, says yes.

        :raises ProviderUnavailable: somebody has it for longer than anybody should.
        """
        pause, patience = _FIRST_LOOK, self.clock.monotonic() + 2 * self.lease_time
        while True:
            lease = await take_lease(self.storage, key, ttl=self.lease_time, clock=self.clock)
            if lease is not None:
                return lease
            if self.clock.monotonic() > patience:
                raise ProviderUnavailable("another process has been refreshing this token for too long; try again later", request_sent=False)
            await self.clock.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # who looks when is no secret
            pause = min(_LAST_LOOK, pause * 1.5)
            if await moved():
                return None

    async def _has_moved(self, key: RecordKey, seen: str) -> bool:
        return (await self.records.read(key)).grant.token.version != seen

    # Whether to ask at all

    def _check_rest(self, stored: Stored) -> None:
        left = rest_left(stored.grant.attempts, self.clock.time())
        left = max(left, self.shared.rests.get(stored.record.key, 0.0) - self.clock.monotonic())
        if left > 0:
            raise ProviderUnavailable(
                f"refreshing this token failed a moment ago; try again in {left:.1f} seconds", request_sent=False, retry_after=left
            )

    @asynccontextmanager
    async def _admitted(self) -> AsyncGenerator[None, None]:
        """Where the breaker lets through. If it is open this is a probe, and the only one of all processes, by a lease of its own."""
        left = self.breaker.wait()
        if left > 0:
            raise self._not_admitted(left)
        if not self.breaker.is_open:
            yield
            return
        pause = self.breaker.pause
        try:
            probe = await take_lease(self.storage, self._probe_key, ttl=pause, clock=self.clock)
            if probe is None:
                raise self._not_admitted(pause)
            yield
            if not self.breaker.is_open:  # else it runs out when the next probe is due
                await probe.release()
        finally:
            self.breaker.gave_up()

    @property
    def _probe_key(self) -> RecordKey:
        return RecordKey(_PROBE_NAMESPACE, hashlib.sha256(self.endpoint.encode()).hexdigest())

    def _not_admitted(self, left: float) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"the token endpoint has failed several times in a row; try again in {left:.1f} seconds", request_sent=False, retry_after=left
        )

    async def _prepared(self, key: RecordKey, token: Token, report: Report) -> Exchange:
        try:
            return await self.prepare(token)
        except PAuthError as error:
            failure = error
        self._tell_breaker(failure)
        self.shared.rest(key, self.clock.monotonic() + max(_REST, min(failure.retry_after or 0.0, MAX_RETRY_AFTER)))
        report.failed(failure, classify(failure))
        raise failure

    # With the lease

    async def _alone(self, stored: Stored, seen: str, lease: HeldLease, exchange: Exchange, report: Report) -> Token | None:
        for _ in range(_MAX_ROUNDS):
            attempts = self.shared.settled(stored.grant.attempts)
            if attempts.under_way:
                attempts = replace(attempts, lost_at=attempts.lost_at or self._began(attempts))
                if not await self._outlived(attempts, lease, report):
                    return None
            intended_at = self.clock.monotonic()
            intended = await self._intend(stored, attempts, report)
            if intended is not None:
                break
            # The record is not what it was: somebody has refreshed it, or only noted how an attempt ended.
            stored = await self.records.read(stored.record.key)
            if stored.grant.token.version != seen:
                return None
            self._check_rest(stored)
        else:
            raise StorageUnavailable("a record changed all the time while it was to be refreshed")
        failpoint("after_intent")
        deadline = min(self.clock.monotonic() + self.timeout, lease.ends_at - self.policy.lease_margin / 2, intended_at + self._answer_time)
        if deadline - self.clock.monotonic() < self.timeout / 2:
            # The store was slow, or the process slept. With too little of the lease ahead nothing is sent.
            await self._lost(intended, report)
            return None
        failure: PAuthError
        failpoint("before_send")
        try:
            token = await exchange(deadline)
        except PAuthError as error:
            failure = error
        else:
            failpoint("after_response")
            self._tell_breaker(None)
            lineage = intended.record.lineage or b""
            unsaved = Unsaved(report.attempt_id, lineage, intended.record.version, new_lineage(), token, self.storage)
            return await self._save(intended, unsaved, report)
        too_late = isinstance(failure, ProviderUnavailable) and not failure.request_sent and self.clock.monotonic() >= deadline
        if too_late and not await self._still_ours(lease):
            await self._lost(intended, report)
        else:
            await self._failed(intended, failure, report)
        return None

    async def _still_ours(self, lease: HeldLease) -> bool:
        """Whether it was the server that took too long to connect to, not this process that slept until another one took over."""
        try:
            return await lease.extend()
        except TokenStorageError:
            return True

    @property
    def _answer_time(self) -> float:
        """Seconds after an intent was written, at most, in which an answer can come: the deadline that it tells others."""
        return self.timeout + self.policy.lease_margin / 2

    def _began(self, attempts: Attempts) -> float:
        """When the latest attempt was announced: seconds since the Unix epoch."""
        return max(0.0, min(self.clock.time(), attempts.deadline - self._answer_time))

    async def _intend(self, stored: Stored, attempts: Attempts, report: Report) -> Stored | None:
        """Write into the record that its refresh token is about to be sent; ``None`` if it is not the same record any more."""
        now = self.clock.time()
        if not sends_left(attempts, self.rotation, now=now, ambiguous_retries=self.policy.ambiguous_retries):
            if stored.grant.token.is_expired(now):  # else it can still be served; an answer that comes late is taken in either case
                if await self.records.note(stored, replace(stored.grant, ended="ambiguous_rotation")) is None:
                    return None
            report.reauthorization_needed("ambiguous_rotation")
            raise ReauthorizationRequired(
                "the refresh token may have been used up by a request whose answer was lost, and the server accepts it only once; log in again",
                reason="ambiguous_rotation",
            )
        lost = attempts.under_way
        report.retry_of = attempts.attempt_id if lost else attempts.suspect
        intent = Attempts(
            attempt_id=report.attempt_id,
            under_way=True,
            deadline=now + self._answer_time,
            retry_of=report.retry_of,
            suspect=report.retry_of,
            unanswered=attempts.unanswered + lost,
            lost_at=attempts.lost_at,
            failures=attempts.failures,
            retry_at=attempts.retry_at,
        )
        failure: TokenStorageError
        try:
            return await self.records.note(stored, replace(stored.grant, attempts=intent))
        except TokenStorageError as error:
            failure = error
        # It may be there all the same.
        self.shared.note_outcome(report.attempt_id, _taken_back(intent))
        self.shared.rest(stored.record.key, self.clock.monotonic() + _REST)
        raise failure

    async def _outlived(self, attempts: Attempts, lease: HeldLease, report: Report) -> bool:
        """Wait until an attempt that nobody has ended cannot get an answer any more; gives whether the lease is still ours.

        Who made it is dead, cut off or asleep, since we have the lease. Its deadline is on its own clock, so we wait no longer than it can have set.
        """
        now = self.clock.time()
        if not takes_again(attempts, self.rotation, now=now):
            left = min(attempts.deadline - now, self._answer_time)
            if left > 0:
                await self.clock.sleep(left)
                if not await lease.extend():
                    report.lease_lost()
                    return False
        report.ambiguous(attempts.attempt_id, attempts.retry_of)
        return True

    async def _lost(self, intended: Stored, report: Report) -> None:
        """The lease went before anything was sent: say so in the record, and let who has it go on."""
        report.lease_lost()
        known = _taken_back(intended.grant.attempts)
        self.shared.note_outcome(report.attempt_id, known)
        try:
            await self.records.note(intended, replace(intended.grant, attempts=known))
        except TokenStorageError as error:
            _log.warning("an attempt that sent nothing could not be taken back (%s)", type(error).__name__)

    async def _save(self, stored: Stored, unsaved: Unsaved, report: Report, *, recovered: Literal["memory", "journal"] | None = None) -> Token | None:
        """Store the successor of ``stored``; give it only when the store has it (P3)."""
        key, grant = stored.record.key, StoredGrant(unsaved.token)
        self.shared.unsaved[key] = unsaved
        self.records.doubt(key)  # the server may have ended the token that is in memory
        failpoint("before_commit")
        failure: TokenStorageError | None = None
        record = None
        try:
            record = await self.saver.insist(key, unsaved, expires_at=self.records.expires_at(grant))
        except TokenStorageError as error:
            failure = error
        if failure is not None:
            report.unsaved(failure, journaled=self.saver.journaled(unsaved))
            raise failure
        failpoint("after_commit")
        self.shared.forget(key, unsaved)
        if record is None:
            report.conflict("superseded")
            return None
        if record.version != stored.record.version + 1:
            report.conflict("adopted")
        self.shared.rests.pop(key, None)
        self.records.remember(Stored(record, grant), predecessor=unsaved.predecessor)
        if recovered is not None:
            report.recovered(recovered)
        report.refreshed(unsaved.token, stored.grant.token)
        return unsaved.token

    async def _failed(self, intended: Stored, failure: PAuthError, report: Report) -> None:
        """The server refused, failed or did not answer; write down what that means. Nothing is deleted (P8)."""
        kind = classify(failure)
        self._tell_breaker(failure)
        report.failed(failure, kind)
        attempts = intended.grant.attempts
        if isinstance(failure, ReauthorizationRequired) and kind is Failure.PERMANENT:
            if attempts.retry_of is not None:
                failure = ReauthorizationRequired(
                    "the refresh token was used up by an earlier request whose answer was lost; log in again",
                    reason="ambiguous_rotation",
                    error=failure.error,
                    status=failure.status,
                )
            self.shared.note_outcome(report.attempt_id, replace(attempts, under_way=False))  # if the store does not take the mark
            # Only the server's word for the token that is still on record counts.
            if await self.records.note(intended, StoredGrant(intended.grant.token, failure.reason)) is None:
                return
            report.reauthorization_needed(failure.reason)
            raise failure
        chance = random.random()  # noqa: S311  # spreads retries
        now, began = self.clock.time(), self._began(attempts)
        known = after_failure(attempts, failure, began=began, now=now, max_backoff=self.policy.max_backoff, chance=chance)
        if kind is Failure.AMBIGUOUS:
            report.ambiguous(report.attempt_id, attempts.retry_of)
        self.shared.note_outcome(report.attempt_id, known)
        try:
            moved = await self.records.note(intended, replace(intended.grant, attempts=known)) is None
        except TokenStorageError as error:
            _log.warning("the failure of a refresh could not be noted for others (%s)", type(error).__name__)
            self.shared.rest(intended.record.key, self.clock.monotonic() + known.retry_at - self.clock.time())
            moved = False
        if not moved:  # else somebody has written a newer token, which serves as well
            raise failure

    def _tell_breaker(self, failure: PAuthError | None) -> None:
        if failure is not None and classify(failure) in {Failure.TRANSIENT, Failure.AMBIGUOUS}:
            opened = self.breaker.failed(retry_after=failure.retry_after)
            if opened is not None:
                self.reporter.breaker_opened(opened)
        else:
            closed = self.breaker.succeeded()
            if closed is not None:
                self.reporter.breaker_closed(closed)


def _taken_back(intent: Attempts) -> Attempts:
    """What is known after an attempt in which nothing was sent."""
    return replace(intent, under_way=False, attempt_id=intent.retry_of)
