"""Forks while other threads hold the locks of refreshes and events, and while a flight is under way. Prints what child and parent came to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

from pauth.core.token import Token
from pauth.errors import ProviderUnavailable
from pauth.events import EventStream
from pauth.integrations.opentelemetry import instrument
from pauth.refresh.cache import Cached, TokenCache
from pauth.refresh.failures import Breaker
from pauth.refresh.flight import Flight, Flights, drain
from pauth.refresh.shared import shared_over
from pauth.secret import Secret
from pauth.storage import MemoryTokenStorage
from pauth.transport import Transport
from tests.events.kit import refreshed

cache = TokenCache(10, lambda: 0.0)
breaker = Breaker(lambda: 0.0)
flights = Flights()
begun: set[Flight] = set()
storage = MemoryTokenStorage()
transport = Transport()
stream = EventStream(log=False)
instrument(stream)
recorder = stream._subscriptions[0].handler  # pyright: ignore[reportPrivateUsage]
listener = stream.listen()


def hold(lock: object, held: threading.Event, until: threading.Event) -> None:
    with lock:  # type: ignore[attr-defined]
        held.set()
        until.wait()


@contextmanager
def held_by_others() -> Generator[None, None, None]:
    forked = threading.Event()
    threads: list[threading.Thread] = []
    for holder in (cache, breaker, stream, listener, recorder, transport, storage, storage._watches):  # pyright: ignore[reportPrivateUsage]
        held = threading.Event()
        threads.append(threading.Thread(target=hold, args=(holder._lock, held, forked)))  # type: ignore[union-attr]
        threads[-1].start()
        held.wait()
    yield
    forked.set()
    for thread in threads:
        thread.join()


async def work() -> str:
    return "done"


async def child() -> None:
    cache.put("alice", Cached(Token(Secret("CANARY-at")), 1.0, 1))
    assert cache.get("alice") is not None
    assert breaker.failed(retry_after=None) is None
    assert shared_over(storage) is not None
    await storage.save_token("alice", {"access_token": "CANARY-at"})
    watch = await storage.watch(lambda _: None)
    await watch.stop()
    await transport.aclose()
    stream.emit(refreshed("the child's", retry_of="an earlier one"))
    assert len(stream._subscriptions) == 1, "only the recorder: the listener's loop is not here"  # pyright: ignore[reportPrivateUsage]
    async with stream.listen() as events:
        own = refreshed("heard in the child")
        stream.emit(own)
        assert await anext(events) is own
    await drain(begun)  # those of the parent are none of its business
    assert await flights.run("key", work, begun=set()) == "done"


async def parent() -> None:
    go = asyncio.Event()

    async def wait() -> str:
        await go.wait()
        return "the parent's"

    running = asyncio.ensure_future(flights.run("key", wait, begun=begun))
    await asyncio.sleep(0)
    async with listener:
        with held_by_others():
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)  # a deadlock ends here
                try:
                    thread = threading.Thread(target=lambda: asyncio.run(child()))
                    thread.start()
                    thread.join()
                finally:
                    sys.stdout.write("child has ended\n")
                    sys.stdout.flush()
                    os._exit(0)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        own = refreshed("heard in the parent")
        stream.emit(own)
        heard = await anext(listener) is own
    go.set()
    print("status", status, "parent", await running, "heard", heard, flush=True)


try:
    asyncio.run(parent())
except ProviderUnavailable:
    print("the parent's flight is lost")
