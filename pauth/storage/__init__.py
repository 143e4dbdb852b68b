"""Where tokens are kept: the protocols, and the storages pauth brings along.

Importing this package imports no driver; each storage is loaded when its name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pauth.storage.adapters import coordinated
    from pauth.storage.base import (
        AsyncTokenStorage,
        BaseTokenStorage,
        CoordinatedTokenStorage,
        Expiring,
        Lease,
        Listed,
        Page,
        Record,
        RecordKey,
        Watch,
        WatchableTokenStorage,
        Write,
    )
    from pauth.storage.database import DatabaseTokenStorage
    from pauth.storage.fernet import FernetKey
    from pauth.storage.files import EncryptedFileStorage
    from pauth.storage.keys import EncryptionKey, Keyring
    from pauth.storage.keys_provider import KeyProvider, keyring_from_provider, new_wrapped_key
    from pauth.storage.listing import iter_expiring, iter_users
    from pauth.storage.memory import MemoryTokenStorage
    from pauth.storage.move import CopyReport, copy_storage
    from pauth.storage.redis import RedisTokenStorage
    from pauth.storage.reencryption import ReencryptionReport, keys_in_use, reencrypt
    from pauth.storage.url import storage_from_url

__all__ = [
    "AsyncTokenStorage",
    "BaseTokenStorage",
    "CoordinatedTokenStorage",
    "CopyReport",
    "DatabaseTokenStorage",
    "EncryptedFileStorage",
    "EncryptionKey",
    "Expiring",
    "FernetKey",
    "KeyProvider",
    "Keyring",
    "Lease",
    "Listed",
    "MemoryTokenStorage",
    "Page",
    "Record",
    "RecordKey",
    "RedisTokenStorage",
    "ReencryptionReport",
    "Watch",
    "WatchableTokenStorage",
    "Write",
    "coordinated",
    "copy_storage",
    "iter_expiring",
    "iter_users",
    "keyring_from_provider",
    "keys_in_use",
    "new_wrapped_key",
    "reencrypt",
    "storage_from_url",
]

_HOME: Final = {
    "AsyncTokenStorage": "base",
    "BaseTokenStorage": "base",
    "CoordinatedTokenStorage": "base",
    "CopyReport": "move",
    "DatabaseTokenStorage": "database",
    "EncryptedFileStorage": "files",
    "EncryptionKey": "keys",
    "Expiring": "base",
    "FernetKey": "fernet",
    "KeyProvider": "keys_provider",
    "Keyring": "keys",
    "Lease": "base",
    "Listed": "base",
    "MemoryTokenStorage": "memory",
    "Page": "base",
    "Record": "base",
    "RecordKey": "base",
    "RedisTokenStorage": "redis",
    "ReencryptionReport": "reencryption",
    "Watch": "base",
    "WatchableTokenStorage": "base",
    "Write": "base",
    "coordinated": "adapters",
    "copy_storage": "move",
    "iter_expiring": "listing",
    "iter_users": "listing",
    "keyring_from_provider": "keys_provider",
    "keys_in_use": "reencryption",
    "new_wrapped_key": "keys_provider",
    "reencrypt": "reencryption",
    "storage_from_url": "url",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # the next use is a plain attribute
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
