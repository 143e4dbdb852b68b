"""The command ``pauth``. This module needs none of the packages of the ``cli`` extra; it says so when they are missing."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    _check_streams()
    if sys.argv[1:2] == ["token"] and _token_was_printed():
        return
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


def _token_was_printed() -> bool:
    """Print a token that is stored and valid, if that is all that was asked for."""
    import gc

    gc.disable()  # the process imports a little and ends: the collector would take a tenth of its time
    from pauth.cli.quick import quick_token

    token = quick_token(sys.argv[2:])
    if token is None:
        gc.enable()
        return False
    gc.freeze()  # nor does the end of the interpreter have to look for cycles
    try:
        print(token.reveal(), flush=True)
    except BrokenPipeError:  # nobody reads any more, and Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        problem = os.strerror(error.errno or 0)
    else:
        return True
    sys.exit(f"Error: the token could not be written: {problem}")


def _check_streams() -> None:
    """A result that would be printed to nobody is none: end before anything is done for it. Python has ``None`` for a stream that is closed."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # for the life of the process
    if sys.stdout is None:
        sys.exit("Error: standard output is closed; there is nowhere to print the result")
