"""One client's way through the tokens of a store that are due, from the earliest to the last: what a :class:`~pauth.TokenRefresher` repeats.

The records are cut into slices by the hash of each, and a slice is worked on under a lease, so that workers that look at the same page at the same
moment take different slices of it. Whatever is left to chance costs a read, never a second refresh: each refresh has its own lease and intent.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from pauth.clock import Clock
from pauth.errors import (
    ConfigurationError,
    PAuthError,
    ProviderUnavailable,
    ReauthorizationRequired,
    RecordUnreadable,
    StorageUnavailable,
    TokenStorageError,
)
from pauth.events import EventStream, StoreScanned
from pauth.refresh.leases import take_lease
from pauth.refresh.pacing import Pace, Stop
from pauth.refresh.policy import RefreshPolicy, spread
from pauth.refresh.progress import Outcome, RefresherProgress, Tally
from pauth.refresh.slices import HeldSlice, slice_key, slice_of
from pauth.refresh.stored import read_grant
from pauth.storage.base import CoordinatedTokenStorage, Expiring, Record

__all__ = ["Doubt", "KeepsFresh", "Listing", "Scan", "Work"]

_log = logging.getLogger("pauth.refresh")

_GIVE_UP_AFTER: Final = 20
"""So many refreshes in a row that came to nothing, whoever's: the server, or the store, is left alone until the next scan."""

_MAX_BUSY: Final = 10_000
"""Records that another worker is at, of which a scan remembers to look at them again."""

_PAGES_KEPT: Final = 8
_NOT_THERE: Final = frozenset({"not_logged_in", "revoked"})
_REFUSES_THE_CLIENT: Final = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
"""Error codes (RFC 6749 section 5.2) that are not about one user."""

_Slice: TypeAlias = tuple[int, Sequence[Expiring]]


class KeepsFresh(Protocol):
    """What a refresher asks of a client; :class:`~pauth.OAuth2Client` has it."""

    @property
    def namespace(self) -> str:
        """Of its records."""
        ...

    @property
    def endpoint(self) -> str:
        """Names the server that refreshes them: its issuer, or its token endpoint."""
        ...

    @property
    def token_storage(self) -> CoordinatedTokenStorage:
        """Where they are."""
        ...

    @property
    def events(self) -> EventStream:
        """What happens to them."""
        ...

    @property
    def refresh_policy(self) -> RefreshPolicy:
        """When they are due."""
        ...

    async def keep_fresh(self, user_id: str, *, within: float = 0.0) -> bool:
        """Refresh the user's token if it becomes stale within so many seconds; gives whether it was refreshed."""
        ...


class Listing:
    """What is due in one store, for all clients that go through it at the same time: each page is read once.

    :param clients: the namespaces of all of them.
    :param before: when a token has to expire to be listed, in seconds since the Unix epoch.
    """

    def __init__(self, storage: CoordinatedTokenStorage, clients: Collection[str], *, before: float, page_size: int, tally: Tally) -> None:
        self._storage = storage
        self._clients = clients
        self._before = before
        self._page_size = page_size
        self._tally = tally
        self._lock = asyncio.Lock()
        self._pages: dict[str | None, tuple[Mapping[str, Sequence[Expiring]], str | None]] = {}
        self._counted: set[str | None] = set()
        self._failure: TokenStorageError | None = None

    async def page(self, namespace: str, cursor: str | None) -> tuple[Sequence[Expiring], str | None]:
        """The records of one client in a page, which may be none, and where the next page begins, if there is one.

        :raises TokenStorageError: the store failed; then it is not asked again.
        """
        async with self._lock:
            if self._failure is not None:
                raise copy.copy(self._failure)
            if cursor not in self._pages:
                self._pages[cursor] = await self._read(cursor)
                if len(self._pages) > _PAGES_KEPT:  # who is slower than the others reads it again
                    del self._pages[next(iter(self._pages))]
            by_client, following = self._pages[cursor]
        return by_client.get(namespace, ()), following

    async def _read(self, cursor: str | None) -> tuple[Mapping[str, Sequence[Expiring]], str | None]:
        try:
            page = await self._storage.list_expiring(self._before, cursor=cursor, limit=self._page_size)
        except TokenStorageError as error:
            self._failure = error
            raise
        by_client: defaultdict[str, list[Expiring]] = defaultdict(list)
        for each in page.items:
            by_client[each.key.namespace].append(each)
        if cursor not in self._counted:
            self._counted.add(cursor)
            self._tally.add("unknown", sum(len(records) for namespace, records in by_client.items() if namespace not in self._clients))
        return by_client, page.next_cursor


class Doubt:
    """Whether the last scan has given a client's server up. Then the next one tries it with one refresh before it begins with the others."""

    __slots__ = ("given_up",)

    def __init__(self) -> None:
        self.given_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """How one client's tokens are refreshed by one worker."""

    client: KeepsFresh
    storage: CoordinatedTokenStorage
    interval: float
    """Seconds until the next scan."""

    lease_time: float
    """Seconds after which somebody else takes over what a worker that died was at."""

    concurrency: int
    """How many refreshes of this client are under way at once, at most."""

    slots: asyncio.Semaphore
    """How many are, of all clients together."""

    doubt: Doubt
    pace: Pace
    stop: Stop
    clock: Clock
    told: Callable[[], None]
    """Called after each slice."""


class Scan:
    """One client's way through one listing.

    :param tally: gets what is done in it.
    """

    def __init__(self, work: Work, listing: Listing, tally: Tally) -> None:
        self._work = work
        self._client = work.client
        self._namespace = work.client.namespace
        self._listing = listing
        self._tally = tally
        self._slots = asyncio.Semaphore(work.concurrency)
        self._in_hand = 0
        self._held: dict[int, HeldSlice] = {}
        self._lines: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._busy: list[_Slice] = []
        self._busy_records = 0
        self._again = False
        self._in_vain = 0
        self._given_up = False
        self._trial = asyncio.Lock()
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Go through it. What is under way when something fails is waited for.

        :raises TokenStorageError: the store failed.
        """
        began_at = self._work.clock.monotonic()
        await self._through(self._slices())
        if self._busy:
            # Who was at them may have come to the end of it, and may have been at records of the same slice that are not these.
            self._again = True
            await self._through(_each(self._busy))
        if self._failure is not None:
            raise self._failure
        seconds = self._work.clock.monotonic() - began_at
        self._tally.add("scans")
        self._tally.took(seconds)
        self._tell()

    def _tell(self) -> None:
        events = self._client.events
        if events.wants(StoreScanned):
            done = self._tally.progress()
            numbers: dict[str, Any] = {name: getattr(done, name) for name in RefresherProgress.__slots__ if name not in {"scans", "unknown"}}
            events.emit(StoreScanned(at=self._work.clock.time(), namespace=self._namespace, **numbers))

    def _is_over(self) -> bool:
        return self._given_up or self._failure is not None or self._work.stop.is_set()

    async def _slices(self) -> AsyncGenerator[_Slice]:
        cursor: str | None = None
        while not self._is_over():
            records, cursor = await self._listing.page(self._namespace, cursor)
            now = self._work.clock.time()
            self._tally.add("listed", len(records))
            self._tally.add("expired", sum(each.expires_at <= now for each in records))
            slices: defaultdict[int, list[Expiring]] = defaultdict(list)
            for each in records:
                slices[slice_of(each.key)].append(each)
            numbers = list(slices)
            random.shuffle(numbers)  # so that workers who begin together meet little
            for number in numbers:
                yield number, slices[number]
            if cursor is None:
                return

    async def _through(self, slices: AsyncGenerator[_Slice]) -> None:
        """Work on the slices, as many at once as it takes to keep all slots busy: who has begun with one should be through with it soon."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            async with aclosing(slices):
                async for number, records in slices:
                    if self._is_over():
                        self._tally.add("skipped", len(records))
                        continue
                    self._in_hand += len(records)
                    tasks.add(asyncio.create_task(self._work_on(number, records)))
                    while self._in_hand >= self._work.concurrency:
                        _, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            raise
        finally:
            if tasks:
                await asyncio.wait(tasks)

    async def _work_on(self, number: int, records: Sequence[Expiring]) -> None:
        try:
            await self._slice(number, records)
        except Exception as error:  # noqa: BLE001  # raised when what is under way has ended
            self._failure = self._failure or error
        finally:
            self._in_hand -= len(records)
            self._work.told()

    async def _slice(self, number: int, records: Sequence[Expiring]) -> None:
        async with self._lines[number]:
            lease = self._held.get(number)  # ours already, if records of an earlier page are still being worked on
            if lease is None:
                taken = await take_lease(self._work.storage, slice_key(self._namespace, number), ttl=self._work.lease_time, clock=self._work.clock)
                if taken is None:
                    self._leave(number, records)
                    return
                lease = self._held[number] = HeldSlice(taken, self._work.lease_time)
            lease.users += 1
        try:
            found = await self._work.storage.get_many([each.key for each in records])
            await asyncio.gather(*(self._look_at(record, lease) for record in found))
        finally:
            async with self._lines[number]:
                lease.users -= 1
                if not lease.users:
                    del self._held[number]
                    await lease.release()

    def _leave(self, number: int, records: Sequence[Expiring]) -> None:
        if self._again or self._busy_records + len(records) > _MAX_BUSY:
            self._tally.add("elsewhere", len(records))
        else:
            self._busy.append((number, records))
            self._busy_records += len(records)

    async def _look_at(self, record: Record | TokenStorageError | None, lease: HeldSlice) -> None:
        try:
            self._tally.add(await self._outcome(record, lease))
        except TokenStorageError as error:
            self._failure = self._failure or error

    async def _outcome(self, record: Record | TokenStorageError | None, lease: HeldSlice) -> Outcome:
        if record is None:
            return "fresh"  # removed since the listing
        if isinstance(record, TokenStorageError):
            return self._unreadable(record)
        state = self._state(record)
        if state is not None:
            return state
        async with self._slots:
            if not self._is_over():
                await self._work.pace.turn()
            async with self._work.slots:
                if self._is_over():
                    return "skipped"
                if not await lease.goes_on():
                    return "elsewhere"
                return await self._try(record.key.user_id)

    def _state(self, record: Record) -> Outcome | None:
        """What is to be said of a record without a request; ``None`` if its token is due."""
        try:
            grant = read_grant(record.tokens)
        except RecordUnreadable as error:
            return self._unreadable(error)
        key, now = record.key, self._work.clock.time()
        place = spread(key.namespace, key.user_id, grant.token.version)
        if grant.ended is not None or not self._client.refresh_policy.is_due(grant.token, now, spread=place, within=self._work.interval):
            return "fresh"
        # one that would rest for longer than it was told to was told by another clock: the client itself knows better
        left = grant.attempts.retry_at - now
        return "resting" if 0 < left <= grant.attempts.pause else None

    def _unreadable(self, error: TokenStorageError) -> Outcome:
        _log.debug("a record whose token is due cannot be read (%s)", type(error).__name__)
        return "failed"

    async def _try(self, user_id: str) -> Outcome:
        if self._work.doubt.given_up:
            async with self._trial:
                if self._is_over():
                    return "skipped"
                if self._work.doubt.given_up:
                    return await self._refresh(user_id)
        return await self._refresh(user_id)

    async def _refresh(self, user_id: str) -> Outcome:
        try:
            refreshed = await self._client.keep_fresh(user_id, within=self._work.interval)
        except ReauthorizationRequired as error:
            if error.reason in _NOT_THERE:
                return "fresh"  # the user has logged out in this moment
            self._came_to_something()
            return "dead"
        except (ProviderUnavailable, StorageUnavailable) as error:
            self._came_to_nothing(error, last=False)
        except PAuthError as error:
            if isinstance(error, ConfigurationError) or error.error in _REFUSES_THE_CLIENT:
                self._came_to_nothing(error, last=isinstance(error, ConfigurationError))
            else:
                self._came_to_something()
        except Exception as error:  # noqa: BLE001  # one user's token must not end it for all others
            _log.error("a token could not be refreshed: %s, which is a bug in pauth or in what was given to it", type(error).__name__)
        else:
            if refreshed:
                self._came_to_something()
                return "refreshed"
            return "fresh"
        return "failed"

    def _came_to_something(self) -> None:
        self._in_vain, self._work.doubt.given_up = 0, False

    def _came_to_nothing(self, error: PAuthError, *, last: bool) -> None:
        self._in_vain += 1
        if not self._given_up and (last or self._work.doubt.given_up or self._in_vain >= _GIVE_UP_AFTER):
            self._given_up = self._work.doubt.given_up = True
            _log.warning("the tokens of %s are left alone until the next scan: %s", self._namespace, error.message)


async def _each(slices: Sequence[_Slice]) -> AsyncGenerator[_Slice]:
    for each in slices:
        yield each
