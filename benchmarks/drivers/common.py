"""What the drivers' contenders share: pauth itself, and py-key-value around whatever store it has for the driver."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final

from benchmarks.contender import Contender, Missing, Place, optional
from benchmarks.workload import NAMESPACE, TOKENS
from pauth.errors import ConfigurationError
from pauth.storage.base import CoordinatedTokenStorage, RecordKey

__all__ = ["SECONDS_KEPT", "TABLE", "pauth_entry", "peer_entry"]

SECONDS_KEPT: Final = 86_400
"""How long those keep a record that have to say so."""

TABLE: Final = "pauth_benchmark"
"""The raw drivers' table."""

_PEER: Final = "py-key-value-aio"


def pauth_entry(make: Callable[[Place], CoordinatedTokenStorage]) -> Callable[[Place], AbstractAsyncContextManager[Contender]]:
    """pauth, as its users call it. What it stored is deleted again."""

    @asynccontextmanager
    async def opened(place: Place) -> AsyncGenerator[Contender]:
        try:
            storage = make(place)
        except (ConfigurationError, ImportError) as error:  # an extra that is not installed; the message says which
            missing = Missing(str(error))
        else:
            try:
                yield Contender(lambda user: storage.save_token(user, TOKENS), storage.get_token)
            finally:
                await storage.delete_many([RecordKey(NAMESPACE, user) for user in place.users])
                await storage.aclose()
            return
        raise missing

    return opened


def peer_entry(make: Callable[[Place], Any], *, extra: str, encrypted: bool = True) -> Callable[[Place], AbstractAsyncContextManager[Contender]]:
    """py-key-value, with its Fernet wrapper where pauth encrypts.

    :param make: makes its store.
    :param extra: of its package, which has what the store needs.
    """

    @asynccontextmanager
    async def opened(place: Place) -> AsyncGenerator[Contender]:
        optional("key_value.aio", _PEER)
        try:
            with warnings.catch_warnings(action="ignore"):  # it warns of stores that may change their format
                store = make(place)
        except ImportError:
            raise Missing(f"not installed: pip install '{_PEER}[{extra}]'") from None
        async with AsyncExitStack() as stack:
            if hasattr(store, "__aenter__"):
                await stack.enter_async_context(store)
            used = store
            if encrypted:
                fernet = optional("cryptography.fernet").Fernet
                used = optional("key_value.aio.wrappers.encryption.fernet").FernetEncryptionWrapper(store, fernet=fernet(fernet.generate_key()))

            async def save(user: str) -> None:
                await used.put(user, TOKENS, collection=TABLE, ttl=SECONDS_KEPT)

            async def get(user: str) -> object:
                return await used.get(user, collection=TABLE)

            try:
                yield Contender(save, get)
            finally:
                await store.delete_many(list(place.users), collection=TABLE)

    return opened
