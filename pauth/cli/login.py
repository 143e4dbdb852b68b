"""``pauth login``: in the browser of this machine, or on another device."""

from __future__ import annotations

import asyncio
import math
import shlex
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import click

from pauth.cli.browser import open_browser
from pauth.cli.common import Given, Number, common_options, login_argument, not_empty, user_option
from pauth.cli.logins import KnownLogin, find_login, keep_login
from pauth.cli.loopback import DEFAULT_REDIRECT_URI, Listener, bind
from pauth.cli.output import Output, lifetime, moment
from pauth.cli.settings import normal_name
from pauth.cli.store import place_of
from pauth.cli.target import MAX_SECRET, Said, checked_secret, client_of, preset_named, read_secret_file, server_of, settled, user_of
from pauth.client import OAuth2Client
from pauth.errors import AuthorizationError, ConfigurationError, RecordUnreadable, UnknownEncryptionKey
from pauth.login import Login
from pauth.secret import Secret
from pauth.storage import CoordinatedTokenStorage

__all__ = ["login"]

_PATIENCE = 600.0
"""Seconds in which the user has to come back."""


@click.command()
@login_argument(required=True)
@user_option
@click.option("--name", "as_name", metavar="NAME", callback=not_empty, help="What to call the login from now on.  [default: PROVIDER]")
@click.option("--client-id", callback=not_empty, help="As registered with the provider.")
@click.option("--client-secret-stdin", is_flag=True, help="Read the client secret from standard input.")
@click.option("--client-secret-file", type=click.Path(dir_okay=False), help="Read the client secret from a file.")
@click.option("--public", is_flag=True, help="The client has no secret; do not ask for one.")
@click.option("--client-auth", help="How the client authenticates: client_secret_basic, client_secret_post or none.")
@click.option("--scope", "scopes", multiple=True, help="What to ask for; may be given more than once.  [default: the provider's usual ones]")
@click.option("--redirect-uri", help=f"As registered, on this machine; without a port any free one is used.  [default: {DEFAULT_REDIRECT_URI}]")
@click.option("--ca-file", type=click.Path(dir_okay=False), help="Trust the certificates of a private CA.")
@click.option("--device", is_flag=True, help="Log in on another device: shows an address and a code to type there.")
@click.option(
    "--browser/--no-browser", "browser", default=None, help="Open the browser, or only show the address.  [default: --no-browser with --device]"
)
@click.option(
    "--timeout",
    type=Number(1, 3600),
    help=f"Seconds to wait for the user.  [default: {_PATIENCE:.0f}; with --device, as long as the provider lets the code live]",
)
@common_options
def login(
    given: Given,
    *,
    name: str,
    user: str | None,
    as_name: str | None,
    client_id: str | None,
    client_secret_stdin: bool,
    client_secret_file: str | None,
    public: bool,
    client_auth: str | None,
    scopes: tuple[str, ...],
    redirect_uri: str | None,
    ca_file: str | None,
    device: bool,
    browser: bool | None,
    timeout: float | None,
) -> None:
    """Log in at PROVIDER and keep the tokens.

    PROVIDER is a preset (pauth providers), the URL of an issuer, or a profile in pauth.toml. The client id and secret are asked for if they are not
    configured; they are kept, encrypted, with the tokens, so that no other command needs them again.

    \b
    pauth login github
    pauth login https://login.example.com --name work --client-id my-app --public
    pauth login google --device
    """  # noqa: D301  # click wants the character
    if public and (client_secret_stdin or client_secret_file):
        raise click.UsageError("--public says that there is no client secret; leave it out, or the secret")
    kept_as = normal_name(as_name or name)
    said = Said(
        provider=name if kept_as != normal_name(name) or "://" in name else None,
        client_id=client_id,
        client_secret=_given_secret(from_stdin=client_secret_stdin, file=client_secret_file),
        public=public,
        client_auth=client_auth,
        scopes=scopes or None,
        redirect_uri=redirect_uri,
        ca_file=ca_file,
    )

    if as_name is not None and normal_name(name) in given.config.profiles:
        raise click.UsageError("a profile of pauth.toml is a name already; --user keeps the tokens of another account beside it")
    target = _known(given, kept_as, said)
    server_of(target)  # before anything is asked or made
    target = _asked_for(target)
    with ExitStack() as stack:
        place: tuple[str, Sequence[socket.socket]] | None = None
        if not device:
            place = bind(target.redirect_uri or DEFAULT_REDIRECT_URI)  # before anything is sent out that names it (NA-2)
            for each in place[1]:
                stack.callback(each.close)
        way = _Way(given.output, browser=not device if browser is None else browser, timeout=timeout)
        done = given.run(lambda storage: _log_in(storage, target, way, user=user_of(given.config, kept_as, user), place=place), makes=True)
    _report(given.output, target, done)


def _report(output: Output, target: KnownLogin, done: Login) -> None:
    token = done.token
    who = f" as {token.subject}" if token.subject else ""
    named = "" if done.user_id == target.name else f" --user {shlex.quote(done.user_id)}"
    output.result(
        {
            "login": target.name,
            "user": done.user_id,
            "provider": target.provider,
            "subject": token.subject,
            "scope": list(token.scope),
            "expires_at": moment(token.expires_at),
            "refreshable": token.refresh_token is not None,
        },
        f"Logged in at {target.provider}{who}; the access token is {lifetime(token.expires_at)}. "
        f"Get it with: pauth token {shlex.quote(target.name)}{named}",
    )


def _given_secret(*, from_stdin: bool, file: str | None) -> Secret | None:
    if from_stdin and file is not None:
        raise click.UsageError("give the client secret once: from standard input, or from a file")
    if from_stdin and _is_asked():  # a terminal would show what is typed, and who looks on would see it (NA-10)
        return Secret(click.prompt("Client secret", hide_input=True, err=True))
    if from_stdin:
        return checked_secret(memoryview(sys.stdin.buffer.read(MAX_SECRET + 1)))
    return None if file is None else read_secret_file(file)


def _known(given: Given, name: str, said: Said) -> KnownLogin:
    """What is meant, as far as it is known; where nothing is stored yet, nothing is made for asking."""

    async def look(storage: CoordinatedTokenStorage) -> KnownLogin | None:
        try:
            return await find_login(storage, name)
        except UnknownEncryptionKey:  # nothing is to be mended, and what would take its place its own key could not read
            raise
        except RecordUnreadable:  # to log in under its name is how it is mended
            given.output.tell(f"What was kept of the login {name!r} cannot be read; this login takes its place.")
            return None

    there = place_of(given.config, given.storage).is_there
    return settled(name, given.config, given.run(look) if there else None, said)


def _asked_for(target: KnownLogin) -> KnownLogin:
    """The same with what is still missing, which a person is asked for; hidden where it is a secret (NA-10)."""
    preset = preset_named(target.provider)
    where = "" if preset is None else f" ({preset.docs_url})"
    if not target.client_id:
        if not _is_asked():
            raise ConfigurationError(f"no client id is configured: register an application with the provider{where} and give --client-id")
        target = replace(target, client_id=click.prompt(f"Client id, as registered with the provider{where}", err=True).strip())
    if target.client_secret is None and not target.public and _is_asked():
        secret = Secret(click.prompt("Client secret; leave it empty for a public client", hide_input=True, default="", show_default=False, err=True))
        target = replace(target, client_secret=secret or None, public=not secret)
    return target


def _is_asked() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty()


class _Way:
    """How the user is led to the provider."""

    def __init__(self, output: Output, *, browser: bool, timeout: float | None) -> None:
        self._output = output
        self._browser = browser
        self.timeout: float | None = timeout

    async def show(self, url: Secret, text: str, *lines: str) -> None:
        """Tell the user where to go, and open the browser there if it is wanted (DV-3)."""
        opened = self._browser and await asyncio.to_thread(open_browser, url.reveal())
        self._output.tell(f"{'The browser was opened. If it does not show anything, open' if opened else 'Open'} {text}", *lines)


async def _log_in(
    storage: CoordinatedTokenStorage, target: KnownLogin, way: _Way, *, user: str, place: tuple[str, Sequence[socket.socket]] | None
) -> Login:
    async with client_of(target, storage, redirect_uri=None if place is None else place[0], login_timeout=way.timeout or _PATIENCE) as client:
        done = await (_on_another_device(client, way, user) if place is None else _in_the_browser(client, way, user, *place))
        await keep_login(storage, replace(target, namespace=client.namespace))
    return done


async def _in_the_browser(client: OAuth2Client, way: _Way, user: str, redirect_uri: str, sockets: Sequence[socket.socket]) -> Login:
    url = Secret(await client.get_authorization_url(user_id=user))
    listener = Listener(redirect_uri, Secret(parse_qs(urlsplit(url.reveal()).query)["state"][0]))
    async with listener.listening(sockets):
        await way.show(url, "this address in a browser on this machine:", "", f"  {url.reveal()}", "")
        callback = await listener.callback(timeout=way.timeout or _PATIENCE)
        succeeded = False
        try:
            done = await client.handle_callback(callback.query.reveal())
            succeeded = True
        finally:
            await callback.answer(succeeded=succeeded)
    return done


async def _on_another_device(client: OAuth2Client, way: _Way, user: str) -> Login:
    started = await client.start_device_login(user_id=user)
    left = min(started.expires_at - time.time(), way.timeout or math.inf)
    within = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    url = Secret(started.verification_uri_complete or started.verification_uri)
    text = f"this address on any device, and enter the code there within {within}:"
    await way.show(url, text, "", f"  {started.verification_uri}", "", f"  {started.user_code}", "")
    try:
        async with asyncio.timeout(way.timeout):
            return await client.complete_device_login(started)
    except TimeoutError:
        pass
    raise AuthorizationError(f"nobody entered the code within {way.timeout:.0f} seconds; start the login again")
