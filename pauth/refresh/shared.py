"""What all coordinators over one store share in this process, however many storage objects and clients there are."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

from pauth.clock import Clock
from pauth.core.token import Token
from pauth.errors import PAuthError
from pauth.locks import ForkSafeLock
from pauth.refresh.cache import TokenCache
from pauth.refresh.failures import Breaker
from pauth.refresh.flight import Flights
from pauth.refresh.leases import HeldLease
from pauth.refresh.reports import Report, Reporter
from pauth.refresh.saving import Unsaved
from pauth.refresh.stored import Attempts
from pauth.storage.base import Record, RecordKey
from pauth.storage.journal import SpillJournal

__all__ = ["Shared", "is_ahead", "shared_over"]

_MAX_NOTES = 10_000
_MAX_AHEAD: Final = 100_000

_CLOCKS_DIFFER: Final = 600.0
"""Seconds by which the clock of who issued a token may be ahead of ours; a clock that is further ahead tells nothing of the token's expiry."""


class _Rest(NamedTuple):
    """A token is not tried for a while."""

    edition: str
    """Of the token: :attr:`.Stored.edition`."""

    until: float
    """On the monotonic clock."""

    failure: PAuthError

    def after(self, left: float) -> PAuthError:
        """The failure once more, for who asks too early."""
        again = copy.copy(self.failure)
        again.retry_after = left
        again.message = f"{again.message} (it is tried again in {left:.1f} seconds)"
        again.args = (again.message,)
        return again


class Shared:
    """Flights, caches, breakers and tokens that wait to be saved, of one store."""

    __slots__ = (
        "ahead",
        "breakers",
        "caches",
        "files",
        "flights",
        "held",
        "kept",
        "members",
        "outcomes",
        "replayed",
        "reporters",
        "rests",
        "seen",
        "told",
        "unsaved",
    )

    def __init__(self) -> None:
        self.flights: Flights = Flights()
        self.unsaved: dict[RecordKey, Unsaved] = {}
        self.files: dict[str, SpillJournal] = {}
        """Where a journal has the token of an attempt, for all who may store it."""
        self.reporters: weakref.WeakValueDictionary[str, Reporter] = weakref.WeakValueDictionary()
        """Who tells of the tokens of a namespace: its client, if there is one."""
        self.rests: dict[RecordKey, _Rest] = {}
        """Tokens that nobody here tries to refresh for a while: for failures that the record knows nothing of."""
        self.seen: dict[str, float] = {}
        """When (monotonic seconds) this process first saw a failed attempt in a record."""
        self.ahead: dict[tuple[str, float], float] = {}
        """When (monotonic seconds) this process first saw a token whose issue lies in the future."""
        self.held: dict[RecordKey, HeldLease] = {}
        """Leases that keep other processes away from tokens that wait to be saved here."""
        self.outcomes: dict[str, Attempts] = {}
        """What is known after attempts of this process that may stand in a record as under way, since the store did not take how they ended."""
        self.told: dict[Hashable, None] = {}
        """What has been told, and is not to be told again."""
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

    def rest(self, key: RecordKey, edition: str, until: float, failure: PAuthError) -> None:
        """Let nobody here try to refresh this token before ``until`` (monotonic seconds)."""
        _bound(self.rests)
        self.rests[key] = _Rest(edition, until, copy.copy(failure))  # without its traceback, whose frames hold tokens and clients

    def resting(self, key: RecordKey, edition: str, now: float) -> tuple[float, _Rest] | None:
        """For how long a token rests, and why; ``None`` if it does not."""
        rest = self.rests.get(key)
        return None if rest is None or rest.edition != edition or rest.until <= now else (rest.until - now, rest)

    def first_seen(self, attempt_id: str | None, now: float) -> float:
        """When this process first saw this attempt in a record (monotonic seconds)."""
        return now if attempt_id is None else _first(self.seen, attempt_id, now, _MAX_NOTES)

    def now_for(self, token: Token, clock: Clock) -> float:
        """The time to judge the expiry of ``token`` by: seconds since the Unix epoch, on the clock by which it was issued (P11).

        That is our own, unless the token comes from the future: it was issued by a clock that was wrong, or ours has become so. Its expiry may be
        years away, and its lifetime is over long before. So its age is counted from when it was first seen here.
        """
        now = clock.time()
        if not is_ahead(token, now) and not (self.ahead and (token.version, token.issued_at) in self.ahead):
            return now
        here = clock.monotonic()
        return token.issued_at + here - _first(self.ahead, (token.version, token.issued_at), here, _MAX_AHEAD)

    def note_outcome(self, attempt_id: str, known: Attempts) -> None:
        """How an attempt ended, though a record may say that it is under way: ``known`` is what it should say."""
        _bound(self.outcomes)
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

    def forget(self, key: RecordKey, unsaved: Unsaved) -> bool:
        """That token waits no more; gives whether it did."""
        with _lock:
            if self.unsaved.get(key) is not unsaved:  # another one's turn has come
                return False
            del self.unsaved[key]
            return True

    async def let_go(self, key: RecordKey) -> None:
        """Give back the lease that was kept while a token waited to be saved, unless the next one waits already."""
        held = None if key in self.unsaved else self.held.pop(key, None)
        if held is not None:
            await held.release()

    def is_news(self, what: Hashable) -> bool:
        """Whether nobody here has told this yet."""
        with _lock:
            if what in self.told:
                return False
            _bound(self.told)
            self.told[what] = None
            return True

    def tell_stored(self, unsaved: Unsaved, report: Report) -> None:
        """Tell, once, that a token is stored: two who offer it to the store at the same time both find it there."""
        if not self.is_news(unsaved.attempt_id):
            return
        if report.alarmed or unsaved.previous is None:
            report.recovered(unsaved.source)
        if unsaved.previous is not None:  # else another process has obtained it, and how long that took nobody knows
            report.refreshed(unsaved.token, unsaved.previous)


def is_ahead(token: Token, now: float) -> bool:
    """Whether ``token`` was issued by a clock that cannot be compared with ours: in the future of ``now`` (seconds since the Unix epoch)."""
    return token.issued_at > now + _CLOCKS_DIFFER


def _bound(notes: dict[Any, Any], limit: int | None = None) -> None:
    """Make room for one more; the oldest goes, which costs a try too many at worst (P19)."""
    if len(notes) >= (_MAX_NOTES if limit is None else limit):
        with suppress(RuntimeError):  # another thread has changed it in this moment: there is one more then, for once
            notes.pop(next(iter(notes)), None)


_Noted = TypeVar("_Noted")


def _first(notes: dict[_Noted, float], name: _Noted, now: float, limit: int) -> float:
    """What is noted under ``name``: the moment of the first call."""
    found = notes.get(name)
    if found is None:
        _bound(notes, limit)
        found = notes.setdefault(name, now)
    return found


_shared: dict[object, Shared] = {}
_lock = ForkSafeLock()


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
