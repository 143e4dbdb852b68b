"""What the drivers of database servers have in common. A dialect derives from :class:`SqlDriver` and gives its own statements.

Every operation is one statement in AUTOCOMMIT, or one short transaction where the database cannot do better; none is open while anything else is
waited for (SQ-3). A read on a connection that turns out to be dead is done again on another; a write whose fate is unknown never is.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable, TokenStorageError
from pauth.storage.driver import Delete, ExpiringRow, Lease, Put, Row, UserRow
from pauth.storage.sql import tables as sql
from pauth.storage.sql.links import Late, Link, Links, NotConnected

__all__ = ["Fault", "SqlDriver"]

T = TypeVar("T")

_COLLECT_EVERY_MS: Final = 60_000
_ATTEMPTS: Final = 8
_READ_SCHEMA: Final = "SELECT version FROM pauth_schema WHERE id = 1"
_WRITE_SCHEMA: Final = f"INSERT INTO pauth_schema (id, version) VALUES (1, {sql.SCHEMA_VERSION})"  # noqa: S608  # a number of ours
_MAY_HAVE_HAPPENED: Final = "what it was asked to do may have happened"


class Fault(NamedTuple):
    """What an error of the library's means."""

    error: PAuthError
    """What to raise in its place: its own text may hold the statement's parameters."""

    lost: bool = False
    """The connection is gone, and it cannot be told whether the server did what it was asked."""

    passes: bool = False
    """Nothing was done because of who else was at work: a deadlock, a serialisation failure (SQ-6)."""

    of_one_row: bool = False
    """Nothing was done because of one row; others of its batch may well be written."""

    no_table: bool = False
    there_already: bool = False


class _Failed(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault


class SqlDriver(ABC):
    """Rows in a database server. Implements :class:`.Driver`.

    :param timeout: seconds after which an operation is given up.
    :param store_id: see :attr:`.Driver.store_id`.
    """

    checks_owners: ClassVar[bool] = False
    """See :attr:`.Driver.checks_owners`."""

    lanes: ClassVar[int] = 2
    """Batches of one event loop that are under way at once. With more of them batches are smaller, and do less per round trip and commit."""

    def __init__(self, *, timeout: float, store_id: tuple[str, ...] | None) -> None:
        self.store_id: tuple[str, ...] | None = store_id
        self._timeout = timeout
        self._collect_at = 0
        self._links = self.links(timeout)

    # --- what a dialect gives. Rows come sorted by their id, so that two batches never wait for each other (deadlock)

    create: ClassVar[Sequence[str]]
    """Statements that make tables and indexes; one that says "is there already" was done before."""

    @abstractmethod
    def links(self, timeout: float) -> Links:
        """Connections, with the tables made by :meth:`prepare`."""

    @abstractmethod
    def fault(self, error: Exception) -> Fault:
        """What an error means."""

    def groups(self, puts: Sequence[Put]) -> Sequence[Sequence[Put]]:
        """Those that :meth:`write` can write at once."""
        return (puts,)

    @abstractmethod
    async def load(self, link: Link, row_ids: Sequence[bytes]) -> Sequence[Sequence[Any]]:
        """Rows that have a record: the row id, then the columns of :class:`.Row`."""

    @abstractmethod
    async def write(self, link: Link, puts: Sequence[Put]) -> Mapping[bytes, int]:
        """Write rows, each under its conditions. The versions of those written, by row id."""

    @abstractmethod
    async def erase(self, link: Link, deletes: Sequence[Delete]) -> Mapping[bytes, bool]:
        """Take ``record``, ``user_id``, ``expires_at``, ``lineage`` and ``key_id`` from rows. ``True`` for those that had a record."""

    @abstractmethod
    async def keep_pending(self, link: Link, row_id: bytes, data: memoryview, expires_at: int) -> None:
        """Insert or replace a pending login."""

    @abstractmethod
    async def pull_pending(self, link: Link, row_id: bytes) -> tuple[int, bytes] | None:
        """Delete a pending login and give its ``expires_at`` and ``record``, to one caller only."""

    @abstractmethod
    async def lease(self, link: Link, row_id: bytes, owner: bytes, ttl_ms: int) -> Lease | None:
        """See :meth:`.Driver.take_lease`. Time is the database server's."""

    @abstractmethod
    async def prolong(self, link: Link, row_id: bytes, owner: bytes, ttl_ms: int) -> bool:
        """See :meth:`.Driver.extend_lease`."""

    @abstractmethod
    async def release(self, link: Link, row_id: bytes, owner: bytes) -> bool:
        """See :meth:`.Driver.release_lease`. The row stays, with its fence and without an owner."""

    @abstractmethod
    async def rewrite(self, link: Link, puts: Sequence[Put]) -> Mapping[bytes, bool]:
        """Put ``record`` and ``key_id`` in the place of a row's, where it has ``expected_version``. ``True`` for those done, by row id."""

    @abstractmethod
    async def collect(self, link: Link, now: int) -> None:
        """Delete pending logins that are over, and versions of deleted records and fences of leases that have been for a day."""

    @abstractmethod
    async def users(self, link: Link, namespace: bytes | None, after: bytes, limit: int) -> Sequence[Sequence[Any]]:
        """See :meth:`.Driver.list_users`."""

    @abstractmethod
    async def expiring(self, link: Link, before: int, after: tuple[int, bytes], limit: int) -> Sequence[Sequence[Any]]:
        """See :meth:`.Driver.list_expiring`."""

    @abstractmethod
    async def number(self, link: Link, namespace: bytes | None) -> int:
        """See :meth:`.Driver.count`."""

    # --- the driver

    async def get_many(self, row_ids: Sequence[bytes]) -> Sequence[Row | None]:
        """See :meth:`.Driver.get_many`."""
        rows = await self._run(lambda link: self.load(link, row_ids), read=True)
        found = {row[0]: Row(row[1], row[2], row[3], row[4], memoryview(row[5])) for row in rows}
        return [found.get(row_id) for row_id in row_ids]

    async def put_many(self, puts: Sequence[Put]) -> Sequence[int | Exception | None]:
        """See :meth:`.Driver.put_many`."""
        written: dict[bytes, Any] = {}
        groups = self.groups(sorted(puts, key=_row_id))
        for group in groups:
            try:
                written.update(await self._batch(self.write, group))
            except PAuthError as error:
                if len(groups) == 1:
                    raise
                written.update({put.row_id: error for put in group})  # another group may have been written
        return [written.get(put.row_id) for put in puts]

    async def delete_many(self, deletes: Sequence[Delete]) -> Sequence[bool | Exception]:
        """See :meth:`.Driver.delete_many`."""
        erased = await self._batch(self.erase, sorted(deletes, key=_row_id))
        return [erased.get(delete.row_id, False) for delete in deletes]

    async def rewrite_many(self, puts: Sequence[Put]) -> Sequence[bool | Exception]:
        """See :meth:`.Driver.rewrite_many`."""
        rewritten = await self._batch(self.rewrite, sorted(puts, key=_row_id))
        return [rewritten.get(put.row_id, False) for put in puts]

    async def put_pending(self, row_id: bytes, data: memoryview, *, expires_at: int, now: int) -> None:
        """See :meth:`.Driver.put_pending`. Once a minute, what is over is collected here."""
        await self._run(lambda link: self.keep_pending(link, row_id, data, expires_at))
        if now >= self._collect_at:
            self._collect_at = now + _COLLECT_EVERY_MS
            with suppress(TokenStorageError):  # the login is kept; the next minute's will collect
                await self._run(lambda link: self.collect(link, now))

    async def take_pending(self, row_id: bytes, *, now: int) -> memoryview | None:
        """See :meth:`.Driver.take_pending`."""
        found = await self._run(lambda link: self.pull_pending(link, row_id))
        return memoryview(found[1]) if found is not None and found[0] > now else None

    async def take_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> Lease | None:
        """See :meth:`.Driver.take_lease`."""
        return await self._run(lambda link: self.lease(link, row_id, owner, ttl_ms))

    async def extend_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> bool:
        """See :meth:`.Driver.extend_lease`."""
        return await self._run(lambda link: self.prolong(link, row_id, owner, ttl_ms))

    async def release_lease(self, row_id: bytes, owner: bytes) -> bool:
        """See :meth:`.Driver.release_lease`."""
        return await self._run(lambda link: self.release(link, row_id, owner))

    async def list_users(self, namespace: bytes | None, *, after: bytes, limit: int) -> Sequence[UserRow]:
        """See :meth:`.Driver.list_users`."""
        return [UserRow(*row) for row in await self._run(lambda link: self.users(link, namespace, after, limit), read=True)]

    async def list_expiring(self, *, before: int, after: tuple[int, bytes], limit: int) -> Sequence[ExpiringRow]:
        """See :meth:`.Driver.list_expiring`."""
        return [ExpiringRow(*row) for row in await self._run(lambda link: self.expiring(link, before, after, limit), read=True)]

    async def count(self, namespace: bytes | None) -> int:
        """See :meth:`.Driver.count`."""
        return await self._run(lambda link: self.number(link, namespace), read=True)

    async def aclose(self) -> None:
        """See :meth:`.Driver.aclose`. A user's engine stays open."""
        await self._links.aclose()

    async def prepare(self, link: Link) -> None:
        """Make the tables that are missing. Others may do it at once; where all is there, no right to make tables is needed.

        :raises ConfigurationError: they were made by a newer pauth.
        """
        found = await self._schema(link)
        if found is None:
            for statement in (*self.create, _WRITE_SCHEMA):
                await self._unless_there(link, statement)
            found = await self._schema(link)
        if found != sql.SCHEMA_VERSION:
            raise ConfigurationError(
                f"the token database has schema version {found}, this version of pauth reads {sql.SCHEMA_VERSION}; "
                "upgrade pauth, or use another database"
            )

    async def _schema(self, link: Link) -> int | None:
        """The version in the database; ``None`` if there is no table, or nothing in it."""
        try:
            rows = await link.fetch(_READ_SCHEMA)
        except Exception as error:
            if not self.fault(error).no_table:
                raise
            return None
        return rows[0][0] if rows else None

    async def _unless_there(self, link: Link, statement: str) -> None:
        try:
            await link.fetch(statement)
        except Exception as error:
            if not self.fault(error).there_already:
                raise

    # --- how they are run

    async def _batch(self, work: Callable[[Link, Sequence[Any]], Awaitable[Mapping[bytes, Any]]], items: Sequence[Any]) -> Mapping[bytes, Any]:
        """What ``work`` does for all items at once; if one of them is at fault, for each by itself."""
        fault: Fault
        try:
            return await self._attempt(lambda link: work(link, items))
        except _Failed as failed:
            fault = failed.fault
        if len(items) == 1 or not fault.of_one_row:
            raise fault.error
        answers: dict[bytes, Any] = {}
        for item in items:
            try:
                answers.update(await self._batch(work, (item,)))
            except PAuthError as error:
                answers[item.row_id] = error
        return answers

    async def _run(self, work: Callable[[Link], Awaitable[T]], *, read: bool = False) -> T:
        """What ``work`` gives on a connection.

        :raises PAuthError: in place of the database's error, which is not in its context.
        """
        fault: Fault
        try:
            return await self._attempt(work, read=read)
        except _Failed as failed:
            fault = failed.fault
        raise fault.error

    async def _attempt(self, work: Callable[[Link], Awaitable[T]], *, read: bool = False) -> T:
        attempt = 0
        while True:
            try:
                return await self._links.run(work)
            except PAuthError:
                raise
            except Late:
                fault = Fault(StorageUnavailable(f"the token database did not answer within {self._timeout:g} seconds; {_MAY_HAVE_HAPPENED}"))
            except NotConnected as failed:
                fault = self.fault(failed.error)._replace(lost=False)
            except Exception as error:  # noqa: BLE001  # the libraries raise those of sockets, TLS and their own
                fault = self.fault(error)
            attempt += 1
            if attempt == _ATTEMPTS or not (fault.passes or (read and fault.lost)):
                raise _Failed(fault)
            if fault.passes:
                await asyncio.sleep(random.random() * 0.001 * 2**attempt)  # noqa: S311  # so that those who met do not meet again


def _row_id(item: Any) -> bytes:
    row_id: bytes = item.row_id
    return row_id
