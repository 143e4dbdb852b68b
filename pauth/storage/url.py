"""A storage from a URL, for settings files and environment variables."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from importlib import import_module
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage.base import CoordinatedTokenStorage

__all__ = ["storage_from_url"]


class _Storage(NamedTuple):
    module: str
    name: str


_MEMORY: Final = _Storage("memory", "MemoryTokenStorage")
_FILES: Final = _Storage("files", "EncryptedFileStorage")
_DATABASE: Final = _Storage("database", "DatabaseTokenStorage")
_REDIS: Final = _Storage("redis", "RedisTokenStorage")
_SCHEMES: Final = {
    "memory": _MEMORY,
    "file": _FILES,
    "sqlite": _DATABASE,
    "sqlite+aiosqlite": _DATABASE,
    "postgresql": _DATABASE,
    "postgresql+asyncpg": _DATABASE,
    "postgresql+psycopg": _DATABASE,
    "mysql": _DATABASE,
    "mysql+asyncmy": _DATABASE,
    "mysql+aiomysql": _DATABASE,
    "mariadb": _DATABASE,
    "mariadb+asyncmy": _DATABASE,
    "mariadb+aiomysql": _DATABASE,
    "redis": _REDIS,
    "rediss": _REDIS,
    "unix": _REDIS,
    "redis+unix": _REDIS,
    "redis+cluster": _REDIS,
    "rediss+cluster": _REDIS,
    "redis+sentinel": _REDIS,
    "rediss+sentinel": _REDIS,
}
_ALIASES: Final = {"postgres": "postgresql", "sqlite3": "sqlite", "valkey": "redis", "valkeys": "rediss", "files": "file", "redis+tls": "rediss"}
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,31}")
_EXAMPLES: Final = (
    "memory://, sqlite:///tokens.db, postgresql://user:password@host/database, mysql://…, redis://host:6379/0, or file:///var/lib/tokens"
)
_FILE_FORM: Final = "write file:///absolute/path, with three slashes and nothing after the path; options are keyword arguments"


def storage_from_url(url: str | Secret | None = None, **options: Any) -> CoordinatedTokenStorage:
    """The storage a URL names.

    ==================================================================  ========================================
    ``memory://``                                                       :class:`.MemoryTokenStorage`
    ``file:///absolute/path``                                           :class:`.EncryptedFileStorage`
    ``sqlite:///relative/path``, ``sqlite:////absolute/path``,          :class:`.DatabaseTokenStorage`
    ``postgresql://``, ``mysql://``, ``mariadb://``
    ``redis://``, ``rediss://`` (TLS), ``unix:///socket``,              :class:`.RedisTokenStorage`
    ``redis+cluster://``, ``redis+sentinel://``
    ==================================================================  ========================================

    A database's library may be named: ``sqlite+aiosqlite``, ``postgresql+asyncpg``, ``postgresql+psycopg``, ``mysql+asyncmy``, ``mysql+aiomysql``.
    Options of the library that connects follow ``?`` in the URL, where its storage says so; those of pauth are keyword arguments, never in the URL.

    :param url: by default what ``PAUTH_STORAGE_URL`` says. Encryption keys are not in it but in ``encryption_key=``, or in ``PAUTH_ENCRYPTION_KEY``
        or ``PAUTH_ENCRYPTION_KEYS``.
    :param options: keyword arguments of that class.
    :raises ConfigurationError: no URL, an unknown scheme or option, or a missing extra. The URL is not in the message: it may hold a password.
    """
    source = _concealed(url)
    del url  # SH-5: where a traceback shows locals
    for name in ("encryption_key", "key"):
        if options.get(name) is not None:
            from pauth.storage.keys import conceal

            options[name] = conceal(options[name])
    scheme = _scheme(source)
    module, name = _SCHEMES[scheme]
    storage = getattr(import_module(f"pauth.storage.{module}"), name)
    _check(storage, options)
    if scheme == "memory":
        return _made(storage, options)
    if scheme == "file":
        return _made(storage, options, _path(source))
    return _made(storage, options, Secret("unix" + source.reveal()[len("redis+unix") :]) if scheme == "redis+unix" else source)


def _made(storage: Any, options: dict[str, Any], *place: object) -> CoordinatedTokenStorage:
    made: CoordinatedTokenStorage = storage(*place, **options)
    return made


def _concealed(url: str | Secret | None) -> Secret:
    """The URL to use, its scheme in lower case."""
    given = Secret(os.environ.get("PAUTH_STORAGE_URL", "")) if url is None else url if isinstance(url, Secret) else Secret(url)
    if url is None and not given:
        raise ConfigurationError(f"no token storage is configured: set PAUTH_STORAGE_URL, or pass a URL: {_EXAMPLES}")
    del url
    scheme, separator, rest = given.reveal().strip().partition(":")
    return Secret(scheme.lower() + separator + rest)


def _scheme(url: Secret) -> str:
    """The scheme of a URL, one of :data:`_SCHEMES`."""
    scheme, separator, rest = url.reveal().partition("://")
    known = scheme in _SCHEMES and bool(separator) and (scheme != "memory" or not rest)
    is_one = bool(separator) and scheme != "memory" and _SCHEME.fullmatch(scheme) is not None
    del rest
    if known:
        return scheme
    if not is_one:
        del scheme  # whatever it is, a password perhaps
        raise ConfigurationError(f"this is no storage URL; write {_EXAMPLES}")
    close = [_ALIASES[scheme]] if scheme in _ALIASES else difflib.get_close_matches(scheme, _SCHEMES, 1)
    hint = f"did you mean {close[0]}://? Else write" if close else "write"
    raise ConfigurationError(f"no token storage for the URL scheme {scheme!r}; {hint} {_EXAMPLES}")


def _path(url: Secret) -> str:
    """The folder that a ``file:`` URL names."""
    try:
        parts = urlsplit(url.reveal())
    except ValueError:
        parts = None
    if parts is None or parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path.strip("/"):
        del parts
        raise ConfigurationError(f"this URL names no folder; {_FILE_FORM}")
    return unquote(parts.path)


def _check(storage: type[object], options: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(storage).parameters if name not in ("url", "directory")]  # which the URL says
    unknown = sorted(options.keys() - known)
    if unknown:
        options.clear()  # as above
        raise ConfigurationError(f"{storage.__name__} has no option {unknown[0]!r}; it has {', '.join(known)}")
