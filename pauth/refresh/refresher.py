"""Keeping the tokens of a whole store fresh, in the background: any number of workers, in any number of processes, and none of them the leader.

Each worker goes through the records that are due, the earliest first, a page at a time. A page is cut into slices by the hash of each record, and a
slice is worked on under a lease, so that workers that look at the same page at the same moment take different slices of it. Whatever is left to
chance costs a read, never a second refresh: each refresh has a lease and an intent of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self

from pauth.clock import Clock, SystemClock
from pauth.errors import ConfigurationError, PAuthError, ProviderUnavailable, ReauthorizationRequired, TokenStorageError
from pauth.events import EventStream, StoreScanned
from pauth.refresh.leases import has_leases, take_lease
from pauth.storage.base import CoordinatedTokenStorage, Expiring, RecordKey
from pauth.storage.identity import row_id

__all__ = ["KeepsFresh", "RefresherProgress", "TokenRefresher"]

_log = logging.getLogger("pauth.refresh")

_NAMESPACE: Final = "pauth:refresher"
_SLICES: Final = 64
_SLICE_LEASE: Final = 60.0
"""Seconds; a worker that dies leaves its slice alone for so long."""

_GIVE_UP_AFTER: Final = 20
"""So many users in a row whom a server did not answer: it is left alone until the next scan."""


class KeepsFresh(Protocol):
    """What a refresher asks of a client; :class:`~pauth.OAuth2Client` has it."""

    @property
    def namespace(self) -> str:
        """Of its records."""
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
    def refresh_ahead(self) -> float:
        """Seconds before its expiry at which a token may be due, at most."""
        ...

    async def keep_fresh(self, user_id: str, *, within: float = 0.0) -> bool:
        """Refresh the user's token if it becomes stale within so many seconds; gives whether it was refreshed."""
        ...


@dataclass(frozen=True, slots=True)
class RefresherProgress:
    """What a refresher has done so far."""

    scans: int = 0
    """How often it has gone through what was due, from one end to the other."""

    listed: int = 0
    """Records that were due when they were listed."""

    refreshed: int = 0
    """Tokens that it has refreshed."""

    fresh: int = 0
    """Records that somebody else had refreshed by the time it came to them, or that became due later."""

    elsewhere: int = 0
    """Records that another worker was at."""

    failed: int = 0
    """Refreshes that failed and will be tried again."""

    dead: int = 0
    """Users who have to log in again."""

    skipped: int = 0
    """Records of a server that did not answer, and of clients that this refresher does not know."""

    seconds: float = 0.0
    """How long the last scan took."""


class TokenRefresher:
    """Refreshes the tokens of all users of some clients before they expire.

    ::

        async with TokenRefresher([github, google]) as refresher:
            await refresher.run()          # until stop() is called, by a signal handler for example

    :param clients: whose tokens. Their storages must be pauth's own: a class with three methods cannot list what it has.
    :param interval: seconds between two scans; at most a tenth of the shortest lifetime, or tokens expire unseen.
    :param concurrency: how many refreshes are under way at once, at most.
    :param rate: refreshes a second, for each client, at most; ``None`` for as many as go.
    :param page_size: how many records are listed at once.
    :param on_progress: called after each page.
    :raises ConfigurationError: no clients, a storage that has no lists or leases, or a number that makes no sense.
    """

    def __init__(
        self,
        clients: Sequence[KeepsFresh],
        *,
        interval: float = 60.0,
        concurrency: int = 64,
        rate: float | None = None,
        page_size: int = 1000,
        on_progress: Callable[[RefresherProgress], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not clients:
            raise ConfigurationError("a TokenRefresher needs at least one client")
        if not interval > 0 or concurrency < 1 or not 1 <= page_size <= 10_000 or (rate is not None and not rate > 0):
            raise ConfigurationError("TokenRefresher needs interval > 0 (seconds), concurrency >= 1, 1 <= page_size <= 10000 and rate > 0 (a second)")
        self._clock = clock or SystemClock()
        self._interval = interval
        self._page_size = page_size
        self._on_progress = on_progress
        self._slots = asyncio.Semaphore(concurrency)
        self._stores = _by_store(clients, rate, self._clock)
        self._progress = RefresherProgress()
        self._stopping = asyncio.Event()

    @property
    def progress(self) -> RefresherProgress:
        """What it has done so far."""
        return self._progress

    async def run(self) -> None:
        """Scan again and again until :meth:`stop` is called. A store that fails is tried again at the next scan."""
        while not self._stopping.is_set():
            try:
                await self.run_once()
            except TokenStorageError as error:
                _log.warning("a scan for tokens to refresh ended early (%s); it begins anew in %.0f seconds", type(error).__name__, self._interval)
            pause = asyncio.ensure_future(self._clock.sleep(self._interval * random.uniform(0.9, 1.1)))  # noqa: S311  # lets workers drift apart
            stopping = asyncio.ensure_future(self._stopping.wait())
            try:
                await asyncio.wait((pause, stopping), return_when=asyncio.FIRST_COMPLETED)
            finally:
                pause.cancel()
                stopping.cancel()

    async def run_once(self) -> RefresherProgress:
        """Go once through what is due, from one end to the other; gives what was done in it.

        :raises TokenStorageError: a store failed.
        """
        before, began_at = self._progress, self._clock.monotonic()
        for store in self._stores:
            await self._scan(store)
        seconds = self._clock.monotonic() - began_at
        self._add(scans=1)
        self._progress = replace(self._progress, seconds=seconds)
        done = {name: getattr(self._progress, name) - getattr(before, name) for name in RefresherProgress.__slots__ if name != "seconds"}
        for store in self._stores:
            for stream in store.streams:
                if stream.wants(StoreScanned):
                    numbers = {name: number for name, number in done.items() if name != "scans"}
                    stream.emit(StoreScanned(at=self._clock.time(), namespace="", seconds=seconds, **numbers))
        return RefresherProgress(**done, seconds=seconds)

    def stop(self) -> None:
        """Let :meth:`run` return after what is under way; no refresh is cut off."""
        self._stopping.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.stop()

    async def _scan(self, store: _Store) -> None:
        store.unanswered.clear()
        before, cursor = self._clock.time() + store.ahead + self._interval, None
        while not self._stopping.is_set():
            page = await store.storage.list_expiring(before, cursor=cursor, limit=self._page_size)
            slices: dict[int, list[Expiring]] = defaultdict(list)
            for each in page.items:
                slices[_slice_of(each.key)].append(each)
            numbers = list(slices)
            random.shuffle(numbers)
            # a few at a time: who has begun with a slice should be through with it soon
            queue = iter(numbers)
            await asyncio.gather(*(self._work(store, slices, queue) for _ in range(8)))
            self._add(listed=len(page.items))
            if self._on_progress is not None:
                self._on_progress(self._progress)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _work(self, store: _Store, slices: Mapping[int, Sequence[Expiring]], queue: Iterable[int]) -> None:
        for number in queue:
            if self._stopping.is_set():
                return
            await self._slice(store, number, slices[number])

    async def _slice(self, store: _Store, number: int, records: Sequence[Expiring]) -> None:
        lease = await take_lease(store.storage, RecordKey(_NAMESPACE, str(number)), ttl=_SLICE_LEASE, clock=self._clock)
        if lease is None:
            self._add(elsewhere=len(records))
            return
        try:
            # what another worker has refreshed since the listing has a newer version now
            found = await store.storage.get_many([each.key for each in records])
            both = zip(records, found, strict=True)
            due = [each.key for each, now in both if now is not None and getattr(now, "version", each.version) == each.version]
            self._add(fresh=len(records) - len(due))
            await asyncio.gather(*(self._refresh(store, key) for key in due))
        finally:
            await lease.release()

    async def _refresh(self, store: _Store, key: RecordKey) -> None:
        client = store.clients.get(key.namespace)
        async with self._slots:
            if client is None or store.unanswered[key.namespace] >= _GIVE_UP_AFTER or self._stopping.is_set():
                self._add(skipped=1)
                return
            await client.pace.wait()
            outcome = await self._outcome(client.client, key)
        store.unanswered[key.namespace] = store.unanswered[key.namespace] + 1 if outcome == "unanswered" else 0
        self._add(**{"failed" if outcome == "unanswered" else outcome: 1})

    async def _outcome(self, client: KeepsFresh, key: RecordKey) -> str:
        try:
            return "refreshed" if await client.keep_fresh(key.user_id, within=self._interval) else "fresh"
        except ReauthorizationRequired:
            return "dead"
        except ProviderUnavailable:
            return "unanswered"
        except PAuthError as error:
            _log.warning("a token could not be refreshed ahead of time (%s)", type(error).__name__)
            return "failed"

    def _add(self, **numbers: int) -> None:
        self._progress = replace(self._progress, **{name: getattr(self._progress, name) + number for name, number in numbers.items()})


class _Pace:
    """So many a second, and no more."""

    def __init__(self, rate: float | None, clock: Clock) -> None:
        self._every = 0.0 if rate is None else 1.0 / rate
        self._clock = clock
        self._next = float("-inf")

    async def wait(self) -> None:
        now = self._clock.monotonic()
        turn, self._next = max(now, self._next), max(now, self._next) + self._every
        if turn > now:
            await self._clock.sleep(turn - now)


@dataclass(frozen=True, slots=True)
class _Client:
    client: KeepsFresh
    pace: _Pace


class _Store:
    """One store, and the clients whose records are in it."""

    def __init__(self, storage: CoordinatedTokenStorage) -> None:
        self.storage = storage
        self.clients: dict[str, _Client] = {}
        self.unanswered: defaultdict[str, int] = defaultdict(int)
        self.ahead = 0.0

    @property
    def streams(self) -> list[EventStream]:
        """The event streams of the clients, each once."""
        return list({id(each.client.events): each.client.events for each in self.clients.values()}.values())


def _by_store(clients: Sequence[KeepsFresh], rate: float | None, clock: Clock) -> list[_Store]:
    stores: dict[object, _Store] = {}
    for client in clients:
        storage = client.token_storage
        if not has_leases(storage):
            raise ConfigurationError("a TokenRefresher needs one of pauth's own storages: a class with three methods cannot list what it has")
        store = stores.setdefault(getattr(storage, "store_id", None) or id(storage), _Store(storage))
        store.clients[client.namespace] = _Client(client, _Pace(rate, clock))
        store.ahead = max(store.ahead, client.refresh_ahead)
    return list(stores.values())


def _slice_of(key: RecordKey) -> int:
    return row_id(key.namespace, key.user_id)[0] % _SLICES
