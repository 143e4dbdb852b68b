"""What a scan does when stores, servers and users misbehave, and how fast it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from pauth import ConfigurationError, RefresherProgress, TokenRefresher
from pauth.errors import (
    MalformedResponse,
    PAuthError,
    ProviderUnavailable,
    ReauthorizationRequired,
    RecordTampered,
    StorageUnavailable,
    TokenError,
)
from pauth.events import StoreScanned
from pauth.refresh.leases import take_lease
from pauth.refresh.slices import slice_key, slice_of
from pauth.storage import RecordKey, coordinated
from pauth.testing import ManualClock
from tests.refresh.kit import NAMESPACE, AsyncClass, BlockingClass, settle, until
from tests.refresh.refreshers import OTHER, Obedient, Store, sums_up, take_all_slices, told, users


@pytest.fixture
def store(clock: ManualClock) -> Store:
    return Store(clock)


@pytest.fixture
def client(store: Store, clock: ManualClock) -> Obedient:
    return Obedient(store, clock)


def raising(error: Exception, *names: str) -> Callable[[str], Awaitable[bool]]:
    """For :attr:`Obedient.then`: it fails for these users, or for all."""

    async def fail(user_id: str) -> bool:
        if not names or user_id in names:
            raise error
        return True

    return fail


# What it is made of


@pytest.mark.parametrize("storage", [AsyncClass, BlockingClass])
def test_a_class_with_three_methods_is_refused(storage: type[AsyncClass | BlockingClass], clock: ManualClock) -> None:
    client = Obedient(coordinated(storage()), clock)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="pauth's own storages: a class with three methods cannot list what it has"):
        TokenRefresher([client])


@pytest.mark.parametrize(
    "options",
    [
        {"interval": 0},
        {"interval": float("nan")},
        {"concurrency": 0},
        {"rate": 0},
        {"rate": -1.0},
        {"rate": float("nan")},
        {"rate": {NAMESPACE: 0.0}},
        {"rate": {"nobody": 1.0}},
        {"page_size": 0},
        {"page_size": 10_001},
        {"lease_time": 0.5},
        {"lease_time": 3601},
    ],
)
def test_numbers_that_make_no_sense_are_refused(client: Obedient, options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        TokenRefresher([client], **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_no_clients_or_two_for_the_same_records_are_refused(client: Obedient, store: Store, clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError, match="at least one client"):
        TokenRefresher([])
    with pytest.raises(ConfigurationError, match="the same store and namespace"):
        TokenRefresher([client, Obedient(store, clock)])
    TokenRefresher([client, Obedient(Store(clock), clock), Obedient(store, clock, OTHER)])


# Stores


async def test_a_store_that_fails_is_tried_again_at_the_next_scan(
    client: Obedient, store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await store.add_all(users(10))
    store.list_faults.append(StorageUnavailable("the store is away"))
    events = told(client.events, StoreScanned)
    async with TokenRefresher([client], clock=clock) as refresher:
        running = asyncio.create_task(refresher.run())
        await until(lambda: clock.sleepers)
        await settle()
        assert "ended early (StorageUnavailable)" in caplog.text
        assert (refresher.progress.scans, client.asked, events) == (0, [], [])
        clock.advance(70)
        await until(lambda: refresher.progress.scans)
        assert refresher.progress.refreshed == 10
    await running


async def test_run_once_tells_of_a_store_that_failed_when_what_could_be_done_is_done(client: Obedient, clock: ManualClock) -> None:
    broken = Store(clock)
    broken.list_faults.append(StorageUnavailable("the store is away"))
    await client.store.add_all(users(10))
    refresher = TokenRefresher([Obedient(broken, clock, OTHER), client], clock=clock)
    with pytest.raises(StorageUnavailable, match="away"):
        await refresher.run_once()
    assert refresher.progress.refreshed == 10


@pytest.mark.parametrize("hook", ["before_lease", "before_batch"])
async def test_what_is_under_way_when_a_store_fails_is_waited_for(hook: str, client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(100))
    go_on = asyncio.Event()
    calls = 0

    async def wait(_: str) -> bool:
        return await go_on.wait()

    async def fail_when_others_are_under_way(*_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            await until(lambda: client.under_way >= 4)
            raise StorageUnavailable("the store is away")

    client.then = wait
    setattr(store, hook, fail_when_others_are_under_way)
    refresher = TokenRefresher([client], concurrency=16, clock=clock)
    running = asyncio.create_task(refresher.run_once())
    await until(lambda: calls >= 5 and client.under_way >= 4)
    await settle()
    assert not running.done()
    go_on.set()
    with pytest.raises(StorageUnavailable):
        await running
    before = refresher.progress.refreshed
    assert (client.under_way, before) == (0, len(client.asked))
    assert before < 20  # nothing was begun after it
    rest = await refresher.run_once()  # all leases were given back
    assert (rest.refreshed, rest.elsewhere) == (100 - before, 0)


async def test_a_store_that_fails_while_a_lease_is_extended_ends_the_scan(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(3))

    async def advance() -> None:
        clock.advance(40)

    store.before_batch = advance
    store.extend_faults.append(StorageUnavailable("the store is away"))
    with pytest.raises(StorageUnavailable):
        await TokenRefresher([client], clock=clock).run_once()


async def test_p9_a_defect_in_one_clients_store_does_not_end_it_for_the_users_of_another(
    client: Obedient, store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Store):
        async def get_many(self, keys: object) -> list[object]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            raise ZeroDivisionError("CANARY-of a defect")

    broken = Broken(clock)
    await broken.add("alice", namespace=OTHER)
    await store.add_all(users(5))
    async with TokenRefresher([Obedient(broken, clock, OTHER), client], clock=clock) as refresher:
        running = asyncio.create_task(refresher.run())
        await until(lambda: len(client.asked) == 5 and clock.sleepers)
        await settle()
        assert [record.levelname for record in caplog.records if "ended early (ZeroDivisionError)" in record.getMessage()] == ["ERROR"]
        await store.add_all(users(5, first=5))
        clock.advance(70)
        await until(lambda: len(client.asked) == 10)
        assert not running.done()
    await running


async def test_a_storage_that_was_closed_ends_the_run_when_the_others_have_ended(client: Obedient, store: Store, clock: ManualClock) -> None:
    class Closed(Store):
        async def get_many(self, keys: object) -> list[object]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            raise ConfigurationError("this token storage was closed")

    closed = Closed(clock)
    await closed.add("alice")
    await store.add_all(users(5))
    refresher = TokenRefresher([Obedient(closed, clock, NAMESPACE), Obedient(store, clock, NAMESPACE)], clock=clock)
    with pytest.raises(ConfigurationError, match="was closed"):
        await refresher.run()
    assert clock.sleepers == 0


async def test_clients_of_one_store_share_its_listing(store: Store, clock: ManualClock) -> None:
    names = [f"client-{number}" for number in range(5)]
    for number, namespace in enumerate(names):
        await store.add_all(users(20, first=20 * number), namespace=namespace)
    refresher = TokenRefresher([Obedient(store, clock, namespace) for namespace in names], page_size=10, clock=clock)
    done = await refresher.run_once()
    assert (done.refreshed, done.scans) == (100, 5)
    assert store.lists == 11  # ten pages are full


async def test_a_client_that_is_slower_than_the_others_reads_old_pages_again(store: Store, clock: ManualClock) -> None:
    slow, quick = Obedient(store, clock), Obedient(store, clock, OTHER)
    go_on = asyncio.Event()

    async def wait(_: str) -> bool:
        return await go_on.wait()

    slow.then = wait
    for number in range(40):
        await store.add(f"user-{number}", namespace=NAMESPACE if number % 2 else OTHER)
        clock.advance(0.001)
    await store.add("stranger", namespace="of nobody")
    refresher = TokenRefresher([slow, quick], page_size=2, concurrency=2, clock=clock)
    running = asyncio.create_task(refresher.run_once())
    await until(lambda: len(quick.asked) == 20)
    before = store.lists
    go_on.set()
    done = await running
    assert store.lists > before
    assert (done.refreshed, done.unknown) == (40, 1)


async def test_a_listing_that_failed_is_not_asked_for_again_by_the_other_clients(store: Store, clock: ManualClock) -> None:
    store.list_faults.append(StorageUnavailable("the store is away"))
    refresher = TokenRefresher([Obedient(store, clock), Obedient(store, clock, OTHER)], clock=clock)
    with pytest.raises(StorageUnavailable):
        await refresher.run_once()
    assert store.lists == 1


async def test_records_of_other_clients_are_counted_and_left_alone(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(3))
    await store.add_all(users(7), namespace=OTHER)
    done = await TokenRefresher([client], page_size=2, clock=clock).run_once()
    assert (done.listed, done.refreshed, done.unknown) == (3, 3, 7)
    assert sums_up(done)


async def test_records_that_cannot_be_read_keep_nobody_from_being_refreshed(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(60))
    for name in users(30):
        store.unreadable[name] = RecordTampered("its authentication failed")
    await store.replace(RecordKey(NAMESPACE, "foreign"), {"what": "is this"}, expected_version=0, expires_at=clock.time())
    done = await TokenRefresher([client], concurrency=1, clock=clock).run_once()
    assert (done.failed, done.refreshed, done.skipped) == (31, 30, 0)
    assert sums_up(done)


async def test_what_was_refreshed_or_removed_or_ended_since_the_listing_is_left_alone(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(3))

    async def others_are_quick() -> None:
        store.before_batch = None
        await client.refreshed("user-0000")
        await store.remove(RecordKey(NAMESPACE, "user-0001"))
        await store.add("user-0002", grant_ended="invalid_grant")

    store.before_batch = others_are_quick
    done = await TokenRefresher([client], clock=clock).run_once()
    assert (done.fresh, client.asked) == (3, [])


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


# How many, how fast


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_as_many_are_under_way_as_may_be_and_no_more(size: int, client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(150))
    go_on = asyncio.Event()

    async def wait(_: str) -> bool:
        return await go_on.wait()

    client.then = wait
    running = asyncio.create_task(TokenRefresher([client], concurrency=10, page_size=size, clock=clock).run_once())
    await until(lambda: client.under_way == 10)
    await settle()
    go_on.set()
    await running
    assert client.most == 10
    assert sorted(client.asked) == users(150)


async def test_of_several_clients_none_takes_more_than_half_of_the_slots_p9(store: Store, clock: ManualClock) -> None:
    one, two = Obedient(store, clock), Obedient(store, clock, OTHER)
    await store.add_all(users(100))
    await store.add_all(users(100), namespace=OTHER)
    go_on = asyncio.Event()

    async def wait(_: str) -> bool:
        return await go_on.wait()

    one.then = wait
    running = asyncio.create_task(TokenRefresher([one, two], concurrency=10, clock=clock).run_once())
    await until(lambda: len(two.asked) == 100)
    assert one.under_way == 5
    go_on.set()
    assert (await running).refreshed == 200


@pytest.mark.parametrize("rate", [5.0, {NAMESPACE: 5.0}], ids=["each", "one"])
async def test_a_rate_holds_for_each_client_and_keeps_no_other_waiting(
    rate: float | dict[str, float], client: Obedient, store: Store, clock: ManualClock
) -> None:
    other = Obedient(store, clock, OTHER)
    await store.add_all(users(50))
    await store.add_all(users(50), namespace=OTHER)
    refresher = TokenRefresher([client, other], rate=rate, concurrency=8, clock=clock)
    running = asyncio.create_task(refresher.run_once())
    if isinstance(rate, dict):
        await until(lambda: len(other.asked) == 50)
    for tenth in range(100):  # the first at once, the 50th 9.8 seconds later
        await settle()
        assert len(client.asked) == 1 + tenth // 2
        assert len(other.asked) == (50 if isinstance(rate, dict) else 1 + tenth // 2)
        clock.advance(0.1)
    assert (await running).refreshed == 100


async def test_who_is_late_does_not_make_it_up_all_at_once(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(40))
    refresher = TokenRefresher([client], rate=10.0, concurrency=8, clock=clock)
    running = asyncio.create_task(refresher.run_once())
    await settle()
    clock.advance(2.0)  # the machine slept
    await settle()
    assert len(client.asked) <= 3
    while not running.done():
        clock.advance(0.1)
        await settle()


async def test_nobody_waits_for_a_turn_who_has_nothing_to_ask(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(100))

    async def others_have_refreshed_all() -> None:
        store.before_batch = None
        for name in users(100):
            await client.refreshed(name)

    store.before_batch = others_have_refreshed_all
    done = await TokenRefresher([client], rate=0.001, clock=clock).run_once()  # no time passes
    assert done.fresh == 100


async def test_stop_ends_the_wait_for_a_turn(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(20))
    refresher = TokenRefresher([client], rate=0.001, clock=clock)
    running = asyncio.create_task(refresher.run())
    await until(lambda: client.asked and clock.sleepers == 2)
    refresher.stop()
    await running
    assert (refresher.progress.refreshed, refresher.progress.skipped) == (1, 19)
    assert clock.sleepers == 0


async def test_a_client_with_a_slow_rate_does_not_keep_others_from_their_next_scan(client: Obedient, store: Store, clock: ManualClock) -> None:
    other = Obedient(store, clock, OTHER)
    await store.add_all(users(100))
    refresher = TokenRefresher([client, other], rate={NAMESPACE: 0.01}, interval=60.0, clock=clock)
    running = asyncio.create_task(refresher.run())
    for scan in range(3):
        await store.add(f"user-of-scan-{scan}", namespace=OTHER)
        await until(lambda: clock.sleepers)
        await settle()
        clock.advance(70)
        await settle()
    assert len(other.asked) >= 2
    assert 1 <= len(client.asked) <= 4
    await until(lambda: len(other.asked) == 3)
    done = await refresher.run_once()  # which leaves out who is still at it
    assert (done.listed, done.scans) == (0, 1)
    refresher.stop()
    await running


async def test_a_client_is_at_one_scan_at_a_time(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(10))
    go_on = asyncio.Event()

    async def wait(_: str) -> bool:
        return await go_on.wait()

    client.then = wait
    refresher = TokenRefresher([client], clock=clock)
    first = asyncio.create_task(refresher.run_once())
    await until(lambda: client.under_way == 10)
    assert await refresher.run_once() == RefresherProgress()
    go_on.set()
    assert (await first).refreshed == 10


# What is told


async def test_progress_is_told_also_to_those_who_fail_at_hearing_it(
    client: Obedient, store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await store.add_all(users(100))
    seen: list[RefresherProgress] = []

    def hear(progress: RefresherProgress) -> None:
        seen.append(progress)
        raise ValueError("CANARY")

    done = await TokenRefresher([client], on_progress=hear, clock=clock).run_once()
    assert done.refreshed == 100
    assert (seen[-1].listed, seen[-1].refreshed) == (100, 100)
    assert all(one.refreshed <= two.refreshed for one, two in pairwise(seen))
    assert "the on_progress of a TokenRefresher failed (ValueError)" in caplog.text


async def test_seconds_are_those_of_the_scan(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add("alice")

    async def take_long(_: str) -> bool:
        clock.advance(12.5)
        return True

    client.then = take_long
    events = told(client.events, StoreScanned)
    refresher = TokenRefresher([client], clock=clock)
    assert (await refresher.run_once()).seconds == 12.5
    assert refresher.progress.seconds == events[0].seconds == 12.5
    assert (await refresher.run_once()).seconds == 0
    assert refresher.progress.scans == 2
