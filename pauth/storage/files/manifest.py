"""The file ``folder`` of a token folder: its layout version and its secret, encrypted with the storage's keys; and what follows from the secret.

A name is a keyed hash (BLAKE2b) of the row id under the secret, in hexadecimal: it carries no text of a user's (FS-1), and who has only the
disk cannot find out whether somebody is a user by hashing guesses. Rotating encryption keys rewrites the secret's encryption, not the names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from pauth.errors import UnsupportedRecord

__all__ = ["MANIFEST", "TOKEN", "Names", "fresh_manifest", "secret_in"]

MANIFEST: Final = "folder"
TOKEN: Final = ".token"
"""How the name of a record's file ends."""

_LAYOUT: Final = 1


def fresh_manifest() -> dict[str, object]:
    """What a new folder begins with."""
    return {"layout": _LAYOUT, "secret": os.urandom(32).hex()}


def secret_in(manifest: Mapping[str, object]) -> bytes:
    """The folder's secret.

    :raises UnsupportedRecord: the folder has a newer layout.
    """
    if manifest.get("layout") != _LAYOUT:
        raise UnsupportedRecord(f"the token folder has layout {manifest.get('layout')!r}; a newer version of pauth made it: upgrade this one")
    return bytes.fromhex(str(manifest["secret"]))


class Names:
    """What a folder's secret decides: how files are called, and the key of the tags that authenticate them."""

    __slots__ = ("_key", "tag_key")

    def __init__(self, secret: bytes) -> None:
        self._key = blake2b(b"pauth file names", digest_size=32, key=secret).digest()
        self.tag_key: bytes = blake2b(b"pauth file tags", digest_size=32, key=secret).digest()

    def name(self, row_id: bytes) -> str:
        """What the files of a row are called, without their ending; its first two characters are the shard."""
        return blake2b(row_id, digest_size=32, key=self._key).hexdigest()
