"""What ``pauth doctor`` looks at: each check says what it found and, where something is wrong, what to do about it."""

from __future__ import annotations

import asyncio
import email.utils
import os
import secrets
import ssl
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pauth.cli.browser import browser_named
from pauth.cli.logins import KnownLogin
from pauth.cli.loopback import DEFAULT_REDIRECT_URI, bind
from pauth.cli.target import preset_named, trusting
from pauth.clock import SystemClock
from pauth.core.metadata import ServerMetadata, check_pkce
from pauth.core.wire import HTTPRequest
from pauth.errors import PAuthError
from pauth.refresh.stored import read_grant
from pauth.server.directory import ServerDirectory
from pauth.storage import CoordinatedTokenStorage, Record, RecordKey
from pauth.transport import Transport

__all__ = [
    "GOOD",
    "NOTE",
    "PROBLEM",
    "Finding",
    "check_browser",
    "check_provider",
    "check_redirect_uri",
    "check_secrecy",
    "check_store",
    "check_tokens",
]

GOOD: Final = "ok"
NOTE: Final = "note"
PROBLEM: Final = "problem"

_SKEW_NOTED: Final = 30.0
_SKEW_BAD: Final = 300.0
"""Seconds: about what servers put up with in the times of an ID token or an assertion."""

_CERTIFICATE_ENDS: Final = 14 * 86_400.0
_PROBE: Final = {"access_token": "not a token", "token_type": "Bearer"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    topic: str
    status: str
    """:data:`GOOD`, :data:`NOTE` or :data:`PROBLEM`."""

    text: str
    advice: str = ""


async def check_store(storage: CoordinatedTokenStorage, name: str) -> Finding:
    """Write a record of a user that nobody has, read it and delete it."""
    key = RecordKey(f"pauth doctor {secrets.token_hex(8)}", "nobody")
    try:
        written = await storage.replace(key, _PROBE, expected_version=0)
        read = await storage.load(key)
        removed = await storage.remove(key)
        count = await storage.count()
    except PAuthError as error:
        return Finding("store", PROBLEM, f"{name}: {error}", "mend what it says; docs/storage.md has the errors of every storage")
    if written is None or read is None or dict(read.tokens) != _PROBE or not removed:
        return Finding("store", PROBLEM, f"{name} did not give back what was written to it", "use another storage, or look into this one's logs")
    return Finding("store", GOOD, f"{name}: writes, reads and deletes; {count} records")


def check_secrecy(topic: str, path: str, what: str) -> Iterator[Finding]:
    """Whether everybody on this machine can read a file with a secret in it. Blocks for a moment.

    It is used all the same: a container has such files, and nobody else.
    """
    with suppress(OSError):  # whoever wants to read it says so
        if hasattr(os, "geteuid") and stat.S_IMODE(Path(path).stat().st_mode) & 0o004:
            yield Finding(topic, NOTE, f"everybody on this machine can read {path}, which holds {what}", f"chmod o-r {path}")


def check_browser() -> Finding:
    """Whether a browser can be opened from here."""
    found = browser_named()
    if found is None:
        return Finding("browser", NOTE, "none can be opened from here", "log in with --device, or open the address that pauth login shows")
    return Finding("browser", GOOD, f"would be opened with {found}")


def check_redirect_uri(login: KnownLogin) -> Finding:
    """Whether the browser can come back to this machine. Blocks for a moment."""
    wanted = login.redirect_uri or DEFAULT_REDIRECT_URI
    try:
        uri, sockets = bind(wanted)
    except PAuthError as error:
        return Finding("redirect URI", PROBLEM, str(error), "see --redirect-uri of pauth login")
    for each in sockets:
        each.close()
    if uri == wanted:
        return Finding("redirect URI", GOOD, f"{uri} is free; it has to be registered exactly so")
    return Finding(
        "redirect URI", GOOD, f"{wanted}, on any free port; the provider has to allow that (RFC 8252), else name a port with --redirect-uri"
    )


async def check_tokens(storage: CoordinatedTokenStorage, namespace: str, user: str) -> Finding:
    """How the tokens of a user stand."""
    try:
        record: Record | None = await storage.load(RecordKey(namespace, user))
        grant = None if record is None else read_grant(record.tokens)
    except PAuthError as error:
        return Finding("tokens", PROBLEM, str(error), "if nobody can mend the record, log in again")
    if grant is None:
        return Finding("tokens", NOTE, f"none are stored for user {user!r}", "log in")
    if grant.ended is not None:
        return Finding("tokens", PROBLEM, f"the grant of user {user!r} has ended ({grant.ended})", "log in again")
    token = grant.token
    if token.is_expired(time.time()) and token.refresh_token is None:
        return Finding(
            "tokens", PROBLEM, "the access token has expired, and the provider gave no refresh token", "log in again, with the scope it wants for one"
        )
    state = "has expired, and is refreshed when it is asked for" if token.is_expired(time.time()) else "is valid"
    return Finding("tokens", GOOD, f"the access token of user {user!r} {state}")


async def check_provider(login: KnownLogin) -> AsyncIterator[Finding]:
    """Its metadata, whether this client fits, TLS and the clock."""
    preset = preset_named(login.provider)
    context = None if login.ca_file is None else await asyncio.to_thread(trusting, login.ca_file)
    transport = Transport(timeout=login.timeout or 15.0, ssl_context=context, proxy=os.environ.get("PAUTH_PROXY") or None)
    server: ServerMetadata | str = login.provider if preset is None else preset.metadata
    directory = ServerDirectory(transport.send, server, allow_insecure_http=False, clock=SystemClock())
    try:
        metadata = await directory.metadata()
        if preset is None:
            yield Finding("discovery", GOOD, f"{metadata.issuer} publishes its metadata")
        else:
            yield Finding("discovery", GOOD, f"{preset.title} is a preset; its endpoints are known")
        for finding in _fit(login, metadata, None if preset is None else preset.client_auth, pkce=preset is None or preset.quirks.pkce):
            yield finding
        yield await _check_clock(transport, metadata)
        trusted: ssl.SSLContext = await asyncio.to_thread(ssl.create_default_context) if context is None else context
        yield await _check_tls(metadata.token_endpoint, trusted)
    except PAuthError as error:
        yield Finding("provider", PROBLEM, str(error), "check the provider's URL, the network, and --ca-file for a private CA")
    finally:
        await directory.drain()
        await transport.aclose()


def _fit(login: KnownLogin, metadata: ServerMetadata, usual_auth: str | None, *, pkce: bool) -> Iterator[Finding]:
    method = "none" if login.client_secret is None else login.client_auth or usual_auth
    supported = metadata.token_endpoint_auth_methods_supported
    known = "public, without a secret" if login.client_secret is None else "with a secret"
    if supported is not None and method is not None and method.removesuffix("_raw") not in supported:
        advice = "log in again with the client secret" if method == "none" else f"use --client-auth with one of {', '.join(supported)}"
        yield Finding("client", PROBLEM, f"the server does not let clients authenticate by {method}", advice)
    elif login.client_secret is None and usual_auth not in (None, "none"):
        yield Finding("client", NOTE, f"{login.client_id}: {known}; most applications at this provider have one", "log in again with it, if so")
    else:
        yield Finding("client", GOOD, f"{login.client_id}: {known}")
    try:
        if pkce:
            check_pkce(metadata)
    except PAuthError as error:
        yield Finding("PKCE", PROBLEM, str(error), "ask the provider for a server that has it")
    yield Finding("device grant", GOOD, "offered" if metadata.device_authorization_endpoint is not None else "not offered: no pauth login --device")


async def _check_clock(transport: Transport, metadata: ServerMetadata) -> Finding:
    # A GET without parameters: every server has an answer to it, and a date in that.
    response = await transport.send(HTTPRequest("GET", metadata.token_endpoint, {"Accept": "application/json"}))
    here = (response.requested_at + time.time()) / 2
    with suppress(KeyError, ValueError, TypeError):
        skew = here - email.utils.parsedate_to_datetime(response.headers["date"]).timestamp()
        text = f"{abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} the server's"
        if abs(skew) >= _SKEW_BAD:
            return Finding(
                "clock", PROBLEM, f"this machine's clock is {text}", "set it, and keep it set (NTP): tokens are taken for expired, or for valid"
            )
        if abs(skew) >= _SKEW_NOTED:
            return Finding("clock", NOTE, f"this machine's clock is {text}", "keep it set (NTP)")
        return Finding("clock", GOOD, "agrees with the server's")
    return Finding("clock", NOTE, "the server does not tell the time", "")


async def _check_tls(endpoint: str, context: ssl.SSLContext) -> Finding:
    parts = urlsplit(endpoint)
    if parts.scheme != "https":
        return Finding("TLS", NOTE, "none: the server is on this machine")
    if os.environ.get("PAUTH_PROXY"):
        return Finding("TLS", GOOD, "verified, through the proxy")
    host, port = parts.hostname or "", parts.port or 443
    try:
        async with asyncio.timeout(15):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError) as error:
        return Finding("TLS", PROBLEM, f"no TLS connection to {host} ({type(error).__name__})", "check the network, and --ca-file for a private CA")
    connection = writer.get_extra_info("ssl_object")
    version, certificate = connection.version(), connection.getpeercert()
    writer.close()
    left = ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()
    text = f"{version}, the certificate of {host} is valid for {left / 86_400:.0f} more days"
    return Finding(
        "TLS", GOOD if left > _CERTIFICATE_ENDS else NOTE, text, "" if left > _CERTIFICATE_ENDS else "the provider has to renew it in time"
    )
