"""The lease on a record: the right to be the only one, of all processes, who refreshes it.

It keeps two from asking at once; it does not keep what is stored right. That is done by compare-and-set on the lineage, since a lease can be lost
without its holder's knowing.
"""

from __future__ import annotations

import logging
import secrets

from pauth.clock import Clock
from pauth.errors import PAuthError, TokenStorageError
from pauth.storage.base import CoordinatedTokenStorage, RecordKey

__all__ = ["HeldLease", "has_leases", "take_lease"]

_log = logging.getLogger("pauth.refresh")


def has_leases(storage: CoordinatedTokenStorage) -> bool:
    """Whether ``storage`` can give leases; users' own classes with three methods cannot."""
    return getattr(storage, "has_leases", True) is not False


class HeldLease:
    """A lease that was taken. Where a storage has none, it is held by everybody and for ever."""

    __slots__ = ("_clock", "_key", "_owner", "_storage", "_ttl", "ends_at", "waited")

    def __init__(self, storage: CoordinatedTokenStorage, key: RecordKey, owner: str | None, ttl: float, clock: Clock, ends_at: float) -> None:
        self._storage = storage
        self._key = key
        self._owner = owner
        self._ttl = ttl
        self._clock = clock
        self.ends_at: float = ends_at
        """On the monotonic clock; the lease may run a little longer."""
        self.waited: bool = False
        """Somebody else had it when it was first asked for."""

    @property
    def remaining(self) -> float:
        """Seconds for which it certainly runs."""
        return self.ends_at - self._clock.monotonic()

    async def extend(self) -> bool:
        """Let it run for its whole time from now; ``False`` if it was lost.

        :raises TokenStorageError: the store failed.
        """
        if self._owner is None:
            return True
        asked_at = self._clock.monotonic()
        if not await self._storage.extend_lease(self._key, self._owner, ttl=self._ttl):
            return False
        self.ends_at = asked_at + self._ttl
        return True

    async def release(self) -> None:
        """Give it back. If the store fails it runs out by itself."""
        if self._owner is None:
            return
        try:
            await self._storage.release_lease(self._key, self._owner)
        except PAuthError as error:
            _log.debug("a lease could not be given back (%s) and runs out by itself", type(error).__name__)


async def take_lease(storage: CoordinatedTokenStorage, key: RecordKey, *, ttl: float, clock: Clock) -> HeldLease | None:
    """The lease on ``key`` for ``ttl`` seconds; ``None`` if somebody else has it.

    :raises TokenStorageError: the store failed.
    """
    if not has_leases(storage):
        return HeldLease(storage, key, None, ttl, clock, float("inf"))
    owner = secrets.token_hex(16)
    asked_at = clock.monotonic()
    failure: TokenStorageError
    try:
        lease = await storage.take_lease(key, owner, ttl=ttl)
    except TokenStorageError as error:
        failure = error
    else:
        # what the store says may be rounded up: it never runs longer than it was asked for
        return None if lease is None else HeldLease(storage, key, owner, ttl, clock, min(clock.monotonic() + lease.remaining, asked_at + ttl))
    # It may have been given all the same, and would stand in everybody's way.
    await HeldLease(storage, key, owner, ttl, clock, asked_at).release()
    raise failure
