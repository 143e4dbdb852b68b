"""Which events are told, and when: each as soon as it is true and not before, with the id of its attempt, and with no secret in it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from pauth.core.quirks import Rotation, RotationClass
from pauth.core.token import Token
from pauth.errors import MalformedResponse, PAuthError, ProviderUnavailable, ReauthorizationRequired, StorageUnavailable, TokenError
from pauth.events import (
    EVENTS,
    AmbiguousRefresh,
    Event,
    EventStream,
    KeyRotated,
    ReauthorizationNeeded,
    RefreshFailed,
    ServedStale,
    StoreScanned,
    TokenIssued,
    TokenRecovered,
    TokenRefreshed,
    TokenRevoked,
    TokenUnsaved,
)
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.refresh.reports import Reporter
from pauth.refresh.stored import read_grant
from pauth.storage import RecordKey
from pauth.testing import ManualClock
from tests.refresh.faulty import FaultyStorage, Hold, Outage, lose
from tests.refresh.kit import KEY, LIFETIME, NAMESPACE, STALE, attempts_of, landed, passing
from tests.refresh.rotating import Rotating, failing, no_answer
from tests.support.canary_plugin import Canary


async def _nothing(_: Token) -> None: ...


def at_each(coordinator: RefreshCoordinator, look: Callable[[Event], Any]) -> list[tuple[str, Any]]:
    """What ``look`` sees at the moment of each event."""
    seen: list[tuple[str, Any]] = []
    coordinator.events.subscribe(lambda event: seen.append((event.kind, look(event))))
    return seen


def in_store(storage: FaultyStorage) -> tuple[str, str | None, bool] | None:
    """The access token that is stored now, why its grant has ended, and whether an attempt is announced."""
    entry = storage._entries.get((NAMESPACE, "alice"))  # pyright: ignore[reportPrivateUsage]
    if entry is None:
        return None
    grant = read_grant(entry.tokens)
    return grant.token.access_token.reveal(), grant.ended, grant.attempts.under_way


async def test_a_life_of_a_token_each_event_when_it_is_true(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    seen = at_each(coordinator, lambda _: in_store(faulty))
    await coordinator.login(KEY, rotating.issue())
    rotating.clock.advance(LIFETIME)
    rotating.script.append(failing(ProviderUnavailable("down", status=503)))
    with pytest.raises(ProviderUnavailable):
        await coordinator.get(KEY)
    rotating.clock.advance(1)
    await coordinator.get(KEY)
    await coordinator.end(KEY, _nothing)
    await coordinator.login(KEY, rotating.issue())
    rotating.last = None
    with pytest.raises(ReauthorizationRequired):
        await coordinator.refresh(KEY)
    assert seen == [
        ("token_issued", ("CANARY-at-1", None, False)),
        ("refresh_failed", ("CANARY-at-1", None, True)),
        ("token_refreshed", ("CANARY-at-2", None, False)),
        ("token_revoked", None),
        ("token_issued", ("CANARY-at-3", None, False)),
        ("refresh_failed", ("CANARY-at-3", None, True)),
        ("reauthorization_needed", ("CANARY-at-3", "invalid_grant", False)),
    ]


async def test_what_did_not_come_about_is_not_told(rotating: Rotating, faulty: FaultyStorage) -> None:
    """A login that is not stored, a revocation that fails, a mark that is not taken."""
    coordinator = rotating.coordinator(faulty)
    faulty.faults.append(lose)
    with pytest.raises(StorageUnavailable):
        await coordinator.login(KEY, rotating.issue())
    await coordinator.login(KEY, rotating.issue())

    async def fail(_: Token) -> None:
        raise ProviderUnavailable("down")

    with pytest.raises(ProviderUnavailable):
        await coordinator.end(KEY, fail)
    await coordinator.login(KEY, rotating.issue())
    rotating.last = None
    outage = Outage(faulty.faults)
    with pytest.raises(StorageUnavailable):
        await coordinator.refresh(KEY)
    outage.over = True
    assert [event.kind for event in rotating.events] == ["token_issued", "token_issued", "refresh_failed"]


async def test_a_refreshed_token_is_told_with_what_it_replaces(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    fingerprint = coordinator.events.fingerprint
    first = rotating.issue()
    await coordinator.login(KEY, first)
    hold = Hold()
    rotating.script.append(hold.wait)
    refreshing = asyncio.create_task(coordinator.refresh(KEY))
    await hold.arrived.wait()
    announced = (await attempts_of(faulty)).attempt_id
    rotating.clock.advance(2.5)
    hold.released.set()
    second = await refreshing
    (issued,), (refreshed,) = rotating.told(TokenIssued), rotating.told(TokenRefreshed)
    assert issued.token == refreshed.previous == fingerprint(first.access_token)
    assert refreshed.token == fingerprint(second.access_token)
    assert refreshed.attempt_id == announced
    assert (refreshed.seconds, refreshed.retry_of, refreshed.behind_the_scenes) == (2.5, None, False)
    assert (refreshed.user, refreshed.user_id, refreshed.namespace) == (fingerprint("alice"), "alice", NAMESPACE)
    assert (issued.expires_at, refreshed.expires_at) == (first.expires_at, second.expires_at)
    assert refreshed.at == rotating.clock.time()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ProviderUnavailable("x", status=503, retry_after=7), ("transient", "ProviderUnavailable", None, 503, 7)),
        (ProviderUnavailable("x", request_sent=False), ("transient", "ProviderUnavailable", None, None, None)),
        (ProviderUnavailable("x"), ("ambiguous", "ProviderUnavailable", None, None, None)),
        (MalformedResponse("x", status=200), ("ambiguous", "MalformedResponse", None, 200, None)),
        (TokenError("x", error="invalid_client", status=401), ("configuration", "TokenError", "invalid_client", 401, None)),
        (
            ReauthorizationRequired("x", reason="invalid_grant", error="invalid_grant", status=400),
            ("permanent", "ReauthorizationRequired", "invalid_grant", 400, None),
        ),
        (
            ReauthorizationRequired("x", reason="interaction_required", error="interaction_required", status=400),
            ("configuration", "ReauthorizationRequired", "interaction_required", 400, None),
        ),
    ],
)
async def test_a_failure_is_told_with_what_it_means(rotating: Rotating, faulty: FaultyStorage, error: PAuthError, told: tuple[Any, ...]) -> None:
    await rotating.stored_expired(faulty)
    announced: list[str | None] = []

    async def fail() -> None:
        announced.append((await attempts_of(faulty)).attempt_id)
        rotating.clock.advance(1.5)
        raise error

    rotating.script.append(fail)
    with pytest.raises(type(error)):
        await rotating.coordinator(faulty).get(KEY)
    (failed,) = rotating.told(RefreshFailed)
    assert (failed.failure, failed.error, failed.error_code, failed.status, failed.retry_after) == told
    assert (failed.attempt_id, failed.seconds, failed.retry_of, failed.behind_the_scenes) == (announced[0], 1.5, None, False)
    assert [event.attempt_id for event in rotating.told(AmbiguousRefresh)] == (announced if told[0] == "ambiguous" else [])
    assert [event.reason for event in rotating.told(ReauthorizationNeeded)] == (["invalid_grant"] if told[0] == "permanent" else [])


async def test_retries_name_the_attempt_that_they_repeat(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    coordinator = rotating.coordinator(faulty)
    rotating.script.append(no_answer())
    with pytest.raises(ProviderUnavailable):
        await coordinator.get(KEY)
    rotating.clock.advance(40)
    rotating.script.append(failing(ProviderUnavailable("down", status=503)))
    with pytest.raises(ProviderUnavailable):
        await coordinator.get(KEY)
    rotating.clock.advance(40)
    await coordinator.get(KEY)
    first, second = rotating.told(RefreshFailed)
    (refreshed,) = rotating.told(TokenRefreshed)
    assert (first.retry_of, second.retry_of, refreshed.retry_of) == (None, first.attempt_id, first.attempt_id)
    assert len({first.attempt_id, second.attempt_id, refreshed.attempt_id}) == 3


async def test_a_failure_behind_the_scenes_says_that_the_old_token_is_served(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    token = rotating.issue()
    await coordinator.login(KEY, token)
    rotating.clock.advance(STALE)
    rotating.script.append(failing(ProviderUnavailable("down", status=503)))
    for _ in range(3):
        assert await coordinator.get(KEY) == token
        await landed(coordinator)
    (failed,), (served,) = rotating.told(RefreshFailed), rotating.told(ServedStale)
    assert failed.behind_the_scenes
    assert (served.why, served.expires_at, served.user_id) == ("refresh_failed", token.expires_at, "alice")


async def test_a_token_that_waits_for_the_store_and_is_stored(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    coordinator = rotating.coordinator(faulty)
    outage = Outage(faulty.faults)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.get(KEY))
    outage.over = True
    await coordinator.drain()
    (unsaved,), (recovered,) = rotating.told(TokenUnsaved), rotating.told(TokenRecovered)
    assert (unsaved.error, unsaved.journaled, recovered.source) == ("StorageUnavailable", False, "memory")
    assert unsaved.attempt_id == recovered.attempt_id


async def test_nothing_is_told_of_a_failure_that_was_not_tried(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Whoever asks while it rests, or while the breaker is open, learns of an old failure."""
    await rotating.stored_expired(faulty)
    coordinator = rotating.coordinator(faulty)
    rotating.script.append(failing(ProviderUnavailable("down", status=503)))
    for _ in range(10):
        with pytest.raises(ProviderUnavailable):
            await coordinator.get(KEY)
    assert [event.kind for event in rotating.events] == ["refresh_failed"]


async def test_without_anybody_who_wants_events_none_are_made(rotating: Rotating, faulty: FaultyStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the way of every refresh; a fingerprint is a hash."""

    def fail(*_: object) -> str:
        raise AssertionError("nobody wants this")

    monkeypatch.setattr(EventStream, "fingerprint", fail)
    monkeypatch.setattr(EventStream, "emit", fail)
    coordinator = rotating.coordinator(faulty, events=EventStream(log=False))
    await coordinator.login(KEY, rotating.issue())
    for _ in range(3):
        await coordinator.refresh(KEY)
    rotating.script.append(no_answer())
    with pytest.raises(ProviderUnavailable):
        await coordinator.refresh(KEY)
    await coordinator.end(KEY, _nothing)


async def test_a_handler_that_fails_costs_nobody_a_token(rotating: Rotating, faulty: FaultyStorage, caplog: pytest.LogCaptureFixture) -> None:
    coordinator = rotating.coordinator(faulty)

    def fail(_: Event) -> None:
        raise ZeroDivisionError

    coordinator.events.subscribe(fail)
    await coordinator.login(KEY, rotating.issue())
    assert await coordinator.refresh(KEY) == rotating.last
    assert "an event handler failed (ZeroDivisionError)" in caplog.text


async def test_p17_no_event_of_the_refresh_room_shows_a_secret_or_a_user(rotating: Rotating, faulty: FaultyStorage, canary: Canary) -> None:
    """All kinds that this room tells, one after the other; and none is left out here."""
    user = RecordKey(NAMESPACE, "CANARY-user")  # no secret, but not to be shown either
    rotation = Rotation(RotationClass.RO)
    rotating.forgiving = True
    coordinator = rotating.coordinator(faulty, rotation=rotation)
    await coordinator.login(user, rotating.issue())
    rotating.clock.advance(STALE)
    rotating.script.append(failing(TokenError("no", error="invalid_client", status=401)))
    await coordinator.get(user)
    await landed(coordinator)
    rotating.clock.advance(10)
    outage = Outage(faulty.faults)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.refresh(user))
    outage.over = True
    await passing(rotating.clock, coordinator.get(user))
    go_back = faulty.snapshot()
    await coordinator.refresh(user)
    go_back()
    await coordinator.get(user)
    late, release = Hold(), Hold()
    rotating.after.append(late.wait)
    process = rotating.elsewhere(faulty, rotation=rotation)
    sleeping = asyncio.create_task(process.refresh(user))
    await late.arrived.wait()
    rotating.script.extend([no_answer()] * 5)
    for number in range(5):
        other = RecordKey(NAMESPACE, f"CANARY-user-{number}")
        await coordinator.login(other, rotating.issue())
        with pytest.raises(ProviderUnavailable):
            await coordinator.refresh(other)
    rotating.clock.advance(60)
    await passing(rotating.clock, coordinator.refresh(user))
    late.released.set()
    await sleeping

    async def slow(write: Any) -> Any:
        rotating.clock.advance(30)
        return await write()

    faulty.intent_faults.append(slow)
    await coordinator.refresh(user)
    rotating.last, rotating.forgiving = None, False
    with pytest.raises(ReauthorizationRequired):
        await coordinator.refresh(user)
    await coordinator.end(user, _nothing)
    del release
    told = {type(event) for event in rotating.events}
    assert told == set(EVENTS) - {KeyRotated, StoreScanned}
    for event in rotating.events:
        canary.check(repr(event), f"repr of {event.kind}")
        canary.check(json.dumps(event.to_dict()), f"members of {event.kind}")
    assert [event.user_id for event in rotating.told(TokenRevoked)] == ["CANARY-user"]


async def test_an_event_that_nobody_hears_is_not_even_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the log off and no handler: neither fingerprints are taken, nor is the clock asked."""
    monkeypatch.setattr(logging.getLogger("pauth.events"), "disabled", True)
    reporter = Reporter(EventStream(), namespace=NAMESPACE, endpoint="", clock=ManualClock())
    reporter.tell(StoreScanned, no_such="member")
    reporter.of_user(TokenRevoked, KEY, no_such="member")
    with pytest.raises(TypeError):
        reporter.events.subscribe(lambda _: None)
        reporter.tell(StoreScanned, no_such="member")
