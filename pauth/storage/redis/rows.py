"""What the Redis driver's keys and values look like, byte by byte.

Keys are ``prefix:{tag}:kind:hash``. No text of a user is in them: the hash is the row id, in hexadecimal. The tag in braces is what Redis Cluster
places a key by. There are 32, chosen by the first byte of the row id, so that a record, its lease and the index that names it live in one
slot; the slots of the tags are spread evenly. Tags follow row ids in order, so that a listing walks the indexes one after the other.

A record is ``"pR1L" | version (8) | flags (1) | stored at (8) | expires at (8) | lineage (16) | key id (8) | two lengths (4, 4) | namespace |
user id | data``, numbers big-endian, times in milliseconds.
"""

from __future__ import annotations

import re
import struct
from binascii import crc_hqx, hexlify, unhexlify
from typing import Final, NamedTuple

from pauth.errors import ConfigurationError, UnsupportedRecord
from pauth.storage.driver import Delete, ExpiringRow, Put, Row, UserRow

__all__ = [
    "EXPIRING_ENTRY",
    "SHARDS",
    "SLOTS",
    "USER_ENTRY",
    "Entries",
    "Keys",
    "delete_meta",
    "entries_in",
    "expiring_bound",
    "expiring_row",
    "heads_in",
    "live_row",
    "put_meta",
    "put_rest",
    "rewritten",
    "shard_of",
    "shard_of_entry",
    "user_row",
]

# Part of the format: a record is found where it was put. In the order of their slots.
_TAGS: Final = tuple(b"6u by 25 f9 tf db o2 gg 8c 7s 4g 4v ed m1 fa 2m k4 ca 4h x5 63 ez 2s yk z6 6k ab i7 c9 tx gy 40".split())
SHARDS: Final = len(_TAGS)
SLOTS: Final = tuple(crc_hqx(tag, 0) % 16384 for tag in _TAGS)
"""The slot of each shard in a Redis Cluster."""

_LIVE: Final = b"pR1L"
_DELETED: Final = b"pR1D"
_HEAD: Final = struct.Struct(">4sQBqQ16s8sII")
_REST: Final = struct.Struct(">BqQ16s8sII")
_PUT_META: Final = struct.Struct(">HqB16s32s")
_DELETE_META: Final = struct.Struct(">Hq32sq")
_EXPIRES: Final = 1
_LINEAGE: Final = 2
_KEY_ID: Final = 4

_BIAS: Final = 1 << 52
"""Added to times, so that their bytes are in order, and exact in Lua's floating-point numbers, before 1970 too."""

USER_ENTRY: Final = 33
"""How long an index's entry is that stands for a record, in bytes."""

EXPIRING_ENTRY: Final = 41
"""How long one is that stands for a record's expiry."""

_STRANGE: Final = "an index of pauth's in Redis does not hold what this version of pauth writes"
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)


def shard_of(row_id: bytes) -> int:
    """Which of the :data:`SHARDS` a row is in."""
    return row_id[0] >> 3


class Keys:
    """The names of the keys under one prefix. No prefix's keys are another's, whatever the prefixes (RD-1).

    :raises ConfigurationError: the prefix is not 1 to 64 of ``A-Z a-z 0-9 _ . : -``.
    """

    def __init__(self, prefix: str) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ConfigurationError("a Redis key prefix must be 1 to 64 of the characters A-Z a-z 0-9 _ . : -")
        tagged = [b"%s:{%s}:" % (prefix.encode(), tag) for tag in _TAGS]
        self.records: list[bytes] = [start + b"r:" for start in tagged]
        """What the keys of records begin with, by shard."""
        self._leases = [start + b"l:" for start in tagged]
        self._pending = [start + b"p:" for start in tagged]
        self.indexes: list[bytes] = [start + b"i" for start in tagged]
        self.fences: list[bytes] = [start + b"f" for start in tagged]

    def record(self, row_id: bytes) -> bytes:
        """The key of a row's record."""
        return self.records[row_id[0] >> 3] + hexlify(row_id)

    def row_of(self, key: bytes) -> bytes | None:
        """The row whose record has this key; ``None`` if it is no key of a record's."""
        try:
            row_id = unhexlify(key[-64:])
        except ValueError:
            return None
        return row_id if len(row_id) == 32 and self.record(row_id) == key else None

    def lease(self, row_id: bytes) -> bytes:
        """The key of a row's lease."""
        return self._leases[row_id[0] >> 3] + hexlify(row_id)

    def pending(self, row_id: bytes) -> bytes:
        """The key of a row's pending login."""
        return self._pending[row_id[0] >> 3] + hexlify(row_id)


def put_meta(put: Put, position: int) -> bytes:
    """What the script needs to know of a write; ``position`` is that of its index among the script's."""
    expected = -1 if put.expected_version is None else put.expected_version
    return _PUT_META.pack(position, expected, put.expected_lineage is not None, put.expected_lineage or b"", put.row_id)


def put_rest(put: Put) -> memoryview:
    """A record's value but for its state and version, which the script adds. It does not print (SH-5)."""
    flags = (
        (_EXPIRES if put.expires_at is not None else 0) | (_LINEAGE if put.lineage is not None else 0) | (_KEY_ID if put.key_id is not None else 0)
    )
    rest = _REST.pack(
        flags,
        put.stored_at,
        0 if put.expires_at is None else put.expires_at + _BIAS,
        put.lineage or b"",
        put.key_id or b"",
        len(put.namespace),
        len(put.user_id),
    )
    return memoryview(b"".join((rest, put.namespace, put.user_id, put.data)))


def rewritten(put: Put) -> tuple[bytes, memoryview]:
    """What a record has to begin with to be rewritten, and its whole new value."""
    begins = _LIVE + (put.expected_version or 0).to_bytes(8, "big")
    return begins, memoryview(begins + put_rest(put))


def delete_meta(delete: Delete, position: int) -> bytes:
    """What the script needs to know of a deletion."""
    return _DELETE_META.pack(position, -1 if delete.expected_version is None else delete.expected_version, delete.row_id, delete.now)


def live_row(value: memoryview) -> Row | None:
    """The row a value holds; ``None`` for a deleted one.

    :raises UnsupportedRecord: it is not what this version of pauth writes.
    """
    if len(value) >= _HEAD.size:
        state, version, flags, stored_at, expires_at, lineage, _, namespace_length, user_id_length = _HEAD.unpack_from(value)
        start = _HEAD.size + namespace_length + user_id_length
        if state == _LIVE and start <= len(value):
            return Row(
                version,
                stored_at,
                expires_at - _BIAS if flags & _EXPIRES else None,
                lineage if flags & _LINEAGE else None,
                value[start:],
            )
    if bytes(value[:4]) == _DELETED:
        return None
    raise UnsupportedRecord("a key of pauth's in Redis does not hold what this version of pauth writes")


def user_row(row_id: bytes, head: bytes) -> UserRow:
    """What a record's head, namespace and user id say of it in a listing of users."""
    _, version, flags, _, _, _, key_id, namespace_length, user_id_length = _HEAD.unpack_from(head)
    names = _HEAD.size + namespace_length
    return UserRow(row_id, head[_HEAD.size : names], head[names : names + user_id_length], version, key_id if flags & _KEY_ID else None)


def expiring_row(row_id: bytes, head: bytes) -> ExpiringRow:
    """The same in a listing of what expires."""
    _, version, _, _, expires_at, _, _, namespace_length, user_id_length = _HEAD.unpack_from(head)
    names = _HEAD.size + namespace_length
    return ExpiringRow(expires_at - _BIAS, row_id, head[_HEAD.size : names], head[names : names + user_id_length], version)


def expiring_bound(moment: int, row_id: bytes = b"") -> bytes:
    """Where a moment stands in the order of an index, all of whose entries before it are earlier ones."""
    return b"e" + struct.pack(">Q", min(max(moment + _BIAS, 0), 2**64 - 1)) + row_id


class Entries(NamedTuple):
    """Some of an index."""

    known: list[bytes]
    """Those that this version of pauth knows."""

    last: bytes | None
    """After which there may be more; ``None`` if these are all."""


def entries_in(reply: bytes | list[bytes], length: int, size: int) -> Entries:
    """What was told of an index.

    :param reply: entries in one piece, or each by itself if some are not ``length`` bytes long.
    :param size: how many were asked for, at most.
    :raises UnsupportedRecord: it cannot be that.
    """
    if isinstance(reply, list):
        return Entries([entry for entry in reply if len(entry) == length], reply[-1] if len(reply) == size else None)
    if len(reply) % length:
        raise UnsupportedRecord(_STRANGE)
    known = [reply[at : at + length] for at in range(0, len(reply), length)]
    return Entries(known, known[-1] if len(known) == size else None)


def heads_in(reply: bytes, count: int) -> list[bytes | None]:
    """The heads of so many records with their names, each after its length; ``None`` for one of which there is nothing.

    :raises UnsupportedRecord: they are not that.
    """
    heads: list[bytes | None] = []
    at = 0
    while at < len(reply):
        begins = at + 4
        at = begins + int.from_bytes(reply[at:begins], "big")
        heads.append(reply[begins:at] or None)
    if at != len(reply) or len(heads) != count:
        raise UnsupportedRecord(_STRANGE)
    return heads


def shard_of_entry(entry: bytes) -> int:
    """The shard of an index's entry for an expiring record."""
    return entry[9] >> 3
