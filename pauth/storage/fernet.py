"""Reading what was written before pauth: tokens as JSON in a Fernet token, the usual way such stores were made until now.

Fernet keys only read (VC-10). A record read with one is written in pauth's own format at its next write, or by :func:`.reencrypt`.

A Fernet token says nothing of whose it is: pauth cannot notice one that was moved to another user's row, or an old one that was put back. That ends
with re-encryption and the removal of the Fernet key, not before.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from pauth.errors import ConfigurationError, UnknownEncryptionKey
from pauth.secret import Secret
from pauth.storage.keys_text import decode_key, is_key
from pauth.storage.payload import WIDE_JSON, parse

__all__ = ["FERNET_PREFIX", "FernetKey", "is_fernet_token", "read_fernet"]

FERNET_PREFIX: Final = "fernet:"
"""What a Fernet key begins with where keys are written as text: by themselves they look like pauth's."""

_TOKEN_BEGINS: Final = b"gAAAA"  # the version byte 0x80 and the first of a timestamp's zeros


class FernetKey:
    """A key of ``cryptography.fernet``, for reading only. It does not print and cannot be pickled.

    Behind a key of pauth's own it lets a storage read records that are Fernet tokens::

        storage = DatabaseTokenStorage(url, encryption_key=[EncryptionKey.from_string(new), FernetKey.from_string(old)])
    """

    __slots__ = ("_fernet",)

    def __init__(self, key: bytes) -> None:
        """A key from its bytes.

        :param key: 32 bytes. Random they need not be: nothing is written with them.
        :raises ConfigurationError: not 32 bytes.
        """
        if not is_key(key):
            del key  # SH-5: tracebacks that show locals
            raise ConfigurationError("a Fernet key is 32 bytes, as text 44 characters of base64url, as Fernet.generate_key() gives it")
        from cryptography.fernet import Fernet  # which takes 30 ms to import, and few need it

        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    @classmethod
    def from_string(cls, text: str | Secret) -> FernetKey:
        """The key that ``Fernet.generate_key()`` gave (44 characters), with or without ``fernet:`` before it.

        :raises ConfigurationError: anything else.
        """
        text = text if isinstance(text, Secret) else Secret(text)  # SH-5: tracebacks that show locals
        return cls(decode_key(text.reveal().strip().removeprefix(FERNET_PREFIX)) or b"")

    def read(self, token: str | bytes) -> dict[str, Any]:
        """The JSON object in a Fernet token: for the ``get_token`` of a class that reads a store of one's own, to be copied from.

        :raises UnknownEncryptionKey: made with another key, or changed.
        :raises UnsupportedRecord: it holds something else than a JSON object.
        """
        return read_fernet((self,), token.encode() if isinstance(token, str) else token)

    def decrypt(self, token: bytes) -> memoryview | None:
        """What is in a token; ``None`` if this key does not open it."""
        from cryptography.fernet import InvalidToken

        try:
            return memoryview(self._fernet.decrypt(token))  # of any age; a memoryview does not print
        except InvalidToken:
            return None

    def __repr__(self) -> str:
        return "<FernetKey>"

    def __deepcopy__(self, memo: object) -> FernetKey:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a FernetKey cannot be pickled; configure each process from its environment")


def is_fernet_token(data: bytes | memoryview) -> bool:
    """Whether stored bytes look like a Fernet token."""
    return bytes(data[: len(_TOKEN_BEGINS)]) == _TOKEN_BEGINS


def read_fernet(keys: Sequence[FernetKey], token: bytes | memoryview) -> dict[str, Any]:
    """The JSON object in a Fernet token.

    :raises UnknownEncryptionKey: none of the keys opens it. Whether it was made with another one or changed cannot be told.
    :raises UnsupportedRecord: it holds something else than a JSON object.
    """
    opened = next((text for text in (key.decrypt(bytes(token)) for key in keys) if text is not None), None)
    if opened is None:
        raise UnknownEncryptionKey(
            "a stored record is a Fernet token that none of the configured Fernet keys opens: it was changed, or its key is missing; "
            f'add that key behind the current one, as "{FERNET_PREFIX}<key>"'
        )
    return parse(WIDE_JSON, opened)
