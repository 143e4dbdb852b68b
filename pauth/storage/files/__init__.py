"""Tokens in encrypted files, one for each user, on a local disk: see :mod:`pauth.storage.files.storage`.

The names are loaded when first used: who only reads one record (:mod:`pauth.storage.files.reading`) needs no event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pauth.storage.files.storage import EncryptedFileStorage, FileDriver

__all__ = ["EncryptedFileStorage", "FileDriver"]


if not TYPE_CHECKING:  # else type checkers would take any misspelt name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pauth.storage.files import storage

        value = getattr(storage, name)
        globals()[name] = value  # the next use is a plain attribute
        return value
