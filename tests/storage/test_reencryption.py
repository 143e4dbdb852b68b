"""A whole store to the newest key, while it is in use (VC-5, P16)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from pauth.errors import ConfigurationError, StorageUnavailable, TokenStorageError, UnknownEncryptionKey
from pauth.storage import EncryptionKey, MemoryTokenStorage, Record, RecordKey, keys_in_use, reencrypt
from pauth.storage.base import Write
from pauth.storage.driven import DrivenTokenStorage
from pauth.storage.files import EncryptedFileStorage
from tests.storage.kit import KEY, OTHER_KEY, DictStorage, database, plain
from tests.support.canary import leaks_in_error

NEW = OTHER_KEY
Open = Callable[..., DrivenTokenStorage]


@pytest.fixture(params=["sqlite", "files"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens one store with the given keys."""
    if request.param == "sqlite":
        return lambda *keys: database(tmp_path, keys=keys)
    return lambda *keys: EncryptedFileStorage(tmp_path / "tokens", keys)


def tokens(number: int) -> dict[str, Any]:
    return {"access_token": f"CANARY-access-{number}", "n": number}


async def fill(storage: DrivenTokenStorage, count: int) -> list[RecordKey]:
    keys = [RecordKey("b" if number % 3 else "a", f"user-{number}") for number in range(count)]
    writes = [Write(key, tokens(number), None, 1000.5 + number, None, bytes([number]) * 16) for number, key in enumerate(keys)]
    assert all(isinstance(written, Record) for written in await storage.put_many(writes))
    return keys


def facts(records: Sequence[object]) -> list[tuple[object, ...]]:
    found = [each for each in records if isinstance(each, Record)]
    assert [each for each in records if not isinstance(each, Record)] == []
    return [(each.key, dict(each.tokens), each.version, each.stored_at, each.expires_at, each.lineage) for each in found]


async def test_everything_is_rewritten_nothing_else_changes_and_the_old_key_may_go_p16(opened: Open) -> None:
    async with aclosing(opened(KEY)) as storage:
        keys = await fill(storage, 20)
        before = facts(await storage.get_many(keys))
    reports: list[Any] = []
    async with aclosing(opened(NEW, KEY)) as storage:
        assert facts(await storage.get_many(keys)) == before
        report = await reencrypt(storage, batch=6, on_progress=reports.append)
        assert (report.total, report.checked, report.rewritten, report.failed, report.remaining, report.complete) == (20, 20, 20, 0, 0, True)
        again = await reencrypt(storage)
        assert (again.checked, again.rewritten) == (20, 0)
    assert [each.checked for each in reports[:4]] == [6, 12, 18, 20]
    assert reports[3] == report
    async with aclosing(opened(NEW)) as storage:
        assert facts(await storage.get_many(keys)) == before
        page = await storage.list_users()
        assert {item.key_id for item in page.items} == {NEW.key_id.hex()}
        written = await storage.replace(keys[0], tokens(0), expected_version=1)
        assert written and written.version == 2


async def test_one_namespace_alone(opened: Open) -> None:
    async with aclosing(opened(KEY)) as storage:
        keys = await fill(storage, 9)
    async with aclosing(opened(NEW, KEY)) as storage:
        report = await reencrypt(storage, namespace="a")
        assert (report.total, report.rewritten) == (3, 3)
        ids = {item.key.namespace: item.key_id for item in (await storage.list_users()).items}
    assert ids == {"a": NEW.key_id.hex(), "b": KEY.key_id.hex()}
    assert len(keys) == 9


async def test_saves_and_refreshes_beside_it_are_never_lost_vc_5(opened: Open) -> None:
    """Writers with the old key and the new one in front; each counts its records up by compare-and-set on the version."""
    async with aclosing(opened(KEY)) as storage:
        keys = await fill(storage, 12)
    stop = asyncio.Event()

    async def count_up(storage: DrivenTokenStorage, mine: Sequence[RecordKey]) -> int:
        for done, key in enumerate(itertools.cycle(mine)):
            record = await storage.load(key)
            assert record is not None
            # nobody else writes these: a re-encryption in between must not make it fail
            assert await storage.replace(key, {"n": plain(record)["n"] + 1}, expected_version=record.version, lineage=record.lineage)
            if stop.is_set() and done >= 12:
                return done + 1
        raise AssertionError

    async with aclosing(opened(KEY, NEW)) as behind, aclosing(opened(NEW, KEY)) as storage:
        writers = [asyncio.create_task(count_up(behind, keys[:4])), asyncio.create_task(count_up(storage, keys[4:8]))]
        await reencrypt(storage, batch=5)
        stop.set()
        done = sum(await asyncio.gather(*writers))
        assert (await reencrypt(storage)).complete
    async with aclosing(opened(NEW)) as storage:
        found = facts(await storage.get_many(keys))
        assert sum(cast("dict[str, int]", members)["n"] for _, members, *_ in found) == sum(range(12)) + done
        assert sum(cast("int", version) for _, _, version, *_ in found) == 12 + done


async def test_who_opened_the_store_with_the_old_key_in_front_brings_nothing_back_for_good_vc_5(opened: Open) -> None:
    """A process that was not given the new order yet. With one more re-encryption the old key may go, though no record is under it."""
    async with aclosing(opened(KEY)) as storage:
        keys = await fill(storage, 3)
    async with aclosing(opened(NEW, KEY)) as storage:
        assert (await reencrypt(storage)).complete
        async with aclosing(opened(KEY, NEW)) as behind:
            assert len(facts(await behind.get_many(keys))) == 3
        again = await reencrypt(storage)
        assert (again.rewritten, again.complete) == (0, True)
    async with aclosing(opened(NEW)) as storage:
        assert len(facts(await storage.get_many(keys))) == 3


async def test_what_cannot_be_read_is_left_counted_and_named_vc_6(tmp_path: Path) -> None:
    lost = EncryptionKey.generate()
    async with aclosing(database(tmp_path, keys=lost)) as storage:
        await storage.save_token("mallory", tokens(1))
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", tokens(2))
    failures: list[tuple[str, TokenStorageError]] = []
    async with aclosing(database(tmp_path, keys=[NEW, KEY])) as storage:
        report = await reencrypt(storage, on_failure=lambda key, error: failures.append((key.user_id, error)))
        assert (report.total, report.rewritten, report.failed, report.complete) == (2, 1, 1, False)
    assert {user_id for user_id, _ in failures} == {"mallory"}
    assert isinstance(failures[0][1], UnknownEncryptionKey)
    async with aclosing(database(tmp_path, keys=lost)) as storage:
        assert await storage.get_token("mallory") == tokens(1)


async def test_without_a_listener_failures_are_counted_all_the_same(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", tokens(2))
    async with aclosing(database(tmp_path, keys=NEW)) as storage:
        assert (await reencrypt(storage)).failed == 1


class Meddling:
    """Stands between a re-encryption and its storage's driver."""

    def __init__(self, storage: DrivenTokenStorage, before: Callable[[], Awaitable[object]]) -> None:
        self._driver: Any = storage._driver  # pyright: ignore[reportPrivateUsage]
        self._before = before
        storage._driver = cast("Any", self)  # pyright: ignore[reportPrivateUsage]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def rewrite_many(self, puts: Sequence[Any]) -> Sequence[Any]:
        outcome = await self._before()
        if isinstance(outcome, Exception):
            return [outcome for _ in puts]
        answers: Sequence[Any] = await self._driver.rewrite_many(puts)
        return answers


async def test_a_record_deleted_in_between_stays_deleted(opened: Open) -> None:
    async with aclosing(opened(KEY)) as old:
        (key,) = await fill(old, 1)
    async with aclosing(opened(NEW, KEY)) as storage:
        Meddling(storage, lambda: storage.remove(key))
        report = await reencrypt(storage)
        assert (report.rewritten, report.remaining, report.complete) == (0, 0, True)
        assert await storage.load(key) is None


async def test_a_record_that_an_old_process_writes_all_the_time_is_reported_and_ends(opened: Open) -> None:
    async with aclosing(opened(KEY, NEW)) as behind, aclosing(opened(NEW, KEY)) as storage:
        (key,) = await fill(behind, 1)
        Meddling(storage, lambda: behind.replace(key, tokens(7), expected_version=None))
        report = await reencrypt(storage)
        assert (report.rewritten, report.failed, report.remaining, report.complete) == (0, 0, 1, False)
        assert plain(await storage.load(key)) == tokens(7)


@pytest.mark.parametrize("raised", [False, True])
async def test_a_store_that_does_not_answer_ends_it_with_a_retryable_error(raised: bool, tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as old:
        await fill(old, 1)

    async def fail() -> Exception:
        if raised:
            raise StorageUnavailable("gone")
        return StorageUnavailable("gone")

    async with aclosing(database(tmp_path, keys=[NEW, KEY])) as storage:
        Meddling(storage, fail)
        with pytest.raises(StorageUnavailable) as caught:
            await reencrypt(storage)
    assert caught.value.retryable
    assert not list(leaks_in_error(caught.value))


async def test_a_row_that_alone_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as old:
        await fill(old, 2)

    async def fail() -> Exception:
        return TokenStorageError("too large")

    async with aclosing(database(tmp_path, keys=[NEW, KEY])) as storage:
        Meddling(storage, fail)
        assert (await reencrypt(storage)).failed == 2


async def test_what_is_not_json_as_pauth_writes_it_fails_alone(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        bad = Record(RecordKey("", "bad"), {"n": float("nan")}, 1, 0.0)
        (key,) = await fill(storage, 1)
        good = await storage.load(key)
        assert good is not None
        answers = await storage.reencrypt_many([bad, good])
        assert isinstance(answers[0], TokenStorageError)
        assert answers[1] is True
        assert isinstance((await storage.reencrypt_many([bad]))[0], TokenStorageError)


async def test_who_is_cancelled_leaves_every_record_readable(opened: Open) -> None:
    async with aclosing(opened(KEY)) as storage:
        keys = await fill(storage, 8)
    async with aclosing(opened(NEW, KEY)) as storage:
        entered = asyncio.Event()

        async def enter() -> None:
            entered.set()

        Meddling(storage, enter)
        task = asyncio.create_task(reencrypt(storage, batch=3))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [fact[1] for fact in facts(await storage.get_many(keys))] == [tokens(number) for number in range(8)]
        assert (await reencrypt(storage)).complete


async def test_storages_that_do_not_encrypt_are_refused(tmp_path: Path) -> None:
    for storage in (MemoryTokenStorage(), DictStorage()):
        with pytest.raises(ConfigurationError, match="does not encrypt"):
            await reencrypt(storage)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="insecure_plaintext"):
        plaintext = EncryptedFileStorage(tmp_path / "plain", insecure_plaintext=True)
    with pytest.raises(ConfigurationError, match="copy_storage"):
        await reencrypt(plaintext)
    await plaintext.aclose()


async def test_a_store_that_an_old_process_writes_to_is_never_complete_vc_5(opened: Open) -> None:
    """Whoever removed the old key on our word would lose what the other process wrote since."""
    async with aclosing(opened(KEY, NEW)) as old, aclosing(opened(NEW, KEY)) as new:
        keys = await fill(old, 12)

        class Laggard(Meddling):
            async def rewrite_many(self, puts: Sequence[Any]) -> Sequence[Any]:
                answers: Sequence[Any] = await self._driver.rewrite_many(puts)
                for key in keys:
                    await old.replace(key, tokens(1), expected_version=None)
                return answers

        Laggard(new, asyncio.Event().wait)
        report = await reencrypt(new)
        assert (report.complete, report.remaining) == (False, 12)
        assert await keys_in_use(new) == {KEY.key_id.hex(): 12}
        assert await keys_in_use(new, namespace="a", batch=3) == {KEY.key_id.hex(): 4}
