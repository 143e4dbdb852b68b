"""A record's payload to bytes and back: JSON, encrypted and bound to its place. The same for every driver; drivers move bytes.

A record is ``magic | format | flags | body``. The low bit of ``flags`` says that the body is encrypted, the next one which JSON dialect it
holds. An encrypted body is ``key id (8) | nonce (12) | bound version (8) | AES-256-GCM ciphertext and tag``; the associated data are the whole
header before the nonce, the kind of record, namespace, user id and bound version, each with its length (VC-2), so that a record moved to another
user, client or table fails to authenticate. So does one moved to another version, if its writer knew the version: a login replaces
whatever is there and writes 0 for "any version", so an old login's record that is put back by whoever can write to the store is not noticed.

Records that are Fernet tokens, written before pauth, are read if the keyring has Fernet keys, and are bound to nothing until they are written anew.

Nonces are random: one key may encrypt 2**32 records (NIST SP 800-38D section 8.3). A codec counts what it encrypts and stops there (VC-1).
"""

from __future__ import annotations

import enum
import itertools
import os
import struct
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from pauth.errors import ConfigurationError, RecordTampered, UnknownEncryptionKey, UnsupportedRecord
from pauth.storage.fernet import is_fernet_token, read_fernet
from pauth.storage.keys import Keyring
from pauth.storage.payload import dump, parse
from pauth.storage.record_key import RecordKey

__all__ = ["Codec", "RecordKind", "key_id_of"]

_MAGIC: Final = b"pAuT"
_FORMAT: Final = 1
_ENCRYPTED: Final = 0b01
_DIALECT_SHIFT: Final = 1
_KNOWN_FLAGS: Final = 0b11
_HEADER: Final = struct.Struct(">4sBB")
_SEAL: Final = struct.Struct(">8s12sQ")
_BOUND: Final = struct.Struct(">Q")
_LENGTH: Final = struct.Struct(">I")
_TAG_BYTES: Final = 16
_MAX_RECORDS: Final = 2**32


class RecordKind(enum.Enum):
    """What a record is; part of what its authentication covers."""

    TOKENS = b"tokens"
    PENDING = b"pending"
    FOLDER = b"folder"
    OWNER = b"owner"
    JOURNAL = b"journal"


_KINDS: Final = {kind: _LENGTH.pack(len(kind.value)) + kind.value for kind in RecordKind}


def key_id_of(data: bytes | memoryview) -> bytes | None:
    """The id of the key that stored bytes are encrypted with; ``None`` for plaintext, or for what this version cannot tell."""
    if len(data) < _HEADER.size + _SEAL.size or data[:4] != _MAGIC or data[4] != _FORMAT or not data[5] & _ENCRYPTED:
        return None
    return bytes(data[_HEADER.size : _HEADER.size + 8])


class Codec:
    """Encodes and decodes records under one keyring, or in plaintext without one.

    :param keyring: ``None`` stores plaintext, which only a caller who was asked for it in so many words may do (VC-9).
    """

    __slots__ = ("_count", "_keyring")

    def __init__(self, keyring: Keyring | None) -> None:
        self._keyring = keyring
        self._count = itertools.count()

    @property
    def key_id(self) -> str | None:
        """The id of the key that encrypts, in hexadecimal; ``None`` for plaintext."""
        return None if self._keyring is None else self._keyring.primary.key_id.hex()

    def encode(self, kind: RecordKind, key: RecordKey | str, version: int, payload: Mapping[str, Any]) -> bytes:
        """The bytes to store.

        :param key: whose record it is, or the name of a pending login or journal entry.
        :param version: the version it will be stored as; 0 if the writer cannot know it, then it is not bound to a version.
        :raises TokenStorageError: the payload is not JSON.
        :raises ConfigurationError: the key has encrypted as many records as one key may.
        """
        dialect, text = dump(payload)
        flags = dialect << _DIALECT_SHIFT
        if self._keyring is None:
            return _HEADER.pack(_MAGIC, _FORMAT, flags) + text
        if next(self._count) >= _MAX_RECORDS:
            raise ConfigurationError("this encryption key has encrypted 2**32 records; put a new key in front of it")
        primary = self._keyring.primary
        header = _HEADER.pack(_MAGIC, _FORMAT, flags | _ENCRYPTED)
        nonce = os.urandom(12)
        sealed = primary.cipher.encrypt(nonce, text, _associated_data(header, primary.key_id, kind, key, version))
        return header + _SEAL.pack(primary.key_id, nonce, version) + sealed

    def decode(self, kind: RecordKind, key: RecordKey | str, version: int, data: bytes | memoryview) -> dict[str, Any]:
        """The payload of stored bytes.

        :param version: the version the driver found it stored as.
        :raises RecordTampered: changed, truncated, moved from another place or version, or plaintext where encryption is on.
        :raises UnknownEncryptionKey: encrypted, and its key is not on the keyring.
        :raises UnsupportedRecord: of a newer format, or not of pauth.
        """
        data = memoryview(data)  # which does not print, where a traceback shows locals (SH-5)
        magic, format_version, flags = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (b"", 0, 0)
        if magic != _MAGIC:
            if not is_fernet_token(data):
                raise UnsupportedRecord("a stored record was not written by pauth; use another store, or convert it")
            if self._keyring is None or not self._keyring.fernet_keys or kind is not RecordKind.TOKENS:
                raise UnsupportedRecord(
                    'a stored record was not written by pauth but is a Fernet token; add its key behind the first as "fernet:<key>"'
                )
            return read_fernet(self._keyring.fernet_keys, data)
        if format_version != _FORMAT or flags & ~_KNOWN_FLAGS:
            raise UnsupportedRecord(f"a stored record has format {format_version}.{flags}; a newer version of pauth wrote it: upgrade this one")
        body = data[_HEADER.size :]
        text = self._unseal(kind, key, version, data[: _HEADER.size], body) if flags & _ENCRYPTED else self._plaintext(body)
        return parse(flags >> _DIALECT_SHIFT, text)

    def _plaintext(self, body: memoryview) -> memoryview:
        if self._keyring is not None:
            # whoever can write to the store could plant one (VC-6)
            raise RecordTampered(
                "a stored record is plaintext, but this storage is encrypted; plaintext is not trusted here; let the user log in again"
            )
        return body

    def _unseal(self, kind: RecordKind, key: RecordKey | str, version: int, header: memoryview, body: memoryview) -> bytes:
        if len(body) < _SEAL.size + _TAG_BYTES:
            raise RecordTampered("a stored record is cut short; restore it from a backup, or let the user log in again")
        key_id, nonce, bound_version = _SEAL.unpack_from(body)
        if self._keyring is None:
            raise UnknownEncryptionKey(f"a stored record is encrypted with key {key_id.hex()}, but this storage has no key")
        encryption_key = self._keyring.find(key_id)
        if encryption_key is None:
            raise UnknownEncryptionKey(
                f"a stored record is encrypted with key {key_id.hex()}, which is not configured; add that key behind the current one"
            )
        if bound_version in (0, version):
            try:
                return encryption_key.cipher.decrypt(nonce, body[_SEAL.size :], _associated_data(header, key_id, kind, key, bound_version))
            except InvalidTag:
                pass  # and raised below, out of its context
        raise RecordTampered(
            "a stored record failed authentication: it was changed, or moved here from another user or version; let the user log in again"
        )


def _associated_data(header: bytes | memoryview, key_id: bytes, kind: RecordKind, key: RecordKey | str, version: int) -> bytes:
    # "surrogatepass": a namespace may be any str, and the encoding has to stay one-to-one
    if isinstance(key, RecordKey):
        namespace, user_id = key.namespace.encode("utf-8", "surrogatepass"), key.user_id.encode()
        return b"".join(
            (header, key_id, _BOUND.pack(version), _KINDS[kind], _LENGTH.pack(len(namespace)), namespace, _LENGTH.pack(len(user_id)), user_id)
        )
    name = key.encode("utf-8", "surrogatepass")
    return b"".join((header, key_id, _BOUND.pack(version), _KINDS[kind], _LENGTH.pack(len(name)), name))
