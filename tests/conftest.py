"""What holds for every test: no blocking call on the event loop, no secret in any sink, real servers on demand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

# Helpers beside the tests assert too; before anything imports them, whichever test comes first.
pytest.register_assert_rewrite(*(f"tests.{folder.name}" for folder in Path(__file__).parent.iterdir() if folder.is_dir()))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so. The programs that tests interrupt would inherit it, and never notice.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("pauth", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
settings.load_profile("pauth")

pytest_plugins = ["tests.support.canary_plugin", "tests.support.servers"]


@pytest.fixture(autouse=True, scope="session")
def nothing_is_left_among_the_users_own_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tokens that a store does not take go to a journal of this session, which the canary searches after every test (SH-1)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAUTH_JOURNAL", os.fspath(tmp_path_factory.mktemp("journal") / "unsaved"))
        yield


@pytest.fixture(autouse=True, scope="session")
def nothing_blocks_the_loop() -> Iterator[None]:
    """A blocking call with pauth on the stack of a running event loop raises ``BlockingError``. Tests themselves may read files."""
    with blockbuster_ctx(scanned_modules=["pauth"]) as detector:
        for function in detector.functions.values():
            # The public names are loaded when first used, which may be in a coroutine: once per process, and not a call of pauth's.
            function.can_block_in("<frozen importlib._bootstrap>", "_find_and_load")
        # SQLAlchemy asks for the absolute form of a path that is absolute already: no system call.
        detector.functions["os.path.abspath"].can_block_in("sqlalchemy/dialects/sqlite/pysqlite.py", "create_connect_args")
        # Coverage itself, when threads run at once.
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            detector.functions[name].can_block_in("coverage/collector.py", "lock_data")
        # The folder of the process is a field in memory; it is asked for when a storage is made.
        for name in ("os.path.abspath", "os.getcwd"):
            detector.functions[name].can_block_in("pauth/storage/arguments.py", "absolute_path")
        # The sync face waits in the thread of its caller, and lets its own loop stand still while the process forks; both on purpose.
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            detector.functions[name].can_block_in("pauth/sync/_portal.py", {"wait", "_rest"})
        yield


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long texts are named by their parameter: a random key in a test's id would make xdist's workers disagree on what the tests are."""
    return argname if isinstance(val, str | bytes) and len(val) >= 24 else None
