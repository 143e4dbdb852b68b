"""What all coordinators over one store share in this process, however many storage objects and clients there are."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from pauth.refresh.cache import TokenCache
from pauth.refresh.failures import Breaker
from pauth.refresh.flight import Flights
from pauth.refresh.saving import Unsaved
from pauth.refresh.stored import Attempts
from pauth.storage.base import Record, RecordKey

__all__ = ["Shared", "shared_over"]

_MAX_RESTS = 10_000
_MAX_OUTCOMES = 10_000


class Shared:
    """Flights, caches, breakers and tokens that wait to be saved, of one store."""

    __slots__ = ("breakers", "caches", "flights", "kept", "members", "outcomes", "replayed", "rests", "unsaved")

    def __init__(self) -> None:
        self.flights: Flights = Flights()
        self.unsaved: dict[RecordKey, Unsaved] = {}
        self.rests: dict[RecordKey, float] = {}
        """Until when (monotonic seconds) nobody here tries to refresh a token: for failures that the record knows nothing of."""
        self.outcomes: dict[str, Attempts] = {}
        """What is known after attempts of this process that may stand in a record as under way, since the store did not take how they ended."""
        self.caches: dict[str, TokenCache] = {}
        self.breakers: dict[str, Breaker] = {}
        self.replayed: bool = False
        """The journal has been read."""
        self.members: set[int] = set()
        """Ids of the storage objects that are one store."""
        self.kept: object = None
        """The storage itself, if there is no other way to know that its id is still its own."""

    def cache(self, namespace: str, limit: int, monotonic: Callable[[], float]) -> TokenCache:
        """The cache of a namespace; who asks first says how large it is."""
        with _lock:
            return self.caches.setdefault(namespace, TokenCache(limit, monotonic))

    def breaker(self, endpoint: str, monotonic: Callable[[], float]) -> Breaker:
        """The breaker of a token endpoint."""
        with _lock:
            return self.breakers.setdefault(endpoint, Breaker(monotonic))

    def rest(self, key: RecordKey, until: float) -> None:
        """Let nobody here try to refresh ``key`` before ``until`` (monotonic seconds)."""
        if len(self.rests) >= _MAX_RESTS:
            self.rests.clear()  # costs each of them one more try
        self.rests[key] = until

    def note_outcome(self, attempt_id: str, known: Attempts) -> None:
        """How an attempt ended, though a record may say that it is under way: ``known`` is what it should say."""
        if len(self.outcomes) >= _MAX_OUTCOMES:
            del self.outcomes[next(iter(self.outcomes))]
        self.outcomes[attempt_id] = known

    def settled(self, attempts: Attempts) -> Attempts:
        """``attempts`` of a record, or what is known here of how the latest one ended."""
        if attempts.under_way and attempts.attempt_id is not None:
            return self.outcomes.get(attempts.attempt_id, attempts)
        return attempts

    def unsaved_successor(self, record: Record) -> Unsaved | None:
        """The token that is to replace ``record`` as soon as the store takes it."""
        found = self.unsaved.get(record.key)
        if found is None or found.predecessor == record.lineage:
            return found
        if found.version < record.version:  # a login came in between, or it was stored after all; an older record was read a while ago
            self.forget(record.key, found)
        return None

    def forget(self, key: RecordKey, unsaved: Unsaved) -> None:
        """That token waits no more."""
        if self.unsaved.get(key) is unsaved:  # else another one's turn has come
            del self.unsaved[key]


_shared: dict[object, Shared] = {}
_lock = threading.RLock()  # re-entrant: the collector may finalize a storage while it is held


def shared_over(storage: object) -> Shared:
    """What is shared by all who use this store."""
    # By identity, since a storage may compare equal to another one or not be hashable at all; but two objects may be one store (a database
    # that is opened twice): then they have the same `store_id`.
    key = getattr(storage, "store_id", None) or id(storage)
    with _lock:
        shared = _shared.setdefault(key, Shared())
        if id(storage) not in shared.members:
            shared.members.add(id(storage))
            try:
                weakref.finalize(storage, _leave, key, id(storage))
            except TypeError:  # __slots__ without __weakref__
                shared.kept = storage
        return shared


def _leave(key: object, member: int) -> None:
    with _lock:
        shared = _shared[key]
        shared.members.remove(member)
        if not shared.members:
            del _shared[key]
