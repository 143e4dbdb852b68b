"""What the command line is told: ``pauth.toml`` and the environment. Flags come on top, in the commands.

Imports nothing that takes long: see :mod:`pauth.cli.quick`.

``pauth.toml`` is read from the user's configuration folder or from where ``--config`` or ``PAUTH_CONFIG`` say, never from the folder that a shell
happens to be in: whoever wrote the repository one has cloned would say where secrets are sent.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from pauth.cli.places import default_config_file
from pauth.errors import ConfigurationError
from pauth.secret import Secret

__all__ = ["KEY_PLACES", "LOGINS", "Config", "Profile", "load_config", "normal_name"]

LOGINS: Final = "pauth command line"
"""The namespace of the records in which the command line keeps what it has to know of each login; see :mod:`pauth.cli.logins`."""

KEY_PLACES: Final = ("auto", "keyring", "file")

_MAX_BYTES: Final = 1024 * 1024


class Profile:
    """One table ``[profiles.NAME]``. ``None`` stands for what it does not say. Not to be changed."""

    # No dataclass or named tuple: either takes longer to define than to read the file.
    __slots__ = (
        "ca_file",
        "client_auth",
        "client_id",
        "client_secret_env",
        "client_secret_file",
        "provider",
        "public",
        "redirect_uri",
        "scopes",
        "timeout",
        "user",
    )

    def __init__(
        self,
        *,
        provider: str | None = None,
        client_id: str | None = None,
        client_secret_file: str | None = None,
        client_secret_env: str | None = None,
        public: bool = False,
        client_auth: str | None = None,
        scopes: tuple[str, ...] | None = None,
        redirect_uri: str | None = None,
        user: str | None = None,
        ca_file: str | None = None,
        timeout: float | None = None,
    ) -> None:
        self.provider: str | None = provider
        """The name of a preset, or the URL of an issuer."""

        self.client_id: str | None = client_id
        self.client_secret_file: str | None = client_secret_file
        """The path of a file that holds the secret and nothing else."""

        self.client_secret_env: str | None = client_secret_env
        """The environment variable that holds it."""

        self.public: bool = public
        """The client has no secret, and nobody is asked for one."""

        self.client_auth: str | None = client_auth
        self.scopes: tuple[str, ...] | None = scopes
        self.redirect_uri: str | None = redirect_uri
        self.user: str | None = user
        self.ca_file: str | None = ca_file
        """The path of a file with the certificates of a private CA (PEM)."""

        self.timeout: float | None = timeout
        """Seconds for one exchange with the provider."""


class Config:
    """All of ``pauth.toml``. Not to be changed."""

    __slots__ = ("default", "key", "key_file", "path", "profiles", "storage")

    def __init__(
        self,
        *,
        path: str | None = None,
        storage: Secret | None = None,
        default: str | None = None,
        key: str = "auto",
        key_file: str | None = None,
        profiles: Mapping[str, Profile] | None = None,
    ) -> None:
        self.path: str | None = path
        """Where it was read; ``None`` if there is none."""

        self.storage: Secret | None = storage
        """The URL of the token storage. It may hold a password."""

        self.default: str | None = default
        """The login that is meant where none is named."""

        self.key: str = key
        """Where the encryption key is: one of :data:`KEY_PLACES`."""

        self.key_file: str | None = key_file
        self.profiles: Mapping[str, Profile] = profiles or {}


def normal_name(name: str) -> str:
    """A login's name in the form it is kept under: in small letters; the URL of an issuer without a slash at its end."""
    name = name.strip()
    return name.rstrip("/") if "://" in name else name.lower()


def load_config(path: str | None = None) -> Config:
    """What ``pauth.toml`` says. Blocks.

    :param path: as ``--config`` names it; by default ``PAUTH_CONFIG``, else the user's own, if it is there.
    :raises ConfigurationError: it is not there though it was named, cannot be read or understood, or others can write to it.
    """
    named = path or os.environ.get("PAUTH_CONFIG") or None
    where = default_config_file() if named is None else named
    read = _read(where)
    if read is None:
        if named is None:
            return Config()
        read = "cannot be used: there is no such file"
    if isinstance(read, str):
        raise ConfigurationError(f"the configuration file {read} ({where})")
    return read


def _read(path: str) -> Config | str | None:
    """The settings in a file; what is wrong with it, as the end of a sentence; ``None`` if it is not there.

    It raises nothing: its frames hold what is in the file, perhaps a password (SH-5).
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            info = os.fstat(file.fileno())
            if hasattr(os, "geteuid") and (info.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(info.st_mode) & 0o022):
                return "cannot be used: others than you can write to it, and would decide where secrets are sent; chmod go-w it"
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            return "cannot be used: it is larger than 1 MiB"
        import tomllib  # only if there is a file

        return _Reader(path).config(tomllib.loads(text.decode("utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be used: {os.strerror(error.errno or 0)}"
    except UnicodeDecodeError:
        return "is no TOML: it is not UTF-8"
    except RecursionError:
        return "is no TOML: it is nested too deeply"
    except ValueError as error:
        return f"is no TOML: {error}"  # which names line and column, and repeats nothing
    except _MistakeError as error:
        return f"has a mistake {error}"


class _MistakeError(Exception):
    """Something in the file that is not as it should be; its text repeats no value."""


_TEXTS: Final = frozenset({"provider", "client_id", "client_secret_env", "client_auth", "redirect_uri", "user"})
_PATHS: Final = frozenset({"client_secret_file", "ca_file"})


class _Reader:
    """Checks names and types, and says where a mistake is."""

    def __init__(self, path: str) -> None:
        self._path = path

    def config(self, document: dict[str, Any]) -> Config:
        known = {"storage", "default", "key", "key_file", "profiles"}
        self._check_names(document, known, "at its top")
        storage, default = self._text(document, "storage", "at its top"), self._text(document, "default", "at its top")
        key = self._text(document, "key", "at its top") or "auto"
        if key not in KEY_PLACES:
            raise self._error(f"key must be one of {', '.join(KEY_PLACES)}", "at its top")
        profiles: object = document.get("profiles", {})
        if not isinstance(profiles, dict) or not all(isinstance(table, dict) for table in cast("dict[str, object]", profiles).values()):
            raise self._error("profiles are tables: [profiles.NAME]", "at its top")
        return Config(
            path=self._path,
            storage=None if storage is None else Secret(storage),
            default=None if default is None else normal_name(default),
            key=key,
            key_file=self._place(self._text(document, "key_file", "at its top")),
            profiles=self._profiles(cast("dict[str, dict[str, Any]]", profiles)),
        )

    def _profiles(self, tables: Mapping[str, dict[str, Any]]) -> dict[str, Profile]:
        profiles = {normal_name(name): self._profile(name, table) for name, table in tables.items()}
        if len(profiles) != len(tables):
            raise self._error("two profiles have one name: they are told apart by more than small and capital letters", "in [profiles]")
        return profiles

    def _profile(self, name: str, table: dict[str, Any]) -> Profile:
        where = f"in [profiles.{name}]"
        if "client_secret" in table:
            raise self._error(
                "a client_secret does not belong into this file: put it into one of its own and name that with client_secret_file", where
            )
        self._check_names(table, set(Profile.__slots__), where)
        members: dict[str, Any] = {member: self._text(table, member, where) for member in _TEXTS | _PATHS}
        for member in _PATHS:
            members[member] = self._place(members[member])
        members["scopes"] = self._texts(table, "scopes", where)
        public, timeout = table.get("public", False), table.get("timeout")
        if not isinstance(public, bool):
            raise self._error("public must be true or false", where)
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 3600):
            raise self._error("timeout must be a number of seconds, above 0 and at most 3600", where)
        return Profile(**members, public=public, timeout=timeout)

    def _check_names(self, table: Mapping[str, Any], known: set[str], where: str) -> None:
        unknown = sorted(table.keys() - known)
        if unknown:
            raise self._error(f"unknown name {unknown[0]!r}; there are {', '.join(sorted(known))}", where)

    def _text(self, table: Mapping[str, Any], name: str, where: str) -> str | None:
        value = table.get(name)
        if value is None or (isinstance(value, str) and value):
            return value
        raise self._error(f"{name} must be a text that is not empty", where)

    def _texts(self, table: Mapping[str, Any], name: str, where: str) -> tuple[str, ...] | None:
        value: object = table.get(name)
        if value is None:
            return None
        if isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value)):
            return tuple(cast("Sequence[str]", value))
        raise self._error(f"{name} must be a list of texts", where)

    def _place(self, path: str | None) -> str | None:
        """A path as the file means it: relative to itself."""
        return None if path is None else os.path.join(os.path.dirname(self._path), os.path.expanduser(path))  # noqa: PTH111, PTH118, PTH120

    def _error(self, problem: str, where: str) -> _MistakeError:
        return _MistakeError(f"{where}: {problem}")
