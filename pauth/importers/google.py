"""What google-auth keeps of a user: ``Credentials.to_json()``, and the ``authorized_user`` files of gcloud (google-auth 2.63)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from pauth.core.token import Token
from pauth.importers.entries import Entry, Tokens, build_token, iso_moment, read_each, scopes_in

__all__ = ["from_google_auth"]

_TOKEN_ENDPOINT: Final = "https://oauth2.googleapis.com/token"
_OTHER_HOSTS: Final = frozenset({"accounts.google.com", "www.googleapis.com", "oauth2.googleapis.com"})
"""Where Google's token endpoint is, and where it has been. google-auth itself reads none of the old addresses any more: it sends to the new one."""


def from_google_auth(credentials: Tokens, *, client_id: str | None = None) -> Iterator[Entry]:
    """The tokens in what ``google.oauth2.credentials.Credentials.to_json()`` gave, by user.

    An ``authorized_user`` file, and one whose access token was stripped, has only a refresh token: the first :meth:`~pauth.OAuth2Client.get_token`
    refreshes it. The scopes in it are those that were asked for, so :meth:`.Token.has_scope` answers no until Google has named them at a refresh.

    :param credentials: a dict (or its JSON text) for each user id, or pairs of the two.
    :param client_id: the client that the tokens have to be of; whatever is of another one is a problem. ``None`` does not look.
    """
    return read_each(credentials, partial(_read, client_id=client_id))


def _read(members: Mapping[str, Any], *, client_id: str | None) -> Token | str:
    if members.get("type", "authorized_user") != "authorized_user":
        return "it is no user's but a service account's or another kind of credentials, which has no refresh token"
    if client_id is not None and members.get("client_id") != client_id:
        return "it belongs to another client_id; its refresh token can be used by that client only"
    endpoint = _endpoint(members.get("token_uri"))
    if endpoint is None:
        return "its token_uri is no https URL"
    return build_token(
        access_token=members.get("token"),
        refresh_token=members.get("refresh_token"),
        id_token=members.get("id_token"),
        scope=scopes_in(members.get("scopes")),
        scope_assumed=True,
        expires_at=iso_moment(members.get("expiry")),
        token_endpoint=endpoint,
    )


def _endpoint(token_uri: object) -> str | None:
    """The token endpoint that the refresh token is for: no other server gets it (MD-4)."""
    if token_uri in (None, ""):
        return _TOKEN_ENDPOINT
    if not isinstance(token_uri, str):
        return None
    try:
        parts = urlsplit(token_uri)
    except ValueError:
        return None
    if parts.scheme != "https" or not parts.netloc:
        return None
    return _TOKEN_ENDPOINT if parts.netloc in _OTHER_HOSTS else token_uri
