"""Reading and writing grants in one store, with the cache in front of it told of everything."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from pauth.clock import Clock
from pauth.core.token import Token
from pauth.errors import ReauthorizationRequired, TokenStorageError
from pauth.events import EventStream, VersionRegressed
from pauth.refresh.cache import Cached, TokenCache
from pauth.refresh.policy import RefreshPolicy, spread
from pauth.refresh.shared import Shared
from pauth.refresh.stored import NO_ATTEMPTS, StoredGrant, read_grant, write_grant
from pauth.refresh.watching import Watching
from pauth.storage.base import CoordinatedTokenStorage, Record, RecordKey

__all__ = ["Records", "Stored", "new_lineage"]


def new_lineage() -> bytes:
    """A name for a refresh token that is stored: 16 random bytes, so that nothing of the token can be read from it."""
    return secrets.token_bytes(16)


class Stored(NamedTuple):
    """A record as it was read or written, and what is in it."""

    record: Record
    grant: StoredGrant

    @property
    def edition(self) -> str:
        """Names what the latest login or refresh gave: another one says that somebody has refreshed it meanwhile.

        The token's version alone would not do. There are servers that answer a refresh with the same access token, good for longer. Nor would the
        lineage, which a record that another program wrote is given with the first intent.
        """
        token = self.grant.token
        return f"{token.version}@{token.issued_at}"


class Records:
    """The grants of one client in one store."""

    def __init__(
        self,
        storage: CoordinatedTokenStorage,
        shared: Shared,
        *,
        cache: Callable[[str], TokenCache],
        watching: Watching,
        refreshable: Callable[[Token], bool],
        policy: RefreshPolicy,
        clock: Clock,
        events: EventStream,
    ) -> None:
        self._storage = storage
        self._shared = shared
        self._cache = cache
        self._watching = watching
        self._refreshable = refreshable
        self._policy = policy
        self._clock = clock
        self._events = events

    async def read(self, key: RecordKey) -> Stored:
        """The newest version of a record that can be used.

        :raises ReauthorizationRequired: there is none, or its grant has ended.
        :raises TokenStorageError: the store failed.
        """
        stored = await self.look(key)
        if stored is None:
            raise ReauthorizationRequired("no token is stored for this user; let the user log in", reason="not_logged_in")
        if stored.grant.ended is not None:
            raise ReauthorizationRequired("this user's grant has ended; let the user log in again", reason=stored.grant.ended)
        return stored

    async def look(self, key: RecordKey) -> Stored | None:
        """The newest version of a record, also of a grant that has ended; ``None`` if there is none."""
        record = await self._storage.load(key)
        cache = self._cache(key.namespace)
        seen = cache.latest(key.user_id)
        if seen is not None and (not seen.gone if record is None else record.version < seen.version):
            record = await self._settled(key, seen, cache)
        if record is None:
            return None
        grant = read_grant(record.tokens)
        if grant.ended is not None:
            cache.drop(key.user_id, record.version)
        return Stored(record, grant)

    async def _settled(self, key: RecordKey, seen: Cached, cache: TokenCache) -> Record | None:
        """What the store holds, though this process has seen a newer version (P7).

        Mostly the newer one was written while the older one was on its way here. If the store says so again it has lost what it had acknowledged, or
        the record was deleted. What it lost is put back if it was written here and its predecessor is what stands there now: a failover of Redis
        must not cost the user the grant.
        """
        record = await self._storage.load(key)
        latest = cache.latest(key.user_id)
        if latest is None or latest.version != seen.version or (record is not None and record.version >= seen.version):
            return record
        if record is None:
            self.removed(key, seen.version)
            return None
        if not seen.gone:
            event = VersionRegressed(
                at=self._clock.time(),
                namespace=key.namespace,
                user=self._events.fingerprint(key.user_id),
                user_id=key.user_id,
                seen=seen.version,
                found=record.version,
            )
            self._events.emit(event)
        if seen.token is not None and seen.lineage is not None and record.lineage is not None and record.lineage == seen.predecessor:
            # If this fails the next read comes here again.
            grant = replace(read_grant(record.tokens), token=seen.token, ended=None, attempts=NO_ATTEMPTS)
            healed = await self._write(key, grant, record.version, record.lineage, seen.lineage)
            record = healed or await self._storage.load(key)
        cache.forget(key.user_id)
        return record

    def removed(self, key: RecordKey, version: int) -> None:
        """The record was deleted at this version: a read that was under way must not bring it back."""
        self._cache(key.namespace).put(key.user_id, Cached(None, float("-inf"), version, gone=True))

    async def note(self, stored: Stored, grant: StoredGrant) -> Stored | None:
        """Write ``grant``, which holds the same token, over exactly ``stored``; ``None`` if that is not there any more.

        The lineage stays, since the refresh token does. A record without one gets one.
        """
        record = stored.record
        written = await self._write(record.key, grant, record.version, None, record.lineage or new_lineage())
        if written is None:
            return None
        if grant.ended is not None:
            self._cache(record.key.namespace).drop(record.key.user_id, written.version)
        return Stored(written, grant)

    async def retire(self, stored: Stored, token: Token) -> Stored | None:
        """Write ``token`` over exactly ``stored``, as one that is being revoked; ``None`` if that is not there any more.

        It gets a lineage of its own: an answer to an earlier refresh that comes late must not bring the grant back.
        """
        record, grant = stored.record, replace(stored.grant, token=token, ended="revoked", attempts=NO_ATTEMPTS)
        try:
            written = await self._write(record.key, grant, record.version, None, new_lineage())
        except TokenStorageError:
            self.doubt(record.key)  # it may be there all the same
            raise
        if written is None:
            return None
        self._cache(record.key.namespace).drop(record.key.user_id, written.version)
        return Stored(written, grant)

    async def login(self, key: RecordKey, token: Token) -> None:
        """Write the token of a new login over whatever is stored."""
        written = await self._write(key, StoredGrant(token), None, None, new_lineage())
        if written is not None:  # pragma: no branch (without a condition every write is done)
            self.remember(Stored(written, StoredGrant(token)))

    def doubt(self, key: RecordKey) -> None:
        """Hand no token of ``key`` out before the store has been asked."""
        self._cache(key.namespace).expire(key.user_id)

    def remember(self, stored: Stored, *, predecessor: bytes | None = None, at_most: float | None = None) -> None:
        """Let the token be handed out without a read, until it becomes stale and no longer than the policy says.

        :param predecessor: the lineage that this process has replaced with it.
        :param at_most: seconds; then it may be a stale token too.
        """
        record, token = stored.record, stored.grant.token
        now = self._shared.now_for(token, self._clock)
        soft, hard = self._policy.thresholds(token, spread=self.spread(stored))
        if not self._refreshable(token):
            soft = hard  # nothing is to be done before it expires
        seconds = min(self._policy.cache_age, soft - now) if at_most is None else min(self._policy.cache_age, at_most, hard - now)
        entry = Cached(token, self._clock.monotonic() + max(0.0, seconds), record.version, record.lineage, predecessor)
        if self._cache(record.key.namespace).put(record.key.user_id, entry) and seconds > 0:
            self._watching.note(record.key)

    def spread(self, stored: Stored) -> float:
        """Where in the spread of the soft margin this token lies."""
        return spread(stored.record.key.namespace, stored.record.key.user_id, stored.grant.token.version)

    def expires_at(self, grant: StoredGrant) -> float | None:
        """When whoever refreshes ahead has to look at a record; never, if there is nothing to refresh."""
        return None if grant.ended is not None or not self._refreshable(grant.token) else grant.token.expires_at

    async def _write(
        self, key: RecordKey, grant: StoredGrant, expected_version: int | None, expected_lineage: bytes | None, lineage: bytes
    ) -> Record | None:
        return await self._storage.replace(
            key,
            write_grant(grant),
            expected_version=expected_version,
            expires_at=self.expires_at(grant),
            expected_lineage=expected_lineage,
            lineage=lineage,
        )
