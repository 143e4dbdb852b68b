"""pauth for code that cannot await: the same names, signatures and docstrings as the async ones, generated from them.

Calls run in an event loop of pauth's own, in a thread that the first one starts. See docs/sync.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pauth.errors import DeadlineExceeded
    from pauth.sync._admin import copy_storage, import_tokens, keyring_from_provider, keys_in_use, new_wrapped_key, reencrypt
    from pauth.sync._client import SyncOAuth2Client
    from pauth.sync._portal import BlockingCallWarning
    from pauth.sync._refresher import SyncTokenRefresher
    from pauth.sync._storage import SyncTokenStorage
    from pauth.sync._streams import SyncContext, SyncIterator

__all__ = [
    "BlockingCallWarning",
    "DeadlineExceeded",
    "SyncContext",
    "SyncIterator",
    "SyncOAuth2Client",
    "SyncTokenRefresher",
    "SyncTokenStorage",
    "copy_storage",
    "import_tokens",
    "keyring_from_provider",
    "keys_in_use",
    "new_wrapped_key",
    "reencrypt",
]

_HOME: Final = {
    "pauth.errors": ("DeadlineExceeded",),
    "pauth.sync._admin": ("copy_storage", "import_tokens", "keyring_from_provider", "keys_in_use", "new_wrapped_key", "reencrypt"),
    "pauth.sync._client": ("SyncOAuth2Client",),
    "pauth.sync._portal": ("BlockingCallWarning",),
    "pauth.sync._refresher": ("SyncTokenRefresher",),
    "pauth.sync._storage": ("SyncTokenStorage",),
    "pauth.sync._streams": ("SyncContext", "SyncIterator"),
}
_MODULE_OF: Final = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value  # the next use is a plain attribute
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
