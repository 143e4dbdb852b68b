"""``pauth completion``: the script that lets a shell complete commands, options and logins."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes pauth's commands in SHELL.

    \b
    eval "$(pauth completion bash)"      # in ~/.bashrc
    eval "$(pauth completion zsh)"       # in ~/.zshrc
    pauth completion fish > ~/.config/fish/completions/pauth.fish
    """  # noqa: D301  # click wants the character
    root = click.get_current_context().find_root().command
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101  # click has these three
    click.echo(made(root, {}, "pauth", "_PAUTH_COMPLETE").source())
