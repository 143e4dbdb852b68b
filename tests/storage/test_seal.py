"""What a storage seals for a journal outside the store: encrypted and bound as records are."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from pauth.errors import ConfigurationError, RecordTampered, RecordUnreadable, TokenStorageError, UnknownEncryptionKey, UnsupportedRecord
from pauth.storage import MemoryTokenStorage, RecordKey, coordinated
from pauth.storage.codec import Codec, RecordKind
from pauth.storage.driven import DrivenTokenStorage
from pauth.storage.keys import Keyring
from tests.storage.coalesce_kit import HeldDriver
from tests.storage.kit import KEY, OTHER_KEY, TOKENS, DictStorage
from tests.support.canary import leaks_in_error

NAME = "entry-1"


def sealing(*keys: Any) -> DrivenTokenStorage:
    return DrivenTokenStorage(HeldDriver(), keyring=Keyring(keys or [KEY]))


def in_plaintext() -> DrivenTokenStorage:
    return DrivenTokenStorage(HeldDriver(), keyring=None)


def test_what_was_sealed_comes_back_in_another_process_with_the_key_p4() -> None:
    sealed = sealing().seal(NAME, TOKENS)
    assert type(sealed) is bytes
    assert sealing().unseal(NAME, sealed) == TOKENS
    assert sealing(OTHER_KEY, KEY).unseal(NAME, sealed) == TOKENS  # after the key was changed


def test_no_secret_is_readable_in_it_and_it_says_so_p16() -> None:
    storage = sealing()
    assert storage.sealed
    for word in (b"CANARY", b"access_token", NAME.encode()):
        assert word not in storage.seal(NAME, TOKENS)


def test_what_was_changed_cut_or_renamed_is_found_vc_6() -> None:
    storage = sealing()
    data = storage.seal(NAME, TOKENS)
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(RecordUnreadable):
            storage.unseal(NAME, changed)
    for length in range(len(data)):  # a journal that was torn by a crash
        with pytest.raises(RecordUnreadable):
            storage.unseal(NAME, data[:length])
    with pytest.raises(RecordTampered):
        storage.unseal("entry-2", data)


@pytest.mark.parametrize(("kind", "key"), [(RecordKind.PENDING, NAME), (RecordKind.TOKENS, RecordKey("", NAME)), (RecordKind.OWNER, NAME)])
def test_a_journal_entry_is_no_record_and_a_record_no_entry_vc_2(kind: RecordKind, key: RecordKey | str) -> None:
    codec = Codec(Keyring([KEY]))
    with pytest.raises(RecordTampered):
        codec.decode(kind, key, 0, sealing().seal(NAME, TOKENS))
    with pytest.raises(RecordTampered):
        sealing().unseal(NAME, codec.encode(kind, key, 0, TOKENS))


@pytest.mark.plaintext_files
def test_plaintext_is_told_and_not_trusted_where_encryption_is_on_vc_6() -> None:
    plain = in_plaintext()
    assert not plain.sealed
    data = plain.seal(NAME, TOKENS)
    assert plain.unseal(NAME, data) == TOKENS
    with pytest.raises(RecordTampered, match="plaintext is not trusted"):
        sealing().unseal(NAME, data)
    with pytest.raises(UnknownEncryptionKey):
        plain.unseal(NAME, sealing().seal(NAME, TOKENS))


def test_its_errors_are_those_of_records() -> None:
    with pytest.raises(UnknownEncryptionKey, match=KEY.key_id.hex()):
        sealing(OTHER_KEY).unseal(NAME, sealing().seal(NAME, TOKENS))
    with pytest.raises(UnsupportedRecord):
        sealing().unseal(NAME, b"another program's")


def test_what_cannot_be_sealed_shows_in_no_traceback_sh_5(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TokenStorageError, match="not JSON") as refused:
        sealing().seal(NAME, {"access_token": "CANARY-at", "x": (1,)})
    monkeypatch.setattr("pauth.storage.codec._MAX_RECORDS", 0)
    with pytest.raises(ConfigurationError, match="put a new key in front") as exhausted:
        sealing().seal(NAME, TOKENS)
    for caught in (refused, exhausted):
        assert not list(leaks_in_error(caught.value))
        assert caught.value.__context__ is None


async def test_a_closed_storage_still_seals_what_it_could_not_store_p4() -> None:
    storage = sealing()
    await storage.aclose()
    assert storage.unseal(NAME, storage.seal(NAME, TOKENS)) == TOKENS


def test_what_has_no_key_does_not_seal() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for storage in (MemoryTokenStorage(), coordinated(DictStorage())):
            assert not hasattr(storage, "seal")


def test_golden_entries_stay_readable_p18() -> None:
    """A journal entry as the first format wrote it: one may lie on a disk while pauth is upgraded."""
    assert sealing().unseal("golden", bytes.fromhex(GOLDEN)) == {"refresh_token": "CANARY-golden", "n": 1}


GOLDEN = """
704175540101c86f50fe05975aa6027b6530a78aa7c83366de3600000000000000004f38fc28814b133a670135b8ebbd5e2c
279708c0f1090d97db50519f52acf615254dc0b123a1c75991688866955d0e369d289c2ccab863
"""
