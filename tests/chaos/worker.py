"""What one of the many processes of a run does: it has a client on the shared store, and does what the harness says over a connection.

Configuration and commands are JSON objects. A command has ``do`` and an ``id``; the answer repeats the id. A process whose harness has gone ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from pauth import OAuth2Client, failpoints
from pauth.clock import SystemClock
from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Rotation, RotationClass
from pauth.errors import StorageUnavailable
from pauth.providers import Provider
from pauth.refresh.policy import RefreshPolicy
from pauth.storage import MemoryTokenStorage, Record, storage_from_url
from tests.chaos.nemesis import Nemesis, Order, parse_orders
from tests.chaos.recording import Recorder, usage, watch_storage, watch_transport

__all__ = ["ShiftedClock", "die_with_parent", "main", "make_client", "make_storage", "prefork"]

_PR_SET_PDEATHSIG: Final = 1
_TURNS: Final = 3
"""Turns of the event loop after which a write is under way, but not over."""


class ShiftedClock(SystemClock):
    """The machine's clock, on which more time has passed, and whose wall clock may be wrong besides.

    :param passed: seconds that both clocks are ahead.
    :param wrong: seconds that the wall clock is ahead of that.
    """

    def __init__(self, passed: float = 0.0, wrong: float = 0.0) -> None:
        self.passed = passed
        self.wrong = wrong

    def time(self) -> float:
        return super().time() + self.passed + self.wrong

    def monotonic(self) -> float:
        return super().monotonic() + self.passed


class Made(NamedTuple):
    """What a program makes before it serves, or before it forks those who do."""

    clock: ShiftedClock
    storage: Any
    client: OAuth2Client


def make(config: dict[str, Any]) -> Made:
    """A client and what belongs to it."""
    clock, storage = ShiftedClock(config["passed"], config["wrong"]), make_storage(config)
    return Made(clock, storage, make_client(config, storage, clock))


def make_storage(config: dict[str, Any]) -> Any:
    """The store of a configuration. Its clock is the machine's, as its leases are."""
    if config["url"] == "memory://":
        return MemoryTokenStorage()
    return storage_from_url(config["url"], encryption_key=config["key"], timeout=config["store_timeout"])


def make_client(config: dict[str, Any], storage: Any, clock: ShiftedClock) -> OAuth2Client:
    """The client of a configuration."""
    metadata = ServerMetadata(**config["metadata"])
    rotation = Rotation(RotationClass[config["rotation"]], config["grace"] if config["rotation"] == "RG" else None)
    return OAuth2Client(
        Provider(name="double", metadata=metadata, rotation=rotation),
        config["client_id"],
        config["client_secret"],
        "https://app.example/callback",
        config.get("scopes", ["read"]),
        storage,
        namespace=config["namespace"],
        clock=clock,
        timeout=config["timeout"],
        refresh_policy=RefreshPolicy(**config["policy"]),
        journal=config["journal"],
    )


class Worker:
    """One process."""

    def __init__(self, config: dict[str, Any], made: Made) -> None:
        self.config = config
        self.recorder = Recorder(Path(config["history"]), config["name"])
        self.clock, self.storage, self.client = made
        self.nemesis = Nemesis(parse_orders(os.environ.get("PAUTH_FP", "")), tell=self._tell, cut=self._cut)
        self.down = False
        """Whether the store takes no writes, as far as this process can tell."""
        self.dice = random.Random(config["seed"])
        watch_transport(self.recorder)
        failpoints.arm(self.nemesis)
        watch_storage(self.storage, self.recorder, around=self._around_writes)
        self.http: aiohttp.ClientSession
        self.ended = asyncio.Event()
        self.running: set[asyncio.Task[Any]] = set()
        self.mourned: set[str] = set()
        self.base: tuple[int, int, int] = (0, 0, 0)
        self.calls: dict[int, list[asyncio.Task[Any]]] = {}

    def _tell(self, order: Order) -> None:
        self.recorder.line("hit", process=self.recorder.process, name=order.name, action=order.action)

    def _cut(self) -> None:
        self.down = True

    async def _around_writes(self, write: Callable[[], Awaitable[Record | None]], commits: bool) -> Record | None:
        if self.down:
            raise StorageUnavailable("the harness has cut this process off from its store")
        if not commits or not self.nemesis.waits_for("mid_commit"):
            return await write()
        under_way = asyncio.ensure_future(write())
        for _ in range(self.dice.randrange(1, 2 * _TURNS)):
            await asyncio.sleep(0)
        await asyncio.sleep(self.dice.choice((0.0, 0.0005, 0.002)))
        self.nemesis("mid_commit")
        return await under_way

    async def serve(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.config["port"])

        async def answer(command: dict[str, Any]) -> None:
            result = await getattr(self, f"do_{command['do']}")(command)
            writer.write(json.dumps({"id": command["id"], "result": result}).encode() + b"\n")

        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: self._start(self._terminate()))
        writer.write(json.dumps({"name": self.config["name"], "pid": os.getpid()}).encode() + b"\n")
        reading = asyncio.create_task(self._read(reader, answer))
        await self.ended.wait()
        await asyncio.sleep(0)  # the last answer
        await writer.drain()
        reading.cancel()
        writer.close()
        with suppress(asyncio.CancelledError):
            await reading

    async def _read(self, reader: asyncio.StreamReader, answer: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        while line := await reader.readline():
            self._start(answer(json.loads(line)))
        os._exit(3)  # the harness has gone

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logging.getLogger("tests.chaos").error("a command failed", exc_info=task.exception())
            self.recorder.line("note", text="a command failed")
            os._exit(4)  # a broken harness must not look like a clean run

    async def _terminate(self) -> None:
        """What a server does at SIGTERM: it stops its work, and closes the client."""
        for tasks in self.calls.values():
            for task in tasks:
                task.cancel()
        await self._close()

    async def _close(self) -> None:
        await self.http.close()
        number = self.recorder.begin("invoke", op="aclose", user="-")
        await self.client.aclose()
        self.recorder.end("return", number)
        await self.storage.aclose()
        self.ended.set()

    # --- the commands

    async def do_call(self, command: dict[str, Any]) -> list[str]:
        """All ``users``, so many ``times`` each, at once. Gives the outcome of each call: ``ok`` or what went wrong."""
        work = getattr(self, f"_{command['op']}")
        users: list[str] = command["users"]
        tasks = [asyncio.create_task(work(user)) for user in users for _ in range(command.get("times", 1))]
        self.calls[command["id"]] = tasks
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        del self.calls[command["id"]]
        return ["cancelled" if isinstance(each, asyncio.CancelledError) else str(each) for each in outcomes]

    async def do_cancel(self, command: dict[str, Any]) -> None:
        """Cancel the callers of an earlier ``call``."""
        for task in self.calls.get(command["call"], ()):
            task.cancel()

    async def do_churn(self, command: dict[str, Any]) -> int:
        """``tasks`` tasks that use, ask and refresh for random users until so many ``seconds`` have passed. Gives the number of calls."""
        end = time.monotonic() + command["seconds"]
        count = 0

        async def one(dice: random.Random) -> None:
            nonlocal count
            while time.monotonic() < end:
                work = self._refresh if dice.random() < command.get("refreshes", 0.0) else self._use
                user = dice.choice(command["users"])
                if await work(user) == "ReauthorizationRequired":
                    self.mourned.add(user)
                count += 1
                await asyncio.sleep(dice.uniform(0.0, command.get("pause", 0.2)))

        await asyncio.gather(*(one(random.Random(self.dice.random())) for _ in range(command["tasks"])))
        return count

    async def do_mourned(self, command: dict[str, Any]) -> list[str]:
        """The users who have to log in, as far as the churn has come to know since it was asked last."""
        mourned, self.mourned = self.mourned, set()
        return sorted(mourned)

    async def do_authorization_url(self, command: dict[str, Any]) -> str:
        return await self.client.get_authorization_url(user_id=command["user"])

    async def do_callback(self, command: dict[str, Any]) -> None:
        await self.client.handle_callback(command["url"])

    async def do_clock(self, command: dict[str, Any]) -> None:
        self.clock.passed, self.clock.wrong = command["passed"], command.get("wrong", self.clock.wrong)

    async def do_order(self, command: dict[str, Any]) -> None:
        self.nemesis.order(command["orders"])

    async def do_down(self, command: dict[str, Any]) -> None:
        self.down = command["down"]

    async def do_usage(self, command: dict[str, Any]) -> None:
        """Write down what this process holds; at the ``end`` as soon as that is no more than at the ``base``, or never will be."""
        own_tasks = 3  # the main one, the reader, this command
        if command["label"] == "base":
            self.base = self.recorder.usage("base", own_tasks=own_tasks)
            return
        until = time.monotonic() + command["seconds"]
        while time.monotonic() < until and any(now > then for now, then in zip(usage(own_tasks), self.base, strict=True)):
            await asyncio.sleep(0.1)
        self.recorder.usage("end", own_tasks=own_tasks)

    async def do_close(self, command: dict[str, Any]) -> None:
        await self._close()

    # --- the calls; each gives "ok" or the error's name

    async def _get(self, user: str) -> str:
        return self._told(await self.recorder.call("get_token", user, lambda: self.client.get_token(user)))

    async def _refresh(self, user: str) -> str:
        return self._told(await self.recorder.call("refresh", user, lambda: self.client.refresh(user)))

    async def _use(self, user: str) -> str:
        """Call an API: get a token, present it; if it is refused, have that very token refreshed, and try once more (RFC 6750 section 3.1)."""
        token: Any = await self.recorder.call("get_token", user, lambda: self.client.get_token(user))
        for again in (True, False):
            if isinstance(token, Exception):
                return self._told(token)
            async with self.http.get(self.config["resource"], headers=token.auth_headers()) as response:
                if response.status == 200:
                    shown = await response.json()
                    return "ok" if shown.get("user", shown.get("sub")) == user else "another user"
                await response.read()
            if again:
                refused = token.version
                token = await self.recorder.call("refresh_if", user, partial(self.client.refresh, user, if_version=refused))
        return "refused"

    @staticmethod
    def _told(given: Any) -> str:
        return type(given).__name__ if isinstance(given, Exception) else "ok"


def main(config: dict[str, Any], made: Made | None = None) -> int:
    """Run a worker in this process until it is told to end. Its log is the standard error."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("asyncio").setLevel(logging.INFO)
    asyncio.run(_run(config, made or make(config)))
    return 0


async def _run(config: dict[str, Any], made: Made) -> None:
    await Worker(config, made).serve()


def prefork(config: dict[str, Any]) -> int:
    """As a prefork server does: make the client, then fork so many workers that all use it (P15)."""
    made = make(config)
    children: list[int] = []
    for number in range(config["prefork"]):
        child = os.fork()
        if not child:
            die_with_parent()
            name = f"{config['name']}.{number}"
            os._exit(main({**config, "name": name, "history": str(Path(config["history"]).with_name(f"{name}.jsonl"))}, made))
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def die_with_parent() -> None:
    """However the parent ends. Where the kernel has no such thing, a worker ends when its connection to the harness does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
