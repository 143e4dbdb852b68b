"""What the command line prints: results on standard output, everything else on standard error; and how it ends."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pauth.core.text import printable
from pauth.errors import PAuthError, Remedy

__all__ = ["EXIT_CODES", "FAILED", "INTERRUPTED", "CheckFailed", "Output", "console", "exit_code_of", "lifetime", "moment", "table"]

FAILED: Final = 1
"""Something that was to be checked or done is not as it should be; what, is in the output."""

INTERRUPTED: Final = 130
"""Ended by Ctrl-C; what shells say of a program that was ended by this signal."""

EXIT_CODES: Final[Mapping[Remedy, int]] = {Remedy.FIX_CONFIGURATION: 3, Remedy.LOG_IN_AGAIN: 4, Remedy.RETRY: 5}
"""Of an error, by what there is to be done about it. 2 is a wrong command line."""

_WIDE: Final = 200


def exit_code_of(error: PAuthError) -> int:
    """The exit code of a command that ended with this error."""
    return FAILED if isinstance(error, CheckFailed) else EXIT_CODES[error.remedy]


class CheckFailed(PAuthError):
    """What was to be shown or checked is not as it should be."""


class Output:
    """Prints for people, or for programs (``--json``).

    Text from servers, stores and settings passes through :func:`.printable` (NA-9). JSON is ASCII, and whatever is in it is escaped.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json: bool = as_json
        self.out: Console = console(sys.stdout)
        self.err: Console = console(sys.stderr)

    def result(self, document: Mapping[str, Any] | Sequence[Any], text: str | Table) -> None:
        """Print the result of a command.

        :param document: for programs.
        :param text: for people.
        """
        if self.as_json:
            print(json.dumps(document, indent=2 if sys.stdout.isatty() else None))
        elif isinstance(text, Table):
            self.out.print(text)
        else:
            self.say(text)

    def say(self, text: str) -> None:
        """Print a line for people; nothing where programs read."""
        if not self.as_json:
            self.out.print(Text(printable(text)), soft_wrap=True)

    def tell(self, *lines: str) -> None:
        """Print lines beside the result: what is going on, what the user has to do. A line break in one of them becomes a space."""
        for line in lines:
            self.err.print(Text(printable(line)), soft_wrap=True)

    def error(self, error: PAuthError) -> None:
        """Print an error, as text or as a JSON object, on standard error."""
        if not self.as_json:
            said = error.error_description
            self.tell(f"Error: {error}" + (f" (the server says: {said})" if said and said not in str(error) else ""))
            return
        members = {
            "type": type(error).__name__,
            "message": str(error),
            "remedy": error.remedy.name.lower(),
            "error": error.error,
            "error_description": error.error_description,
            "status": error.status,
            "retry_after": error.retry_after,
            "reason": getattr(error, "reason", None),
        }
        print(json.dumps({"error": {name: value for name, value in members.items() if value is not None}}), file=sys.stderr, flush=True)

    def usage_error(self, error: click.ClickException) -> None:
        """Print what is wrong with a command line as a JSON object, on standard error."""
        members = {"type": type(error).__name__, "message": error.format_message(), "remedy": "fix_usage"}
        print(json.dumps({"error": members}), file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, what: str) -> Generator[Callable[[int, int], None]]:
        """A bar on standard error while something long goes on; nothing where that is no terminal.

        It gives a function to be told how much is done, and of how much.
        """
        if self.as_json or not self.err.is_terminal:
            yield lambda done, total: None  # noqa: ARG005  # as below
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.err, transient=True) as progress:
            task = progress.add_task(escape(printable(what)), total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)


def table(columns: Iterable[str], rows: Iterable[Sequence[str]], *, header: bool = True) -> Table:
    """A table of plain text: nothing in it is markup, and nothing is obeyed by a terminal."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_header=header)
    for name in columns:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


def moment(seconds: float | None) -> str | None:
    """A moment (seconds since the Unix epoch) in the form of ISO 8601, in UTC; ``None`` for ``None``."""
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def lifetime(expires_at: float | None) -> str:
    """How long a token is valid, for people."""
    if expires_at is None:
        return "no expiry known"
    left = expires_at - time.time()
    return f"valid for {_span(left)}" if left > 0 else f"expired {_span(-left)} ago"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def console(stream: TextIO, *, highlight: bool = False) -> Console:
    """Where there is no terminal, lines are as long as they have to be: somebody greps them."""
    columns, width = os.environ.get("COLUMNS", ""), None
    if not columns.isdecimal() or int(columns) == 0:  # shells and debuggers set 0 that know no width: rich would print nothing
        width = shutil.get_terminal_size().columns if stream.isatty() else _WIDE
    return Console(file=stream, width=width, highlight=highlight)
