"""Who a token was issued for: ID tokens checked against the server's keys. A token pauth stores has a checked ID token or none."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import NamedTuple, cast

from pauth.clock import Clock
from pauth.core.id_token import IdTokenClaims, decode_claims, names_another, validate_id_token
from pauth.core.jwks import ALGORITHMS, Jwks, UnknownKid
from pauth.core.metadata import ServerMetadata
from pauth.core.quirks import Quirks
from pauth.core.token import Token
from pauth.errors import PAuthError, Remedy, UntrustedServer
from pauth.secret import Secret
from pauth.server.directory import ServerDirectory

__all__ = ["IdTokenChecker"]

_log = logging.getLogger("pauth.server.identity")


class _Source(NamedTuple):
    """Who signs the ID tokens of a login, and where the keys are."""

    issuer: str
    jwks_uri: str


class IdTokenChecker:
    """Checks the ID tokens that one server issues to one client (OpenID Connect Core sections 3.1.3.7 and 12.2)."""

    def __init__(self, directory: ServerDirectory, *, client_id: str, quirks: Quirks, oidc: bool, clock: Clock) -> None:
        self._directory = directory
        self._client_id = client_id
        self._quirks = quirks
        self._oidc = oidc
        self._clock = clock

    def expected(self, metadata: ServerMetadata, scope: Sequence[str]) -> bool:
        """Whether a login with ``scope`` gives an ID token that can be checked."""
        return self._source(metadata, scope) is not None

    async def prepare_login(self, metadata: ServerMetadata, scope: Sequence[str]) -> None:
        """Fetch what :meth:`of_login` needs, before the code is spent.

        :raises ProviderError: it cannot be had.
        """
        source = self._source(metadata, scope)
        if source is not None:
            await self._directory.jwks(source.jwks_uri)

    async def of_login(
        self, token: Token, *, metadata: ServerMetadata, scope: Sequence[str], nonce: Secret | None = None, code: Secret | None = None
    ) -> Token:
        """``token`` with the subject its ID token names; without an ID token if the login did not ask for one.

        :param scope: what the login asked for.
        :param nonce: as sent in the authorization request; ``None`` for a login that has none (the device grant).
        :param code: the authorization code, likewise.
        :raises UntrustedServer: the ID token is missing or breaks a rule.
        """
        source = self._source(metadata, scope)
        if source is None:
            return dataclasses.replace(token, id_token=None)
        if token.id_token is None:
            raise UntrustedServer("the server was asked for an ID token (scope openid) and gave none; nothing was stored")
        try:
            claims = self._claims(token, metadata, source.issuer, await self._directory.jwks(source.jwks_uri), nonce=nonce, code=code)
        except UnknownKid:
            claims = None
        if claims is None:
            jwks = await self._directory.jwks(source.jwks_uri, unknown_kid=True)
            claims = self._claims(token, metadata, source.issuer, jwks, nonce=nonce, code=code)
        return dataclasses.replace(token, subject=claims.subject)

    async def keys_for_refresh(self, token: Token, *, metadata: ServerMetadata) -> Jwks | None:
        """What :meth:`of_refresh` needs, fetched before the refresh token is spent; ``None`` if it cannot be had or is not needed."""
        if token.id_token is None or metadata.jwks_uri is None:
            return None
        try:
            return await self._directory.jwks(metadata.jwks_uri)
        except PAuthError:
            _log.warning("the server's keys could not be fetched; a new ID token could not be checked and would not be kept")
            return None

    def of_refresh(self, new: Token, old: Token, *, metadata: ServerMetadata, jwks: Jwks | None) -> Token:
        """``new`` with the ID token it should have. No request is made: the refresh token is spent, and the answer has to reach the store.

        :param jwks: from :meth:`keys_for_refresh`.
        :raises UntrustedServer: the new ID token names another user; nothing of the answer may be used (TE-14).
        """
        kept = dataclasses.replace(new, id_token=old.id_token, subject=old.subject)
        issuer = self._issuer(metadata)
        if new.id_token is None or old.id_token is None or new.id_token == old.id_token or issuer is None:
            return kept
        aliases = self._quirks.id_token_issuer_aliases
        previous = decode_claims(old.id_token, issuer=issuer, issuer_aliases=aliases)
        if previous is None:
            return kept
        problem: object = "the server's keys are not known"
        if jwks is not None:
            try:
                self._claims(new, metadata, issuer, jwks, previous=previous)
                return dataclasses.replace(new, subject=old.subject)
            except UntrustedServer as error:
                problem = error
        if names_another(decode_claims(new.id_token, issuer=issuer, issuer_aliases=aliases), previous):
            # with its status: the refresh token has been spent
            raise UntrustedServer("a refresh gave an ID token of another user; nothing of it was used", status=200, remedy=Remedy.LOG_IN_AGAIN)
        _log.warning("the ID token of a refresh could not be checked and is not kept (%s)", problem)
        return kept

    def _source(self, metadata: ServerMetadata, scope: Sequence[str]) -> _Source | None:
        issuer = self._issuer(metadata)
        if not self._oidc or "openid" not in scope or issuer is None or metadata.jwks_uri is None:
            return None
        return _Source(issuer, metadata.jwks_uri)

    def _issuer(self, metadata: ServerMetadata) -> str | None:
        return self._quirks.id_token_issuer or metadata.issuer

    def _claims(
        self,
        token: Token,
        metadata: ServerMetadata,
        issuer: str,
        jwks: Jwks,
        *,
        nonce: Secret | None = None,
        code: Secret | None = None,
        previous: IdTokenClaims | None = None,
    ) -> IdTokenClaims:
        return validate_id_token(
            cast("Secret", token.id_token),
            jwks=jwks,
            issuer=issuer,
            algorithms=_algorithms(metadata),
            client_id=self._client_id,
            # sent in any case where there is no PKCE, but not every provider repeats it (LinkedIn)
            nonce=nonce if self._quirks.nonce else None,
            now=self._clock.time(),
            access_token=token.access_token,
            code=code,
            previous=previous,
            issuer_aliases=self._quirks.id_token_issuer_aliases,
        )


def _algorithms(metadata: ServerMetadata) -> Sequence[str]:
    # RS256 is what a client is registered for that says nothing, and what every OpenID provider must have (Core section 15.1). One that says it
    # has not signs with what it names; the ID token's own header never decides (ID-6).
    named = metadata.id_token_signing_alg_values_supported
    if named is None or "RS256" in named:
        return ("RS256",)
    return [name for name in named if name in ALGORITHMS] or ("RS256",)
