"""Folders on a network are refused unless somebody insists (FS-6)."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.errors import ConfigurationError
from pauth.storage.files.network import network_file_system
from tests.storage.files.kit import files

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
40 22 0:45 / /home/a\\040b rw,relatime shared:9 master:1 - nfs4 server:/export rw,vers=4.2
41 22 0:46 / /mnt/keys rw - fuse.sshfs user@host:/ rw
42 22 0:47 / /mnt/vault rw - fuse.gocryptfs vault rw
43 22 0:48 / /mnt/c rw - 9p drvfs rw
nonsense
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    monkeypatch.setattr("pauth.storage.files.network._MOUNTS", path)
    return path


@pytest.mark.parametrize(
    ("major", "minor", "kind"),
    [(254, 0, None), (0, 45, "nfs4"), (0, 46, "fuse.sshfs"), (0, 47, None), (0, 48, "9p"), (0, 99, None)],
)
def test_the_kind_of_a_file_system(mounts: Path, major: int, minor: int, kind: str | None) -> None:
    assert network_file_system(os.makedev(major, minor)) == kind


def test_without_a_list_of_mounts_nothing_is_known(mounts: Path) -> None:
    mounts.unlink()
    assert network_file_system(45) is None


def say_it_is_a_share(folder: Path, mounts: Path) -> None:
    device = folder.stat().st_dev
    mounts.write_text(f"40 22 {os.major(device)}:{os.minor(device)} / / rw - cifs //server/share rw\n")


async def test_a_folder_on_a_network_is_refused_unless_allowed_fs_6(mounts: Path, tmp_path: Path) -> None:
    say_it_is_a_share(tmp_path, mounts)
    async with aclosing(files(tmp_path)) as storage:
        with pytest.raises(ConfigurationError, match=r"network file system \(cifs\).*allow_network_file_system=True"):
            await storage.save_token("alice", {"a": 1})
    async with aclosing(files(tmp_path, allow_network_file_system=True)) as storage:
        await storage.save_token("alice", {"a": 1})
        assert await storage.get_token("alice") == {"a": 1}
