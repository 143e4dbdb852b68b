"""The key file: a key for who configured none, made once, so that the next process reads what this one wrote."""

# ruff: noqa: PTH111, PTH117, PTH118 -- strings: who prints a token and ends has no time to import pathlib
from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pauth.errors import ConfigurationError, PAuthError, RecordTampered
from pauth.secret import Secret
from pauth.storage.files.errors import error_for
from pauth.storage.files.folder import Folder, open_folder
from pauth.storage.files.locks import locked
from pauth.storage.keys import EncryptionKey, Keyring, key_from

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["default_key_file", "default_key_path", "keyring_from_file", "write_key_file"]

_PATIENCE: Final = 10.0


def default_key_path() -> str:
    """``pauth/encryption.key`` in the user's configuration folder: ``$XDG_CONFIG_HOME`` or ``~/.config``, or what the platform has for it."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base = os.environ.get("APPDATA") or home  # pragma: no cover (Windows)
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Application Support")  # pragma: no cover (macOS)
    else:
        base = os.environ.get("XDG_CONFIG_HOME", "")
        if not os.path.isabs(base):  # the specification has a relative one ignored
            base = os.path.join(home, ".config")
    return os.path.join(base, "pauth", "encryption.key")


def default_key_file() -> Path:
    """The same as a path."""
    from pathlib import Path

    return Path(default_key_path())


def keyring_from_file(path: str | os.PathLike[str]) -> Keyring:
    """The keys in a file, one on each line, of which the first encrypts. The file is made with a new key, mode 0600, if it is not there. Blocks.

    Several processes that start at once agree on one key. The folder of the file has to be private, as the file itself.

    :raises ConfigurationError: the file or its folder is not the user's own or open to others, or holds no usable key.
    :raises StorageUnavailable: it cannot be read or written now.
    """
    failure: PAuthError | None = None
    content: Secret | None = None
    try:
        content = _read_or_make(os.fspath(path))
    except OSError as error:
        failure = error_for(error)
    except RecordTampered as error:
        problem = str(error).replace("a file in the token folder", "it")
        remedy = "; if the key is yours, chmod 600 it" if "others can open it" in problem else ""
        failure = ConfigurationError(f"the key file cannot be used: {problem}{remedy} ({os.fspath(path)})")
    if content is None:
        raise failure or ConfigurationError("the key file is not text; it holds one key a line, as EncryptionKey.to_string() writes it")
    try:
        return Keyring(key_from(line) for line in _lines(content))
    except ConfigurationError as error:
        problem = str(error)
    raise ConfigurationError(f"the key file holds no key that can be used: {problem} ({os.fspath(path)})")


def write_key_file(path: str | os.PathLike[str], keys: Sequence[Secret]) -> None:
    """Put keys, of which the first encrypts, in the place of those in a key file. Blocks.

    Processes that have read the file go on with the keys they have: never take one away that a record is still under.

    :param keys: as :meth:`.EncryptionKey.to_string` writes them.
    :raises ConfigurationError: the file's folder is not the user's own or open to others.
    :raises StorageUnavailable: it cannot be written now.
    """
    target: str = os.fspath(path)
    parent, name = os.path.split(target)
    failure: PAuthError | None = None
    try:
        folder = open_folder(parent, what="key file's folder")
        try:
            folder.replace(name, b"".join(b"%s\n" % key.reveal().encode() for key in keys))
        finally:
            folder.close()
    except OSError as error:
        failure = error_for(error)
    if failure is not None:
        raise failure


def _read_or_make(path: str) -> Secret | None:
    parent, name = os.path.split(path)
    opened = open_folder(parent, what="key file's folder")
    try:
        found = _read(opened, name)
        if found is None:
            lock = f"{name}.lock"
            with locked(lambda: opened.open_lock(lock), patience=_PATIENCE, make=lambda: opened.create(lock)):
                found = _read(opened, name)
                if found is None:
                    opened.replace(name, b"%s\n" % EncryptionKey.generate().to_string().reveal().encode())
                    found = _read(opened, name)
        return found
    finally:
        opened.close()


def _read(folder: Folder, name: str) -> Secret | None:
    found = folder.read(name)
    with suppress(UnicodeDecodeError):
        return None if found is None else Secret(str(found.data, "ascii"))
    return Secret("")  # which is no key either


def _lines(content: Secret) -> list[Secret]:
    return [Secret(line) for line in content.reveal().splitlines() if line.strip()]
