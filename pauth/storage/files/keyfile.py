"""The key file: a key for who configured none, made once, so that the next process reads what this one wrote."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from pauth.errors import ConfigurationError, PAuthError, RecordTampered
from pauth.secret import Secret
from pauth.storage.files.folder import Folder, open_folder
from pauth.storage.files.locks import locked
from pauth.storage.files.root import error_for
from pauth.storage.keys import EncryptionKey, Keyring, key_from

__all__ = ["default_key_file", "keyring_from_file"]

_PATIENCE: Final = 10.0


def default_key_file() -> Path:
    """``pauth/encryption.key`` in the user's configuration folder: ``$XDG_CONFIG_HOME`` or ``~/.config``, or what the platform has for it."""
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home())  # pragma: no cover (Windows)
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"  # pragma: no cover (macOS)
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
        if not base.is_absolute():  # the specification has a relative one ignored
            base = Path.home() / ".config"
    return base / "pauth" / "encryption.key"


def keyring_from_file(path: str | os.PathLike[str]) -> Keyring:
    """The keys in a file, one on each line, of which the first encrypts. The file is made with a new key, mode 0600, if it is not there. Blocks.

    Several processes that start at once agree on one key. The folder of the file has to be private, as the file itself.

    :raises ConfigurationError: the file or its folder is not the user's own or open to others, or holds no usable key.
    :raises StorageUnavailable: it cannot be read or written now.
    """
    failure: PAuthError | None = None
    content: Secret | None = None
    try:
        content = _read_or_make(Path(path))
    except OSError as error:
        failure = error_for(error)
    except RecordTampered as error:
        failure = ConfigurationError(f"the key file cannot be used: {str(error).replace('a file in the token folder', 'it')}")
    if content is None:
        raise failure or ConfigurationError("the key file is not text; it holds one key a line, as EncryptionKey.to_string() writes it")
    return Keyring(key_from(line) for line in _lines(content))


def _read_or_make(path: Path) -> Secret | None:
    name = path.name
    opened = open_folder(str(path.parent), what="key file's folder")
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
