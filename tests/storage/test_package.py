"""The package's names, and that naming them loads no driver."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pauth.storage


def test_all_names_resolve() -> None:
    for name in pauth.storage.__all__:
        assert getattr(pauth.storage, name).__name__ == name
    assert set(pauth.storage.__all__) <= set(dir(pauth.storage))
    assert list(pauth.storage.__all__) == sorted(pauth.storage.__all__)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'RedisStorage'"):
        _ = pauth.storage.RedisStorage


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_the_package_loads_no_driver() -> None:
    libraries = "{'sqlalchemy', 'aiosqlite', 'anyio', 'cryptography', 'orjson', 'asyncio'}"
    assert run(f"import sys, pauth.storage; print({libraries} & set(sys.modules))") == "set()"


def test_memory_loads_no_driver_and_no_cryptography() -> None:
    libraries = "{'sqlalchemy', 'aiosqlite', 'anyio', 'cryptography'}"
    assert run(f"import sys; from pauth.storage import MemoryTokenStorage, storage_from_url; print({libraries} & set(sys.modules))") == "set()"


@pytest.mark.parametrize("missing", ["sqlalchemy", "greenlet", "aiosqlite"])
def test_a_missing_extra_is_named_at_construction(missing: str) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None
from pauth.errors import ConfigurationError
from pauth.storage import DatabaseTokenStorage, EncryptionKey
try:
    DatabaseTokenStorage("sqlite:///unused.db", encryption_key=EncryptionKey.generate())
except ConfigurationError as error:
    print(error)
"""
    assert run(program).endswith(f" needs {missing}, which is not installed: pip install 'pauth[sql]'")


@pytest.mark.parametrize(
    ("url", "extra"),
    [("postgresql://h/d", "postgresql"), ("postgresql+psycopg://h/d", "postgresql"), ("mysql://h/d", "mysql"), ("MariaDB+asyncmy://h/d", "mysql")],
)
def test_the_extra_that_is_named_has_the_driver_too(url: str, extra: str) -> None:
    program = f"""
import sys
sys.modules["sqlalchemy"] = None
from pauth.errors import ConfigurationError
from pauth.storage import storage_from_url
try:
    storage_from_url({url!r})
except ConfigurationError as error:
    print(error)
"""
    assert run(program) == f"DatabaseTokenStorage needs sqlalchemy, which is not installed: pip install 'pauth[{extra}]'"


def test_a_missing_redis_is_named_at_construction() -> None:
    program = """
import sys
sys.modules["redis"] = None
from pauth.errors import ConfigurationError
from pauth.storage import RedisTokenStorage
try:
    RedisTokenStorage("redis://localhost")
except ConfigurationError as error:
    print(error)
"""
    assert run(program) == "RedisTokenStorage needs redis, which is not installed: pip install 'pauth[redis]'"
