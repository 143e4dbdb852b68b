"""Hearing of the records that anybody changes, from the server itself: ``CLIENT TRACKING`` in its broadcasting mode, of Redis 6 and Valkey.

To each server that takes writes there is one connection more, in each event loop that watches. It speaks RESP2, in which a server sends the
names of changed keys as messages of a channel, to a connection that redirects them to itself; so it is the same with every server and library. No
value is ever read. What cannot be heard for sure is told as "anything may have changed".
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from redis import exceptions

from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable
from pauth.storage.redis.errors import error_for
from pauth.storage.redis.links import Address, Connection, Links, Maker, drop, packed, read_answer
from pauth.storage.redis.rows import Keys
from pauth.storage.watches import Changed, tell

__all__ = ["RIGHTS", "Watchers"]

RIGHTS: Final = "+client|id +client|tracking +subscribe +ping &__redis__:invalidate"
"""What a user of an ACL must be allowed to do besides, to hear of changes. Without ``+ping`` it works too."""

_CHANNEL: Final = "__redis__:invalidate"
_PING: Final = packed([("PING",)])

_SILENCE: Final = 10.0
"""Seconds without a word after which a server is thought lost, or the storage's timeout where that is shorter. It is asked thrice as often."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
"""Seconds between attempts to reach a server, but for a random part of up to a half."""

_log: Final = logging.getLogger("pauth.storage")
_of_the_parent: Final[list[Any]] = []


class Watchers:
    """Those who watch for changes, of every event loop."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._by_loop: dict[asyncio.AbstractEventLoop, _Watcher] = {}
        self._process = os.getpid()
        self._closed = False
        self._refused = False

    async def watch(self, links: Links, changed: Changed) -> RedisWatch:
        """See :meth:`.WatchableTokenStorage.watch`."""
        if self._process != os.getpid():
            _of_the_parent.append(self._by_loop)  # its connections: neither used nor closed here (P15)
            self._by_loop, self._process = {}, os.getpid()
        for loop in tuple(self._by_loop):
            if loop.is_closed():
                self._by_loop.pop(loop, None)
        here = asyncio.get_running_loop()
        watcher = self._by_loop.get(here)
        if watcher is None or watcher.over:
            watcher = self._by_loop[here] = _Watcher(self, links, self._keys)
        if self._closed:
            watcher.end()
        return await watcher.join(changed)

    async def close(self) -> None:
        """End all of them, and let go of their connections."""
        self._closed = True
        here = asyncio.get_running_loop()
        for loop, watcher in tuple(self._by_loop.items()) if self._process == os.getpid() else ():
            if loop is here:
                await watcher.close()
            else:
                with suppress(RuntimeError):  # it is closed
                    loop.call_soon_threadsafe(watcher.end)

    def refused(self, reason: str) -> None:
        """Say once for all why nothing is told."""
        if not self._refused:
            _log.warning("changes in Redis cannot be watched: %s", reason)
        self._refused = True


class RedisWatch:
    """Implements :class:`.Watch`."""

    __slots__ = ("_changed", "_watcher")

    def __init__(self, watcher: _Watcher, changed: Changed) -> None:
        self._watcher: _Watcher | None = watcher
        self._changed = changed

    @property
    def watching(self) -> bool:
        """See :attr:`.Watch.watching`."""
        watcher = self._watcher
        return watcher is not None and watcher.is_sure()

    async def stop(self) -> None:
        """See :meth:`.Watch.stop`."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            await watcher.leave(self)

    def tell(self, row_id: bytes | None) -> None:
        """A record was changed, or any may have been."""
        if self._watcher is not None:
            tell(self._changed, row_id)


class _Refused(Exception):
    """The server does not tell of changes, and will not if asked again."""


class _Watcher:
    """What one event loop hears, and whom it tells."""

    def __init__(self, watchers: Watchers, links: Links, keys: Keys) -> None:
        self._watchers = watchers
        self._links = links
        self._keys = keys
        self._silence = min(_SILENCE, links.timeout)
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._watches: list[RedisWatch] = []
        self._lines: dict[Address | None, asyncio.Task[None]] = {}
        self._tried: set[Address | None] = set()
        self._heard: dict[Address | None, float] = {}
        """When each server was last heard from, of those that tell of changes."""
        self._sure_until = float("-inf")
        self._settled = asyncio.Event()
        self._look_again = asyncio.Event()
        self._ended = False
        self._task = self._loop.create_task(self._run())

    @property
    def over(self) -> bool:
        """Whether it never will tell anything again."""
        return self._ended or self._task.done()

    def is_sure(self) -> bool:
        """Whether it hears of every change at this moment."""
        return time.monotonic() < self._sure_until and os.getpid() == self._process and not self._loop.is_closed()

    async def join(self, changed: Changed) -> RedisWatch:
        """One more to tell."""
        watch = RedisWatch(self, changed)
        self._watches.append(watch)
        if self._heard:  # else those who are heard next tell it to all
            watch.tell(None)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._links.timeout):
                    await self._settled.wait()
        except asyncio.CancelledError:
            self._remove(watch)  # nobody else can any more
            raise
        return watch

    async def leave(self, watch: RedisWatch) -> None:
        """One less. The last one ends it."""
        if self._process != os.getpid():
            return
        if self._loop is not asyncio.get_running_loop():
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._remove, watch)
            return
        self._remove(watch)
        if self._ended:
            await asyncio.wait((self._task,))

    async def close(self) -> None:
        """End, and be done with the connections when this returns."""
        self.end()
        await asyncio.wait((self._task,))
        await asyncio.sleep(0)  # for connections dropped a moment ago, if the event loop is about to end

    def end(self) -> None:
        """End soon."""
        self._ended = True
        self._settled.set()
        self._task.cancel()

    def _remove(self, watch: RedisWatch) -> None:
        self._watches.remove(watch)
        if not self._watches:
            self.end()

    def _tell(self, row_id: bytes | None) -> None:
        for watch in tuple(self._watches):
            watch.tell(row_id)

    # --- connections: one to each server that takes writes

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as lines:
                while True:
                    self._look_again.clear()
                    await self._look(lines)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._links.moves_within):
                            await self._look_again.wait()
        except* _Refused as refused:
            self._watchers.refused(str(refused.exceptions[0]))
        finally:
            self._ended = True
            self._settled.set()

    async def _look(self, lines: asyncio.TaskGroup) -> None:
        """Listen to the servers that take writes now, and to no others."""
        try:
            servers: Mapping[Address | None, Maker] = await self._links.servers()
        except PAuthError as error:
            _log.info("the servers of Redis to watch for changes cannot be told (%s); trying again", type(error).__name__)
            self._settled.set()
            return
        for place in self._lines.keys() - servers.keys():
            self._lines.pop(place).cancel()
        for place, make in servers.items():
            if place not in self._lines:
                self._lines[place] = lines.create_task(self._follow(place, make))
        self._update()

    async def _follow(self, place: Address | None, make: Maker) -> None:
        """Hear what a server tells, again and again."""
        pause = 0.0
        while True:
            connection = _made(make)
            reason = ""
            began = self._loop.time()
            try:
                await self._hear(place, connection)
            except _Refused:
                raise
            except Exception as error:  # noqa: BLE001  # a credential provider may raise anything, and nothing foreign may get out
                reason = type(error).__name__
                self._tried.add(place)
            finally:
                told = self._heard.pop(place, None) is not None
                self._update()
                await drop(connection)
                if told:
                    self._tell(None)
            if told or not pause:
                _log.info("a server of Redis cannot be watched for changes (%s); trying again", reason)
            self._look_again.set()  # another may have taken over
            lasted = told and self._loop.time() - began > self._silence
            pause = _FIRST_PAUSE if lasted else min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            await asyncio.sleep(pause * (1 - random.random() / 2))  # noqa: S311  # so that not all come back at once

    async def _hear(self, place: Address | None, connection: Connection) -> None:
        """Connect and tell what is heard, until the connection is lost or the server silent."""
        async with asyncio.timeout(self._links.timeout):
            await connection.connect()
            number = await self._ask(connection, "CLIENT", "ID")
            prefixes = [part for start in self._keys.records for part in ("PREFIX", start)]
            await self._ask(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", number, "BCAST", *prefixes)
            await self._ask(connection, "SUBSCRIBE", _CHANNEL)
        self._tried.add(place)
        self._note(place)
        self._tell(None)
        pinging = self._loop.create_task(self._ping(connection))
        try:
            async with asyncio.timeout(self._silence) as silence:
                while True:
                    message = await read_answer(connection)
                    silence.reschedule(self._loop.time() + self._silence)
                    self._note(place)
                    self._understand(message)
        finally:
            pinging.cancel()
            await asyncio.wait((pinging,))

    async def _ask(self, connection: Connection, *command: Any) -> Any:
        await connection.send_packed_command(packed([command]), check_health=False)
        answer = await read_answer(connection)
        if not isinstance(answer, exceptions.ResponseError):
            return answer
        error = error_for(answer, timeout=self._links.timeout)
        if isinstance(error, StorageUnavailable):
            raise error
        forbidden = isinstance(error, ConfigurationError)
        raise _Refused(f"the Redis user may not do it; allow it {RIGHTS}" if forbidden else "the server has no CLIENT TRACKING as of Redis 6")

    async def _ping(self, connection: Connection) -> None:
        with suppress(exceptions.RedisError, OSError):  # which whoever reads meets too
            while True:
                await asyncio.sleep(self._silence / 3)
                await connection.send_packed_command(_PING, check_health=False)

    def _understand(self, message: Any) -> None:
        if not isinstance(message, list) or len(message) != 3 or message[0] != b"message":  # pyright: ignore[reportUnknownArgumentType]
            return  # an answer to a ping; that it is forbidden is as good
        if message[2] is None:  # everything was deleted
            self._tell(None)
            return
        for name in message[2]:  # pyright: ignore[reportUnknownVariableType]
            row_id = self._keys.row_of(name)  # pyright: ignore[reportUnknownArgumentType]
            if row_id is not None:
                self._tell(row_id)

    # --- what is known for sure

    def _note(self, place: Address | None) -> None:
        self._heard[place] = time.monotonic()
        self._update()

    def _update(self) -> None:
        if self._lines.keys() <= self._tried:
            self._settled.set()
        everyone = self._lines and self._lines.keys() <= self._heard.keys()
        self._sure_until = min(self._heard.values()) + self._silence if everyone else float("-inf")


def _made(make: Maker) -> Connection:
    with suppress(TypeError, ValueError, exceptions.RedisError):
        return make()
    raise _Refused("connections of this class cannot be told to use RESP2")
