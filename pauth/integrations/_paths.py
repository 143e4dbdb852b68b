"""Where a browser may be sent after a login: a path of this site and nothing else (RFC 9700 section 4.11; WS-4). Pure functions of text."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

__all__ = ["MAX_PATH", "local_path", "path_with_query"]

MAX_PATH: Final = 1024
"""The longest path with its query, in characters."""

# Visible ASCII but for the backslash, which browsers take for a slash; quotes and brackets have no place in a URL either.
_TEXT: Final = re.compile(r"[\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a~|]+")
_PATH: Final = re.compile(r"(/[^?#]*)(?:\?[^#]*)?(?:#.*)?")
# What a proxy, a framework or a browser may make something else of: empty, dot and encoded segments' signs, user names.
_DOUBTFUL: Final = re.compile(r"//|/\.{1,2}(?=/|\Z)|[@;]|%(?:2[ef]|5c|40|3b|25|[01][0-9a-f]|7f)", re.IGNORECASE)
_BROKEN: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"%(?:[01][0-9a-f]|7f)", re.IGNORECASE)


def local_path(text: str) -> str | None:
    """``text`` if it is a path of this site, perhaps with query and fragment, that every parser takes for one; else ``None``."""
    if len(text) > MAX_PATH or not _TEXT.fullmatch(text) or _BROKEN.search(text) or _CONTROL.search(text):
        return None
    parts = _PATH.fullmatch(text)
    return None if parts is None or _DOUBTFUL.search(parts[1]) else text


def path_with_query(path: str, query: str) -> str:
    """A request's decoded path and raw query as the text of a URL."""
    return quote(path, safe="/:@!$&'()*+,;=~-._") + (f"?{query}" if query else "")
