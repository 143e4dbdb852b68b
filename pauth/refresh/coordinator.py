"""From a stored token to a valid one.

The order is always: read the record; if its token will not do, start one flight per record version; in it read again, send, store by compare-and-set,
and only then hand out. Everything between sending and storing happens in the flight, which no caller can cancel.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple

from pauth.clock import Clock
from pauth.core.token import Token
from pauth.errors import PAuthError, ReauthorizationRequired, StorageUnavailable, TokenStorageError
from pauth.refresh.flight import Flights
from pauth.refresh.policy import Freshness, RefreshPolicy
from pauth.refresh.stored import StoredGrant, read_grant, write_grant
from pauth.storage.base import CoordinatedTokenStorage, Record, RecordKey

__all__ = ["RefreshCoordinator"]

_log = logging.getLogger("pauth.refresh")

_STORE_PAUSES: Final = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each attempt to store a rotated token; after the last one the flight keeps it in memory and reports the error."""

_RETRY_PAUSE: Final = 5.0
"""Seconds after a failed refresh in which a token that is still valid is served without another try."""


_MAX_RESTS: Final = 10_000


class _Shared:
    """What all coordinators over one storage in this process share."""

    __slots__ = ("flights", "rest_until", "unsaved")

    def __init__(self) -> None:
        self.flights = Flights()
        self.unsaved: dict[RecordKey, tuple[int, Token]] = {}
        """Rotated tokens the store did not take, by key, with the version that each succeeds."""
        self.rest_until: dict[RecordKey, float] = {}
        """Until when (monotonic seconds) no refresh of a still valid token is tried."""

    def rest(self, key: RecordKey, now: float, pause: float) -> None:
        if len(self.rest_until) >= _MAX_RESTS:
            self.rest_until = {resting: until for resting, until in self.rest_until.items() if until > now}
        self.rest_until[key] = now + pause


_shared: dict[int, _Shared] = {}
_shared_lock = threading.Lock()


def _shared_over(storage: object) -> _Shared:
    # by identity: a storage may compare equal to another one, or not be hashable at all
    with _shared_lock:
        shared = _shared.get(id(storage))
        if shared is None:
            weakref.finalize(storage, _shared.pop, id(storage), None)
            shared = _shared[id(storage)] = _Shared()
        return shared


class _Retired(NamedTuple):
    """What a flight gives that took a grant out of use instead of refreshing it."""

    token: Token
    version: int


class RefreshCoordinator:
    """Gives valid tokens out of a storage, refreshing them through ``send``.

    All coordinators on the same storage object work together: whoever of them asks, there is one refresh.

    :param send: sends the refresh request for a token and gives the new one. It raises :class:`~pauth.errors.ReauthorizationRequired` if the server
        says that the grant is dead, and :class:`~pauth.errors.PAuthError` for anything else.
    :param refreshable: whether ``send`` can do anything with a token.
    """

    def __init__(
        self,
        storage: CoordinatedTokenStorage,
        send: Callable[[Token], Awaitable[Token]],
        *,
        refreshable: Callable[[Token], bool],
        policy: RefreshPolicy,
        clock: Clock,
    ) -> None:
        self._storage = storage
        self._send = send
        self._refreshable = refreshable
        self._policy = policy
        self._clock = clock
        self._together = _shared_over(storage)
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: RecordKey) -> Token:
        """A valid token of ``key``: the stored one, or a refreshed one."""
        record, grant = await self._read(key)
        token = grant.token
        freshness = self._policy.freshness(token, self._clock.time())
        if freshness is Freshness.EXPIRED or key in self._together.unsaved:
            return await self._refreshed(key, record)
        if freshness is Freshness.FRESH:
            return token
        if not self._refreshable(token) or self._clock.monotonic() < self._together.rest_until.get(key, 0.0):
            return token
        try:
            return await self._refreshed(key, record)
        except ReauthorizationRequired:
            raise
        except PAuthError as error:
            pause = _RETRY_PAUSE if error.retry_after is None else error.retry_after
            self._together.rest(key, self._clock.monotonic(), pause)
            _log.warning("refresh failed (%s); the stored access token is still valid and is used", type(error).__name__)
            return token

    async def refresh(self, key: RecordKey) -> Token:
        """A token of ``key`` that was obtained after this call began, whatever the expiry of the stored one."""
        record, _ = await self._read(key)
        return await self._refreshed(key, record)

    async def login(self, key: RecordKey, token: Token) -> None:
        """Store the token of a new login, replacing whatever is stored."""
        self._together.unsaved.pop(key, None)
        self._together.rest_until.pop(key, None)
        await self._write(key, StoredGrant(token), expected_version=None)

    async def end(self, key: RecordKey, revoke: Callable[[Token], Awaitable[None]]) -> None:
        """Take a grant out of use, ``revoke`` its token at the server, then delete the record (RV-2).

        If ``revoke`` fails its error is raised and the record stays: no token of it is handed out, and another call tries again.
        Nothing is done for a key without a record.
        """
        await self.shielded(("end", key), partial(self._end, key, revoke))

    async def _end(self, key: RecordKey, revoke: Callable[[Token], Awaitable[None]]) -> None:
        while (record := await self._storage.load(key)) is not None:
            # In the flight of this version: a refresh under way ends first, so that the token we revoke is the server's newest (RV-3).
            retired = await self.shielded((key, record.version), partial(self._retire, key, record.version))
            if isinstance(retired, _Retired):
                await revoke(retired.token)
                # a login that came in between has its own record, which stays
                await self._storage.remove(key, expected_version=retired.version)
                break
        self._together.unsaved.pop(key, None)
        self._together.rest_until.pop(key, None)

    async def _retire(self, key: RecordKey, seen_version: int) -> _Retired | None:
        record = await self._storage.load(key)
        if record is None or record.version != seen_version:
            return None
        unsaved = self._together.unsaved.get(key)
        token = unsaved[1] if unsaved is not None and unsaved[0] == record.version else read_grant(record.tokens).token
        marked = await self._write(key, StoredGrant(token, "revoked"), expected_version=record.version)
        return None if marked is None else _Retired(token, marked.version)

    async def shielded(self, key: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do ``work`` as a flight of this coordinator: cancelling the caller does not cancel it, and :meth:`drain` waits for it."""
        return await self._together.flights.run(key, work, tasks=self._tasks)

    async def drain(self) -> None:
        """Wait until everything that was started here has ended, so that no rotated token is lost when the loop closes."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _read(self, key: RecordKey) -> tuple[Record, StoredGrant]:
        record = await self._storage.load(key)
        if record is None:
            raise ReauthorizationRequired("no token is stored for this user; let the user log in", reason="not_logged_in")
        grant = read_grant(record.tokens)
        if grant.ended is not None:
            raise ReauthorizationRequired("this user's grant has ended; let the user log in again", reason=grant.ended)
        return record, grant

    async def _refreshed(self, key: RecordKey, seen: Record) -> Token:
        # The version is part of the key: who has seen version 7 must not be given the result of a flight that turned 6 into 7.
        outcome = await self.shielded((key, seen.version), partial(self._fly, key, seen.version))
        if isinstance(outcome, Token):
            return outcome
        record, grant = await self._read(key)  # the flight was a revocation's; this says so, unless a new login followed
        return await self._adopt(key, record, grant)

    async def _fly(self, key: RecordKey, seen_version: int) -> Token:
        record, grant = await self._read(key)
        if record.version != seen_version:
            return await self._adopt(key, record, grant)
        unsaved = self._together.unsaved.get(key)
        if unsaved is not None and unsaved[0] == record.version:
            return await self._store(key, record, unsaved[1])
        if not self._refreshable(grant.token):
            raise ReauthorizationRequired("the access token has expired and has no refresh token; let the user log in", reason="no_refresh_token")
        dead: ReauthorizationRequired | None = None
        token = grant.token
        try:
            token = await self._send(grant.token)
        except ReauthorizationRequired as error:
            dead = error
        if dead is not None:
            return await self._condemn(key, record, grant, dead)
        return await self._store(key, record, token)

    async def _adopt(self, key: RecordKey, record: Record, grant: StoredGrant) -> Token:
        """Use what somebody else stored meanwhile; refresh it in turn if it has expired already."""
        if self._policy.freshness(grant.token, self._clock.time()) is Freshness.EXPIRED:
            return await self._refreshed(key, record)
        return grant.token

    async def _condemn(self, key: RecordKey, sent: Record, grant: StoredGrant, verdict: ReauthorizationRequired) -> Token:
        """The server called the refresh token dead. Believe it only if it is still the one on record (P8); delete nothing."""
        record, stored = await self._read(key)
        if record.version != sent.version:
            return await self._adopt(key, record, stored)
        await self._write(key, StoredGrant(grant.token, verdict.reason), expected_version=record.version)
        raise verdict

    async def _store(self, key: RecordKey, record: Record, token: Token) -> Token:
        """Store the successor of ``record``; give it back only when the store has it (P3)."""
        self._together.unsaved[key] = (record.version, token)
        written = await self._insist(key, record, token)
        del self._together.unsaved[key]
        self._together.rest_until.pop(key, None)
        if written:
            return token
        # A login or a revocation came in between: its record stands, and ours must not bring back what it replaced.
        current, grant = await self._read(key)
        return await self._adopt(key, current, grant)

    async def _insist(self, key: RecordKey, record: Record, token: Token) -> bool:
        """Write until the store takes it. If it never does the token stays in memory, and the next call begins here.

        :returns: whether ``token`` is what the store now holds.
        """
        interrupted = False
        for pause in _STORE_PAUSES:
            try:
                if pause:
                    await self._clock.sleep(pause)
                written = await self._write(key, StoredGrant(token), expected_version=record.version)
                return written is not None or await self._is_stored(key, token)
            except TokenStorageError as error:
                _log.warning("a refreshed token could not be stored yet (%s)", type(error).__name__)
            except asyncio.CancelledError:
                # The loop is closing down, and waits for its tasks to end: there is time for one more write, not for a second interruption.
                if interrupted:
                    raise
                interrupted = True
        raise StorageUnavailable("a refreshed token could not be stored; it is kept in memory, and the next call tries to store it again")

    async def _is_stored(self, key: RecordKey, token: Token) -> bool:
        # after a write whose answer was lost, the retry finds a newer version: our own
        current = await self._storage.load(key)
        return current is not None and read_grant(current.tokens).token.access_token == token.access_token

    async def _write(self, key: RecordKey, grant: StoredGrant, *, expected_version: int | None) -> Record | None:
        return await self._storage.replace(key, write_grant(grant), expected_version=expected_version, expires_at=grant.token.expires_at)
