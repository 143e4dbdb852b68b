"""Valid tokens in memory: one dict read, no lock, no await."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pauth.core.token import Token
from pauth.locks import ForkSafeLock

__all__ = ["Cached", "TokenCache"]

_NEVER = float("-inf")


class Cached(NamedTuple):
    """One token, and until when it may be handed out without asking the store."""

    token: Token | None
    """``None`` stands for a record that is gone or of no use."""

    until: float
    """On the monotonic clock."""

    version: int
    """The version of the record that it was read from or written as."""

    lineage: bytes | None = None
    predecessor: bytes | None = None
    """The lineage of the record that this process has replaced with it; ``None`` if somebody else did."""

    gone: bool = False
    """The record was deleted at this version. What comes after it may count from one again."""


class TokenCache:
    """The tokens of one namespace of one store, by user id. Safe to use from any number of threads.

    What is put is put only over something older: a read that was under way while a newer record was written cannot bring back the old one.

    :param monotonic: seconds from an arbitrary origin; never jumps.
    """

    __slots__ = ("_entries", "_expired", "_limit", "_lock", "_monotonic")

    def __init__(self, limit: int, monotonic: Callable[[], float]) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._entries: dict[str, Cached] = {}
        self._expired: dict[str, Cached] = {}
        self._lock = ForkSafeLock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, user_id: str) -> Token | None:
        """A token that may be handed out; ``None`` if the store has to be asked."""
        found = self._entries.get(user_id)
        if found is not None and found.until > self._monotonic():
            return found.token
        return None

    def latest(self, user_id: str) -> Cached | None:
        """What was last put, though it may have to be checked with the store."""
        return self._entries.get(user_id) or self._expired.get(user_id)

    def put(self, user_id: str, entry: Cached) -> bool:
        """Keep ``entry`` unless a newer version is kept; gives whether it is.

        The oldest entries make room. A second ``put`` of the same version only says for how long it may be handed out.
        """
        with self._lock:
            kept = self.latest(user_id)
            if kept is not None:
                if kept.version > entry.version or (kept.version == entry.version and kept.token is None and entry.token is not None):
                    return False
                if kept.lineage == entry.lineage and entry.predecessor is None:
                    entry = entry._replace(predecessor=kept.predecessor)
                self._pop(user_id)
            if self._limit:
                while len(self._entries) >= self._limit:
                    del self._entries[next(iter(self._entries))]
                self._entries[user_id] = entry
        return True

    def drop(self, user_id: str, version: int) -> None:
        """Nothing up to this version is handed out any more, nor put again by a read that was under way."""
        self.put(user_id, Cached(None, _NEVER, version))

    def forget(self, user_id: str) -> None:
        """Ask the store next time; whatever it says then is believed."""
        with self._lock:
            self._pop(user_id)

    def expire(self, user_id: str | None = None) -> None:
        """Ask the store next time, for one user or for all; an older version than now known is not believed."""
        with self._lock:
            if user_id is None:
                # put aside as a whole: there may be a hundred thousand
                self._entries, self._expired = {}, self._entries or self._expired
                return
            entry = self._entries.get(user_id)
            if entry is not None:
                self._entries[user_id] = entry._replace(until=_NEVER)

    def _pop(self, user_id: str) -> None:
        self._entries.pop(user_id, None)
        self._expired.pop(user_id, None)
