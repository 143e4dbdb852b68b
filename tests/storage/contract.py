"""What every storage has to do, ours and users'. A test module derives from :class:`StorageContract` and gives the ``storage`` fixture."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from pauth.errors import InvalidUserId, TokenStorageError
from pauth.storage import AsyncTokenStorage, CoordinatedTokenStorage, Record, RecordKey
from pauth.testing.clock import ManualClock
from tests.storage.kit import CONFUSABLE_IDS, JSON_OBJECTS, TOKENS, plain, same_json

ALICE = RecordKey("provider-a", "alice")


class StorageContract:
    """The contract. The clock of the storage is the ``clock`` fixture."""

    keeps_times = True
    """A user's three-method class has no place for the times of a record."""

    examples = 60
    """How many arbitrary JSON objects are tried."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    def test_it_has_all_methods(self, storage: CoordinatedTokenStorage) -> None:
        assert isinstance(storage, AsyncTokenStorage)
        assert isinstance(storage, CoordinatedTokenStorage)

    # --- the three plain methods

    async def test_what_is_saved_comes_back(self, storage: CoordinatedTokenStorage) -> None:
        await storage.save_token("alice", TOKENS)
        found = await storage.get_token("alice")
        assert same_json(found, TOKENS)
        assert type(found) is dict

    def test_any_json_comes_back_equal(self, storage: CoordinatedTokenStorage, loop: asyncio.Runner) -> None:
        async def round_trip(tokens: dict[str, Any]) -> None:
            await storage.save_token("alice", tokens)
            assert same_json(await storage.get_token("alice"), tokens)

        @settings(max_examples=self.examples, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
        @given(JSON_OBJECTS)
        def every(tokens: dict[str, Any]) -> None:
            loop.run(round_trip(tokens))

        every()

    async def test_saving_again_replaces(self, storage: CoordinatedTokenStorage) -> None:
        await storage.save_token("alice", {"a": 1, "b": 2})
        await storage.save_token("alice", {"a": 3})
        assert await storage.get_token("alice") == {"a": 3}

    async def test_a_missing_user_gives_none(self, storage: CoordinatedTokenStorage) -> None:
        assert await storage.get_token("nobody") is None
        assert await storage.load(RecordKey("provider-a", "nobody")) is None

    async def test_deleting_forgets_and_deleting_nothing_is_no_error(self, storage: CoordinatedTokenStorage) -> None:
        await storage.delete_token("alice")
        await storage.save_token("alice", TOKENS)
        await storage.save_token("bob", TOKENS)
        await storage.delete_token("alice")
        await storage.delete_token("alice")
        assert await storage.get_token("alice") is None
        assert await storage.get_token("bob") == TOKENS

    async def test_confusable_ids_are_distinct_users_px_5(self, storage: CoordinatedTokenStorage) -> None:
        assert len(set(CONFUSABLE_IDS)) >= 30
        for number, user_id in enumerate(CONFUSABLE_IDS):
            await storage.save_token(user_id, {"number": number})
        assert [await storage.get_token(user_id) for user_id in CONFUSABLE_IDS] == [{"number": number} for number in range(len(CONFUSABLE_IDS))]
        await storage.delete_token("*")
        assert [user_id for user_id in CONFUSABLE_IDS if await storage.get_token(user_id) is None] == ["*"]

    @pytest.mark.parametrize("user_id", ["", None, 0, b"alice", "\ud800", "x" * 1025, "é" * 513])
    async def test_unusable_ids_are_refused_px_5(self, storage: CoordinatedTokenStorage, user_id: Any) -> None:
        operations: list[Callable[[], Awaitable[object]]] = [
            lambda: storage.save_token(user_id, {"a": 1}),
            lambda: storage.get_token(user_id),
            lambda: storage.delete_token(user_id),
        ]
        for operation in operations:
            with pytest.raises(InvalidUserId):
                await operation()

    async def test_64_kib_tokens_are_kept_whole_sq_7(self, storage: CoordinatedTokenStorage) -> None:
        tokens = {"access_token": "CANARY" + "x" * 65_536, "id_token": "ü€😀" * 10_000}
        await storage.save_token("alice", tokens)
        assert await storage.get_token("alice") == tokens

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), (1, 2), {1, 2}, b"bytes", {1: "one"}, object(), [{"a": {3.5: 1}}]])
    async def test_what_is_not_json_is_refused_and_the_old_record_stays(self, storage: CoordinatedTokenStorage, value: object) -> None:
        await storage.save_token("alice", {"a": 1})
        with pytest.raises(TokenStorageError, match="cannot be stored"):
            await storage.save_token("alice", {"a": 2, "b": value})
        with pytest.raises(TokenStorageError, match="cannot be stored"):
            await storage.put_pending("login", {"b": value}, expires_at=2e9)
        assert await storage.get_token("alice") == {"a": 1}
        assert await storage.take_pending("login") is None

    @pytest.mark.parametrize("tokens", [None, [], "text"])
    async def test_tokens_must_be_a_dict(self, storage: CoordinatedTokenStorage, tokens: Any) -> None:
        with pytest.raises(TokenStorageError, match="must be a dict"):
            await storage.save_token("alice", tokens)

    async def test_later_changes_of_a_dict_do_not_show(self, storage: CoordinatedTokenStorage) -> None:
        numbers = [1]
        tokens = {"nested": {"list": numbers}}
        await storage.save_token("alice", tokens)
        numbers.append(2)
        record = await storage.replace(RecordKey("", "bob"), tokens, expected_version=None)
        numbers.append(3)
        assert plain(record) == {"nested": {"list": [1, 2]}}
        found = await storage.get_token("alice")
        assert found == {"nested": {"list": [1]}}
        assert found is not None
        found.clear()
        assert await storage.get_token("alice") == {"nested": {"list": [1]}}

    async def test_later_changes_of_a_pending_login_do_not_show(self, storage: CoordinatedTokenStorage, clock: ManualClock) -> None:
        numbers = [1]
        payload = {"list": numbers}
        await storage.put_pending("login", payload, expires_at=clock.time() + 60)
        numbers.append(2)
        assert await storage.take_pending("login") == {"list": [1]}

    # --- versions

    async def test_versions_go_up_by_one(self, storage: CoordinatedTokenStorage, clock: ManualClock) -> None:
        first = await storage.replace(ALICE, {"n": 1}, expected_version=0, expires_at=clock.time() + 3600)
        clock.advance(10)
        second = await storage.replace(ALICE, {"n": 2}, expected_version=1)
        third = await storage.replace(ALICE, {"n": 3}, expected_version=None, expires_at=5.5)
        fourth = await storage.replace(ALICE, {"n": 4}, expected_version=3)
        records = (first, second, third, fourth)
        assert [record.version for record in records if record] == [1, 2, 3, 4]
        assert [plain(record) for record in records] == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]
        if self.keeps_times:
            assert first is not None and second is not None and third is not None
            assert second.stored_at - first.stored_at == 10
            assert (first.expires_at, second.expires_at, third.expires_at) == (clock.time() - 10 + 3600, None, 5.5)

    async def test_load_gives_what_replace_gave(self, storage: CoordinatedTokenStorage, clock: ManualClock) -> None:
        for expected_version in (0, 1, None):
            written = await storage.replace(ALICE, TOKENS, expected_version=expected_version, expires_at=clock.time() + 1 / 3)
            assert written is not None
            assert await storage.load(ALICE) == written
            assert written.key == ALICE
            assert same_json(plain(written), TOKENS)

    async def test_another_version_is_not_replaced(self, storage: CoordinatedTokenStorage) -> None:
        assert await storage.replace(ALICE, {"n": 0}, expected_version=1) is None
        assert await storage.load(ALICE) is None
        await storage.replace(ALICE, {"n": 1}, expected_version=0)
        await storage.replace(ALICE, {"n": 2}, expected_version=1)
        for stale in (0, 1, 3):
            assert await storage.replace(ALICE, {"n": 9}, expected_version=stale) is None
        assert await storage.load(ALICE) == Record(ALICE, {"n": 2}, 2, *await self._times(storage))

    async def test_another_version_is_not_removed(self, storage: CoordinatedTokenStorage) -> None:
        assert await storage.remove(ALICE) is False
        await storage.replace(ALICE, {"n": 1}, expected_version=0)
        assert await storage.remove(ALICE, expected_version=2) is False
        assert await storage.remove(ALICE, expected_version=0) is False
        assert await storage.load(ALICE) is not None
        assert await storage.remove(ALICE, expected_version=1) is True
        assert await storage.remove(ALICE, expected_version=1) is False
        assert await storage.load(ALICE) is None

    async def test_a_writer_from_before_a_deletion_cannot_overwrite_a_new_login_p6(self, storage: CoordinatedTokenStorage) -> None:
        await storage.replace(ALICE, {"login": 1}, expected_version=0)
        await storage.remove(ALICE)
        assert await storage.replace(ALICE, {"login": 9}, expected_version=1) is None
        again = await storage.replace(ALICE, {"login": 2}, expected_version=0)
        assert again is not None
        assert again.version == 2
        assert await storage.replace(ALICE, {"login": 1, "refreshed": True}, expected_version=1) is None
        assert await storage.remove(ALICE, expected_version=1) is False
        assert plain(await storage.load(ALICE)) == {"login": 2}
        assert await storage.replace(ALICE, {"login": 3}, expected_version=2) is not None

    async def test_64_writers_of_one_version_have_one_winner_sq_2(self, storage: CoordinatedTokenStorage) -> None:
        for version in range(3):
            outcomes = await asyncio.gather(*(storage.replace(ALICE, {"writer": writer}, expected_version=version) for writer in range(64)))
            winners = [outcome for outcome in outcomes if outcome is not None]
            assert [winner.version for winner in winners] == [version + 1]
            assert await storage.load(ALICE) == winners[0]

    async def test_64_writers_that_read_and_try_again_lose_no_write_sq_2(self, storage: CoordinatedTokenStorage) -> None:
        async def count_up() -> list[int]:
            won: list[int] = []
            while (record := await storage.load(ALICE)) is None or record.version < 4:
                version, count = (record.version, record.tokens["count"]) if record else (0, 0)
                if written := await storage.replace(ALICE, {"count": count + 1}, expected_version=version):
                    won.append(written.version)
            return won

        versions = await asyncio.gather(*(count_up() for _ in range(64)))
        assert sorted(version for won in versions for version in won) == [1, 2, 3, 4]
        assert plain(await storage.load(ALICE)) == {"count": 4}

    async def test_64_unconditional_writers_all_count_p13(self, storage: CoordinatedTokenStorage) -> None:
        records = await asyncio.gather(*(storage.replace(ALICE, {"writer": writer}, expected_version=None) for writer in range(64)))
        assert sorted(record.version for record in records if record) == list(range(1, 65))
        last = next(record for record in records if record and record.version == 64)
        assert await storage.load(ALICE) == last

    async def test_namespaces_are_apart_p13(self, storage: CoordinatedTokenStorage) -> None:
        keys = [
            RecordKey("a", "bc"),
            RecordKey("ab", "c"),
            RecordKey("", "abc"),
            RecordKey("a:b", "c"),
            RecordKey("a", "b:c"),
            RecordKey("\ud800", "c"),
        ]
        for number, key in enumerate(keys):
            await storage.replace(key, {"number": number}, expected_version=0)
        assert [plain(await storage.load(key)) for key in keys] == [{"number": number} for number in range(len(keys))]
        assert await storage.get_token("abc") == {"number": 2}
        assert await storage.get_token("bc") is None
        await storage.remove(keys[0])
        assert await storage.load(keys[1]) is not None

    @pytest.mark.parametrize("expires_at", [float("nan"), float("inf"), -1e13])
    async def test_impossible_moments_are_refused(self, storage: CoordinatedTokenStorage, expires_at: float) -> None:
        with pytest.raises(TokenStorageError, match="seconds since the Unix epoch"):
            await storage.replace(ALICE, {"n": 1}, expected_version=None, expires_at=expires_at)
        with pytest.raises(TokenStorageError, match="seconds since the Unix epoch"):
            await storage.put_pending("login", {}, expires_at=expires_at)
        assert await storage.load(ALICE) is None

    # --- pending logins

    async def test_a_pending_login_is_taken_once_ax_3(self, storage: CoordinatedTokenStorage, clock: ManualClock) -> None:
        payload = {"code_verifier": "CANARY-code-verifier", "n": [1, None]}
        await storage.put_pending("login", payload, expires_at=clock.time() + 600)
        assert await storage.take_pending("other") is None
        assert await storage.take_pending("login") == payload
        assert await storage.take_pending("login") is None

    async def test_of_50_takers_one_gets_it_ax_3(self, storage: CoordinatedTokenStorage, clock: ManualClock) -> None:
        for number in range(3):
            await storage.put_pending("login", {"number": number}, expires_at=clock.time() + 600)
            taken = await asyncio.gather(*(storage.take_pending("login") for _ in range(50)))
            assert [payload for payload in taken if payload is not None] == [{"number": number}]

    async def test_an_expired_pending_login_is_not_given_ax_4(self, storage: CoordinatedTokenStorage, clock: ManualClock) -> None:
        await storage.put_pending("early", {"n": 1}, expires_at=clock.time() + 600)
        await storage.put_pending("late", {"n": 2}, expires_at=clock.time() + 600)
        await storage.put_pending("never", {"n": 3}, expires_at=clock.time() - 1)
        clock.advance(599)
        assert await storage.take_pending("early") == {"n": 1}
        clock.advance(1)
        assert await storage.take_pending("late") is None
        assert await storage.take_pending("never") is None

    async def test_pending_ids_are_opaque(self, storage: CoordinatedTokenStorage, clock: ManualClock) -> None:
        for number, pending_id in enumerate(("", "a", "A", "a\0", "%", "'", "\ud800", "x" * 5000)):
            await storage.put_pending(pending_id, {"number": number}, expires_at=clock.time() + 1)
        assert [await storage.take_pending(each) for each in ("", "a", "A", "a\0", "%", "'", "\ud800", "x" * 5000)] == [
            {"number": n} for n in range(8)
        ]

    # --- life

    async def test_closing_twice_is_no_error(self, storage: CoordinatedTokenStorage) -> None:
        await storage.save_token("alice", {"a": 1})
        await storage.aclose()
        await storage.aclose()

    async def test_closing_unused_is_no_error(self, storage: CoordinatedTokenStorage) -> None:
        await storage.aclose()

    async def test_nothing_stored_shows_in_a_repr_sh_1(self, storage: CoordinatedTokenStorage) -> None:
        record = await storage.replace(RecordKey("provider-a", "user-77"), TOKENS, expected_version=0)
        for shown in (repr(storage), str(storage), repr(record), str(record)):
            assert "CANARY" not in shown
            assert "user-77" not in shown

    async def _times(self, storage: CoordinatedTokenStorage) -> tuple[float, float | None]:
        record = await storage.load(ALICE)
        assert record is not None
        return record.stored_at, record.expires_at
