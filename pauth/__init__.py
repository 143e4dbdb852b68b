"""pauth: OAuth 2.0 and OpenID Connect for programs that hold other people's tokens.

The names below are the public ones. They are loaded when first used, so that ``import pauth`` is quick and needs no driver.
"""

from __future__ import annotations

from pauth.version import __version__

TYPE_CHECKING = False  # type checkers know it by its name; importing it from typing would take half as long again as Python's own start

if TYPE_CHECKING:
    from pauth.client import OAuth2Client
    from pauth.core.metadata import ServerMetadata
    from pauth.core.pending_device import DeviceLogin
    from pauth.core.quirks import Quirks, Rotation, RotationClass, UserInfoMapping
    from pauth.core.token import Token
    from pauth.core.userinfo import UserInfo
    from pauth.errors import (
        AmbiguousExchange,
        AuthorizationError,
        ConfigurationError,
        InvalidStateError,
        MalformedResponse,
        PAuthError,
        ProviderError,
        ProviderUnavailable,
        ReauthorizationRequired,
        Remedy,
        TokenError,
        TokenStorageError,
        UserInfoError,
    )
    from pauth.login import Login
    from pauth.providers import Provider, Providers
    from pauth.refresh.policy import RefreshPolicy
    from pauth.refresh.refresher import RefresherProgress, TokenRefresher
    from pauth.secret import Secret
    from pauth.storage.base import AsyncTokenStorage, BaseTokenStorage
    from pauth.storage.database import DatabaseTokenStorage
    from pauth.storage.files import EncryptedFileStorage
    from pauth.storage.keys import EncryptionKey
    from pauth.storage.memory import MemoryTokenStorage
    from pauth.storage.redis import RedisTokenStorage
    from pauth.storage.url import storage_from_url
    from pauth.sync._client import SyncOAuth2Client
    from pauth.sync._refresher import SyncTokenRefresher
    from pauth.sync._storage import SyncTokenStorage

__all__ = [
    "AmbiguousExchange",
    "AsyncTokenStorage",
    "AuthorizationError",
    "BaseTokenStorage",
    "ConfigurationError",
    "DatabaseTokenStorage",
    "DeviceLogin",
    "EncryptedFileStorage",
    "EncryptionKey",
    "InvalidStateError",
    "Login",
    "MalformedResponse",
    "MemoryTokenStorage",
    "OAuth2Client",
    "PAuthError",
    "Provider",
    "ProviderError",
    "ProviderUnavailable",
    "Providers",
    "Quirks",
    "ReauthorizationRequired",
    "RedisTokenStorage",
    "RefreshPolicy",
    "RefresherProgress",
    "Remedy",
    "Rotation",
    "RotationClass",
    "Secret",
    "ServerMetadata",
    "SyncOAuth2Client",
    "SyncTokenRefresher",
    "SyncTokenStorage",
    "Token",
    "TokenError",
    "TokenRefresher",
    "TokenStorageError",
    "UserInfo",
    "UserInfoError",
    "UserInfoMapping",
    "__version__",
    "storage_from_url",
]

_HOME = {
    "client": ("OAuth2Client",),
    "core.metadata": ("ServerMetadata",),
    "core.pending_device": ("DeviceLogin",),
    "core.quirks": ("Quirks", "Rotation", "RotationClass", "UserInfoMapping"),
    "core.token": ("Token",),
    "core.userinfo": ("UserInfo",),
    "errors": (
        "AmbiguousExchange",
        "AuthorizationError",
        "ConfigurationError",
        "InvalidStateError",
        "MalformedResponse",
        "PAuthError",
        "ProviderError",
        "ProviderUnavailable",
        "ReauthorizationRequired",
        "Remedy",
        "TokenError",
        "TokenStorageError",
        "UserInfoError",
    ),
    "login": ("Login",),
    "providers": ("Provider", "Providers"),
    "refresh.policy": ("RefreshPolicy",),
    "refresh.refresher": ("RefresherProgress", "TokenRefresher"),
    "secret": ("Secret",),
    "storage.base": ("AsyncTokenStorage", "BaseTokenStorage"),
    "storage.database": ("DatabaseTokenStorage",),
    "storage.files": ("EncryptedFileStorage",),
    "storage.keys": ("EncryptionKey",),
    "storage.memory": ("MemoryTokenStorage",),
    "storage.redis": ("RedisTokenStorage",),
    "storage.url": ("storage_from_url",),
    "sync._client": ("SyncOAuth2Client",),
    "sync._refresher": ("SyncTokenRefresher",),
    "sync._storage": ("SyncTokenStorage",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


if not TYPE_CHECKING:  # else type checkers would take any misspelt name for one of ours

    def __getattr__(name: str) -> object:
        from importlib import import_module

        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module 'pauth' has no attribute {name!r}")
        value = getattr(import_module(f"pauth.{module}"), name)
        globals()[name] = value  # the next use is a plain attribute
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
