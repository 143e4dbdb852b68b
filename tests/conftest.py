"""What holds for every test: no blocking call on the event loop, no secret in any sink, real servers on demand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx

pytest_plugins = ["tests.support.canary_plugin", "tests.support.servers"]


@pytest.fixture(autouse=True, scope="session")
def nothing_blocks_the_loop() -> Iterator[None]:
    """A blocking call with pauth on the stack of a running event loop raises ``BlockingError``. Tests themselves may read files."""
    with blockbuster_ctx(scanned_modules=["pauth"]) as detector:
        for function in detector.functions.values():
            # The public names are loaded when first used, which may be in a coroutine: once per process, and not a call of pauth's.
            function.can_block_in("<frozen importlib._bootstrap>", "_find_and_load")
        # SQLAlchemy asks for the absolute form of a path that is absolute already: no system call.
        detector.functions["os.path.abspath"].can_block_in("sqlalchemy/dialects/sqlite/pysqlite.py", "create_connect_args")
        yield
