"""Encryption keys: what is accepted, and that they do not show."""

from __future__ import annotations

import base64
import copy
import os
import pickle
from typing import Any

import pytest

from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage import DatabaseTokenStorage, EncryptionKey, Keyring, storage_from_url
from pauth.storage.keys import keyring_from, keyring_from_environment
from tests.storage.kit import KEY, OTHER_KEY

TEXT = KEY.to_string().reveal()


def text_of(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode()


def test_a_key_survives_its_text() -> None:
    for _ in range(200):
        key = EncryptionKey.generate()
        text = key.to_string().reveal()
        assert len(text) == 43
        for form in (text, text + "=", f" {text}\n", Secret(text)):
            again = EncryptionKey.from_string(form)
            assert again.key_id == key.key_id
            assert again.to_string() == key.to_string()


def test_generated_keys_differ() -> None:
    assert len({EncryptionKey.generate().key_id for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "changeme",
        "correct horse battery staple",
        TEXT[:-1],
        TEXT + "A",
        TEXT + "==",
        TEXT[:20] + "!" + TEXT[21:],
        TEXT[:20] + "ü" + TEXT[21:],
        TEXT[:20] + " " + TEXT[21:],
        bytes(range(32)).hex(),
        bytes(range(32)).hex()[:-1],
        os.urandom(32).hex(),
        text_of(os.urandom(16)),
        text_of(os.urandom(24)),
        text_of(os.urandom(64)),
    ],
)
def test_what_is_no_key_is_refused_with_the_remedy_vc_4(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"EncryptionKey\.generate\(\)"):
        EncryptionKey.from_string(text)


def test_a_typo_in_the_last_character_is_no_other_spelling_vc_4() -> None:
    def accepted(text: str) -> bool:
        try:
            EncryptionKey.from_string(text)
        except ConfigurationError:
            return False
        return True

    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    text = base64.urlsafe_b64encode(bytes(range(100, 131)) + b"\x07").decode().rstrip("=")
    # of its six bits two are spare
    assert [last for last in alphabet if accepted(text[:-1] + last)] == list(alphabet[::4])


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),
        b"\xff" * 32,
        bytes(range(32)),
        bytes(range(32, 0, -1)),
        b"correct horse battery staple ok!",
        b"ab" * 16,
        bytes(range(7)) * 4 + bytes(4),
    ],
)
def test_keys_that_chance_does_not_make_are_refused_vc_4(key: bytes) -> None:
    assert len(key) == 32
    with pytest.raises(ConfigurationError, match="not random"):
        EncryptionKey(key)
    with pytest.raises(ConfigurationError, match="not random"):
        EncryptionKey.from_string(text_of(key))


@pytest.mark.parametrize("key", [b"", os.urandom(31), os.urandom(33), "x" * 32, bytearray(os.urandom(32)), None])
def test_a_key_is_32_bytes_vc_4(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="32 random bytes"):
        EncryptionKey(key)


def test_a_key_does_not_show_and_is_not_pickled_sh_4() -> None:
    raw = base64.urlsafe_b64decode(TEXT + "=")
    shown = f"{KEY} {KEY!r} {Keyring([KEY])!r} {KEY.to_string()}"
    for secret in (TEXT, raw.hex(), repr(raw)):
        assert secret not in shown
    assert KEY.key_id.hex() in shown
    assert not hasattr(KEY, "__dict__")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(KEY, protocol)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(Keyring([KEY]), protocol)
    assert copy.deepcopy(KEY) is KEY


def test_the_id_tells_nothing_of_the_key() -> None:
    raw = base64.urlsafe_b64decode(TEXT + "=")
    assert len(KEY.key_id) == 8
    assert KEY.key_id not in raw
    assert EncryptionKey(raw).key_id == KEY.key_id


def test_a_ring_encrypts_with_its_first_key_and_finds_all_vc_5() -> None:
    ring = Keyring([OTHER_KEY, KEY, OTHER_KEY])
    assert ring.primary is OTHER_KEY
    assert ring.find(KEY.key_id) is KEY
    assert ring.find(b"12345678") is None
    assert repr(ring) == f"<Keyring of 2, encrypting with {OTHER_KEY.key_id.hex()}>"


def test_what_a_user_may_give_for_keys() -> None:
    ring = Keyring([KEY])
    assert keyring_from(None) is None
    assert keyring_from(ring) is ring
    for source in (KEY, TEXT, Secret(TEXT), [KEY], [TEXT], (Secret(TEXT),)):
        made = keyring_from(source)
        assert made is not None
        assert made.primary.key_id == KEY.key_id
    several = keyring_from([OTHER_KEY, TEXT])
    assert several is not None
    assert (several.primary, several.find(KEY.key_id) is not None) == (OTHER_KEY, True)
    with pytest.raises(ConfigurationError, match="at least one"):
        keyring_from([])
    with pytest.raises(ConfigurationError):
        keyring_from("changeme")


def set_environment(patch: pytest.MonkeyPatch, key: str | None = None, keys: str | None = None) -> None:
    for name, value in (("PAUTH_ENCRYPTION_KEY", key), ("PAUTH_ENCRYPTION_KEYS", keys)):
        if value is None:
            patch.delenv(name, raising=False)
        else:
            patch.setenv(name, value)


def test_keys_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, key=TEXT)
    assert keyring_from_environment().primary.key_id == KEY.key_id
    both = f"{OTHER_KEY.to_string().reveal()}, {TEXT}"
    set_environment(monkeypatch, keys=both)
    ring = keyring_from_environment()
    assert ring.primary.key_id == OTHER_KEY.key_id
    assert ring.find(KEY.key_id) is not None
    for absent in (None, ""):
        set_environment(monkeypatch, key=absent, keys=absent)
        with pytest.raises(ConfigurationError, match=r"PAUTH_ENCRYPTION_KEY.*EncryptionKey\.generate\(\)"):
            keyring_from_environment()
    set_environment(monkeypatch, key=TEXT, keys=both)
    with pytest.raises(ConfigurationError, match="not both"):
        keyring_from_environment()
    set_environment(monkeypatch, keys=f"{TEXT},\n")  # as a template leaves it
    assert keyring_from_environment().primary.key_id == KEY.key_id
    set_environment(monkeypatch, keys=f"{TEXT},CANARY-short")
    with pytest.raises(ConfigurationError, match="43 characters"):
        keyring_from_environment()


def test_a_refused_key_is_not_in_the_error_sh_1_sh_5(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("CANARY-not-a-key", "CANARY-" + TEXT):
        with pytest.raises(ConfigurationError) as caught:
            EncryptionKey.from_string(text)
        assert "CANARY" not in str(caught.value)
        with pytest.raises(ConfigurationError):
            keyring_from([Secret(text)])
        with pytest.raises(ConfigurationError):
            DatabaseTokenStorage("sqlite:///unused.db", encryption_key=text)
        with pytest.raises(ConfigurationError):
            storage_from_url("sqlite:///unused.db", encryption_key=[text])
        set_environment(monkeypatch, key=text)
        with pytest.raises(ConfigurationError):
            keyring_from_environment()
        set_environment(monkeypatch, keys=f"{TEXT},{text}")
        with pytest.raises(ConfigurationError):
            keyring_from_environment()
