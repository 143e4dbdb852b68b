"""The Redis driver: rows to commands and answers to rows."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from math import ceil, sqrt
from typing import Any, Final, TypeAlias, TypeGuard, TypeVar

from pauth.errors import PAuthError, UnsupportedRecord
from pauth.storage.driver import Delete, ExpiringRow, Lease, Put, Row, UserRow
from pauth.storage.redis import scripts
from pauth.storage.redis.errors import error_of_row
from pauth.storage.redis.links import Command, Links
from pauth.storage.redis.rows import (
    EXPIRING_ENTRY,
    SHARDS,
    USER_ENTRY,
    Entries,
    Keys,
    delete_meta,
    entries_in,
    expiring_bound,
    expiring_row,
    heads_in,
    live_row,
    put_meta,
    put_rest,
    rewritten,
    shard_of,
    shard_of_entry,
    user_row,
)
from pauth.storage.redis.watch import RedisWatch, Watchers
from pauth.storage.watches import Changed

__all__ = ["RedisDriver"]

T = TypeVar("T")

_Batch: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""What goes in one command: positions of rows, and the shards they are in."""

_PENDING_MARGIN_MS: Final = 60_000
"""How much longer than its life Redis keeps a pending login, whose expiry is judged by the clock of who takes it."""

_PAGE: Final = 1000
_HARMLESS: Final = frozenset({"", "noeviction"})
_HARMLESS_WITHOUT_RETENTION: Final = _HARMLESS | {"volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"}
_EVICTS: Final = "this Redis evicts keys when its memory is full (maxmemory-policy {}): logins will be lost; set it to noeviction"

_of_the_parent: Final[list[Any]] = []


class RedisDriver:
    """Moves rows to and from Redis. Each batch is one command, or in a cluster one a slot, all at once.

    :param links_for_loop: makes an event loop its connections.
    :param prefix: what all keys begin with.
    :param retention: milliseconds a record is kept after its last write, or after its expiry if that is later; ``None`` for ever.
    :param store: what names the Redis, without a secret; ``None`` if that cannot be told.
    """

    checks_owners = False
    """See :attr:`.Driver.checks_owners`."""

    lanes = 1

    def __init__(
        self, links_for_loop: Callable[[], Links], *, prefix: str = "pauth", retention: int | None = None, store: tuple[str, ...] | None = None
    ) -> None:
        self.store_id: tuple[str, ...] | None = None if store is None else (*store, prefix)
        self._make_links = links_for_loop
        self._keys = Keys(prefix)
        self._retention = retention or 0
        self._links: dict[asyncio.AbstractEventLoop, Links] = {}
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._checked = False
        self._watchers = Watchers(self._keys)

    async def get_many(self, row_ids: Sequence[bytes]) -> Sequence[Row | Exception | None]:
        """See :meth:`.Driver.get_many`."""
        links = await self._here()
        answers: list[Row | Exception | None] = [None] * len(row_ids)
        batches = _batches(row_ids, one=links.one_server)
        replies = await links.run([(shards[0], _read([self._keys.record(row_ids[at]) for at in positions])) for positions, shards in batches])
        unsure: list[int] = []
        for (positions, _), reply in zip(batches, replies, strict=True):
            for at, value in zip(positions, _spread(reply, len(positions)) if len(positions) > 1 else (reply,), strict=True):
                if value is None and len(positions) > 1:
                    unsure.append(at)
                else:
                    answers[at] = _row(value)
        del replies
        if unsure:
            await self._look_again(links, row_ids, unsure, answers)
        return answers

    async def put_many(self, puts: Sequence[Put]) -> Sequence[int | Exception | None]:
        """See :meth:`.Driver.put_many`."""
        links = await self._here()
        commands: list[tuple[int, Command]] = []
        batches = _batches([put.row_id for put in puts], one=links.one_server)
        for positions, shards in batches:
            arguments: list[Any] = [len(shards), self._retention]
            for at in positions:
                put = puts[at]
                arguments += (put_meta(put, shards.index(shard_of(put.row_id))), put_rest(put))
            commands.append((shards[0], self._script(scripts.PUT, shards, [puts[at].row_id for at in positions], arguments)))
        answers = await self._answers(links, batches, commands, len(puts))
        return [_version(answer) for answer in answers]

    async def delete_many(self, deletes: Sequence[Delete]) -> Sequence[bool | Exception]:
        """See :meth:`.Driver.delete_many`."""
        links = await self._here()
        commands: list[tuple[int, Command]] = []
        batches = _batches([delete.row_id for delete in deletes], one=links.one_server)
        for positions, shards in batches:
            rows = [deletes[at].row_id for at in positions]
            metas = [delete_meta(deletes[at], shards.index(shard_of(deletes[at].row_id))) for at in positions]
            commands.append((shards[0], self._script(scripts.DELETE, shards, rows, [len(shards), *metas])))
        answers = await self._answers(links, batches, commands, len(deletes))
        return [version if isinstance(version := _version(answer), Exception) else version == 1 for answer in answers]

    async def rewrite_many(self, puts: Sequence[Put]) -> Sequence[bool | Exception]:
        """See :meth:`.Driver.rewrite_many`."""
        links = await self._here()
        commands = [(shard_of(put.row_id), ("EVALSHA", scripts.REWRITE, 1, self._keys.record(put.row_id), *rewritten(put))) for put in puts]
        answers = await links.run(commands)
        return [version if isinstance(version := _version(answer), Exception) else version == 1 for answer in answers]

    async def put_pending(self, row_id: bytes, data: memoryview, *, expires_at: int, now: int) -> None:
        """See :meth:`.Driver.put_pending`."""
        key = self._keys.pending(row_id)
        life = expires_at - now
        value = memoryview(expires_at.to_bytes(8, "big", signed=True) + data)
        await self._one(row_id, ("SET", key, value, "PX", life + _PENDING_MARGIN_MS) if life > 0 else ("DEL", key))

    async def take_pending(self, row_id: bytes, *, now: int) -> memoryview | None:
        """See :meth:`.Driver.take_pending`."""
        value = await self._one(row_id, ("GETDEL", self._keys.pending(row_id)))
        if value is None:
            return None
        if not isinstance(value, bytes) or len(value) < 8:
            raise _unsupported()
        return memoryview(value)[8:] if now < int.from_bytes(value[:8], "big", signed=True) else None

    async def take_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> Lease | None:
        """See :meth:`.Driver.take_lease`."""
        keys = (self._keys.lease(row_id), self._keys.fences[shard_of(row_id)])
        fence = await self._one(row_id, ("EVALSHA", scripts.TAKE_LEASE, 2, *keys, owner, ttl_ms))
        return None if fence is None else Lease(_of(int, fence), ttl_ms)

    async def extend_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> bool:
        """See :meth:`.Driver.extend_lease`."""
        return _of(int, await self._one(row_id, ("EVALSHA", scripts.EXTEND_LEASE, 1, self._keys.lease(row_id), owner, ttl_ms))) == 1

    async def release_lease(self, row_id: bytes, owner: bytes) -> bool:
        """See :meth:`.Driver.release_lease`."""
        return _of(int, await self._one(row_id, ("EVALSHA", scripts.RELEASE_LEASE, 1, self._keys.lease(row_id), owner))) == 1

    async def list_users(self, namespace: bytes | None, *, after: bytes, limit: int) -> Sequence[UserRow]:
        """See :meth:`.Driver.list_users`. A record that cannot be read is not listed."""
        links = await self._here()
        rows: list[UserRow] = []
        shard, start, width = (shard_of(after) if after else 0), b"(u" + after, 1
        while shard < SHARDS and len(rows) < limit:
            size: int = min(limit - len(rows), _PAGE) if namespace is None else _PAGE  # of which there may be few in the namespace
            group = range(shard, min(shard + width, SHARDS))
            pages = await self._entries(links, [(each, start if each == shard else b"(u") for each in group], b"(v", USER_ENTRY, size)
            looked = await self._look(links, [(each, page.known) for each, page in zip(group, pages, strict=True)])
            shard, start, width = shard + len(group), b"(u", 2 * width
            for each, page, heads in zip(group, pages, looked, strict=True):
                found = zip(page.known, heads, strict=True)
                rows.extend(user_row(entry[1:], head) for entry, head in found if head is not None and _is_in(namespace, head))
                if page.last is not None:  # there may be more of this shard
                    shard, start, width = each, b"(" + page.last, 1
                    break
        return rows[:limit]

    async def list_expiring(self, *, before: int, after: tuple[int, bytes], limit: int) -> Sequence[ExpiringRow]:
        """See :meth:`.Driver.list_expiring`. A record that cannot be read is not listed."""
        links = await self._here()
        rows: list[ExpiringRow] = []
        start, end = b"(" + expiring_bound(*after), b"(" + expiring_bound(before)
        while len(rows) < limit:
            mean = (limit - len(rows)) / SHARDS
            size = ceil(mean + 3 * sqrt(mean)) + 4  # so that the shard with the most of them seldom has more
            pages = await self._entries(links, [(shard, start) for shard in range(SHARDS)], end, EXPIRING_ENTRY, size)
            # what a shard has not told yet comes after its last entry told
            known_until = min((page.last for page in pages if page.last is not None), default=None)
            entries = sorted(entry for page in pages for entry in page.known if known_until is None or entry <= known_until)
            taken = entries[: limit - len(rows)]
            by_shard = [(shard, list(group)) for shard, group in groupby(sorted(taken, key=shard_of_entry), key=shard_of_entry)]
            looked = await self._look(links, by_shard)
            heads: dict[bytes, bytes | None] = {}
            for (_, page), page_heads in zip(by_shard, looked, strict=True):
                heads.update(zip(page, page_heads, strict=True))
            rows += [expiring_row(entry[9:], head) for entry in taken if (head := heads[entry]) is not None]
            if len(taken) < len(entries):
                start = b"(" + taken[-1]
            elif known_until is not None:
                start = b"(" + known_until
            else:
                break
        return rows

    async def count(self, namespace: bytes | None) -> int:
        """See :meth:`.Driver.count`. Each record is looked at."""
        total, after = 0, b""
        while rows := await self.list_users(namespace, after=after, limit=_PAGE):
            total, after = total + len(rows), rows[-1].row_id
        return total

    async def watch(self, changed: Changed) -> RedisWatch:
        """See :meth:`.WatchableTokenStorage.watch`."""
        return await self._watchers.watch(self._links_here(), changed)

    async def aclose(self) -> None:
        """See :meth:`.Driver.aclose`. A client of the user's stays open: these connections were never in its pool."""
        await self._watchers.close()
        here = asyncio.get_running_loop()
        with self._mutex:
            links, self._links = self._links, {}
        for loop, each in links.items():
            if loop is here or loop.is_closed():
                await each.close()
            else:
                with suppress(RuntimeError):  # it closed in this moment
                    asyncio.run_coroutine_threadsafe(each.close(), loop)

    def _links_here(self) -> Links:
        links = self._links.get(asyncio.get_running_loop())
        if links is None or self._process != os.getpid():
            links = self._open(asyncio.get_running_loop())
        return links

    async def _here(self) -> Links:
        links = self._links_here()
        if not self._checked:
            await self._check_eviction(links)
        return links

    def _open(self, loop: asyncio.AbstractEventLoop) -> Links:
        with self._mutex:
            if self._process != os.getpid():
                _of_the_parent.append(self._links)  # its connections: neither used nor closed here (P15)
                self._links, self._process = {}, os.getpid()
            for other in tuple(self._links):
                if other.is_closed():
                    del self._links[other]
            links = self._links[loop] = self._make_links()
        return links

    async def _check_eviction(self, links: Links) -> None:
        """Warn once of a server that drops tokens to make room (RD-5). Whether it does may be a secret of the server's."""
        found: set[str] = set()
        for reply in await links.ask(("CONFIG", "GET", "maxmemory*")):
            if isinstance(reply, Exception):
                continue
            settings: dict[bytes, bytes] = _pairs(reply)
            policy = settings.get(b"maxmemory-policy", b"").decode("ascii", "replace")
            harmless = _HARMLESS if self._retention else _HARMLESS_WITHOUT_RETENTION
            if policy not in harmless and settings.get(b"maxmemory") != b"0":
                found.add(policy)
        if found and not self._checked:
            warnings.warn(_EVICTS.format(", ".join(sorted(found))), RuntimeWarning, stacklevel=2)
        self._checked = True

    def _script(self, script: str, shards: Sequence[int], row_ids: Sequence[bytes], arguments: Sequence[Any]) -> Command:
        indexes = [self._keys.indexes[shard] for shard in shards]
        records = [self._keys.record(row_id) for row_id in row_ids]
        return ("EVALSHA", script, len(indexes) + len(records), *indexes, *records, *arguments)

    async def _one(self, row_id: bytes, command: Command) -> Any:
        links = await self._here()
        (answer,) = await links.run([(shard_of(row_id), command)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _answers(self, links: Links, batches: Sequence[_Batch], commands: Sequence[tuple[int, Command]], count: int) -> list[Any]:
        """What the scripts answered for each row of the batches."""
        answers: list[Any] = [None] * count
        for (positions, _), reply in zip(batches, await links.run(commands), strict=True):
            for at, answer in zip(positions, _spread(reply, len(positions)), strict=True):
                answers[at] = answer
        return answers

    async def _look_again(self, links: Links, row_ids: Sequence[bytes], unsure: Sequence[int], answers: list[Row | Exception | None]) -> None:
        """MGET says of a key of another type that there is none; GET says what is wrong."""
        batches = _batches([row_ids[at] for at in unsure], one=links.one_server)
        keys = [[self._keys.record(row_ids[unsure[each]]) for each in positions] for positions, _ in batches]
        there = await links.run([(shards[0], ("EXISTS", *names)) for (_, shards), names in zip(batches, keys, strict=True)])
        doubtful: list[int] = []
        for (positions, _), number in zip(batches, there, strict=True):
            for each in positions:
                if isinstance(number, Exception):
                    answers[unsure[each]] = number
                elif number != 0:
                    doubtful.append(unsure[each])
        if not doubtful:
            return
        replies = await links.run([(shard_of(row_ids[at]), ("GET", self._keys.record(row_ids[at]))) for at in doubtful])
        for at, reply in zip(doubtful, replies, strict=True):
            answers[at] = _row(reply)

    async def _entries(self, links: Links, starts: Sequence[tuple[int, bytes]], end: bytes, length: int, size: int) -> list[Entries]:
        """From each index, the entries between two bounds, at most ``size`` of each."""
        commands = [(shard, ("EVALSHA", scripts.RANGE, 1, self._keys.indexes[shard], start, end, size, length)) for shard, start in starts]
        return [entries_in(reply if isinstance(reply, bytes) else _list(reply), length, size) for reply in await links.run(commands)]

    async def _look(self, links: Links, entries: Sequence[tuple[int, Sequence[bytes]]]) -> list[list[bytes | None]]:
        """For each entry of each shard the head of its record; ``None`` if it has gone."""
        commands = [(shard, self._script(scripts.LOOK, [shard], [entry[-32:] for entry in page], page)) for shard, page in entries if page]
        replies = iter(await links.run(commands)) if commands else iter(())
        return [heads_in(_of(bytes, next(replies)), len(page)) if page else [] for _, page in entries]


def _batches(row_ids: Sequence[bytes], *, one: bool) -> list[_Batch]:
    """Rows by command: all in one, or one for each shard."""
    if len(row_ids) == 1:
        return [((0,), (row_ids[0][0] >> 3,))]
    if one:
        return [(range(len(row_ids)), list(dict.fromkeys(map(shard_of, row_ids))))]
    by_shard: dict[int, list[int]] = {}
    for position, row_id in enumerate(row_ids):
        by_shard.setdefault(shard_of(row_id), []).append(position)
    return [(positions, (shard,)) for shard, positions in by_shard.items()]


def _spread(reply: Any, count: int) -> Sequence[Any]:
    """The answers for the rows of one command; an error is that of each."""
    if _is_list(reply) and len(reply) == count:
        return reply
    return [reply if isinstance(reply, PAuthError) else _unsupported()] * count


def _read(keys: Sequence[bytes]) -> Command:
    return ("MGET", *keys) if len(keys) > 1 else ("GET", keys[0])


def _row(value: Any) -> Row | Exception | None:
    if value is None or isinstance(value, PAuthError):
        return value
    if not isinstance(value, bytes):
        return _unsupported()
    try:
        return live_row(memoryview(value))
    except UnsupportedRecord:
        return _unsupported()


def _version(answer: Any) -> int | Exception | None:
    if isinstance(answer, bytes):
        return error_of_row(answer)
    return answer if answer is None or isinstance(answer, int | PAuthError) else _unsupported()


def _list(answer: Any) -> list[Any]:
    if isinstance(answer, Exception):
        raise answer
    if not _is_list(answer):
        raise _unsupported()
    return answer


def _of(kind: type[T], answer: Any) -> T:
    if isinstance(answer, Exception):
        raise answer
    if not isinstance(answer, kind):
        raise _unsupported()
    return answer


def _pairs(reply: Any) -> dict[Any, Any]:
    """A map of RESP3, or the list that RESP2 has in its place."""
    if isinstance(reply, dict):
        return reply  # pyright: ignore[reportUnknownVariableType]
    return dict(zip(_list(reply)[::2], _list(reply)[1::2], strict=False))


def _is_list(answer: object) -> TypeGuard[list[Any]]:
    return isinstance(answer, list)


def _is_in(namespace: bytes | None, head: bytes) -> bool:
    return namespace is None or user_row(b"", head).namespace == namespace


def _unsupported() -> UnsupportedRecord:
    return UnsupportedRecord("Redis gave an answer of a kind that this version of pauth does not know")
