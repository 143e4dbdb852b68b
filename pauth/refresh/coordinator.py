"""From a stored token to a valid one.

The order is always: the cache, the record, and if its token will not do, one flight for it in this process. The flight refreshes it as
:mod:`pauth.refresh.attempt` says, so that of all processes one asks the server. No caller can cancel a flight.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from pauth.clock import Clock
from pauth.core.quirks import Rotation
from pauth.core.token import Token
from pauth.errors import PAuthError, ReauthorizationRequired, StorageUnavailable
from pauth.events import EventStream
from pauth.refresh.admission import Admission
from pauth.refresh.attempt import Attempter, Prepare
from pauth.refresh.cache import TokenCache
from pauth.refresh.flight import Flight, drain, too_long
from pauth.refresh.policy import Freshness, RefreshPolicy
from pauth.refresh.records import Records, Stored
from pauth.refresh.reports import Reporter
from pauth.refresh.saving import Saver
from pauth.refresh.shared import shared_over
from pauth.refresh.waiting import Waiting
from pauth.refresh.watching import Watching
from pauth.storage.base import CoordinatedTokenStorage, RecordKey

__all__ = ["RefreshCoordinator"]

_log = logging.getLogger("pauth.refresh")

_REST: Final = 5.0
"""Seconds in which a token that is still valid is served without looking whether its successor can be stored by now."""

_MAX_ROUNDS: Final = 5

_WHILE_STALE: Final = 1.0
"""Seconds for which a stale token is served without looking whether somebody has refreshed it."""

_SOFT_PATIENCE: Final = 1.0
"""Seconds (of real time) for which a caller whose token is still valid waits until an unsaved one is stored."""

_Renew: TypeAlias = Callable[[Token], Awaitable[Token | None]]


class _Retired(NamedTuple):
    """What a flight gives that took a grant out of use instead of refreshing it."""

    stored: Stored


class RefreshCoordinator:
    """Gives valid tokens out of a storage, refreshing them by way of ``prepare``.

    All coordinators on the same store work together, in whichever process: whoever of them asks, there is one refresh.

    :param prepare: makes ready the refresh request for a token; see :data:`~pauth.refresh.attempt.Prepare`. The request raises
        :class:`~pauth.errors.ReauthorizationRequired` if the server says that the grant is dead, and :class:`~pauth.errors.PAuthError` for anything
        else.
    :param refreshable: whether anything can be done with a token.
    :param namespace: of the records that :meth:`cached` is about.
    :param rotation: what the server does with refresh tokens that were used.
    :param endpoint: names the server whose failures count together: the URL of its token endpoint, or of the issuer.
    :param timeout: seconds that a request may take.
    :param journal: the folder for tokens that the store does not take; ``None`` for none.
    """

    def __init__(
        self,
        storage: CoordinatedTokenStorage,
        prepare: Prepare,
        *,
        refreshable: Callable[[Token], bool],
        policy: RefreshPolicy,
        clock: Clock,
        namespace: str = "",
        rotation: Rotation | None = None,
        endpoint: str = "",
        timeout: float = 15.0,
        events: EventStream | None = None,
        journal: Path | None = None,
    ) -> None:
        self._storage = storage
        self._policy = policy
        self._refreshable = refreshable
        self._clock = clock
        self._shared = shared_over(storage)
        self._begun: set[Flight] = set()
        self._reporter = Reporter(events or EventStream(), namespace=namespace, endpoint=endpoint, clock=clock)
        self._shared.reporters[namespace] = self._reporter
        self._watching = Watching(storage, self._shared.caches)
        self._records = Records(
            storage,
            self._shared,
            cache=self._cache,
            watching=self._watching,
            refreshable=refreshable,
            policy=policy,
            clock=clock,
            events=self._reporter.events,
        )
        self._saver = Saver(storage, journal=journal, files=self._shared.files, clock=clock)
        self._waiting = Waiting(
            shared=self._shared,
            records=self._records,
            saver=self._saver,
            reporter=self._reporter,
            namespace=namespace,
            shielded=self.shielded,
            clock=clock,
        )
        self._admission = Admission(
            storage, self._shared, self._shared.breaker(endpoint, clock.monotonic), self._reporter, endpoint=endpoint, clock=clock
        )
        self._attempter = Attempter(
            storage=storage,
            shared=self._shared,
            records=self._records,
            saver=self._saver,
            reporter=self._reporter,
            prepare=prepare,
            refreshable=refreshable,
            policy=policy,
            rotation=rotation or Rotation(),
            admission=self._admission,
            save_later=self._waiting.save_later,
            timeout=timeout,
            clock=clock,
        )
        self.cached: TokenCache = self._cache(namespace)
        """The tokens of the namespace that can be handed out at once."""

    @property
    def events(self) -> EventStream:
        """What happens here."""
        return self._reporter.events

    async def get(self, key: RecordKey) -> Token:
        """A valid token of ``key``: the stored one, or a refreshed one."""
        return await self._serve(await self._read(key))

    async def refresh(self, key: RecordKey, *, if_version: str | None = None) -> Token:
        """A token of ``key`` that was obtained after this call began, whatever the expiry of the stored one.

        :param if_version: only if the stored token is the one that has this version; otherwise it is newer, and will do.
        """
        stored = await self._read(key)
        if if_version is not None and stored.grant.token.version != if_version:
            return await self._serve(stored)
        return await self._refreshed(stored)

    async def keep_fresh(self, key: RecordKey, *, within: float = 0.0) -> bool:
        """Refresh the token of ``key`` if it becomes stale within so many seconds (at most a tenth of its lifetime).

        :returns: whether it was refreshed, and by this process.

        :raises PAuthError: as :meth:`refresh`.
        """
        stored = await self._read(key)
        token = stored.grant.token
        due = self._policy.is_due(token, self._now_for(token), spread=self._records.spread(stored), within=within)
        if not due or not self._refreshable(token):
            return False
        outcome = await self._flown(stored, self._policy.deadline, behind_the_scenes=True)
        return isinstance(outcome, Token)  # else somebody else has refreshed it, or ended it

    async def login(self, key: RecordKey, token: Token) -> None:
        """Store the token of a new login, replacing whatever is stored.

        :raises TokenStorageError: the store does not take it; the token is lost, and the user has to log in again.
        """
        await self._records.login(key, token)
        self._shared.rests.pop(key, None)
        self._reporter.issued(key, token)

    async def end(self, key: RecordKey, revoke: Callable[[Token], Awaitable[None]], *, renew: _Renew | None = None) -> None:
        """Take a grant out of use, ``revoke`` its token at the server, then delete the record (RV-2).

        :param renew: the successor of a token, where the server needs a fresher one to revoke; else ``None``. It is stored before it is used.
        If ``revoke`` fails its error is raised and the record stays: no token of it is handed out, and another call tries again.
        Nothing is done for a key without a record.
        """
        await self._replayed()  # the token that has to die may be in the journal
        stored = await self._records.look(key)
        if stored is not None:
            # by token: who ends a new login must not be told that the one before it has ended
            await self.shielded(("end", key, stored.edition), partial(self._end, key, revoke, renew), patience=self._policy.deadline)

    async def _end(self, key: RecordKey, revoke: Callable[[Token], Awaitable[None]], renew: _Renew | None) -> None:
        while (stored := await self._records.look(key)) is not None:
            retired = await self._retired(key, stored.edition)
            if retired is not None and renew is not None and (renewed := await renew(retired.grant.token)) is not None:
                retired = await self._records.retire(retired, renewed)
            if retired is not None:
                await revoke(retired.grant.token)
                # a login that came in between has its own record, which stays
                if await self._storage.remove(key, expected_version=retired.record.version):
                    self._records.removed(key, retired.record.version)
                    self._reporter.revoked(key)
                break
        self._shared.rests.pop(key, None)

    async def _retired(self, key: RecordKey, edition: str) -> Stored | None:
        """Mark the record as revoked; ``None`` if this token was not the newest one, or a refresh was under way.

        Done in the flight of this token: a refresh under way ends first, so that the token we revoke is the server's newest (RV-3).
        """
        begun = False

        async def retire() -> _Retired | None:
            nonlocal begun
            begun = True
            return await self._retire(key, edition)

        try:
            outcome = await self.shielded((key, edition), retire)
        except PAuthError:
            if begun:
                raise
            return None  # how a refresh failed is no answer to who wants to end the grant
        return outcome.stored if isinstance(outcome, _Retired) else None

    async def _retire(self, key: RecordKey, edition: str) -> _Retired | None:
        # other processes may be refreshing it too
        lease = await self._attempter.lease(key, partial(self._is_gone, key, edition))
        if lease is None:
            return None
        try:
            stored = await self._records.look(key)
            if stored is None or stored.edition != edition:
                return None
            unsaved = self._shared.unsaved_successor(stored.record)
            retired = await self._records.retire(stored, stored.grant.token if unsaved is None else unsaved.token)
            return None if retired is None else _Retired(retired)
        finally:
            await lease.release()

    async def _is_gone(self, key: RecordKey, edition: str) -> bool:
        stored = await self._records.look(key)
        return stored is None or stored.edition != edition

    async def shielded(self, key: Any, work: Callable[[], Awaitable[Any]], *, patience: float | None = None) -> Any:
        """Do ``work`` as a flight of this coordinator: cancelling the caller does not cancel it, and :meth:`drain` waits for it.

        :param patience: seconds after which the caller gives up; the work goes on.
        """
        return await self._shared.flights.run(key, work, begun=self._begun, patience=patience)

    async def drain(self) -> None:
        """Wait until everything that was started here has ended, so that no rotated token is lost when the loop closes.

        Tokens that the store has not taken so far are offered to it once more, and spilled to the journal if it refuses (P4).
        """
        await drain(self._begun)
        self._waiting.stop()
        await self._watching.stop()
        self.cached.expire()  # who opens the store again shall see what is in it
        await self._waiting.offer_for_the_last_time()

    # Reading

    def _cache(self, namespace: str) -> TokenCache:
        return self._shared.cache(namespace, self._policy.cache_entries, self._clock.monotonic)

    async def _read(self, key: RecordKey) -> Stored:
        await self._replayed()
        return await self._records.read(key)

    async def _replayed(self) -> None:
        if not self._shared.replayed and self._saver.has_journal:
            await self.shielded("journal", self._replay)

    async def _replay(self) -> None:
        """Take up what an earlier process had to leave in the journal. Who asks for one of the tokens stores it; the others are stored meanwhile."""
        if self._shared.replayed:
            return
        found = [(key, unsaved) for key, unsaved in await self._saver.spilled() if key not in self._shared.unsaved]
        self._shared.unsaved.update(found)
        self._shared.replayed = True  # not before: who reads now must know of them
        if found:
            self._shared.flights.begin("journal, later", partial(self._waiting.offer_all, found), begun=self._begun)

    # Serving

    async def _serve(self, stored: Stored) -> Token:
        token = stored.grant.token
        freshness = self._policy.freshness(token, self._now_for(token), spread=self._records.spread(stored))
        if freshness is Freshness.EXPIRED:
            return await self._refreshed(stored)
        if self._shared.unsaved_successor(stored.record) is not None:
            return await self._saved(stored)
        if freshness is Freshness.STALE and self._refreshable(token):
            self._records.remember(stored, at_most=self._refresh_behind_the_scenes(stored))
        else:
            self._records.remember(stored)
        return token

    def _now_for(self, token: Token) -> float:
        return self._shared.now_for(token, self._clock)

    def _refresh_behind_the_scenes(self, stored: Stored) -> float:
        """Begin it, if there is any hope; gives for how many seconds nobody need look what came of it."""
        try:
            self._admission.check_rest(stored)
        except PAuthError:
            return _WHILE_STALE
        key, token = stored.record.key, stored.grant.token
        left = self._admission.closed_for(token)
        if left > 0:  # a flight for each of a hundred thousand users would come to nothing, a second later again
            self._reporter.served_stale(key, token, "breaker_open")
            return max(left, _WHILE_STALE)
        self._shared.flights.begin((key, stored.edition), partial(self._refresh_quietly, stored), begun=self._begun)
        return _WHILE_STALE

    async def _refresh_quietly(self, stored: Stored) -> Token | None:
        try:
            return await self._attempter.refresh(stored, behind_the_scenes=True)
        except ReauthorizationRequired:
            raise
        except Exception as error:  # nobody else may be there to see it
            _log.warning("refresh failed (%s); the stored access token is still valid and is used", type(error).__name__)
            self._reporter.served_stale(stored.record.key, stored.grant.token, "breaker_open" if self._admission.refused(error) else "refresh_failed")
            raise

    async def _saved(self, stored: Stored) -> Token:
        """The successor that the store has not taken so far, though the stored token is valid: the server may have ended that one.

        If the store still does not take it the stored one has to do.
        """
        key, token = stored.record.key, stored.grant.token
        now = self._clock.monotonic()
        if self._shared.resting(key, stored.edition, now) is None:
            try:
                async with asyncio.timeout(_SOFT_PATIENCE):
                    return await self._refreshed(stored)
            except ReauthorizationRequired:
                raise
            except (TimeoutError, PAuthError):
                waits = StorageUnavailable("the token that was refreshed last could not be stored yet")
                self._shared.rest(key, stored.edition, now + _REST, waits)
                self._reporter.served_stale(key, token, "unsaved")
        return token

    async def _flown(self, stored: Stored, patience: float, *, behind_the_scenes: bool = False) -> Token | _Retired | None:
        # What was seen is part of the flight's key: who has seen the second token must not be given the result of the flight that got it.
        work = partial(self._attempter.refresh, stored, behind_the_scenes=behind_the_scenes)
        outcome: Token | _Retired | None = await self._shared.flights.run(
            (stored.record.key, stored.edition), work, begun=self._begun, patience=patience
        )
        return outcome

    async def _refreshed(self, stored: Stored) -> Token:
        give_up_at, rounds = time.monotonic() + self._policy.deadline, 0
        while True:
            outcome = await self._flown(stored, max(0.0, give_up_at - time.monotonic()))
            if isinstance(outcome, Token):
                return outcome
            # Somebody else has refreshed it, or it was revoked (the reading says so), unless a new login followed.
            seen = stored.edition
            stored = await self._read(stored.record.key)
            token = stored.grant.token
            rounds += stored.edition == seen
            if rounds > _MAX_ROUNDS:
                raise StorageUnavailable(
                    "refreshing a token comes to nothing again and again; does the storage give back all that it is given to save?"
                )
            if self._policy.freshness(token, self._now_for(token)) is not Freshness.EXPIRED and stored.edition != seen:
                self._admission.heard(token)
                self._records.remember(stored)
                return token
            if time.monotonic() >= give_up_at:
                raise too_long()
