"""Tokens that the store has not taken: offered to it again and again, by whoever is there, until it takes them (P4)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from pauth.clock import Clock
from pauth.refresh.records import Records, Stored
from pauth.refresh.reports import Report, Reporter
from pauth.refresh.saving import Saver, Unsaved
from pauth.refresh.shared import Shared
from pauth.storage.base import RecordKey

__all__ = ["Waiting"]

_log = logging.getLogger("pauth.refresh")

_FIRST_PAUSE: Final = 0.5
_LAST_PAUSE: Final = 5.0
"""Seconds between two offers of a token to a store that has not taken it."""


_Fly: TypeAlias = Callable[[Any, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Does a piece of work as a flight; see :meth:`.RefreshCoordinator.shielded`."""


class _Offering(NamedTuple):
    """Who offers one user's token, behind the scenes."""

    pid: int
    task: asyncio.Task[None]

    @property
    def goes_on(self) -> bool:
        """Not in a forked child, nor while its event loop is stopped."""
        return self.pid == os.getpid() and not self.task.done() and self.task.get_loop().is_running()


class Waiting:
    """The tokens that wait for one store, as one client sees them.

    :param namespace: of the client; its ``reporter`` tells of them, and of those of others that have no client in this process.
    """

    def __init__(self, *, shared: Shared, records: Records, saver: Saver, reporter: Reporter, namespace: str, shielded: _Fly, clock: Clock) -> None:
        self._shared = shared
        self._records = records
        self._saver = saver
        self._reporter = reporter
        self._namespace = namespace
        self._shielded = shielded
        self._clock = clock
        self._offerings: dict[RecordKey, _Offering] = {}

    def save_later(self, key: RecordKey, unsaved: Unsaved) -> None:
        """Go on offering a token, and what may wait under ``key`` after it, behind the scenes."""
        offering = self._offerings.get(key)
        if offering is None or not offering.goes_on:
            task = asyncio.get_running_loop().create_task(self._keep_offering(key, unsaved))
            self._offerings[key] = _Offering(os.getpid(), task)
            task.add_done_callback(partial(self._forget, key))

    def _forget(self, key: RecordKey, task: asyncio.Task[None]) -> None:
        offering = self._offerings.get(key)
        if offering is not None and offering.task is task:  # else another one has taken its place, and may have ended too
            del self._offerings[key]

    async def _keep_offering(self, key: RecordKey, unsaved: Unsaved) -> None:
        pause = _FIRST_PAUSE
        while True:
            if key in self._shared.unsaved:
                await self._clock.sleep(pause)
                pause = min(pause * 1.5, _LAST_PAUSE)
            waiting = self._shared.unsaved.get(key)
            if waiting is not None:
                unsaved = waiting
                # A flight, as who closes the client waits for those: the write, and the file of the journal that has to go. It is one of this
                # event loop, as another one may be stopped in the middle of its own.
                await self._shielded(("save", key, id(asyncio.get_running_loop())), partial(self.offer, key, unsaved))
                continue
            # A login may have come, after which nobody offers it any more.
            await self._saver.forget_file(unsaved)
            await self._shared.let_go(key)
            if key not in self._shared.unsaved:
                return

    def stop(self) -> None:
        """Offer nothing any more behind the scenes, in this event loop."""
        for offering in [each for each in self._offerings.values() if each.task.get_loop() is asyncio.get_running_loop()]:
            offering.task.cancel()

    async def offer(self, key: RecordKey, unsaved: Unsaved) -> bool:
        """Offer a token to the store once; gives whether it need not be kept any more."""
        grant = unsaved.grant
        try:
            record = await self._saver.write(key, unsaved, expires_at=self._records.expires_at(grant))
        except Exception as error:  # noqa: BLE001  # as Saver.insist(): whatever it is, the others are offered too
            _log.warning("a refreshed token could not be stored yet (%s)", type(error).__name__)
            return False
        self._shared.forget(key, unsaved)
        await self._shared.let_go(key)
        if record is not None:
            self._records.remember(Stored(record, grant), predecessor=unsaved.predecessor)
            reporter = self._reporter if key.namespace == self._namespace else self._shared.reporters.get(key.namespace, self._reporter)
            self._shared.tell_stored(unsaved, unsaved.report or Report(reporter, key, unsaved.attempt_id))
        return True

    async def offer_all(self, found: Sequence[tuple[RecordKey, Unsaved]]) -> None:
        """Offer what the journal had; each is offered again when it is asked for."""
        for key, unsaved in found:
            if self._shared.unsaved.get(key) is unsaved and not await self.offer(key, unsaved):
                return  # the store is not there

    async def offer_for_the_last_time(self) -> None:
        """Offer what still waits, and put into the journal what the store refuses.

        All at once: a store that does not answer is waited for once, not for each of a thousand tokens.
        """
        await asyncio.gather(*(self._offer_or_spill(key, unsaved) for key, unsaved in tuple(self._shared.unsaved.items())))

    async def _offer_or_spill(self, key: RecordKey, unsaved: Unsaved) -> None:
        if not await self.offer(key, unsaved) and not await self._saver.spill(key, unsaved):
            _log.error("a refreshed token could still not be stored; it is lost with this process")
