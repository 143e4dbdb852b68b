"""The storage contract, told how a database server's time passes and how it is put out of reach."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from pauth.storage import CoordinatedTokenStorage, DatabaseTokenStorage
from pauth.testing.clock import ManualClock
from pauth.testing.contract import StorageContract as ThreeMethodContract
from tests.storage.contract import StorageContract
from tests.storage.kit import KEY
from tests.storage.sql.kit import by, storage_at
from tests.support.sql_servers import SqlServer


class WithItsEngine(DatabaseTokenStorage):
    """Disposes the user's engine too: in the event loop that used it."""

    engine: Any

    async def aclose(self) -> None:
        await super().aclose()
        await self.engine.dispose()


class _OnAServer(ThreeMethodContract):
    library = ""
    query = ""
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def server(self) -> SqlServer:
        raise NotImplementedError

    @pytest.fixture
    def url(self, server: SqlServer) -> Iterator[str]:
        self._server = server
        account = server.empty_account()
        self._user = str(make_url(account).username)
        with ThreadPoolExecutor(1) as self._helper:
            yield by(self.library, account) + self.query

    @pytest.fixture
    def storage(self, url: str, clock: ManualClock) -> CoordinatedTokenStorage:
        return storage_at(url, clock=clock, **self.options)

    def break_storage(self, storage: Any) -> None:
        self._aside(self._server.shut_out)

    def mend_storage(self, storage: Any) -> None:
        self._aside(self._server.let_in)

    def _aside(self, work: Callable[[str], object]) -> None:
        """In another thread, out of sight of the detector of blocking calls: the contract calls its hooks in the event loop."""
        waited_for = self._helper.submit(work, self._user)
        while not waited_for.done():
            select.select((), (), (), 0.001)
        waited_for.result()


class SqlContract(_OnAServer, StorageContract):
    examples = 5
    lease_ttl = 0.4  # on the server's clock

    def pass_time(self, clock: ManualClock, seconds: float) -> None:
        self.wait_for_the_server(seconds)

    def wait_for_the_server(self, seconds: float) -> None:
        select.select((), (), (), seconds)  # not time.sleep, which the detector of blocking calls sees


class EngineContract(_OnAServer):
    """What differs with an engine of the user's is where connections come from: the first part of the contract is enough to see that."""

    connect: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def storage(self, url: str, clock: ManualClock) -> CoordinatedTokenStorage:
        engine = create_async_engine(url, connect_args=self.connect)
        storage = WithItsEngine(engine, encryption_key=KEY, clock=clock)
        storage.engine = engine
        return storage
