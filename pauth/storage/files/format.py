"""The bytes of a file of :mod:`pauth.storage.files`, and what proves that they are whole, unchanged and in their place.

A file is ``header | lineage | key id | owner | data | tag``. ``data`` is what the codec made of the tokens; ``owner`` is namespace and user id,
sealed by the same codec and keyring; ``tag`` is keyed BLAKE2b over the file's name and everything before, under a key that only who has the
encryption key knows. So a bit that flips, a file cut short or put in another's place are all found, the times and version in the header included.
"""

from __future__ import annotations

import hmac
import struct
from hashlib import blake2b
from typing import Final, NamedTuple

from pauth.errors import RecordTampered, TokenStorageError, UnsupportedRecord
from pauth.storage.files.folder import MAX_FILE_BYTES

__all__ = ["Content", "claimed_owner", "pack", "peek", "unpack"]

_MAGIC: Final = b"pFil"
_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">4sBQqqBBI")
_TAG_BYTES: Final = 32
_NEVER: Final = -(2**63)
_NOTHING: Final = memoryview(b"")


class Content(NamedTuple):
    """What a file says. Times are milliseconds since the Unix epoch."""

    version: int
    stored_at: int
    expires_at: int | None = None
    lineage: bytes | None = None
    key_id: bytes | None = None
    owner: memoryview = _NOTHING
    data: memoryview = _NOTHING


def pack(content: Content, *, name: str, tag_key: bytes) -> bytes:
    """The bytes of the file ``name``.

    :raises TokenStorageError: more than :data:`.MAX_FILE_BYTES`.
    """
    lineage, key_id = content.lineage or b"", content.key_id or b""
    expires_at = _NEVER if content.expires_at is None else content.expires_at
    header = _HEADER.pack(_MAGIC, _FORMAT, content.version, content.stored_at, expires_at, len(lineage), len(key_id), len(content.owner))
    body = b"".join((header, lineage, key_id, content.owner, content.data))
    if len(body) + _TAG_BYTES > MAX_FILE_BYTES:
        raise TokenStorageError(f"tokens cannot be stored: a record is at most {MAX_FILE_BYTES} bytes")
    return body + _tag(body, name, tag_key)


def unpack(raw: memoryview, *, name: str, tag_key: bytes) -> Content:
    """What :func:`pack` was given.

    :raises RecordTampered: changed, cut short, or another file's content.
    :raises UnsupportedRecord: of a newer format.
    """
    body = raw[:-_TAG_BYTES]
    if len(raw) < _HEADER.size + _TAG_BYTES or not hmac.compare_digest(_tag(body, name, tag_key), raw[-_TAG_BYTES:]):
        if bytes(raw[:4]) == _MAGIC and len(raw) > 4 and raw[4] > _FORMAT:
            raise UnsupportedRecord(f"a stored record has file format {raw[4]}; a newer version of pauth wrote it: upgrade this one")
        raise RecordTampered("a stored record failed authentication: it was changed, cut short or moved from another place")
    _, _, version, stored_at, expires_at, lineage_bytes, key_id_bytes, owner_bytes = _HEADER.unpack_from(body)
    key_id_at = _HEADER.size + lineage_bytes
    owner_at = key_id_at + key_id_bytes
    return Content(
        version,
        stored_at,
        None if expires_at == _NEVER else expires_at,
        bytes(body[_HEADER.size : key_id_at]) or None,
        bytes(body[key_id_at:owner_at]) or None,
        body[owner_at : owner_at + owner_bytes],
        body[owner_at + owner_bytes :],
    )


def peek(raw: memoryview) -> tuple[int, int | None]:
    """Version and expiry as an unchecked file claims them; (0, ``None``) if it claims nothing."""
    if len(raw) < _HEADER.size or bytes(raw[:4]) != _MAGIC:
        return 0, None
    _, _, version, _, expires_at, _, _, _ = _HEADER.unpack_from(raw)
    return version, None if expires_at == _NEVER else expires_at


def claimed_owner(raw: memoryview) -> memoryview:
    """``owner`` as it stands in an unchecked file, if it does."""
    if len(raw) < _HEADER.size:
        return _NOTHING
    *_, lineage_bytes, key_id_bytes, owner_bytes = _HEADER.unpack_from(raw)
    owner_at = _HEADER.size + lineage_bytes + key_id_bytes
    return raw[owner_at : owner_at + owner_bytes]


def _tag(body: bytes | memoryview, name: str, tag_key: bytes) -> bytes:
    tag = blake2b(name.encode(), digest_size=_TAG_BYTES, key=tag_key)  # names are of one length for each ending: nothing runs together
    tag.update(body)
    return tag.digest()
