"""A token as pauth holds it, and the arithmetic of its expiry.

``now`` is always an argument here: seconds since the Unix epoch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, NoReturn, cast

from pauth.errors import UnsupportedRecord
from pauth.secret import Secret

__all__ = [
    "MAX_LIFETIME",
    "MAX_TOKEN",
    "Token",
    "is_token_text",
    "known_token_type",
    "parse_lifetime",
    "token_from_dict",
    "token_to_dict",
    "was_issued_by",
]

MAX_LIFETIME: Final = 10 * 366 * 86_400
"""A lifetime above this many seconds (ten years) is taken as unknown."""

MAX_TOKEN: Final = 64 * 1024
"""The longest access, refresh or ID token, in characters (TE-5)."""

_MAX_TIME: Final = 253_402_300_799
"""31 December 9999. A larger number is no point in time in seconds."""

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:  # before Python 3.12 a mappingproxy has no hash, and a dataclass refuses it as a plain default
    return _NOTHING


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """An access token with what belongs to it (RFC 6749 section 5.1). Frozen; printing it shows no secret; pickling it is refused."""

    access_token: Secret
    token_type: str = "Bearer"
    """``Bearer`` or ``DPoP``, in this spelling whatever the server's was."""

    refresh_token: Secret | None = None
    id_token: Secret | None = None
    scope: tuple[str, ...] = ()
    """The scopes granted, as the server named them; the requested ones if it named none (then :attr:`scope_assumed`)."""

    scope_assumed: bool = False
    """The server did not say which scopes it granted; :meth:`has_scope` answers no."""

    issued_at: float = 0.0
    """When the request for it was sent: seconds since the Unix epoch."""

    expires_at: float | None = None
    """When the access token expires, counted from :attr:`issued_at`; ``None`` if the server did not say."""

    refresh_token_expires_at: float | None = None
    """When the refresh token expires; ``None`` if the server did not say."""

    issuer: str | None = None
    """The issuer identifier of the server that issued it, where that server has one."""

    token_endpoint: str | None = None
    """The endpoint it came from; its refresh token is sent to no other server (MD-4)."""

    subject: str | None = None
    """Who it was issued for, as a validated ID token or the userinfo endpoint named them; ``None`` if neither was asked."""

    extra: Mapping[str, Any] = field(default_factory=_nothing)
    """Members of the token response that the provider's record says to keep (an instance URL, a team id)."""

    def __repr__(self) -> str:
        expiry = "unknown" if self.expires_at is None else f"{self.expires_at:.0f}"
        refreshable = self.refresh_token is not None
        return f"<Token type={self.token_type} scope={' '.join(self.scope)!r} expires_at={expiry} refreshable={refreshable}>"

    def __copy__(self) -> Token:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Token:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Token cannot be pickled; keep it in a token storage instead")

    @property
    def version(self) -> str:
        """Names this token among all that its user ever had, the same in every process: for ``refresh(user_id, if_version=token.version)``.

        A hash of the token that tells nothing of it.
        """
        digest = blake2b(digest_size=16, person=b"pauth version")
        for secret in (self.access_token, self.refresh_token):
            text = b"" if secret is None else secret.reveal().encode("utf-8", "surrogatepass")
            digest.update(len(text).to_bytes(4, "big") + text)
        return digest.hexdigest()

    def auth_headers(self) -> dict[str, str]:
        """The ``Authorization`` header that presents this token to a resource server (RFC 6750 section 2.1)."""
        return {"Authorization": f"{self.token_type} {self.access_token.reveal()}"}

    def has_scope(self, *scopes: str) -> bool:
        """Whether the server said that it granted all of ``scopes``."""
        return not self.scope_assumed and set(scopes) <= set(self.scope)

    def expires_in(self, now: float) -> float | None:
        """Seconds until the access token expires, negative if it has; ``None`` if its expiry is unknown."""
        return None if self.expires_at is None else self.expires_at - now

    def is_expired(self, now: float, *, margin: float = 0.0) -> bool:
        """Whether the access token has expired, or will within ``margin`` seconds. Unknown expiry counts as not expired."""
        return self.expires_at is not None and now >= self.expires_at - margin


_TOKEN_TEXT: Final = re.compile(r"[\x21-\x7e]+")
_DIGITS: Final = re.compile(r"[0-9]{1,20}")
_TIME: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_TOKEN_TYPES: Final = MappingProxyType({"bearer": "Bearer", "dpop": "DPoP"})


def is_token_text(value: object) -> bool:
    """Whether ``value`` can be a token: a non-empty ``str`` of visible ASCII, up to :data:`MAX_TOKEN` (TE-6).

    RFC 6749 appendix A.12 would allow spaces too; the header that an access token goes into does not (RFC 6750 section 2.1, RQ-6).
    """
    return isinstance(value, str) and len(value) <= MAX_TOKEN and _TOKEN_TEXT.fullmatch(value) is not None


def known_token_type(value: object) -> str | None:
    """``value`` in its usual spelling if it is a token type pauth can use, whatever its case (TE-6); else ``None``."""
    return _TOKEN_TYPES.get(value.lower()) if isinstance(value, str) else None


def parse_lifetime(value: object, *, zero_is_forever: bool = False) -> float | None:
    """The seconds that an ``expires_in`` names; ``None``, "unknown", for anything that is not a plain number of them (TE-10).

    A whole number from 0 to :data:`MAX_LIFETIME`, or such a number in ASCII digits, is one. A bool, a fraction, NaN, infinity, a negative number,
    other digits than ASCII, ``"3_600"``, text and ``None`` are not. Never raises.

    :param zero_is_forever: 0 means that the token does not expire, so its expiry is not known either.
    """
    if isinstance(value, str):
        seconds = int(value) if _DIGITS.fullmatch(value) else -1
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    elif isinstance(value, float):
        seconds = int(value) if value.is_integer() else -1
    else:
        seconds = value
    if not 0 <= seconds <= MAX_LIFETIME or (seconds == 0 and zero_is_forever):
        return None
    return float(seconds)


def was_issued_by(token: Token, *, token_endpoint: str, issuer: str | None) -> bool:
    """Whether ``token`` came from the server that has this token endpoint and issuer (MD-4).

    The issuers must be equal where both are known, and the endpoints must have the same origin. Their paths may differ: a versioned endpoint
    (Facebook's) moves without becoming another server. A token that says nothing of where it came from counts as issued there.
    """
    if token.issuer is not None and issuer is not None and token.issuer != issuer:
        return False
    return token.token_endpoint is None or token.token_endpoint == token_endpoint or _origin(token.token_endpoint) == _origin(token_endpoint)


def _origin(url: str) -> tuple[str, str] | None:
    from urllib.parse import urlsplit  # which takes a while to import, and few need it

    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.scheme.lower(), parts.netloc.lower()


def token_to_dict(token: Token) -> dict[str, Any]:
    """``token`` as the JSON object that is stored. Members that are ``None`` or empty are left out. It holds the secrets in the clear."""
    members: dict[str, Any] = {
        "access_token": token.access_token.reveal(),
        "token_type": token.token_type,
        "refresh_token": _revealed(token.refresh_token),
        "id_token": _revealed(token.id_token),
        "scope": " ".join(token.scope),
        "scope_assumed": token.scope_assumed,
        "issued_at": token.issued_at,
        "expires_at": token.expires_at,
        "refresh_token_expires_at": token.refresh_token_expires_at,
        "issuer": token.issuer,
        "token_endpoint": token.token_endpoint,
        "subject": token.subject,
        "extra": dict(token.extra) or None,
    }
    return {name: value for name, value in members.items() if value is not None}


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def token_from_dict(d: Mapping[str, Any]) -> Token:
    """The token that a stored object holds.

    Reads what :func:`token_to_dict` writes, and what other libraries keep: ``expires_at`` as a number or as digits, ``scope`` as a list,
    ``token_type`` in any case or missing. Members it does not know are ignored.

    :raises UnsupportedRecord: there is no usable access token in it, or a refresh token or token type that cannot be used.
    """
    token = _read_stored(d)
    del d
    if isinstance(token, str):
        raise UnsupportedRecord(
            f"the stored tokens cannot be used: {token}; were they written by another program? If so, convert them, or log in again"
        )
    return token


def _read_stored(d: Mapping[str, Any]) -> Token | str:
    access_token, refresh_token, id_token = d.get("access_token"), d.get("refresh_token"), d.get("id_token")
    if not is_token_text(access_token):
        return "they have no access_token, or one with characters that no token has"
    if refresh_token is not None and refresh_token != "" and not is_token_text(refresh_token):
        return "their refresh_token has characters that no token has"
    token_type = known_token_type(d.get("token_type", "Bearer"))
    if token_type is None:
        return "their token_type is neither Bearer nor DPoP"
    extra: object = d.get("extra")
    return Token(
        access_token=Secret(cast("str", access_token)),
        token_type=token_type,
        refresh_token=Secret(refresh_token) if refresh_token else None,
        id_token=Secret(cast("str", id_token)) if is_token_text(id_token) else None,
        scope=_stored_scope(d.get("scope")),
        scope_assumed=d.get("scope_assumed") is True,
        issued_at=_stored_time(d.get("issued_at")) or 0.0,
        expires_at=_stored_time(d.get("expires_at")),
        refresh_token_expires_at=_stored_time(d.get("refresh_token_expires_at")),
        issuer=_shared_text(d.get("issuer")),
        token_endpoint=_shared_text(d.get("token_endpoint")),
        subject=_stored_text(d.get("subject")),
        extra=MappingProxyType(dict(cast("Mapping[str, Any]", extra))) if isinstance(extra, Mapping) and extra else _NOTHING,
    )


def _stored_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _shared_text(value: object) -> str | None:
    return _shared(value) if isinstance(value, str) and value else None


def _stored_scope(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return _split(value)
    texts = cast("list[object]", value) if isinstance(value, (list, tuple)) else []
    return tuple(scope for text in texts if isinstance(text, str) for scope in text.split())


# The tokens of a client, however many are in memory, are of a few issuers, endpoints and scopes: they share them.


@lru_cache(maxsize=1024)
def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@lru_cache(maxsize=1024)
def _shared(text: str) -> str:
    return text


def _stored_time(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if _TIME.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MAX_TIME:
        return None
    return float(value)
