"""The command ``pauth``. This module needs none of the packages of the ``cli`` extra; it says so when they are missing."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    _open_what_is_closed()
    failure = None
    try:
        if sys.argv[1:2] != ["token"] or not _token_was_printed():
            _run()
    except KeyboardInterrupt:  # before a command has begun: while it is loaded
        sys.exit(_INTERRUPTED)
    except OSError as error:
        if error.filename is not None:
            raise
        failure = error  # of standard output or standard error: all others have a name, or are an error of pauth
    finally:
        _flush(failure)


def _run() -> None:
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
    print(token.reveal())
    return True


def _open_what_is_closed() -> None:
    """Let standard streams that a daemon or a shell has closed lead nowhere.

    Nothing can be asked of or printed to a ``None``; and the next file that is opened, one with tokens perhaps, would get the number of the missing
    one and all that a library writes to it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: that of the missing one
            setattr(sys, name, open(opened, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  # for as long as the process lives


def _flush(failure: OSError | None) -> None:
    """Write what is still to be written, and say so if that cannot be, or could not: whatever the command has done, its result is lost."""
    try:
        sys.stdout.flush()
    except OSError as error:
        failure = error
    if failure is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain once more at its end
        # nobody reads any more: that is not worth a word
        sys.exit(1 if isinstance(failure, BrokenPipeError) else f"Error: the output could not be written: {failure.strerror}")
