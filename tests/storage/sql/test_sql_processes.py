"""Several processes on one database (P1, P15, SQ-2, SQ-6)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.storage import RecordKey
from tests.storage.kit import plain
from tests.storage.sql.kit import by, storage_at
from tests.support.sql_servers import SqlServer

ROOT = Path(__file__).parents[3]
PROCESSES = 4


@pytest.fixture(params=["asyncpg", "psycopg", "asyncmy"])
def url(request: pytest.FixtureRequest) -> str:
    server: SqlServer = request.getfixturevalue("mariadb" if request.param in ("asyncmy", "aiomysql") else "postgres")
    return by(request.param, server.account())


def processes(number: int, url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.storage.sql.process_program", url, str(number)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})


def test_processes_that_make_the_tables_at_once_lose_no_write_and_have_one_leader(url: str) -> None:
    started = processes(PROCESSES, url)
    text = started.communicate()[0]
    assert started.returncode == 0
    outcomes = [line.split() for line in text.splitlines()]
    assert len(outcomes) == PROCESSES
    assert sum(int(made) for made, _ in outcomes) == 1
    assert sum(int(led) for _, led in outcomes) == 1

    async def look() -> None:
        async with aclosing(storage_at(url)) as storage:
            record = await storage.load(RecordKey("", "counter"))
            assert plain(record) == {"n": 5 * PROCESSES}
            assert record is not None
            assert record.version == 5 * PROCESSES
            others = await storage.get_many([RecordKey("", f"user-{number}") for number in range(30)])
            assert [other.version for other in others if other and not isinstance(other, Exception)] == [3 * PROCESSES] * 30

    asyncio.run(look())


@pytest.mark.parametrize("url", ["asyncpg", "asyncmy"], indirect=True)
def test_a_killed_writer_leaves_whole_records(url: str) -> None:
    writer = processes(1, url)
    assert writer.stdout is not None
    acknowledged = 0
    while acknowledged < 5:
        acknowledged = int(writer.stdout.readline())
    writer.kill()
    writer.communicate()

    async def look() -> None:
        async with aclosing(storage_at(url)) as storage:
            for user in ("alice", "bob"):
                found = await storage.get_token(user)
                assert found is not None
                assert found["n"] >= acknowledged
                assert len(found["large"]) == 20_000

    asyncio.run(look())


@pytest.mark.parametrize("url", ["asyncpg", "psycopg", "asyncmy", "aiomysql"], indirect=True)
async def test_event_loops_of_their_own_p15(url: str) -> None:
    storage = storage_at(url)
    await storage.save_token("alice", {"n": 0})
    for number in range(3):
        await asyncio.to_thread(asyncio.run, storage.save_token("alice", {"n": number}))
    assert await storage.get_token("alice") == {"n": 2}
    await storage.aclose()
