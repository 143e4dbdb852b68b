"""Opening the user's browser: a program and its arguments, never a shell (NA-6).

The URL comes from a server's metadata and ends on a command line: it is parsed strictly first. ``BROWSER`` is honoured as Python's own webbrowser
does, whose helpers for terminals and whose fallbacks are not wanted here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from pauth.core.urls import url_problem

__all__ = ["browser_named", "can_be_opened", "open_browser"]

_MAX_URL: Final = 16 * 1024
# What RFC 3986 allows in a query, percent-encoded; no quote, space, control or non-ASCII character.
_QUERY: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?@&+,=]|%[0-9A-Fa-f]{2})*")
# We use no shell; what we start may: wslview hands the URL to PowerShell, which computes $(…) also in quotes (CVE-2025-6514), and BROWSER may be a
# script. No login needs one of these, and an address that is not opened is shown all the same.
_SHELL: Final = frozenset("$!'()*;")


def can_be_opened(url: str) -> bool:
    """Whether ``url`` may be given to a browser: ``https``, or ``http`` to this machine; nothing that any program could take for something else."""
    base, _, query = url.partition("?")
    return url_problem(base) is None and not _SHELL & set(base) and _QUERY.fullmatch(query) is not None and len(url) <= _MAX_URL


def browser_named() -> str | None:
    """The program that :func:`open_browser` would start; ``None`` if there is none."""
    if sys.platform == "win32":
        return "the standard browser"  # pragma: no cover (Windows)
    commands = [_with_url(each, "https://") for each in _named()] or [[program, ""] for program in _openers()]
    return next((command[0] for command in commands if command and shutil.which(command[0])), None)


def open_browser(url: str) -> bool:
    """Open ``url`` in the user's browser; ``False`` if there is none, or it is no URL to open. Blocks for a moment.

    It cannot be known whether the user sees it: print it too.
    """
    if not can_be_opened(url):
        return False
    named = _named()
    if named:
        return any(_start(_with_url(each, url)) for each in named)
    if sys.platform == "win32":
        with suppress(OSError):  # pragma: no cover (Windows)
            os.startfile(url)  # noqa: S606  # pragma: no cover (Windows)
            return True  # pragma: no cover (Windows)
        return False  # pragma: no cover (Windows)
    return any(_start([program, url]) for program in _openers())


def _named() -> Sequence[str]:
    """The commands in ``BROWSER``."""
    return [each for each in os.environ.get("BROWSER", "").split(os.pathsep) if each.strip()]


def _openers() -> Sequence[str]:
    if sys.platform == "darwin":
        return ("/usr/bin/open",)  # pragma: no cover (macOS)
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("WSL_DISTRO_NAME")):
        return ()  # xdg-open would open a browser in this terminal
    return tuple(filter(None, map(shutil.which, ("xdg-open", "wslview"))))[:1]


def _with_url(command: str, url: str) -> list[str]:
    """``BROWSER``'s command as arguments, the URL in the place of ``%s`` or at the end. An ``&`` at the end means what we do anyway."""
    try:
        arguments = shlex.split(command)
    except ValueError:
        return []
    if arguments and arguments[-1] == "&":
        arguments.pop()
    if any("%s" in argument for argument in arguments):
        return [argument.replace("%s", url) for argument in arguments]
    return [*arguments, url]


def _start(arguments: Sequence[str]) -> bool:
    if len(arguments) < 2:
        return False
    with suppress(OSError, ValueError):
        started = subprocess.Popen(  # noqa: S603  # the user's own program; the URL is one argument, and begins with http
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        threading.Thread(target=started.wait, name="pauth-browser", daemon=True).start()  # it may run on when we have ended
        return True
    return False
