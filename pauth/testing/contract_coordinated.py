"""The contract of storages that have the whole coordinated protocol: namespaces, times, batches, pending logins, leases, listings."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from pauth.errors import ConfigurationError, TokenStorageError
from pauth.storage import AsyncTokenStorage, CoordinatedTokenStorage, RecordKey
from pauth.storage.base import Expiring, Lease, Listed, Write
from pauth.testing.clock import ManualClock
from pauth.testing.contract import StorageContract
from pauth.testing.contract_kit import ALICE, CONFUSABLE_IDS, TOKENS, in_a_loop, tokens_of

__all__ = ["CoordinatedStorageContract"]

BOB = RecordKey("provider-a", "bob")


class CoordinatedStorageContract(StorageContract):
    """What a coordinated storage does. Give the ``storage`` fixture; let it use the ``clock`` fixture."""

    lease_ttl: float = 30.0
    """Seconds for which leases are taken. Short ones for a server on whose clock a test has to wait."""

    def pass_time(self, clock: ManualClock, seconds: float) -> None:
        """Let leases run for ``seconds``. A storage whose leases are on a server's clock overrides this by :meth:`wait_for_the_server`."""
        clock.advance(seconds)

    def wait_for_the_server(self, seconds: float) -> None:
        """Let real time pass."""
        time.sleep(seconds)

    def test_it_has_all_methods(self, store: CoordinatedTokenStorage, storage: Any) -> None:
        """And needs no adapter."""
        assert isinstance(storage, AsyncTokenStorage)
        assert isinstance(storage, CoordinatedTokenStorage)
        assert store is storage

    # --- namespaces and times

    @in_a_loop
    async def test_namespaces_are_apart_p13(self, store: CoordinatedTokenStorage) -> None:
        """However namespace and user id are cut."""
        cuts = [("a", "bc"), ("ab", "c"), ("", "abc"), ("a:b", "c"), ("a", "b:c"), ("\ud800", "c"), ("A", "bc"), ("a ", "bc")]
        keys = [RecordKey(*cut) for cut in cuts]
        for number, key in enumerate(keys):
            await store.replace(key, {"number": number}, expected_version=0)
        assert [tokens_of(await store.load(key)) for key in keys] == [{"number": number} for number in range(len(keys))]
        assert await store.get_token("abc") == {"number": 2}
        assert await store.get_token("bc") is None
        await store.remove(keys[0])
        assert await store.load(keys[1]) is not None

    @in_a_loop
    async def test_times_are_kept(self, store: CoordinatedTokenStorage, clock: ManualClock) -> None:
        """When it was written, and when its access token expires, to the millisecond."""
        first = await store.replace(ALICE, TOKENS, expected_version=0, expires_at=clock.time() + 3600.125)
        clock.advance(10)
        second = await store.replace(ALICE, TOKENS, expected_version=1)
        assert first is not None
        assert second is not None
        assert second.stored_at - first.stored_at == 10
        assert (first.expires_at, second.expires_at) == (clock.time() - 10 + 3600.125, None)
        assert await store.load(ALICE) == second

    @in_a_loop
    async def test_records_outlive_their_access_token(self, store: CoordinatedTokenStorage, clock: ManualClock) -> None:
        """The refresh token in them does."""
        await store.replace(ALICE, {"n": 1}, expected_version=0, expires_at=clock.time() + 1)
        clock.advance(100_000)
        assert tokens_of(await store.load(ALICE)) == {"n": 1}

    @pytest.mark.parametrize("moment", [float("nan"), float("inf"), -1e13])
    @in_a_loop
    async def test_impossible_moments_are_refused(self, store: CoordinatedTokenStorage, moment: float) -> None:
        """Before anything is written."""
        with pytest.raises(TokenStorageError, match="seconds since the Unix epoch"):
            await store.replace(ALICE, {"n": 1}, expected_version=None, expires_at=moment)
        with pytest.raises(TokenStorageError, match="seconds since the Unix epoch"):
            await store.put_pending("login", {}, expires_at=moment)
        assert await store.load(ALICE) is None

    # --- batches

    @in_a_loop
    async def test_batches_give_each_item_its_answer(self, store: CoordinatedTokenStorage) -> None:
        """In the order asked; what cannot be written fails alone."""
        keys = [RecordKey("batch", f"user-{number}") for number in range(600)]
        await store.replace(keys[3], {"n": "older"}, expected_version=0)
        writes = [Write(key, {"n": number}, expected_version=0) for number, key in enumerate(keys)]
        writes[5] = Write(keys[5], {"n": float("nan")}, expected_version=0)
        written = await store.put_many(writes)
        assert written[3] is None
        assert isinstance(written[5], TokenStorageError)
        assert [tokens_of(each) for number, each in enumerate(written) if number not in (3, 5)] == [{"n": n} for n in range(600) if n not in (3, 5)]
        found = await store.get_many([*keys, keys[0], RecordKey("batch", "nobody")])
        assert tokens_of(found[3]) == {"n": "older"}
        assert found[5] is None
        assert found[600] == found[0]
        assert found[601] is None
        assert [found[n] == written[n] for n in range(600) if n not in (3, 5)] == [True] * 598
        assert await store.delete_many([keys[0], keys[0], keys[5]]) == [True, False, False]
        assert await store.load(keys[0]) is None

    @in_a_loop
    async def test_writes_of_one_key_in_a_batch_keep_their_order(self, store: CoordinatedTokenStorage) -> None:
        """As if they came one after the other."""
        written = await store.put_many([Write(ALICE, {"n": number}) for number in range(10)])
        assert [(tokens_of(each), getattr(each, "version", 0)) for each in written] == [({"n": n}, n + 1) for n in range(10)]
        assert tokens_of(await store.load(ALICE)) == {"n": 9}

    @in_a_loop
    async def test_empty_batches_are_fine(self, store: CoordinatedTokenStorage) -> None:
        """Nothing asked, nothing given."""
        assert (await store.get_many([]), await store.put_many([]), await store.delete_many([])) == ([], [], [])

    # --- pending logins

    @in_a_loop
    async def test_a_pending_login_is_taken_once_ax_3(self, store: CoordinatedTokenStorage, clock: ManualClock) -> None:
        """As it was put."""
        numbers = [1, None]
        payload = {"code_verifier": "CANARY-code-verifier", "n": numbers}
        await store.put_pending("login", payload, expires_at=clock.time() + 600)
        numbers.append(2)
        assert await store.take_pending("other") is None
        assert await store.take_pending("login") == {"code_verifier": "CANARY-code-verifier", "n": [1, None]}
        assert await store.take_pending("login") is None

    @in_a_loop
    async def test_of_50_takers_one_gets_it_ax_3(self, store: CoordinatedTokenStorage, clock: ManualClock) -> None:
        """Each time."""
        for number in range(3):
            await store.put_pending("login", {"number": number}, expires_at=clock.time() + 600)
            taken = await asyncio.gather(*(store.take_pending("login") for _ in range(50)))
            assert [payload for payload in taken if payload is not None] == [{"number": number}]

    @in_a_loop
    async def test_an_expired_pending_login_is_not_given_ax_4(self, store: CoordinatedTokenStorage, clock: ManualClock) -> None:
        """By the storage's clock."""
        await store.put_pending("early", {"n": 1}, expires_at=clock.time() + 600)
        await store.put_pending("late", {"n": 2}, expires_at=clock.time() + 600)
        await store.put_pending("never", {"n": 3}, expires_at=clock.time() - 1)
        clock.advance(599)
        assert await store.take_pending("early") == {"n": 1}
        clock.advance(1)
        assert await store.take_pending("late") is None
        assert await store.take_pending("never") is None

    @in_a_loop
    async def test_pending_ids_are_opaque(self, store: CoordinatedTokenStorage, clock: ManualClock) -> None:
        """And apart from user ids."""
        ids = ("", "\ud800", "x" * 5000, *CONFUSABLE_IDS[:20])
        await store.save_token("alice", {"a": 1})
        for number, pending_id in enumerate(ids):
            await store.put_pending(pending_id, {"number": number}, expires_at=clock.time() + 60)
        assert [await store.take_pending(each) for each in ids] == [{"number": n} for n in range(len(ids))]
        assert await store.get_token("alice") == {"a": 1}

    # --- leases

    @in_a_loop
    async def test_a_lease_has_one_holder(self, store: CoordinatedTokenStorage) -> None:
        """Until it is released; on this record only, whether it exists or not."""
        ttl = self.lease_ttl
        lease = await store.take_lease(ALICE, "one", ttl=ttl)
        assert isinstance(lease, Lease)
        assert 0 <= lease.remaining <= ttl
        assert await store.take_lease(ALICE, "two", ttl=ttl) is None
        assert await store.take_lease(BOB, "two", ttl=ttl) is not None
        again = await store.take_lease(ALICE, "one", ttl=ttl)
        assert again is not None
        assert again.fence == lease.fence
        assert await store.extend_lease(ALICE, "two", ttl=ttl) is False
        assert await store.release_lease(ALICE, "two") is False
        assert await store.extend_lease(ALICE, "one", ttl=ttl) is True
        assert await store.release_lease(ALICE, "one") is True
        assert await store.release_lease(ALICE, "one") is False
        assert await store.extend_lease(ALICE, "one", ttl=ttl) is False
        after = await store.take_lease(ALICE, "two", ttl=ttl)
        assert after is not None
        assert after.fence > lease.fence

    @in_a_loop
    async def test_a_lease_runs_out_and_is_taken_over(self, store: CoordinatedTokenStorage, clock: ManualClock) -> None:
        """Who held it cannot prolong or release it any more."""
        ttl = self.lease_ttl
        first = await store.take_lease(ALICE, "one", ttl=ttl)
        self.pass_time(clock, ttl * 1.1)
        assert await store.extend_lease(ALICE, "one", ttl=ttl) is False
        second = await store.take_lease(ALICE, "two", ttl=ttl)
        assert first is not None
        assert second is not None
        assert second.fence > first.fence
        assert await store.release_lease(ALICE, "one") is False
        assert await store.take_lease(ALICE, "one", ttl=ttl) is None
        assert await store.extend_lease(ALICE, "two", ttl=3 * ttl) is True
        self.pass_time(clock, ttl * 1.1)
        assert await store.take_lease(ALICE, "one", ttl=ttl) is None
        assert await store.release_lease(ALICE, "two") is True

    @in_a_loop
    async def test_fences_rise_for_ever(self, store: CoordinatedTokenStorage, clock: ManualClock) -> None:
        """After release, expiry, and deletion of the record; for the same owner too."""
        fences: list[int] = []
        for turn in range(8):
            await store.replace(ALICE, {"n": turn}, expected_version=None)
            lease = await store.take_lease(ALICE, "one" if turn % 2 else "two", ttl=self.lease_ttl)
            assert lease is not None
            fences.append(lease.fence)
            if turn % 4 == 3:
                self.pass_time(clock, self.lease_ttl * 1.1)
            else:
                assert await store.release_lease(ALICE, "one" if turn % 2 else "two")
            if turn % 3 == 0:
                await store.remove(ALICE)
        assert fences == sorted(set(fences))

    @in_a_loop
    async def test_of_64_contenders_one_has_the_lease(self, store: CoordinatedTokenStorage) -> None:
        """And the next one after it."""
        fences: list[int] = []
        for _ in range(3):
            taken = await asyncio.gather(*(store.take_lease(ALICE, f"owner-{number}", ttl=100 * self.lease_ttl) for number in range(64)))
            (winner,) = [number for number, lease in enumerate(taken) if lease is not None]
            lease = taken[winner]
            assert lease is not None
            fences.append(lease.fence)
            assert await store.release_lease(ALICE, f"owner-{winner}")
        assert fences == sorted(set(fences))

    @in_a_loop
    async def test_unusable_lease_arguments_are_refused(self, store: CoordinatedTokenStorage) -> None:
        """An endless lease, an owner without a name, a lineage that is none."""
        for ttl in (0.0, -1.0, float("nan"), float("inf"), 1e6):
            with pytest.raises(ConfigurationError, match="ttl"):
                await store.take_lease(ALICE, "one", ttl=ttl)
        for owner in ("", "x" * 129):
            with pytest.raises(ConfigurationError, match="owner"):
                await store.take_lease(ALICE, owner, ttl=1)
        for lineage in (b"", b"x" * 17):
            with pytest.raises(ConfigurationError, match="lineage"):
                await store.replace(ALICE, {}, expected_version=None, lineage=lineage)

    # --- listings

    @in_a_loop
    async def test_users_are_listed_by_page(self, store: CoordinatedTokenStorage) -> None:
        """Of one namespace or of all; each once."""
        keys = {RecordKey(namespace, user_id) for namespace in ("", "a", "b") for user_id in CONFUSABLE_IDS}
        await store.put_many([Write(key, {"n": 1}) for key in keys])
        await store.replace(ALICE, {}, expected_version=0)
        await store.remove(ALICE)
        assert await self._listed(store, None, 7) == sorted(((key.namespace, key.user_id), 1) for key in keys)
        assert await self._listed(store, "a", 1000) == sorted((("a", user_id), 1) for user_id in CONFUSABLE_IDS)
        assert await self._listed(store, "c", 5) == []
        assert (await store.count(), await store.count("a"), await store.count("c")) == (len(keys), len(CONFUSABLE_IDS), 0)

    @in_a_loop
    async def test_listing_while_records_change(self, store: CoordinatedTokenStorage) -> None:
        """Whoever is there all the time is listed exactly once."""
        stays = {f"stays-{number}" for number in range(60)}
        await store.put_many([Write(RecordKey("a", user_id), {"n": 1}) for user_id in stays | {f"goes-{number}" for number in range(60)}])
        seen: list[str] = []
        page = await store.list_users("a", limit=5)
        seen += [each.key.user_id for each in page.items]
        turn = 0
        while page.next_cursor is not None:
            await store.remove(RecordKey("a", f"goes-{turn}"))
            await store.replace(RecordKey("a", f"comes-{turn}"), {"n": 1}, expected_version=0)
            await store.replace(RecordKey("a", f"stays-{turn}"), {"n": 2}, expected_version=None)
            turn += 1
            page = await store.list_users("a", cursor=page.next_cursor, limit=5)
            seen += [each.key.user_id for each in page.items]
        assert sorted(user_id for user_id in seen if user_id.startswith("stays")) == sorted(stays)
        assert len(seen) == len(set(seen))

    @in_a_loop
    async def test_what_expires_is_listed_in_order(self, store: CoordinatedTokenStorage) -> None:
        """The earliest first; several at one moment; none of those without an end."""
        moments: list[float | None] = [None, 0.0, 5.0, 5.0, 5.0, 5.001, 6.5, 7.0, -3.5]
        keys = [RecordKey("a", f"user-{number}") for number in range(len(moments))]
        await store.put_many([Write(key, {}, expires_at=moment) for key, moment in zip(keys, moments, strict=True)])
        for limit in (1, 2, 3, 100):
            found: list[Expiring] = []
            page = await store.list_expiring(7.0, limit=limit)
            found += page.items
            while page.next_cursor is not None:
                page = await store.list_expiring(7.0, cursor=page.next_cursor, limit=limit)
                found += page.items
            assert [each.expires_at for each in found] == [-3.5, 0.0, 5.0, 5.0, 5.0, 5.001, 6.5]
            assert {each.key for each in found} == set(keys) - {keys[0], keys[7]}
            assert {each.version for each in found} == {1}
        await store.replace(keys[8], {}, expected_version=1, expires_at=8.0)
        await store.remove(keys[1])
        assert [each.expires_at for each in (await store.list_expiring(6.0)).items] == [5.0, 5.0, 5.0, 5.001]
        assert (await store.list_expiring(-100.0)).items == []

    @in_a_loop
    async def test_unusable_pages_are_refused(self, store: CoordinatedTokenStorage) -> None:
        """A cursor of another listing, a page of no size."""
        for limit in (0, -1, 10_001):
            with pytest.raises(ConfigurationError, match="limit"):
                await store.list_users(limit=limit)
            with pytest.raises(ConfigurationError, match="limit"):
                await store.list_expiring(1.0, limit=limit)
        for key in (ALICE, BOB):
            await store.replace(key, {}, expected_version=0, expires_at=1.0)
        cursors = ((await store.list_users(limit=1)).next_cursor, (await store.list_expiring(2.0, limit=1)).next_cursor)
        for cursor in ("", "x", "é", "ZQ==", cursors[1]):
            with pytest.raises(ConfigurationError, match="cursor"):
                await store.list_users(cursor=cursor)
        for cursor in ("", "ZQ==", cursors[0]):
            with pytest.raises(ConfigurationError, match="cursor"):
                await store.list_expiring(2.0, cursor=cursor)

    # --- life

    @in_a_loop
    async def test_closing_twice_is_no_error(self, store: CoordinatedTokenStorage) -> None:
        """Nor is closing it unused, which every other test here does."""
        await store.save_token("alice", {"a": 1})
        await store.aclose()
        await store.aclose()

    async def _listed(self, store: CoordinatedTokenStorage, namespace: str | None, limit: int) -> list[tuple[tuple[str, str], int]]:
        found: list[Listed] = []
        cursor: str | None = None
        while True:
            page = await store.list_users(namespace, cursor=cursor, limit=limit)
            assert len(page.items) <= limit
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return sorted(((each.key.namespace, each.key.user_id), each.version) for each in found)
