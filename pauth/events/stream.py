"""Who hears of events: handlers, called where the event happens; listeners, which read a bounded queue; and the log."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import secrets
from collections import deque
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NoReturn, Self, TypeAlias

from pauth.errors import ConfigurationError
from pauth.events.kinds import Event
from pauth.locks import ForkSafeLock
from pauth.secret import Secret

__all__ = ["EventListener", "EventStream", "Handler", "log_event"]

Handler: TypeAlias = Callable[[Event], None]
"""Is called with each event, in the thread and the event loop where it happens, so it must not block: what takes time belongs into a listener."""

_log: Final = logging.getLogger("pauth.events")

_MIN_KEY: Final = 16
"""The shortest fingerprint key, in bytes."""

_PLAIN: Final = re.compile(r"[\w.:/@+-]+", re.ASCII)


class _Subscription:
    """One call of ``subscribe``; its handler is ``None`` once it has ended."""

    __slots__ = ("handler",)

    def __init__(self, handler: Handler) -> None:
        self.handler: Handler | None = handler


class EventStream:
    """Carries events from where they happen to whoever wants to know. Safe to use from several threads and event loops.

    :param fingerprint_key: at least 16 bytes, the same in all processes whose fingerprints are to be compared; a random one by default, with which
        the fingerprints of one process can be compared with each other only. Who has the key can tell which user a fingerprint is of.
    :param log: log each event (:func:`log_event`).
    :raises ConfigurationError: the key is too short, or not bytes or a :class:`~pauth.secret.Secret`.
    """

    __slots__ = ("__weakref__", "_key", "_lock", "_subscriptions")

    def __init__(self, *, fingerprint_key: bytes | Secret | None = None, log: bool = True) -> None:
        self._subscriptions: tuple[_Subscription, ...] = ()  # first: the traceback of a refused key may show repr(self)
        key = _fingerprint_key(fingerprint_key)
        del fingerprint_key  # tracebacks may show locals
        if key is None:
            raise ConfigurationError(
                f"fingerprint_key must be at least {_MIN_KEY} random bytes, such as secrets.token_bytes(32), or a Secret of as many"
            )
        self._key = key
        self._lock = ForkSafeLock()
        if log:
            self._subscriptions = (_Subscription(log_event),)  # which is known to be a handler

    @property
    def active(self) -> bool:
        """Whether anybody is told of events; if not, there is no need to make them."""
        return bool(self._subscriptions)

    def wants(self, kind: type[Event]) -> bool:
        """Whether anybody is told of events of this class; the log is, if it is on for their level."""
        return any(each.handler is not log_event or _log.isEnabledFor(kind.level) for each in self._subscriptions)

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """Call ``handler`` with every event from now on.

        An exception of it is logged by the name of its class; it concerns neither the tokens nor the other handlers.

        :returns: a function that ends it; after that no call begins. A second call of it does nothing.
        :raises ConfigurationError: ``handler`` cannot be called, or is a coroutine function, which nobody would await: use :meth:`listen`.
        """
        if not callable(handler):
            raise ConfigurationError("an event handler must be a function of one argument, the event")
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
            raise ConfigurationError("an event handler must be a plain function; to await something for each event, read them from listen()")
        subscription = _Subscription(handler)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)

        def unsubscribe() -> None:
            subscription.handler = None
            with self._lock:
                self._subscriptions = tuple(each for each in self._subscriptions if each is not subscription)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Call every handler with ``event``, in the order of their subscription, here and now. Raises nothing that a handler raises.

        (``KeyboardInterrupt`` and ``SystemExit`` pass, as they do through asyncio.)
        """
        for subscription in self._subscriptions:
            handler = subscription.handler
            if handler is None:  # it was unsubscribed by a handler before it, or in another thread
                continue
            try:
                handler(event)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whatever it is, a rotated token is on its way to the store
                failure = type(error).__name__
            else:
                continue
            _log.error("an event handler failed (%s) at %s; the event is lost to it", failure, event.kind)

    def listen(self, *, max_queue: int = 1000) -> EventListener:
        """Events as an async iterator, for whatever takes time.

        ::

            async with client.events.listen() as events:
                async for event in events:
                    await audit.write(event.to_dict())

        :param max_queue: how many events wait for a slow reader; then the oldest are dropped (:attr:`EventListener.dropped`).
        :raises ConfigurationError: ``max_queue`` is not a positive whole number.
        """
        return EventListener(self, max_queue=max_queue)

    def fingerprint(self, text: str | Secret) -> str:
        """What stands for a token or a user id in events: 16 hexadecimal digits, of keyed BLAKE2b.

        The same for the same text under the same key; without the key the text can be neither read from it nor guessed by trying.
        """
        return blake2b(_bytes_of(text), digest_size=8, key=self._key).hexdigest()

    def __repr__(self) -> str:
        return f"<EventStream handlers={len(self._subscriptions)}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an EventStream cannot be pickled; make one in each process, with the same fingerprint_key if need be")


class EventListener:
    """A bounded queue of events, made by :meth:`EventStream.listen`. It is read on the event loop that entered it; events come from any thread."""

    __slots__ = ("_closed", "_events", "_lock", "_loop", "_max_queue", "_pid", "_ready", "_stop", "_stream", "dropped")

    def __init__(self, stream: EventStream, *, max_queue: int) -> None:
        if type(max_queue) is not int or max_queue < 1:
            raise ConfigurationError("max_queue must be a positive whole number of events")
        self.dropped: int = 0
        """How many events were dropped, the oldest first, since the reader was too slow."""

        self._stream = stream
        self._max_queue = max_queue
        self._events: deque[Event] = deque()
        self._lock = ForkSafeLock()
        self._ready = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid: int
        self._stop: Callable[[], None]
        self._closed = False

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise ConfigurationError("an event listener is entered once; call listen() again for another one")
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        self._stop = self._stream.subscribe(partial(self._take, self._loop))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._stop()
        self._closed = True
        self._ready.set()  # whoever still reads comes to the end of what has arrived

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._loop is not asyncio.get_running_loop():
            raise ConfigurationError("read events inside of `async with stream.listen() as events`, on the event loop that entered it")
        while True:
            self._ready.clear()  # before looking: what comes after the look sets it again
            with self._lock:
                if self._events:
                    return self._events.popleft()
            if self._closed:
                raise StopAsyncIteration
            await self._ready.wait()

    def _take(self, loop: asyncio.AbstractEventLoop, event: Event) -> None:
        if self._pid != os.getpid():  # a forked child: the loop that reads is its parent's, and to wake it would disturb it there
            self._stop()
            return
        with self._lock:
            wake = not self._events  # else the reader has been told, and looks again after each event
            first = len(self._events) == self._max_queue and self.dropped == 0
            if len(self._events) == self._max_queue:
                self._events.popleft()
                self.dropped += 1
            self._events.append(event)
        if first:
            _log.warning("a listener is too slow for its events; the oldest are dropped (its attribute `dropped` counts them)")
        if wake:
            try:
                loop.call_soon_threadsafe(self._ready.set)
            except RuntimeError:  # the loop was closed without leaving the listener
                self._stop()


def log_event(event: Event) -> None:
    """Log an event in one line on the logger ``pauth.events``, at its level: its kind, then ``name=value`` of what it says.

    The record has what :meth:`Event.to_dict` gives as its attribute ``pauth_event``, for logs that are not lines.
    """
    if _log.isEnabledFor(event.level):
        members = event.to_dict()
        text = " ".join(f"{name}={_shown(value)}" for name, value in members.items() if name not in {"kind", "at"} and value is not None)
        _log.log(event.level, "%s %s", event.kind, text, extra={"pauth_event": members})


def _shown(value: Any) -> str:
    # A server's error code may be any text: one line, and no name=value of its own.
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return ascii(" ".join(map(str, value)))  # pyright: ignore[reportUnknownArgumentType]
    text = str(value)
    return text if _PLAIN.fullmatch(text) else ascii(text)


def _bytes_of(text: str | Secret) -> bytes:
    return (text.reveal() if isinstance(text, Secret) else text).encode("utf-8", "surrogatepass")


def _fingerprint_key(given: object) -> bytes | None:
    """32 bytes; ``None`` if what was given is no key. Gives instead of raising, so that no traceback has the key among its locals."""
    if given is None:
        return secrets.token_bytes(32)
    if isinstance(given, Secret):
        given = _bytes_of(given)
    if not isinstance(given, bytes) or len(given) < _MIN_KEY:
        return None
    return blake2b(given, digest_size=32, person=b"pauth events").digest()
