"""How many logins one address may start: each is a row in the store until it expires (WS-1, CVE-2021-22119)."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

from pauth.clock import Clock

__all__ = ["StartBudget"]

_MAX_ADDRESSES: Final = 10_000


class StartBudget:
    """A bucket for each address (of IPv6 for each /64 network, which is what one customer has), filled at an even rate. Bounded in size.

    :param per_minute: how many starts; at once, and in each minute.
    """

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: str | None) -> bool:
        """Whether this address may start another login now."""
        key, now = _network(address), self._clock.monotonic()
        left, since = self._buckets.pop(key, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + max(0.0, now - since) * self._per_minute / 60)
        allowed = left >= 1
        self._buckets[key] = (left - allowed, now)
        while len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed


def _network(address: str | None) -> str:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return ""  # a Unix socket, or a server that does not say: they share a bucket
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)
