"""Storages from URLs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pauth.errors import ConfigurationError
from pauth.storage import DatabaseTokenStorage, MemoryTokenStorage, RecordKey, storage_from_url
from pauth.testing.clock import ManualClock
from tests.storage.kit import KEY


async def test_memory() -> None:
    clock = ManualClock(1000)
    storage = storage_from_url("memory://", clock=clock, namespace="n", max_pending=5)
    assert isinstance(storage, MemoryTokenStorage)
    await storage.save_token("alice", {"a": 1})
    record = await storage.load(RecordKey("n", "alice"))
    assert record is not None
    assert record.stored_at == 1000


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
async def test_sqlite(scheme: str, tmp_path: Path) -> None:
    storage = storage_from_url(f"{scheme}:///{tmp_path}/tokens.db", encryption_key=KEY, timeout=5.0)
    assert isinstance(storage, DatabaseTokenStorage)
    await storage.save_token("alice", {"a": 1})
    await storage.aclose()
    assert (tmp_path / "tokens.db").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "no storage URL"),
        ("memory", "no storage URL; write memory://"),
        ("memory://host", "no storage URL; write memory://"),
        ("memory:", "no storage URL; write memory://"),
        ("redis://:CANARY-password@host/0", "scheme 'redis'; write memory:// or sqlite"),
        ("postgresql+asyncpg://user:CANARY-password@host/db", r"scheme 'postgresql\+asyncpg'"),
        ("file:///var/tokens", "scheme 'file'"),
        ("sqlite+pysqlite:///tokens.db", r"scheme 'sqlite\+pysqlite'"),
        ("sqlite://", "must name a file"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///file:tokens.db", "must name a file"),
        ("sqlite://tokens.db", "three slashes"),
        ("sqlite://user:CANARY-password@host/tokens.db", "three slashes"),
        ("sqlite:///tokens.db?mode=ro", r"no \?options"),
        ("sqlite", "three slashes|no database URL"),
        ("sqlite:tokens.db", "no database URL"),
        ("sqlite://host:port/tokens.db", "no database URL"),
    ],
)
def test_what_is_no_storage_url_is_refused_without_showing_it(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        storage_from_url(url, **({"encryption_key": KEY} if url.startswith("sqlite") and "pysqlite" not in url else {}))


def test_an_unknown_option_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(ConfigurationError, match="MemoryTokenStorage has no option 'ttl'; it has namespace, max_pending, clock"):
        storage_from_url("memory://", ttl=5)
    with pytest.raises(ConfigurationError, match="no option 'encryption'; it has encryption_key, insecure_plaintext, namespace, timeout, clock"):
        storage_from_url("sqlite:///tokens.db", encryption="CANARY-passphrase")


def test_a_sqlite_url_without_a_key_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PAUTH_ENCRYPTION_KEY", raising=False)
    monkeypatch.delenv("PAUTH_ENCRYPTION_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match=r"EncryptionKey\.generate\(\)"):
        storage_from_url(f"sqlite:///{tmp_path}/tokens.db")
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", KEY.to_string().reveal())
    storage = storage_from_url(f"sqlite:///{tmp_path}/tokens.db")
    asyncio.run(storage.aclose())
