"""Records that cannot be read, in listings: they stop none, and none passes them over in silence."""

from __future__ import annotations

import logging
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.errors import RecordTampered, UnknownEncryptionKey
from pauth.storage import EncryptionKey, MemoryTokenStorage, Record, RecordKey, copy_storage, reencrypt
from pauth.storage.base import Write
from pauth.storage.files import EncryptedFileStorage
from tests.storage.files.kit import files, token_files
from tests.storage.kit import KEY, OTHER_KEY

USERS = [RecordKey("a", f"user {number}") for number in range(12)]


async def fill(storage: EncryptedFileStorage) -> None:
    await storage.put_many([Write(key, {"n": number}, 0, float(number)) for number, key in enumerate(USERS)])


async def listed(storage: EncryptedFileStorage, namespace: str | None = None) -> set[RecordKey]:
    return {item.key for item in (await storage.list_users(namespace)).items}


async def expiring(storage: EncryptedFileStorage, *, limit: int = 1000) -> list[float]:
    moments: list[float] = []
    cursor: str | None = None
    while True:
        page = await storage.list_expiring(1e9, cursor=cursor, limit=limit)
        moments += [item.expires_at for item in page.items]
        if (cursor := page.next_cursor) is None:
            return moments


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.name == "pauth.storage"]
    caplog.clear()
    return found


@pytest.mark.parametrize("wreck", ["a flipped bit in the tokens", "a flipped bit in the tag", "a newer format"])
async def test_whose_a_broken_record_is_can_be_told_still(tmp_path: Path, caplog: pytest.LogCaptureFixture, wreck: str) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await fill(storage)
        for path in token_files(tmp_path)[:3]:
            raw = bytearray(path.read_bytes())
            raw[{"a flipped bit in the tokens": -40, "a flipped bit in the tag": -1, "a newer format": 4}[wreck]] ^= 2
            path.write_bytes(raw)
        assert await listed(storage) == await listed(storage, "a") == set(USERS)
        assert await storage.count() == await storage.count("a") == 12
        assert warnings_of(caplog) == []
        assert len(await expiring(storage)) == 9
        assert "records in the token folder that cannot be read: 3" in warnings_of(caplog)[0]
        report = await reencrypt(storage)
        assert (report.checked, report.failed, report.complete) == (12, 3, False)
        copied = await copy_storage(storage, MemoryTokenStorage())
        assert (copied.checked, copied.copied, copied.failed) == (12, 9, 3)


@pytest.mark.parametrize("plaintext", [True, False])
@pytest.mark.parametrize("wreck", ["empty", "another's", "noise", "a pipe", "a header"])
async def test_a_record_of_nobody_known_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wreck: str, *, plaintext: bool
) -> None:
    with pytest.warns(UserWarning, match="insecure_plaintext") if plaintext else caplog.at_level(logging.INFO):
        storage = EncryptedFileStorage(tmp_path / "tokens", insecure_plaintext=True) if plaintext else files(tmp_path)
    async with aclosing(storage):
        await fill(storage)
        victim, other = token_files(tmp_path)[3:5]
        if wreck == "a pipe":
            victim.unlink()
            os.mkfifo(victim, 0o600)
        else:
            header = victim.read_bytes()[:35]  # which claims lengths and an expiry
            victim.write_bytes({"empty": b"", "another's": other.read_bytes(), "noise": b"noise" * 50, "a header": header}[wreck])
        assert len(await listed(storage)) == len(await listed(storage, "a")) == 11
        assert (await storage.count(), await storage.count("a")) == (12, 11)
        told = warnings_of(caplog)
        assert len(told) == 3
        assert all("cannot be read: 1;" in each and victim.stem not in each for each in told)
        assert len(await expiring(storage, limit=2)) == 11
        copied = await copy_storage(storage, MemoryTokenStorage())
        assert (copied.total, copied.checked, copied.failed, copied.verified) == (12, 11, 1, False)
        if not plaintext:
            report = await reencrypt(storage)
            assert (report.total, report.checked, report.failed, report.complete) == (12, 11, 1, False)


async def test_pages_of_what_expires_go_on_past_owners_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Others write with a key that this process was not given yet. What it can refresh, it does."""
    async with aclosing(files(tmp_path)) as storage:
        await fill(storage)
    async with aclosing(files(tmp_path, key=[OTHER_KEY, KEY])) as newer:
        await newer.put_many([Write(key, {}, None, float(number)) for number, key in enumerate(USERS) if number in (0, 3, 4, 5, 11)])
    async with aclosing(files(tmp_path, key=[KEY, OTHER_KEY])) as both:
        assert len(await listed(both)) == 12  # and the folder's secret is under the older key again
    assert KEY.key_id in (tmp_path / "tokens" / "folder").read_bytes()
    async with aclosing(files(tmp_path)) as storage:
        for limit in (1, 2, 3, 12):
            assert await expiring(storage, limit=limit) == [1.0, 2.0, 6.0, 7.0, 8.0, 9.0, 10.0]
        assert warnings_of(caplog)
        for listing in (storage.list_users(), storage.count("a")):
            with pytest.raises(UnknownEncryptionKey):  # it would look complete otherwise, to who rotates keys above all
                await listing
        assert await storage.count() == 12


async def test_a_re_encryption_leaves_nothing_of_the_old_key(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await fill(storage)
    async with aclosing(files(tmp_path, key=[OTHER_KEY, KEY])) as storage:
        report = await reencrypt(storage)
        assert (report.rewritten, report.complete) == (12, True)
        (record,) = await storage.get_many(USERS[:1])
        assert isinstance(record, Record)
        await storage.remove(USERS[0])
        assert await storage.reencrypt_many([record]) == [False]
    assert not any(KEY.key_id in path.read_bytes() for path in token_files(tmp_path))


async def test_reading_it_still_fails(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path, key=EncryptionKey.generate())) as storage:
        await fill(storage)
        token_files(tmp_path)[0].write_bytes(b"pFil")
        outcomes = await storage.get_many(USERS)
        assert sum(isinstance(outcome, RecordTampered) for outcome in outcomes) == 1
