"""Where tokens are kept: the protocols, and the storages pauth brings along.

Importing this package imports no driver; each storage is loaded when its name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pauth.storage.adapters import coordinated
    from pauth.storage.base import AsyncTokenStorage, BaseTokenStorage, CoordinatedTokenStorage, Record, RecordKey
    from pauth.storage.database import DatabaseTokenStorage
    from pauth.storage.keys import EncryptionKey, Keyring
    from pauth.storage.memory import MemoryTokenStorage
    from pauth.storage.url import storage_from_url

__all__ = [
    "AsyncTokenStorage",
    "BaseTokenStorage",
    "CoordinatedTokenStorage",
    "DatabaseTokenStorage",
    "EncryptionKey",
    "Keyring",
    "MemoryTokenStorage",
    "Record",
    "RecordKey",
    "coordinated",
    "storage_from_url",
]

_HOME: Final = {
    "AsyncTokenStorage": "base",
    "BaseTokenStorage": "base",
    "CoordinatedTokenStorage": "base",
    "DatabaseTokenStorage": "database",
    "EncryptionKey": "keys",
    "Keyring": "keys",
    "MemoryTokenStorage": "memory",
    "Record": "base",
    "RecordKey": "base",
    "coordinated": "adapters",
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
