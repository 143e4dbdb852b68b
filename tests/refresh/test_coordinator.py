"""The calls of a coordinator and of a client: from memory, for a version that was refused, ahead of time, and within a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from pauth.core.token import Token, token_to_dict
from pauth.errors import ConfigurationError, InvalidUserId, PAuthError, ProviderUnavailable, ReauthorizationRequired, StorageUnavailable
from pauth.events import TokenRefreshed
from pauth.refresh import coordinator as module
from pauth.refresh.policy import RefreshPolicy
from pauth.secret import Secret
from pauth.storage import RecordKey
from pauth.testing import ManualClock, faults
from tests.refresh.faulty import FaultyStorage, Hold, Write
from tests.refresh.kit import FRESH, KEY, NAMESPACE, STALE, Storage, World, landed, passing, settle, stored_token, until
from tests.refresh.rotating import Rotating, failing, foreign

# From memory


async def test_a_token_in_memory_costs_no_call_of_the_store(strict: World) -> None:
    """Nor an await: the plain method gives it too."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        token = await strict.log_in(client)
        loads = storage.loads
        for _ in range(100):
            assert await client.get_token("alice") == token
            assert client.get_token_nowait("alice") is token
        assert storage.loads == loads
        strict.clock.advance(10)
        assert client.get_token_nowait("alice") is None
        assert await client.get_token("alice") == token
        assert storage.loads == loads + 1
        assert client.get_token_nowait("alice") == token


async def test_the_plain_method_never_gives_what_the_other_one_would_not(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client, strict.client(storage, namespace=NAMESPACE) as other:
        assert client.get_token_nowait("alice") is None
        token = await strict.log_in(client)
        await client.get_token("alice")
        assert other.get_token_nowait("alice") == token  # two clients of one namespace on one store
        assert client.get_token_nowait("bob") is None
        strict.expire()
        assert client.get_token_nowait("alice") is None
        newer = await client.get_token("alice")
        assert client.get_token_nowait("alice") in (None, newer)  # the memory's own storage tells of every change, also of ours
        await client.revoke("alice")
        assert client.get_token_nowait("alice") is None
        assert other.get_token_nowait("alice") is None
        again = await strict.log_in(client)
        await other.get_token("alice")
        assert client.get_token_nowait("alice") == again
    assert client.get_token_nowait("alice") is None  # closed
    with pytest.raises(ConfigurationError, match="closed"):
        await client.get_token("alice")


async def test_p13_namespaces_do_not_share_what_is_in_memory(strict: World) -> None:
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client, strict.client(storage, namespace="other") as other:
        token = await strict.log_in(client)
        assert client.get_token_nowait("alice") == token
        assert other.get_token_nowait("alice") is None
        with pytest.raises(ReauthorizationRequired):
            await other.get_token("alice")


@pytest.mark.parametrize("user", [["alice"], {"a": 1}, None, 7, b"alice"])
async def test_whatever_is_no_user_id_is_refused_whether_it_can_be_hashed_or_not(strict: World, user: Any) -> None:
    async with strict.client(FaultyStorage(strict.clock)) as client:
        await strict.log_in(client)
        with pytest.raises(InvalidUserId):
            await client.get_token(user)


# A token that a resource server has refused


async def test_p1_of_many_callers_with_the_same_refused_token_one_causes_a_refresh(strict: World, storage: Storage) -> None:
    """HTTP 401 in a hundred tasks at once, and in some that come later."""
    async with strict.client(storage) as client, strict.client(storage) as other:
        token = await strict.log_in(client)
        newer = await asyncio.gather(*(asker.refresh("alice", if_version=token.version) for asker in (client, other) for _ in range(50)))
        assert len(set(map(id, newer))) == 1
        assert newer[0] != token
        for _ in range(3):
            assert await other.refresh("alice", if_version=token.version) == newer[0]
        assert len(strict.refreshes) == 1
        assert await client.refresh("alice", if_version=newer[0].version) != newer[0]
    assert len(strict.refreshes) == 2


async def test_p1_also_over_processes(rotating: Rotating, faulty: FaultyStorage) -> None:
    processes = [rotating.elsewhere(faulty) for _ in range(4)]
    token = rotating.issue()
    await processes[0].login(KEY, token)
    for process in processes:
        assert await process.get(KEY) == token
    answers = await passing(rotating.clock, asyncio.gather(*(process.refresh(KEY, if_version=token.version) for process in processes)))
    assert answers == [rotating.last] * 4
    assert len(rotating.sent) == 1


async def test_a_refused_token_whose_successor_has_expired_too_is_refreshed(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    first = await rotating.stored_expired(faulty)
    second = await coordinator.get(KEY)
    rotating.clock.advance(3600)
    third = await coordinator.refresh(KEY, if_version=first.version)
    assert third == rotating.last
    assert third not in (first, second)
    assert len(rotating.sent) == 2


async def test_without_a_version_it_is_refreshed_whatever_stands_there(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    await coordinator.login(KEY, rotating.issue())
    for number in range(1, 4):
        assert await coordinator.refresh(KEY) == rotating.last
        assert len(rotating.sent) == number


# Ahead of time, for nobody in particular


@pytest.mark.parametrize(
    ("left", "within", "due"),
    [(3600, 0, False), (301, 0, False), (149, 0, True), (400, 250, True), (700, 250, False), (1, 0, True), (-5, 0, True)],
)
async def test_a_token_is_kept_fresh_when_it_is_due(rotating: Rotating, faulty: FaultyStorage, left: float, within: float, *, due: bool) -> None:
    coordinator = rotating.coordinator(faulty)
    token = rotating.issue()
    await coordinator.login(KEY, token)
    rotating.clock.advance(3600 - left)
    assert await coordinator.keep_fresh(KEY, within=within) is due
    assert len(rotating.sent) == due
    assert (await stored_token(faulty) == token) is not due
    assert [event.behind_the_scenes for event in rotating.told(TokenRefreshed)] == [True] * due


async def test_keeping_fresh_tells_who_did_it(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Workers count what they have refreshed, not what others have."""
    await rotating.stored_expired(faulty)
    here, there = rotating.elsewhere(faulty), rotating.elsewhere(faulty)
    hold = Hold()
    rotating.script.append(hold.wait)
    first = asyncio.create_task(here.keep_fresh(KEY))
    await hold.arrived.wait()
    second = asyncio.create_task(there.keep_fresh(KEY))
    await until(lambda: rotating.clock.sleepers)
    hold.released.set()
    assert await passing(rotating.clock, asyncio.gather(first, second)) == [True, False]
    assert len(rotating.sent) == 1


async def test_what_cannot_be_refreshed_is_not_kept_fresh(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    await coordinator.login(KEY, replace(rotating.issue(), refresh_token=None))
    rotating.clock.advance(3590)
    assert await coordinator.keep_fresh(KEY) is False
    with pytest.raises(ReauthorizationRequired):
        await coordinator.keep_fresh(RecordKey(NAMESPACE, "nobody"))


async def test_a_failure_to_keep_fresh_is_told_and_rests(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    coordinator = rotating.coordinator(faulty)
    rotating.script.append(failing(ProviderUnavailable("down", status=503)))
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            await coordinator.keep_fresh(KEY)
    assert len(rotating.sent) == 1


# Behind the scenes


async def test_behind_the_scenes_means_that_nobody_waited(strict: World) -> None:
    events: list[Any] = []
    async with strict.client(FaultyStorage(strict.clock)) as client:
        client.events.subscribe(events.append)
        await strict.log_in(client)
        strict.clock.advance(STALE)
        await client.get_token("alice")
        await landed(client)
        strict.expire()
        await client.get_token("alice")
    assert [event.behind_the_scenes for event in events if isinstance(event, TokenRefreshed)] == [True, False]


async def test_a_defect_behind_the_scenes_is_seen_in_the_log(rotating: Rotating, faulty: FaultyStorage, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else is there to see it."""

    async def broken(_: Token) -> Any:
        raise ZeroDivisionError

    coordinator = rotating.coordinator(faulty, prepare=broken)
    token = rotating.issue()
    await coordinator.login(KEY, token)
    rotating.clock.advance(STALE)
    assert await coordinator.get(KEY) == token
    await landed(coordinator)
    assert "refresh failed (ZeroDivisionError)" in caplog.text
    assert [event.kind for event in rotating.events] == ["token_issued", "served_stale"]


async def test_p2_p20_a_defect_in_the_request_is_an_attempt_without_an_answer(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Nobody knows what the server has done; and nothing of the exception is kept."""
    await rotating.stored_expired(faulty)
    coordinator = rotating.coordinator(faulty)

    async def defect() -> None:
        raise ZeroDivisionError("CANARY-of a defect")

    rotating.script.append(defect)
    with pytest.raises(PAuthError, match="unexpected ZeroDivisionError") as caught:
        await coordinator.get(KEY)
    assert caught.value.__context__ is None
    assert [event.kind for event in rotating.events] == ["refresh_failed", "ambiguous_refresh"]
    rotating.clock.advance(40)
    assert await coordinator.get(KEY) == rotating.last


# Within a time (P9)


async def test_p9_a_caller_gives_up_at_its_deadline_and_the_refresh_goes_on(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    hold = Hold()
    rotating.script.append(hold.wait)
    coordinator = rotating.coordinator(faulty, RefreshPolicy(deadline=0.01))
    with pytest.raises(ProviderUnavailable, match="it goes on") as caught:
        await coordinator.get(KEY)
    assert caught.value.retry_after == 1.0
    assert caught.value.retryable
    hold.released.set()
    await landed(coordinator)
    assert await coordinator.get(KEY) == rotating.last
    assert len(rotating.sent) == 1


async def test_p9_the_deadline_is_one_for_all_that_a_call_takes(rotating: Rotating, faulty: FaultyStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token is refreshed elsewhere again and again, and has expired each time when this process comes to look."""
    coordinator = rotating.coordinator(faulty, RefreshPolicy(deadline=5.0))
    await rotating.stored_expired(faulty)
    stopwatch = ManualClock()  # the time that the deadline is measured in
    waits: list[float] = []

    async def forestalled(_: Any, patience: float) -> None:
        waits.append(patience)
        assert len(waits) <= 3, "the deadline has passed"
        await faulty.replace(KEY, token_to_dict(rotating.issue()), expected_version=None)
        rotating.clock.advance(3600)
        stopwatch.advance(2)

    monkeypatch.setattr(coordinator, "_flown", forestalled)
    monkeypatch.setattr(module, "time", stopwatch)
    with pytest.raises(ProviderUnavailable, match="takes too long"):
        await coordinator.get(KEY)
    assert waits == [5.0, 3.0, 1.0]


async def test_p9_one_user_whose_server_hangs_does_not_delay_another(strict: World) -> None:
    async with strict.client(FaultyStorage(strict.clock)) as client:
        await strict.log_in(client, "alice")
        await strict.log_in(client, "bob")
        strict.expire()
        hold = strict.server.script("token", faults.hold())
        waiting = asyncio.create_task(client.get_token("alice"))
        await hold.arrived.wait()
        assert (await client.get_token("bob")).expires_in(strict.clock.time())
        assert not waiting.done()
        hold.release()
        await waiting


async def test_p9_a_refresh_that_comes_to_nothing_again_and_again_is_an_error(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Each intent takes longer than a lease, so that nothing is ever sent."""
    await rotating.stored_expired(faulty)

    async def slow(write: Write) -> Any:
        rotating.clock.advance(30)
        faulty.intent_faults.append(slow)
        return await write()

    faulty.intent_faults.append(slow)
    with pytest.raises(StorageUnavailable, match="again and again"):
        await rotating.coordinator(faulty).get(KEY)
    assert not rotating.sent
    faulty.intent_faults.clear()
    assert await rotating.coordinator(faulty).get(KEY) == rotating.last


async def test_the_successor_of_a_token_that_somebody_else_keeps_replacing(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Each look finds another token, valid at once: the caller gets the first that will do."""
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    hold = Hold()

    async def held(write: Write) -> Any:
        await hold.wait()
        return await write()

    faulty.intent_faults.append(held)
    asking = asyncio.create_task(coordinator.get(KEY))
    await hold.arrived.wait()
    newer = foreign(rotating.issue(), "theirs")
    await faulty.replace(KEY, token_to_dict(newer), expected_version=None)
    hold.released.set()
    assert await asking == newer
    await settle()
    assert not rotating.sent
    assert newer.access_token == Secret("CANARY-at-theirs")
    rotating.clock.advance(FRESH)
    assert await coordinator.get(KEY) == newer
