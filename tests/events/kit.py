"""One event of each class, with a user id that must not show."""

from __future__ import annotations

from pauth.events import (
    AmbiguousRefresh,
    BreakerClosed,
    BreakerOpened,
    Event,
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
    VersionRegressed,
)

USER_ID = "CANARY-user-id"  # no secret, but where a secret must not show, it must not either
NAMESPACE = '["https://login.example", "client 1"]'
NOW = 1_700_000_000.25
USER, TOKEN, PREVIOUS = "00112233445566aa", "8899aabbccddeeff", "7766554433221100"


def refreshed(attempt_id: str = "a-1", *, namespace: str = NAMESPACE, retry_of: str | None = None) -> TokenRefreshed:
    return TokenRefreshed(
        at=NOW,
        namespace=namespace,
        user=USER,
        user_id=USER_ID,
        attempt_id=attempt_id,
        token=TOKEN,
        previous=PREVIOUS,
        seconds=0.25,
        expires_at=NOW + 3600,
        retry_of=retry_of,
    )


SAMPLES: dict[str, Event] = {
    each.kind: each
    for each in (
        TokenIssued(at=NOW, namespace=NAMESPACE, user=USER, user_id=USER_ID, token=TOKEN, scope=("read", "write"), expires_at=NOW + 3600),
        refreshed(),
        RefreshFailed(
            at=NOW,
            namespace=NAMESPACE,
            user=USER,
            user_id=USER_ID,
            attempt_id="a-2",
            failure="transient",
            error="ProviderUnavailable",
            error_code="temporarily_unavailable",
            status=503,
            retry_after=30.0,
            seconds=0.5,
            retry_of="a-1",
        ),
        ServedStale(at=NOW, namespace=NAMESPACE, user=USER, user_id=USER_ID, why="refresh_failed", expires_at=NOW + 30),
        AmbiguousRefresh(at=NOW, namespace=NAMESPACE, user=USER, user_id=USER_ID, attempt_id="a-3"),
        ReauthorizationNeeded(at=NOW, namespace=NAMESPACE, user=USER, user_id=USER_ID, reason="invalid_grant", attempt_id="a-4"),
        TokenRevoked(at=NOW, namespace=NAMESPACE, user=USER, user_id=USER_ID),
        StorageConflict(at=NOW, namespace=NAMESPACE, user=USER, user_id=USER_ID, attempt_id="a-5", outcome="adopted"),
        LeaseLost(at=NOW, namespace=NAMESPACE, user=USER, user_id=USER_ID, attempt_id="a-6"),
        TokenUnsaved(at=NOW, namespace=NAMESPACE, user=USER, user_id=USER_ID, attempt_id="a-7", journaled=True, error="StorageUnavailable"),
        TokenRecovered(at=NOW, namespace=NAMESPACE, user=USER, user_id=USER_ID, attempt_id="a-7", source="journal"),
        BreakerOpened(at=NOW, namespace=NAMESPACE, endpoint="https://login.example", seconds=30.0),
        BreakerClosed(at=NOW, namespace=NAMESPACE, endpoint="https://login.example", seconds=31.5),
        KeyRotated(at=NOW, namespace="", rewritten=100, failed=1),
        VersionRegressed(at=NOW, namespace=NAMESPACE, user=USER, user_id=USER_ID, seen=7, found=6),
        StoreScanned(
            at=NOW,
            namespace=NAMESPACE,
            seconds=1.25,
            listed=110,
            expired=5,
            refreshed=90,
            fresh=4,
            resting=10,
            elsewhere=3,
            failed=2,
            dead=1,
            skipped=0,
        ),
    )
}
