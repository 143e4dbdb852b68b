"""``pauth completion``: the script that lets a shell complete commands, options, presets and profiles."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pauth.cli.common import json_option
from pauth.cli.output import Output

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
def completion(*, shell: str, as_json: bool) -> None:
    """Print the script that completes pauth's commands in SHELL.

    \b
    eval "$(pauth completion bash)"      # in ~/.bashrc
    eval "$(pauth completion zsh)"       # in ~/.zshrc
    pauth completion fish > ~/.config/fish/completions/pauth.fish
    """  # noqa: D301  # click wants the character
    root = click.get_current_context().find_root().command
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101  # click has these three
    script = made(root, {}, "pauth", "_PAUTH_COMPLETE").source()
    if as_json:
        Output(as_json=True).result({"shell": shell, "script": script}, "")
    else:
        click.echo(script)
