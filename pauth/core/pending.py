"""A login that is under way: the record that is kept while the user is away at the provider, and what it is bound to."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from pauth.errors import InvalidStateError, UnsupportedRecord
from pauth.secret import Secret

__all__ = ["AuthorizationRequest", "check_user", "hash_session_id", "pending_id"]

_STATE: Final = re.compile(r"[A-Za-z0-9_\-]{22,128}")  # 22 characters of base64url are 128 bit


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class AuthorizationRequest:
    """One attempt to log in, from the redirect to the callback. Frozen; its repr shows no secret; :meth:`to_dict` is what a store keeps of it."""

    url: str
    """Where to send the user's browser. It holds ``state``."""

    state: Secret
    nonce: Secret | None
    code_verifier: Secret | None
    """The PKCE verifier, sent only to :attr:`token_endpoint`; ``None`` if PKCE is off."""

    redirect_uri: str | None
    """Exactly as it was sent; the token request repeats it (AR-5)."""

    scope: tuple[str, ...]
    issuer: str | None
    authorization_endpoint: str
    token_endpoint: str
    """Where the code goes, and nowhere else (MX-1)."""

    client_id: str
    iss_required: bool
    """The server always sends ``iss``, so a callback without one is refused."""

    created_at: float
    expires_at: float
    """Until when a callback is accepted: seconds since the Unix epoch."""

    user_id: str | None
    """Whose account the tokens are for, if that was known at the start (AX-6)."""

    session_hash: str | None
    """SHA-256 (hex) of the id of the browser session that started the login (AX-2)."""

    resource: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<AuthorizationRequest scope={' '.join(self.scope)!r} pkce={self.code_verifier is not None} expires_at={self.expires_at:.0f}>"

    def to_dict(self) -> dict[str, Any]:
        """The request as JSON data, **secrets included**: for an encrypted store, nothing else."""
        return {
            "url": self.url,
            "state": self.state.reveal(),
            "nonce": None if self.nonce is None else self.nonce.reveal(),
            "code_verifier": None if self.code_verifier is None else self.code_verifier.reveal(),
            "redirect_uri": self.redirect_uri,
            "scope": list(self.scope),
            "issuer": self.issuer,
            "authorization_endpoint": self.authorization_endpoint,
            "token_endpoint": self.token_endpoint,
            "client_id": self.client_id,
            "iss_required": self.iss_required,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "user_id": self.user_id,
            "session_hash": self.session_hash,
            "resource": list(self.resource),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AuthorizationRequest:
        """The request that :meth:`to_dict` wrote. Members it does not know are ignored.

        :raises UnsupportedRecord: a member is missing or of the wrong type.
        """
        request = _read_request(data)
        del data
        if request is None:
            raise UnsupportedRecord("a pending login is stored in a form that this version of pauth does not read; start the login again")
        return request


def _read_request(data: Mapping[str, Any]) -> AuthorizationRequest | None:
    def text(name: str) -> str:
        value = data[name]
        if not isinstance(value, str):
            raise TypeError
        return value

    def optional(name: str) -> str | None:
        return None if data.get(name) is None else text(name)

    def secret(name: str) -> Secret | None:
        value = optional(name)
        return None if value is None else Secret(value)

    def texts(name: str) -> tuple[str, ...]:
        value = data[name]
        if not isinstance(value, list):
            raise TypeError
        items = cast("list[object]", value)
        found = tuple(item for item in items if isinstance(item, str))
        if len(found) != len(items):
            raise TypeError
        return found

    def seconds(name: str) -> float:
        value = data[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise TypeError
        return value

    def flag(name: str) -> bool:
        value = data[name]
        if not isinstance(value, bool):
            raise TypeError
        return value

    try:
        return AuthorizationRequest(
            url=text("url"),
            state=Secret(text("state")),
            nonce=secret("nonce"),
            code_verifier=secret("code_verifier"),
            redirect_uri=optional("redirect_uri"),
            scope=texts("scope"),
            issuer=optional("issuer"),
            authorization_endpoint=text("authorization_endpoint"),
            token_endpoint=text("token_endpoint"),
            client_id=text("client_id"),
            iss_required=flag("iss_required"),
            created_at=seconds("created_at"),
            expires_at=seconds("expires_at"),
            user_id=optional("user_id"),
            session_hash=optional("session_hash"),
            resource=texts("resource"),
        )
    except (KeyError, TypeError, OverflowError):  # isfinite() of an enormous int overflows
        return None


def pending_id(state: str | Secret | None) -> str:
    """The name a pending login is stored under: SHA-256 (hex) of its ``state``, so that the store's index does not hold the state itself.

    :raises InvalidStateError: the state is missing, or is nothing that pauth ever made.
    """
    text = state.reveal() if isinstance(state, Secret) else state or ""
    digest = hashlib.sha256(text.encode("ascii")).hexdigest() if _STATE.fullmatch(text) else None
    del state, text
    if digest is None:
        raise InvalidStateError("the callback has no state, or one that pauth did not make; start the login again")
    return digest


def hash_session_id(session_id: str | None) -> str | None:
    """SHA-256 (hex) of a browser session's id, which is itself a secret; ``None`` for ``None``."""
    return None if session_id is None else hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()


def check_user(request: AuthorizationRequest, user_id: str | None) -> str | None:
    """The user that the tokens are for: the one named when the login started or the one named now; ``None`` if neither was (AX-6).

    :raises InvalidStateError: both were named and differ: the login was started for somebody else.
    """
    if request.user_id is not None and user_id is not None and request.user_id != user_id:
        raise InvalidStateError("the login was started for another user; start the login again as this one")
    return request.user_id if request.user_id is not None else user_id
