"""``pauth refresher``: keeps the tokens of logins fresh, for as long as it runs."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

import click

from pauth.cli.common import Given, Number, common_options, complete_login, not_empty
from pauth.cli.logins import all_logins
from pauth.cli.output import FAILED
from pauth.cli.settings import normal_name
from pauth.cli.store import place_of
from pauth.cli.target import client_of, find_target
from pauth.client import OAuth2Client
from pauth.errors import ConfigurationError, PAuthError, ReauthorizationRequired
from pauth.refresh.refresher import RefresherProgress, TokenRefresher
from pauth.storage import CoordinatedTokenStorage

__all__ = ["refresher"]


def _none_empty(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        not_empty(context, parameter, value)
    return values


@click.command(short_help="Keep tokens fresh, for as long as it runs.")
@click.argument("names", nargs=-1, metavar="[LOGIN]...", callback=_none_empty, shell_complete=complete_login)
@click.option("--once", is_flag=True, help="Go through what is due once, and end.")
@click.option("--interval", type=Number(1, 86_400), default=60.0, show_default=True, help="Seconds from one scan to the next.")
@click.option("--rate", type=Number(0.01, 100_000), help="Refreshes a second at one provider, at most.  [default: as many as go]")
@click.option("--concurrency", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Refreshes that are under way at once, at most.")
@common_options
def refresher(given: Given, *, names: tuple[str, ...], once: bool, interval: float, rate: float | None, concurrency: int) -> None:
    """Refresh the tokens of all users of the logins that are named, or of all logins, before they expire.

    It runs until it is stopped, by SIGTERM or Ctrl-C; a refresh under way is ended first. Any number of them, on any number of machines, share the
    work on one storage. Of all logins, one that cannot be used is told and left out. --verbose tells of each refresh. With --once the exit code is 1
    if a refresh failed, or a login was left out.
    """

    async def work(storage: CoordinatedTokenStorage) -> tuple[list[str], dict[str, PAuthError], RefresherProgress]:
        chosen = await _chosen(storage, given, names)
        unusable: dict[str, PAuthError] = {}
        async with AsyncExitStack() as stack:
            clients: dict[str, OAuth2Client] = {}
            for name in chosen:
                try:
                    login = await find_target(storage, given.config, name)
                    client = await stack.enter_async_context(client_of(login, storage))
                except PAuthError as error:
                    if names:
                        raise
                    unusable[name] = error  # what is wrong with one must not end the tokens of the others (P9)
                    given.output.tell(f"{name} is left out: {error}")
                else:
                    clients.setdefault(client.namespace, client)  # two names of one client are the same records
            if not clients:
                raise _none_usable(unusable)
            keeper = TokenRefresher(list(clients.values()), interval=interval, rate=rate, concurrency=concurrency)
            if once:
                progress = await keeper.run_once()
            else:
                with suppress(NotImplementedError):  # Windows has no such signal to wait for
                    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, keeper.stop)  # to the end: a second one must not cut a refresh off
                await keeper.run()
                progress = keeper.progress
        return [name for name in chosen if name not in unusable], unusable, progress

    elsewhere = place_of(given.config, given.storage).url is not None  # it may run before the program whose tokens it is to keep fresh
    done, unusable, progress = given.run(work, makes=elsewhere)
    without = f"; logins that cannot be used: {len(unusable)}" if unusable else ""
    document: dict[str, Any] = {
        "logins": done,
        "unusable": {name: str(error) for name, error in unusable.items()},
        **dataclasses.asdict(progress),
    }
    given.output.result(
        document,
        f"Refreshed: {progress.refreshed}; failed: {progress.failed}; users who have to log in again: {progress.dead}; "
        f"of {progress.listed} that were due in {progress.scans} scan{'' if progress.scans == 1 else 's'}{without}.",
    )
    if once and (progress.failed or unusable):
        click.get_current_context().exit(FAILED)


async def _chosen(storage: CoordinatedTokenStorage, given: Given, names: tuple[str, ...]) -> list[str]:
    """The names of the logins that are meant: those that are named, or all that were made or have a client in pauth.toml."""
    configured = {name for name, profile in given.config.profiles.items() if profile.client_id is not None}
    chosen = names or sorted({login.name async for login in all_logins(storage)} | configured)
    if not chosen:
        raise ReauthorizationRequired("there is no login yet: pauth login PROVIDER", reason="not_logged_in")
    return list(dict.fromkeys(map(normal_name, chosen)))


def _none_usable(unusable: Mapping[str, PAuthError]) -> PAuthError:
    first = next(iter(unusable.values()))
    return ConfigurationError(f"no login can be used: {'; '.join(f'{name}: {error}' for name, error in unusable.items())}", remedy=first.remedy)
