"""Leases of the file driver: who may refresh, until when, and the fences.

The leases of one shard stand in one small file, with a counter that every new lease raises by one and that is never reset: so fences of a row
go up whatever becomes of its record. The file is read and replaced under the shard's lock; leases that ran out are dropped on the way.

The clock is the machine's time since boot (``CLOCK_BOOTTIME``), which all its processes share, which goes on through a suspend and which nobody
can set. It starts anew at a reboot, so each lease also carries the boot it is of. A lease of another boot (or of another machine, where somebody
shares the folder over a network after all) runs out by the wall clock instead: its holder is dead, but that takes no more than its ``ttl`` to be
sure of.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

__all__ = ["LeaseClock", "LeaseTable", "MachineClock"]

_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", -1))  # elsewhere the monotonic one counts from boot
_COUNT: Final = struct.Struct(">QI")
_ENTRY: Final = struct.Struct(">32s16sqqqQH")


class LeaseClock(Protocol):
    """Time as leases see it, in milliseconds."""

    def boot(self) -> tuple[bytes, int]:
        """16 bytes that name this boot of this machine, and the time since then."""
        ...

    def wall(self) -> int:
        """Since the Unix epoch."""
        ...


class MachineClock:
    """The machine's own clocks."""

    def boot(self) -> tuple[bytes, int]:
        """See :meth:`LeaseClock.boot`."""
        if _CLOCK < 0:
            return _boot_id(), time.monotonic_ns() // 1_000_000  # pragma: no cover (Windows)
        return _boot_id(), time.clock_gettime_ns(_CLOCK) // 1_000_000

    def wall(self) -> int:
        """See :meth:`LeaseClock.wall`."""
        return time.time_ns() // 1_000_000


@dataclass(slots=True)
class _Held:
    boot_id: bytes
    until: int
    """On that boot's clock."""

    wall_until: int
    ttl: int
    fence: int
    owner: bytes


@dataclass(slots=True)
class LeaseTable:
    """The leases of one shard, and the last fence given there."""

    fence: int = 0
    held: dict[bytes, _Held] = field(default_factory=dict[bytes, _Held])

    @classmethod
    def parse(cls, data: memoryview) -> LeaseTable:
        """The table that :meth:`dump` wrote; ``data`` is authenticated already."""
        fence, count = _COUNT.unpack_from(data)
        table, at = cls(fence), _COUNT.size
        for _ in range(count):
            name, boot_id, until, wall_until, ttl, its_fence, owner_bytes = _ENTRY.unpack_from(data, at)
            at += _ENTRY.size
            table.held[name] = _Held(boot_id, until, wall_until, ttl, its_fence, bytes(data[at : at + owner_bytes]))
            at += owner_bytes
        return table

    def dump(self) -> bytes:
        """The table as bytes."""
        parts = [_COUNT.pack(self.fence, len(self.held))]
        for name, lease in self.held.items():
            parts += (
                _ENTRY.pack(name, lease.boot_id, lease.until, lease.wall_until, lease.ttl, lease.fence, len(lease.owner)),
                lease.owner,
            )
        return b"".join(parts)

    def drop_expired(self, clock: LeaseClock) -> None:
        """Forget what ran out."""
        boot_id, now = clock.boot()
        wall = clock.wall()
        self.held = {name: lease for name, lease in self.held.items() if _remaining(lease, boot_id, now, wall) > 0}

    def take(self, name: bytes, owner: bytes, ttl: int, clock: LeaseClock) -> int | None:
        """The fence of a lease that is the owner's for ``ttl`` from now, as a new one or still; ``None`` if another holds it."""
        if name not in self.held:
            self.fence += 1
            self.held[name] = _Held(b"", 0, 0, 0, self.fence, owner)
        return self.held[name].fence if self.extend(name, owner, ttl, clock) else None

    def extend(self, name: bytes, owner: bytes, ttl: int, clock: LeaseClock) -> bool:
        """Let the owner's lease run for ``ttl`` from now; ``False`` if it has none."""
        lease = self.held.get(name)
        if lease is None or not hmac.compare_digest(lease.owner, owner):
            return False
        boot_id, now = clock.boot()
        lease.boot_id, lease.until, lease.wall_until, lease.ttl = boot_id, now + ttl, clock.wall() + ttl, ttl
        return True

    def release(self, name: bytes, owner: bytes) -> bool:
        """End the owner's lease; ``False`` if it has none."""
        lease = self.held.get(name)
        if lease is None or not hmac.compare_digest(lease.owner, owner):
            return False
        del self.held[name]
        return True


@functools.cache
def _boot_id() -> bytes:
    text = b""
    with suppress(OSError):  # only Linux has the file
        text = _BOOT_ID_FILE.read_bytes()
    return hashlib.sha256(text).digest()[:16]


def _remaining(lease: _Held, boot_id: bytes, now: int, wall: int) -> int:
    left = lease.until - now if lease.boot_id == boot_id else lease.wall_until - wall
    return left if left <= lease.ttl else 0  # more than it ever had: a clock that was set back, or a boot we took for another
