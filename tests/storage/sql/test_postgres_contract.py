"""The storage contract on PostgreSQL, by URL and through engines of the user's."""

from __future__ import annotations

import pytest

from tests.storage.sql.contracts import EngineContract, SqlContract
from tests.support.sql_servers import PostgresServer, SqlServer


class _OnPostgreSQL:
    @pytest.fixture
    def server(self, postgres: PostgresServer) -> SqlServer:
        return postgres


class TestAsyncpg(_OnPostgreSQL, SqlContract):
    library = "asyncpg"
    examples = 25


class TestAsyncpgForAPoolingProxy(_OnPostgreSQL, SqlContract):
    library = "asyncpg"
    query = "?prepared_statement_cache_size=0"
    options = {"coalesce": False}  # noqa: RUF012


class TestPsycopg(_OnPostgreSQL, SqlContract):
    library = "psycopg"


class TestAsyncpgEngine(_OnPostgreSQL, EngineContract):
    library = "asyncpg"
    connect = {"ssl": False}  # noqa: RUF012  # with TLS, asyncpg looks for certificates in the home folder


class TestPsycopgEngine(_OnPostgreSQL, EngineContract):
    library = "psycopg"
