"""What users may rely on: the public names, and that they cost nothing until used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import pauth

PUBLIC = [
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

HEAVY = ["aiohttp", "aiosqlite", "anyio", "asyncio", "click", "cryptography", "joserfc", "orjson", "redis", "rich", "sqlalchemy"]


def fresh(code: str) -> str:
    """What ``code`` prints in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_the_public_names_are_pinned() -> None:
    assert pauth.__all__ == PUBLIC
    assert sorted(PUBLIC) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_in_dir(name: str) -> None:
    assert getattr(pauth, name) is not None
    assert name in dir(pauth)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'OAuthClient'"):
        _ = pauth.OAuthClient  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


def test_importing_pauth_loads_no_library() -> None:
    loaded = fresh(f"import sys, pauth; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded == "[]"
    assert fresh("import sys, pauth; print(sorted(name for name in sys.modules if name.startswith('pauth')))") == "['pauth', 'pauth.version']"


def test_every_module_can_be_the_first_one_imported() -> None:
    """No import cycle hides behind the order that the tests happen to import in."""
    fresh(
        "import pkgutil, subprocess, sys, pauth\n"
        "names = [m.name for m in pkgutil.walk_packages(pauth.__path__, 'pauth.') if not m.name.endswith('__main__')]\n"
        "for name in names:\n"
        "    for loaded in [m for m in sys.modules if m.partition('.')[0] == 'pauth']: del sys.modules[loaded]\n"
        "    __import__(name)\n"
    )


@pytest.mark.parametrize("package", ["pauth", "pauth.importers", "pauth.storage", "pauth.sync", "pauth.testing", "pauth.providers"])
def test_all_names_what_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
