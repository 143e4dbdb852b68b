"""What is saved and read: one realistic token, for a thousand users."""

from __future__ import annotations

import base64
import random
from typing import Any, Final

import orjson

from pauth.storage import EncryptionKey
from pauth.storage.base import RecordKey
from pauth.storage.codec import Codec, RecordKind
from pauth.storage.keys import Keyring

__all__ = ["KEY", "NAMESPACE", "RECORD", "TEXT", "TOKENS", "USERS"]

_TEXT_BYTES: Final = 1559
"""The size of a token of a large provider: opaque access token, refresh token, ID token, scopes and times, as the client saves them."""

NAMESPACE: Final = "pauth-benchmark"
USERS: Final = tuple(f"pauth-benchmark-user-{number:04}" for number in range(1024))
KEY: Final = EncryptionKey.generate()


def _opaque(length: int, *, seed: int) -> str:
    return base64.urlsafe_b64encode(random.Random(seed).randbytes(length)).decode()[:length]  # noqa: S311  # no secret, and the same in each run


def _tokens() -> dict[str, Any]:
    tokens: dict[str, Any] = {
        "access_token": "",
        "token_type": "Bearer",
        "refresh_token": _opaque(180, seed=1),
        "id_token": ".".join((_opaque(98, seed=2), _opaque(380, seed=4), _opaque(342, seed=5))),
        "scope": "openid email profile offline_access https://api.example/auth/calendar.readonly https://api.example/auth/contacts",
        "issued_at": 1795392000.25,
        "expires_at": 1795395599.25,
        "issuer": "https://accounts.example",
        "token_endpoint": "https://accounts.example/oauth2/v2/token",
    }
    tokens["access_token"] = _opaque(_TEXT_BYTES - len(orjson.dumps(tokens)), seed=3)
    return tokens


TOKENS: Final = _tokens()
TEXT: Final = orjson.dumps(TOKENS)
RECORD: Final = Codec(Keyring([KEY])).encode(RecordKind.TOKENS, RecordKey(NAMESPACE, USERS[0]), 0, TOKENS)
"""The bytes that pauth hands to a driver, which the raw drivers move too."""
