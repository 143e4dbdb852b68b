"""P4 when the event loop ends: what a flight has received reaches the store, though the loop cancels all its tasks."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pauth.core.token import Token
from pauth.errors import ProviderUnavailable, StorageUnavailable
from pauth.refresh.stored import Attempts, StoredGrant, write_grant
from pauth.storage import EncryptionKey, coordinated
from pauth.testing import ManualClock
from tests.refresh.faulty import FaultyStorage, Hold, Write, refuse
from tests.refresh.journal_kit import dies
from tests.refresh.kit import KEY, AsyncClass, BlockingClass, HurryingClock, attempts_of, database, passing, settle, stored_token, until
from tests.refresh.rotating import Rotating, failing
from tests.refresh.suspensions import Episode, counting


@pytest.fixture(autouse=True)
def nothing_is_left_for_later_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Programs that close nothing leave connections to the collector, and threads whose event loop is gone; both complain, and are right."""
    monkeypatch.setattr(threading, "excepthook", _ignored)
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            gc.collect()
        for thread in threading.enumerate():
            if "_connection_worker_thread" in thread.name:
                thread.join(30)


def _cancel_all(episode: Episode) -> None:
    """What ``asyncio.run`` does to the tasks that are left."""
    for task in episode.tasks:
        task.cancel()


async def test_p4_all_tasks_cancelled_at_every_await_of_a_refresh(clock: ManualClock) -> None:
    """Whatever was cancelled, the flight and the storage's own operation among it: a token that came is stored, or was never asked for."""
    at, struck, saved = 0, True, 0
    while struck:
        storage, rotating = AsyncClass(), Rotating(clock)
        coordinator = rotating.coordinator(coordinated(storage))
        old = await rotating.stored_expired(coordinated(storage))
        with counting(at, _cancel_all) as episode:
            callers = [asyncio.create_task(coordinator.get(KEY)) for _ in range(2)]
        await asyncio.wait(callers)
        await coordinator.drain()
        struck = episode.struck
        assert await stored_token(storage) == (rotating.last if rotating.sent else old), f"the rotated token is lost at {at}"
        saved += struck and bool(rotating.sent)
        assert await passing(clock, coordinator.get(KEY)) == rotating.last  # an attempt that was only announced is waited for
        assert len(rotating.sent) == 1
        at += 1
    assert saved >= 4  # the write alone suspends as often


class _Signalling(AsyncClass):
    """Tells when a write has begun, and does not end it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.stuck = False

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        if self.stuck:
            self.stuck = False
            self.begun.set()
            await asyncio.Event().wait()
        await super().save_token(user_id, tokens)


class _SignallingBlocking(BlockingClass):
    def __init__(self) -> None:
        super().__init__()
        self.tell: Callable[[], object] | None = None
        self.go_on = threading.Event()

    def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        if self.tell is not None:
            tell, self.tell = self.tell, None
            tell()
            self.go_on.wait()
        else:
            self.go_on.set()
        super().save_token(user_id, tokens)


@pytest.fixture
def hurrying() -> Rotating:
    return Rotating(HurryingClock())


def test_p4_asyncio_run_ends_while_an_async_class_writes(hurrying: Rotating) -> None:
    storage = _Signalling()

    async def program() -> None:
        coordinator = hurrying.coordinator(coordinated(storage))
        await hurrying.stored_expired(coordinated(storage))
        storage.stuck = True
        caller = asyncio.create_task(coordinator.get(KEY))
        await storage.begun.wait()
        assert not caller.done()

    asyncio.run(program())
    assert asyncio.run(stored_token(storage)) == hurrying.last


def test_p4_asyncio_run_ends_while_a_blocking_class_writes(hurrying: Rotating) -> None:
    """The first write goes on in its thread; the second finds it done, or does it."""
    storage = _SignallingBlocking()

    async def program() -> None:
        coordinator = hurrying.coordinator(coordinated(storage))
        await hurrying.stored_expired(coordinated(storage))
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        storage.tell = lambda: loop.call_soon_threadsafe(begun.set)
        storage.go_on.clear()
        caller = asyncio.create_task(coordinator.get(KEY))
        await begun.wait()
        assert not caller.done()

    asyncio.run(program())
    assert asyncio.run(stored_token(storage)) == hurrying.last


@pytest.mark.filterwarnings("ignore:The garbage collector:sqlalchemy.exc.SAWarning", "ignore:.*aiosqlite:ResourceWarning")  # they are right
def test_p4_asyncio_run_ends_at_every_await_of_a_refresh_with_the_database(
    hurrying: Rotating, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program forgets to close anything: at each await of the refresh in turn its main coroutine returns."""
    monkeypatch.setattr(threading, "excepthook", _ignored)  # of a connection whose answer came when the event loop was closed
    storage = database(tmp_path, hurrying.clock, EncryptionKey.generate())

    async def program(at: int) -> bool:
        """Whether the refresh was still under way at the end."""
        coordinator = hurrying.coordinator(storage)
        await hurrying.stored_expired(storage)
        reached = asyncio.Event()
        with counting(at, lambda _: reached.set()):
            caller = asyncio.create_task(coordinator.get(KEY))
        reaching = asyncio.create_task(reached.wait())
        await asyncio.wait((caller, reaching), return_when=asyncio.FIRST_COMPLETED)
        return not caller.done()

    at, saved, under_way = 0, 0, True
    while under_way:
        before = len(hurrying.sent)
        under_way = asyncio.run(program(at))
        saved += under_way and len(hurrying.sent) > before
        assert asyncio.run(stored_token(storage)) == hurrying.last, f"the rotated token is lost at {at}"
        at += 1
    assert saved >= 1
    asyncio.run(storage.aclose())
    gc.collect()


def _ignored(_: object) -> None:
    pass


def _until_cancelled(arrived: asyncio.Event) -> Callable[[Write], Awaitable[None]]:
    async def wait(_: Write) -> None:
        arrived.set()
        await asyncio.Event().wait()

    return wait


async def _interrupted(rotating: Rotating, storage: FaultyStorage) -> tuple[asyncio.Task[Token], list[asyncio.Task[Any]]]:
    """A caller whose flight offers an unsaved token to the store, in the middle of a write that will not end; and the flight's tasks."""
    coordinator = rotating.coordinator(storage)
    await rotating.stored_expired(storage)
    storage.faults.extend([refuse] * 6)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.get(KEY))
    dies(coordinator)  # nobody offers it to the store meanwhile
    arrived = asyncio.Event()
    storage.faults.append(_until_cancelled(arrived))
    with counting(-1, _cancel_all) as episode:
        caller = asyncio.create_task(coordinator.get(KEY))
    await arrived.wait()
    return caller, [task for task in episode.tasks if task is not caller]


async def test_p4_an_interrupted_flight_writes_at_once_and_once(rotating: Rotating, faulty: FaultyStorage) -> None:
    """There is no time to pause: nobody advances this clock."""
    caller, flight = await _interrupted(rotating, faulty)
    for task in flight:
        task.cancel()
    assert await caller == rotating.last
    assert await stored_token(faulty) == rotating.last


async def test_p4_an_interrupted_flight_that_cannot_write_keeps_the_token(rotating: Rotating, faulty: FaultyStorage) -> None:
    caller, flight = await _interrupted(rotating, faulty)
    faulty.faults.append(refuse)
    for task in flight:
        task.cancel()
    with pytest.raises(StorageUnavailable):
        await caller
    assert await rotating.coordinator(faulty).get(KEY) == rotating.last
    assert len(rotating.sent) == 1


async def test_p4_a_second_interruption_ends_the_flight_and_the_token_is_kept(rotating: Rotating, faulty: FaultyStorage) -> None:
    caller, flight = await _interrupted(rotating, faulty)
    again = asyncio.Event()
    faulty.faults.append(_until_cancelled(again))
    for task in flight:
        task.cancel()
    await again.wait()
    for task in flight:
        task.cancel()
    with pytest.raises(ProviderUnavailable, match="aclose"):
        await caller
    assert await rotating.coordinator(faulty).get(KEY) == rotating.last
    assert len(rotating.sent) == 1


async def test_p4_an_interruption_during_a_pause_ends_the_pause(rotating: Rotating, faulty: FaultyStorage) -> None:
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    faulty.faults.extend([refuse] * 7)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.get(KEY))
    dies(coordinator)
    await settle()
    with counting(-1, _cancel_all) as episode:
        caller = asyncio.create_task(coordinator.get(KEY))
    await until(lambda: rotating.clock.sleepers)
    for task in episode.tasks:
        if task is not caller:
            assert task.cancel()
    assert await caller == rotating.last == await stored_token(faulty)  # nobody advances this clock
    assert len(rotating.sent) == 1


async def test_p4_from_the_intent_to_the_acknowledged_write_nobody_interrupts(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Not while it is announced, sent, stored, nor while its failure is noted."""
    coordinator = rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    intent, request, save = Hold(), Hold(), Hold()
    faulty.intent_faults.append(intent)
    rotating.script.append(request.wait)
    faulty.faults.append(save)
    with counting(-1, _cancel_all) as episode:
        caller = asyncio.create_task(coordinator.get(KEY))
    for hold in (intent, request, save):
        await hold.arrived.wait()
        assert [task.cancel() for task in episode.tasks if task is not caller] == [False]
        hold.released.set()
    assert await caller == rotating.last == await stored_token(faulty)

    rotating.clock.advance(3600)
    note = Hold()
    rotating.script.append(failing(ProviderUnavailable("down", status=503)))
    faulty.note_faults.append(note)
    with counting(-1, _cancel_all) as episode:
        caller = asyncio.create_task(coordinator.get(KEY))
    await note.arrived.wait()
    assert [task.cancel() for task in episode.tasks if task is not caller] == [False]
    note.released.set()
    with pytest.raises(ProviderUnavailable, match="down"):
        await caller
    assert not (await attempts_of(faulty)).under_way


@pytest.mark.parametrize("where", ["metadata", "lease", "an attempt of a dead one"])
async def test_before_the_intent_a_flight_is_cut_off_and_nothing_is_left(rotating: Rotating, faulty: FaultyStorage, where: str) -> None:
    """What has not been announced was not sent: the end of a program need not wait for it."""
    arrived = asyncio.Event()

    async def prepare(token: Token) -> Any:
        if where == "metadata" and not arrived.is_set():
            arrived.set()
            await asyncio.Event().wait()
        return await rotating.prepare(token)

    coordinator = rotating.coordinator(faulty, prepare=prepare)
    token = await rotating.stored_expired(faulty)
    if where == "lease":
        await faulty.take_lease(KEY, "somebody", ttl=25)
    elif where != "metadata":
        attempts = Attempts(attempt_id="dead", under_way=True, deadline=rotating.clock.time() + 20)
        await faulty.replace(KEY, write_grant(StoredGrant(token, attempts=attempts)), expected_version=1)
    with counting(-1, _cancel_all) as episode:
        caller = asyncio.create_task(coordinator.get(KEY))
    await (arrived.wait() if where == "metadata" else until(lambda: rotating.clock.sleepers))
    assert [task.cancel() for task in episode.tasks if task is not caller] == [True]
    with pytest.raises(ProviderUnavailable, match="aclose"):
        await caller
    assert not rotating.sent
    assert await passing(rotating.clock, coordinator.get(KEY)) == rotating.last
    assert len(rotating.sent) == 1
