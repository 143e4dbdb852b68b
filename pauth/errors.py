"""Every error pauth raises, in one tree.

::

    PAuthError
    ├── ConfigurationError          the program is set up wrongly             fix the configuration
    │   └── InvalidUserId           a user id no record can be kept under     fix the configuration
    ├── AuthorizationError          the login ended without a code            log in again
    │   └── InvalidStateError       the callback belongs to no pending login  log in again
    ├── TokenError                  the token endpoint said no                per OAuth error code
    │   └── AmbiguousExchange       a code was sent, no answer came back      log in again
    ├── ReauthorizationRequired     the user's grant is gone                  log in again
    ├── ProviderError               no answer, or one nobody can use
    │   ├── ProviderUnavailable     network, timeout, 429, 5xx                retry
    │   ├── MalformedResponse       the answer breaks the protocol            fix the configuration
    │   └── UntrustedServer         metadata or endpoints failed a check      fix the configuration
    ├── UserInfoError               the userinfo endpoint refused or lied     per cause
    ├── TokenStorageError           the token store failed
    │   ├── StorageUnavailable      the store did not answer                  retry
    │   └── RecordUnreadable        a record is there but cannot be read      fix the configuration
    │       ├── RecordTampered      its authentication failed
    │       ├── UnknownEncryptionKey  no key with its key id is configured
    │       └── UnsupportedRecord   written by a newer pauth, or not by pauth
    └── DeadlineExceeded            a blocking call took too long             retry

Each error answers one question, *what is to be done*, in :attr:`PAuthError.remedy`; :attr:`PAuthError.retryable` is the
same answer as a bool for retry loops. No error carries a token, code, verifier or secret, in its message, its arguments or its chain.

This module imports nothing from pauth.
"""

from __future__ import annotations

import enum
from typing import Any

__all__ = [
    "AmbiguousExchange",
    "AuthorizationError",
    "ConfigurationError",
    "DeadlineExceeded",
    "InvalidStateError",
    "InvalidUserId",
    "MalformedResponse",
    "PAuthError",
    "ProviderError",
    "ProviderUnavailable",
    "ReauthorizationRequired",
    "RecordTampered",
    "RecordUnreadable",
    "Remedy",
    "StorageUnavailable",
    "TokenError",
    "TokenStorageError",
    "UnknownEncryptionKey",
    "UnsupportedRecord",
    "UntrustedServer",
    "UserInfoError",
]


class Remedy(enum.Enum):
    """What the caller of a failed operation has to do."""

    RETRY = "retry"
    """Nothing is lost; the same call may succeed later."""

    LOG_IN_AGAIN = "log in again"
    """The user has to pass through the authorization endpoint once more."""

    FIX_CONFIGURATION = "fix the configuration"
    """No retry helps until the program, its settings or its keys change."""


class PAuthError(Exception):
    """Root of all errors that pauth raises.

    :param message: what happened and what to do about it; must not contain a secret.
    :param error: the OAuth ``error`` code of the server (RFC 6749 section 5.2), where there was one.
    :param error_description: the server's text, already truncated and redacted.
    :param status: the HTTP status of the server's answer, where there was one.
    :param retry_after: seconds the server asked to wait, where it did.
    :param remedy: overrides the class's own :attr:`remedy`.
    """

    remedy: Remedy = Remedy.FIX_CONFIGURATION

    def __init__(
        self,
        message: str,
        *,
        error: str | None = None,
        error_description: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        remedy: Remedy | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error = error
        self.error_description = error_description
        self.status = status
        self.retry_after = retry_after
        if remedy is not None:
            self.remedy = remedy

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later with nothing changed."""
        return self.remedy is Remedy.RETRY

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process boundaries (worker pools); keyword-only arguments need their state restored.
        return (_rebuild, (type(self), self.message, self.__dict__.copy()))


def _rebuild(cls: type[PAuthError], message: str, state: dict[str, Any]) -> PAuthError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class ConfigurationError(PAuthError):
    """The program, not the user or the server, is at fault: a missing option, a wrong URL, an unusable key."""


class InvalidUserId(ConfigurationError):
    """A user id that no record can be kept under: empty, not a ``str``, too long, or not encodable as UTF-8."""


class AuthorizationError(PAuthError):
    """The authorization endpoint sent the user back without a code (RFC 6749 section 4.1.2.1), or with an unusable answer."""

    remedy = Remedy.LOG_IN_AGAIN


class InvalidStateError(AuthorizationError):
    """The callback's ``state`` is missing, unknown, expired, already used, or belongs to another browser session."""


class TokenError(PAuthError):
    """The token endpoint (or revocation endpoint) answered with an OAuth error (RFC 6749 section 5.2)."""


class AmbiguousExchange(TokenError):
    """An authorization code was sent and no answer came back. The code may be spent; it is never sent twice."""

    remedy = Remedy.LOG_IN_AGAIN


class ReauthorizationRequired(PAuthError):
    """There is no way to a valid token without the user: no grant stored, or the stored one is dead.

    :param reason: a stable word to branch on: ``not_logged_in``, ``no_refresh_token``, ``invalid_grant``, ``revoked``,
        ``issuer_changed``, ``ambiguous_rotation`` (the refresh token may have been used up by a request whose answer was lost), or the
        server's code where it wants to see the user (``interaction_required``).
    """

    remedy = Remedy.LOG_IN_AGAIN

    def __init__(self, message: str, *, reason: str, error: str | None = None, status: int | None = None) -> None:
        super().__init__(message, error=error, status=status)
        self.reason = reason


class ProviderError(PAuthError):
    """The server gave no answer, or one that cannot be used."""


class ProviderUnavailable(ProviderError):
    """Network failure, timeout, 429 or 5xx. :attr:`request_sent` tells whether the server may have seen the request."""

    remedy = Remedy.RETRY

    def __init__(
        self,
        message: str,
        *,
        request_sent: bool = True,
        error: str | None = None,
        error_description: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, error=error, error_description=error_description, status=status, retry_after=retry_after)
        self.request_sent = request_sent


class MalformedResponse(ProviderError):
    """The server answered with something that the protocol does not allow: wrong type, broken JSON, missing members, too large."""


class UntrustedServer(ProviderError):
    """Server metadata, an endpoint or an ID token failed a security check; nothing of the answer is used."""


class UserInfoError(PAuthError):
    """The userinfo endpoint refused the access token or answered with something unusable."""


class TokenStorageError(PAuthError):
    """The token store failed. The tokens it holds are untouched unless the message says otherwise."""


class StorageUnavailable(TokenStorageError):
    """The store did not answer, or not in time."""

    remedy = Remedy.RETRY


class RecordUnreadable(TokenStorageError):
    """A record is stored but cannot be read. It is kept as it is: never treated as missing, never deleted."""


class RecordTampered(RecordUnreadable):
    """A record's authentication failed: it was changed, or moved here from another user's row or from an earlier version."""


class UnknownEncryptionKey(RecordUnreadable):
    """A record was encrypted with a key that is not configured. Add the old key behind the new one to read it."""


class UnsupportedRecord(RecordUnreadable):
    """A record has a format this version of pauth does not read: written by a newer version, or not by pauth."""


class DeadlineExceeded(PAuthError):
    """A blocking call gave up waiting (:mod:`pauth.sync`). What it asked for may still be done: nothing that a server gave is lost.

    A callback serves once: where a login was to be completed, :attr:`remedy` is to log in again.
    """

    remedy = Remedy.RETRY
