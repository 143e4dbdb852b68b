"""Getting a rotated token into the store: over its predecessor and over nothing else, again and again (P4, P6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pauth.core.token import token_to_dict
from pauth.errors import StorageUnavailable
from pauth.refresh.saving import Saver, Unsaved
from pauth.refresh.stored import StoredGrant, write_grant
from pauth.storage import MemoryTokenStorage
from pauth.testing import ManualClock
from tests.refresh.faulty import FaultyStorage, Outage, Write, lose, refuse
from tests.refresh.journal_kit import CRYPTO, Database
from tests.refresh.kit import KEY, passing, stored_token
from tests.refresh.rotating import Rotating

ONE, TWO, OTHER = b"lineage number 1", b"lineage number 2", b"somebody else's."


@pytest.fixture
async def waiting(rotating: Rotating, faulty: FaultyStorage) -> Unsaved:
    """A token whose predecessor is on record, as version 1."""
    await faulty.replace(KEY, token_to_dict(rotating.issue()), expected_version=0, lineage=ONE)
    return Unsaved("a1", ONE, 1, TWO, rotating.issue(), faulty)


@pytest.fixture
def saver(faulty: FaultyStorage, clock: ManualClock) -> Saver:
    return Saver(faulty, journal=None, files={}, clock=clock)


async def write(saver: Saver, token: Unsaved) -> Any:
    return await saver.write(KEY, token, expires_at=token.token.expires_at)


async def test_it_is_written_over_its_predecessor(saver: Saver, waiting: Unsaved, faulty: FaultyStorage) -> None:
    record = await write(saver, waiting)
    assert (record.version, record.lineage, record.expires_at) == (2, TWO, waiting.token.expires_at)
    assert await stored_token(faulty) == waiting.token


@pytest.mark.parametrize("notes", [1, 5, 19])
async def test_it_is_written_over_notes_that_came_since(
    saver: Saver, waiting: Unsaved, faulty: FaultyStorage, rotating: Rotating, notes: int
) -> None:
    """The refresh token is still the same, so it is its true successor, however late."""
    for version in range(1, notes + 1):
        await faulty.replace(KEY, {"access_token": "CANARY-noted"}, expected_version=version, lineage=ONE)
    assert (await write(saver, waiting)).version == notes + 2


@pytest.mark.parametrize("ended", [None, "ambiguous_rotation", "invalid_grant"])
async def test_it_brings_back_a_grant_that_was_given_up_meanwhile(saver: Saver, waiting: Unsaved, faulty: FaultyStorage, ended: str | None) -> None:
    record = await faulty.load(KEY)
    assert record is not None
    grant = StoredGrant(waiting.token, ended)
    await faulty.replace(KEY, write_grant(grant), expected_version=1, lineage=ONE)
    assert (await write(saver, waiting)).lineage == TWO
    assert await stored_token(faulty) == waiting.token


@pytest.mark.parametrize("lineage", [OTHER, None])
async def test_it_is_not_written_over_anything_else(
    saver: Saver, waiting: Unsaved, faulty: FaultyStorage, rotating: Rotating, lineage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    login = rotating.issue()
    await faulty.replace(KEY, token_to_dict(login), expected_version=None, lineage=lineage)
    assert await write(saver, waiting) is None
    assert await stored_token(faulty) == login
    assert "a login, a revocation or another refresh has come before it" in caplog.text


async def test_it_does_not_bring_back_a_record_that_is_gone(saver: Saver, waiting: Unsaved, faulty: FaultyStorage) -> None:
    await faulty.remove(KEY)
    assert await write(saver, waiting) is None
    assert await faulty.load(KEY) is None


async def test_after_a_lost_answer_it_finds_its_own_record(saver: Saver, waiting: Unsaved, faulty: FaultyStorage) -> None:
    faulty.faults.append(lose)
    with pytest.raises(StorageUnavailable):
        await write(saver, waiting)
    record = await write(saver, waiting)
    assert (record.version, record.lineage) == (2, TWO)


async def test_a_record_that_changes_all_the_time_is_an_error(saver: Saver, waiting: Unsaved, faulty: FaultyStorage) -> None:
    async def noted_before(work: Write) -> Any:
        record = await MemoryTokenStorage.load(faulty, KEY)
        assert record is not None
        await MemoryTokenStorage.replace(faulty, KEY, record.tokens, expected_version=record.version, lineage=ONE)
        faulty.faults.append(noted_before)
        return await work()

    faulty.faults.append(noted_before)
    with pytest.raises(StorageUnavailable, match="changed all the time"):
        await write(saver, waiting)


async def test_it_is_offered_six_times_with_growing_pauses(saver: Saver, waiting: Unsaved, faulty: FaultyStorage, clock: ManualClock) -> None:
    outage = Outage(faulty.faults)
    moments: list[float] = []
    sleep = clock.sleep

    async def spy(seconds: float) -> None:
        moments.append(seconds)
        await sleep(seconds)

    clock.sleep = spy  # type: ignore[method-assign]
    with pytest.raises(StorageUnavailable, match="is kept"):
        await passing(clock, saver.insist(KEY, waiting, expires_at=None))
    assert outage.refused == 6
    assert moments == [0.1, 0.2, 0.4, 0.8, 1.6]


async def test_it_is_taken_as_soon_as_the_store_takes_it(saver: Saver, waiting: Unsaved, faulty: FaultyStorage, clock: ManualClock) -> None:
    faulty.faults.extend([refuse, refuse])
    record = await passing(clock, saver.insist(KEY, waiting, expires_at=None))
    assert record.lineage == TWO
    assert not faulty.faults


async def test_a_storage_that_cannot_seal_has_no_journal(saver: Saver, waiting: Unsaved) -> None:
    assert not saver.has_journal
    assert not await saver.spill(KEY, waiting)
    assert not saver.journaled(waiting)
    assert await saver.find("a1") is None
    assert await saver.spilled() == []


async def test_without_a_journal_there_is_nothing_in_it(saver: Saver, waiting: Unsaved) -> None:
    assert not saver.has_journal
    assert not await saver.spill(KEY, waiting)
    assert await saver.spilled() == []
    assert await saver.find(waiting.attempt_id) is None


async def test_a_journal_that_cannot_be_read_is_told_and_has_nothing(clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The store itself may well work."""
    database = Database(tmp_path, clock, encryption_key=CRYPTO)
    (tmp_path / "journal").mkdir(mode=0o777)
    (tmp_path / "journal").chmod(0o777)  # anybody may have put files there
    saver = Saver(database, journal=tmp_path / "journal", files={}, clock=clock)
    assert await saver.spilled() == []
    assert await saver.find("a1") is None
    assert caplog.text.count("the journal of unsaved tokens cannot be read") == 2
    await database.aclose()
