"""One record out of a token folder, for a program that wants nothing else and ends: no event loop, no thread, no lock, nothing made or changed.

What stands at a name is always whole, so a reader needs no lock (:mod:`pauth.storage.files.storage`).
"""

from __future__ import annotations

import os
from typing import Any

from pauth.errors import PAuthError, RecordTampered
from pauth.storage.codec import Codec, RecordKind
from pauth.storage.files.errors import error_for
from pauth.storage.files.folder import Folder, open_folder
from pauth.storage.files.format import unpack
from pauth.storage.files.manifest import MANIFEST, TOKEN, Names, secret_in
from pauth.storage.identity import row_id
from pauth.storage.keys import Keyring
from pauth.storage.record_key import RecordKey

__all__ = ["TokenReader"]


class TokenReader:
    """Reads records of a token folder. Blocks.

    :param directory: a folder of :class:`.EncryptedFileStorage`.
    :param keyring: its keys.
    :raises ConfigurationError: the path is not a private folder of ours.
    :raises RecordTampered: it is no token folder, or a broken one.
    :raises UnknownEncryptionKey: it was made with a key that is not on the keyring.
    :raises UnsupportedRecord: a newer pauth made it.
    :raises TokenStorageError: it cannot be read.
    """

    def __init__(self, directory: str, keyring: Keyring) -> None:
        self._codec = Codec(keyring)
        folder: Folder | None = None
        failure: PAuthError | None = None
        try:
            os.stat(directory)  # noqa: PTH116  # open_folder makes what is missing
            folder = open_folder(directory)
        except OSError as error:
            failure = error_for(error)
        if folder is None:
            raise failure or RecordTampered("the token folder is not there")
        self._folder = folder
        try:
            found = folder.read(MANIFEST)
            if found is None:
                raise RecordTampered(f"the token folder has no file {MANIFEST!r}; pauth did not make it")
            self._names = Names(secret_in(self._codec.decode(RecordKind.FOLDER, MANIFEST, 0, found.data)))
        except BaseException:
            folder.close()
            raise

    def close(self) -> None:
        """Let go of the folder."""
        self._folder.close()

    def get(self, key: RecordKey) -> dict[str, Any] | None:
        """The tokens of a record; ``None`` if there is none.

        :raises RecordUnreadable: it is there but cannot be read.
        """
        name = self._names.name(row_id(key.namespace, key.user_id))
        shard = self._folder.subfolder(name[:2])
        if shard is None:
            return None
        try:
            found = shard.read(name + TOKEN)
        finally:
            shard.close()
        if found is None:
            return None
        content = unpack(found.data, name=name + TOKEN, tag_key=self._names.tag_key)
        return self._codec.decode(RecordKind.TOKENS, key, content.version, content.data)
