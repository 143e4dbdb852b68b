"""The storage contract on MariaDB, by URL and through engines of the user's."""

from __future__ import annotations

import pytest

from tests.storage.sql.contracts import EngineContract, SqlContract
from tests.support.sql_servers import MariadbServer, SqlServer


class _OnMariaDB:
    @pytest.fixture
    def server(self, mariadb: MariadbServer) -> SqlServer:
        return mariadb


class TestAsyncmy(_OnMariaDB, SqlContract):
    library = "asyncmy"
    examples = 25


class TestAsyncmyOneByOne(_OnMariaDB, SqlContract):
    library = "asyncmy"
    options = {"coalesce": False}  # noqa: RUF012


class TestAiomysql(_OnMariaDB, SqlContract):
    library = "aiomysql"


class TestAsyncmyEngine(_OnMariaDB, EngineContract):
    library = "asyncmy"


class TestAiomysqlEngine(_OnMariaDB, EngineContract):
    library = "aiomysql"
