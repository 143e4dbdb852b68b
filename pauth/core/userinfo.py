"""The userinfo endpoint: OpenID Connect Core section 5.3, and the profile endpoints that other providers have."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pauth.core.answers import ServerError, read_answer
from pauth.core.quirks import Path, Quirks, find_member
from pauth.core.token import Token
from pauth.core.wire import HTTPRequest, HTTPResponse
from pauth.errors import MalformedResponse, PAuthError, Remedy, UserInfoError
from pauth.secret import Secret

__all__ = ["UserInfo", "build_userinfo_request", "parse_userinfo_response"]

_ENDPOINT: Final = "userinfo endpoint"
_MAX_SUBJECT: Final = 255
_SEPARATOR: Final = ":"
_NOT_IN_ADDRESSES: Final = frozenset('()<>[]:;,\\" \u3002')
"""What has a meaning of its own beside an address (RFC 5322 section 3.2.3), and the ideographic full stop, which is a dot in a domain."""


@dataclass(frozen=True, slots=True, repr=False)
class UserInfo:
    """Who a token belongs to, as the provider tells it. Its repr shows no personal data."""

    subject: str
    """The provider's identifier of the user: never reused, never changed (ID-13). Key your users on provider and subject, not on :attr:`email`."""

    claims: Mapping[str, Any]
    """The whole answer."""

    email: str | None = None
    """The address, if it is a plain one: one ``@``, no compatibility characters (a fullwidth ``a``), nothing quoted, no spaces or brackets (WS-9).

    Letters of two alphabets that look alike, such as a Cyrillic and a Latin ``a``, stay two.
    """

    email_verified: bool = False
    """The provider says that :attr:`email` is the user's. Anything but a JSON ``true`` is a no (ID-18)."""

    name: str | None = None
    picture: str | None = None
    """URL of a picture. pauth never fetches it."""

    def __repr__(self) -> str:
        return f"<UserInfo claims={len(self.claims)} email_verified={self.email_verified}>"


def build_userinfo_request(*, userinfo_endpoint: str, token: Token) -> HTTPRequest:
    """The request for the user's profile; the token goes in the ``Authorization`` header and nowhere else (RQ-1)."""
    return HTTPRequest("GET", userinfo_endpoint, {"Accept": "application/json", **token.auth_headers()})


def parse_userinfo_response(
    response: HTTPResponse, *, quirks: Quirks, now: float, expected_subject: str | None = None, secrets: Iterable[Secret] = ()
) -> UserInfo:
    """The profile in an answer of the userinfo endpoint.

    :param now: the present, in seconds since the Unix epoch, for ``Retry-After``.
    :param expected_subject: the ``sub`` of the ID token, or the subject of an earlier answer, where there was one; an answer about anybody else is
        discarded (ID-16).
    :param secrets: what the request carried, to be masked if the server repeats it (SH-9).
    :raises UserInfoError: the access token was refused (``status`` 401: refresh it), lacks a scope (403), or the answer cannot be used.
    :raises ProviderUnavailable: 408, 425, 429 or 5xx.
    """
    answer = read_answer(response, endpoint=_ENDPOINT, quirks=quirks, now=now, secrets=secrets)
    status = response.status
    if status in {401, 403} and not isinstance(answer, ServerError):
        raise _refused(ServerError(f"HTTP {status}", None), status, code=None)
    if isinstance(answer, ServerError):
        raise _refused(answer, status, code=answer.code)
    if isinstance(answer, MalformedResponse):
        raise UserInfoError(answer.message, status=status)
    if isinstance(answer, PAuthError):
        raise answer
    info = _read_userinfo(answer, quirks, expected_subject)
    del answer
    if isinstance(info, str):
        raise UserInfoError(f"the userinfo endpoint's answer cannot be used: {info}; check its URL, or use Quirks.userinfo", status=status)
    return info


def _refused(error: ServerError, status: int, *, code: str | None) -> UserInfoError:
    if status == 403:
        advice, remedy = "the token lacks a scope for it; ask for it at login", Remedy.FIX_CONFIGURATION
    elif status == 401:
        advice, remedy = "the access token is expired or revoked; refresh it and try again", Remedy.RETRY
    else:
        advice, remedy = "see error_description and the provider's documentation", Remedy.FIX_CONFIGURATION
    said = error.code if code is None else f"{code} (HTTP {status})"
    return UserInfoError(
        f"the userinfo endpoint refused the access token: {said}; {advice}",
        error=code,
        error_description=error.description,
        status=status,
        remedy=remedy,
    )


def _read_userinfo(claims: dict[str, Any], quirks: Quirks, expected_subject: str | None) -> UserInfo | str:
    mapping = quirks.userinfo
    parts = [_identifier(find_member(claims, path)) for path in mapping.subject]
    known = [part for part in parts if part is not None]
    if len(known) != len(parts):
        return "it does not name the user"
    if len(parts) > 1 and any(_SEPARATOR in part for part in known):
        return "an identifier in it holds a colon, so that joining it with another would be ambiguous"
    subject = _SEPARATOR.join(known)
    if len(subject) > _MAX_SUBJECT:
        return "the user's identifier is too long"
    if expected_subject is not None and expected_subject not in (subject, claims.get("sub")):
        return "it is about another user than the ID token (OpenID Connect Core section 5.3.2)"
    email = _address(_text(claims, mapping.email))
    is_verified = mapping.email_verified is not None and find_member(claims, mapping.email_verified) is True
    return UserInfo(
        subject=subject,
        claims=MappingProxyType(claims),
        email=email,
        email_verified=is_verified and email is not None,
        name=next((text for text in (_text(claims, path) for path in mapping.name) if text is not None), None),
        picture=_text(claims, mapping.picture),
    )


def _identifier(value: object) -> str | None:
    """An id as text. A JSON integer is written out exactly (PX-6); a fraction or a bool is no id."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def _address(text: str | None) -> str | None:
    """An address that can be compared, and whose domain is what follows its ``@`` (WS-9).

    A fullwidth at sign and other compatibility characters are refused, not replaced: another mailbox must not become this one.
    """
    normal = unicodedata.normalize("NFKC", text or "")
    local, _, domain = normal.partition("@")
    is_plain = normal.isprintable() and _NOT_IN_ADDRESSES.isdisjoint(normal) and normal == unicodedata.normalize("NFC", text or "")
    return normal if local and domain and "@" not in domain and is_plain else None


def _text(claims: Mapping[str, Any], path: Path | None) -> str | None:
    value: object = None if path is None else find_member(claims, path)
    return value if isinstance(value, str) and value else None
