"""Keeping the tokens of whole stores fresh, in the background: any number of workers, in any number of processes, and none of them the leader."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeAlias

from pauth.clock import Clock, SystemClock
from pauth.errors import ConfigurationError, TokenStorageError
from pauth.refresh.leases import has_leases
from pauth.refresh.pacing import Pace, Stop
from pauth.refresh.progress import RefresherProgress, Tally
from pauth.refresh.scan import Doubt, KeepsFresh, Listing, Scan, Work
from pauth.storage.base import CoordinatedTokenStorage

__all__ = ["KeepsFresh", "RefresherProgress", "TokenRefresher"]

_log = logging.getLogger("pauth.refresh")

_Way: TypeAlias = Callable[[Work, Listing, Tally], Coroutine[Any, Any, None]]


class TokenRefresher:
    """Refreshes the tokens of all users of some clients before they expire.

    ::

        async with TokenRefresher([github, google]) as refresher:
            await refresher.run()          # until stop() is called, by a signal handler for example

    Any number of them, in any number of processes and machines, share the work on one store; one that dies leaves nothing undone. Each client goes
    its own way: a server that is slow or down does not keep the users of another one waiting. Tokens whose expiry the server does not tell are in no
    list of what expires: they are refreshed when they are asked for.

    A process that does nothing else has no use for a cache: give its clients ``RefreshPolicy(cache_entries=0)``. Close them after it has ended.

    :param clients: whose tokens. Their storages must be pauth's own: a class with three methods cannot list what it has.
    :param interval: seconds from the beginning of one scan to that of the next; at most a tenth of the shortest lifetime, or tokens expire unseen.
    :param concurrency: how many refreshes are under way at once, at most; of several clients none has more than half of them.
    :param rate: refreshes a second that this worker begins at one provider (:attr:`OAuth2Client.endpoint`), at most, for all clients of it. A
        mapping gives each client a rate of its own instead, by :attr:`OAuth2Client.namespace`, to those that are in it. ``None`` for as many as go.
    :param page_size: how many records are listed at once.
    :param lease_time: seconds after which the others take over what a worker that died was at.
    :param on_progress: called now and then, with what has been done so far. It must not block.
    :raises ConfigurationError: no clients, two for the same records, a storage that has no lists or leases, or a number that makes no sense.
    """

    def __init__(
        self,
        clients: Sequence[KeepsFresh],
        *,
        interval: float = 60.0,
        concurrency: int = 64,
        rate: float | Mapping[str, float] | None = None,
        page_size: int = 1000,
        lease_time: float = 60.0,
        on_progress: Callable[[RefresherProgress], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not clients:
            raise ConfigurationError("a TokenRefresher needs at least one client")
        if not interval > 0 or concurrency < 1 or not 1 <= page_size <= 10_000 or not 1 <= lease_time <= 3600:
            raise ConfigurationError(
                "a TokenRefresher needs interval > 0 (seconds), concurrency >= 1, 1 <= page_size <= 10000 and 1 <= lease_time <= 3600 (seconds)"
            )
        self._clock = clock or SystemClock()
        self._interval = interval
        self._page_size = page_size
        self._on_progress = on_progress
        self._tally = Tally()
        self._stop = Stop(self._clock)
        slots = asyncio.Semaphore(concurrency)
        self._works = [
            Work(
                client=client,
                storage=client.token_storage,
                interval=interval,
                lease_time=lease_time,
                concurrency=concurrency if len(clients) == 1 else max(1, concurrency // 2),
                slots=slots,
                doubt=Doubt(),
                pace=pace,
                stop=self._stop,
                clock=self._clock,
                told=self._tell,
            )
            for client, pace in zip(clients, self._paces(clients, rate), strict=True)
        ]
        self._stores = _by_store(self._works)
        self._at_it: set[Work] = set()
        self._failure: ConfigurationError | None = None
        self._ended: asyncio.Event | None = None

    @property
    def progress(self) -> RefresherProgress:
        """What it has done so far."""
        return self._tally.progress()

    async def run(self) -> None:
        """Scan again and again until :meth:`stop` is called. If a store fails, however it does, that is logged, and it is tried at the next scan.

        :raises ConfigurationError: it runs already, or a storage was closed under it.
        """
        if self._ended is not None:
            raise ConfigurationError("this TokenRefresher runs already; make another one to have more workers")
        ended = self._ended = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()
        try:
            while not self._stop.is_set():
                # who is still at the last scan, because of a rate or a server that is slow, is left at it
                tasks = {task for task in tasks if not task.done()} | self._begin(self._scan_on, Tally(self._tally))
                await self._stop.sleep(self._interval * random.uniform(0.9, 1.1))  # noqa: S311  # lets workers drift apart
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()  # only if this was cancelled is there something to cancel
            await asyncio.gather(*tasks, return_exceptions=True)
            self._ended = None
            ended.set()
        if self._failure is not None:
            raise self._failure

    async def run_once(self) -> RefresherProgress:
        """Go once through what is due; gives what was done in it. A client that :meth:`run` is at in this moment is left out.

        :raises TokenStorageError: a store failed. What could be done without it is done.
        """
        tally, began_at = Tally(self._tally), self._clock.monotonic()
        outcomes = await asyncio.gather(*self._begin(self._scan, tally), return_exceptions=True)
        tally.took(self._clock.monotonic() - began_at)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        return tally.progress()

    def stop(self) -> None:
        """Let :meth:`run` return after what is under way; no refresh is cut off. It cannot be started again."""
        self._stop.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop, and wait for :meth:`run` to return, in whichever task it is."""
        self.stop()
        if self._ended is not None:
            await self._ended.wait()

    def _begin(self, way: _Way, tally: Tally) -> set[asyncio.Task[None]]:
        """Let all clients that are not at it go through what is due, each as a task of its own."""
        tasks: set[asyncio.Task[None]] = set()
        for storage, works in self._stores:
            idle = [work for work in works if work not in self._at_it]
            if idle:
                ahead = max(work.client.refresh_policy.soft_margin for work in works) + self._interval
                clients = {work.client.namespace for work in works}
                listing = Listing(storage, clients, before=self._clock.time() + ahead, page_size=self._page_size, tally=tally)
                for work in idle:
                    self._at_it.add(work)
                    task = asyncio.create_task(way(work, listing, Tally(tally)))
                    task.add_done_callback(partial(self._has_ended, work))
                    tasks.add(task)
        return tasks

    def _has_ended(self, work: Work, _: asyncio.Task[None]) -> None:
        self._at_it.discard(work)

    async def _scan(self, work: Work, listing: Listing, tally: Tally) -> None:
        await Scan(work, listing, tally).run()

    async def _scan_on(self, work: Work, listing: Listing, tally: Tally) -> None:
        try:
            await self._scan(work, listing, tally)
        except ConfigurationError as error:  # raised by run(), when the others have come to an end
            self._failure = self._failure or error
            self.stop()
        except Exception as error:  # noqa: BLE001  # a defect in what one client was given must not end it for the users of all others (P9)
            _log.log(
                logging.WARNING if isinstance(error, TokenStorageError) else logging.ERROR,
                "the scan for tokens of %s to refresh ended early (%s); it begins anew in about %.0f seconds",
                work.client.namespace,
                type(error).__name__,
                self._interval,
            )

    def _paces(self, clients: Sequence[KeepsFresh], rate: float | Mapping[str, float] | None) -> list[Pace]:
        """The pace of each client: the one of all that ask the same server, unless the client has a rate of its own."""
        if isinstance(rate, Mapping):
            strangers = set(rate) - {client.namespace for client in clients}
            if strangers:
                raise ConfigurationError("rate names a client that this TokenRefresher does not have; its keys are namespaces of its clients")
            return [self._pace(rate.get(client.namespace)) for client in clients]
        paces = {client.endpoint: self._pace(rate) for client in clients}
        return [paces[client.endpoint] for client in clients]

    def _pace(self, rate: float | None) -> Pace:
        if rate is not None and not rate > 0:
            raise ConfigurationError("a TokenRefresher needs rate > 0 (refreshes a second)")
        return Pace(rate, self._stop, self._clock)

    def _tell(self) -> None:
        if self._on_progress is None:
            return
        try:
            self._on_progress(self.progress)
        except Exception as error:  # noqa: BLE001  # the tokens come first
            failure = type(error).__name__
        else:
            return
        _log.error("the on_progress of a TokenRefresher failed (%s)", failure)


def _by_store(works: Sequence[Work]) -> list[tuple[CoordinatedTokenStorage, list[Work]]]:
    stores: dict[object, tuple[CoordinatedTokenStorage, list[Work]]] = {}
    for work in works:
        if not has_leases(work.storage):
            raise ConfigurationError("a TokenRefresher needs one of pauth's own storages: a class with three methods cannot list what it has")
        _, others = stores.setdefault(getattr(work.storage, "store_id", None) or id(work.storage), (work.storage, []))
        if any(other.client.namespace == work.client.namespace for other in others):
            raise ConfigurationError("two clients of a TokenRefresher have the same records: the same store and namespace; leave one out")
        others.append(work)
    return list(stores.values())
