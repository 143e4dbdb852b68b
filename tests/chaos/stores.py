"""The stores that the processes of a run share, by name: those of :data:`DRIVERS`, and ``sentinel``, a Redis that fails over."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.storage.sql.kit import by
from tests.support.redis_servers import RedisServer, start_sentinel
from tests.support.sql_programs import install_mariadb, install_postgres, temporary_folder
from tests.support.sql_servers import MariadbServer, PostgresServer, SqlServer

__all__ = ["DRIVERS", "Servers", "Store"]

DRIVERS: Final = ("memory", "file", "sqlite", "postgres", "mariadb", "redis")


@dataclass(slots=True)
class Store:
    """One store. Runs that share it are kept apart by their namespaces."""

    driver: str
    url: str
    server: Any = None
    """What can be killed and started again."""

    @property
    def lasting(self) -> bool:
        """Whether it is there after its process has gone."""
        return self.driver != "memory"


@dataclass(slots=True)
class Servers:
    """Starts the servers of stores when they are first needed. Each is shared; a store of its own inside is not."""

    folder: Path
    redis_config: str = "appendonly yes\nappendfsync always\n"
    _started: dict[str, Any] = field(default_factory=dict[str, Any])
    _end: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end.close()

    async def store(self, driver: str, folder: Path, *, own: bool = False) -> Store:
        """A new store.

        :param own: on a server that nobody else uses, which may be killed.
        """
        if driver == "memory":
            return Store(driver, "memory://")
        if driver == "file":
            return Store(driver, f"file://{folder / 'tokens'}")
        if driver == "sqlite":
            return Store(driver, f"sqlite:///{folder / 'tokens.db'}")
        # They block while they start, which is no harm: nothing else is under way in a test that waits for its server.
        return await asyncio.to_thread(self._on_server, driver, own)

    def _on_server(self, driver: str, own: bool) -> Store:
        if driver == "sentinel":
            number = self._started["sentinels"] = self._started.get("sentinels", 0) + 1
            system = start_sentinel(self.folder / f"sentinel{number}")
            self._end.callback(system.kill)
            return Store(driver, system.url, system)
        if driver == "redis":
            server: RedisServer = self._start(driver, own, self._redis)
            return Store(driver, server.url, server)
        sql: SqlServer = self._start(driver, own, self._postgres if driver == "postgres" else self._mariadb)
        account = sql.account() if own else self._started.setdefault(f"{driver} account", None) or sql.account()
        if not own:
            self._started[f"{driver} account"] = account
        return Store(driver, by("asyncpg" if driver == "postgres" else "asyncmy", account), sql)

    def _start(self, name: str, own: bool, make: Callable[[], Any]) -> Any:
        if own:
            return make()
        if name not in self._started:
            self._started[name] = make()
        return self._started[name]

    def _redis(self) -> RedisServer:
        number = self._started["redises"] = self._started.get("redises", 0) + 1
        server = RedisServer(self.folder / f"redis{number}", config=self.redis_config).start()
        self._end.callback(server.kill)
        return server

    def _postgres(self) -> SqlServer:
        if "installed postgres" not in self._started:
            self._started["installed postgres"] = install_postgres(self._temporary())
        server = PostgresServer(self._started["installed postgres"], "-c", "fsync=off").start()
        self._end.callback(server.remove)
        return server

    def _mariadb(self) -> SqlServer:
        if "installed mariadb" not in self._started:
            self._started["installed mariadb"] = install_mariadb(self._temporary())
        server = MariadbServer(self._started["installed mariadb"], "--innodb-flush-log-at-trx-commit=2").start()
        self._end.callback(server.remove)
        return server

    def _temporary(self) -> Path:
        folder = temporary_folder()
        self._end.callback(lambda: shutil.rmtree(folder, ignore_errors=True))
        return folder
