"""Scans: what a refresher is made of, and what is done with stores, their lists, and records."""

from __future__ import annotations

import asyncio

import pytest

from pauth import ConfigurationError, TokenRefresher
from pauth.errors import (
    RecordTampered,
    StorageUnavailable,
)
from pauth.events import StoreScanned
from pauth.storage import RecordKey, coordinated
from pauth.testing import ManualClock
from tests.refresh.kit import NAMESPACE, AsyncClass, BlockingClass, settle, until
from tests.refresh.refreshers import OTHER, Obedient, Store, sums_up, told, users

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
