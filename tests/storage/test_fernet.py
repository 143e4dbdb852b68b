"""Fernet keys and records: read, written anew in pauth's format, never used to encrypt (VC-5, VC-10)."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from pauth.errors import ConfigurationError, RecordTampered, UnknownEncryptionKey, UnsupportedRecord
from pauth.secret import Secret
from pauth.storage import EncryptionKey, FernetKey, Keyring, RecordKey, reencrypt
from pauth.storage.codec import Codec, RecordKind
from pauth.storage.files.keyfile import keyring_from_file
from pauth.storage.keys import keyring_from, keyring_from_environment
from tests.storage.kit import KEY, database, plain
from tests.support.canary import leaks_in_error

RAW = b"CANARY-fernet-key".ljust(32, b"=")
TEXT = base64.urlsafe_b64encode(RAW).decode()
FERNET = FernetKey(RAW)
OTHER = FernetKey(b"CANARY-other-fernet-key".ljust(32, b"="))
TOKENS = {"access_token": "CANARY-access", "refresh_token": "CANARY-refresh", "expires_at": 1.5, "n": 2**70, "ü": ["x", None]}
ALICE = RecordKey("", "alice")


def fernet_token(payload: object = TOKENS, key: bytes = RAW) -> bytes:
    return Fernet(base64.urlsafe_b64encode(key)).encrypt(payload if isinstance(payload, bytes) else json.dumps(payload).encode())


def test_a_token_of_cryptography_is_read_whatever_its_type_or_age() -> None:
    token = fernet_token()
    assert FERNET.read(token) == FERNET.read(token.decode()) == TOKENS
    old = Fernet(TEXT).encrypt_at_time(json.dumps(TOKENS).encode(), 1_000_000_000)
    assert FERNET.read(old) == TOKENS


def test_what_a_fernet_key_may_be_written_as() -> None:
    for text in (TEXT, TEXT.rstrip("="), f" fernet:{TEXT}\n", Secret(TEXT), Secret(f"fernet:{TEXT}")):
        assert FernetKey.from_string(text).read(fernet_token()) == TOKENS


@pytest.mark.parametrize("text", ["", "fernet:", "CANARY-passphrase", f"fernet:{TEXT[:-4]}", f"fernet:fernet:{TEXT}", f"{TEXT}CANARY"])
def test_what_is_no_fernet_key_is_refused_sh_1(text: str) -> None:
    with pytest.raises(ConfigurationError, match="44 characters") as caught:
        FernetKey.from_string(text)
    assert not list(leaks_in_error(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("key", [b"", RAW[:-1], RAW + b"x", "x" * 32, None])
def test_a_fernet_key_is_32_bytes(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        FernetKey(key)


def test_a_fernet_key_does_not_show_and_is_not_pickled_sh_4() -> None:
    assert f"{FERNET} {FERNET!r}" == "<FernetKey> <FernetKey>"
    assert not hasattr(FERNET, "__dict__")
    assert copy.deepcopy(FERNET) is FERNET
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(FERNET, protocol)


def test_each_changed_character_of_a_token_is_found_vc_6() -> None:
    token = fernet_token()
    for position in range(0, len(token), 7):
        changed = bytearray(token)
        changed[position] = ord("A") if token[position] != ord("A") else ord("B")
        with pytest.raises(UnknownEncryptionKey, match="changed, or its key is missing"):
            FERNET.read(bytes(changed))


@pytest.mark.parametrize("content", [b"[1]", b"CANARY no json", b"null", b"\xff", b""])
def test_a_token_that_holds_no_json_object_is_unsupported(content: bytes) -> None:
    with pytest.raises(UnsupportedRecord) as caught:
        FERNET.read(fernet_token(content))
    assert not list(leaks_in_error(caught.value))


def test_a_fernet_key_never_encrypts_vc_10() -> None:
    refused: list[list[EncryptionKey | FernetKey]] = [[FERNET], [FERNET, KEY]]
    for keys in refused:
        with pytest.raises(ConfigurationError, match="only reads"):
            Keyring(keys)
    ring = Keyring([KEY, FERNET, OTHER])
    assert repr(ring) == f"<Keyring of 3, encrypting with {KEY.key_id.hex()}>"
    assert Codec(ring).encode(RecordKind.TOKENS, ALICE, 1, TOKENS)[6:14] == KEY.key_id


def test_how_fernet_keys_are_told_apart_from_pauths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both are 32 bytes in base64url: only the word before it tells."""
    own = KEY.to_string().reveal()
    key = os.urandom(32)
    text = base64.urlsafe_b64encode(key).decode()
    monkeypatch.delenv("PAUTH_ENCRYPTION_KEY", raising=False)
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEYS", f"{own}, fernet:{text}")
    key_file = tmp_path / "private" / "keys"
    key_file.parent.mkdir(mode=0o700)
    key_file.write_text(f"{own}\nfernet:{text}\n")
    key_file.chmod(0o600)
    for ring in (
        keyring_from([own, Secret(f"fernet:{text}")]),
        keyring_from([KEY, FernetKey(key)]),
        keyring_from_environment(),
        keyring_from_file(key_file),
    ):
        assert ring is not None
        assert (ring.primary.key_id, len(ring.fernet_keys)) == (KEY.key_id, 1)
        assert Codec(ring).decode(RecordKind.TOKENS, ALICE, 7, fernet_token(key=key)) == TOKENS
    for alone in (f"fernet:{TEXT}", FERNET):
        with pytest.raises(ConfigurationError, match="only reads"):
            keyring_from(alone)


def test_the_codec_reads_fernet_records_of_tokens_only_and_only_with_their_key_vc_6() -> None:
    token = fernet_token()
    reading = Codec(Keyring([KEY, OTHER, FERNET]))
    assert reading.decode(RecordKind.TOKENS, ALICE, 1, memoryview(token)) == TOKENS
    with pytest.raises(UnknownEncryptionKey, match="fernet:<key>"):
        Codec(Keyring([KEY, OTHER])).decode(RecordKind.TOKENS, ALICE, 1, token)
    refused: list[Callable[[], object]] = [
        lambda: Codec(Keyring([KEY])).decode(RecordKind.TOKENS, ALICE, 1, token),
        lambda: Codec(None).decode(RecordKind.TOKENS, ALICE, 1, token),
        lambda: reading.decode(RecordKind.PENDING, "login", 0, token),
    ]
    for refuse in refused:
        with pytest.raises(UnsupportedRecord, match="is a Fernet token"):
            refuse()


def test_plaintext_is_refused_beside_fernet_keys_too_vc_6() -> None:
    plaintext = Codec(None).encode(RecordKind.TOKENS, ALICE, 1, TOKENS)
    with pytest.raises(RecordTampered):
        Codec(Keyring([KEY, FERNET])).decode(RecordKind.TOKENS, ALICE, 1, plaintext)


def plant(folder: Path, record: object) -> None:
    """In the place of the only record, as a program that moved its table into pauth's would have written it."""
    with closing(sqlite3.connect(folder / "tokens.db")) as connection:
        connection.execute("UPDATE pauth_tokens SET record = ?, key_id = NULL", (record,))
        connection.commit()


@pytest.mark.parametrize("as_text", [False, True])
async def test_a_row_that_is_a_fernet_token_is_read_listed_and_rewritten(as_text: bool, tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await storage.save_token("alice", {"n": 1})
    plant(tmp_path, fernet_token().decode() if as_text else fernet_token())
    async with aclosing(database(tmp_path)) as storage:
        with pytest.raises(UnsupportedRecord):
            await storage.get_token("alice")
    async with aclosing(database(tmp_path, keys=[KEY, FERNET])) as storage:
        assert await storage.get_token("alice") == TOKENS
        assert [item.key_id for item in (await storage.list_users()).items] == [None]
        report = await reencrypt(storage)
        assert (report.total, report.rewritten, report.complete) == (1, 1, True)
        assert [item.key_id for item in (await storage.list_users()).items] == [KEY.key_id.hex()]
    async with aclosing(database(tmp_path)) as storage:  # without the Fernet key
        record = await storage.load(ALICE)
        assert (plain(record), record and record.version) == (TOKENS, 1)


async def test_the_next_write_ends_a_fernet_record(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path, keys=[KEY, FERNET])) as storage:
        await storage.save_token("alice", {"n": 1})
        plant(tmp_path, fernet_token())
        assert await storage.replace(ALICE, {"n": 2}, expected_version=1) is not None
    async with aclosing(database(tmp_path, keys=EncryptionKey.from_string(KEY.to_string()))) as storage:
        assert await storage.get_token("alice") == {"n": 2}
