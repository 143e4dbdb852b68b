"""What happens to the tokens, as one typed stream: for logs, metrics, traces and audit records.

::

    stop = client.events.subscribe(lambda event: audit.append({**event.to_dict(), "user_id": getattr(event, "user_id", None)}))

An event holds no secret. Tokens and users appear as keyed fingerprints, which tell whether two events are about the same one, and nothing more. The
true user id is there for handlers that ask for it (:attr:`UserEvent.user_id`), and never in ``repr``, logs or :meth:`Event.to_dict`.
"""

from pauth.events.kinds import (
    EVENTS,
    AmbiguousRefresh,
    AttemptEvent,
    BreakerClosed,
    BreakerOpened,
    Event,
    Failure,
    KeyRotated,
    LeaseLost,
    ReauthorizationNeeded,
    RefreshFailed,
    ServedStale,
    StorageConflict,
    StoreScanned,
    TokenIssued,
    TokenRecovered,
    TokenRefreshed,
    TokenRevoked,
    TokenUnsaved,
    UserEvent,
    VersionRegressed,
)
from pauth.events.stream import EventListener, EventStream, Handler, log_event

__all__ = [
    "EVENTS",
    "AmbiguousRefresh",
    "AttemptEvent",
    "BreakerClosed",
    "BreakerOpened",
    "Event",
    "EventListener",
    "EventStream",
    "Failure",
    "Handler",
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
    "log_event",
]
