"""Scans: how many refreshes are under way, how fast they follow each other, and what is told of them."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from pauth import RefresherProgress, TokenRefresher
from pauth.events import StoreScanned
from pauth.testing import ManualClock
from tests.refresh.kit import NAMESPACE, passing, settle, until
from tests.refresh.refreshers import OTHER, Obedient, Store, told, users

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
async def test_a_rate_holds_for_each_server_and_keeps_no_other_waiting(
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


async def test_a_rate_is_one_for_all_clients_of_a_server(client: Obedient, store: Store, clock: ManualClock) -> None:
    other = Obedient(store, clock, OTHER, endpoint=client.endpoint)
    await store.add_all(users(25))
    await store.add_all(users(25), namespace=OTHER)
    running = asyncio.create_task(TokenRefresher([client, other], rate=5.0, concurrency=8, clock=clock).run_once())
    for tenth in range(100):  # the first at once, the 50th 9.8 seconds later
        await settle()
        assert len(client.asked) + len(other.asked) == 1 + tenth // 2
        assert abs(len(client.asked) - len(other.asked)) <= 16  # neither has to wait until the other is done, with its 25
        clock.advance(0.1)
    assert (await running).refreshed == 50


async def test_clients_of_a_server_may_have_rates_of_their_own(client: Obedient, store: Store, clock: ManualClock) -> None:
    other = Obedient(store, clock, OTHER, endpoint=client.endpoint)
    await store.add_all(users(20))
    await store.add_all(users(20), namespace=OTHER)
    refresher = TokenRefresher([client, other], rate={NAMESPACE: 5.0, OTHER: 10.0}, concurrency=8, clock=clock)
    running = asyncio.create_task(refresher.run_once())
    for tenth in range(40):
        await settle()
        assert (len(client.asked), len(other.asked)) == (1 + tenth // 2, min(20, 1 + tenth))
        clock.advance(0.1)
    assert (await running).refreshed == 40


async def test_who_is_late_does_not_make_it_up_all_at_once(client: Obedient, store: Store, clock: ManualClock) -> None:
    await store.add_all(users(40))
    refresher = TokenRefresher([client], rate=10.0, concurrency=8, clock=clock)
    running = asyncio.create_task(refresher.run_once())
    await settle()
    clock.advance(2.0)  # the machine slept
    await settle()
    assert len(client.asked) <= 3
    await passing(clock, running)


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
