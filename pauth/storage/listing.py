"""Listings without pages: one record after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pauth.storage.base import CoordinatedTokenStorage, Expiring, Listed

__all__ = ["iter_expiring", "iter_users"]


async def iter_users(storage: CoordinatedTokenStorage, namespace: str | None = None, *, batch: int = 1000) -> AsyncIterator[Listed]:
    """Each record of one namespace, or (``None``) of all, in no order that means anything.

    While records change, each that exists from the beginning to the end is given exactly once.

    :param batch: how many are fetched at once, up to 10,000.
    :raises ConfigurationError: a storage with three methods has no lists.
    :raises StorageUnavailable: the store does not answer.
    """
    cursor: str | None = None
    while True:
        page = await storage.list_users(namespace, cursor=cursor, limit=batch)
        for item in page.items:
            yield item
        cursor = page.next_cursor
        if cursor is None:
            return


async def iter_expiring(storage: CoordinatedTokenStorage, before: float, *, batch: int = 1000) -> AsyncIterator[Expiring]:
    """Each record whose access token expires before a moment (seconds since the Unix epoch), the earliest first.

    One that is written meanwhile is given as it was, as it is, or both.

    :param batch: how many are fetched at once, up to 10,000.
    :raises ConfigurationError: a storage with three methods has no lists.
    :raises StorageUnavailable: the store does not answer.
    """
    cursor: str | None = None
    while True:
        page = await storage.list_expiring(before, cursor=cursor, limit=batch)
        for item in page.items:
            yield item
        cursor = page.next_cursor
        if cursor is None:
            return
