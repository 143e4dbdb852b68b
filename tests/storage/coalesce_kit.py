"""A driver that a test steps by hand, and rows for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pauth.storage.driver import Delete, ExpiringRow, Lease, Put, Row, UserRow
from pauth.storage.identity import row_id

__all__ = ["HeldDriver", "delete", "get_row", "put", "turns"]


def put(user: str, data: bytes = b"data", *, expected_version: int | None = None) -> Put:
    return Put(row_id("", user), b"", user.encode(), expected_version, None, 1, None, None, None, memoryview(data))


def delete(user: str) -> Delete:
    return Delete(row_id("", user), None, 1)


def get_row(user: str) -> bytes:
    return row_id("", user)


async def turns(number: int = 5) -> None:
    """Let all that can go on go on."""
    for _ in range(number):
        await asyncio.sleep(0)


class HeldDriver:
    """Rows in a dict. Each batch waits to be let go, if ``held``; what was sent is kept in ``batches``."""

    store_id = None
    checks_owners = False

    def __init__(self, *, lanes: int = 1, held: bool = True) -> None:
        self.lanes = lanes
        self.held = held
        self.rows: dict[bytes, Row] = {}
        self.versions: dict[bytes, int] = {}
        self.batches: list[tuple[str, tuple[Any, ...]]] = []
        self.waiting: list[asyncio.Future[BaseException | None]] = []
        self.under_way: set[bytes] = set()
        self.bad: set[bytes] = set()
        self.written: list[memoryview] = []
        self.erased: set[int] = set()
        self.short = False
        self.closed = 0

    async def let_go(self, number: int = 0, failure: BaseException | None = None) -> None:
        """Let one batch under way be done, or fail, and those who wait for it go on."""
        self.waiting.pop(number).set_result(failure)
        await turns()

    async def _batch(self, name: str, items: Sequence[Any]) -> None:
        rows = [item if isinstance(item, bytes) else item.row_id for item in items]
        assert len(set(rows)) == len(rows), "a row twice in one batch"
        assert not self.under_way & set(rows), "a row in two batches at once"
        self.under_way |= set(rows)
        assert len(self.waiting) < self.lanes, "more batches than lanes"
        self.batches.append((name, tuple(items)))
        try:
            if self.held:
                future: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
                self.waiting.append(future)
                failure = await future
                if failure is not None:
                    raise failure
        finally:
            self.under_way -= set(rows)

    async def get_many(self, row_ids: Sequence[bytes]) -> Sequence[Row | Exception | None]:
        await self._batch("get", row_ids)
        answers = [self.rows.get(each) for each in row_ids]
        return answers[1:] if self.short else answers

    async def put_many(self, puts: Sequence[Put]) -> Sequence[int | Exception | None]:
        await self._batch("put", puts)
        return [self._put(each) for each in puts]

    def _put(self, each: Put) -> int | Exception | None:
        if each.row_id in self.bad:
            return ValueError("CANARY bad row")
        current = self.rows.get(each.row_id)
        if each.expected_version not in (None, 0 if current is None else current.version):
            return None
        self.versions[each.row_id] = self.versions.get(each.row_id, 0) + 1
        self.written.append(each.data)
        self.rows[each.row_id] = Row(self.versions[each.row_id], each.stored_at, each.expires_at, each.lineage, each.data)
        return self.versions[each.row_id]

    async def delete_many(self, deletes: Sequence[Delete]) -> Sequence[bool | Exception]:
        await self._batch("delete", deletes)
        self.erased |= {id(each) for each in deletes}
        return [self.rows.pop(each.row_id, None) is not None for each in deletes]

    async def rewrite_many(self, puts: Sequence[Put]) -> Sequence[bool | Exception]:
        return [each.row_id in self.rows for each in puts]

    async def put_pending(self, row_id: bytes, data: memoryview, *, expires_at: int, now: int) -> None:
        raise OSError("CANARY in a driver's words")

    async def take_pending(self, row_id: bytes, *, now: int) -> memoryview | None:
        await asyncio.Event().wait()
        return None

    async def take_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> Lease | None:
        return Lease(7, ttl_ms)

    async def extend_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> bool:
        return True

    async def release_lease(self, row_id: bytes, owner: bytes) -> bool:
        return True

    async def list_users(self, namespace: bytes | None, *, after: bytes, limit: int) -> Sequence[UserRow]:
        return []

    async def list_expiring(self, *, before: int, after: tuple[int, bytes], limit: int) -> Sequence[ExpiringRow]:
        return []

    async def count(self, namespace: bytes | None) -> int:
        return len(self.rows)

    async def aclose(self) -> None:
        self.closed += 1
