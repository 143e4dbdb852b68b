"""Where the command line keeps its things: tokens in the platform's data folder, ``pauth.toml`` beside the key file in its configuration folder.

Imports nothing that takes long: see :mod:`pauth.cli.quick`.
"""

# ruff: noqa: PTH111, PTH117, PTH118, PTH120 -- strings: see pauth.storage.files.keyfile
from __future__ import annotations

import os
import sys

from pauth.storage.files.keyfile import default_key_path

__all__ = ["config_folder", "data_folder", "default_config_file", "default_token_folder"]


def default_token_folder() -> str:
    """The folder of the tokens, where no storage is configured."""
    return os.path.join(data_folder(), "tokens")


def default_config_file() -> str:
    """The configuration file that is read if it is there and no other is named."""
    return os.path.join(config_folder(), "pauth.toml")


def config_folder() -> str:
    """The folder for configuration: ``~/.config/pauth``, or what the platform has for it."""
    return os.path.dirname(default_key_path())


def data_folder() -> str:
    """The folder for data, as platformdirs has it: ``~/.local/share/pauth`` or what the platform has for it."""
    if sys.platform in {"darwin", "win32"}:
        import platformdirs  # pragma: no cover (macOS, Windows)

        return platformdirs.user_data_dir("pauth", appauthor=False)  # pragma: no cover (macOS, Windows)
    base = os.environ.get("XDG_DATA_HOME", "").strip()  # platformdirs itself takes five times as long to import as there is time for
    if not os.path.isabs(base):  # the specification has a relative one ignored
        base = os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(base, "pauth")
