"""``pauth demo``: the command; the demo itself is :mod:`pauth.cli.demo`, which takes a while to load."""

from __future__ import annotations

import click
from rich.console import Console

__all__ = ["demo"]


@click.command(short_help="Show a login, one refresh for many callers, and a logout.")
@click.option("--callers", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="How many ask for the expired token at once.")
def demo(callers: int) -> None:
    """Show a login, a stored token, one refresh for many callers, a restart and a logout.

    Everything is real: an authorization server on this machine, HTTP, and an encrypted SQLite file in a temporary folder that is removed at the end.
    Exit code 1 if anything did not go as it should.
    """
    from pauth.cli.demo import run_demo

    run_demo(Console(), callers=callers)
