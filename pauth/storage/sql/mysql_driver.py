"""Rows in MariaDB and MySQL.

Neither says what an upsert with a condition did, so that a write is a short transaction: lock the rows and read their versions, decide, write. It
uses nothing that only one of the two understands. Every statement finds its rows by primary key, and in order of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, cast

from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable

from pauth.storage.driver import Delete, Lease, Put
from pauth.storage.sql.driver import Fault, SqlDriver
from pauth.storage.sql.links import Link, Links
from pauth.storage.sql.mysql_errors import fault_for
from pauth.storage.sql.mysql_links import MysqlLink
from pauth.storage.sql.tables import RETIRED_FOR_MS, metadata

__all__ = ["MysqlDriver"]

# ruff: noqa: S608  # values stand in the statements as numbers and hexadecimal digits, nothing else can

_DIALECT: Final = mysql.dialect()
_NOW: Final = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000"
_COLUMNS: Final = "id, namespace, user_id, version, stored_at, expires_at, lineage, key_id, record"
_RENEWED: Final = ", ".join(f"{name} = VALUES({name})" for name in ("user_id", "version", "stored_at", "expires_at", "lineage", "key_id", "record"))
_USERS: Final = "SELECT id, namespace, user_id, version, key_id FROM pauth_tokens"


class MysqlDriver(SqlDriver):
    """Implements :class:`.Driver`.

    A write is durable when it returns unless the server has ``innodb_flush_log_at_trx_commit`` set to another value than 1.

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
        columns = "id, version, stored_at, expires_at, lineage, record"
        return await link.fetch(f"SELECT {columns} FROM pauth_tokens WHERE id IN {_list(row_ids)} AND record IS NOT NULL")

    async def write(self, link: Link, puts: Sequence[Put]) -> Mapping[bytes, int]:
        """See :meth:`.SqlDriver.write`."""
        link = cast("MysqlLink", link)
        ids = _list(put.row_id for put in puts)
        async with link.transaction():
            rows = await link.fetch(f"SELECT id, version, lineage, record IS NOT NULL FROM pauth_tokens WHERE id IN {ids} ORDER BY id FOR UPDATE")
            kept = {row[0]: row for row in rows}
            versions: dict[bytes, int] = {}
            new: list[str] = []
            renewed: list[str] = []
            for put in puts:
                _, version, lineage, there = kept.get(put.row_id, (None, 0, None, False))
                if not _may(put, version if there else 0, lineage if there else None):
                    continue
                versions[put.row_id] = version + 1
                values = (*put[:3], version + 1, *put[5:])
                (renewed if put.row_id in kept else new).append(_list(values))
            if new:  # fails if another transaction makes one of the rows now; then all is done again
                await link.change(f"INSERT INTO pauth_tokens ({_COLUMNS}) VALUES {', '.join(new)}")
            if renewed:
                await link.change(f"INSERT INTO pauth_tokens ({_COLUMNS}) VALUES {', '.join(renewed)} ON DUPLICATE KEY UPDATE {_RENEWED}")
        return versions

    async def rewrite(self, link: Link, puts: Sequence[Put]) -> Mapping[bytes, bool]:
        """See :meth:`.SqlDriver.rewrite`."""
        link = cast("MysqlLink", link)
        async with link.transaction():
            ids = _list(put.row_id for put in puts)
            kept = await link.fetch(f"SELECT id, version FROM pauth_tokens WHERE id IN {ids} AND record IS NOT NULL ORDER BY id FOR UPDATE")
            versions: dict[bytes, int] = {row[0]: row[1] for row in kept}
            chosen = [put for put in puts if put.expected_version == versions.get(put.row_id)]
            if chosen:  # none is inserted: each is there and locked
                rows = ", ".join(_list((*put[:4], *put[5:])) for put in chosen)
                changes = "key_id = VALUES(key_id), record = VALUES(record)"
                await link.change(f"INSERT INTO pauth_tokens ({_COLUMNS}) VALUES {rows} ON DUPLICATE KEY UPDATE {changes}")
        return dict.fromkeys((put.row_id for put in chosen), True)

    async def erase(self, link: Link, deletes: Sequence[Delete]) -> Mapping[bytes, bool]:
        """See :meth:`.SqlDriver.erase`."""
        link = cast("MysqlLink", link)
        async with link.transaction():
            ids = _list(item.row_id for item in deletes)
            rows = await link.fetch(f"SELECT id, version FROM pauth_tokens WHERE id IN {ids} AND record IS NOT NULL ORDER BY id FOR UPDATE")
            kept: dict[bytes, int] = {row[0]: row[1] for row in rows}
            erased = [item for item in deletes if item.row_id in kept and item.expected_version in (None, kept[item.row_id])]
            if erased:
                await link.change(
                    "UPDATE pauth_tokens SET user_id = NULL, expires_at = NULL, lineage = NULL, key_id = NULL, record = NULL, "
                    f"stored_at = {max(item.now for item in erased)} WHERE id IN {_list(item.row_id for item in erased)}"
                )
        return dict.fromkeys((item.row_id for item in erased), True)

    async def keep_pending(self, link: Link, row_id: bytes, data: memoryview, expires_at: int) -> None:
        """See :meth:`.SqlDriver.keep_pending`."""
        await cast("MysqlLink", link).change(
            f"INSERT INTO pauth_pending (id, expires_at, record) VALUES {_list((row_id, expires_at, data))} "
            "ON DUPLICATE KEY UPDATE expires_at = VALUES(expires_at), record = VALUES(record)"
        )

    async def pull_pending(self, link: Link, row_id: bytes) -> tuple[int, bytes] | None:
        """See :meth:`.SqlDriver.pull_pending`."""
        link = cast("MysqlLink", link)
        async with link.transaction():
            rows = await link.fetch(f"SELECT expires_at, record FROM pauth_pending WHERE id = {_literal(row_id)} FOR UPDATE")
            if rows:
                await link.change(f"DELETE FROM pauth_pending WHERE id = {_literal(row_id)}")
        return (rows[0][0], rows[0][1]) if rows else None

    async def lease(self, link: Link, row_id: bytes, owner: bytes, ttl_ms: int) -> Lease | None:
        """See :meth:`.SqlDriver.lease`."""
        link = cast("MysqlLink", link)
        key = _literal(row_id)
        async with link.transaction():
            rows = await link.fetch(f"SELECT owner, fence, until FROM pauth_leases WHERE id = {key} FOR UPDATE")
            (now,) = (await link.fetch(f"SELECT {_NOW}"))[0]  # now that the row is ours
            if not rows:  # as above
                await link.change(
                    f"INSERT INTO pauth_leases (id, owner, fence, ttl, until) VALUES {_list((row_id, owner, now, ttl_ms, now + ttl_ms))}"
                )
                return Lease(now, ttl_ms)
            holder, fence, until = rows[0]
            if holder is None or until <= now:
                fence = max(fence + 1, now)
            elif holder != owner:
                return None
            await link.change(
                f"UPDATE pauth_leases SET owner = {_literal(owner)}, fence = {fence}, ttl = {ttl_ms}, until = {now + ttl_ms} WHERE id = {key}"
            )
        return Lease(fence, ttl_ms)

    async def prolong(self, link: Link, row_id: bytes, owner: bytes, ttl_ms: int) -> bool:
        """See :meth:`.SqlDriver.prolong`."""
        # ttl first: an assignment sees the columns as those before it left them, and the condition as they were
        return await cast("MysqlLink", link).change(f"UPDATE pauth_leases SET ttl = {ttl_ms}, until = {_NOW} + {ttl_ms} {_held(row_id, owner)}") > 0

    async def release(self, link: Link, row_id: bytes, owner: bytes) -> bool:
        """See :meth:`.SqlDriver.release`."""
        return await cast("MysqlLink", link).change(f"UPDATE pauth_leases SET owner = NULL {_held(row_id, owner)}") > 0

    async def collect(self, link: Link, now: int) -> None:
        """See :meth:`.SqlDriver.collect`."""
        await link.fetch(f"DELETE FROM pauth_pending WHERE expires_at <= {now}")
        await link.fetch(f"DELETE FROM pauth_tokens WHERE record IS NULL AND stored_at <= {now - RETIRED_FOR_MS}")
        await link.fetch(
            f"DELETE FROM pauth_leases WHERE (owner IS NULL OR until <= {_NOW}) AND GREATEST(fence, until) <= LEAST({now}, {_NOW}) - {RETIRED_FOR_MS}"
        )

    async def users(self, link: Link, namespace: bytes | None, after: bytes, limit: int) -> Sequence[Sequence[Any]]:
        """See :meth:`.SqlDriver.users`."""
        condition = "" if namespace is None else f"namespace = {_literal(namespace)} AND "
        return await link.fetch(f"{_USERS} WHERE {condition}id > {_literal(after)} AND record IS NOT NULL ORDER BY id LIMIT {limit}")

    async def expiring(self, link: Link, before: int, after: tuple[int, bytes], limit: int) -> Sequence[Sequence[Any]]:
        """See :meth:`.SqlDriver.expiring`."""
        moment, row_id = after
        return await link.fetch(
            # two ranges of the index, and seen as such only when put like this: else all that expire at the moment are read for each page
            f"SELECT expires_at, id, namespace, user_id, version FROM pauth_tokens WHERE expires_at < {before} AND (expires_at > {moment} "
            f"OR (expires_at = {moment} AND id > {_literal(row_id)})) AND record IS NOT NULL ORDER BY expires_at, id LIMIT {limit}"
        )

    async def number(self, link: Link, namespace: bytes | None) -> int:
        """See :meth:`.SqlDriver.number`."""
        condition = "" if namespace is None else f" AND namespace = {_literal(namespace)}"
        return int((await link.fetch(f"SELECT count(*) FROM pauth_tokens WHERE record IS NOT NULL{condition}"))[0][0])


def _may(put: Put, version: int, lineage: bytes | None) -> bool:
    """Whether a write's conditions hold for the record there is; version 0 is none."""
    if put.expected_version is not None and put.expected_version != version:
        return False
    return put.expected_lineage is None or put.expected_lineage == lineage


def _held(row_id: bytes, owner: bytes) -> str:
    return f"WHERE id = {_literal(row_id)} AND owner = {_literal(owner)} AND until > {_NOW}"


def _list(values: Iterable[object]) -> str:
    return f"({', '.join(map(_literal, values))})"


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else f"x'{cast('bytes', value).hex()}'"
