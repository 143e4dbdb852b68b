"""When a token is refreshed: two thresholds before its expiry, both bounded by its lifetime; and the times around a refresh."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from pauth.core.token import Token
from pauth.errors import ConfigurationError

__all__ = ["Freshness", "RefreshPolicy", "spread"]

# A margin as long as the lifetime would refresh at every call (a 60 s margin against 60 s tokens); these shares keep it far away.
_SOFT_SHARE = 0.1
_HARD_SHARE = 0.05


class Freshness(enum.Enum):
    """What a caller who asks for a token is given."""

    FRESH = "fresh"
    """The stored token, at once."""

    STALE = "stale"
    """The stored token, which is still valid, at once; it is refreshed behind the scenes."""

    EXPIRED = "expired"
    """A refreshed token or an error."""


def spread(namespace: str, user_id: str, version: str) -> float:
    """From 0 to 1: where in the spread of the soft margin a token lies (:attr:`RefreshPolicy.soft_margin`).

    It follows from whose token it is and from the token itself, so every process comes to the same, and asking again changes nothing.
    """
    text = f"{namespace}\0{user_id}\0{version}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") / 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """How early a token is refreshed, and how long things may take.

    :param soft_margin: seconds before expiry from which on a token is refreshed behind the scenes, while everybody is given the stored one; at
        most a tenth of the token's lifetime is used. Tokens that were issued together are not refreshed together: each has its own margin, between
        half of this and all of it.
    :param hard_margin: seconds before expiry from which on the token is not handed out any more, since it could expire on its way to the
        resource server; at most a twentieth of the lifetime is used.
    :param unknown_lifetime: seconds after which a refresh is tried for a token whose expiry the server did not tell; if there is none to be had, or
        it fails, the token is used on.
    :param cache_age: seconds for which a token that was read is handed out again without asking the store: so long may a token that another process
        has revoked or replaced still be given. 0 asks the store at every call.
    :param cache_entries: how many tokens are kept in memory at most.
    :param deadline: seconds after which a caller gives up waiting for a refresh. The refresh goes on, and the next caller gets its result.
    :param lease_margin: seconds by which the lease on a record outlives the time that the request to the server may take.
    :param ambiguous_retries: how often a refresh token is sent again that may have been used up by a request without an answer, at servers that
        accept one only once (rotation classes RS and RSF). After that the user has to log in again.
    :param max_backoff: seconds between two attempts, at most, while a server fails; a ``Retry-After`` of the server counts up to an hour.
    """

    soft_margin: float = 300.0
    hard_margin: float = 10.0
    unknown_lifetime: float = 3600.0
    cache_age: float = 10.0
    cache_entries: int = 100_000
    deadline: float = 30.0
    lease_margin: float = 10.0
    ambiguous_retries: int = 1
    max_backoff: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.hard_margin <= self.soft_margin or not self.unknown_lifetime > 0:
            raise ConfigurationError("RefreshPolicy needs 0 <= hard_margin <= soft_margin and unknown_lifetime > 0 (seconds)")
        if not 0 <= self.cache_age <= 3600 or self.cache_entries < 0:
            raise ConfigurationError("RefreshPolicy needs 0 <= cache_age <= 3600 (seconds) and cache_entries >= 0")
        if not self.deadline > 0 or not 0 < self.lease_margin <= 3600 or not 1 <= self.max_backoff <= 3600:
            raise ConfigurationError("RefreshPolicy needs deadline > 0, 0 < lease_margin <= 3600 and 1 <= max_backoff <= 3600 (seconds)")
        if not 0 <= self.ambiguous_retries <= 100:
            raise ConfigurationError("RefreshPolicy needs 0 <= ambiguous_retries <= 100")

    def freshness(self, token: Token, now: float, *, spread: float = 1.0) -> Freshness:
        """Where ``token`` stands at ``now`` (seconds since the Unix epoch). One of unknown expiry is never expired."""
        soft, hard = self.thresholds(token, spread=spread)
        return Freshness.FRESH if now < soft else Freshness.STALE if now < hard else Freshness.EXPIRED

    def is_due(self, token: Token, now: float, *, spread: float = 1.0, within: float = 0.0) -> bool:
        """Whether ``token`` is to be refreshed ahead of time, since it becomes stale within so many seconds (at most a tenth of its lifetime)."""
        soft, _ = self.thresholds(token, spread=spread)
        if token.expires_at is not None:
            within = min(within, max(0.0, token.expires_at - token.issued_at) * _SOFT_SHARE)
        return now + within >= soft

    def thresholds(self, token: Token, *, spread: float = 1.0) -> tuple[float, float]:
        """The moments at which ``token`` becomes stale and expired, in seconds since the Unix epoch.

        :param spread: where in its range the soft margin lies, from 0 to 1: see :func:`spread`.
        """
        if token.expires_at is None:
            return token.issued_at + self.unknown_lifetime, float("inf")
        lifetime = max(0.0, token.expires_at - token.issued_at)
        hard = min(self.hard_margin, lifetime * _HARD_SHARE)
        soft = max(hard, min(self.soft_margin, lifetime * _SOFT_SHARE) * (0.5 + 0.5 * spread))
        return token.expires_at - soft, token.expires_at - hard
