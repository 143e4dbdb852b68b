"""When a token is refreshed: two thresholds before its expiry, both bounded by its lifetime."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pauth.core.token import Token
from pauth.errors import ConfigurationError

__all__ = ["Freshness", "RefreshPolicy"]

# A margin as long as the lifetime would refresh at every call (a 60 s margin against 60 s tokens); these shares keep it far away.
_SOFT_SHARE = 0.1
_HARD_SHARE = 0.05


class Freshness(enum.Enum):
    """What a caller who asks for a token is given."""

    FRESH = "fresh"
    """The stored token, at once."""

    STALE = "stale"
    """A refreshed token; the stored one, which is still valid, if the refresh fails."""

    EXPIRED = "expired"
    """A refreshed token or an error."""


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """How early a token is refreshed.

    :param soft_margin: seconds before expiry from which on a refresh is tried; at most a tenth of the token's lifetime is used.
    :param hard_margin: seconds before expiry from which on the token is not handed out any more, since it could expire on its way to the
        resource server; at most a twentieth of the lifetime is used.
    :param unknown_lifetime: seconds after which a refresh is tried for a token whose expiry the server did not tell; if there is none to be had, or
        it fails, the token is used on.
    """

    soft_margin: float = 300.0
    hard_margin: float = 10.0
    unknown_lifetime: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.hard_margin <= self.soft_margin or not self.unknown_lifetime > 0:
            raise ConfigurationError("RefreshPolicy needs 0 <= hard_margin <= soft_margin and unknown_lifetime > 0 (seconds)")

    def freshness(self, token: Token, now: float) -> Freshness:
        """Where ``token`` stands at ``now`` (seconds since the Unix epoch). One of unknown expiry is never expired."""
        if token.expires_at is None:
            return Freshness.FRESH if now < token.issued_at + self.unknown_lifetime else Freshness.STALE
        lifetime = max(0.0, token.expires_at - token.issued_at)
        if token.is_expired(now, margin=min(self.hard_margin, lifetime * _HARD_SHARE)):
            return Freshness.EXPIRED
        if token.is_expired(now, margin=min(self.soft_margin, lifetime * _SOFT_SHARE)):
            return Freshness.STALE
        return Freshness.FRESH
