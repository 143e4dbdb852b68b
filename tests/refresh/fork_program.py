"""Forks while other threads hold the locks of the refresh room, and while a flight is under way. Prints what the child and the parent came to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

from pauth.core.token import Token
from pauth.errors import ProviderUnavailable
from pauth.refresh.cache import Cached, TokenCache
from pauth.refresh.failures import Breaker
from pauth.refresh.flight import Flight, Flights, drain
from pauth.refresh.shared import shared_over
from pauth.secret import Secret
from pauth.storage import MemoryTokenStorage

cache = TokenCache(10, lambda: 0.0)
breaker = Breaker(lambda: 0.0)
flights = Flights()
begun: set[Flight] = set()
storage = MemoryTokenStorage()


def hold_for_ever(lock: object, held: threading.Event) -> None:
    with lock:  # type: ignore[attr-defined]
        held.set()
        threading.Event().wait()


async def work() -> str:
    return "done"


async def child() -> None:
    cache.put("alice", Cached(Token(Secret("CANARY-at")), 1.0, 1))
    assert cache.get("alice") is not None
    assert breaker.failed(retry_after=None) is None
    assert shared_over(storage) is not None
    await drain(begun)  # those of the parent are none of its business
    assert await flights.run("key", work, begun=set()) == "done"


async def parent() -> None:
    go = asyncio.Event()

    async def wait() -> str:
        await go.wait()
        return "the parent's"

    running = asyncio.ensure_future(flights.run("key", wait, begun=begun))
    await asyncio.sleep(0)
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
    go.set()
    print("status", status, "parent", await running, flush=True)


for locked in (cache._lock, breaker._lock):  # pyright: ignore[reportPrivateUsage]
    taken = threading.Event()
    threading.Thread(target=hold_for_ever, args=(locked, taken), daemon=True).start()
    taken.wait()
try:
    asyncio.run(parent())
except ProviderUnavailable:
    print("the parent's flight is lost")
