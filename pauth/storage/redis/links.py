"""Connections to Redis, and which server of several to ask. One object per event loop, as connections belong to theirs.

redis-py makes and speaks the connections; which one is used, for how long, and what is tried again is decided here: redis-py would send a write
again whose answer was lost, and a compare-and-set that is sent twice says "somebody else was first" of its own success.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from redis import exceptions

from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable
from pauth.storage.redis.errors import error_for
from pauth.storage.redis.rows import SHARDS, SLOTS
from pauth.storage.redis.scripts import SOURCES

__all__ = ["Address", "ClusterLinks", "Command", "Connection", "Links", "Maker", "SingleLinks", "drop", "packed", "read_answer"]

Command: TypeAlias = tuple[Any, ...]
Address: TypeAlias = tuple[str, int]
Connection: TypeAlias = Any
"""A connection of redis-py's, which is untyped in most of its versions."""

Maker: TypeAlias = Callable[[], Connection]

_MAX_CONNECTIONS: Final = 8
"""To one server, in one event loop. Who comes when all are in use waits for one."""

_REDIRECTIONS: Final = 5
_UNANSWERED: Final = object()
_MOVING: Final = "the Redis Cluster is moving its data or down; what could be done was done"


class Links(Protocol):
    """Where an event loop sends its commands."""

    one_server: bool
    """Whether one command may name keys of several shards."""

    timeout: float
    """Seconds after which an operation is given up."""

    moves_within: float | None
    """Seconds after which other servers may be the ones that take writes; ``None`` if there is one, and connecting finds it."""

    async def run(self, commands: Sequence[tuple[int, Command]]) -> list[Any]:
        """The answer to each command, given with its shard: bytes, whatever the client would decode. Errors of a command are its answer."""
        ...

    async def ask(self, command: Command) -> list[Any]:
        """The answers of every server to a command that names no key, where they may be had."""
        ...

    async def servers(self) -> Mapping[Address | None, Maker]:
        """The servers that take writes now: by address, what makes connections to listen on, which nobody here closes.

        :raises PAuthError: it cannot be told.
        """
        ...

    async def close(self) -> None:
        """Close the connections; one that is in use, when it is free."""
        ...


class _Server:
    """The connections to one server."""

    def __init__(self, make: Maker) -> None:
        self._make = make
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._closed = False

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send them in one piece; the answers, errors of a command among them.

        Whatever goes wrong with a connection, or with who waits for it, it is not used again: nobody could tell whose answer comes next.
        """
        async with self._free:
            connection = self._idle.pop() if self._idle else self._make()
            try:
                if not connection.is_connected:
                    await connection.connect()
                elif await _is_stale(connection):
                    await connection.disconnect(nowait=True)
                    await connection.connect()
                await connection.send_packed_command(packed(commands), check_health=False)
                answers = [await read_answer(connection) for _ in commands]
            except BaseException:
                await drop(connection)
                raise
            if self._closed or any(isinstance(answer, exceptions.ReadOnlyError) for answer in answers):
                await drop(connection)  # of a server that has become a replica: its name may lead to the new master now
            else:
                self._idle.append(connection)
        return answers

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The same, with the text of the scripts the server does not know."""
        answers = await self.exchange(commands)
        unknown = [position for position, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
        if unknown:
            texts = [("EVAL", SOURCES[commands[position][1]], *commands[position][2:]) for position in unknown]
            for position, answer in zip(unknown, await self.exchange(texts), strict=True):
                answers[position] = answer
        return answers

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            with suppress(exceptions.RedisError, OSError, RuntimeError):
                await self._idle.pop().disconnect()
        await asyncio.sleep(0)  # for those dropped a moment ago, if the event loop is about to end


def packed(commands: Sequence[Command]) -> bytes:
    """Commands as Redis reads them, in one piece. There must be one: a transport that is given nothing to write may never close."""
    parts: list[bytes | memoryview] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            if isinstance(argument, str):
                argument = argument.encode("ascii")  # noqa: PLW2901
            elif isinstance(argument, int):
                argument = b"%d" % argument  # noqa: PLW2901
            parts += (b"$%d\r\n" % len(argument), argument, b"\r\n")
    return b"".join(parts)


async def read_answer(connection: Connection) -> Any:
    """The next answer, in bytes; the error of a command is one."""
    try:
        return await connection.read_response(disable_decoding=True)
    except exceptions.ResponseError as error:
        return error.with_traceback(None)


async def _is_stale(connection: Connection) -> bool:
    """Whether the server closed it, or sent something nobody asked for, while it was idle."""
    # redis-py before 8 has the same under its old name
    probe = getattr(connection, "can_read", None) or connection.can_read_destructive
    try:
        return bool(await probe())
    except (exceptions.RedisError, OSError):
        return True


async def drop(connection: Connection) -> None:
    """Close a connection at once, if it is still open."""
    with suppress(exceptions.RedisError, OSError, RuntimeError):  # what cannot be closed is closed already, or its event loop is
        await connection.disconnect(nowait=True)


class SingleLinks:
    """One server: a standalone one, or the one that Sentinel says is the master.

    :param listen: makes connections to listen on: of RESP2, on which silence is no error.
    :param release: called when the links are closed.
    """

    one_server = True
    moves_within: float | None = None

    def __init__(self, make: Maker, *, listen: Maker, timeout: float, release: Callable[[], Awaitable[None]] | None = None) -> None:
        self._server = _Server(make)
        self._listen = listen
        self.timeout = timeout
        self._release = release

    async def run(self, commands: Sequence[tuple[int, Command]]) -> list[Any]:
        """See :meth:`Links.run`."""
        try:
            async with asyncio.timeout(self.timeout):
                answers = await self._server.run([command for _, command in commands])
        except Exception as error:  # noqa: BLE001  # a credential provider may raise anything, and nothing foreign may get out
            failure = error_for(error, timeout=self.timeout)
        else:
            return [error_for(answer, timeout=self.timeout) if isinstance(answer, Exception) else answer for answer in answers]
        raise failure

    async def ask(self, command: Command) -> list[Any]:
        """See :meth:`Links.ask`."""
        return await self.run([(0, command)])

    async def servers(self) -> Mapping[Address | None, Maker]:
        """See :meth:`Links.servers`."""
        return {None: self._listen}

    async def close(self) -> None:
        """See :meth:`Links.close`."""
        await self._server.close()
        if self._release is not None:
            with suppress(exceptions.RedisError, OSError, RuntimeError):
                await self._release()


class ClusterLinks:
    """A Redis Cluster: each shard is at the server that has its slot.

    :param make: a connection to an address.
    :param listen: one to listen on: of RESP2, on which silence is no error.
    :param seeds: addresses of some of its servers.
    :param remap: what address a server is reached by, for clusters behind an address translation.
    """

    one_server = False
    moves_within: float | None = 5.0

    def __init__(
        self,
        make: Callable[[str, int], Connection],
        seeds: Sequence[Address],
        *,
        listen: Callable[[str, int], Connection],
        timeout: float,
        remap: Callable[[str, int], Address] | None = None,
    ) -> None:
        self._make = make
        self._listen = listen
        self._seeds = list(seeds)
        self.timeout = timeout
        self._remap = remap or _as_is
        self._servers: dict[Address, _Server] = {}
        self._places: list[Address | None] = [None] * SHARDS
        self._outdated = True
        self._looking = asyncio.Lock()
        self._silent: set[Address] = set()

    async def run(self, commands: Sequence[tuple[int, Command]]) -> list[Any]:
        """See :meth:`Links.run`."""
        answers: list[Any] = [_UNANSWERED] * len(commands)
        failure: Exception | None = None
        try:
            async with asyncio.timeout(self.timeout):
                waiting: Sequence[int] = range(len(commands))
                for attempt in range(_REDIRECTIONS):
                    if self._outdated:
                        await self._look()
                    waiting = await self._run_once(commands, waiting, answers)
                    if not waiting:
                        break
                    self._outdated = True
                    await asyncio.sleep(0.02 * attempt)
        except (TimeoutError, PAuthError) as error:
            failure = error
        return [self._final(failure or StorageUnavailable(_MOVING) if answer is _UNANSWERED else answer) for answer in answers]

    def _final(self, answer: Any) -> Any:
        return error_for(answer, timeout=self.timeout) if isinstance(answer, Exception) else answer

    async def ask(self, command: Command) -> list[Any]:
        """See :meth:`Links.ask`."""
        # one shard of each server
        await self.run([])
        return await self.run([(shard, command) for shard in {place: shard for shard, place in enumerate(self._places)}.values()])

    async def servers(self) -> Mapping[Address | None, Maker]:
        """See :meth:`Links.servers`."""
        async with self._looking:
            await self._find()
        return {place: partial(self._listen, *place) for place in self._places if place is not None}

    async def close(self) -> None:
        """See :meth:`Links.close`."""
        for server in self._servers.values():
            await server.close()

    async def _run_once(self, commands: Sequence[tuple[int, Command]], waiting: Sequence[int], answers: list[Any]) -> list[int]:
        """Fill in answers; give back the positions of those to send again, to where they belong now."""
        by_place: dict[Address | None, list[int]] = {}
        for position in waiting:
            by_place.setdefault(self._places[commands[position][0]], []).append(position)
        again: list[int] = []

        async def send(place: Address | None, positions: list[int]) -> None:
            commands_there = [commands[position][1] for position in positions]
            for position, answer in zip(positions, await self._run_at(place, commands_there), strict=True):
                if isinstance(answer, exceptions.AskError) and not isinstance(answer, exceptions.MovedError):  # which is one, to redis-py
                    answer = await self._ask_there(self._target(answer, place), commands[position][1])  # noqa: PLW2901
                if isinstance(answer, exceptions.MovedError):
                    self._places[commands[position][0]] = self._target(answer, place)
                    again.append(position)
                elif isinstance(answer, exceptions.TryAgainError | exceptions.ClusterDownError):
                    again.append(position)
                else:
                    answers[position] = answer

        async with asyncio.TaskGroup() as group:
            for place, positions in by_place.items():
                group.create_task(send(place, positions))
        return again

    async def _run_at(self, place: Address | None, commands: Sequence[Command]) -> list[Any]:
        """The answers of one server; what keeps it from answering is that of each."""
        if place is None:
            return [exceptions.ClusterDownError("no server has the slot")] * len(commands)
        # one that hangs must leave the others' answers time to be given, and hold up who comes next no more than it has to
        patience = self.timeout / (16 if place in self._silent else 2)
        try:
            async with asyncio.timeout(patience):
                answers = await self._server_at(place).run(commands)
        except Exception as error:  # noqa: BLE001  # as above
            self._outdated = True  # a replica may have taken over
            if isinstance(error, TimeoutError):
                self._silent.add(place)
            return [error_for(error, timeout=patience)] * len(commands)
        self._silent.discard(place)
        return answers

    def _target(self, redirection: Any, asked: Address | None) -> Address:
        return self._remap(redirection.host or (asked or ("",))[0], redirection.port)  # no host means: the one you asked

    async def _ask_there(self, place: Address, command: Command) -> Any:
        # the slot is on its way to that server, which answers for it only to who says ASKING
        with_text = ("EVAL", SOURCES[command[1]], *command[2:]) if command[0] == "EVALSHA" else command
        try:
            async with asyncio.timeout(self.timeout / 2):
                return (await self._server_at(place).exchange([("ASKING",), with_text]))[1]
        except Exception as error:  # noqa: BLE001  # as above
            return error

    def _server_at(self, place: Address) -> _Server:
        server = self._servers.get(place)
        if server is None:
            server = self._servers[place] = _Server(lambda: self._make(*place))
        return server

    async def _look(self) -> None:
        async with self._looking:
            if self._outdated:
                await self._find()

    async def _find(self) -> None:
        """Ask any server where the slots are."""
        failure: Exception | None = None
        known = dict.fromkeys([*(place for place in self._places if place), *self._seeds])
        for place in sorted(known, key=self._silent.__contains__):
            try:
                async with asyncio.timeout(self.timeout / 3):  # a server that hangs must not keep us from the next
                    (answer,) = await self._server_at(place).exchange([("CLUSTER", "SLOTS")])
            except Exception as error:  # noqa: BLE001  # as above
                failure = error_for(error, timeout=self.timeout)
                if isinstance(error, TimeoutError):
                    self._silent.add(place)
                continue
            if isinstance(answer, exceptions.ResponseError):
                failure = _refusal(answer, self.timeout)
                continue
            self._places = self._places_in(answer, place)
            self._outdated = False
            return
        raise failure or StorageUnavailable("no server of the Redis Cluster is known")

    def _places_in(self, answer: list[Any], asked: Address) -> list[Address | None]:
        places: list[Address | None] = [None] * SHARDS
        for first, last, master, *_ in answer:
            host = master[0].decode() if master[0] and master[0] != b"?" else asked[0]  # an empty one means: the one you asked
            for shard, slot in enumerate(SLOTS):
                if first <= slot <= last:
                    places[shard] = self._remap(host, master[1])
        return places


def _refusal(answer: exceptions.ResponseError, timeout: float) -> PAuthError:
    if "cluster support disabled" in str(answer):
        return ConfigurationError("this Redis server is no cluster: write redis:// (or give a Redis client)")
    return error_for(answer, timeout=timeout)


def _as_is(host: str, port: int) -> Address:
    return host, port
