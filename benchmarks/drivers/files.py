"""Files: beside one executor hop that writes a temporary file, syncs it and renames it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from benchmarks.contender import Contender, Entry, Place, Role, Row, optional
from benchmarks.drivers.common import pauth_entry, peer_entry
from benchmarks.workload import KEY, NAMESPACE, RECORD

__all__ = ["ROW"]

_THREADS: Final = 8


def _one_hop(*, sync_folder: bool) -> Callable[[Place], AbstractAsyncContextManager[Contender]]:
    @asynccontextmanager
    async def opened(place: Place) -> AsyncGenerator[Contender]:
        folder = place.folder / f"one-hop-{sync_folder}"
        folder.mkdir()
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        loop = asyncio.get_running_loop()

        def write(user: str) -> None:
            target = f"{folder}/{user}"
            descriptor = os.open(f"{target}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(descriptor, RECORD)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(f"{target}.new", target)  # noqa: PTH105  # the floor: no objects beside the calls
            if sync_folder:
                os.fsync(directory)

        def read(user: str) -> bytes:
            descriptor = os.open(f"{folder}/{user}", os.O_RDONLY)
            try:
                return os.read(descriptor, os.fstat(descriptor).st_size)
            finally:
                os.close(descriptor)

        with ThreadPoolExecutor(_THREADS) as executor:
            try:
                yield Contender(lambda user: loop.run_in_executor(executor, write, user), lambda user: loop.run_in_executor(executor, read, user))
            finally:
                os.close(directory)

    return opened


def _pauth(place: Place) -> Any:
    from pauth.storage.files import EncryptedFileStorage

    return EncryptedFileStorage(place.folder / "pauth", KEY, namespace=NAMESPACE)


def _peer(place: Place) -> Any:
    module = optional("key_value.aio.stores.filetree", "'py-key-value-aio[filetree]'")
    folder = place.folder / "py-key-value"
    folder.mkdir()
    return module.FileTreeStore(data_directory=folder)


ROW: Final = Row(
    "files",
    (
        Entry("pauth", Role.PAUTH, pauth_entry(_pauth)),
        Entry("one hop: write, fsync, rename", Role.FLOOR, _one_hop(sync_folder=False)),
        Entry("one hop, folder synced too", Role.OTHER, _one_hop(sync_folder=True)),
        Entry("py-key-value FileTreeStore, Fernet", Role.PEER, peer_entry(_peer, extra="filetree")),
    ),
)
