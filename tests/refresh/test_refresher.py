"""A whole store is kept fresh, once each, by any number of workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from pauth import ConfigurationError, OAuth2Client, RefresherProgress, RefreshPolicy, TokenRefresher
from pauth.core.token import Token
from pauth.errors import ReauthorizationRequired
from pauth.events import EventStream, StoreScanned
from pauth.secret import Secret
from pauth.storage import CoordinatedTokenStorage, EncryptionKey, MemoryTokenStorage, RecordKey
from pauth.testing import faults
from tests.refresh.kit import LIFETIME, NAMESPACE, World, database, landed, stored_token, until, world
from tests.refresh.refreshers import OTHER, Hasty, each_once, elsewhere, log_in_all, sums_up, told, users


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, strict: World, tmp_path: Path) -> AsyncIterator[CoordinatedTokenStorage]:
    made = MemoryTokenStorage(clock=strict.clock) if request.param == "memory" else database(tmp_path, strict.clock, EncryptionKey.generate())
    yield made
    await made.aclose()


async def test_everything_that_is_due_is_refreshed_once_and_nothing_else(strict: World, store: CoordinatedTokenStorage) -> None:
    async with strict.client(store) as client:
        await log_in_all(strict, client, users(150))
        strict.clock.advance(LIFETIME - 60)  # due, not expired
        await log_in_all(strict, client, users(20, first=500))
        refresher = TokenRefresher([client], page_size=40, concurrency=16, clock=strict.clock)
        done = await refresher.run_once()
        assert each_once(strict, users(150))
        assert (done.listed, done.refreshed, done.expired, done.scans) == (150, 150, 0, 1)
        assert sums_up(done)
        for user in users(150):
            assert (await client.get_token(user)).expires_at == strict.clock.time() + LIFETIME
        again = await refresher.run_once()
        assert (again.listed, again.refreshed) == (0, 0)
        assert len(strict.refreshes) == 150


async def test_what_becomes_stale_before_the_next_scan_is_refreshed_now(strict: World) -> None:
    async with strict.client(MemoryTokenStorage(clock=strict.clock), refresh_policy=RefreshPolicy(soft_margin=100.0)) as client:
        await log_in_all(strict, client, ["alice"])
        refresher = TokenRefresher([client], interval=60.0, clock=strict.clock)
        strict.clock.advance(LIFETIME - 165)  # it is stale 100 s before it expires at the earliest
        assert (await refresher.run_once()).refreshed == 0
        strict.clock.advance(60)  # 105 s left: stale within the interval, wherever in the spread it lies
        done = await refresher.run_once()
        assert (done.listed, done.refreshed, done.fresh) == (1, 1, 0)


def _has_scanned(refresher: TokenRefresher, scans: int) -> bool:
    return refresher.progress.scans == scans


async def test_a_short_lived_token_is_listed_and_left_alone_until_it_is_due(strict: World) -> None:
    async with strict.client(MemoryTokenStorage(clock=strict.clock)) as client:
        await log_in_all(strict, client, ["alice"], lifetime=100.0)
        refresher = TokenRefresher([client], interval=60.0, clock=strict.clock)
        done = await refresher.run_once()
        assert (done.listed, done.refreshed, done.fresh) == (1, 0, 1)
        strict.clock.advance(80)  # 10 s at most until it is stale: a tenth of its lifetime, whatever the interval
        assert (await refresher.run_once()).refreshed in (0, 1)
        strict.clock.advance(10)
        await refresher.run_once()
        assert len(strict.refreshes) == 1


async def test_tokens_that_cannot_be_refreshed_or_do_not_expire_are_in_no_list(strict: World) -> None:
    async with strict.client(MemoryTokenStorage(clock=strict.clock)) as client:
        await log_in_all(strict, client, ["alice"], lifetime=None)
        key = RecordKey(NAMESPACE, "bob")
        now = strict.clock.time()
        await client._tokens.login(key, Token(Secret("CANARY-at"), issued_at=now, expires_at=now + LIFETIME))  # pyright: ignore[reportPrivateUsage]
        strict.expire()
        assert (await TokenRefresher([client], clock=strict.clock).run_once()).listed == 0


async def test_dead_grants_leave_the_list_p8(strict: World, store: CoordinatedTokenStorage) -> None:
    async with strict.client(store) as client:
        await log_in_all(strict, client, users(10))
        for user in users(3):
            strict.server.revoke_user(user)
        strict.expire()
        refresher = TokenRefresher([client], clock=strict.clock)
        done = await refresher.run_once()
        assert (done.listed, done.expired, done.dead, done.refreshed) == (10, 10, 3, 7)
        assert sums_up(done)
        assert (await refresher.run_once()).listed == 0
        with pytest.raises(ReauthorizationRequired):
            await client.get_token(users(1)[0])  # and nothing was deleted
        assert await store.count(NAMESPACE) == 10


@pytest.mark.parametrize("apart", [False, True], ids=["in one process", "as in several"])
async def test_workers_share_the_load_and_refresh_nothing_twice_p1(strict: World, store: CoordinatedTokenStorage, *, apart: bool) -> None:
    clients = [elsewhere(strict, store) if apart else strict.client(store) for _ in range(3)]
    await log_in_all(strict, clients[0], users(300))
    strict.expire()
    workers = [TokenRefresher([client], concurrency=8, page_size=100, clock=strict.clock) for client in clients]
    done = await asyncio.gather(*(worker.run_once() for worker in workers))
    last = await workers[0].run_once()  # what two of them had left to each other
    assert each_once(strict, users(300))
    assert all(each.refreshed > 0 for each in done)
    assert sum(each.refreshed for each in [*done, last]) == 300
    assert all(sums_up(each) for each in done)
    for client in clients:
        await client.aclose()


async def test_users_who_ask_meanwhile_cause_no_second_refresh_p1() -> None:
    clock = Hasty()
    async with world(clock=clock) as made:
        made.clock = clock
        store = MemoryTokenStorage(clock=clock)
        worker, other = elsewhere(made, store), elsewhere(made, store)
        await log_in_all(made, worker, users(60))
        made.expire()
        refresher = TokenRefresher([worker], concurrency=8, clock=clock)
        running = asyncio.create_task(refresher.run_once())
        tokens = await asyncio.gather(*(other.get_token(user) for user in users(60)))
        done = await running
        assert each_once(made, users(60))
        assert all(token.expires_at == clock.time() + LIFETIME for token in tokens)
        assert done.refreshed < 60
        assert sums_up(done)
        await worker.aclose()
        await other.aclose()


async def test_what_a_worker_that_hangs_is_at_is_taken_over_after_its_lease_p5(strict: World) -> None:
    store = MemoryTokenStorage(clock=strict.clock)
    first, second = elsewhere(strict, store), elsewhere(strict, store)
    await log_in_all(strict, first, users(40))
    strict.expire()
    held = strict.server.script("token", faults.hold(), times=None)
    asleep = asyncio.create_task(TokenRefresher([first], concurrency=4, clock=strict.clock, lease_time=60).run_once())
    await held.arrived.wait()
    strict.server.clear_script()
    other = TokenRefresher([second], clock=strict.clock)
    done = await other.run_once()
    assert 0 < done.elsewhere < 40
    assert done.refreshed == 40 - done.elsewhere
    strict.clock.advance(61)
    rest = await other.run_once()
    assert rest.refreshed == done.elsewhere
    assert sums_up(rest)
    # each once: what hangs has not been applied by the server
    assert Counter(entry.user for entry in strict.refreshes if entry.outcome == "ok") == Counter(users(40))
    held.release()
    await asyncio.gather(asleep, return_exceptions=True)
    await first.aclose()
    await second.aclose()


async def test_stop_waits_for_what_is_under_way_and_begins_nothing_else_p4(strict: World, store: CoordinatedTokenStorage) -> None:
    async with strict.client(store) as client:
        await log_in_all(strict, client, users(60))
        strict.expire()
        held = strict.server.script("token", faults.hold(applied=True), times=None)
        refresher = TokenRefresher([client], concurrency=4, clock=strict.clock)
        running = asyncio.create_task(refresher.run())
        await until(lambda: len(strict.refreshes) == 4)
        refresher.stop()
        refresher.stop()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not running.done()
        held.release()
        await running
        assert len(strict.refreshes) == 4
        for entry in strict.refreshes:
            assert entry.user is not None
            assert (await stored_token(store, entry.user)).expires_at == strict.clock.time() + LIFETIME
        assert refresher.progress.refreshed == 4
        assert refresher.progress.skipped == 56
        await refresher.run()  # it has ended, and does nothing
        assert (await refresher.run_once()).listed == 0
        assert strict.clock.sleepers == 0


async def test_leaving_the_block_stops_and_waits_p4(strict: World) -> None:
    async with strict.client(MemoryTokenStorage(clock=strict.clock)) as client:
        await log_in_all(strict, client, ["alice"])
        strict.expire()
        held = strict.server.script("token", faults.hold(applied=True))
        async with TokenRefresher([client], clock=strict.clock) as refresher:
            running = asyncio.create_task(refresher.run())
            await held.arrived.wait()
            asyncio.get_running_loop().call_later(0, held.release)
        assert running.done()
        assert refresher.progress.refreshed == 1


async def test_a_block_that_never_ran_is_left_at_once(strict: World) -> None:
    async with strict.client(MemoryTokenStorage(clock=strict.clock)) as client, TokenRefresher([client], clock=strict.clock) as refresher:
        assert refresher.progress == RefresherProgress()


async def test_a_run_that_is_cancelled_leaves_no_task_and_loses_no_token_p14(strict: World) -> None:
    store = MemoryTokenStorage(clock=strict.clock)
    async with strict.client(store) as client:
        await log_in_all(strict, client, users(20))
        strict.expire()
        held = strict.server.script("token", faults.hold(applied=True), times=None)
        before = asyncio.all_tasks()
        refresher = TokenRefresher([client], concurrency=4, clock=strict.clock)
        running = asyncio.create_task(refresher.run())
        await until(lambda: len(strict.refreshes) == 4)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        left = [task for task in asyncio.all_tasks() - before if "_Flight" not in type(task).__name__ and "pauth/refresh" in repr(task)]
        assert left == []
        held.release()
        await landed(client)
        for entry in strict.refreshes:
            assert entry.user is not None
            assert (await stored_token(store, entry.user)).expires_at == strict.clock.time() + LIFETIME
        # the leases on the slices were given back
        assert (await TokenRefresher([client], clock=strict.clock).run_once()).refreshed == 16
        assert each_once(strict, users(20))


async def test_it_scans_again_after_the_interval_and_can_be_run_again_by_nobody_meanwhile(strict: World) -> None:
    async with strict.client(MemoryTokenStorage(clock=strict.clock)) as client:
        await log_in_all(strict, client, ["alice"])
        async with TokenRefresher([client], interval=60.0, clock=strict.clock) as refresher:
            running = asyncio.create_task(refresher.run())
            await until(lambda: refresher.progress.scans == 1)
            with pytest.raises(ConfigurationError, match="runs already"):
                await refresher.run()
            for scan in range(2, 5):
                await until(lambda: strict.clock.sleepers == 1)
                strict.clock.advance(50)
                await asyncio.sleep(0)
                assert refresher.progress.scans == scan - 1
                strict.clock.advance(20)  # it is spread by a tenth, so that workers drift apart
                await until(partial(_has_scanned, refresher, scan))
        assert running.done()
        assert strict.refreshes == []


@asynccontextmanager
async def two_servers(strict: World) -> AsyncGenerator[tuple[OAuth2Client, OAuth2Client, World, CoordinatedTokenStorage]]:
    """Clients of two servers on one store, each with 100 users whose tokens have expired."""
    store = MemoryTokenStorage(clock=strict.clock)
    async with world() as other:
        other.clock = strict.clock
        async with strict.client(store) as one, other.client(store, namespace=OTHER) as two:
            await log_in_all(strict, one, users(100))
            await log_in_all(other, two, users(100))
            strict.expire()
            yield one, two, other, store


async def test_a_server_that_is_down_is_left_alone_and_the_users_of_others_are_served_p9_p10(strict: World, caplog: pytest.LogCaptureFixture) -> None:
    async with two_servers(strict) as (down, up, healthy, store):
        events = told(down.events, StoreScanned)
        strict.server.script("token", faults.status(503), times=None)
        refresher = TokenRefresher([down, up], concurrency=8, clock=strict.clock)
        done = await refresher.run_once()
        assert each_once(healthy, users(100))
        assert len(strict.refreshes) <= 8  # five open the breaker, and as many as are under way at once were on their way
        assert done.refreshed == 100
        assert done.failed + done.skipped == 100
        assert done.skipped > 0
        assert sums_up(done)
        assert events[0].skipped == done.skipped
        assert caplog.text.count("are left alone until the next scan") == 1
        assert NAMESPACE in caplog.text
        # it is back: those whose failure is in their record rest, then nothing is left
        strict.server.clear_script()
        strict.clock.advance(70)
        await refresher.run_once()
        assert [each.outcome for each in strict.refreshes[-100:]] == ["ok"] * 100
        assert (await stored_token(store, users(1)[0])).expires_at == strict.clock.time() + LIFETIME


async def test_a_server_that_hangs_does_not_keep_the_users_of_others_waiting_p9(strict: World) -> None:
    async with two_servers(strict) as (hanging, up, healthy, _):
        held = strict.server.script("token", faults.hold(), times=None)
        refresher = TokenRefresher([hanging, up], concurrency=8, clock=strict.clock)
        running = asyncio.create_task(refresher.run_once())
        await until(lambda: refresher.progress.refreshed == 100)
        assert each_once(healthy, users(100))
        held.release()
        assert (await running).refreshed == 200


async def test_one_user_whose_request_hangs_does_not_keep_others_waiting_p9(strict: World) -> None:
    async with strict.client(MemoryTokenStorage(clock=strict.clock)) as client:
        await log_in_all(strict, client, users(200))
        strict.expire()
        held = strict.server.script("token", faults.hold())
        refresher = TokenRefresher([client], concurrency=16, page_size=20, clock=strict.clock)
        running = asyncio.create_task(refresher.run_once())
        await until(lambda: refresher.progress.refreshed == 199)  # its page, its slice and all that follow
        held.release()
        assert (await running).refreshed == 200


async def test_progress_and_an_event_tell_what_a_scan_did(strict: World) -> None:
    seen: list[RefresherProgress] = []
    async with strict.client(MemoryTokenStorage(clock=strict.clock)) as client:
        events = told(client.events, StoreScanned)
        await log_in_all(strict, client, users(30))
        strict.server.revoke_user(users(1)[0])
        strict.expire()
        refresher = TokenRefresher([client], clock=strict.clock, on_progress=seen.append)
        done = await refresher.run_once()
        assert (done.refreshed, done.dead) == (29, 1)
        assert refresher.progress == seen[-1] or refresher.progress.scans == 1
        assert [each.refreshed for each in seen] == sorted(each.refreshed for each in seen)
        assert seen[-1].listed == 30
        (event,) = events
        assert event.namespace == NAMESPACE
        assert event.at == strict.clock.time()
        numbers = {name: getattr(done, name) for name in RefresherProgress.__slots__ if name not in {"scans", "unknown"}}
        assert {name: getattr(event, name) for name in numbers} == numbers


async def test_no_event_is_made_that_nobody_wants(strict: World) -> None:
    async with strict.client(MemoryTokenStorage(clock=strict.clock), events=EventStream(log=False)) as client:
        await log_in_all(strict, client, ["alice"])
        strict.expire()
        assert (await TokenRefresher([client], clock=strict.clock).run_once()).refreshed == 1
