"""Connections to PostgreSQL, as asyncpg and psycopg make them."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pauth.storage.sql.links import Link

__all__ = ["AsyncpgLink", "PooledAsyncpgLink", "PsycopgLink"]


class AsyncpgLink(Link):
    """asyncpg prepares each statement once per connection."""

    async def fetch(self, statement: str, *parameters: object) -> Sequence[Sequence[Any]]:
        """See :meth:`.Link.fetch`."""
        rows: Sequence[Sequence[Any]] = await self.raw.fetch(statement, *parameters)
        return rows

    @property
    def usable(self) -> bool:
        """See :meth:`.Link.usable`."""
        return not self.raw.is_closed() and not self.raw.is_in_transaction()

    @property
    def transport(self) -> Any:
        """See :attr:`.Link.transport`."""
        return self.raw._transport  # noqa: SLF001  # there is no public way

    def cut(self) -> None:
        """See :meth:`.Link.cut`."""
        self.raw.terminate()

    async def close(self) -> None:
        """See :meth:`.Link.close`."""
        await self.raw.close()


class PooledAsyncpgLink(AsyncpgLink):
    """For a proxy that gives each transaction another server connection: asyncpg needs two round trips on one of them."""

    async def fetch(self, statement: str, *parameters: object) -> Sequence[Sequence[Any]]:
        """See :meth:`.Link.fetch`."""
        async with self.raw.transaction():
            return await super().fetch(statement, *parameters)


class PsycopgLink(Link):
    """psycopg sends a statement with its parameters in one round trip, and prepares nothing unless the user's own connection does."""

    async def fetch(self, statement: str, *parameters: object) -> Sequence[Sequence[Any]]:
        """See :meth:`.Link.fetch`."""
        from psycopg import AsyncRawCursor
        from psycopg.rows import tuple_row

        cursor = AsyncRawCursor(self.raw, row_factory=tuple_row)
        await cursor.execute(statement.encode(), parameters or None, binary=True)
        return await cursor.fetchall() if cursor.description else ()

    @property
    def usable(self) -> bool:
        """See :meth:`.Link.usable`."""
        return not self.raw.closed and self.raw.pgconn.transaction_status == 0 and not _is_over(self.raw.pgconn.socket)

    def cut(self) -> None:
        """See :meth:`.Link.cut`."""
        with suppress(Exception):  # it is closed already
            # not closed: the event loop watches the descriptor, and would not notice
            with socket.socket(fileno=os.dup(self.raw.pgconn.socket)) as connection:
                connection.shutdown(socket.SHUT_RDWR)
            if self.raw.pgconn.transaction_status != 1:  # nobody waits on it
                self.raw.pgconn.finish()

    async def close(self) -> None:
        """See :meth:`.Link.close`."""
        await self.raw.close()


def _is_over(descriptor: int) -> bool:
    """Whether the server has closed it, or said why it will: what it says unasked is an error, as far as it can be read."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.settimeout(0)
        try:
            return connection.recv(1, socket.MSG_PEEK) in (b"", b"E")
        except BlockingIOError:
            return False
        except OSError:
            return True
