"""Real PostgreSQL and MariaDB servers for the tests.

They run on free loopback ports and end with the test run, however it ends: each has a keeper whose standard input is a pipe from here. Tests are
isolated by users and databases of their own. ``PAUTH_TEST_POSTGRESQL_URL`` and ``PAUTH_TEST_MARIADB_URL`` (an administrator's, on this machine)
name servers that run already, for all tests but those that kill theirs.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import URL, make_url

from tests.support.redis_servers import free_port, wait_for
from tests.support.servers import ServerMissing
from tests.support.sql_programs import Installed, install_mariadb, install_postgres, mariadb_command, temporary_folder, unprivileged

__all__ = ["MariadbServer", "PostgresServer", "ServerMissing", "SqlServer"]

_KEEPER: Final = '"$@" & child=$!; echo $child; cat > /dev/null; kill -9 $child 2> /dev/null; wait $child 2> /dev/null'
_PASSWORD: Final = "CANARY-password"
_temporary = temporary_folder
_mariadb_template = install_mariadb


class SqlServer(ABC):
    """A server: one that is started here, which can be killed and started again on the same port and data, or one that runs already.

    :param origin: the programs and an empty database to start with; or an administrator's URL of one that runs.
    """

    dialect: str
    administrator: str
    database: str | None

    def __init__(self, origin: Installed | URL, *options: str) -> None:
        self._installed = origin if isinstance(origin, Installed) else None
        self._options = options
        self._keeper: subprocess.Popen[bytes] | None = None
        self._accounts: list[str] = []
        self._shared: str | None = None
        self.pid = 0
        if isinstance(origin, Installed):
            self.folder = temporary_folder()
            self._data = self.folder / "data"
            subprocess.run(["cp", "-a", str(origin.data), str(self._data)], check=True)
            origin = URL.create(self.dialect, self.administrator, _PASSWORD, "127.0.0.1", free_port(), self.database)
        elif origin.host not in ("127.0.0.1", "localhost"):
            raise ServerMissing(f"the server in PAUTH_TEST_{self.dialect.upper()}_URL must be on this machine: 127.0.0.1")
        self.url = origin
        self.port = origin.port or {"postgresql": 5432}.get(self.dialect, 3306)

    @abstractmethod
    def command(self, installed: Installed) -> list[str]: ...

    @abstractmethod
    def ask(self, *statements: str, user: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements, as the administrator, and give the last one's rows."""

    @abstractmethod
    def make_account(self, user: str) -> str | None:
        """A new user with a place for tables of its own. The name of the database."""

    @abstractmethod
    def drop_account(self, user: str) -> None:
        """The reverse."""

    @abstractmethod
    def end(self) -> None:
        """End the process: nothing is saved that was not before."""

    def account(self) -> str:
        """A new user with a place for tables of its own. Its URL, without a library."""
        user = f"pauth_{secrets.token_hex(6)}"
        database = self.make_account(user)
        self._accounts.append(user)
        return f"{self.dialect}://{user}:{_PASSWORD}@127.0.0.1:{self.port}/{database}"

    def empty_account(self) -> str:
        """The URL of a user whose tables are there perhaps, and empty: for one test after the other."""
        if self._shared is not None:
            user = make_url(self._shared).username
            with suppress(Exception):  # the last test made no tables
                self.ask(*(f"DELETE FROM {user}.{table}" for table in ("pauth_tokens", "pauth_pending", "pauth_leases")))
                return self._shared
        self._shared = self.account()
        return self._shared

    @abstractmethod
    def shut_out(self, user: str) -> None:
        """End a user's connections and take no others."""

    @abstractmethod
    def let_in(self, user: str) -> None:
        """The reverse."""

    def start(self) -> SqlServer:
        """Start it, the first time or after :meth:`kill`."""
        assert self._installed is not None
        command = self.command(self._installed)
        with (self.folder / "log").open("ab") as log:
            keeper: Any = subprocess.Popen(
                ["sh", "-c", _KEEPER, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env=self._installed.environment,
                **unprivileged(),
            )
        self._keeper = keeper
        self.pid = int(keeper.stdout.readline())
        wait_for(self._answers, f"{command[0]} did not start; its log: {self.folder}/log")
        return self

    def kill(self) -> None:
        """As ``kill -9``."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            assert self._keeper.stdout is not None
            with suppress(ProcessLookupError):
                self.end()
            self._keeper.stdin.close()
            self._keeper.stdout.close()
            self._keeper.wait()
            self._keeper = None

    def remove(self) -> None:
        """Leave nothing behind."""
        if self._installed is None:
            for user in self._accounts:
                self.drop_account(user)
        else:
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        with suppress(Exception):  # whatever its library says
            return bool(self.ask("SELECT 1"))
        return False


class PostgresServer(SqlServer):
    dialect = "postgresql"
    administrator = "postgres"
    database = "postgres"

    def command(self, installed: Installed) -> list[str]:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
            "deadlock_timeout": "50ms",
        }
        options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return [installed.server("postgres"), "-D", str(self._data), *options, *self._options]

    def ask(self, *statements: str, user: str | None = None) -> list[tuple[Any, ...]]:
        psycopg: Any = import_module("psycopg")
        url = self.url
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=user or url.username,
            password=_PASSWORD if user else url.password,
            dbname=url.database or "postgres",
            autocommit=True,
        ) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def make_account(self, user: str) -> str | None:
        self.ask(f"CREATE ROLE {user} LOGIN PASSWORD '{_PASSWORD}'", f"CREATE SCHEMA {user} AUTHORIZATION {user}")
        return self.url.database or "postgres"

    def drop_account(self, user: str) -> None:
        self.ask(f"DROP OWNED BY {user} CASCADE", f"DROP ROLE {user}")

    def shut_out(self, user: str) -> None:
        ended = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{user}'"
        self.ask(f"ALTER ROLE {user} CONNECTION LIMIT 0", ended)

    def let_in(self, user: str) -> None:
        self.ask(f"ALTER ROLE {user} CONNECTION LIMIT -1")

    def end(self) -> None:
        """``kill -9`` of the postmaster alone would leave its children; SIGQUIT is its "immediate" shutdown, which saves nothing either."""
        os.kill(self.pid, signal.SIGQUIT)
        wait_for(lambda: not _alive(self.pid), "PostgreSQL did not end")


class MariadbServer(SqlServer):
    dialect = "mariadb"
    administrator = "admin"
    database = None

    def command(self, installed: Installed) -> list[str]:
        address = [f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self._data}/socket"]
        return [*mariadb_command(installed, self._data), *address, *self._options]

    def ask(self, *statements: str, user: str | None = None) -> list[tuple[Any, ...]]:
        pymysql: Any = import_module("pymysql")
        url = self.url
        rows: Any = []
        password = _PASSWORD if user else url.password or ""
        connection: Any = pymysql.connect(host="127.0.0.1", port=self.port, user=user or url.username, password=password, autocommit=True)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = cursor.fetchall()
        return list(rows)

    def make_account(self, user: str) -> str | None:
        self.ask(
            f"CREATE DATABASE {user} CHARACTER SET latin1",  # whatever it is, bytes stay bytes
            f"CREATE USER {user}@'%' IDENTIFIED BY '{_PASSWORD}'",
            f"GRANT ALL ON {user}.* TO {user}@'%'",
        )
        return user

    def drop_account(self, user: str) -> None:
        self.ask(f"DROP DATABASE {user}", f"DROP USER {user}@'%'")

    def shut_out(self, user: str) -> None:
        self.ask(f"ALTER USER {user}@'%' WITH MAX_QUERIES_PER_HOUR 1", f"KILL USER {user}")

    def let_in(self, user: str) -> None:
        self.ask(f"ALTER USER {user}@'%' WITH MAX_QUERIES_PER_HOUR 0")

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# --- fixtures. Nobody but the machine loses what was not synced, and only processes are killed here

_POSTGRES_OPTIONS: Final = ("-c", "fsync=off")
_MARIADB_OPTIONS: Final = ("--innodb-flush-log-at-trx-commit=2",)


@pytest.fixture(scope="session")
def installed_postgres() -> Iterator[Installed]:
    folder = temporary_folder()
    yield install_postgres(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def installed_mariadb() -> Iterator[Installed]:
    folder = temporary_folder()
    yield install_mariadb(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _named(variable: str) -> URL | None:
    url = os.environ.get(variable)
    return make_url(url) if url else None


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """One that all tests share."""
    url = _named("PAUTH_TEST_POSTGRESQL_URL")
    server = PostgresServer(url) if url else PostgresServer(request.getfixturevalue("installed_postgres"), *_POSTGRES_OPTIONS)
    if url is None:
        server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def mariadb(request: pytest.FixtureRequest) -> Iterator[MariadbServer]:
    """One that all tests share."""
    url = _named("PAUTH_TEST_MARIADB_URL")
    server = MariadbServer(url) if url else MariadbServer(request.getfixturevalue("installed_mariadb"), *_MARIADB_OPTIONS)
    if url is None:
        server.start()
    yield server
    server.remove()


@pytest.fixture
def own_postgres(installed_postgres: Installed) -> Iterator[PostgresServer]:
    """One that a test may do anything to."""
    server = PostgresServer(installed_postgres, *_POSTGRES_OPTIONS)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_mariadb(installed_mariadb: Installed) -> Iterator[MariadbServer]:
    """One that a test may do anything to."""
    server = MariadbServer(installed_mariadb, *_MARIADB_OPTIONS)
    server.start()
    yield server
    server.remove()


_GROUPS: Final[dict[str, Sequence[str]]] = {
    "postgres": ("postgres", "own_postgres", "installed_postgres", "asyncpg", "psycopg"),
    "mariadb": ("mariadb", "own_mariadb", "installed_mariadb", "asyncmy", "aiomysql"),
}
"""What a test of each asks for, as a fixture or a parameter: all of a server's run on one worker, so that it is started once."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {}).values()
        wanted = {*getattr(item, "fixturenames", ()), *(value for value in parameters if isinstance(value, str))}
        for group, names in _GROUPS.items():
            if wanted.intersection(names):
                item.add_marker("servers")
                item.add_marker(pytest.mark.xdist_group(group))
                break
