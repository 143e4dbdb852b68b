"""Leases: one holder, by the machine's clock, with fences that only go up; also over a reboot and a change of machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.storage.codec import Codec
from pauth.storage.driver import Lease
from pauth.storage.files.leases import LeaseTable, MachineClock
from pauth.storage.files.records import Records
from pauth.storage.keys import Keyring
from tests.storage.files.kit import ALICE, BOB, files, open_root, run
from tests.storage.kit import KEY

ROW = b"r" * 32


class LeaseTime:
    """A machine that can be rebooted."""

    def __init__(self) -> None:
        self.boot_id = b"b" * 16
        self.since_boot = 500_000
        self.now = 1_700_000_000_000

    def boot(self) -> tuple[bytes, int]:
        return self.boot_id, self.since_boot

    def wall(self) -> int:
        return self.now

    def pass_by(self, milliseconds: int) -> None:
        self.since_boot += milliseconds
        self.now += milliseconds

    def reboot(self, *, taking: int = 0) -> None:
        self.boot_id = bytes(byte + 1 for byte in self.boot_id)
        self.since_boot = 0
        self.now += taking


@pytest.fixture
def time() -> LeaseTime:
    return LeaseTime()


@pytest.fixture
def records(tmp_path: Path, time: LeaseTime) -> Iterator[Records]:
    made = Records(open_root(tmp_path / "tokens"), Codec(Keyring([KEY])), time)
    yield made
    made.close()


def test_one_holder_until_it_runs_out(records: Records, time: LeaseTime) -> None:
    assert records.take_lease(ROW, b"one", 1_000) == Lease(1, 1_000)
    time.pass_by(999)
    assert records.take_lease(ROW, b"two", 1_000) is None
    assert records.extend_lease(ROW, b"two", 1_000) is False
    assert records.release_lease(ROW, b"two") is False
    assert records.take_lease(ROW, b"one", 1_000) == Lease(1, 1_000)
    time.pass_by(999)
    assert records.extend_lease(ROW, b"one", 2_000) is True
    time.pass_by(1_999)
    assert records.take_lease(ROW, b"two", 1_000) is None
    time.pass_by(1)
    assert records.extend_lease(ROW, b"one", 1_000) is False
    assert records.release_lease(ROW, b"one") is False
    assert records.take_lease(ROW, b"two", 1_000) == Lease(2, 1_000)


def test_rows_of_one_shard_do_not_touch_each_other(records: Records) -> None:
    rows = [bytes([number]) * 32 for number in range(200)] + [bytes([number, 1]) * 16 for number in range(200)]
    for row in rows:
        assert records.take_lease(row, b"owner of " + row, 60_000) is not None
    for row in rows:
        assert records.take_lease(row, b"another", 60_000) is None
    for row in rows[::2]:
        assert records.release_lease(row, b"owner of " + row) is True
    for number, row in enumerate(rows):
        assert (records.take_lease(row, b"another", 60_000) is not None) is (number % 2 == 0)


def test_setting_the_wall_clock_changes_nothing_p11(records: Records, time: LeaseTime) -> None:
    records.take_lease(ROW, b"one", 1_000)
    for jump in (86_400_000, -2 * 86_400_000):
        time.now += jump
        assert records.take_lease(ROW, b"two", 1_000) is None
    time.since_boot += 1_000
    assert records.take_lease(ROW, b"two", 1_000) == Lease(2, 1_000)


def test_after_a_reboot_a_lease_runs_out_by_the_wall_clock(records: Records, time: LeaseTime) -> None:
    records.take_lease(ROW, b"one", 60_000)
    time.reboot(taking=20_000)
    assert records.take_lease(ROW, b"two", 60_000) is None
    time.pass_by(39_999)
    assert records.take_lease(ROW, b"two", 60_000) is None
    time.pass_by(1)
    assert records.take_lease(ROW, b"two", 60_000) == Lease(2, 60_000)


def test_after_a_reboot_with_the_wall_clock_set_back_a_lease_is_over(records: Records, time: LeaseTime) -> None:
    """It would otherwise be held for years."""
    records.take_lease(ROW, b"one", 60_000)
    time.reboot(taking=-86_400_000)
    assert records.take_lease(ROW, b"two", 60_000) == Lease(2, 60_000)


def test_fences_go_up_whatever_becomes_of_lease_and_record(records: Records, time: LeaseTime) -> None:
    fences: list[int] = []
    for number in range(6):
        lease = records.take_lease(ROW, b"owner %d" % number, 1_000)
        assert lease is not None
        fences.append(lease.fence)
        if number % 3 == 0:
            records.release_lease(ROW, b"owner %d" % number)
        elif number % 3 == 1:
            time.pass_by(1_000)
        else:
            time.reboot(taking=1_000)
    assert fences == sorted(set(fences))


def test_a_table_forgets_what_ran_out(time: LeaseTime) -> None:
    table = LeaseTable()
    for number in range(100):
        assert table.take(bytes([number]) * 32, b"owner", 1_000, time) is not None
    again = LeaseTable.parse(memoryview(table.dump()))
    assert again == table
    time.pass_by(1_000)
    again.drop_expired(time)
    assert again == LeaseTable(fence=100)


async def test_a_lease_holds_between_processes(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from pauth.storage import EncryptionKey, RecordKey
from pauth.storage.files import EncryptedFileStorage
async def main():
    storage = EncryptedFileStorage(sys.argv[1], EncryptionKey.from_string(sys.argv[2]))
    for user in ("alice", "bob"):
        lease = await storage.take_lease(RecordKey("provider-a", user), "the child", ttl=60)
        print(lease and lease.fence)
    await storage.aclose()
asyncio.run(main())
"""
    async with aclosing(files(tmp_path)) as storage:
        assert await storage.take_lease(ALICE, "the parent", ttl=60) is not None
        first = await storage.take_lease(BOB, "the parent", ttl=60)
        assert first is not None
        assert await storage.release_lease(BOB, "the parent") is True
        held, free = run(program, str(tmp_path / "tokens"), KEY.to_string().reveal()).split()
        assert held == "None"
        assert int(free) > first.fence
        assert await storage.take_lease(BOB, "the parent", ttl=60) is None
        await storage.delete_token("bob")


def test_the_machines_clock_goes_on_and_names_its_boot() -> None:
    clock = MachineClock()
    boot_id, now = clock.boot()
    assert len(boot_id) == 16
    assert clock.boot()[0] == boot_id
    assert 0 < now <= clock.boot()[1]
    assert clock.wall() > 1_700_000_000_000
