"""256-bit keys as text: base64url, as :class:`.EncryptionKey` and Fernet both write theirs."""

from __future__ import annotations

import base64
from typing import Final

__all__ = ["KEY_BYTES", "decode_key", "is_key"]

KEY_BYTES: Final = 32
"""The length of a key."""


def decode_key(text: str) -> bytes | None:
    """The bytes that base64url text spells, its padding there or not; ``None`` if it spells none."""
    unpadded = text.strip().removesuffix("=")
    try:
        key = base64.b64decode(unpadded + "=", altchars=b"-_", validate=True)
    except ValueError:
        return None
    # the last character has two spare bits: a typo there must not pass as another spelling of the same key
    return key if base64.urlsafe_b64encode(key).rstrip(b"=") == unpadded.encode() else None


def is_key(key: object) -> bool:
    """Whether this is bytes of a key's length."""
    return isinstance(key, bytes) and len(key) == KEY_BYTES
