"""Connections to MariaDB and MySQL, as asyncmy and aiomysql make them.

Statements come as whole texts: neither library sends parameters apart. Bytes stand in them as hexadecimal literals, which no character set,
SQL mode or escaping rule touches (SQ-1, SQ-4).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from pauth.storage.sql.links import Link

__all__ = ["AiomysqlLink", "AsyncmyLink", "MysqlLink", "TooLarge"]

_SURELY_TAKEN: Final = 1_000_000
"""The length of a statement that every server takes, unless it is set up to take less than a batch."""


class TooLarge(Exception):
    """The server would not take this statement, but end the connection in the middle of it."""


class MysqlLink(Link):
    """One connection in AUTOCOMMIT, which can be in a transaction too."""

    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        self._in_transaction = False
        self._cut = False

    async def fetch(self, statement: str, *parameters: object) -> Sequence[Sequence[Any]]:  # noqa: ARG002  # there are none
        """See :meth:`.Link.fetch`."""
        async with self.raw.cursor() as cursor:
            await cursor.execute(statement)
            rows: Sequence[Sequence[Any]] = await cursor.fetchall() if cursor.description else ()
        return rows

    async def change(self, statement: str) -> int:
        """Run one statement and give how many rows it found."""
        async with self.raw.cursor() as cursor:
            if len(statement) > _SURELY_TAKEN:
                await cursor.execute("SELECT @@max_allowed_packet")
                if len(statement) >= (await cursor.fetchone())[0]:
                    raise TooLarge
            await cursor.execute(statement)
            found: int = cursor.rowcount
        return found

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        """A transaction around several statements. When the block raises it is rolled back."""
        self._in_transaction = True  # and unusable, if anything below fails
        await self.raw.query("START TRANSACTION")
        try:
            yield
        except Exception:
            if not self.is_over:
                await self.raw.query("ROLLBACK")
                self._in_transaction = False
            raise
        await self.raw.query("COMMIT")
        self._in_transaction = False

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether it is closed, as far as can be told without asking."""

    @property
    def usable(self) -> bool:
        """See :meth:`.Link.usable`."""
        return not self._in_transaction and not self._cut and not self.is_over

    def cut(self) -> None:
        """See :meth:`.Link.cut`."""
        self._cut = True
        self.raw.close()

    async def close(self) -> None:
        """See :meth:`.Link.close`."""
        await self.raw.ensure_closed()


class AsyncmyLink(MysqlLink):
    """One of asyncmy's."""

    @property
    def transport(self) -> Any:
        """See :attr:`.Link.transport`."""
        return getattr(self.raw, "_transport", None)

    @property
    def is_over(self) -> bool:
        """See :attr:`.MysqlLink.is_over`."""
        return bool(self.raw._stream_broken)  # noqa: SLF001  # as its own pool does


class AiomysqlLink(MysqlLink):
    """One of aiomysql's."""

    @property
    def transport(self) -> Any:
        """See :attr:`.Link.transport`."""
        return getattr(self.raw._writer, "transport", None)  # noqa: SLF001  # there is no public way

    def abandon(self) -> None:
        """See :meth:`.Link.abandon`."""
        super().abandon()
        self.raw._writer = None  # noqa: SLF001  # or it would warn that it was not closed

    @property
    def is_over(self) -> bool:
        """See :attr:`.MysqlLink.is_over`."""
        reader = self.raw._reader  # noqa: SLF001  # as its own pool does
        return reader is None or reader.at_eof() or reader.exception() is not None
