"""``pauth refresh``, ``revoke`` and ``logout``: what is done with the tokens of one user, or of all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import click

from pauth.cli.common import Given, common_options, login_argument, user_option
from pauth.cli.logins import KnownLogin, forget_login, users_of
from pauth.cli.output import FAILED, lifetime, moment
from pauth.cli.target import client_of, find_target, settled, user_of, which
from pauth.client import OAuth2Client
from pauth.core.token import Token
from pauth.errors import PAuthError, ReauthorizationRequired, RecordUnreadable, UnknownEncryptionKey
from pauth.storage import CoordinatedTokenStorage, RecordKey

__all__ = ["logout", "refresh", "revoke"]

_AT_ONCE: Final = 8
"""Requests that are under way at once: servers count them."""

_NAMED: Final = 5
"""Users who are named in a line of text."""

everyone_option: Final = click.option("--all", "everyone", is_flag=True, help="The tokens of every user of this login.")


@click.command()
@login_argument()
@user_option
@everyone_option
@common_options
def refresh(given: Given, *, name: str | None, user: str | None, everyone: bool) -> None:
    """Get a new access token now, even if the stored one is valid."""
    _check(user, everyone=everyone)

    async def work(storage: CoordinatedTokenStorage) -> tuple[KnownLogin, str, Token] | _Outcome:
        login = await find_target(storage, given.config, name)
        async with client_of(login, storage) as client:
            if everyone:
                return await _for_all(given, storage, client, login, "refreshed", client.refresh)
            whose = user_of(given.config, login.name, user)
            return login, whose, await client.refresh(whose)

    done = given.run(work)
    if isinstance(done, _Outcome):
        done.report(given)
        return
    login, whose, token = done
    document = {"login": login.name, "user": whose, "expires_at": moment(token.expires_at), "refreshable": token.refresh_token is not None}
    given.output.result(document, f"Refreshed: the access token is {lifetime(token.expires_at)}.")


@click.command()
@login_argument()
@user_option
@everyone_option
@common_options
def revoke(given: Given, *, name: str | None, user: str | None, everyone: bool) -> None:
    """Revoke the tokens at the provider and delete them.

    The client stays known, so that the next pauth login needs no client id. If the provider does not answer nothing is deleted, and no token is
    handed out any more: try again.
    """
    _check(user, everyone=everyone)

    async def work(storage: CoordinatedTokenStorage) -> tuple[KnownLogin, str] | _Outcome:
        login = await find_target(storage, given.config, name)
        async with client_of(login, storage) as client:
            if everyone:
                return await _for_all(given, storage, client, login, "revoked", client.revoke)
            whose = user_of(given.config, login.name, user)
            if not await _is_stored(storage, client, whose):
                raise _not_stored(login, whose)
            await client.revoke(whose)
            return login, whose

    done = given.run(work)
    if isinstance(done, _Outcome):
        done.report(given)
    else:
        given.output.result({"login": done[0].name, "user": done[1], "revoked": True}, f"Revoked: the tokens of {done[1]!r} are gone.")


@click.command(short_help="Revoke and delete the tokens, and forget the client.")
@login_argument()
@user_option
@everyone_option
@click.option("--local", is_flag=True, help="Only forget the tokens here; the provider is not asked to revoke them.")
@common_options
def logout(given: Given, *, name: str | None, user: str | None, everyone: bool, local: bool) -> None:
    """Revoke the tokens at the provider and delete them, and forget the client if nobody else uses it.

    With --local the provider is not asked, for one that does not exist any more; its tokens live on until they expire.
    """
    _check(user, everyone=everyone)

    async def work(storage: CoordinatedTokenStorage) -> tuple[_Outcome, list[str]]:
        login = await _local_target(storage, given, name) if local else await find_target(storage, given.config, name)
        outcome, left = _Outcome(login, "logged out"), list[str]()
        if login.client_id:
            async with client_of(login, storage) as client:

                async def forget(user: str) -> None:
                    await _is_stored(storage, client, user)  # raises if it only lacks its key
                    await storage.remove(RecordKey(client.namespace, user))

                end = forget if local else client.revoke
                if everyone:
                    outcome = await _for_all(given, storage, client, login, "logged out", end)
                    left = sorted(outcome.failures)
                else:
                    whose = user_of(given.config, login.name, user)
                    left = [each for each in await users_of(storage, client.namespace, login.name) if each != whose]  # before anything is gone
                    if await _is_stored(storage, client, whose):
                        await end(whose)
                        outcome.done = 1
                    elif user is not None or left:  # else there is the client to forget
                        raise _not_stored(login, whose)
        if not left:  # who is left is tried again, and that takes the client and its secret
            await forget_login(storage, login.name)
        return outcome, left

    outcome, left = given.run(work)
    login = outcome.login
    if not login.client_id:
        given.output.tell(f"What was kept of {login.name} could not be read: if there are tokens of it, only pauth list --all shows them.")
    whom = ", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else "")
    gone = f"Nothing is kept of {login.name} any more." if login.client_id else f"{login.name} is not known any more."
    given.output.say(f"{login.name} is still known, for {whom}." if left else gone)
    outcome.report(given)


def _check(user: str | None, *, everyone: bool) -> None:
    if everyone and user is not None:
        raise click.UsageError("--all and --user contradict each other; leave one out")


def _not_stored(login: KnownLogin, user: str) -> PAuthError:
    return ReauthorizationRequired(f"no token of user {user!r} is stored for {login.name}", reason="not_logged_in")


async def _is_stored(storage: CoordinatedTokenStorage, client: OAuth2Client, user: str) -> bool:
    """Whether there is a record of a user, be it one that cannot be read.

    :raises UnknownEncryptionKey: it only lacks its key, and is not to be given up for that.
    """
    try:
        return await storage.load(RecordKey(client.namespace, user)) is not None
    except UnknownEncryptionKey:
        raise
    except RecordUnreadable:
        return True


async def _local_target(storage: CoordinatedTokenStorage, given: Given, name: str | None) -> KnownLogin:
    """The login that is meant; of one that cannot be read, what the settings say, and without a client if they say none.

    :raises UnknownEncryptionKey: it only lacks its key, and is not to be given up for that.
    """
    try:
        return await find_target(storage, given.config, name)
    except UnknownEncryptionKey:
        raise
    except RecordUnreadable:
        named = await which(storage, given.config, name)
        return await asyncio.to_thread(settled, named, given.config, None)


class _Outcome:
    """What became of something that was done for every user of a login."""

    def __init__(self, login: KnownLogin, what: str) -> None:
        self.login = login
        self.what = what
        self.done = 0
        self.failures: dict[str, PAuthError] = {}

    def report(self, given: Given) -> None:
        """Print it, and end the command with exit code 1 if something failed."""
        for user, error in self.failures.items():
            given.output.tell(f"{user}: {error}")
        document: dict[str, Any] = {
            "login": self.login.name,
            self.what: self.done,
            "failed": {user: str(error) for user, error in self.failures.items()},
        }
        given.output.result(document, f"{self.what.capitalize()}: {self.done}; failed: {len(self.failures)}.")
        if self.failures:
            click.get_current_context().exit(FAILED)


async def _for_all(
    given: Given,
    storage: CoordinatedTokenStorage,
    client: OAuth2Client,
    login: KnownLogin,
    what: str,
    act: Callable[[str], Awaitable[object]],
) -> _Outcome:
    """Do something for every user, some at once; one that fails does not stop the others."""
    outcome = _Outcome(login, what)
    users = await users_of(storage, client.namespace, login.name)
    gate = asyncio.Semaphore(_AT_ONCE)
    with given.output.progress(f"{login.name}: {what}") as tell:

        async def one(user: str) -> None:
            async with gate:
                try:
                    await act(user)
                    outcome.done += 1
                except PAuthError as error:
                    outcome.failures[user] = error
                tell(outcome.done + len(outcome.failures), len(users))

        await asyncio.gather(*map(one, users))
    return outcome
