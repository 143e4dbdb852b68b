"""Keys from passphrases, by scrypt only (VC-4)."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import pytest

from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage import EncryptionKey, keys_passphrase
from tests.support.canary import leaks_in_error

PASSPHRASE = "CANARY correct horse battery staple"
SALT = bytes(range(16))


async def test_the_key_is_scrypts_and_always_the_same_vc_4() -> None:
    """Known answer; and off the event loop, whose blocking is detected."""
    key = await asyncio.to_thread(EncryptionKey.from_passphrase, PASSPHRASE, salt=SALT)
    expected = hashlib.scrypt(PASSPHRASE.encode(), salt=SALT, n=2**17, r=8, p=1, maxmem=2**28, dklen=32)
    assert key.key_id == EncryptionKey(expected).key_id


def test_each_ingredient_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_passphrase, "_MIN_WORK", 1)
    cheap: dict[str, Any] = {"salt": SALT, "n": 16, "r": 8, "p": 1}
    variants: list[tuple[str | Secret, dict[str, Any]]] = [
        (PASSPHRASE, {}),
        (PASSPHRASE + " ", {}),
        (PASSPHRASE, {"salt": SALT + b"x"}),
        (PASSPHRASE, {"n": 32}),
        (PASSPHRASE, {"r": 9}),
        (PASSPHRASE, {"p": 2}),
        ("CANARY Türme, Bäume, 錠 und 鍵", {}),
    ]
    ids = {EncryptionKey.from_passphrase(passphrase, **cheap | changes).key_id for passphrase, changes in variants}
    assert len(ids) == len(variants)
    assert EncryptionKey.from_passphrase(Secret(PASSPHRASE), **cheap).key_id in ids


@pytest.mark.parametrize(
    "passphrase", ["", "changeme", "CANARY-15-chars", "CANARYA" * 9 + "A", "aaaaaaaaaaaaaaaaaaaaaaaa", "CANARY lone \ud800 surrogate"]
)
def test_weak_passphrases_are_refused_unseen_vc_4_sh_1(passphrase: str) -> None:
    with pytest.raises(ConfigurationError, match="passphrase") as caught:
        EncryptionKey.from_passphrase(passphrase, salt=SALT)
    assert not list(leaks_in_error(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("salt", [b"", b"fifteen bytes..", bytes(16), bytes(64), "sixteen letters.", None, bytearray(SALT)])
def test_weak_salts_are_refused_with_the_remedy_vc_4(salt: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"os\.urandom\(16\)"):
        EncryptionKey.from_passphrase(PASSPHRASE, salt=salt)


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ({"n": 2**17 + 1}, "power of two"),
        ({"n": 1}, "power of two"),
        ({"n": 0}, "power of two"),
        ({"n": -(2**17)}, "power of two"),
        ({"r": 7}, "r from 8"),
        ({"r": 33}, "r from 8"),
        ({"p": 0}, "p from 1"),
        ({"p": 17}, "p from 1"),
        ({"n": 2**16}, "too weak"),
        ({"n": 2**14, "p": 4}, "too weak"),
        ({"n": 2**21}, "1 GiB"),
        ({"n": 2**20, "r": 32}, "1 GiB"),
    ],
)
def test_costs_are_bounded_below_and_above_vc_4(cost: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        EncryptionKey.from_passphrase(PASSPHRASE, salt=SALT, **cost)


@pytest.mark.parametrize("failure", [MemoryError, ValueError])
def test_a_machine_that_cannot_is_named_without_the_passphrase(failure: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise failure(PASSPHRASE)

    monkeypatch.setattr(hashlib, "scrypt", fail)
    with pytest.raises(ConfigurationError, match="128 MiB") as caught:
        EncryptionKey.from_passphrase(PASSPHRASE, salt=os.urandom(16))
    assert not list(leaks_in_error(caught.value))
