"""``pauth token``, ``list`` and ``show``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import click

from pauth.cli.common import Given, common_options, login_argument, nothing_at, user_option
from pauth.cli.logins import KnownLogin, UnreadableLogin, all_logins
from pauth.cli.output import lifetime, moment, table
from pauth.cli.settings import LOGINS
from pauth.cli.store import place_of
from pauth.cli.target import client_of, find_target, user_of
from pauth.core.token import Token
from pauth.errors import PAuthError, ReauthorizationRequired, TokenStorageError
from pauth.refresh.stored import StoredGrant, read_grant
from pauth.storage import CoordinatedTokenStorage, Record, RecordKey

__all__ = ["list_logins", "show", "token"]

_NO_LOGIN: Final = "There is no login yet: pauth login PROVIDER"
_AT_ONCE: Final = 500
"""Records that are read at once."""


@click.command()
@login_argument()
@user_option
@click.option("--header", is_flag=True, help="Print the whole Authorization header, for curl -H @-.")
@common_options
def token(given: Given, *, name: str | None, user: str | None, header: bool) -> None:
    """Print a valid access token, and nothing else.

    The stored token, or a refreshed one, which is stored before it is printed.

    \b
    http GET https://api.github.com/user "Authorization: Bearer $(pauth token github)"
    pauth token github --header | curl -H @- https://api.github.com/user
    """  # noqa: D301  # click wants the character

    async def get(storage: CoordinatedTokenStorage) -> Token:
        login = await find_target(storage, given.config, name)
        async with client_of(login, storage) as client:
            return await client.get_token(user_of(given.config, login.name, user))

    found = given.run(get)
    if given.output.as_json:
        members = {"access_token": found.access_token.reveal(), "token_type": found.token_type, "expires_at": moment(found.expires_at)}
        given.output.result(members, "")
    elif header:
        click.echo(f"Authorization: {found.auth_headers()['Authorization']}")
    else:
        click.echo(found.access_token.reveal())


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Every record in the store, those of other programs too.")
@common_options
def list_logins(given: Given, *, everything: bool) -> None:
    """List the logins: where, as whom, and how their tokens stand."""
    place = place_of(given.config, given.storage)
    there = place.is_there
    rows = given.run(lambda storage: _listed(storage, everything=everything)) if there else []
    document = [{name: value for name, value in row.items() if name != "state"} for row in rows]
    columns = ("LOGIN", "USER", "PROVIDER", "TOKEN")
    cells = [[str(row["login"] or "-"), str(row["user"] or "-"), str(row["provider"] or row["namespace"] or "-"), str(row["state"])] for row in rows]
    nothing = _NO_LOGIN if there else f"T{nothing_at(place)[1:]}"
    if given.output.as_json and place.url is not None and not there:  # the list does not tell it from one that is empty
        given.output.tell(nothing)
    given.output.result(document, table(columns, cells) if rows else nothing)


async def _listed(storage: CoordinatedTokenStorage, *, everything: bool) -> list[dict[str, Any]]:
    found_logins = [login async for login in all_logins(storage)]
    logins = [login for login in found_logins if isinstance(login, KnownLogin)]
    rows = [_unreadable(login) for login in found_logins if isinstance(login, UnreadableLogin)]
    for namespace in [None] if everything else sorted({login.namespace for login in logins}):
        cursor: str | None = None
        while True:
            page = await storage.list_users(namespace, cursor=cursor, limit=_AT_ONCE)
            keys = [item.key for item in page.items if item.key.namespace != LOGINS]
            for key, found in zip(keys, await storage.get_many(keys), strict=True):
                if found is not None:
                    rows.append(_row(_login_of(key, logins), key, found))
            cursor = page.next_cursor
            if cursor is None:
                break
    return sorted(rows, key=lambda row: (str(row["login"] or "~"), str(row["namespace"]), str(row["user"])))


def _unreadable(login: UnreadableLogin) -> dict[str, Any]:
    error = str(login.error)
    return {"login": login.name, "user": None, "provider": None, "namespace": None, "error": error, "state": error}


def _login_of(key: RecordKey, logins: Sequence[KnownLogin]) -> KnownLogin | None:
    """The login that a record belongs to: of those of its provider and client, the one that its user is named after, else any."""
    fitting = sorted((login for login in logins if login.namespace == key.namespace), key=lambda login: login.name)
    return next((login for login in fitting if login.name == key.user_id), fitting[0] if fitting else None)


def _row(login: KnownLogin | None, key: RecordKey, found: Record | TokenStorageError) -> dict[str, Any]:
    row: dict[str, Any] = {
        "login": None if login is None else login.name,
        "user": key.user_id,
        "provider": None if login is None else login.provider,
        "namespace": key.namespace,
    }
    grant = _grant(found)
    if isinstance(grant, PAuthError):
        return {**row, "error": str(grant), "state": f"cannot be read: {grant}"}
    state = f"ended ({grant.ended}): log in again" if grant.ended else lifetime(grant.token.expires_at)
    if not grant.ended and grant.token.refresh_token is not None:
        state += ", refreshable"
    return {**row, **_described(grant), "state": state}


def _grant(found: Record | TokenStorageError) -> StoredGrant | PAuthError:
    if isinstance(found, TokenStorageError):
        return found
    try:
        return read_grant(found.tokens)
    except PAuthError as error:
        return error


def _described(grant: StoredGrant) -> dict[str, Any]:
    """All there is to say of a grant but its secrets."""
    token = grant.token
    return {
        "token_type": token.token_type,
        "scope": list(token.scope),
        "issued_at": moment(token.issued_at or None),
        "expires_at": moment(token.expires_at),
        "refreshable": token.refresh_token is not None,
        "refresh_token_expires_at": moment(token.refresh_token_expires_at),
        "subject": token.subject,
        "issuer": token.issuer,
        "ended": grant.ended,
    }


@click.command()
@login_argument()
@user_option
@common_options
def show(given: Given, *, name: str | None, user: str | None) -> None:
    """Show what is known of a login, but no secret."""

    async def look(storage: CoordinatedTokenStorage) -> tuple[KnownLogin, str, StoredGrant]:
        login = await find_target(storage, given.config, name)
        whose = user_of(given.config, login.name, user)
        async with client_of(login, storage) as client:
            namespace = client.namespace
        record = await storage.load(RecordKey(namespace, whose))
        if record is None:
            raise ReauthorizationRequired(f"no token of this user is stored: pauth login {login.name}", reason="not_logged_in")
        return login, whose, read_grant(record.tokens)

    login, whose, grant = given.run(look)
    document = {
        "login": login.name,
        "provider": login.provider,
        "client_id": login.client_id,
        "client_secret": login.client_secret is not None,
        "user": whose,
        **_described(grant),
    }
    given.output.result(document, table(("", ""), _lines(document, grant), header=False))


def _lines(document: dict[str, Any], grant: StoredGrant) -> list[Sequence[str]]:
    hidden = {"client_secret": "kept, not shown" if document["client_secret"] else "none: a public client"}
    shown = {**document, **hidden, "access_token": "kept, not shown"}
    if grant.token.refresh_token is not None:
        shown["refresh_token"] = "kept, not shown"
    lines: list[Sequence[str]] = []
    for member, value in shown.items():
        text = " ".join(cast("list[str]", value)) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else value
        if text is not None:
            lines.append((member.replace("_", " "), f"{text} ({lifetime(grant.token.expires_at)})" if member == "expires_at" else text))
    return lines
