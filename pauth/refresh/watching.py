"""Hearing from the store that a cached token was changed by somebody else, where the store can tell (:class:`.WatchableTokenStorage`).

It makes the cache notice sooner. Nothing rests on it: without it, or when a message is late, a cached token is checked with the store after
:attr:`.RefreshPolicy.cache_age` seconds at the latest.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, TypeAlias

from pauth.errors import PAuthError
from pauth.refresh.cache import TokenCache
from pauth.storage.base import RecordKey, Watch, WatchableTokenStorage
from pauth.storage.identity import row_id

__all__ = ["Watching"]

_log = logging.getLogger("pauth.refresh")

_MAX_NAMES = 200_000


_Begun: TypeAlias = asyncio.Task[Watch | None]


class Watching:
    """The watch of one coordinator over its store, in one event loop at a time. It ends with the coordinator, also if nobody closes that.

    :param caches: of each namespace; what a changed record makes out of date.
    """

    def __init__(self, storage: object, caches: Mapping[str, TokenCache]) -> None:
        self._storage = storage if isinstance(storage, WatchableTokenStorage) else None
        self._caches = caches
        self._names: dict[bytes, RecordKey] = {}
        self._begun: dict[asyncio.AbstractEventLoop, _Begun] = {}
        self._stopped = False
        # a client made for one request and dropped must leave nothing in a store that goes on (P19)
        weakref.finalize(self, _end_everywhere, self._begun).atexit = False

    def note(self, key: RecordKey) -> None:
        """A token of ``key`` is in the cache from now on; begin to watch, if that has not been done in this event loop."""
        if self._storage is None or self._stopped:
            return
        if len(self._names) >= _MAX_NAMES:
            self._names.clear()  # their tokens are checked when they are old
        self._names[row_id(key.namespace, key.user_id)] = key
        loop = asyncio.get_running_loop()
        if loop not in self._begun:
            for ended in [each for each in self._begun if each.is_closed()]:  # one for each asyncio.run() of a script
                del self._begun[ended]
            self._begun[loop] = loop.create_task(_begin(self._storage, weakref.WeakMethod(self._changed)))

    async def stop(self) -> None:
        """Begin no watch any more, and end the one in this event loop; in another one it ends with the loop, or with the storage."""
        self._stopped = True
        begun = self._begun.pop(asyncio.get_running_loop(), None)
        if begun is not None:
            await _end(begun)

    def _changed(self, row: bytes | None) -> None:
        if row is None:
            for cache in self._caches.values():
                cache.expire()
            return
        key = self._names.get(row)
        if key is not None:
            self._caches[key.namespace].expire(key.user_id)


async def _begin(storage: WatchableTokenStorage, changed: weakref.WeakMethod[Callable[[bytes | None], None]]) -> Watch | None:
    def tell(row: bytes | None) -> None:
        method = changed()
        if method is not None:
            method(row)

    try:
        return await storage.watch(tell)
    except PAuthError as error:
        _log.debug("the store does not tell of changes (%s)", type(error).__name__)
    return None


async def _end(begun: _Begun) -> None:
    await asyncio.wait((begun,))
    watch = None if begun.cancelled() else begun.result()
    if watch is not None:
        await watch.stop()


_ending: Final[set[asyncio.Task[None]]] = set()


def _end_everywhere(begun: Mapping[asyncio.AbstractEventLoop, _Begun]) -> None:
    """Called by the collector, in whichever thread."""
    for loop, task in tuple(begun.items()):
        with suppress(RuntimeError):  # it is closed, and the watch has ended with it
            loop.call_soon_threadsafe(_end_soon, task)


def _end_soon(begun: _Begun) -> None:
    ending = asyncio.get_running_loop().create_task(_end(begun))
    _ending.add(ending)
    ending.add_done_callback(_ending.discard)
