"""The events: what each says, when it is emitted, and what whoever runs the program should do about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal, NoReturn, Self, TypeAlias

__all__ = [
    "EVENTS",
    "AmbiguousRefresh",
    "AttemptEvent",
    "BreakerClosed",
    "BreakerOpened",
    "Event",
    "Failure",
    "KeyRotated",
    "LeaseLost",
    "ReauthorizationNeeded",
    "RefreshFailed",
    "ServedStale",
    "StorageConflict",
    "StoreScanned",
    "TokenIssued",
    "TokenRecovered",
    "TokenRefreshed",
    "TokenRevoked",
    "TokenUnsaved",
    "UserEvent",
    "VersionRegressed",
]

Failure: TypeAlias = Literal["transient", "permanent", "ambiguous", "configuration"]
"""What the failure of a refresh means. ``transient``: nothing is lost, it will be tried again. ``permanent``: the grant is dead. ``ambiguous``: the
server may have rotated the token, and nobody knows. ``configuration``: the server refuses this client, not this user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, at one moment. Frozen; printing it shows no secret and no user id; pickling it is refused: send :meth:`to_dict`."""

    kind: ClassVar[str]
    """Its name in logs, metrics and :meth:`to_dict`."""

    level: ClassVar[int]
    """The :mod:`logging` level it is logged at."""

    at: float
    """When it happened: seconds since the Unix epoch, on the client's clock."""

    namespace: str
    """The client and provider it happened to (:attr:`pauth.OAuth2Client.namespace`); ``""`` for what concerns a whole store."""

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON values, with its ``kind`` and without the user id."""
        members: dict[str, Any] = {"kind": self.kind}
        for each in fields(self):
            if each.repr:
                value = getattr(self, each.name)
                members[each.name] = list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType]
        return members

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an event cannot be pickled, since it knows the user id; send what to_dict() gives")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvent(Event):
    """An event about the tokens of one user."""

    user: str
    """The user's fingerprint: :meth:`EventStream.fingerprint` of the user id."""

    user_id: str = field(repr=False)
    """The user id itself, for audit records. It may be personal data: it is in no log of pauth's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEvent(UserEvent):
    """An event about one attempt to refresh a token: one request to the token endpoint, and what it took to store its answer."""

    attempt_id: str
    """Names the attempt in every event about it, in whichever process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssued(UserEvent):
    """A login was completed and its tokens are stored.

    Operator: nothing.
    """

    kind: ClassVar[str] = "token_issued"
    level: ClassVar[int] = logging.INFO

    token: str
    """Fingerprint of the access token."""

    scope: tuple[str, ...] = ()
    """The scopes granted."""

    expires_at: float | None = None
    """When the access token expires: seconds since the Unix epoch; ``None`` if the server did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshed(AttemptEvent):
    """A token was refreshed, and the new one is stored.

    Operator: nothing; a rate far above users divided by token lifetime means that something refreshes needlessly.
    """

    kind: ClassVar[str] = "token_refreshed"
    level: ClassVar[int] = logging.INFO

    token: str
    """Fingerprint of the new access token."""

    previous: str
    """Fingerprint of the access token that it replaces."""

    seconds: float
    """How long the whole attempt took, from its begin to the acknowledged write."""

    expires_at: float | None = None
    """When the new access token expires: seconds since the Unix epoch; ``None`` if the server did not say."""

    retry_of: str | None = None
    """The id of the earlier attempt that sent the same refresh token, if there was one."""

    behind_the_scenes: bool = False
    """No caller waited for it: the token it replaces was still served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshFailed(AttemptEvent):
    """An attempt to refresh a token failed; the stored token is untouched.

    Operator: transient: look at the provider if it lasts; configuration: fix the client's settings, since no user's token can be refreshed.
    """

    kind: ClassVar[str] = "refresh_failed"
    level: ClassVar[int] = logging.WARNING

    failure: Failure
    """What the failure means."""

    error: str
    """The class of the error: ``ProviderUnavailable``."""

    seconds: float
    """How long the attempt took."""

    error_code: str | None = None
    """The server's OAuth ``error`` code (RFC 6749 section 5.2), where there was one."""

    status: int | None = None
    """The HTTP status, where there was an answer."""

    retry_after: float | None = None
    """Seconds the server asked to wait, where it did."""

    retry_of: str | None = None
    """The id of the earlier attempt that sent the same refresh token, if there was one."""

    behind_the_scenes: bool = False
    """No caller waited for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedStale(UserEvent):
    """A token that is due for a refresh, but valid, was given out since the refresh did not come about.

    Operator: nothing while it is rare; if it lasts, users will be without a token when theirs expires: look at `why`.
    """

    kind: ClassVar[str] = "served_stale"
    level: ClassVar[int] = logging.WARNING

    why: Literal["refresh_failed", "breaker_open", "unsaved"]
    """``refresh_failed``: the attempt (that event says more), or the store at its beginning. ``breaker_open``: the token endpoint has failed so
    often that it is not asked at the moment. ``unsaved``: the successor is there, and the store has not taken it yet."""

    expires_at: float | None = None
    """Until when the token can be served: seconds since the Unix epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AmbiguousRefresh(AttemptEvent):
    """An attempt ended with nobody knowing whether the server has rotated the refresh token: its answer or its process was lost.

    Operator: nothing for one of them; many mean processes that are killed, or a network that loses answers.
    """

    kind: ClassVar[str] = "ambiguous_refresh"
    level: ClassVar[int] = logging.WARNING

    retry_of: str | None = None
    """The id of the earlier attempt that sent the same refresh token, if this was the second one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReauthorizationNeeded(UserEvent):
    """A user's grant was found to be dead: only a new login helps. The record is kept.

    Operator: send the user through a login; many at once mean that the provider or a setting there has revoked them.
    """

    kind: ClassVar[str] = "reauthorization_needed"
    level: ClassVar[int] = logging.ERROR

    reason: str
    """As :attr:`pauth.ReauthorizationRequired.reason` says it: ``invalid_grant``, ``ambiguous_rotation``."""

    attempt_id: str | None = None
    """The attempt that found it out, if one did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevoked(UserEvent):
    """A user's grant was ended on request: revoked at the server as far as it can be, and deleted here.

    Operator: nothing.
    """

    kind: ClassVar[str] = "token_revoked"
    level: ClassVar[int] = logging.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConflict(AttemptEvent):
    """When an attempt came to store its answer, somebody else had written the record.

    Operator: nothing for one of them; many mean pauses longer than a lease, or a program that writes the store past pauth.
    """

    kind: ClassVar[str] = "storage_conflict"
    level: ClassVar[int] = logging.WARNING

    outcome: Literal["adopted", "superseded"]
    """``adopted``: the record still descended from the refresh token that was sent, so the answer was stored. ``superseded``: what is stored is newer
    (a login, a revocation, another's refresh) and stands; the answer is not used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost(AttemptEvent):
    """The lease of an attempt ran out, or another process took it over, before the attempt had ended.

    Operator: nothing for one of them; many mean pauses (overloaded machines, suspended processes) or a store that answers too slowly.
    """

    kind: ClassVar[str] = "lease_lost"
    level: ClassVar[int] = logging.WARNING


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUnsaved(AttemptEvent):
    """A rotated token has come, and the store does not take it; it is kept and offered again.

    Operator: bring the store back before this process ends; if it is journaled, keep the journal's disk and start pauth there again.
    """

    kind: ClassVar[str] = "token_unsaved"
    level: ClassVar[int] = logging.ERROR

    journaled: bool
    """It is also in the encrypted journal, so that it outlives this process."""

    error: str | None = None
    """The class of the store's error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecovered(AttemptEvent):
    """A token that the store had not taken is stored now.

    Operator: nothing; it ends the alarm of `token_unsaved`.
    """

    kind: ClassVar[str] = "token_recovered"
    level: ClassVar[int] = logging.WARNING

    source: Literal["memory", "journal"]
    """Where it was kept meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOpened(Event):
    """A token endpoint failed so often that no refresh is sent to it for a while; valid tokens are served meanwhile.

    Operator: look at the provider's status and the network to it.
    """

    kind: ClassVar[str] = "breaker_opened"
    level: ClassVar[int] = logging.ERROR

    endpoint: str
    """The origin of the token endpoint: ``https://login.example``."""

    seconds: float
    """For how long nothing is sent; then one request is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerClosed(Event):
    """A token endpoint answers again, and refreshes are sent to it as usual.

    Operator: nothing; it ends the alarm of `breaker_opened`.
    """

    kind: ClassVar[str] = "breaker_closed"
    level: ClassVar[int] = logging.WARNING

    endpoint: str
    """The origin of the token endpoint."""

    seconds: float
    """For how long it was open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRotated(Event):
    """A store was brought under the newest encryption key.

    Operator: if none has failed, the old key can go when no backup needs it; else find out why those records cannot be read.
    """

    kind: ClassVar[str] = "key_rotated"
    level: ClassVar[int] = logging.INFO

    rewritten: int
    """Records that were encrypted anew."""

    failed: int
    """Records that could not be read, and are as they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRegressed(UserEvent):
    """The store gave an older version of a record than it gave before: it has lost acknowledged writes (P7w).

    Operator: a failover of Redis, or a backup put back, has undone refreshes; some users may have to log in again.
    """

    kind: ClassVar[str] = "version_regressed"
    level: ClassVar[int] = logging.ERROR

    seen: int
    """The newest version that this process had seen."""

    found: int
    """The version that the store gave now. (That a record is gone is not told: mostly somebody has deleted it.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreScanned(Event):
    """A `TokenRefresher` has gone once through the tokens of a client that were due. The numbers are those of this scan.

    Operator: watch `failed` and `expired`; if `expired` does not go down, it needs another worker or a higher rate.
    """

    kind: ClassVar[str] = "store_scanned"
    level: ClassVar[int] = logging.INFO

    seconds: float
    """How long it took."""

    listed: int
    """Records that were due, or nearly."""

    expired: int
    """Of these, how many access tokens had expired."""

    refreshed: int
    """Tokens that were refreshed."""

    fresh: int
    """Records that needed nothing: somebody else was there first, or they are not due before the next scan."""

    resting: int
    """Records whose last refresh failed so lately that it was not tried again."""

    elsewhere: int
    """Records that another worker was at."""

    failed: int
    """Refreshes that failed and will be tried again."""

    dead: int
    """Users who have to log in again."""

    skipped: int
    """Records left to the next scan: their server or the store did not answer, or the refresher was stopped."""


EVENTS: Final[tuple[type[Event], ...]] = (
    TokenIssued,
    TokenRefreshed,
    RefreshFailed,
    ServedStale,
    AmbiguousRefresh,
    ReauthorizationNeeded,
    TokenRevoked,
    StorageConflict,
    LeaseLost,
    TokenUnsaved,
    TokenRecovered,
    BreakerOpened,
    BreakerClosed,
    KeyRotated,
    VersionRegressed,
    StoreScanned,
)
"""Every class of events that is emitted."""
