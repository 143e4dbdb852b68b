"""The command ``pauth``. This module needs none of the packages of the ``cli`` extra; it says so when they are missing."""

from __future__ import annotations

import sys
from io import TextIOWrapper

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    try:
        from pauth.cli.app import app
    except ModuleNotFoundError as missing:
        if missing.name not in ("click", "rich"):
            raise
        sys.exit("the command line needs more packages; install them with: pip install 'pauth[cli,sql]'")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a check mark must not end a program on a terminal, or in a file, that has none
    app(prog_name="pauth")
