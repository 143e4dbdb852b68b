"""Libraries that do with tokens what pauth does, each used as its own documentation says; and pauth itself."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.contender import optional
from benchmarks.tokens.authority import SECRET_TEXT, Authority, refresh_token
from pauth import MemoryTokenStorage, OAuth2Client, Provider, RefreshPolicy, ServerMetadata, Token
from pauth.core.token import token_to_dict
from pauth.secret import Secret
from pauth.storage.base import CoordinatedTokenStorage, RecordKey

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "NAMESPACE", "authlib", "fresh_token", "google", "pauth_client", "requests_oauthlib", "store", "stored_form"]

CLIENT_ID: Final = "benchmark"
CLIENT_SECRET: Final = "benchmark-secret"
NAMESPACE: Final = "pauth-benchmark"

os.environ.setdefault("OAUTHLIB_INSECURE_TRANSPORT", "1")  # oauthlib takes plain HTTP on loopback for a mistake


def fresh_token(user: str, authority: Authority | None = None, *, lifetime: float = 3600.0, age: float = 0.0) -> Token:
    """The token of a user who has just logged in, or did ``age`` seconds ago."""
    issued_at = time.time() - age
    return Token(
        Secret(f"at.{user}.0.{SECRET_TEXT}"),
        refresh_token=Secret(refresh_token(user)),
        scope=("read",),
        issued_at=issued_at,
        expires_at=issued_at + lifetime,
        token_endpoint=None if authority is None else authority.token_endpoint,
    )


def stored_form(user: str, *, lifetime: float = 3600.0, age: float = 0.0) -> dict[str, Any]:
    """The same as the other libraries keep it."""
    return {
        "access_token": f"at.{user}.0.{SECRET_TEXT}",
        "token_type": "Bearer",
        "refresh_token": refresh_token(user),
        "scope": "read",
        "expires_in": int(lifetime - age),
        "expires_at": int(time.time() - age + lifetime),
    }


def pauth_client(authority: Authority | None, storage: CoordinatedTokenStorage | None = None, **options: Any) -> OAuth2Client:
    """A client of the benchmark's authority, or of one that is never asked."""
    base = "https://login.example" if authority is None else authority.url
    provider = Provider(name="benchmark", metadata=ServerMetadata(authorization_endpoint=f"{base}/authorize", token_endpoint=f"{base}/token"))
    arguments: dict[str, Any] = {"namespace": NAMESPACE, "journal": False, "redirect_uri": "https://app.example/callback"} | options
    return OAuth2Client(provider, CLIENT_ID, CLIENT_SECRET, token_storage=MemoryTokenStorage() if storage is None else storage, **arguments)


async def store(storage: CoordinatedTokenStorage, user: str, token: Token) -> None:
    """Have it be the token that is on record."""
    await storage.replace(
        RecordKey(NAMESPACE, user), token_to_dict(token), expected_version=None, expires_at=token.expires_at, lineage=os.urandom(16)
    )


def authlib(authority: Authority, token: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """Authlib's client over httpx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = optional("authlib.integrations.httpx_client", "authlib").AsyncOAuth2Client
        return made(
            CLIENT_ID, CLIENT_SECRET, token=None if token is None else dict(token), token_endpoint=authority.token_endpoint, timeout=60, **options
        )


def requests_oauthlib(authority: Authority, token: Mapping[str, Any], **options: Any) -> Any:
    """requests-oauthlib's session, which refreshes by itself."""
    session = optional("requests_oauthlib", "requests-oauthlib").OAuth2Session
    credentials = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    return session(CLIENT_ID, token=dict(token), auto_refresh_url=authority.token_endpoint, auto_refresh_kwargs=credentials, **options)


def google(authority: Authority, token: Mapping[str, Any]) -> Any:
    """google-auth's credentials of a user."""
    import datetime as dt

    credentials = optional("google.oauth2.credentials", "google-auth[requests]").Credentials
    return credentials(
        token["access_token"],
        refresh_token=token["refresh_token"],
        token_uri=authority.token_endpoint,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        expiry=dt.datetime.fromtimestamp(token["expires_at"], dt.UTC).replace(tzinfo=None),
    )


LONG_LIVED: Final = RefreshPolicy(cache_age=3600.0)
"""For those who read from memory while it is measured."""
