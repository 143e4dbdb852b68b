"""``pauth import``: tokens that another library keeps, into the storage, under a login."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import click

from pauth.cli.common import Given, common_options, login_argument, not_empty, run_on
from pauth.cli.logins import KnownLogin, find_login, keep_login
from pauth.cli.output import FAILED
from pauth.cli.target import client_of, settled, user_of, which
from pauth.errors import ConfigurationError
from pauth.importers import (
    ImportReport,
    Problem,
    Skipped,
    from_authlib,
    from_flask_dance,
    from_google_auth,
    from_mcp,
    from_msal,
    from_requests_oauthlib,
    import_tokens,
)
from pauth.importers.entries import Entry, TokenData, json_object
from pauth.importers.msal import MsalUserId
from pauth.secret import Secret
from pauth.storage import CoordinatedTokenStorage, MemoryTokenStorage

__all__ = ["import_command"]

Found: TypeAlias = Iterable[Entry] | AsyncIterable[Entry]

_DATABASE: Final = "flask-dance"
_FORMATS: Final = ("authlib", "requests-oauthlib", "google-auth", "msal", _DATABASE, "mcp")

_ENCODING: Final = "utf-8-sig"
"""UTF-8, with the mark before it that Windows' editors and shells write, or without."""

_MOST_SHOWN: Final = 20
"""Problems that are named; the rest is counted."""


@click.command("import", short_help="Take over the tokens of another library.")
@click.argument("form", metavar="FORMAT", type=click.Choice(_FORMATS))
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@login_argument()
@click.option(
    "--user", "-u", callback=not_empty, help="Whose it is, if FILE holds one token or does not say.  [default of one token: the login's name]"
)
@click.option("--dry-run", is_flag=True, help="Write nothing, and say what would be written.")
@click.option("--overwrite", is_flag=True, help="Replace the tokens of users who have others already.")
@click.option("--provider", "blueprint", metavar="NAME", callback=not_empty, help="flask-dance: the blueprint's name.  [default: the login's name]")
@click.option("--table", callback=not_empty, default="flask_dance_oauth", show_default=True, help="flask-dance: the table's name.")
@click.option("--user-column", callback=not_empty, help="flask-dance: the column that says whose a row is.  [default: user_id]")
@click.option("--no-user-column", is_flag=True, help="flask-dance: there is none; --user says whose all rows are.")
@click.option(
    "--user-id",
    type=click.Choice(["home_account_id", "local_account_id", "username", "sub"]),
    default="home_account_id",
    show_default=True,
    help="msal: what users shall be known by.",
)
@common_options
def import_command(
    given: Given,
    *,
    form: str,
    path: str,
    name: str | None,
    user: str | None,
    dry_run: bool,
    overwrite: bool,
    blueprint: str | None,
    table: str,
    user_column: str | None,
    no_user_column: bool,
    user_id: MsalUserId,
) -> None:
    """Store the tokens in FILE for a login, whose client has to be the one that they were issued to.

    FORMAT is authlib, requests-oauthlib, google-auth, msal, flask-dance or mcp. FILE is a JSON object of tokens by user id, or one token; of msal a
    cache, of mcp the file of one token, of flask-dance a SQLite database. - is standard input. LOGIN is one that was made before, or a profile in
    pauth.toml.

    Stop the program that refreshes these tokens today, first: two that have one refresh token end the session for both. Tokens that are there already
    are kept. Exit code 1 if something could not be imported.
    """
    if form == _DATABASE and path == "-":
        raise click.UsageError("a database is a file, and cannot come from standard input")
    if no_user_column and user_column is not None:
        raise click.UsageError("--user-column and --no-user-column contradict each other; leave one out")
    column = None if no_user_column else user_column or "user_id"
    source = _Source(path)
    if form != _DATABASE:
        source.read()

    def entries(login: KnownLogin) -> Found:
        if form == _DATABASE:
            return from_flask_dance(path, provider=blueprint or login.name, table=table, user_column=column, user_id=user)
        if form == "msal":
            return from_msal(source.text.reveal(), client_id=login.client_id, user_id=user_id)
        return _entries(form, source, login, user_of(given.config, login.name, user))

    async def work(storage: CoordinatedTokenStorage) -> tuple[KnownLogin, ImportReport]:
        login = await _target(storage, given, name)
        async with client_of(login, storage) as client:
            with given.output.progress("importing") as tell:
                report = await import_tokens(
                    entries(login),
                    storage,
                    namespace=client.namespace,
                    dry_run=dry_run,
                    overwrite=overwrite,
                    on_progress=lambda done: tell(done, done),
                )
            if report.written and not dry_run and await find_login(storage, login.name) is None:
                await keep_login(storage, replace(login, namespace=client.namespace))  # so that it is listed, as after a login
        return login, report

    if given.is_there:
        done = given.run(work)
    elif dry_run:  # nothing is made for looking
        done = run_on(MemoryTokenStorage(), work)
    else:
        run_on(MemoryTokenStorage(), lambda storage: _target(storage, given, name))  # what is missing is told before anything is made
        done = given.run(work, makes=True)
    _report(given, *done)


async def _target(storage: CoordinatedTokenStorage, given: Given, name: str | None) -> KnownLogin:
    """The login that is meant, made or configured."""
    named = await which(storage, given.config, name)
    login = await asyncio.to_thread(settled, named, given.config, await find_login(storage, named))
    if not login.client_id:
        raise ConfigurationError(
            f"no client id is known for {named!r}: put the client that the tokens were issued to into a profile in pauth.toml, or set PAUTH_CLIENT_ID"
        )
    return login


class _Source:
    """What was read, and for whom."""

    def __init__(self, path: str) -> None:
        self.path: str = path
        self.saved_at: float | None = None
        """When it was written, if it is a file; seconds since the Unix epoch."""

        self.text: Secret = Secret("")

    def read(self) -> None:
        """Read all of it. Blocks.

        :raises ConfigurationError: it cannot be read, or is no text.
        """
        try:
            if self.path == "-":
                self.text = Secret(str(memoryview(sys.stdin.buffer.read()), _ENCODING))
            else:
                self.saved_at = Path(self.path).stat().st_mtime
                self.text = Secret(str(memoryview(Path(self.path).read_bytes()), _ENCODING))
        except UnicodeDecodeError:
            problem = "it is not UTF-8"
        except OSError as error:
            problem = os.strerror(error.errno or 0)
        else:
            return
        raise ConfigurationError(f"what is to be imported cannot be read: {problem} ({self.path})")

    def tokens(self, user: str, *mark: str) -> Mapping[str, TokenData]:
        """Its tokens by user id; or its one token, which is ``user``'s.

        :param mark: members that a token has, and a table of users has not.
        :raises ConfigurationError: it is no JSON object.
        """
        members = json_object(self.text.reveal())
        if isinstance(members, str):
            raise ConfigurationError(f"what is to be imported is no JSON object of tokens by user id: {members} ({self.path})")
        return {user: self.text.reveal()} if members.keys() & {*mark} else cast("Mapping[str, TokenData]", members)


def _entries(form: str, source: _Source, login: KnownLogin, user: str) -> Found:
    match form:
        case "authlib":
            return from_authlib(source.tokens(user, "access_token", "refresh_token"))
        case "requests-oauthlib":
            return from_requests_oauthlib(source.tokens(user, "access_token", "refresh_token"))
        case "google-auth":
            return from_google_auth(source.tokens(user, "token", "refresh_token"), client_id=login.client_id)
        case _:
            return from_mcp({user: source.text.reveal()}, saved_at=source.saved_at)


def _report(given: Given, login: KnownLogin, report: ImportReport) -> None:
    told: list[Problem | Skipped] = [*report.problems, *report.skipped]
    for each in told[:_MOST_SHOWN]:
        whose = "" if each.user_id is None else f" ({each.user_id})"
        given.output.tell(f"{each.where}{whose}: {each.reason}")
    if len(told) > _MOST_SHOWN:
        given.output.tell(f"and {len(told) - _MOST_SHOWN} more")
    document: dict[str, Any] = {
        "login": login.name,
        "dry_run": report.dry_run,
        "found": report.found,
        "written": list(report.written),
        "same": list(report.same),
        "kept": list(report.kept),
        "problems": [_members(each) for each in report.problems],
        "skipped": [_members(each) for each in report.skipped],
    }
    given.output.result(document, f"{str(report).capitalize()}.")
    if report.problems:
        click.get_current_context().exit(FAILED)


def _members(entry: Problem | Skipped) -> dict[str, str | None]:
    return {"where": entry.where, "user": entry.user_id, "reason": entry.reason}
