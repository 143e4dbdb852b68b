"""The codec: what a record's bytes are bound to, and what each kind of damage is called."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.errors import ConfigurationError, RecordTampered, RecordUnreadable, TokenStorageError, UnknownEncryptionKey, UnsupportedRecord
from pauth.storage import EncryptionKey, Keyring, RecordKey
from pauth.storage.codec import Codec, RecordKind, _associated_data  # pyright: ignore[reportPrivateUsage]
from tests.storage.kit import JSON_OBJECTS, KEY, OTHER_KEY, TOKENS, same_json

ALICE = RecordKey("provider-a", "alice")
ENCRYPTED = Codec(Keyring([KEY]))
PLAINTEXT = Codec(None)


def encode(codec: Codec = ENCRYPTED, version: int = 3) -> bytes:
    return codec.encode(RecordKind.TOKENS, ALICE, version, TOKENS)


def decode(data: bytes, codec: Codec = ENCRYPTED, version: int = 3) -> dict[str, Any]:
    return codec.decode(RecordKind.TOKENS, ALICE, version, data)


@given(JSON_OBJECTS, st.sampled_from([ENCRYPTED, PLAINTEXT]), st.sampled_from([0, 1, 2**40]))
def test_any_json_round_trips(payload: dict[str, Any], codec: Codec, version: int) -> None:
    assert same_json(codec.decode(RecordKind.TOKENS, ALICE, version, codec.encode(RecordKind.TOKENS, ALICE, version, payload)), payload)


def expected_error(position: int) -> type[RecordUnreadable]:
    """By the layout: magic 4, format 1, flags 1, key id 8, nonce 12, bound version 8, ciphertext and tag."""
    if position < 5:
        return UnsupportedRecord
    return UnknownEncryptionKey if 6 <= position < 14 else RecordTampered


@pytest.mark.parametrize("bit", range(8))
def test_every_changed_byte_is_found_and_called_by_its_name_vc_6(bit: int) -> None:
    data = encode()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << bit
        expected = UnsupportedRecord if position == 5 and bit > 1 else expected_error(position)
        with pytest.raises(RecordUnreadable) as caught:
            decode(bytes(changed))
        assert type(caught.value) is expected, position


def test_every_cut_record_is_found_vc_6() -> None:
    data = encode()
    for length in range(len(data)):
        with pytest.raises(RecordUnreadable) as caught:
            decode(data[:length])
        assert type(caught.value) is (UnsupportedRecord if length < 6 else RecordTampered), length
    with pytest.raises(RecordTampered):
        decode(data + b"\0")


@pytest.mark.parametrize(
    "elsewhere",
    [
        (RecordKind.TOKENS, RecordKey("provider-a", "bob")),
        (RecordKind.TOKENS, RecordKey("provider-b", "alice")),
        (RecordKind.TOKENS, RecordKey("", "provider-aalice")),
        (RecordKind.TOKENS, RecordKey("provider-", "aalice")),
        (RecordKind.TOKENS, RecordKey("provider-aa", "lice")),
        (RecordKind.PENDING, ALICE),
        (RecordKind.PENDING, "alice"),
        (RecordKind.TOKENS, "alice"),
    ],
)
def test_a_record_moved_elsewhere_is_found_vc_2_p16(elsewhere: tuple[RecordKind, RecordKey | str]) -> None:
    kind, key = elsewhere
    with pytest.raises(RecordTampered):
        ENCRYPTED.decode(kind, key, 3, encode())


def test_a_pending_login_is_bound_to_its_name_vc_2() -> None:
    data = ENCRYPTED.encode(RecordKind.PENDING, "login", 0, {"a": 1})
    assert ENCRYPTED.decode(RecordKind.PENDING, "login", 0, data) == {"a": 1}
    for kind, key in ((RecordKind.PENDING, "other"), (RecordKind.TOKENS, "login"), (RecordKind.PENDING, RecordKey("login", "x"))):
        with pytest.raises(RecordTampered):
            ENCRYPTED.decode(kind, key, 0, data)


def test_identities_never_meet_however_they_are_cut_vc_2() -> None:
    parts = ["a", "b", "ab", "ba", "aab", "\0", "a\0", "\0\0\0\1", "ü"]
    keys: list[RecordKey | str] = [RecordKey(one, two) for one, two in itertools.product([*parts, "", "\ud800"], parts)]
    keys += [*parts, "", "\ud800"]
    places = list(itertools.product((b"header", b"hEader"), (b"8 bytes.", b"8 bytes!"), RecordKind, keys, (0, 1, 2**63)))
    assert len({_associated_data(*place) for place in places}) == len(places)


def test_a_rolled_back_record_is_found_vc_3() -> None:
    assert decode(encode(version=3), version=3) == TOKENS
    for version in (1, 2, 4):
        with pytest.raises(RecordTampered):
            decode(encode(version=3), version=version)


def test_a_record_written_without_knowing_its_version_reads_as_any() -> None:
    assert decode(encode(version=0), version=17) == TOKENS


def test_plaintext_is_refused_where_encryption_is_on_vc_6() -> None:
    with pytest.raises(RecordTampered, match="plaintext is not trusted"):
        decode(encode(PLAINTEXT))


def test_an_encrypted_record_is_not_read_without_keys_vc_6() -> None:
    with pytest.raises(UnknownEncryptionKey, match="has no key"):
        decode(encode(), PLAINTEXT)


def test_a_key_that_is_not_configured_is_named_vc_6() -> None:
    with pytest.raises(UnknownEncryptionKey, match=KEY.key_id.hex()):
        decode(encode(), Codec(Keyring([OTHER_KEY])))


def test_another_key_with_the_same_id_does_not_read() -> None:
    imposter = EncryptionKey.generate()
    imposter.key_id = KEY.key_id
    with pytest.raises(RecordTampered):
        decode(encode(), Codec(Keyring([imposter])))


def test_an_old_key_behind_the_new_one_reads_vc_5_p16() -> None:
    old = encode()
    rotated = Codec(Keyring([OTHER_KEY, KEY]))
    assert decode(old, rotated) == TOKENS
    new = encode(rotated)
    assert decode(new, Codec(Keyring([OTHER_KEY]))) == TOKENS
    with pytest.raises(UnknownEncryptionKey):
        decode(new)


def test_a_newer_format_is_refused_never_misread_p18() -> None:
    for data in (encode(), encode(PLAINTEXT)):
        for position, value in ((4, 2), (4, 0), (4, 255), (5, data[5] | 4), (5, data[5] | 128)):
            newer = data[:position] + bytes([value]) + data[position + 1 :]
            for codec in (ENCRYPTED, PLAINTEXT):
                with pytest.raises(UnsupportedRecord, match="newer version of pauth"):
                    decode(newer, codec)


@pytest.mark.parametrize("data", [b"", b"pAuT", b"{}", b'{"access_token": "x"}', b"\x80\x04\x95", b"gAAAAABh" * 10])
def test_what_pauth_did_not_write_is_refused(data: bytes) -> None:
    for codec in (ENCRYPTED, PLAINTEXT):
        with pytest.raises(UnsupportedRecord, match="not written by pauth"):
            decode(data, codec)


@pytest.mark.parametrize("text", [b"", b"[1]", b"null", b'"x"', b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_plaintext_that_is_no_json_object_is_refused(text: bytes) -> None:
    for flags in (0, 2):
        if (flags, text) != (2, b'{"a": NaN}'):  # the dialect for what strict JSON cannot hold
            with pytest.raises(UnsupportedRecord, match="JSON object"):
                decode(b"pAuT\x01" + bytes([flags]) + text, PLAINTEXT)


@pytest.mark.parametrize("data", [encode(), encode(version=0)])
def test_no_secret_is_readable_in_an_encrypted_record_p16(data: bytes) -> None:
    for word in (b"CANARY", b"access_token", b"alice", b"provider-a"):
        assert word not in data


def test_nonces_are_unique_and_equal_payloads_look_different_vc_1() -> None:
    records = [ENCRYPTED.encode(RecordKind.TOKENS, ALICE, 1, {}) for _ in range(100_000)]
    assert len({record[14:26] for record in records}) == len(records)
    assert len({record[34:] for record in records}) == len(records)


def test_a_key_stops_before_its_nonces_may_repeat_vc_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pauth.storage.codec._MAX_RECORDS", 3)
    codec = Codec(Keyring([KEY]))
    for _ in range(3):
        encode(codec)
    with pytest.raises(ConfigurationError, match="put a new key in front"):
        codec.encode(RecordKind.TOKENS, ALICE, 1, {})
    unlimited = Codec(None)
    for _ in range(4):
        encode(unlimited)


def test_an_absurd_integer_is_refused_before_anything_is_written() -> None:
    with pytest.raises(TokenStorageError, match="integer is too large"):
        ENCRYPTED.encode(RecordKind.TOKENS, ALICE, 1, {"n": 10**5000})


def test_golden_records_stay_readable_p18() -> None:
    """Records as the first format wrote them. If this test fails, stored tokens become unreadable: add a format, do not change this one."""
    payload = {"access_token": "CANARY-golden", "n": 1}
    golden = bytes.fromhex(GOLDEN)
    assert Codec(Keyring([KEY])).decode(RecordKind.TOKENS, RecordKey("ns", "user"), 7, golden) == payload
    assert PLAINTEXT.decode(RecordKind.TOKENS, RecordKey("ns", "user"), 7, b'pAuT\x01\x00{"access_token":"CANARY-golden","n":1}') == payload
    assert PLAINTEXT.decode(RecordKind.TOKENS, RecordKey("ns", "user"), 7, b'pAuT\x01\x02{"n":123456789012345678901234567890}') == {
        "n": 123456789012345678901234567890
    }


GOLDEN = """
704175540101c86f50fe05975aa6bf99ff0f82e010e9d054021e00000000000000075c47654abc62fb2c46fd79aa44ed6efd
ba7c6e4eb0e0c985c90097fac3bd3b38c1c9dd4035c65e7a5c1bfeffa2f46130430493c0143c
"""
