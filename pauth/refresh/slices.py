"""Slices of a client's records, and the lease under which a worker is at one of them."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from pauth.refresh.leases import HeldLease
from pauth.storage.base import RecordKey
from pauth.storage.identity import row_id

__all__ = ["SLICES", "HeldSlice", "slice_key", "slice_of"]

SLICES: Final = 64
"""How many there are of each client's records."""

_NAMESPACE: Final = "pauth:refresher"


def slice_of(key: RecordKey) -> int:
    """The slice that a record is in."""
    return row_id(key.namespace, key.user_id)[0] % SLICES


def slice_key(namespace: str, number: int) -> RecordKey:
    """What the lease on a slice of a client's records is taken on."""
    # a user id is shorter than a namespace may be
    return RecordKey(_NAMESPACE, f"{number}:{hashlib.sha256(namespace.encode('utf-8', 'surrogatepass')).hexdigest()}")


class HeldSlice:
    """The lease on a slice, which lasts as long as there is something to do in it."""

    def __init__(self, lease: HeldLease, ttl: float) -> None:
        self._lease = lease
        self._ttl = ttl
        self._line = asyncio.Lock()
        self._lost = False
        self.users: int = 0
        """How many batches of records are being worked on under it."""

    async def goes_on(self) -> bool:
        """Whether it is still ours, with time to refresh another token in."""
        async with self._line:
            if not self._lost and self._lease.remaining < self._ttl / 2:
                self._lost = not await self._lease.extend()
            return not self._lost

    async def release(self) -> None:
        """Give it back."""
        await self._lease.release()
