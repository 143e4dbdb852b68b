"""The command ``pauth`` and its table of commands. Each group of commands has a module of its own, which is loaded when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from pauth.cli.common import PauthGroup
from pauth.version import __version__

__all__ = ["COMMANDS", "app"]

COMMANDS: Final = {
    "login": "pauth.cli.login:login",
    "token": "pauth.cli.tokens:token",
    "list": "pauth.cli.tokens:list_logins",
    "show": "pauth.cli.tokens:show",
    "refresh": "pauth.cli.renewal:refresh",
    "revoke": "pauth.cli.renewal:revoke",
    "logout": "pauth.cli.renewal:logout",
    "refresher": "pauth.cli.refresher:refresher",
    "import": "pauth.cli.importing:import_command",
    "providers": "pauth.cli.providers:providers",
    "storage": "pauth.cli.storage:storage",
    "doctor": "pauth.cli.doctor:doctor",
    "demo": "pauth.cli.demo_command:demo",
    "completion": "pauth.cli.completion:completion",
}
"""Where each command is, in the order of the help. A new one is a line here, and a click command."""


class _Lazy(PauthGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """The names of the commands, as they are listed."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """The command of this name."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pauth")
def app() -> None:
    """Get, keep and refresh OAuth tokens.

    Exit codes: 0 done; 1 what was checked is not as it should be; 2 wrong usage; 3 fix the configuration; 4 log in again; 5 try again later;
    130 interrupted.
    """
