"""The token storage that the settings mean."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from pauth.cli.keys import ENVIRONMENT, KeyPlace, key_place, made_keys, read_keys
from pauth.cli.places import default_token_folder
from pauth.cli.settings import Config
from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage import CoordinatedTokenStorage, EncryptedFileStorage, storage_from_url
from pauth.storage.files.manifest import MANIFEST
from pauth.storage.keys import Keyring

__all__ = ["Place", "check_argument", "has_password", "key_place_of", "open_place", "place_of", "target_of"]


class Place:
    """Where tokens are.

    :param name: for people; it holds no password.
    :param url: ``None`` for the command line's own folder.
    """

    def __init__(self, name: str, url: Secret | None) -> None:
        self.name: str = name
        self.url: Secret | None = url

    @property
    def is_there(self) -> bool:
        """Whether a storage was ever made there. Of one on a server it cannot be known: then it is taken to be. Blocks."""
        path = _made_at(self.url)
        return path is None or os.path.exists(path)  # noqa: PTH110  # as the paths below are: text

    @property
    def scheme(self) -> str:
        """The scheme of its URL, in small letters, without the library it may name."""
        return "file" if self.url is None else self.url.reveal().partition(":")[0].partition("+")[0].lower()


def place_of(config: Config, given: Secret | None) -> Place:
    """Where the settings put the tokens.

    :param given: ``--storage``.
    :raises ConfigurationError: it is in memory, where nothing outlives a command, or a password stands on the command line.
    """
    named = Secret(os.environ.get("PAUTH_STORAGE_URL", ""))
    url = check_argument(given) if given is not None else named or config.storage
    if url is None:
        return Place(default_token_folder(), None)
    return _lasting(Place(_without_password(url), url))


def _lasting(place: Place) -> Place:
    if place.scheme == "memory":
        raise ConfigurationError("memory:// keeps nothing after the command has ended; leave the storage out for encrypted files, or name another")
    return place


def target_of(given: Secret) -> Place:
    """Where a URL on the command line puts a copy.

    :raises ConfigurationError: as :func:`place_of`, and :func:`check_argument`.
    """
    return _lasting(Place("", check_argument(given)))


def check_argument(url: Secret) -> Secret:
    """A URL that stands on the command line, where everybody on this machine can read it (NA-10); ``env:NAME`` stands for one that does not.

    :raises ConfigurationError: there is a password in it, or the variable is not set.
    """
    if url.reveal().startswith("env:"):
        variable = url.reveal().removeprefix("env:")
        value = Secret(os.environ.get(variable, ""))
        if not value:
            raise ConfigurationError(f"the environment variable {variable!r}, which is to hold the URL of a storage, is not set")
        return value
    if has_password(url):
        raise ConfigurationError(
            "a storage URL with a password must not stand on the command line, where other users of this machine can read it: "
            "put it into an environment variable and write env:NAME, or into pauth.toml"
        )
    return url


def open_place(place: Place, config: Config, *, keys: Keyring | None = None) -> CoordinatedTokenStorage:
    """The storage at a place, to be closed. Blocks: not to be called in an event loop.

    :param keys: what it is encrypted with, instead of what the settings say.
    :raises ConfigurationError: it cannot be used as it is configured.
    :raises StorageUnavailable: the key cannot be had now.
    """
    if place.url is None:
        return EncryptedFileStorage(default_token_folder(), keys or made_keys(config, store_exists=place.is_there))
    options: dict[str, Any] = {}
    if keys is None and key_place_of(place, config) is not None:
        keys = read_keys(key_place(config))
    if keys is not None:
        options["encryption_key"] = keys
    return storage_from_url(place.url, **options)


def key_place_of(place: Place, config: Config) -> KeyPlace | None:
    """Where the keys of a storage are; ``None`` if none are configured for one that is not the command line's own: then it has its own rules.

    A key that is made for the command line's folder opens no database of somebody else's.
    """
    found = key_place(config)
    if place.url is None or found is ENVIRONMENT or config.key != "auto" or config.key_file is not None:
        return found
    return found if place.scheme == "file" and found.path is not None else None


def _made_at(url: Secret | None) -> str | None:
    """The file that is there if a storage on this machine is; ``None`` if that cannot be told from its URL."""
    if url is None:
        return os.path.join(default_token_folder(), MANIFEST)  # noqa: PTH118  # the folder is text, for those who must not import pathlib
    scheme, _, path = url.reveal().partition("://")
    path = path.partition("?")[0]
    if not path.startswith("/"):
        return None
    match scheme.lower().partition("+")[0]:
        case "file":
            return os.path.join(unquote(path), MANIFEST)  # noqa: PTH118  # the same
        case "sqlite":
            return path[1:] if path[1:] and not path[1:].startswith(("file:", ":")) else None
        case _:
            return None


def has_password(url: Secret) -> bool:
    """Whether a password stands in a URL."""
    try:
        return bool(urlsplit(url.reveal()).password) or "password=" in url.reveal().lower()
    except ValueError:
        return "@" in url.reveal()


def _without_password(url: Secret) -> str:
    """A URL for people: its scheme, host and path. User name, password and options, which may hold one too, are left out."""
    try:
        parts = urlsplit(url.reveal())
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "a storage URL"
    return f"{parts.scheme}://{host}{parts.path}"
