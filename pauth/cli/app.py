"""The commands. Each takes its options apart and calls one function."""

from __future__ import annotations

import click
from rich.console import Console

from pauth.errors import PAuthError
from pauth.version import __version__

__all__ = ["app"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pauth")
def app() -> None:
    """Get, keep and refresh OAuth tokens."""


@app.command()
@click.option("--callers", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="How many ask for the expired token at once.")
def demo(callers: int) -> None:
    """Show a login, a stored token, one refresh for many callers, a restart and a logout.

    Everything is real: an authorization server on this machine, HTTP, and an encrypted SQLite file in a temporary folder that is removed at the end.
    Exit code 1 if anything did not go as it should.
    """
    from pauth.cli.demo import run_demo

    try:
        run_demo(Console(), callers=callers)
    except PAuthError as error:
        raise click.ClickException(str(error)) from None
