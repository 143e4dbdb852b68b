"""What a row is found by, in every driver: a hash, so that no store's collation, separator, path or length limit merges two users (PX-5)."""

from __future__ import annotations

import hashlib

__all__ = ["row_id"]


def row_id(*parts: str) -> bytes:
    """32 bytes: SHA-256 over the parts, each with its length, so that ("a", "bc") and ("ab", "c") are two (RD-1, SQ-1).

    A record is ``row_id(namespace, user_id)``, a pending login ``row_id(pending_id)``.
    """
    whole = bytearray()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        whole += len(encoded).to_bytes(4, "big") + encoded
    return hashlib.sha256(whole).digest()
