"""A folder of small sealed files for what a store did not take: written while the store is down, read when it is up again.

It knows names and bytes only; whoever writes here has sealed the bytes. The folder is private, and every file in it is whole or not there
(:mod:`pauth.storage.files.folder`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from pauth.errors import PAuthError, RecordTampered, StorageUnavailable
from pauth.storage.files.folder import Folder, open_folder
from pauth.storage.threads import Threads

__all__ = ["SpillJournal"]

T = TypeVar("T")

_log: Final = logging.getLogger("pauth.storage")

_SUFFIX: Final = ".unsaved"
_MAX_FILES: Final = 10_000


class SpillJournal:
    """Sealed files in ``folder``, which is made when the first one is written. Stores share it: the names of a store's files begin with its own.

    :param store: a short name, of letters and digits, of the store that the files are meant for.
    """

    def __init__(self, folder: str | Path, store: str) -> None:
        self._folder = os.fspath(folder)
        self._store = store

    def __repr__(self) -> str:
        return "<SpillJournal>"

    def name_of(self, what: str) -> str:
        """The name of the file about ``what`` (letters and digits); what is in it shall be sealed under this name."""
        return f"{self._store}-{what}"

    async def write(self, name: str, data: bytes) -> None:
        """Keep ``data``; it is on the disk when this returns.

        :raises StorageUnavailable: it could not be written, or there are 10,000 files already.
        :raises ConfigurationError: the folder is another user's, or others can enter it.
        """

        def work(folder: Folder) -> None:
            if len(folder.names()) >= _MAX_FILES:
                raise StorageUnavailable(f"the journal of unsaved tokens has {_MAX_FILES} files; look why the store does not take them")
            folder.replace(name + _SUFFIX, data)

        await _in_thread(lambda: self._with_folder(work))

    async def read(self) -> dict[str, bytes]:
        """What this store's files hold, by name; nothing if there is no folder. Files that no pauth wrote are passed over, and that is logged.

        :raises StorageUnavailable: the folder cannot be read.
        :raises ConfigurationError: the folder is another user's, or others can enter it.
        """

        def work(folder: Folder) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for each in sorted(folder.names()):
                if each.startswith(f"{self._store}-") and each.endswith(_SUFFIX):
                    data = _read(folder, each)
                    if data is not None:  # else another process has dealt with it
                        found[each.removesuffix(_SUFFIX)] = data
            return found

        def look() -> dict[str, bytes]:
            return self._with_folder(work) if Path(self._folder).is_dir() else {}

        return await _in_thread(look)

    async def read_one(self, name: str) -> bytes | None:
        """What a file holds; ``None`` if there is none, or none of pauth's.

        :raises PAuthError: as :meth:`read`.
        """

        def look() -> bytes | None:
            return self._with_folder(lambda folder: _read(folder, name + _SUFFIX)) if Path(self._folder).is_dir() else None

        return await _in_thread(look)

    async def remove(self, name: str) -> None:
        """Forget a file; no error if it is gone.

        :raises StorageUnavailable: it could not be removed.
        """
        await _in_thread(lambda: self._with_folder(lambda folder: folder.remove(name + _SUFFIX)))

    def _with_folder(self, work: Callable[[Folder], T]) -> T:
        folder = open_folder(self._folder, what="folder of the journal")
        try:
            return work(folder)
        finally:
            folder.close()


def _read(folder: Folder, name: str) -> bytes | None:
    try:
        content = folder.read(name)
    except RecordTampered as error:
        # told, since it may be one of ours: a backup that was put back has other permissions
        _log.error("a file of the journal of unsaved tokens is passed over: %s", error.message)
        return None
    return None if content is None else bytes(content.data)


async def _in_thread(work: Callable[[], T]) -> T:
    # A thread for each piece of work, as there is seldom any; and not an executor's, since a token of the program's last moment is to be written too.
    threads, problem = Threads(1, "pauth-journal"), ""
    try:
        return await threads.run(work)
    except PAuthError:
        raise
    except OSError as error:
        problem = os.strerror(error.errno or 0)
    raise StorageUnavailable(f"the journal of unsaved tokens could not be used: {problem}")
