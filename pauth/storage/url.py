"""A storage from a URL, for settings files and environment variables."""

from __future__ import annotations

import inspect
from typing import Any, Final

from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage.base import CoordinatedTokenStorage

__all__ = ["storage_from_url"]

_EXAMPLES: Final = "memory:// or sqlite+aiosqlite:///tokens.db"


def storage_from_url(url: str, **options: Any) -> CoordinatedTokenStorage:
    """The storage a URL names.

    ``memory://`` is :class:`.MemoryTokenStorage`; ``sqlite+aiosqlite:///relative/path`` and ``sqlite+aiosqlite:////absolute/path`` (or ``sqlite:``)
    are :class:`.DatabaseTokenStorage`.

    :param options: keyword arguments of that class.
    :raises ConfigurationError: an unknown scheme or option, or a missing extra. The URL is not in the message: it may hold a password.
    """
    scheme, separator, rest = url.partition(":")
    source = Secret(url)
    del url  # SH-5: where a traceback shows locals
    if scheme == "memory" and rest == "//":
        from pauth.storage.memory import MemoryTokenStorage

        return MemoryTokenStorage(**_checked(MemoryTokenStorage, options))
    del rest
    if scheme in ("sqlite", "sqlite+aiosqlite"):
        from pauth.storage.database import DatabaseTokenStorage
        from pauth.storage.keys import conceal

        if "encryption_key" in options:
            options["encryption_key"] = conceal(options["encryption_key"])
        return DatabaseTokenStorage(source, **_checked(DatabaseTokenStorage, options))
    what = f"no token storage for the URL scheme {scheme!r}" if separator and scheme != "memory" else "this is no storage URL"
    raise ConfigurationError(f"{what}; write {_EXAMPLES}")


def _checked(storage: type[object], options: dict[str, Any]) -> dict[str, Any]:
    known = [name for name, parameter in inspect.signature(storage).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    unknown = sorted(options.keys() - known)
    if unknown:
        options.clear()  # as above
        raise ConfigurationError(f"{storage.__name__} has no option {unknown[0]!r}; it has {', '.join(known)}")
    return options
