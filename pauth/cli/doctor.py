"""``pauth doctor``: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Final

import click

from pauth.cli.checks import (
    GOOD,
    NOTE,
    PROBLEM,
    Finding,
    check_browser,
    check_provider,
    check_redirect_uri,
    check_secrecy,
    check_store,
    check_tokens,
)
from pauth.cli.common import Given, common_options, login_argument, run_on, user_option
from pauth.cli.keys import read_keys
from pauth.cli.logins import KnownLogin, all_logins, find_login
from pauth.cli.output import FAILED, table
from pauth.cli.settings import Profile, normal_name
from pauth.cli.store import has_password, key_place_of, place_of
from pauth.cli.target import client_of, server_of, settled, user_of
from pauth.errors import PAuthError
from pauth.storage import CoordinatedTokenStorage, MemoryTokenStorage

__all__ = ["doctor"]

_MARKS: Final = {GOOD: "✓", NOTE: "!", PROBLEM: "✗"}


@click.command(short_help="Say what is wrong, and what to do about it.")
@login_argument()
@user_option
@common_options
def doctor(given: Given, *, name: str | None, user: str | None) -> None:
    """Check configuration, key, store and providers, and say what is wrong and what to do about it.

    Of the provider of each login, or of the one that is named: discovery, client, clock, TLS, redirect URI, tokens. A record is written and deleted;
    no secret is sent to anybody. Exit code 1 if there is a problem.
    """
    here = [*_configuration(given), *_key(given), check_browser()]
    of_logins: dict[str, list[Finding]] = {}
    place = place_of(given.config, given.storage)
    try:
        if place.is_there:
            store, of_logins = given.run(lambda storage: _look(storage, given, name, user))
            here.append(store)
        else:  # nothing is made for looking
            here.append(Finding("store", NOTE, f"nothing is stored yet in {place.name}", "pauth login PROVIDER"))
            of_logins = run_on(MemoryTokenStorage(), lambda storage: _look_at_logins(storage, given, name, user))
    except PAuthError as error:
        here.append(Finding("store", PROBLEM, str(error), "mend what it says; docs/storage.md has the errors of every storage"))
    found = {"here": [*here, *of_logins.pop("here", [])], **of_logins}  # a login may have any name, this one too
    problems = sum(finding.status == PROBLEM for findings in found.values() for finding in findings)
    document = {where: [dataclasses.asdict(finding) for finding in findings] for where, findings in found.items()}
    rows = [
        (_MARKS[finding.status], "" if where == "here" else where, finding.topic, finding.text + (f" → {finding.advice}" if finding.advice else ""))
        for where, findings in found.items()
        for finding in findings
    ]
    given.output.result({"problems": problems, "findings": document}, table(("", "LOGIN", "WHAT", "FOUND"), rows))
    given.output.say(f"{problems} problem{'' if problems == 1 else 's'}." if problems else "Nothing is wrong.")
    if problems:
        click.get_current_context().exit(FAILED)


def _configuration(given: Given) -> Iterator[Finding]:
    config = given.config
    if config.path is None:
        yield Finding("configuration", GOOD, "no pauth.toml; flags, environment and what was kept at login are used")
        return
    yield Finding("configuration", GOOD, f"{config.path}: {len(config.profiles)} profile{'' if len(config.profiles) == 1 else 's'}")
    if config.storage is not None and has_password(config.storage):
        yield from check_secrecy("configuration", config.path, "the password of the storage")


def _key(given: Given) -> list[Finding]:
    """Where the key is, and that it is one."""
    place = place_of(given.config, given.storage)
    try:
        where = key_place_of(place, given.config)
        keys = None if where is None else read_keys(where)
    except PAuthError as error:
        return [Finding("key", PROBLEM, str(error), "mend what it says; without the key nothing that is stored can be read")]
    if keys is None and place.url is None and place.is_there:
        return []  # it is lost: what the store says of it counts
    if where is None or keys is None:
        return [Finding("key", NOTE, "there is none yet; the command line's own is made at the first login", "")]
    older = len(keys.keys) - 1
    more = f", and {older} older one{'' if older == 1 else 's'} to read with" if older else ""
    return [Finding("key", GOOD, f"{keys.primary.key_id.hex()} in {where.name}{more}")]


async def _look(storage: CoordinatedTokenStorage, given: Given, name: str | None, user: str | None) -> tuple[Finding, dict[str, list[Finding]]]:
    """What is found of the store, and of each login."""
    store = await check_store(storage, place_of(given.config, given.storage).name)
    return store, {} if store.status == PROBLEM else await _look_at_logins(storage, given, name, user)


async def _look_at_logins(storage: CoordinatedTokenStorage, given: Given, name: str | None, user: str | None) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    names = [normal_name(name)] if name else sorted({login.name async for login in all_logins(storage)} | given.config.profiles.keys())
    for each in names:
        try:
            login = await asyncio.to_thread(settled, each, given.config, await find_login(storage, each))
            found[each] = await _login_findings(storage, given, login, user)
        except PAuthError as error:
            found[each] = [Finding("login", PROBLEM, str(error), "mend what it says")]
    return found


async def _login_findings(storage: CoordinatedTokenStorage, given: Given, login: KnownLogin, user: str | None) -> list[Finding]:
    server_of(login)  # a name that is none is the first thing to mend
    if not login.client_id:
        return [Finding("login", PROBLEM, "no client id is known", f"pauth login {login.name} --client-id …, or put it into pauth.toml")]
    async with client_of(login, storage) as client:
        namespace = client.namespace
    secret_file = given.config.profiles.get(login.name, Profile()).client_secret_file
    return [
        *([] if secret_file is None else await asyncio.to_thread(list, check_secrecy("client secret", secret_file, "the client secret"))),
        *[finding async for finding in check_provider(login)],
        await asyncio.to_thread(check_redirect_uri, login),
        await check_tokens(storage, namespace, user_of(given.config, login.name, user)),
    ]
