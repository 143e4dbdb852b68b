"""Moving house: everything from one storage to another, while it is in use, verified."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from pauth.errors import ConfigurationError, StorageUnavailable, TokenStorageError
from pauth.storage import CopyReport, MemoryTokenStorage, Record, RecordKey, copy_storage
from pauth.storage.base import CoordinatedTokenStorage, Write
from pauth.storage.files import EncryptedFileStorage
from pauth.testing.clock import ManualClock
from tests.storage.kit import CONFUSABLE_IDS, KEY, OTHER_KEY, BlockingStorage, DictStorage, database, plain

ALICE = RecordKey("n", "alice")


def tokens(number: int) -> dict[str, Any]:
    return {"access_token": f"CANARY-access-{number}", "n": number, "wide": 2**70}


async def fill(storage: CoordinatedTokenStorage, users: Sequence[str]) -> list[RecordKey]:
    keys = [RecordKey(namespace, user) for user in users for namespace in ("", "n")]
    await storage.put_many([Write(key, tokens(number), 0, 1000.5 + number, None, b"of sixteen bytes") for number, key in enumerate(keys)])
    return keys


def facts(records: Sequence[object]) -> list[tuple[object, ...]]:
    found = [each for each in records if isinstance(each, Record)]
    assert len(found) == len(records)
    return [(each.key, dict(each.tokens), each.stored_at, each.expires_at, each.lineage) for each in found]


async def put(storage: CoordinatedTokenStorage, number: int, stored_at: float | None = None, key: RecordKey = ALICE) -> None:
    (written,) = await storage.put_many([Write(key, tokens(number), stored_at=stored_at)])
    assert isinstance(written, Record)


async def number_in(storage: CoordinatedTokenStorage, key: RecordKey = ALICE) -> int | None:
    record = await storage.load(key)
    return None if record is None else plain(record)["n"]


async def test_memory_to_sqlite_to_files_to_memory(tmp_path: Path) -> None:
    first, last = MemoryTokenStorage(clock=ManualClock(1_700_000_000.25)), MemoryTokenStorage()
    keys = await fill(first, CONFUSABLE_IDS)
    reports: list[CopyReport] = []
    async with aclosing(database(tmp_path)) as second, aclosing(EncryptedFileStorage(tmp_path / "tokens", OTHER_KEY)) as third:
        for source, target in ((first, second), (second, third), (third, last)):
            report = await copy_storage(source, target, batch=25, on_progress=reports.append)
            count = len(keys)
            assert report == CopyReport(total=count, checked=count, copied=count, same=count, kept=0, failed=0, removed=0, only_in_target=0)
            assert report.verified
            assert await target.count() == count
    assert facts(await last.get_many(keys)) == facts(await first.get_many(keys))
    assert reports[0].checked == 25


async def test_a_second_copy_writes_nothing_and_one_namespace_stays_alone() -> None:
    source, target = MemoryTokenStorage(), MemoryTokenStorage()
    await fill(source, ["alice", "bob"])
    assert (await copy_storage(source, target, namespace="n")).copied == 2
    assert await target.count("") == 0
    again = await copy_storage(source, target, namespace="n")
    assert (again.copied, again.same, again.total) == (0, 2, 2)


@pytest.mark.parametrize(
    ("in_source", "in_target", "options", "wins"),
    [
        (20.0, 10.0, {}, 1),
        (10.0, 20.0, {}, 2),
        (10.0001, 10.0, {}, 1),
        (10.0, 10.001, {}, 2),
        (10.0, 20.0, {"prefer_source": True}, 1),
    ],
)
async def test_who_was_written_later_wins(in_source: float, in_target: float, options: dict[str, Any], wins: int) -> None:
    source, target = MemoryTokenStorage(), MemoryTokenStorage()
    await put(source, 1, in_source)
    await put(target, 2, in_target)
    report = await copy_storage(source, target, **options)
    assert await number_in(target) == wins
    assert (report.copied, report.kept) == ((1, 0) if wins == 1 else (0, 1))
    record = await target.load(ALICE)
    assert record and record.stored_at == (in_source if wins == 1 else in_target)


def meddling(storage: MemoryTokenStorage, **before: Callable[[int], Awaitable[object]]) -> MemoryTokenStorage:
    """The storage, at which something happens before each call of some methods; what that gives, if anything, is the answer."""
    for name, happen in before.items():

        async def meddle(*arguments: Any, method: Any = getattr(storage, name), happen: Any = happen, calls: Any = itertools.count(1)) -> Any:  # noqa: B008
            outcome = await happen(next(calls))
            return await method(*arguments) if outcome is None else outcome

        setattr(storage, name, meddle)
    return storage


async def test_a_refresh_between_reading_and_writing_is_caught_at_once() -> None:
    source, target = MemoryTokenStorage(), MemoryTokenStorage()
    await put(source, 1, 10.0)

    async def refresh(call: int) -> None:
        if call == 1:
            await put(source, 2, 5.0)  # by a machine whose clock is behind: the copy's own record is overwritten all the same

    report = await copy_storage(source, meddling(target, put_many=refresh))
    assert (await number_in(target), report.copied, report.verified) == (2, 2, True)


async def test_a_logout_between_reading_and_writing_is_carried_over() -> None:
    source, target = MemoryTokenStorage(), MemoryTokenStorage()
    await put(source, 1)

    async def log_out(_: int) -> None:
        await source.remove(ALICE)

    report = await copy_storage(source, meddling(target, put_many=log_out))
    assert (await target.count(), report.removed, report.only_in_target) == (0, 1, 0)


async def test_the_second_pass_catches_what_changed_during_the_first() -> None:
    source, target = MemoryTokenStorage(), MemoryTokenStorage()
    other = RecordKey("n", "bob")
    await put(source, 1, 10.0)
    await put(source, 1, 10.0, other)
    reports: list[CopyReport] = []

    def progress(report: CopyReport) -> None:
        reports.append(report)
        if len(reports) == 2:  # all is copied
            source._replace(Write(ALICE, tokens(5), stored_at=11.0))  # pyright: ignore[reportPrivateUsage]

    report = await copy_storage(source, target, batch=1, on_progress=progress)
    assert (await number_in(target), report.copied, report.same) == (5, 3, 2)


async def test_what_the_target_writes_at_the_same_time_wins_if_it_is_later() -> None:
    source, target = MemoryTokenStorage(), MemoryTokenStorage()
    await put(source, 1, 10.0)

    async def refresh(call: int) -> None:
        if call == 1:
            await put(target, 2, 20.0)

    report = await copy_storage(source, meddling(target, put_many=refresh))
    assert (await number_in(target), report.copied, report.kept) == (2, 0, 1)


@pytest.mark.parametrize(("delete", "left"), [(False, 3), (True, 2)])
async def test_what_the_source_has_no_more_is_reported_or_removed(delete: bool, left: int) -> None:
    clock = ManualClock(1000.0)
    source, target = MemoryTokenStorage(), MemoryTokenStorage()
    await put(source, 1, 10.0)
    await put(target, 2, 20.0, RecordKey("n", "logged out of the source"))
    await put(target, 3, 1000.0, RecordKey("n", "logged in at the target since"))
    report = await copy_storage(source, target, delete_missing=delete, clock=clock)
    assert await target.count() == left
    assert (report.removed, report.only_in_target) == (3 - left, left - 1)


@pytest.mark.parametrize("make", [DictStorage, BlockingStorage])
async def test_from_a_storage_of_three_methods_by_the_users_ids(make: Callable[[], Any], tmp_path: Path) -> None:
    source = make()
    for number, user in enumerate(CONFUSABLE_IDS[:10]):
        source.saved[user] = tokens(number)
    async with aclosing(database(tmp_path)) as target:
        await put(target, 99, key=RecordKey("client", "only there"))
        users = (*CONFUSABLE_IDS[:10], "unknown", "only there")
        report = await copy_storage(source, target, users=users, namespace="client", batch=4)
        assert report == CopyReport(total=12, checked=12, copied=10, same=10, kept=0, failed=0, removed=0, only_in_target=1)
        for number, user in enumerate(CONFUSABLE_IDS[:10]):
            record = await target.load(RecordKey("client", user))
            assert plain(record) == tokens(number)
            assert record and record.stored_at > 1_700_000_000  # when it was copied: nobody knows more
        source.saved[CONFUSABLE_IDS[0]] = tokens(50)
        kept = await copy_storage(source, target, users=users, namespace="client")
        assert (kept.copied, kept.kept) == (0, 1)  # which is newer cannot be told
        forced = await copy_storage(source, target, users=users, namespace="client", prefer_source=True)
        assert (forced.copied, forced.kept) == (1, 0)


async def test_to_a_storage_of_three_methods() -> None:
    source, target = MemoryTokenStorage(), DictStorage()
    await source.save_token("alice", tokens(1))
    report = await copy_storage(source, target)
    assert (report.copied, report.same, report.verified) == (1, 1, True)
    assert target.saved["alice"]["n"] == 1


async def test_what_cannot_be_told_apart_or_listed_is_refused(tmp_path: Path) -> None:
    memory = MemoryTokenStorage()
    with pytest.raises(ConfigurationError, match=r"DictStorage.*users=\[\.\.\.\]"):
        await copy_storage(DictStorage(), memory)
    with pytest.raises(ConfigurationError, match="same store"):
        await copy_storage(memory, memory)
    async with aclosing(database(tmp_path)) as one, aclosing(database(tmp_path, keys=OTHER_KEY)) as other:
        with pytest.raises(ConfigurationError, match="reencrypt"):
            await copy_storage(one, other)
    with pytest.raises(ConfigurationError, match="limit"):
        await copy_storage(memory, MemoryTokenStorage(), batch=0)


async def test_what_cannot_be_read_or_written_fails_alone_and_is_named(tmp_path: Path) -> None:
    bob, carol = RecordKey("", "bob"), RecordKey("", "carol")
    failures: list[str] = []
    async with aclosing(database(tmp_path)) as source, aclosing(database(tmp_path, name="target.db")) as target:
        for user in ("alice", "bob", "carol"):
            await source.save_token(user, tokens(1))
    async with aclosing(database(tmp_path, keys=OTHER_KEY)) as source, aclosing(database(tmp_path, name="target.db", keys=OTHER_KEY)) as target:
        await source.save_token("bob", tokens(2))
        await source.save_token("carol", tokens(3))
        await target.save_token("bob", tokens(4))
    async with aclosing(database(tmp_path, keys=OTHER_KEY)) as source, aclosing(database(tmp_path, name="target.db")) as target:
        report = await copy_storage(source, target, on_failure=lambda key, _: failures.append(key.user_id))
        assert (report.copied, report.same, report.failed, report.verified) == (1, 1, 2, False)
        assert sorted(set(failures)) == ["alice", "bob"]  # unreadable in the source, unreadable in the target
        assert await number_in(target, carol) == 3
    async with aclosing(database(tmp_path, name="target.db", keys=OTHER_KEY)) as target:
        assert await number_in(target, bob) == 4  # as it was


async def test_a_record_that_alone_cannot_be_written_fails_alone() -> None:
    source, target = MemoryTokenStorage(), MemoryTokenStorage()
    await put(source, 1)

    async def refuse(_: int) -> list[TokenStorageError]:
        return [TokenStorageError("too large")]

    report = await copy_storage(source, meddling(target, put_many=refuse))
    assert (report.copied, report.failed) == (0, 1)


async def test_a_record_that_never_rests_is_reported_and_the_copy_ends() -> None:
    source, target = MemoryTokenStorage(), MemoryTokenStorage()
    await put(source, 1)

    async def refresh(call: int) -> None:
        await put(source, call + 1)

    report = await copy_storage(source, meddling(target, put_many=refresh))
    assert (report.failed, report.verified) == (1, False)


@pytest.mark.parametrize("where", ["get_many", "put_many"])
async def test_a_store_that_does_not_answer_ends_it_and_the_next_call_goes_on(where: str) -> None:
    source, target = MemoryTokenStorage(), MemoryTokenStorage()
    await fill(source, ["alice", "bob"])

    async def fail(call: int) -> list[StorageUnavailable] | None:
        return [StorageUnavailable("gone")] if call == 3 else None

    with pytest.raises(StorageUnavailable):
        await copy_storage(source, meddling(target, **{where: fail}), batch=1)
    assert 0 < await target.count() < 4
    report = await copy_storage(source, target)
    assert (await target.count(), report.same) == (4, 4)


async def test_copying_beside_writers_of_the_source_loses_nothing(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as source, aclosing(EncryptedFileStorage(tmp_path / "tokens", KEY)) as target:
        keys = await fill(source, [f"user-{number}" for number in range(6)])
        stop = asyncio.Event()

        async def write(key: RecordKey) -> None:
            number = 100
            while not stop.is_set():
                await put(source, number, key=key)
                number += 1

        writers = [asyncio.create_task(write(key)) for key in keys[:3]]
        await copy_storage(source, target, batch=4)
        stop.set()
        await asyncio.gather(*writers)
        assert (await copy_storage(source, target)).verified  # the last one, when the programs have changed over
        assert facts(await target.get_many(keys)) == facts(await source.get_many(keys))


async def test_a_record_with_an_expiry_is_copied_to_a_class_of_three_methods_once() -> None:
    source, target = MemoryTokenStorage(), DictStorage()
    await source.replace(RecordKey("", "alice"), tokens(1), expected_version=0, expires_at=5.0, lineage=b"of sixteen bytes")
    report = await copy_storage(source, target)
    assert (report.copied, report.same, report.kept, report.failed) == (1, 1, 0, 0)
    assert (await copy_storage(source, target)).copied == 0
