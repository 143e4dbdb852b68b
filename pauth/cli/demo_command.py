"""``pauth demo``: the command; the demo itself is :mod:`pauth.cli.demo`, which takes a while to load."""

from __future__ import annotations

import sys

import click

from pauth.cli.common import json_option
from pauth.cli.output import Output, console

__all__ = ["demo"]


@click.command(short_help="Show a login, one refresh for many callers, and a logout.")
@click.option("--callers", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="How many ask for the expired token at once.")
@json_option
def demo(*, callers: int, as_json: bool) -> None:
    """Show a login, a stored token, one refresh for many callers, a restart and a logout.

    Everything is real: an authorization server on this machine, HTTP, and an encrypted SQLite file in a temporary folder that is removed at the end.
    With --json the story goes to standard error, and what was seen to standard output. Exit code 1 if anything did not go as it should.
    """
    from pauth.cli.demo import run_demo

    seen = run_demo(console(sys.stderr if as_json else sys.stdout, highlight=True), callers=callers)
    if as_json:
        Output(as_json=True).result(seen, "")
