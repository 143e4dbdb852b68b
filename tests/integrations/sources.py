"""A client for threads, as integrations of blocking libraries take it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pauth import OAuth2Client, Token

T = TypeVar("T")


class BlockingSource:
    """Its calls run on the loop that it was made in."""

    def __init__(self, client: OAuth2Client) -> None:
        self.client = client
        self.loop = asyncio.get_running_loop()

    def get_token(self, user_id: str) -> Token:
        return self._wait(self.client.get_token(user_id))

    def refresh(self, user_id: str, *, if_version: str | None = None) -> Token:
        return self._wait(self.client.refresh(user_id, if_version=if_version))

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self.loop).result()
