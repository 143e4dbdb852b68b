"""A program that ends, in one way or another, and closes nothing: ``ending.py WAY KIND``."""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import sys
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Protocol

if "in an atexit handler that is older" in sys.argv[1]:  # than pauth's, which is registered when pauth is imported

    def too_late() -> None:
        with suppress(ConfigurationError):
            client.refresh("alice")
            say("answered")
        client.close()
        say("closed")

    atexit.register(too_late)

from pauth import MemoryTokenStorage, SyncOAuth2Client, SyncTokenStorage
from pauth.errors import ConfigurationError, DeadlineExceeded
from pauth.sync import SyncContext, SyncIterator, _portal
from tests.sync.programs.common import hear, log_in, make_client, say

way, kind = sys.argv[1:]


class Told(Protocol):
    """An event of threads or of processes."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...


def refresh_for_a_moment(caller: SyncOAuth2Client, arrived: Told) -> None:
    """Begin a refresh whose answer nobody waits for: on a busy machine the first call may have begun nothing when its time is up."""
    caller._deadline = 0.2  # pyright: ignore[reportPrivateUsage]
    while not arrived.is_set():
        with suppress(DeadlineExceeded):
            caller.refresh("alice")


def leave_a_refresh(arrived: Told) -> None:
    refresh_for_a_moment(make_client(kind), arrived)
    say("ending")


def tell(arrived: Told) -> None:
    hear()
    arrived.set()


class Hanging(MemoryTokenStorage):
    """Whose server answers never again."""

    async def aclose(self) -> None:
        await asyncio.Event().wait()


@asynccontextmanager
async def held() -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        say("left")
        raise LookupError("on the way out")


async def endless() -> AsyncGenerator[int, None]:
    try:
        yield 1
        await asyncio.Event().wait()
    finally:
        say("left")


if way == "unused":
    client = make_client(kind)
    del client  # with no loop that it could be closed in
    client = make_client(kind)
    say(threading.active_count())
elif way == "for the first time in an atexit handler that is older":
    client = make_client(kind)
elif way == "hanging":
    _portal._LOOK_EVERY = 60.0  # type: ignore[misc]  # pyright: ignore[reportPrivateUsage, reportConstantRedefinition]  # as long as it takes
    _portal._EXIT_PATIENCE = 0.1  # type: ignore[misc]  # pyright: ignore[reportPrivateUsage, reportConstantRedefinition]
    face = SyncTokenStorage("memory://")
    face._inner = Hanging()  # pyright: ignore[reportPrivateUsage]
    face.save_token("alice", {"n": 1})
    say("ended")
elif way == "left open":
    context, listing = SyncContext(held(), 60.0), SyncIterator(endless(), 60.0)
    context.__enter__()
    next(listing)
    say("ended")
elif way == "in atexit":
    client = make_client(kind)
    log_in(client)

    def late() -> None:
        say(client.refresh("alice").subject)
        client.close()

    atexit.register(late)
else:
    client = make_client(kind)
    log_in(client)
    match way:
        case "end" | "in an atexit handler that is older":
            say("ended")
        case "raise":
            raise LookupError("as programs do")
        case "exit":
            sys.exit(7)
        case "refreshing":
            # executors take no work any more when this is called; pauth's own handler is older, and comes after
            atexit.register(say, "ending")
            told = threading.Event()
            threading.Thread(target=tell, args=(told,)).start()
            refresh_for_a_moment(client, told)
        case "threads":

            def work() -> None:
                threading.main_thread().join()
                for _ in range(3):
                    client.refresh("alice")
                say("worked")

            threading.Thread(target=work).start()
        case "pool":
            pool = ThreadPoolExecutor(1)
            for _ in range(3):
                pool.submit(lambda: say(client.refresh("alice").subject))
        case "daemon":
            threading.Thread(target=client.refresh, args=("alice",), daemon=True).start()
            hear()
        case "worker process":
            forking = multiprocessing.get_context("fork")
            told_there = forking.Event()
            forking.Process(target=leave_a_refresh, args=(told_there,)).start()
            tell(told_there)
        case _:
            raise ValueError(way)
