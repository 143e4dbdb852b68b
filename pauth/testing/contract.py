"""The contract of token storages, as tests to derive from. Needs pytest, and no plugin.

For a class with the three methods, async or (derived from ``BaseTokenStorage``) blocking::

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self, tmp_path):
            return MyStorage(tmp_path / "tokens")

For one that has the whole coordinated protocol, derive from :class:`CoordinatedStorageContract` and give the storage the ``clock`` fixture.
``pytest.register_assert_rewrite("pauth.testing.contract", "pauth.testing.contract_coordinated")`` in ``conftest.py`` makes failures readable.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pauth.errors import InvalidUserId, StorageUnavailable, TokenStorageError
from pauth.storage import CoordinatedTokenStorage, RecordKey, coordinated
from pauth.testing.clock import ManualClock
from pauth.testing.contract_kit import ALICE, CONFUSABLE_IDS, JSON_OBJECTS, NOT_JSON, TOKENS, in_a_loop, tokens_of

__all__ = ["StorageContract"]


class StorageContract:
    """What every storage does. Give the ``storage`` fixture."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The storage's clock, where it takes one."""
        return ManualClock()

    @pytest.fixture
    def storage(self) -> Any:
        """A storage, empty. It is closed after the test if it has ``aclose``."""
        raise NotImplementedError("give the fixture storage")

    @pytest.fixture
    def store(self, storage: Any, clock: ManualClock) -> CoordinatedTokenStorage:
        """The storage as pauth uses it: a class with three methods is wrapped."""
        return coordinated(storage, clock=clock)

    def break_storage(self, storage: Any) -> None:  # noqa: ARG002  # for those who override it
        """Make what the storage stores in unreachable, until :meth:`mend_storage`. Without this, faults are not tried."""
        pytest.skip("the tests of this storage do not say how to break it")

    def mend_storage(self, storage: Any) -> None:
        """The reverse of :meth:`break_storage`."""

    # --- the three methods

    @in_a_loop
    async def test_what_is_saved_comes_back(self, store: CoordinatedTokenStorage) -> None:
        """Equal, and a dict."""
        await store.save_token("alice", TOKENS)
        found = await store.get_token("alice")
        assert found == TOKENS
        assert type(found) is dict

    @in_a_loop
    async def test_any_json_comes_back_equal(self, store: CoordinatedTokenStorage) -> None:
        """Equal in value and in type: 1, 1.0 and True are three things. 64 KiB are kept whole (SQ-7)."""
        for tokens in JSON_OBJECTS:
            await store.save_token("alice", tokens)
            found = await store.get_token("alice")
            assert found == tokens
            assert json.dumps(found, sort_keys=True) == json.dumps(tokens, sort_keys=True)

    @in_a_loop
    async def test_saving_again_replaces(self, store: CoordinatedTokenStorage) -> None:
        """The whole dict, not its members."""
        await store.save_token("alice", {"a": 1, "b": 2})
        await store.save_token("alice", {"a": 3})
        assert await store.get_token("alice") == {"a": 3}

    @in_a_loop
    async def test_a_missing_user_gives_none(self, store: CoordinatedTokenStorage) -> None:
        """Not an error, not an empty dict."""
        assert await store.get_token("nobody") is None
        assert await store.load(RecordKey("provider-a", "nobody")) is None

    @in_a_loop
    async def test_deleting_forgets_and_deleting_nothing_is_no_error(self, store: CoordinatedTokenStorage) -> None:
        """One user's tokens, nobody else's."""
        await store.delete_token("alice")
        await store.save_token("alice", TOKENS)
        await store.save_token("bob", TOKENS)
        await store.delete_token("alice")
        await store.delete_token("alice")
        assert await store.get_token("alice") is None
        assert await store.get_token("bob") == TOKENS

    @in_a_loop
    async def test_confusable_ids_are_distinct_users_px_5(self, store: CoordinatedTokenStorage) -> None:
        """No folding, trimming, normalising, globbing."""
        for number, user_id in enumerate(CONFUSABLE_IDS):
            await store.save_token(user_id, {"number": number})
        assert [await store.get_token(user_id) for user_id in CONFUSABLE_IDS] == [{"number": number} for number in range(len(CONFUSABLE_IDS))]
        await store.delete_token("*")
        assert [user_id for user_id in CONFUSABLE_IDS if await store.get_token(user_id) is None] == ["*"]

    @pytest.mark.parametrize("user_id", ["", None, 0, b"alice", "\ud800", "x" * 1025, "é" * 513])
    @in_a_loop
    async def test_unusable_ids_are_refused_px_5(self, store: CoordinatedTokenStorage, user_id: Any) -> None:
        """Before anything is asked of the store."""
        operations: list[Callable[[], Awaitable[object]]] = [
            lambda: store.save_token(user_id, {"a": 1}),
            lambda: store.get_token(user_id),
            lambda: store.delete_token(user_id),
        ]
        for operation in operations:
            with pytest.raises(InvalidUserId):
                await operation()

    @in_a_loop
    async def test_what_is_not_json_is_refused_and_the_old_record_stays(self, store: CoordinatedTokenStorage) -> None:
        """NaN, tuples, bytes and the like."""
        await store.save_token("alice", {"a": 1})
        for value in NOT_JSON:
            with pytest.raises(TokenStorageError, match="cannot be stored"):
                await store.save_token("alice", {"a": 2, "b": value})
            with pytest.raises(TokenStorageError, match="cannot be stored"):
                await store.put_pending("login", {"b": value}, expires_at=2e9)
        no_dicts: tuple[Any, ...] = (None, [], "text")
        for tokens in no_dicts:
            with pytest.raises(TokenStorageError, match="must be a dict"):
                await store.save_token("alice", tokens)
        assert await store.get_token("alice") == {"a": 1}
        assert await store.take_pending("login") is None

    @in_a_loop
    async def test_later_changes_of_a_dict_do_not_show(self, store: CoordinatedTokenStorage) -> None:
        """Neither of one that was saved, nor of one that was given."""
        numbers = [1]
        tokens = {"nested": {"list": numbers}}
        await store.save_token("alice", tokens)
        numbers.append(2)
        record = await store.replace(RecordKey("", "bob"), tokens, expected_version=None)
        numbers.append(3)
        assert tokens_of(record) == {"nested": {"list": [1, 2]}}
        found = await store.get_token("alice")
        assert found == {"nested": {"list": [1]}}
        assert found is not None
        found.clear()
        assert await store.get_token("alice") == {"nested": {"list": [1]}}

    @in_a_loop
    async def test_users_at_once_do_not_mix_p13(self, store: CoordinatedTokenStorage) -> None:
        """64 users, each saving, reading, deleting."""

        async def user(number: int) -> None:
            name = f"user-{number}"
            for turn in range(3):
                await store.save_token(name, {"owner": name, "turn": turn})
                assert await store.get_token(name) == {"owner": name, "turn": turn}
            if number % 2:
                await store.delete_token(name)
                assert await store.get_token(name) is None

        await asyncio.gather(*(user(number) for number in range(64)))
        left = [await store.get_token(f"user-{number}") for number in range(64)]
        assert left == [None if number % 2 else {"owner": f"user-{number}", "turn": 2} for number in range(64)]

    # --- versions

    @in_a_loop
    async def test_versions_go_up_by_one(self, store: CoordinatedTokenStorage) -> None:
        """From 1; and what :meth:`load` gives is what :meth:`replace` gave."""
        for version, expected in ((1, 0), (2, 1), (3, None), (4, 3)):
            written = await store.replace(ALICE, {"n": version}, expected_version=expected)
            assert written is not None
            assert (written.version, tokens_of(written)) == (version, {"n": version})
            assert await store.load(ALICE) == written

    @in_a_loop
    async def test_another_version_is_not_replaced(self, store: CoordinatedTokenStorage) -> None:
        """Nothing is written."""
        assert await store.replace(ALICE, {"n": 0}, expected_version=1) is None
        assert await store.load(ALICE) is None
        await store.replace(ALICE, {"n": 1}, expected_version=0)
        await store.replace(ALICE, {"n": 2}, expected_version=1)
        for stale in (0, 1, 3):
            assert await store.replace(ALICE, {"n": 9}, expected_version=stale) is None
        record = await store.load(ALICE)
        assert record is not None
        assert (record.version, tokens_of(record)) == (2, {"n": 2})

    @in_a_loop
    async def test_another_version_is_not_removed(self, store: CoordinatedTokenStorage) -> None:
        """And a removed record is not there."""
        assert await store.remove(ALICE) is False
        await store.replace(ALICE, {"n": 1}, expected_version=0)
        for stale in (2, 0):
            assert await store.remove(ALICE, expected_version=stale) is False
        assert await store.load(ALICE) is not None
        assert await store.remove(ALICE, expected_version=1) is True
        assert await store.remove(ALICE, expected_version=1) is False
        assert await store.load(ALICE) is None

    @in_a_loop
    async def test_lineage_is_compared(self, store: CoordinatedTokenStorage) -> None:
        """A successor is written over its predecessor only (P6)."""
        first, second, other = b"1" * 16, b"2" * 16, b"3" * 16
        assert await store.replace(ALICE, {"n": 0}, expected_version=None, expected_lineage=first) is None
        written = await store.replace(ALICE, {"n": 1}, expected_version=0, lineage=first)
        assert written is not None
        assert written.lineage == first
        assert await store.load(ALICE) == written
        for version in (None, 1):
            assert await store.replace(ALICE, {"n": 9}, expected_version=version, expected_lineage=other, lineage=second) is None
        assert await store.replace(ALICE, {"n": 9}, expected_version=2, expected_lineage=first, lineage=second) is None
        assert await store.replace(ALICE, {"n": 2}, expected_version=None, expected_lineage=first, lineage=second) is not None
        assert await store.replace(ALICE, {"n": 3}, expected_version=2, expected_lineage=second) is not None
        found = await store.load(ALICE)
        assert found is not None
        assert (found.version, found.lineage, tokens_of(found)) == (3, None, {"n": 3})
        assert await store.replace(ALICE, {"n": 9}, expected_version=3, expected_lineage=second) is None

    @in_a_loop
    async def test_a_writer_from_before_a_deletion_cannot_overwrite_a_new_login_p6(self, store: CoordinatedTokenStorage) -> None:
        """Versions go on after a deletion."""
        await store.replace(ALICE, {"login": 1}, expected_version=0)
        await store.remove(ALICE)
        assert await store.replace(ALICE, {"login": 9}, expected_version=1) is None
        again = await store.replace(ALICE, {"login": 2}, expected_version=0)
        assert again is not None
        assert again.version == 2
        assert await store.replace(ALICE, {"login": 1, "refreshed": True}, expected_version=1) is None
        assert await store.remove(ALICE, expected_version=1) is False
        assert tokens_of(await store.load(ALICE)) == {"login": 2}
        assert await store.replace(ALICE, {"login": 3}, expected_version=2) is not None

    @in_a_loop
    async def test_64_writers_of_one_version_have_one_winner_sq_2(self, store: CoordinatedTokenStorage) -> None:
        """Whoever it is, that is what is stored."""
        for version in range(3):
            outcomes = await asyncio.gather(*(store.replace(ALICE, {"writer": writer}, expected_version=version) for writer in range(64)))
            winners = [outcome for outcome in outcomes if outcome is not None]
            assert [winner.version for winner in winners] == [version + 1]
            assert await store.load(ALICE) == winners[0]

    @in_a_loop
    async def test_64_writers_that_read_and_try_again_lose_no_write_sq_2(self, store: CoordinatedTokenStorage) -> None:
        """Read, add one, replace."""

        async def count_up() -> list[int]:
            won: list[int] = []
            while (record := await store.load(ALICE)) is None or record.version < 6:
                version, count = (record.version, record.tokens["count"]) if record else (0, 0)
                if written := await store.replace(ALICE, {"count": count + 1}, expected_version=version):
                    won.append(written.version)
            return won

        versions = await asyncio.gather(*(count_up() for _ in range(64)))
        assert sorted(version for won in versions for version in won) == [1, 2, 3, 4, 5, 6]
        assert tokens_of(await store.load(ALICE)) == {"count": 6}

    @in_a_loop
    async def test_64_unconditional_writers_all_count_p13(self, store: CoordinatedTokenStorage) -> None:
        """Writes are never merged."""
        records = await asyncio.gather(*(store.replace(ALICE, {"writer": writer}, expected_version=None) for writer in range(64)))
        assert sorted(record.version for record in records if record) == list(range(1, 65))
        last = next(record for record in records if record and record.version == 64)
        assert await store.load(ALICE) == last

    @in_a_loop
    async def test_callers_cancelled_anywhere_leave_the_storage_usable_p14(self, store: CoordinatedTokenStorage) -> None:
        """What was cancelled happened or did not; what follows works."""
        await store.replace(ALICE, {"n": 0}, expected_version=0)
        for turns in range(30):
            callers = [
                asyncio.ensure_future(operation)
                for operation in (store.replace(ALICE, {"n": turns}, expected_version=None), store.load(ALICE), store.get_token("bob"))
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
        before = await store.load(ALICE)
        assert before is not None
        after = await store.replace(ALICE, {"n": "last"}, expected_version=None)
        assert after is not None
        assert after.version > before.version - 1
        assert tokens_of(await store.load(ALICE)) == {"n": "last"}

    # --- faults and life

    @in_a_loop
    async def test_a_store_out_of_reach_is_unavailable_and_loses_nothing_p12_p20(self, store: CoordinatedTokenStorage, storage: Any) -> None:
        """Needs :meth:`break_storage`. An error that can be retried, never "no token"."""
        await store.save_token("alice", {"n": 1})
        self.break_storage(storage)
        try:
            for operation in (store.get_token("alice"), store.save_token("alice", {"n": 2}), store.delete_token("alice")):
                with pytest.raises(StorageUnavailable) as caught:
                    await operation
                assert caught.value.retryable
                assert caught.value.__cause__ is None
                assert caught.value.__context__ is None
        finally:
            self.mend_storage(storage)
        assert await store.get_token("alice") in ({"n": 1}, {"n": 2}, None)  # whether a write was done is not known when the answer is lost
        await store.save_token("alice", {"n": 3})
        assert await store.get_token("alice") == {"n": 3}

    @in_a_loop
    async def test_nothing_stored_shows_in_a_repr_sh_1(self, store: CoordinatedTokenStorage, storage: Any) -> None:
        """Neither tokens nor user ids."""
        record = await store.replace(RecordKey("provider-a", "user-77"), TOKENS, expected_version=0)
        for shown in (repr(storage), str(storage), repr(store), repr(record), str(record)):
            assert "CANARY" not in shown
            assert "user-77" not in shown
