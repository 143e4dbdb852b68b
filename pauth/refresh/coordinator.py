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
from typing import Any, Final, NamedTuple, TypeAlias

from pauth.clock import Clock
from pauth.core.token import Token
from pauth.errors import PAuthError, ReauthorizationRequired, StorageUnavailable, TokenStorageError
from pauth.refresh.flight import Flight, Flights, drain
from pauth.refresh.policy import Freshness, RefreshPolicy
from pauth.refresh.stored import StoredGrant, read_grant, write_grant
from pauth.storage.base import CoordinatedTokenStorage, Record, RecordKey

__all__ = ["RefreshCoordinator"]

_log = logging.getLogger("pauth.refresh")

_STORE_PAUSES: Final = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each attempt to store a rotated token; after the last one the flight keeps it in memory and reports the error."""

_RETRY_PAUSE: Final = 5.0
"""Seconds after a failed refresh in which a token that is still valid is served without another try."""


_SOFT_PATIENCE: Final = 1.0
"""Seconds (of real time) for which a caller whose token is still valid waits for the refresh of it."""

_MAX_RESTS: Final = 10_000


class _Unsaved(NamedTuple):
    """A rotated token that the store has not taken yet."""

    predecessor: int
    """The version of the record that it succeeds."""

    token: Token
    storage: object
    """The storage it is meant for, which must not go before (P4); an adapter would, with its last client."""


class _Shared:
    """What all coordinators over one storage in this process share."""

    __slots__ = ("flights", "kept", "members", "rest_until", "unsaved")

    def __init__(self) -> None:
        self.flights = Flights()
        self.unsaved: dict[RecordKey, _Unsaved] = {}
        self.rest_until: dict[RecordKey, float] = {}
        """Until when (monotonic seconds) no refresh of a still valid token is tried."""
        self.members: set[int] = set()
        """Ids of the storage objects that are one store."""
        self.kept: object = None
        """The storage itself, if there is no other way to know that its id is still its own."""

    def rest(self, key: RecordKey, until: float) -> None:
        if len(self.rest_until) >= _MAX_RESTS:
            self.rest_until.clear()  # costs each of them one more try
        self.rest_until[key] = until

    def unsaved_successor(self, key: RecordKey, version: int) -> Token | None:
        """The token that is to replace ``version`` of a record as soon as the store takes it."""
        found = self.unsaved.get(key)
        if found is not None and found.predecessor < version:
            # a login came in between, or it was stored after all; not so if ``version`` is the older one, read a while ago
            self.forget(key, found)
        return found.token if found is not None and found.predecessor == version else None

    def forget(self, key: RecordKey, unsaved: _Unsaved) -> None:
        if self.unsaved.get(key) is unsaved:  # else another one's turn has come
            del self.unsaved[key]


_shared: dict[object, _Shared] = {}
_shared_lock = threading.RLock()  # re-entrant: the collector may finalize a storage while it is held


def _shared_over(storage: object) -> _Shared:
    # By identity, since a storage may compare equal to another one or not be hashable at all; but two objects may be one store (a database
    # that is opened twice): then they have the same `store_id`.
    key = getattr(storage, "store_id", None) or id(storage)
    with _shared_lock:
        shared = _shared.setdefault(key, _Shared())
        if id(storage) not in shared.members:
            shared.members.add(id(storage))
            try:
                weakref.finalize(storage, _leave, key, id(storage))
            except TypeError:  # __slots__ without __weakref__
                shared.kept = storage
        return shared


def _leave(key: object, member: int) -> None:
    with _shared_lock:
        shared = _shared[key]
        shared.members.remove(member)
        if not shared.members:
            del _shared[key]


_Renew: TypeAlias = Callable[[Token], Awaitable[Token | None]]


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
        self._begun: set[Flight] = set()

    async def get(self, key: RecordKey) -> Token:
        """A valid token of ``key``: the stored one, or a refreshed one."""
        record, grant = await self._read(key)
        token = grant.token
        freshness = self._policy.freshness(token, self._clock.time())
        if freshness is Freshness.EXPIRED:
            return await self._refreshed(key, record)
        # An unsaved successor comes first even while this token is valid: the server may have ended this one when it gave the other.
        if self._together.unsaved_successor(key, record.version) is None and (
            freshness is Freshness.FRESH or not self._refreshable(token) or self._clock.monotonic() < self._together.rest_until.get(key, 0.0)
        ):
            return token
        try:
            async with asyncio.timeout(_SOFT_PATIENCE):
                return await self._refreshed(key, record)
        except ReauthorizationRequired:
            raise
        except TimeoutError:
            return token  # the refresh goes on; who asks after it has landed gets its token
        except PAuthError as error:
            self._together.rest(key, self._clock.monotonic() + max(_RETRY_PAUSE, error.retry_after or 0.0))
            _log.warning("refresh failed (%s); the stored access token is still valid and is used", type(error).__name__)
            return token

    async def refresh(self, key: RecordKey) -> Token:
        """A token of ``key`` that was obtained after this call began, whatever the expiry of the stored one."""
        record, _ = await self._read(key)
        return await self._refreshed(key, record)

    async def login(self, key: RecordKey, token: Token) -> None:
        """Store the token of a new login, replacing whatever is stored.

        :raises TokenStorageError: the store does not take it; the token is lost, and the user has to log in again.
        """
        await self._write(key, StoredGrant(token), expected_version=None)
        self._together.rest_until.pop(key, None)

    async def end(self, key: RecordKey, revoke: Callable[[Token], Awaitable[None]], *, renew: _Renew | None = None) -> None:
        """Take a grant out of use, ``revoke`` its token at the server, then delete the record (RV-2).

        :param renew: the successor of a token, where the server needs a fresher one to revoke; else ``None``. It is stored before it is used.
        If ``revoke`` fails its error is raised and the record stays: no token of it is handed out, and another call tries again.
        Nothing is done for a key without a record.
        """
        record = await self._storage.load(key)
        if record is not None:
            # by version: who ends a new login must not be told that the one before it has ended
            await self.shielded(("end", key, record.version), partial(self._end, key, revoke, renew))

    async def _end(self, key: RecordKey, revoke: Callable[[Token], Awaitable[None]], renew: _Renew | None) -> None:
        while (record := await self._storage.load(key)) is not None:
            retired = await self._retired(key, record.version)
            if retired is not None and renew is not None and (renewed := await renew(retired.token)) is not None:
                marked = await self._write(key, StoredGrant(renewed, "revoked"), expected_version=retired.version)
                retired = None if marked is None else _Retired(renewed, marked.version)
            if retired is not None:
                await revoke(retired.token)
                # a login that came in between has its own record, which stays
                await self._storage.remove(key, expected_version=retired.version)
                break
        self._together.rest_until.pop(key, None)

    async def _retired(self, key: RecordKey, version: int) -> _Retired | None:
        """Mark this version of the record as revoked; ``None`` if it was not the newest one, or a refresh was under way.

        Done in the flight of this version: a refresh under way ends first, so that the token we revoke is the server's newest (RV-3).
        """
        begun = False

        async def retire() -> _Retired | None:
            nonlocal begun
            begun = True
            return await self._retire(key, version)

        try:
            outcome = await self.shielded((key, version), retire)
        except PAuthError:
            if begun:
                raise
            return None  # how a refresh failed is no answer to who wants to end the grant
        return outcome if isinstance(outcome, _Retired) else None

    async def _retire(self, key: RecordKey, version: int) -> _Retired | None:
        record = await self._storage.load(key)
        if record is None or record.version != version:
            return None
        token = self._together.unsaved_successor(key, version) or read_grant(record.tokens).token
        marked = await self._write(key, StoredGrant(token, "revoked"), expected_version=version)
        return None if marked is None else _Retired(token, marked.version)

    async def shielded(self, key: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do ``work`` as a flight of this coordinator: cancelling the caller does not cancel it, and :meth:`drain` waits for it."""
        return await self._together.flights.run(key, work, begun=self._begun)

    async def drain(self) -> None:
        """Wait until everything that was started here has ended, so that no rotated token is lost when the loop closes.

        Tokens that the store has not taken so far are offered to it once more (P4).
        """
        await drain(self._begun)
        for key, unsaved in list(self._together.unsaved.items()):
            try:
                await self._write(key, StoredGrant(unsaved.token), expected_version=unsaved.predecessor)
                self._together.forget(key, unsaved)
            except TokenStorageError as error:
                _log.error("a refreshed token could still not be stored (%s); it is lost with this process", type(error).__name__)

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
        unsaved = self._together.unsaved_successor(key, record.version)
        if unsaved is not None:
            return await self._store(key, record, unsaved)
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
        """The refresh token was refused. Only the server's word counts, and only for the token still on record (P8); nothing is deleted."""
        if verdict.reason != "invalid_grant" or await self._write(key, StoredGrant(grant.token, verdict.reason), expected_version=sent.version):
            raise verdict
        record, stored = await self._read(key)
        return await self._adopt(key, record, stored)

    async def _store(self, key: RecordKey, record: Record, token: Token) -> Token:
        """Store the successor of ``record``; give it back only when the store has it (P3)."""
        unsaved = self._together.unsaved[key] = _Unsaved(record.version, token, self._storage)
        written = await self._insist(key, token, expected_version=record.version)
        self._together.forget(key, unsaved)
        self._together.rest_until.pop(key, None)
        if written:
            return token
        # A login or a revocation came in between: its record stands, and ours must not bring back what it replaced.
        current, grant = await self._read(key)
        return await self._adopt(key, current, grant)

    async def _insist(self, key: RecordKey, token: Token, *, expected_version: int) -> bool:
        """Write until the store takes it, for a few seconds.

        :returns: whether ``token`` is what the store now holds.
        :raises StorageUnavailable: it does not. The token stays in memory, and the next call begins here.
        """
        pauses = list(_STORE_PAUSES)
        interrupted = False
        while pauses:
            pause = pauses.pop(0)
            try:
                if pause:
                    await self._clock.sleep(pause)
                written = await self._write(key, StoredGrant(token), expected_version=expected_version)
                return written is not None or await self._is_stored(key, token)
            except TokenStorageError as error:
                _log.warning("a refreshed token could not be stored yet (%s)", type(error).__name__)
            except asyncio.CancelledError:
                # The loop is closing down, and waits for its tasks to end: there is time for one more write, at once, not for a second interruption.
                if interrupted:
                    raise
                interrupted, pauses = True, [0.0]
        raise StorageUnavailable("a refreshed token could not be stored; it is kept in memory, and the next call tries to store it again")

    async def _is_stored(self, key: RecordKey, token: Token) -> bool:
        # after a write whose answer was lost, the retry finds a newer version: our own
        current = await self._storage.load(key)
        if current is None:
            return False
        grant = read_grant(current.tokens)
        return grant.ended is None and grant.token.access_token == token.access_token

    async def _write(self, key: RecordKey, grant: StoredGrant, *, expected_version: int | None) -> Record | None:
        return await self._storage.replace(key, write_grant(grant), expected_version=expected_version, expires_at=grant.token.expires_at)
