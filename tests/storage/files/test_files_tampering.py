"""Bits that flip, files cut short, swapped and rolled back are found, every one (VC-2, VC-6)."""

from __future__ import annotations

import shutil
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.errors import RecordTampered, RecordUnreadable, UnsupportedRecord
from pauth.storage.codec import Codec
from pauth.storage.driver import Put
from pauth.storage.files.leases import MachineClock
from pauth.storage.files.records import Records
from pauth.storage.keys import Keyring
from pauth.testing.clock import ManualClock
from tests.storage.files.kit import ALICE, BOB, files, found, open_root, token_files
from tests.storage.kit import KEY, TOKENS


def records(folder: Path) -> Records:
    return Records(open_root(folder), Codec(Keyring([KEY])), MachineClock())


def put(row: bytes, *, expected_version: int | None = None) -> Put:
    return Put(row, b"space", b"user", expected_version, None, 1_000, 2_000, b"l" * 16, KEY.key_id, memoryview(b"data" * 8))


def test_each_flipped_byte_of_a_record_is_found_vc_6(tmp_path: Path) -> None:
    row = b"r" * 32
    driver = records(tmp_path / "tokens")
    driver.put(put(row))
    (path,) = token_files(tmp_path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x40]) + whole[position + 1 :])
        with pytest.raises(RecordUnreadable):
            driver.get(row)
        assert driver.list_users(None, b"", 10) == []
        with pytest.raises(RecordUnreadable):
            driver.put(put(row, expected_version=1))
    path.write_bytes(whole)
    same = driver.get(row)
    assert same is not None
    assert (same.version, same.stored_at, same.expires_at, same.lineage, bytes(same.data)) == (1, 1_000, 2_000, b"l" * 16, b"data" * 8)
    driver.close()


def test_each_shortened_record_is_found_vc_6(tmp_path: Path) -> None:
    row = b"r" * 32
    driver = records(tmp_path / "tokens")
    driver.put(put(row))
    (path,) = token_files(tmp_path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordTampered):
            driver.get(row)
        assert driver.list_expiring(10_000, (0, b""), 10) == []
    path.write_bytes(whole + b"\0")
    with pytest.raises(RecordTampered):
        driver.get(row)
    driver.close()


def test_a_newer_file_format_is_refused_not_overwritten_p18(tmp_path: Path) -> None:
    row = b"r" * 32
    driver = records(tmp_path / "tokens")
    driver.put(put(row))
    (path,) = token_files(tmp_path)
    whole = path.read_bytes()
    newer = whole[:4] + b"\2" + whole[5:]
    path.write_bytes(newer)
    with pytest.raises(UnsupportedRecord, match="file format 2"):
        driver.get(row)
    with pytest.raises(UnsupportedRecord):
        driver.put(put(row))
    assert path.read_bytes() == newer
    driver.close()


async def test_files_swapped_between_users_are_found_vc_2(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.replace(ALICE, TOKENS, expected_version=0)
        await storage.replace(BOB, {"access_token": "CANARY-bob"}, expected_version=0)
        one, two = token_files(tmp_path)
        content = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(content)
        for key in (ALICE, BOB):
            with pytest.raises(RecordTampered):
                await storage.load(key)
        assert (await storage.count("provider-a"), await storage.count()) == (0, 2)


async def test_a_file_of_another_folder_or_kind_is_found_vc_2(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path / "one")) as storage:
        await storage.replace(ALICE, TOKENS, expected_version=0)
    async with aclosing(files(tmp_path / "two")) as storage:
        await storage.replace(ALICE, TOKENS, expected_version=0)
        shutil.copyfile(token_files(tmp_path / "one")[0], token_files(tmp_path / "two")[0])
        with pytest.raises(RecordTampered):
            await storage.load(ALICE)
        await storage.put_pending("login", {}, expires_at=4e9)
        await storage.take_lease(BOB, "owner", ttl=60)
        for name in ("*.login", "leases"):
            found(tmp_path / "two", name)[0].write_bytes(token_files(tmp_path / "two")[0].read_bytes())
        with pytest.raises(RecordTampered):
            await storage.take_pending("login")
        with pytest.raises(RecordTampered):
            await storage.extend_lease(BOB, "owner", ttl=60)


async def test_a_damaged_record_can_be_overwritten_and_versions_go_on_p6(tmp_path: Path) -> None:
    clock = ManualClock()
    async with aclosing(files(tmp_path, clock=clock)) as storage:
        await storage.replace(ALICE, TOKENS, expected_version=0)
        (path,) = token_files(tmp_path)
        path.write_bytes(b"\0" * 300)
        assert await storage.replace(ALICE, {"n": 1}, expected_version=0) is None  # there is one
        written = await storage.replace(ALICE, {"n": 1}, expected_version=None)
        assert written is not None
        assert written.version > 1_000_000  # which no writer from before can expect
        assert await storage.load(ALICE) == written
        path.write_bytes(path.read_bytes()[:-1])
        assert await storage.remove(ALICE) is True
        again = await storage.replace(ALICE, {"n": 2}, expected_version=0)
        assert again is not None
        assert again.version > written.version


async def test_a_damaged_tombstone_lets_versions_go_on_p6(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.replace(ALICE, TOKENS, expected_version=0)
        await storage.remove(ALICE)
        found(tmp_path, "*.gone")[0].write_bytes(b"")
        again = await storage.replace(ALICE, {"n": 2}, expected_version=0)
        assert again is not None
        assert again.version > 1_000_000
