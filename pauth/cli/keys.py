"""Where the command line has the keys that tokens are encrypted with: the environment, the system's keyring, or a key file.

Imports nothing that takes long, but for the keyring where the keys are in it: see :mod:`pauth.cli.quick`.
"""

from __future__ import annotations

import os
from typing import Final

from pauth.cli.places import config_folder
from pauth.cli.settings import Config
from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage.files.folder import open_folder
from pauth.storage.files.keyfile import default_key_path, keyring_from_file, write_key_file
from pauth.storage.files.locks import locked
from pauth.storage.keys import EncryptionKey, Keyring, key_from, keyring_from_environment

__all__ = ["ENVIRONMENT", "SYSTEM_KEYRING", "KeyPlace", "key_place", "made_keys", "read_keys", "save_keys"]

_PATIENCE: Final = 10.0
_LOCK: Final = "keyring.lock"
"""Held by who puts a key into the keyring. It stays, and tells that somebody did."""


class KeyPlace:
    """Where keys are.

    :param name: for people.
    :param path: of a key file.
    :param instead: the path of a key file whose keys count if there are none in the keyring.
    """

    __slots__ = ("instead", "name", "path")

    def __init__(self, name: str, path: str | None = None, *, instead: str | None = None) -> None:
        self.name: str = name
        self.path: str | None = path
        self.instead: str | None = instead


ENVIRONMENT: Final = KeyPlace("the environment")
SYSTEM_KEYRING: Final = KeyPlace("the system keyring")


def key_place(config: Config) -> KeyPlace:
    """Where the keys are, or would be read from. Asks no keyring."""
    if os.environ.get("PAUTH_ENCRYPTION_KEY") or os.environ.get("PAUTH_ENCRYPTION_KEYS"):
        return ENVIRONMENT
    path = config.key_file or default_key_path()
    if config.key != "keyring" and (config.key == "file" or config.key_file is not None):
        return KeyPlace(path, path)
    if config.key == "keyring" or not os.path.exists(path):  # noqa: PTH110  # pathlib takes long to import
        return SYSTEM_KEYRING
    # A key file that is there goes before a keyring that may come later: what is encrypted is encrypted with it. But where a key was put into the
    # keyring, the file came later: any program with a token folder of its own makes it.
    if os.path.exists(os.path.join(config_folder(), _LOCK)):  # noqa: PTH110, PTH118  # the same
        return KeyPlace(SYSTEM_KEYRING.name, instead=path)
    return KeyPlace(path, path)


def read_keys(place: KeyPlace) -> Keyring | None:
    """The keys at a place; ``None`` if there are none. Nothing is made. Blocks.

    :raises ConfigurationError: a key is unusable, or its file is not private.
    :raises StorageUnavailable: they cannot be read now.
    """
    if place is ENVIRONMENT:
        return keyring_from_environment()
    if place.path is not None:
        return keyring_from_file(place.path) if os.path.exists(place.path) else None  # noqa: PTH110  # the same
    from pauth.cli import os_keyring

    text = os_keyring.get()
    if text is not None:
        return _keyring(text)
    return None if place.instead is None else keyring_from_file(place.instead)


def made_keys(config: Config, *, store_exists: bool) -> Keyring:
    """The keys of the command line's own store. Blocks.

    Where there is none yet, a new one is made: in the system's keyring if there is one, else in a key file.

    :param store_exists: there are tokens already, so a key that is not found is lost and a new one would not open them.
    :raises ConfigurationError: a key is unusable, or lost.
    :raises StorageUnavailable: they cannot be read now.
    """
    place = key_place(config)
    found = read_keys(place)
    if found is not None:
        return found
    if store_exists:
        where = f"{default_key_path()} and in {place.name}" if place.path is None and config.key == "auto" else place.name
        raise ConfigurationError(
            f"the encryption key of the stored tokens was looked for in {where} and is not there; "
            "put the key file back, set PAUTH_ENCRYPTION_KEY, or log in at the desktop whose keyring has it"
        )
    if place.path is not None:
        return keyring_from_file(place.path)
    from pauth.cli import os_keyring

    if config.key != "keyring" and not os_keyring.available():
        return keyring_from_file(default_key_path())
    folder = open_folder(config_folder(), what="configuration folder")
    try:
        with locked(lambda: folder.open_lock(_LOCK), patience=_PATIENCE, make=lambda: folder.create(_LOCK)):
            text = os_keyring.get()  # another process may have been faster
            if text is None:
                text = EncryptionKey.generate().to_string()
                os_keyring.put(text)
            return _keyring(text)
    finally:
        folder.close()


def save_keys(place: KeyPlace, keys: Keyring) -> None:
    """Keep these keys at a place, in place of those that are there. Blocks.

    :raises ConfigurationError: the place is the environment, which is not ours to change.
    :raises StorageUnavailable: they could not be kept.
    """
    if place is ENVIRONMENT:
        raise ConfigurationError("the encryption keys are in the environment: change PAUTH_ENCRYPTION_KEYS there")
    texts = [key.to_string() for key in keys.keys if isinstance(key, EncryptionKey)]
    if len(texts) != len(keys.keys):
        raise ConfigurationError("there is a Fernet key among the encryption keys; re-encrypt first, and take it out by hand")
    if place.path is not None:
        write_key_file(place.path, texts)
    else:
        from pauth.cli import os_keyring

        os_keyring.put(Secret(",".join(text.reveal() for text in texts)))


def _keyring(text: Secret) -> Keyring:
    return Keyring(key_from(Secret(part)) for part in text.reveal().split(",") if part.strip())
