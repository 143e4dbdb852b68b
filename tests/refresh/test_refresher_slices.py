"""Scans: what is done with a slice, with a server that fails, and with users who have troubles of their own."""

from __future__ import annotations

import asyncio

import pytest

from pauth import ConfigurationError, TokenRefresher
from pauth.errors import (
    MalformedResponse,
    PAuthError,
    ProviderUnavailable,
    ReauthorizationRequired,
    StorageUnavailable,
    TokenError,
)
from pauth.refresh.leases import take_lease
from pauth.refresh.slices import slice_key, slice_of
from pauth.storage import RecordKey
from pauth.testing import ManualClock
from tests.refresh.kit import NAMESPACE, settle, until
from tests.refresh.refreshers import Obedient, Store, raising, sums_up, take_all_slices, users

# Leases on slices


async def test_a_slice_is_held_as_long_as_it_takes(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(200))

    async def slow(_: str) -> bool:
        clock.advance(10.0)
        return True

    client.then = slow
    refresher = TokenRefresher([client], concurrency=2, lease_time=60, clock=clock)
    done = await refresher.run_once()
    assert store.extended > 0
    assert (done.refreshed, done.elsewhere) == (200, 0)


async def test_a_slice_that_was_lost_is_left_to_who_has_it(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(300))

    slept = False

    async def sleep_long(_: str) -> bool:
        nonlocal slept
        if len(client.asked) >= 50 and not slept:
            slept = True
            clock.advance(61)  # this process slept, and another one has taken everything
            await take_all_slices(store, clock)
        return True

    client.then = sleep_long
    done = await TokenRefresher([client], concurrency=2, lease_time=60, clock=clock).run_once()
    assert 50 <= done.refreshed < 55
    assert done.elsewhere == 300 - done.refreshed
    assert sums_up(done)


async def test_slices_that_somebody_is_at_are_looked_at_again(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(100))
    held = await take_all_slices(store, clock)
    slices, before = len({slice_of(RecordKey(NAMESPACE, name)) for name in users(100)}), store.leases

    async def let_go(leases: int) -> None:
        if leases == before + slices:  # each has been looked at once
            for lease in held:
                await lease.release()

    store.before_lease = let_go
    done = await TokenRefresher([client], clock=clock).run_once()
    assert (done.refreshed, done.elsewhere) == (100, 0)


async def test_slices_that_somebody_stays_at_are_left(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(100))
    await take_all_slices(store, clock)
    done = await TokenRefresher([client], clock=clock).run_once()
    assert (done.listed, done.elsewhere, client.asked) == (100, 100, [])


async def test_only_so_many_busy_records_are_remembered_p19(
    client: Obedient, store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pauth.refresh.scan._MAX_BUSY", 10)
    await store.add_all(users(100))
    await take_all_slices(store, clock)
    slices, before = len({slice_of(RecordKey(NAMESPACE, name)) for name in users(100)}), store.leases
    done = await TokenRefresher([client], clock=clock).run_once()
    assert done.elsewhere == 100
    assert slices < store.leases - before <= slices + 10


async def test_records_of_a_slice_on_several_pages_are_worked_on_at_once(client: Obedient, store: Store, clock: ManualClock) -> None:
    names = [name for name in users(2000) if slice_of(RecordKey(NAMESPACE, name)) == slice_of(RecordKey(NAMESPACE, "user-0000"))]
    await store.add_all(names)
    go_on = asyncio.Event()

    async def wait(_: str) -> bool:
        return await go_on.wait()

    client.then = wait
    refresher = TokenRefresher([client], page_size=2, clock=clock)
    running = asyncio.create_task(refresher.run_once())
    await until(lambda: client.under_way == len(names))
    assert store.leases == 1
    go_on.set()
    assert (await running).refreshed == len(names)
    assert await take_lease(store, slice_key(NAMESPACE, slice_of(RecordKey(NAMESPACE, "user-0000"))), ttl=60, clock=clock) is not None


# Servers and users


@pytest.mark.parametrize(
    "error", [ProviderUnavailable("it is down"), StorageUnavailable("it is away"), TokenError("who are you?", error="invalid_client")]
)
async def test_after_twenty_in_a_row_in_vain_a_client_is_left_alone_until_the_next_scan_p10(
    error: PAuthError, client: Obedient, store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await store.add_all(users(300))
    client.then = raising(error)
    refresher = TokenRefresher([client], concurrency=1, clock=clock)
    done = await refresher.run_once()
    assert (done.failed, done.skipped, len(client.asked)) == (20, 280, 20)
    assert sums_up(done)
    assert [record.message for record in caplog.records if record.name == "pauth.refresh"] == [
        f"the tokens of {NAMESPACE} are left alone until the next scan: {error.message}"
    ]
    # then one is tried, and with it all others if the server answers
    again = await refresher.run_once()
    assert (again.failed, again.skipped) == (1, 299)
    client.then = None
    assert (await refresher.run_once()).refreshed == 300


async def test_the_trial_after_a_bad_scan_is_one_request_however_many_may_be_under_way_p10(
    client: Obedient, store: Store, clock: ManualClock
) -> None:
    await store.add_all(users(300))
    client.then = raising(ProviderUnavailable("it is down"))
    refresher = TokenRefresher([client], concurrency=64, clock=clock)
    await refresher.run_once()
    client.asked.clear()
    assert (await refresher.run_once()).failed == len(client.asked) == 1
    client.most, answer = 0, asyncio.Event()

    async def answer_late(_: str) -> bool:
        return await answer.wait()

    client.then = answer_late
    running = asyncio.create_task(refresher.run_once())
    await until(lambda: client.under_way)
    await settle()
    assert client.most == 1
    answer.set()
    assert (await running).refreshed == 300
    assert client.most > 1


async def test_failures_of_some_users_do_not_give_their_server_up(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(200))
    client.then = raising(ProviderUnavailable("not for you"), *users(100))
    done = await TokenRefresher([client], concurrency=1, clock=clock).run_once()
    assert (done.refreshed, done.failed, done.skipped) == (100, 100, 0)


@pytest.mark.parametrize(
    "error", [TokenError("not this scope", error="invalid_scope"), MalformedResponse("not JSON", status=400), ValueError("CANARY")]
)
async def test_what_is_one_users_own_trouble_is_no_trouble_of_the_server(
    error: Exception, client: Obedient, store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await store.add_all(users(100))
    client.then = raising(error)
    done = await TokenRefresher([client], concurrency=1, clock=clock).run_once()
    assert (done.failed, done.skipped) == (100, 0)
    assert ("which is a bug" in caplog.text) is isinstance(error, ValueError)


async def test_users_whose_failure_rests_are_not_asked_for_and_hold_nobody_up_p10(client: Obedient, store: Store, clock: ManualClock) -> None:
    for name in users(50):
        await store.add(name, refresh_attempts={"attempt_id": "a", "failures": 3, "retry_at": clock.time() + 30, "pause": 30})
    await store.add("the-clock-has-jumped", refresh_attempts={"attempt_id": "a", "failures": 3, "retry_at": clock.time() + 1e6, "pause": 30})
    await store.add_all(users(50, first=100))
    refresher = TokenRefresher([client], concurrency=1, clock=clock)
    done = await refresher.run_once()
    assert (done.refreshed, done.resting, done.skipped) == (51, 50, 0)
    assert sums_up(done)
    clock.advance(31)
    assert (await refresher.run_once()).refreshed == 50


@pytest.mark.parametrize(
    ("reason", "outcome"), [("not_logged_in", "fresh"), ("revoked", "fresh"), ("invalid_grant", "dead"), ("ambiguous_rotation", "dead")]
)
async def test_who_has_logged_out_is_not_counted_as_dead(reason: str, outcome: str, client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add("alice")
    client.then = raising(ReauthorizationRequired("log in", reason=reason))
    done = await TokenRefresher([client], clock=clock).run_once()
    assert getattr(done, outcome) == 1
    assert sums_up(done)


async def test_dead_grants_are_answers_of_a_server_that_is_alive(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(200))

    async def die_or_fail(user_id: str) -> bool:
        if len(client.asked) % 10:
            raise ProviderUnavailable("it is down")
        raise ReauthorizationRequired("log in", reason="invalid_grant")

    client.then = die_or_fail
    done = await TokenRefresher([client], concurrency=1, clock=clock).run_once()
    assert (done.dead, done.skipped) == (20, 0)


async def test_a_client_that_was_closed_is_left_alone_at_once(
    client: Obedient, store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await store.add_all(users(50))
    client.then = raising(ConfigurationError("this client is closed; make a new one"))
    done = await TokenRefresher([client], concurrency=1, clock=clock).run_once()
    assert (done.failed, done.skipped) == (1, 49)
    assert "this client is closed" in caplog.text


async def test_what_somebody_else_has_refreshed_is_fresh(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(5))

    async def not_by_me(_: str) -> bool:
        return False

    client.then = not_by_me
    assert (await TokenRefresher([client], clock=clock).run_once()).fresh == 5
