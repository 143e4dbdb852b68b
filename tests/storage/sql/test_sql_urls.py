"""URLs, options and what errors mean, without a server."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from pauth.errors import ConfigurationError, StorageUnavailable, TokenStorageError
from pauth.storage.sql import mysql_errors, postgres_errors
from tests.storage.sql.kit import storage_at
from tests.support.canary import leaks_in_error


@pytest.mark.parametrize(
    ("url", "store_id"),
    [
        ("postgresql://u:CANARY@h/d", ("postgresql", "h", "5432", "d", "u")),
        ("postgresql+psycopg://u:CANARY@h:1/d?sslmode=require", ("postgresql", "h", "1", "d", "u")),
        ("postgresql+asyncpg://u:CANARY@h/d?sslmode=require&prepared_statement_cache_size=0", ("postgresql", "h", "5432", "d", "u")),
        ("mysql://u:CANARY@h/d", ("mysql", "h", "3306", "d")),
        ("mariadb+aiomysql://u:CANARY@h:1/d", ("mysql", "h", "1", "d")),
        ("mysql+asyncmy://u:CANARY@/d?unix_socket=/run/s", ("mysql", "", "3306", "d", "unix_socket=/run/s")),
    ],
)
def test_what_names_a_store(url: str, store_id: tuple[str, ...]) -> None:
    assert storage_at(url).store_id == store_id


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg2://u:CANARY@h/d", "must be postgresql.asyncpg or postgresql.psycopg"),
        ("postgresql+asyncpg://u:CANARY@h/d?sslrootkit=x", "no option 'sslrootkit'"),
        ("mysql+pymysql://u:CANARY@h/d", "must be mysql.asyncmy or mysql.aiomysql"),
        ("mysql+asyncmy://u:CANARY@h", "must name a database"),
    ],
)
def test_unusable_urls(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        storage_at(url)
    assert not list(leaks_in_error(caught.value))


@pytest.mark.parametrize(("url", "extra"), [("postgresql://h/d", "postgresql"), ("mysql+aiomysql://h/d", "mysql")])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, url: str, extra: str) -> None:
    import pauth.storage.sql.mysql
    import pauth.storage.sql.postgres

    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr(pauth.storage.sql.mysql, "find_spec", nothing)
    monkeypatch.setattr(pauth.storage.sql.postgres, "find_spec", nothing)
    with pytest.raises(ConfigurationError, match=rf"pip install 'pauth\[{extra}\]'"):
        storage_at(url)
    assert importlib.util.find_spec("asyncpg") is not None


@pytest.mark.parametrize("errors", [postgres_errors, mysql_errors])
def test_a_certificate_that_is_not_trusted(errors: Any) -> None:
    fault = errors.fault_for(Exception(2003, "CANARY: certificate verify failed"))
    assert isinstance(fault.error, ConfigurationError)
    assert "not trusted" in str(fault.error)
    assert "CANARY" not in str(fault.error)


class _Error(Exception):
    sqlstate: Any = None


@pytest.mark.parametrize(
    ("state", "kind", "flags"),
    [
        ("40001", StorageUnavailable, "passes"),
        ("40P01", StorageUnavailable, "passes"),
        ("28P01", ConfigurationError, ""),
        ("42501", ConfigurationError, ""),
        ("26000", ConfigurationError, ""),
        ("42P01", ConfigurationError, "no_table"),
        ("53100", StorageUnavailable, "of_one_row"),
        ("53300", StorageUnavailable, ""),
        ("22003", TokenStorageError, "of_one_row"),
        ("23505", TokenStorageError, "of_one_row there_already"),
        ("42P07", TokenStorageError, "there_already"),
        ("42601", TokenStorageError, ""),
        ("57P01", StorageUnavailable, "lost"),
        ("08006", StorageUnavailable, "lost"),
        (None, StorageUnavailable, "lost"),
    ],
)
def test_what_errors_of_postgresql_mean(state: str | None, kind: type[Exception], flags: str) -> None:
    error = _Error("CANARY")
    error.sqlstate = state
    outer = Exception("CANARY")
    outer.__cause__ = error
    for given in (error, outer):
        fault = postgres_errors.fault_for(given)
        assert type(fault.error) is kind
        assert "CANARY" not in str(fault.error)
        assert {name for name in ("lost", "passes", "of_one_row", "no_table", "there_already") if getattr(fault, name)} == set(flags.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("password authentication failed for CANARY", "password in the URL"), ('database "CANARY" does not exist', "no such database")],
)
def test_psycopgs_failed_logins_have_no_state(text: str, expected: str) -> None:
    fault = postgres_errors.fault_for(Exception(text))
    assert isinstance(fault.error, ConfigurationError)
    assert expected in str(fault.error)


@pytest.mark.parametrize("errors", [postgres_errors, mysql_errors])
def test_an_option_the_library_does_not_know(errors: Any) -> None:
    assert isinstance(errors.fault_for(TypeError("CANARY")).error, ConfigurationError)


@pytest.mark.parametrize(
    ("code", "kind", "flags"),
    [
        (1213, StorageUnavailable, "passes"),
        (1205, StorageUnavailable, "passes"),
        (1062, StorageUnavailable, "passes there_already"),
        (1045, ConfigurationError, ""),
        (1146, ConfigurationError, "no_table"),
        (1264, TokenStorageError, "of_one_row"),
        (1040, StorageUnavailable, ""),
        (1050, TokenStorageError, "there_already"),
        (1064, TokenStorageError, ""),
        (2013, StorageUnavailable, "lost"),
        (1927, StorageUnavailable, "lost"),
        (0, StorageUnavailable, "lost"),
    ],
)
def test_what_errors_of_mysql_mean(code: int, kind: type[Exception], flags: str) -> None:
    error = Exception(code, "CANARY")
    outer = Exception("CANARY")
    outer.__cause__ = error
    for given in (error, outer):
        fault = mysql_errors.fault_for(given)
        assert type(fault.error) is kind
        assert "CANARY" not in str(fault.error)
        assert {name for name in ("lost", "passes", "of_one_row", "no_table", "there_already") if getattr(fault, name)} == set(flags.split())
    assert mysql_errors.fault_for(OSError(111, "refused")).lost
