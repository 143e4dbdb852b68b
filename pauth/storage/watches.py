"""Those who want to be told of changes to a storage, and telling them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

from pauth.locks import ForkSafeLock

__all__ = ["Changed", "LocalWatches", "tell"]

Changed: TypeAlias = Callable[[bytes | None], None]
"""See :meth:`.WatchableTokenStorage.watch`."""

_log: Final = logging.getLogger("pauth.storage")


def tell(changed: Changed, row_id: bytes | None) -> None:
    """Tell one of one change. What he raises is logged, without its text: it must not keep others from being told."""
    try:
        changed(row_id)
    except Exception as error:  # noqa: BLE001  # a user's function may raise anything
        _log.error("who watches a token storage for changes raised %s", type(error).__name__)


class LocalWatches:
    """The watches of a storage that makes all of its changes itself. Thread-safe."""

    __slots__ = ("_lock", "all")

    def __init__(self) -> None:
        self.all: tuple[_LocalWatch, ...] = ()
        """Replaced, never changed: who tells goes through one while others come and go."""
        self._lock = ForkSafeLock()

    def add(self, changed: Changed) -> _LocalWatch:
        """Tell ``changed`` on the event loop that runs here."""
        watch = _LocalWatch(self, changed, asyncio.get_running_loop())
        with self._lock:
            self.all = (*self.all, watch)
        tell(changed, None)
        return watch

    def remove(self, watch: _LocalWatch) -> None:
        """The reverse of :meth:`add`."""
        with self._lock:
            self.all = tuple(each for each in self.all if each is not watch)

    def tell(self, row_id: bytes) -> None:
        """A record was written or deleted."""
        here: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):  # no event loop runs here
            here = asyncio.get_running_loop()
        for watch in self.all:
            if watch.loop is here:
                watch.tell(row_id)
            else:
                try:
                    watch.loop.call_soon_threadsafe(watch.tell, row_id)
                except RuntimeError:  # it was closed
                    self.remove(watch)


class _LocalWatch:
    """Implements :class:`.Watch`."""

    __slots__ = ("_changed", "_watches", "loop")

    def __init__(self, watches: LocalWatches, changed: Changed, loop: asyncio.AbstractEventLoop) -> None:
        self._watches = watches
        self._changed: Changed | None = changed
        self.loop: asyncio.AbstractEventLoop = loop

    @property
    def watching(self) -> bool:
        """See :attr:`.Watch.watching`."""
        return self._changed is not None and not self.loop.is_closed()

    async def stop(self) -> None:
        """See :meth:`.Watch.stop`."""
        self._changed = None
        self._watches.remove(self)

    def tell(self, row_id: bytes) -> None:
        if self._changed is not None:
            tell(self._changed, row_id)
