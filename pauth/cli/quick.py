"""``pauth token`` for a token that is stored and valid, without what takes long to import: no event loop, no HTTP, no command line library.

A shell calls it inside ``$(…)``, perhaps in a loop. Whatever is not as usual (an option, another storage, an expired token, any error) is left to the
command itself, which does the same with everything that belongs to it and says what is wrong.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pauth.cli.keys import key_place, read_keys
from pauth.cli.places import default_token_folder
from pauth.cli.settings import LOGINS, Config, Profile, load_config, normal_name
from pauth.errors import PAuthError
from pauth.refresh.policy import Freshness, RefreshPolicy
from pauth.refresh.stored import read_grant
from pauth.secret import Secret
from pauth.storage.files.reading import TokenReader
from pauth.storage.record_key import RecordKey

__all__ = ["quick_token"]


def quick_token(arguments: Sequence[str]) -> Secret | None:
    """The access token that ``pauth token`` has to print; ``None`` if that takes more than a look into the files. Blocks.

    :param arguments: what follows ``token`` on the command line.
    """
    asked = _parse(arguments)
    if asked is None:
        return None
    try:
        return _stored_token(*asked)
    except (PAuthError, OSError, KeyError, TypeError, ValueError):
        return None  # the command will meet it again, and say what it is


def _parse(arguments: Sequence[str]) -> tuple[str, str | None] | None:
    """``[NAME] [--user USER]``, in the forms people write; anything else is for the true parser."""
    name, user = "", None
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument in {"--user", "-u"} and left and not left[0].startswith("-"):
            user = left.pop(0)
        elif argument.startswith("--user="):
            user = argument.removeprefix("--user=")
        elif argument.startswith("-") or name or not argument:
            return None
        else:
            name = argument
    return None if user == "" else (name, user)  # nobody is nobody, and not the user that is meant by default


def _stored_token(name: str, user: str | None) -> Secret | None:
    config = load_config()
    name = normal_name(name or os.environ.get("PAUTH_LOGIN") or config.default or "")
    directory = _directory(config)
    if not name or directory is None:
        return None
    keys = read_keys(key_place(config))
    if keys is None:
        return None  # there is no key yet, or the storage has one of its own
    profile = config.profiles.get(name, Profile())
    user = user or os.environ.get("PAUTH_USER") or profile.user or name
    reader = TokenReader(directory, keys)
    try:
        namespace = _namespace(reader.get(RecordKey(LOGINS, name)), profile)
        tokens = None if namespace is None else reader.get(RecordKey(namespace, user))
    finally:
        reader.close()
    if tokens is None:
        return None
    try:
        grant = read_grant(tokens)
    finally:
        del tokens  # SH-5
    if grant.ended is not None or RefreshPolicy().freshness(grant.token, time.time()) is not Freshness.FRESH:
        return None
    return grant.token.access_token


def _directory(config: Config) -> str | None:
    """The folder of the tokens; ``None`` if they are elsewhere, or the folder's name is written in a way that takes more to read."""
    url = Secret(os.environ["PAUTH_STORAGE_URL"]) if os.environ.get("PAUTH_STORAGE_URL") else config.storage
    if url is None:
        return default_token_folder()
    scheme, _, path = url.reveal().partition("://")
    plain = scheme == "file" and path.startswith("/") and not set(path) & set("%?#")
    return path if plain else None


def _namespace(login: Mapping[str, Any] | None, profile: Profile) -> str | None:
    """Where the tokens of a login are; ``None`` if there was none, or the settings mean another one now."""
    client_id = os.environ.get("PAUTH_CLIENT_ID") or profile.client_id
    if login is None or profile.provider not in (None, login["provider"]) or client_id not in (None, login["client_id"]):
        return None
    return str(login["namespace"])
