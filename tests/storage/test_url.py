"""Storages from URLs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage import (
    DatabaseTokenStorage,
    EncryptedFileStorage,
    MemoryTokenStorage,
    RecordKey,
    RedisTokenStorage,
    database,
    redis,
    storage_from_url,
)
from pauth.testing.clock import ManualClock
from tests.storage.kit import KEY
from tests.support.canary import leaks_in_error


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
        ("CANARY-password", "no storage URL"),
        ("CANARY password://x", "no storage URL"),
        ("user:CANARY-password@host/db", "no storage URL"),
        ("postgres://user:CANARY-password@host/db", "did you mean postgresql://"),
        ("postgresql+psycopg2://user:CANARY-password@host/db", r"did you mean postgresql\+psycopg://"),
        ("valkey://:CANARY-password@host/db", "did you mean redis://"),
        ("redis+sentinels://:CANARY-password@host/db", r"did you mean redis\+sentinel://"),
        ("https://user:CANARY-password@host/db", "scheme 'https'; write memory"),
        ("file://CANARY-host/var/tokens", "names no folder"),
        ("file:///", "names no folder"),
        ("file:///var/tokens?mode=CANARY", "names no folder"),
        ("file:///var/tokens#CANARY", "names no folder"),
        ("file://[CANARY/var/tokens", "names no folder"),
        ("sqlite+pysqlite:///tokens.db", r"scheme 'sqlite\+pysqlite'"),
        ("sqlite://", "must name a file"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///file:tokens.db", "must name a file"),
        ("sqlite://tokens.db", "three slashes"),
        ("sqlite://user:CANARY-password@host/tokens.db", "three slashes"),
        ("sqlite:///tokens.db?mode=ro", r"no \?options"),
        ("sqlite", "no storage URL"),
        ("sqlite:tokens.db", "no storage URL"),
        ("sqlite://host:port/tokens.db", "no database URL"),
    ],
)
def test_what_is_no_storage_url_is_refused_without_showing_it(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        storage_from_url(url, **({"encryption_key": KEY} if url.startswith("sqlite") and "pysqlite" not in url else {}))
    assert not list(leaks_in_error(caught.value))
    assert caught.value.__context__ is None


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


@pytest.mark.parametrize("url", ["file://{}/my%20tokens", "FILE://localhost{}/my%20tokens"])
async def test_files(url: str, tmp_path: Path) -> None:
    storage = storage_from_url(url.format(tmp_path), encryption_key=KEY)
    assert isinstance(storage, EncryptedFileStorage)
    await storage.save_token("alice", {"a": 1})
    await storage.aclose()
    assert (tmp_path / "my tokens" / "folder").exists()


@pytest.mark.parametrize("scheme", ["redis", "rediss", "REDIS", "redis+cluster", "rediss+cluster"])
async def test_redis(scheme: str) -> None:
    storage = storage_from_url(Secret(f"{scheme}://user:CANARY-password@localhost:1"), encryption_key=KEY, prefix="mine")
    assert isinstance(storage, RedisTokenStorage)
    await storage.aclose()


class Recorded:
    """In the place of a storage: what it was made with."""

    def __init__(self, url: Secret, *, encryption_key: Any = None, timeout: float = 1.0) -> None:
        self.url = url
        self.options = {"encryption_key": encryption_key, "timeout": timeout}


@pytest.mark.parametrize(
    "scheme",
    [
        "postgresql",
        "postgresql+asyncpg",
        "postgresql+psycopg",
        "mysql",
        "mysql+asyncmy",
        "mysql+aiomysql",
        "mariadb",
        "mariadb+asyncmy",
        "mariadb+aiomysql",
        "sqlite",
        "sqlite+aiosqlite",
        "redis",
        "rediss",
        "unix",
        "redis+cluster",
        "rediss+cluster",
        "redis+sentinel",
        "rediss+sentinel",
    ],
)
def test_each_scheme_goes_to_its_storage_with_the_librarys_options_in_place(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        *((redis, "RedisTokenStorage", Recorded) if scheme.startswith(("redis", "unix")) else (database, "DatabaseTokenStorage", Recorded))
    )
    url = f"{scheme}://user:CANARY-password@Host:1/Name?Option=CANARY"
    made: Any = storage_from_url(url, encryption_key="CANARY-key", timeout=5.0)
    assert made.url.reveal() == url
    assert made.options == {"encryption_key": Secret("CANARY-key"), "timeout": 5.0}
    assert storage_from_url(f" {scheme.upper()}{url.removeprefix(scheme)}\n").url == made.url  # type: ignore[attr-defined]


def test_a_redis_socket_has_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "RedisTokenStorage", Recorded)
    made: Any = storage_from_url("redis+unix:///run/redis.sock?db=1")
    assert made.url.reveal() == "unix:///run/redis.sock?db=1"


async def test_the_url_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAUTH_STORAGE_URL", f"file://{tmp_path}/tokens")
    storage = storage_from_url(encryption_key=KEY)
    assert isinstance(storage, EncryptedFileStorage)
    await storage.aclose()
    assert isinstance(storage_from_url("memory://"), MemoryTokenStorage)
    for absent in ("", None):
        if absent is None:
            monkeypatch.delenv("PAUTH_STORAGE_URL")
        else:
            monkeypatch.setenv("PAUTH_STORAGE_URL", absent)
        with pytest.raises(ConfigurationError, match="set PAUTH_STORAGE_URL"):
            storage_from_url()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "_MISSING", True)
    monkeypatch.setattr(database, "_MISSING", ["sqlalchemy"])
    for url, extra in (("redis://host", "redis"), ("postgresql://host/db", "postgresql"), ("mysql://host/db", "mysql"), ("sqlite:///x.db", "sql")):
        with pytest.raises(ConfigurationError, match=rf"pip install 'pauth\[{extra}\]'"):
            storage_from_url(url, encryption_key=KEY)
