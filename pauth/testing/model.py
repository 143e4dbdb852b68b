"""What the server knows: clients, codes, grants and tokens, and what rotation does to them.

No I/O here; ``now`` is an argument: seconds since the Unix epoch. Codes and tokens are kept as hashes only. No method awaits, so each is atomic on
the server's event loop.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import quote

from pauth.core.quirks import RotationClass
from pauth.testing.ledger import token_hash
from pauth.testing.messages import Refusal

__all__ = ["CODE_LIFETIME", "AccessToken", "AuthMethod", "Client", "Code", "Grant", "Issued", "RefreshToken", "State", "escape_user"]

AuthMethod = Literal["client_secret_basic", "client_secret_post", "none"]

CODE_LIFETIME: Final = 60.0
"""Seconds an authorization code lives (RFC 6749 section 4.1.2 recommends ten minutes at most)."""

_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
"""RFC 7636 section 4.1."""


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client."""

    client_id: str
    client_secret: str | None = field(repr=False)
    redirect_uris: tuple[str, ...]
    auth_method: AuthMethod
    grant_types: tuple[str, ...]


@dataclass(slots=True, repr=False, eq=False)
class Grant:
    """What a user allowed a client at one login; the family of all tokens that come from it."""

    client_id: str
    user: str
    scope: tuple[str, ...]
    auth_time: float
    nonce: str | None = None
    revoked: bool = False


@dataclass(slots=True, repr=False, eq=False)
class Code:
    """An authorization code and what it is bound to."""

    client_id: str
    user: str
    scope: tuple[str, ...]
    redirect_uri: str
    redirect_uri_given: bool
    """Whether the authorization request named it; then the token request has to (RFC 6749 section 4.1.3)."""

    code_challenge: str | None
    nonce: str | None
    issued_at: float
    grant: Grant | None = None
    """Set when the code is redeemed."""


@dataclass(slots=True, repr=False, eq=False)
class RefreshToken:
    """One refresh token of a family."""

    grant: Grant
    parent: RefreshToken | None
    """The token this one was issued for."""

    expires_at: float | None
    spent_at: float | None = None
    """When it was exchanged first."""

    superseded: bool = False
    """Whether a token that was issued for it has itself been used."""


@dataclass(slots=True, repr=False, eq=False)
class AccessToken:
    """One access token."""

    client_id: str
    user: str | None
    """``None`` for one that belongs to the client itself."""

    scope: tuple[str, ...]
    expires_at: float | None
    grant: Grant | None
    parent: RefreshToken | None
    revoked: bool = False

    def usable(self, now: float) -> bool:
        """Whether a resource server has to accept it."""
        return not (self.revoked or (self.grant is not None and self.grant.revoked) or (self.expires_at is not None and now >= self.expires_at))


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """What a successful token request gives."""

    access_token: str
    refresh_token: str | None
    scope: tuple[str, ...]
    grant: Grant | None


def escape_user(user: str) -> str:
    """``user`` in characters that are legal in a bearer token (RFC 6750 section 2.1), injectively; ASCII letters, digits, ``-._`` stay."""
    return quote(user, safe="", errors="surrogatepass").replace("~", "%7E").replace("%", "~")


class State:
    """All the server remembers."""

    def __init__(
        self, *, rotation: RotationClass, access_token_lifetime: float | None, refresh_token_lifetime: float | None, grace: float, secret_marker: str
    ) -> None:
        self.rotation = rotation
        self.access_token_lifetime = access_token_lifetime
        self.refresh_token_lifetime = refresh_token_lifetime
        self.grace = grace
        self.secret_marker = secret_marker
        self.clients: dict[str, Client] = {}
        self.grants: list[Grant] = []
        self._codes: dict[str, Code] = {}
        self._refresh_tokens: dict[str, RefreshToken] = {}
        self._access_tokens: dict[str, AccessToken] = {}

    def new_secret(self, kind: str, owner: str) -> str:
        """A fresh random secret that says what it is and whose."""
        return f"{self.secret_marker}{kind}-{escape_user(owner)}-{secrets.token_hex(16)}"

    def add_code(self, code: Code) -> str:
        """Keep ``code`` and give it its name."""
        name = self.new_secret("code", code.user)
        self._codes[token_hash(name)] = code
        return name

    def redeem_code(self, client: Client, code: str, *, redirect_uri: str | None, verifier: str | None, now: float) -> Issued:
        """Exchange a code, once (RFC 6749 section 4.1.3, RFC 7636 section 4.6). A wrong exchange does not use it up.

        :raises Refusal: ``invalid_grant``. If the code had been used, the tokens that came from it are revoked (RFC 6749 section 4.1.2).
        """
        record = self._codes.get(token_hash(code))
        if record is None or record.client_id != client.client_id:
            raise Refusal("invalid_grant", "the code is unknown or belongs to another client")
        if record.grant is not None:
            record.grant.revoked = True
            raise Refusal("invalid_grant", "the code was used before; its tokens are revoked")
        if now >= record.issued_at + CODE_LIFETIME:
            raise Refusal("invalid_grant", "the code has expired")
        if redirect_uri != record.redirect_uri and (record.redirect_uri_given or redirect_uri is not None):
            raise Refusal("invalid_grant", "redirect_uri is not the one of the authorization request")
        if not _verifier_fits(record.code_challenge, verifier):
            raise Refusal("invalid_grant", "code_verifier does not fit the authorization request")
        record.grant = Grant(client.client_id, record.user, record.scope, auth_time=record.issued_at, nonce=record.nonce)
        self.grants.append(record.grant)
        return self._issue(record.grant, record.scope, None, with_refresh_token="refresh_token" in client.grant_types, now=now)

    def grant(self, client: Client, user: str, scope: tuple[str, ...], now: float) -> Issued:
        """Tokens for a user who has said yes without a code."""
        grant = Grant(client.client_id, user, scope, auth_time=now)
        self.grants.append(grant)
        return self._issue(grant, scope, None, with_refresh_token="refresh_token" in client.grant_types, now=now)

    def refresh(self, client: Client, refresh_token: str, scope: tuple[str, ...] | None, now: float) -> Issued:
        """Exchange a refresh token (RFC 6749 section 6) as the rotation class says.

        :raises Refusal: ``invalid_grant`` or ``invalid_scope``; the latter does not use the token up.
        """
        token = self._refresh_tokens.get(token_hash(refresh_token))
        if token is None or token.grant.client_id != client.client_id:
            raise Refusal("invalid_grant", "the refresh token is unknown or belongs to another client")
        if token.grant.revoked or (token.expires_at is not None and now >= token.expires_at):
            raise Refusal("invalid_grant", "the refresh token has expired or was revoked")
        if not self._exchangeable(token, now):
            # Reuse is a sign of theft (RFC 9700 section 4.14.2); strict servers without a memory for families only say no.
            if self.rotation in {RotationClass.RG, RotationClass.RSF}:
                token.grant.revoked = True
            raise Refusal("invalid_grant", "the refresh token was used before")
        granted = token.grant.scope if scope is None else scope
        if not set(granted) <= set(token.grant.scope):
            raise Refusal("invalid_scope", "the scope is wider than the one granted")
        if token.spent_at is None:
            token.spent_at = now
        if token.parent is not None:
            token.parent.superseded = True
        return self._issue(token.grant, granted, token, with_refresh_token=self.rotation is not RotationClass.NR, now=now)

    def _exchangeable(self, token: RefreshToken, now: float) -> bool:
        unspent = token.spent_at is None
        in_grace = token.spent_at is None or now - token.spent_at <= self.grace
        rules = {
            RotationClass.NR: True,
            RotationClass.RO: True,
            RotationClass.RG: unspent or (in_grace and not token.superseded),
            RotationClass.RU: not token.superseded,
            RotationClass.RS: unspent,
            RotationClass.RSF: unspent,
        }
        return rules[self.rotation]

    def client_token(self, client: Client, scope: tuple[str, ...], now: float) -> Issued:
        """An access token of the client's own (RFC 6749 section 4.4)."""
        name = self.new_secret("at", client.client_id)
        self._access_tokens[token_hash(name)] = AccessToken(client.client_id, None, scope, _later(now, self.access_token_lifetime), None, None)
        return Issued(name, None, scope, None)

    def _issue(self, grant: Grant, scope: tuple[str, ...], parent: RefreshToken | None, *, with_refresh_token: bool, now: float) -> Issued:
        access_token = self.new_secret("at", grant.user)
        expires_at = _later(now, self.access_token_lifetime)
        self._access_tokens[token_hash(access_token)] = AccessToken(grant.client_id, grant.user, scope, expires_at, grant, parent)
        if not with_refresh_token:
            return Issued(access_token, None, scope, grant)
        refresh_token = self.new_secret("rt", grant.user)
        self._refresh_tokens[token_hash(refresh_token)] = RefreshToken(grant, parent, _later(now, self.refresh_token_lifetime))
        return Issued(access_token, refresh_token, scope, grant)

    def find_access_token(self, access_token: str) -> AccessToken | None:
        """The record of an access token, usable or not."""
        return self._access_tokens.get(token_hash(access_token))

    def find_refresh_token(self, refresh_token: str) -> RefreshToken | None:
        """The record of a refresh token, usable or not."""
        return self._refresh_tokens.get(token_hash(refresh_token))

    def note_use(self, token: AccessToken) -> None:
        """A resource server accepted ``token``: where old refresh tokens live until then (RU), the old one dies now."""
        if self.rotation is RotationClass.RU and token.parent is not None:
            token.parent.superseded = True

    def revoke(self, client: Client, name: str) -> None:
        """Revoke a token (RFC 7009 section 2.1): an access token alone, a refresh token with its whole family. An unknown one is no error.

        :raises Refusal: ``invalid_grant`` if it belongs to another client.
        """
        refresh_token, access_token = self.find_refresh_token(name), self.find_access_token(name)
        owner = refresh_token.grant.client_id if refresh_token is not None else access_token.client_id if access_token is not None else None
        if owner not in {None, client.client_id}:
            raise Refusal("invalid_grant", "the token belongs to another client")
        if refresh_token is not None:
            refresh_token.grant.revoked = True
        elif access_token is not None:
            access_token.revoked = True

    def grants_of(self, user: str) -> list[Grant]:
        """The grants of ``user``, oldest first."""
        return [grant for grant in self.grants if grant.user == user]

    def access_tokens(self) -> Iterable[AccessToken]:
        """All access tokens ever issued."""
        return self._access_tokens.values()


def _later(now: float, lifetime: float | None) -> float | None:
    return None if lifetime is None else now + lifetime


def _verifier_fits(challenge: str | None, verifier: str | None) -> bool:
    if challenge is None or verifier is None:
        return challenge is verifier  # a verifier without a challenge is a downgrade attack (RFC 9700 section 2.1.1)
    if _VERIFIER.fullmatch(verifier) is None:
        return False
    digest = hashlib.sha256(verifier.encode()).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"="), challenge.encode("utf-8", "surrogatepass"))
