"""P4: a token that waits for its store is offered to it by whoever is there, and what is told and held because of it ends with the wait."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from pauth.core.token import token_to_dict
from pauth.errors import StorageUnavailable
from pauth.events import Event, EventStream, TokenRecovered, TokenRefreshed, TokenUnsaved
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.refresh.waiting import _Offering  # pyright: ignore[reportPrivateUsage]
from pauth.storage import RecordKey
from tests.refresh.faulty import FaultyStorage, Hold, Outage, refuse
from tests.refresh.journal_kit import Database, dies, files, spill
from tests.refresh.kit import KEY, passing, settle, stored_token, until
from tests.refresh.rotating import Rotating


async def unsaved(rotating: Rotating, storage: FaultyStorage, coordinator: RefreshCoordinator) -> Outage:
    """A token that waits, and what has to be over until it can be stored."""
    await rotating.stored_expired(storage)
    outage = Outage(storage.faults)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.get(KEY))
    await settle()  # who tries behind the scenes has tried in vain, and sleeps
    return outage


async def is_free(storage: FaultyStorage | Database) -> bool:
    return await storage.take_lease(KEY, "somebody else", ttl=1) is not None


@pytest.mark.parametrize("who", ["a caller", "behind the scenes"])
async def test_the_lease_is_given_back_as_soon_as_it_is_stored(rotating: Rotating, faulty: FaultyStorage, who: str) -> None:
    coordinator = rotating.coordinator(faulty)
    outage = await unsaved(rotating, faulty, coordinator)
    assert not await is_free(faulty)  # it keeps other processes away, which would send the old token
    outage.over = True
    if who == "a caller":
        assert await coordinator.get(KEY) == rotating.last
    else:
        rotating.clock.advance(1)
        await until(lambda: rotating.told(TokenRecovered))
    assert await is_free(faulty)
    await coordinator.drain()


@pytest.mark.parametrize("who", ["a caller", "behind the scenes"])
async def test_the_whole_attempt_is_told_once_it_is_stored(rotating: Rotating, faulty: FaultyStorage, who: str) -> None:
    """From its begin on, whoever stores it."""
    coordinator = rotating.coordinator(faulty)
    began = rotating.clock.monotonic() + 3600  # when the token has expired
    outage = await unsaved(rotating, faulty, coordinator)
    assert rotating.told(TokenRefreshed) == []
    outage.over = True
    if who == "a caller":
        assert await coordinator.get(KEY) == rotating.last
    else:
        rotating.clock.advance(1)
        await until(lambda: rotating.told(TokenRefreshed))
    (refused,), (recovered,), (refreshed,) = rotating.told(TokenUnsaved), rotating.told(TokenRecovered), rotating.told(TokenRefreshed)
    assert refused.attempt_id == recovered.attempt_id == refreshed.attempt_id
    assert refreshed.seconds == rotating.clock.monotonic() - began > 3
    await coordinator.drain()
    assert len(rotating.told(TokenRefreshed)) == 1


def test_an_event_loop_that_was_stopped_is_replaced_by_the_one_that_runs(rotating: Rotating, faulty: FaultyStorage) -> None:
    """As in a program that runs one piece of work after the other."""
    coordinator = rotating.coordinator(faulty)
    first = asyncio.new_event_loop()
    outage = first.run_until_complete(unsaved(rotating, faulty, coordinator))
    (stopped,) = coordinator._waiting._offerings.values()  # pyright: ignore[reportPrivateUsage]

    async def second() -> None:
        with pytest.raises(StorageUnavailable):
            await passing(rotating.clock, coordinator.get(KEY))
        outage.over = True
        await passing(rotating.clock, until(lambda: rotating.told(TokenRecovered)))
        assert await stored_token(faulty) == rotating.last
        await coordinator.drain()

    asyncio.run(second())

    async def end() -> None:
        rotating.clock.advance(10)
        await settle()  # who was stopped sees that nothing waits any more
        await coordinator.drain()

    first.run_until_complete(end())
    assert stopped.task.done()
    assert coordinator._waiting._offerings == {}  # pyright: ignore[reportPrivateUsage]
    first.close()


async def test_p15_in_a_forked_child_nobody_offers_it_yet() -> None:
    """The task that the child has is a copy of its parent's, which nothing will ever run."""
    task = asyncio.create_task(asyncio.sleep(0))
    assert _Offering(os.getpid(), task).goes_on
    assert not _Offering(os.getpid() + 1, task).goes_on
    await task
    assert not _Offering(os.getpid(), task).goes_on


@pytest.mark.parametrize("write", ["is refused", "takes long"])
async def test_who_closes_another_client_meanwhile_is_no_second_refresh(rotating: Rotating, faulty: FaultyStorage, write: str) -> None:
    """It offers what is not stored yet, and whose writing may be under way: nobody was told that it waits, so nobody is told that it came through."""
    first, second = rotating.coordinator(faulty), rotating.coordinator(faulty)
    await rotating.stored_expired(faulty)
    hold = Hold()
    faulty.faults.append(refuse if write == "is refused" else hold)
    asking = asyncio.create_task(first.get(KEY))
    await until(lambda: hold.arrived.is_set() or rotating.clock.sleepers)
    await second.drain()
    hold.released.set()
    assert await passing(rotating.clock, asking) == rotating.last
    await first.drain()
    assert [type(event) for event in rotating.events] == [TokenRefreshed]


async def test_the_next_token_that_waits_is_offered_while_the_lease_of_the_one_before_is_given_back(
    rotating: Rotating, faulty: FaultyStorage
) -> None:
    coordinator = rotating.coordinator(faulty)
    await unsaved(rotating, faulty, coordinator)
    faulty.faults.clear()
    await coordinator.login(KEY, rotating.issue())
    assert await coordinator.get(KEY) == rotating.last
    assert coordinator._shared.unsaved == {}  # pyright: ignore[reportPrivateUsage]
    hold = Hold()

    async def slow(_: str) -> None:
        await hold.wait()

    faulty.lease_faults.append(slow)
    rotating.clock.advance(10)
    await hold.arrived.wait()
    rotating.clock.advance(3600)
    outage = Outage(faulty.faults)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.get(KEY))
    hold.released.set()
    await settle()
    assert not await is_free(faulty)
    outage.over = True
    await passing(rotating.clock, until(lambda: rotating.told(TokenRecovered)))
    assert await stored_token(faulty) == rotating.last
    assert await is_free(faulty)
    await coordinator.drain()


# The journal


async def test_its_file_goes_whoever_stores_it(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    """A client a request: the one that put it into the journal is not the one that stores it."""
    first, second = (rotating.coordinator(down, journal=tmp_path / "journal") for _ in range(2))
    await rotating.stored_expired(down)
    down.down = True
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, first.get(KEY))
    assert len(files(tmp_path)) == 1
    down.down = False
    assert await second.get(KEY) == rotating.last
    await second.drain()
    await first.drain()  # it may have stored it behind the scenes, and be at the file
    assert files(tmp_path) == []


async def test_after_a_login_its_file_goes_too(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    """A reader has seen that nobody needs it any more, so that nobody offers it."""
    coordinator = await spill(rotating, down, tmp_path)
    await until(lambda: rotating.clock.sleepers)  # who tries behind the scenes has tried in vain
    down.down = False
    await coordinator.login(KEY, rotating.issue())
    assert await coordinator.get(KEY) == rotating.last
    assert coordinator._shared.unsaved == {}  # pyright: ignore[reportPrivateUsage]
    waiting = coordinator._waiting  # pyright: ignore[reportPrivateUsage]
    await passing(rotating.clock, until(lambda: not waiting._offerings))  # pyright: ignore[reportPrivateUsage]
    assert files(tmp_path) == []
    assert await is_free(down)
    await coordinator.drain()
    assert await stored_token(down) == rotating.last


async def test_the_client_whose_token_it_is_hears_of_it(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    """Though another one, for another provider, has read the journal of their store."""
    theirs = RecordKey("other", "alice")
    streams, heard = {name: EventStream() for name in ("acme", "other")}, {name: list[Event]() for name in ("acme", "other")}
    for name, stream in streams.items():
        stream.subscribe(heard[name].append)
    options: dict[str, Any] = {"journal": tmp_path / "journal"}
    before = rotating.elsewhere(down, namespace="other", **options)
    await rotating.stored_expired(down, theirs)
    down.down = True
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, before.get(theirs))
    dies(before)
    down.down = False
    await down.replace(KEY, token_to_dict(rotating.issue()), expected_version=None)
    other = rotating.coordinator(down, namespace="other", events=streams["other"], **options)
    acme = rotating.coordinator(down, namespace="acme", events=streams["acme"], **options)
    await acme.get(KEY)
    await acme.drain()
    assert [type(event) for event in heard["other"]] == [TokenRecovered]
    assert heard["acme"] == []
    assert files(tmp_path) == []
    await other.drain()
