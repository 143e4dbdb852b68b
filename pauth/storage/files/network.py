"""Which file systems are on a network: there, locks and renames do not hold what this driver promises (FS-6)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["network_file_system"]

_MOUNTS: Final = Path("/proc/self/mountinfo")
_REMOTE: Final = frozenset(
    """9p afs beegfs ceph cifs coda davfs drvfs fuse.ceph fuse.cephfs fuse.davfs fuse.glusterfs fuse.gcsfuse fuse.rclone fuse.s3fs fuse.sshfs gfs2
    glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs prl_fs smb smb2 smb3 smbfs vboxsf vmhgfs webdav""".split()  # noqa: SIM905  # a list that is read
)


def network_file_system(device: int) -> str | None:
    """The type of the file system on a device (``st_dev``), if it is one on a network, or a virtual machine's share of its host.

    Only Linux tells. A device that is mounted nowhere (a Btrfs subvolume has its own) is a local one.
    """
    wanted = f"{os.major(device)}:{os.minor(device)}" if hasattr(os, "major") else ""
    with suppress(OSError):  # no such list elsewhere
        for line in _MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
            fields, _, source = line.partition(" - ")
            kind = source.split(" ", 1)[0]
            if fields.split(" ")[2:3] == [wanted] and kind in _REMOTE:
                return kind
    return None
