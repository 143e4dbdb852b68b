"""Which login a command means, and the client that serves it.

What is said on the command line goes before the environment, that before ``pauth.toml``, and that before what was kept when the login was made.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from pauth.cli.logins import KnownLogin, all_logins, find_login
from pauth.cli.settings import Config, Profile, normal_name
from pauth.client import OAuth2Client
from pauth.core.urls import url_problem
from pauth.errors import ConfigurationError, ReauthorizationRequired
from pauth.providers import Provider, Providers
from pauth.refresh.policy import RefreshPolicy
from pauth.secret import Secret
from pauth.storage import CoordinatedTokenStorage, MemoryTokenStorage

__all__ = [
    "MAX_SECRET",
    "Said",
    "checked_secret",
    "client_of",
    "find_target",
    "preset_named",
    "read_secret_file",
    "server_of",
    "settled",
    "trusting",
    "user_of",
    "which",
]

MAX_SECRET: Final = 4096
"""The longest client secret in a file, in bytes."""


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Said:
    """What the command line says of a login that is to be made. ``None`` stands for what it does not say."""

    provider: str | None = None
    client_id: str | None = None
    client_secret: Secret | None = None
    public: bool = False
    client_auth: str | None = None
    scopes: tuple[str, ...] | None = None
    redirect_uri: str | None = None
    ca_file: str | None = None


def preset_named(name: str) -> Provider | None:
    """The preset of this name, if there is one."""
    return next((preset for preset in Providers.all() if preset.name == normal_name(name)), None)


def user_of(config: Config, name: str, given: str | None) -> str:
    """The user id that is meant: the one given, or configured for this login, or else the login's own name: so two names are two users."""
    return given or os.environ.get("PAUTH_USER") or config.profiles.get(normal_name(name), Profile()).user or normal_name(name)


async def which(storage: CoordinatedTokenStorage, config: Config, given: str | None) -> str:
    """The name of the login that is meant: the one given, or configured, or the only one there is.

    :raises ConfigurationError: none of these.
    """
    named = given or os.environ.get("PAUTH_LOGIN") or config.default
    if named:
        return normal_name(named)
    names = sorted([login.name async for login in all_logins(storage)])
    if len(names) == 1:
        return names[0]
    if not names:
        raise ReauthorizationRequired("there is no login yet: pauth login PROVIDER", reason="not_logged_in")
    raise ConfigurationError(f"there are several logins, so name one of them, or make one the default in pauth.toml: {', '.join(names)}")


async def find_target(storage: CoordinatedTokenStorage, config: Config, given: str | None) -> KnownLogin:
    """The login that is meant, with all that is needed to use it.

    :raises ReauthorizationRequired: there was no such login, and the settings do not say enough to find its tokens.
    :raises ConfigurationError: the settings contradict each other, or no login is named.
    """
    name = await which(storage, config, given)
    known = await find_login(storage, name)
    login = await asyncio.to_thread(settled, name, config, known)
    if not login.client_id:
        raise ReauthorizationRequired(f"there is no login named {name!r}: pauth login {name}", reason="not_logged_in")
    return login


def settled(name: str, config: Config, known: KnownLogin | None, said: Said | None = None) -> KnownLogin:
    """What is meant by a login's name. Its ``client_id`` is empty if nobody said it. Blocks, if a secret is in a file.

    Secret, scopes and the like of an earlier login count only for the same client at the same provider: a secret goes nowhere else.

    :raises ConfigurationError: the file or variable of a secret is not there.
    """
    said = said or Said()
    profile = config.profiles.get(name, Profile())
    provider = said.provider or profile.provider or (known.provider if known is not None else name)
    client_id = said.client_id or os.environ.get("PAUTH_CLIENT_ID") or profile.client_id or (known.client_id if known is not None else "")
    if known is None or (known.provider, known.client_id) != (provider, client_id):
        known = KnownLogin(name=name, provider=provider, client_id=client_id, namespace="")
    scopes = os.environ.get("PAUTH_SCOPES")
    public = said.public or (profile.public and said.client_secret is None)
    secret = None if public else said.client_secret or _configured_secret(profile) or known.client_secret
    return replace(
        known,
        client_secret=secret,
        public=public or (known.public and secret is None),
        client_auth=said.client_auth or os.environ.get("PAUTH_CLIENT_AUTH") or profile.client_auth or known.client_auth,
        scopes=said.scopes or (tuple(scopes.split()) if scopes else None) or profile.scopes or known.scopes,
        redirect_uri=said.redirect_uri or os.environ.get("PAUTH_REDIRECT_URI") or profile.redirect_uri or known.redirect_uri,
        ca_file=said.ca_file or os.environ.get("PAUTH_CA_FILE") or profile.ca_file or known.ca_file,
        timeout=profile.timeout or known.timeout,
    )


def server_of(login: KnownLogin) -> Provider | str:
    """The preset of a login, or the URL of its issuer.

    :raises ConfigurationError: its provider is neither, or would be spoken to without TLS.
    """
    preset = preset_named(login.provider)
    if preset is None and "://" not in login.provider:
        raise ConfigurationError(
            f"there is no preset for a provider named {login.provider!r} (pauth providers lists them); "
            "for any other give the URL of its issuer, or a profile in pauth.toml"
        )
    if preset is None and url_problem(login.provider) and not url_problem(login.provider, allow_insecure_http=True):
        raise ConfigurationError("the issuer must be an https: URL; the command line speaks http: to a server on this machine only")
    return login.provider if preset is None else preset


@asynccontextmanager
async def client_of(
    login: KnownLogin, storage: CoordinatedTokenStorage, *, redirect_uri: str | None = None, login_timeout: float = 600.0
) -> AsyncGenerator[OAuth2Client]:
    """A client for a login, closed at the end.

    :param redirect_uri: where the browser comes back to, if one is to be sent out; ``login_timeout`` is the seconds it has.
    :raises ConfigurationError: provider, client and settings do not fit together.
    """
    server = server_of(login)
    context = None if login.ca_file is None else await asyncio.to_thread(trusting, login.ca_file)
    client = OAuth2Client(
        server,
        login.client_id,
        login.client_secret,
        redirect_uri,
        login.scopes,
        storage,
        pending_storage=MemoryTokenStorage(),  # a login begins and ends in this process
        client_auth=login.client_auth,
        refresh_policy=RefreshPolicy(cache_age=0),  # a command asks once: what another process has stored counts
        timeout=login.timeout or 15.0,
        login_timeout=login_timeout,
        ssl_context=context,
        proxy=os.environ.get("PAUTH_PROXY") or None,
    )
    async with client:
        yield client


def trusting(path: str) -> ssl.SSLContext:
    """TLS that trusts the certificates in a file, and the machine's own not. Blocks.

    :raises ConfigurationError: there are none in it.
    """
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        problem = "it holds no certificate in PEM form"
    except OSError as error:
        problem = os.strerror(error.errno or 0)
    raise ConfigurationError(f"the file of CA certificates cannot be used: {problem} ({path})")


def _configured_secret(profile: Profile) -> Secret | None:
    value = os.environ.get("PAUTH_CLIENT_SECRET")
    if value:
        return Secret(value)
    if profile.client_secret_env is not None:
        value = os.environ.get(profile.client_secret_env)
        if not value:
            raise ConfigurationError(f"the environment variable {profile.client_secret_env!r}, which is to hold the client secret, is not set")
        return Secret(value)
    return None if profile.client_secret_file is None else read_secret_file(profile.client_secret_file)


def read_secret_file(path: str) -> Secret:
    """The client secret that a file holds, and nothing else; a line break at its end does not count. Blocks.

    :raises ConfigurationError: it cannot be read, or holds nothing that is one.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            content = memoryview(file.read(MAX_SECRET + 1))  # which does not print
        return checked_secret(content)
    except OSError as error:
        problem = error.strerror
    raise ConfigurationError(f"the file of the client secret cannot be read: {problem} ({path})")


def checked_secret(content: memoryview) -> Secret:
    """A client secret out of a file or a pipe.

    :raises ConfigurationError: it is none.
    """
    text = Secret(bytes(content).decode("utf-8", "replace").strip("\r\n"))
    plain = "\ufffd" not in text.reveal() and "\n" not in text.reveal()
    if not text or len(content) > MAX_SECRET or not plain:
        raise ConfigurationError("a client secret is one line of text, and nothing else belongs into its file")
    return text
