"""Tokens of other libraries, into a storage of pauth.

A reader for each format gives what it finds, and :func:`import_tokens` stores it::

    report = await import_tokens(from_authlib(tokens_by_user), storage, namespace=client.namespace, dry_run=True)

Readers never raise because of what they read: what cannot be used is a :class:`Problem` among the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pauth.importers.entries import NO_ACCESS_TOKEN, Entry, FoundToken, Problem, Skipped, TokenData, Tokens
    from pauth.importers.flask_dance import from_flask_dance
    from pauth.importers.google import from_google_auth
    from pauth.importers.mcp import from_mcp
    from pauth.importers.msal import MsalUserId, from_msal
    from pauth.importers.token_dicts import from_authlib, from_requests_oauthlib
    from pauth.importers.write import ImportReport, import_tokens

__all__ = [
    "NO_ACCESS_TOKEN",
    "Entry",
    "FoundToken",
    "ImportReport",
    "MsalUserId",
    "Problem",
    "Skipped",
    "TokenData",
    "Tokens",
    "from_authlib",
    "from_flask_dance",
    "from_google_auth",
    "from_mcp",
    "from_msal",
    "from_requests_oauthlib",
    "import_tokens",
]

_HOME: Final = {
    "NO_ACCESS_TOKEN": "entries",
    "Entry": "entries",
    "FoundToken": "entries",
    "ImportReport": "write",
    "MsalUserId": "msal",
    "Problem": "entries",
    "Skipped": "entries",
    "TokenData": "entries",
    "Tokens": "entries",
    "from_authlib": "token_dicts",
    "from_flask_dance": "flask_dance",
    "from_google_auth": "google",
    "from_mcp": "mcp",
    "from_msal": "msal",
    "from_requests_oauthlib": "token_dicts",
    "import_tokens": "write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # the next use is a plain attribute
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
