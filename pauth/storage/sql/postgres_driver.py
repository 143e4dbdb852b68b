"""Rows in PostgreSQL: every operation is one statement, and so one transaction, in one round trip."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from pauth.storage.driver import Delete, Lease, Put
from pauth.storage.sql import postgres_statements as statements
from pauth.storage.sql.driver import Fault, SqlDriver
from pauth.storage.sql.links import Link, Links
from pauth.storage.sql.postgres_errors import fault_for
from pauth.storage.sql.tables import metadata

__all__ = ["PostgresDriver"]

_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]


class PostgresDriver(SqlDriver):
    """Implements :class:`.Driver`.

    A write is durable when it returns unless the server, the database or the user has ``synchronous_commit = off``: then a crash of the server
    loses the writes of its last moments, refresh tokens that exist nowhere else among them.

    :param links: makes its connections, given what prepares them and the timeout.
    """

    create: ClassVar[Sequence[str]] = (
        *(str(CreateTable(table).compile(dialect=_DIALECT)) for table in metadata.sorted_tables),
        *(str(CreateIndex(index).compile(dialect=_DIALECT)) for table in metadata.sorted_tables for index in table.indexes),
    )

    def __init__(
        self, links: Callable[[Callable[[Link], Awaitable[None]], float], Links], *, timeout: float, store_id: tuple[str, ...] | None
    ) -> None:
        self._make_links = links
        super().__init__(timeout=timeout, store_id=store_id)

    def links(self, timeout: float) -> Links:
        """See :meth:`.SqlDriver.links`."""
        return self._make_links(self.prepare, timeout)

    def fault(self, error: Exception) -> Fault:
        """See :meth:`.SqlDriver.fault`."""
        return fault_for(error)

    async def load(self, link: Link, row_ids: Sequence[bytes]) -> Sequence[Sequence[Any]]:
        """See :meth:`.SqlDriver.load`."""
        if len(row_ids) == 1:
            return await link.fetch(statements.LOAD_ONE, row_ids[0])
        return await link.fetch(statements.LOAD, list(row_ids))

    def groups(self, puts: Sequence[Put]) -> Sequence[Sequence[Put]]:
        """Those without conditions, those that need there to be none, and those that need there to be one: each has its statement."""
        by_statement: dict[str, list[Put]] = {}
        for put in puts:
            by_statement.setdefault(_statement(put), []).append(put)
        return list(by_statement.values())

    async def write(self, link: Link, puts: Sequence[Put]) -> Mapping[bytes, int]:
        """See :meth:`.SqlDriver.write`."""
        columns = [list(column) for column in zip(*puts, strict=True)]
        return {row[0]: row[1] for row in await link.fetch(_statement(puts[0]), *columns)}

    async def rewrite(self, link: Link, puts: Sequence[Put]) -> Mapping[bytes, bool]:
        """See :meth:`.SqlDriver.rewrite`."""
        columns = [list(column) for column in zip(*((put.row_id, put.expected_version, put.key_id, put.data) for put in puts), strict=True)]
        return {row[0]: True for row in await link.fetch(statements.REWRITE, *columns)}

    async def erase(self, link: Link, deletes: Sequence[Delete]) -> Mapping[bytes, bool]:
        """See :meth:`.SqlDriver.erase`."""
        columns = [list(column) for column in zip(*deletes, strict=True)]
        return {row[0]: True for row in await link.fetch(statements.ERASE, *columns)}

    async def keep_pending(self, link: Link, row_id: bytes, data: memoryview, expires_at: int) -> None:
        """See :meth:`.SqlDriver.keep_pending`."""
        await link.fetch(statements.PUT_PENDING, row_id, expires_at, data)

    async def pull_pending(self, link: Link, row_id: bytes) -> tuple[int, bytes] | None:
        """See :meth:`.SqlDriver.pull_pending`."""
        rows = await link.fetch(statements.TAKE_PENDING, row_id)
        return (rows[0][0], rows[0][1]) if rows else None

    async def lease(self, link: Link, row_id: bytes, owner: bytes, ttl_ms: int) -> Lease | None:
        """See :meth:`.SqlDriver.lease`."""
        rows = await link.fetch(statements.TAKE_LEASE, row_id, owner, ttl_ms)
        return Lease(*rows[0]) if rows else None

    async def prolong(self, link: Link, row_id: bytes, owner: bytes, ttl_ms: int) -> bool:
        """See :meth:`.SqlDriver.prolong`."""
        return bool(await link.fetch(statements.EXTEND_LEASE, row_id, owner, ttl_ms))

    async def release(self, link: Link, row_id: bytes, owner: bytes) -> bool:
        """See :meth:`.SqlDriver.release`."""
        return bool(await link.fetch(statements.RELEASE_LEASE, row_id, owner))

    async def collect(self, link: Link, now: int) -> None:
        """See :meth:`.SqlDriver.collect`."""
        for statement in statements.COLLECT:
            await link.fetch(statement, now)

    async def users(self, link: Link, namespace: bytes | None, after: bytes, limit: int) -> Sequence[Sequence[Any]]:
        """See :meth:`.SqlDriver.users`."""
        if namespace is None:
            return await link.fetch(statements.LIST_USERS, after, limit)
        return await link.fetch(statements.LIST_USERS_OF, after, limit, namespace)

    async def expiring(self, link: Link, before: int, after: tuple[int, bytes], limit: int) -> Sequence[Sequence[Any]]:
        """See :meth:`.SqlDriver.expiring`."""
        return await link.fetch(statements.LIST_EXPIRING, before, after[0], after[1], limit)

    async def number(self, link: Link, namespace: bytes | None) -> int:
        """See :meth:`.SqlDriver.number`."""
        rows = await (link.fetch(statements.COUNT) if namespace is None else link.fetch(statements.COUNT_OF, namespace))
        return int(rows[0][0])


def _statement(put: Put) -> str:
    if put.expected_version or put.expected_lineage is not None:
        return statements.UPDATE
    return statements.UPSERT if put.expected_version is None else statements.UPSERT_IF_NONE
