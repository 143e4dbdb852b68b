"""What keys and values look like (RD-1), and that nothing else is taken for them (RD-7)."""

from __future__ import annotations

import pytest

from pauth.errors import ConfigurationError, UnsupportedRecord
from pauth.storage.identity import row_id
from pauth.storage.redis.rows import SHARDS, SLOTS, Keys, expiring_bound, live_row, put_rest, shard_of, user_row
from pauth.testing.contract_kit import CONFUSABLE_IDS
from tests.storage.redis.kit import one_per_shard, put


def test_no_text_of_a_user_is_in_a_key_rd_1() -> None:
    keys = Keys("pauth")
    made = [
        kind(row_id(namespace, user)) for user in CONFUSABLE_IDS for namespace in ("", "a", "a:b") for kind in (keys.record, keys.lease, keys.pending)
    ]
    assert len(set(made)) == len(made)
    for key in made:
        prefix, tag, kind, name = key.decode().split(":")
        assert prefix == "pauth"
        assert tag.startswith("{")
        assert tag.endswith("}")
        assert kind in ("r", "l", "p")
        assert len(bytes.fromhex(name)) == 32


def test_a_record_its_lease_and_its_index_share_a_tag_in_the_order_of_rows() -> None:
    keys = Keys("pauth")
    rows = sorted(row_id("", user) for user in one_per_shard())
    assert [shard_of(row) for row in rows] == list(range(SHARDS))
    for shard, row in enumerate(rows):
        tags = {key.split(b":")[1] for key in (keys.record(row), keys.lease(row), keys.pending(row), keys.indexes[shard], keys.fences[shard])}
        assert len(tags) == 1
    assert sorted(set(SLOTS)) == list(SLOTS)
    assert {slot // 512 for slot in SLOTS} == set(range(32))  # spread evenly


def test_no_key_of_one_prefix_is_a_key_of_another_rd_1() -> None:
    row = row_id("", "alice")
    for one, other in (("a", "a:b"), ("a", "ab"), ("a:", "a"), ("a:r", "a")):
        theirs = {Keys(other).record(row), *Keys(other).indexes, *Keys(other).fences}
        assert not theirs & {Keys(one).record(row), Keys(one).lease(row), *Keys(one).indexes, *Keys(one).fences}


@pytest.mark.parametrize("bad", ["", "a b", "a{b}", "é", "x" * 65, "a\n", "*"])
def test_a_prefix_that_could_confuse_is_refused_rd_1(bad: str) -> None:
    with pytest.raises(ConfigurationError, match="key prefix"):
        Keys(bad)


@pytest.mark.parametrize("length", [0, 3, 4, 11, 60, 61, 64])
def test_a_value_cut_short_is_unreadable_not_missing_rd_7(length: int) -> None:
    value = b"pR1L" + (7).to_bytes(8, "big") + bytes(put_rest(put("alice")))
    row = live_row(memoryview(value))
    assert row is not None
    assert (row.version, bytes(row.data)) == (7, b"CANARY-data of alice")
    with pytest.raises(UnsupportedRecord):
        live_row(memoryview(value[:length]))


def test_values_of_others_and_of_newer_versions_are_unreadable_p18() -> None:
    for value in (b"x" * 100, b"pR2L" + bytes(100), b"pR1X" + bytes(100)):
        with pytest.raises(UnsupportedRecord):
            live_row(memoryview(value))
    assert live_row(memoryview(b"pR1D" + bytes(16))) is None


def test_what_a_row_does_not_have_is_none() -> None:
    head = b"pR1L" + (7).to_bytes(8, "big")
    row = live_row(memoryview(head + bytes(put_rest(put("alice", expires_at=0, lineage=bytes(16), key_id=bytes(8))))))
    assert row is not None
    assert (row.expires_at, row.lineage, row.stored_at) == (0, bytes(16), 1_000)
    bare = live_row(memoryview(head + bytes(put_rest(put("alice")))))
    assert bare is not None
    assert (bare.expires_at, bare.lineage) == (None, None)
    assert user_row(b"", head + bytes(put_rest(put("alice")))).key_id is None


def test_moments_are_in_order_before_1970_too() -> None:
    moments = [-(2**63), -(10**15), -1, 0, 1, 1_767_225_600_000, 10**15]
    assert sorted(map(expiring_bound, moments)) == [expiring_bound(moment) for moment in moments]
