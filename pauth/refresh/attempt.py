"""One refresh of one record, between processes: lease, intent, send, compare-and-set, release.

The order is what the promises rest on. The lease keeps others from asking at the same time. The intent is in the store before the refresh token
leaves, so that after a crash everybody knows that it may have been used up. The write names the token it succeeds, so that who comes late
overwrites nothing newer. Until the store has acknowledged it, nobody sees the new token.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

from pauth.clock import Clock
from pauth.core.quirks import Rotation
from pauth.core.token import Token
from pauth.errors import MalformedResponse, PAuthError, ProviderUnavailable, ReauthorizationRequired, StorageUnavailable, TokenStorageError
from pauth.failpoints import failpoint
from pauth.refresh.admission import Admission
from pauth.refresh.failures import Failure, after_failure, classify, sends_left, takes_again
from pauth.refresh.flight import uninterruptible
from pauth.refresh.leases import HeldLease, take_lease
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.records import Records, Stored, new_lineage
from pauth.refresh.reports import Report, Reporter
from pauth.refresh.saving import Saver, Unsaved
from pauth.refresh.shared import Shared
from pauth.refresh.stored import NO_ATTEMPTS, Attempts
from pauth.storage.base import CoordinatedTokenStorage, Record, RecordKey

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
_LOOK_AGAIN: Final = 60.0
"""Seconds for which nobody here looks again whether an answer that was lost has come after all."""


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
    admission: Admission
    save_later: Callable[[RecordKey, Unsaved], None]
    """Goes on trying to store a token, behind the scenes."""

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
        key, seen = stored.record.key, stored.edition
        unsaved = self.shared.unsaved_successor(stored.record)
        if unsaved is not None:
            return await self._save(stored, unsaved, unsaved.report or Report(self.reporter, key, unsaved.attempt_id))
        if not self.refreshable(stored.grant.token):
            raise ReauthorizationRequired("the access token has expired and has no refresh token; let the user log in", reason="no_refresh_token")
        self.admission.heard(stored.grant.token)
        self.admission.check_rest(stored)
        report = Report(self.reporter, key, secrets.token_hex(8), behind_the_scenes=behind_the_scenes)
        if not stored.grant.attempts.under_way:
            self._check_sends(stored, report)
        async with self.admission.admitted():
            exchange = await self._prepared(stored, report)
            failpoint("before_lease")
            lease = await self.lease(key, partial(self._has_moved, key, seen))
            if lease is None:
                return None
            try:
                failpoint("after_lease")
                if lease.waited or stored.grant.attempts.under_way:
                    # Whoever had the lease has refreshed the token meanwhile, or has noted that it failed.
                    stored = await self.records.read(key)
                    if stored.edition != seen:
                        return None
                    self.admission.check_rest(stored)
                return await self._alone(stored, seen, lease, exchange, report)
            finally:
                failpoint("before_release")
                if key in self.shared.unsaved:
                    self.shared.held[key] = lease  # it keeps others away while the store comes back
                else:
                    await lease.release()

    async def lease(self, key: RecordKey, moved: Callable[[], Awaitable[bool]]) -> HeldLease | None:
        """The lease on ``key``, as soon as nobody else has it; ``None`` as soon as ``moved``, which is asked now and then meanwhile, says yes.

        :raises ProviderUnavailable: somebody has it for longer than anybody should.
        """
        held = self.shared.held.pop(key, None)
        if held is not None and held.remaining > 0:
            return held
        pause, patience, waited = _FIRST_LOOK, self.clock.monotonic() + 2 * self.lease_time, False
        while True:
            lease = await take_lease(self.storage, key, ttl=self.lease_time, clock=self.clock)
            if lease is not None:
                lease.waited = waited
                return lease
            waited = True
            if self.clock.monotonic() > patience:
                raise ProviderUnavailable("another process has been refreshing this token for too long; try again later", request_sent=False)
            await self.clock.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # who looks when is no secret
            pause = min(_LAST_LOOK, pause * 1.5)
            if await moved():
                return None

    async def _has_moved(self, key: RecordKey, seen: str) -> bool:
        return (await self.records.read(key)).edition != seen

    def _check_sends(self, stored: Stored, report: Report) -> None:
        """Raise if the refresh token has been sent without an answer as often as it may be; the server's own word would be ``invalid_grant``.

        Nothing is marked: an answer that comes late is still taken.
        """
        attempts, now = self.shared.settled(stored.grant.attempts), self.clock.time()
        if sends_left(attempts, self.rotation, now=now, ambiguous_retries=self.policy.ambiguous_retries):
            return
        failure = ReauthorizationRequired(
            "the refresh token may have been used up by a request whose answer was lost, and the server accepts it only once; log in again",
            reason="ambiguous_rotation",
        )
        if self.shared.is_news(("ambiguous", stored.record.key, stored.edition)):
            report.reauthorization_needed(failure.reason)
        self.shared.rest(stored.record.key, stored.edition, self.clock.monotonic() + _LOOK_AGAIN, failure)
        raise failure

    async def _prepared(self, stored: Stored, report: Report) -> Exchange:
        try:
            return await self.prepare(stored.grant.token)
        except PAuthError as error:
            failure = error
        if classify(failure) in {Failure.TRANSIENT, Failure.AMBIGUOUS}:  # else nobody was asked
            self.admission.tell_breaker(failure, stored.record.key)
        self.admission.rest_here(stored, failure)
        report.failed(failure, classify(failure))
        raise failure

    # With the lease

    async def _alone(self, stored: Stored, seen: str, lease: HeldLease, exchange: Exchange, report: Report) -> Token | None:
        key = stored.record.key
        for _ in range(_MAX_ROUNDS):
            attempts = self.shared.settled(stored.grant.attempts)
            found = await self._found(attempts)
            if found is not None:
                return await self._save(stored, found, Report(self.reporter, key, found.attempt_id))
            if attempts.under_way:
                attempts = replace(attempts, lost_at=attempts.lost_at or self._began(attempts))
                if not await self._outlived(stored, attempts):
                    again = await self._read_again(key, seen)
                    if again is None:
                        return None
                    stored = again
                    continue
            if lease.remaining < self._lease_needed and not await lease.extend():
                report.lease_lost()
                return None
            with uninterruptible():
                intended_at = self.clock.monotonic()
                intended = await self._intend(stored, attempts, report)
                if intended is not None:
                    return await self._send(intended, intended_at, lease, exchange, report)
            # The record is not what it was: somebody has refreshed it, or only noted how an attempt ended.
            again = await self._read_again(key, seen)
            if again is None:
                return None
            stored = again
        raise StorageUnavailable("a record changed all the time while it was to be refreshed")

    async def _read_again(self, key: RecordKey, seen: str) -> Stored | None:
        stored = await self.records.read(key)
        if stored.edition != seen:
            return None
        self.admission.check_rest(stored)
        return stored

    async def _found(self, attempts: Attempts) -> Unsaved | None:
        """The tokens that another process on this machine got in an earlier attempt, and has not been able to store (P4)."""
        attempt_id = attempts.attempt_id if attempts.under_way else attempts.suspect
        return None if attempt_id is None else await self.saver.find(attempt_id)

    async def _send(self, intended: Stored, intended_at: float, lease: HeldLease, exchange: Exchange, report: Report) -> Token | None:
        """Send the refresh token, which the record announces, and store what comes."""
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
        except Exception as error:  # noqa: BLE001  # a defect, of pauth or of what it uses: nobody knows what the server has done
            _log.error("a refresh request ended with an unexpected %s; this is a defect", type(error).__name__)
            failure = MalformedResponse(f"the refresh request ended with an unexpected {type(error).__name__}; please report it")
        else:
            failpoint("after_response")
            self.admission.tell_breaker(None, intended.record.key)
            lineage = intended.record.lineage or b""
            unsaved = Unsaved(
                report.attempt_id,
                lineage,
                intended.record.version,
                new_lineage(),
                token,
                self.storage,
                others=intended.grant.others,
                previous=intended.grant.token,
                report=report,
            )
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

    @property
    def _lease_needed(self) -> float:
        """With less of the lease ahead no request is begun: seconds."""
        return self.timeout / 2 + self.policy.lease_margin / 2

    def _began(self, attempts: Attempts) -> float:
        """When the latest attempt was announced: seconds since the Unix epoch."""
        return max(0.0, min(self.clock.time(), attempts.deadline - self._answer_time))

    async def _intend(self, stored: Stored, attempts: Attempts, report: Report) -> Stored | None:
        """Write into the record that its refresh token is about to be sent; ``None`` if it is not the same record any more."""
        now = self.clock.time()
        if not sends_left(attempts, self.rotation, now=now, ambiguous_retries=self.policy.ambiguous_retries):
            current = await self.records.read(stored.record.key)  # a login takes no lease
            if current.record.version != stored.record.version:
                return None
            self._check_sends(_knowing(stored, attempts), report)
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
            intended = await self.records.note(stored, replace(stored.grant, attempts=intent))
            if intended is not None and lost:
                report.ambiguous(attempts.attempt_id, attempts.retry_of)
            return intended
        except TokenStorageError as error:
            failure = error
        # It may be there all the same.
        self.shared.note_outcome(report.attempt_id, _taken_back(intent))
        self.admission.rest_here(stored, failure)
        raise failure

    async def _outlived(self, stored: Stored, attempts: Attempts) -> bool:
        """Wait until an attempt that nobody has ended cannot get an answer any more; gives whether the record still says the same.

        Who made it is dead, cut off or asleep, if we have a lease; without leases it may well be at it. Its deadline is on its own clock, so we wait
        no longer than it can have set.
        """
        now = self.clock.time()
        if takes_again(attempts, self.rotation, now=now):
            return True
        ends_at = self.clock.monotonic() + min(attempts.deadline - now, self._answer_time)
        while (left := ends_at - self.clock.monotonic()) > 0:
            await self.clock.sleep(min(left, _LAST_LOOK))
            if (await self.records.read(stored.record.key)).record.version != stored.record.version:
                return False
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

    async def _save(self, stored: Stored, unsaved: Unsaved, report: Report) -> Token | None:
        """Store the successor of ``stored``; give it only when the store has it (P3)."""
        key, grant = stored.record.key, unsaved.grant
        self.shared.unsaved[key] = unsaved
        self.records.doubt(key)  # the server may have ended the token that is in memory
        failpoint("before_commit")
        failure: StorageUnavailable | None = None
        record: Record | None = None
        try:
            record = await self.saver.insist(key, unsaved, expires_at=self.records.expires_at(grant))
        except StorageUnavailable as error:
            failure = error
        if failure is not None:
            report.unsaved(failure, journaled=self.saver.journaled(unsaved))
            self.save_later(key, unsaved)
            raise failure
        failpoint("after_commit")
        self.shared.forget(key, unsaved)
        await self.shared.let_go(key)
        if record is None:
            report.conflict("superseded")
            return None
        if record.version != stored.record.version + 1:
            report.conflict("adopted")
        self.shared.rests.pop(key, None)
        self.records.remember(Stored(record, grant), predecessor=unsaved.predecessor)
        self.shared.tell_stored(unsaved, report)
        return unsaved.token

    async def _failed(self, intended: Stored, failure: PAuthError, report: Report) -> None:
        """The server refused, failed or did not answer; write down what that means. Nothing is deleted (P8)."""
        kind = classify(failure)
        self.admission.tell_breaker(failure, intended.record.key)
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
            if await self.records.note(intended, replace(intended.grant, ended=failure.reason, attempts=NO_ATTEMPTS)) is None:
                return
            report.reauthorization_needed(failure.reason)
            raise failure
        chance = random.random()  # noqa: S311  # spreads retries
        now, began = self.clock.time(), self._began(attempts)
        strict = not takes_again(attempts, self.rotation, now=now)
        known = after_failure(attempts, failure, began=began, now=now, max_backoff=self.policy.max_backoff, chance=chance, strict=strict)
        if kind is Failure.AMBIGUOUS:
            report.ambiguous(report.attempt_id, attempts.retry_of)
        self.shared.note_outcome(report.attempt_id, known)
        try:
            moved = await self.records.note(intended, replace(intended.grant, attempts=known)) is None
        except TokenStorageError as error:
            _log.warning("the failure of a refresh could not be noted for others (%s)", type(error).__name__)
            self.admission.rest_here(intended, failure)
            moved = False
        if not moved:  # else somebody has written a newer token, which serves as well
            raise failure


def _taken_back(intent: Attempts) -> Attempts:
    """What is known after an attempt in which nothing was sent."""
    return replace(intent, under_way=False, attempt_id=intent.retry_of)


def _knowing(stored: Stored, attempts: Attempts) -> Stored:
    """What was read, with what is known of attempts beyond it."""
    return Stored(stored.record, replace(stored.grant, attempts=attempts))
