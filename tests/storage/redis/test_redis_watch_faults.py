"""Watching for changes when the server, the way to it or its rules stand against it: what was missed is told, and never an error (P9, P20)."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import exceptions

from pauth.storage.redis import watch as redis_watch
from pauth.storage.redis.errors import COMMANDS
from pauth.storage.redis.watch import RIGHTS
from tests.storage.redis.kit import storage_at
from tests.storage.redis.watch_kit import ALICE, Told, becomes, hears, listeners, told_by
from tests.support.proxy import Proxy
from tests.support.redis_servers import RedisServer, RedisSystem, start_sentinel

PASSWORD = "CANARY-redis-password"
Start = Callable[..., RedisServer]


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", ["valkey", "old_redis"])
async def test_a_connection_that_is_killed_is_told_as_changes_missed_and_comes_back(request: pytest.FixtureRequest, name: str, prefix: str) -> None:
    server: RedisServer = request.getfixturevalue(name)
    storage = storage_at(server.url, prefix=prefix)
    told = Told()
    watch = await storage.watch(told)
    assert await told.next() is None
    for _ in range(5):  # also when it was there for a moment only
        with server.client() as client:
            for each in listeners(server):
                client.client_kill_filter(_id=each["id"])
        assert await told.next() is None  # it is lost
        assert await told.next() is None  # it is there again, and what was written in between was missed
        assert watch.watching
        assert await told_by(storage, told) == []
    await storage.aclose()


async def test_a_server_that_restarts_is_heard_again(own_redis: Start, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    told = Told()
    watch = await storage.watch(told)
    assert await told.next() is None
    server.kill()
    assert await told.next() is None
    assert not watch.watching
    second = Told()
    late = await storage.watch(second)  # no error, and no endless wait
    assert not late.watching
    server.start()
    assert await told.next() is None
    assert watch.watching
    assert late.watching
    await storage.save_token("alice", {})
    assert await told.next() == ALICE
    assert await second.until(ALICE) == [None]
    assert warnings_in(caplog) == []
    await storage.aclose()


async def test_a_server_that_is_not_there_yet_is_found_when_it_is(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    server.kill()
    storage = storage_at(server.url, prefix=prefix)
    told = Told()
    watch = await storage.watch(told)
    assert not watch.watching
    assert told.all == []
    server.start()
    assert await told.next() is None
    assert watch.watching
    await storage.save_token("alice", {})
    assert await told.next() == ALICE
    await storage.aclose()


async def test_a_server_that_hangs_is_not_believed_p9(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    storage, other = storage_at(server.url, prefix=prefix, timeout=0.5), storage_at(server.url, prefix=prefix)
    told = Told()
    watch = await storage.watch(told)
    await becomes(lambda: watch.watching)
    server.hang()
    await becomes(lambda: not watch.watching)  # before anybody has told it
    assert await told.next() is None
    assert await told.next() is None
    server.go_on()
    await becomes(lambda: watch.watching)
    assert await told.next() is None
    await hears(told, other, "alice")
    await storage.aclose()
    await other.aclose()


async def test_watching_a_server_that_hangs_ends_in_time_p9(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    server.hang()
    storage = storage_at(server.url, prefix=prefix, timeout=0.3)
    watch = await storage.watch(told := Told())
    assert not watch.watching
    server.go_on()
    assert await told.next() is None
    await becomes(lambda: watch.watching)
    await storage.aclose()


async def test_a_connection_that_goes_silent_is_replaced(valkey: RedisServer, prefix: str) -> None:
    async with Proxy(valkey.port) as proxy:
        storage = storage_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, timeout=0.5)
        other = storage_at(valkey.url, prefix=prefix)
        told = Told()
        watch = await storage.watch(told)
        await becomes(lambda: watch.watching)
        proxy.swallow = True
        await other.save_token("alice", {})  # which is not heard
        await becomes(lambda: not watch.watching)
        assert await told.next() is None
        assert await told.next() is None
        proxy.swallow = False
        await becomes(lambda: watch.watching)
        assert await told.next() is None
        await hears(told, other, "bob")
        assert ALICE not in told.all
        await storage.aclose()
        await other.aclose()


async def test_a_message_cut_in_the_middle_is_a_message_missed(valkey: RedisServer, prefix: str) -> None:
    async with Proxy(valkey.port) as proxy:
        storage = storage_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix)
        other = storage_at(valkey.url, prefix=prefix)
        told = Told()
        await storage.watch(told)
        assert await told.next() is None
        for length in (0, 1, 30, 60, 100):
            proxy.cut_after = length
            await other.save_token("alice", {})
            assert await told.next() is None
            proxy.cut_after = None
            assert await told.until(None) == []
            assert await told_by(other, told) == []
        await storage.aclose()
        await other.aclose()


@pytest.mark.parametrize("name", ["valkey", "old_redis"])
@pytest.mark.parametrize("missing", ["client|id", "client|tracking", "subscribe", "&"])
async def test_a_right_that_is_missing_is_said_once_and_everything_else_works(
    request: pytest.FixtureRequest, name: str, prefix: str, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    server: RedisServer = request.getfixturevalue(name)
    rights = [right for right in RIGHTS.split() if missing not in right]
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", prefix, "on", f">{PASSWORD}", f"~{prefix}:*", "-@all", "resetchannels", *COMMANDS.split(), *rights)
    storage = storage_at(f"redis://{prefix}:{PASSWORD}@{server.address}/0", prefix=prefix)
    tasks = asyncio.all_tasks()
    told = Told()
    for _ in range(2):
        watch = await storage.watch(told)
        assert not watch.watching
        await watch.stop()
    assert asyncio.all_tasks() == tasks
    assert warnings_in(caplog) == [f"changes in Redis cannot be watched: the Redis user may not do it; allow it {RIGHTS}"]
    assert told.all == []
    await storage.save_token("alice", {"n": 1})
    assert await storage.get_token("alice") == {"n": 1}
    await storage.aclose()


async def test_who_may_not_ping_is_told_all_the_same(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "pauth", "on", f">{PASSWORD}", f"~{prefix}:*", "-@all", *COMMANDS.split(), *RIGHTS.split(), "-ping")
        storage = storage_at(f"redis://pauth:{PASSWORD}@{server.address}/0", prefix=prefix, timeout=6.0)
        told = Told()
        watch = await storage.watch(told)
        await becomes(lambda: client.info("commandstats").get("cmdstat_ping", {"rejected_calls": 0})["rejected_calls"] >= 2)  # type: ignore[union-attr, unused-ignore]
    assert watch.watching
    assert await told_by(storage, told) == [None]
    await storage.aclose()


async def test_a_server_that_has_no_such_command_is_said_once(own_redis: Start, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    server = own_redis(config='rename-command CLIENT ""\n')  # as before Redis 5; before 6 it is TRACKING that is unknown
    storage = storage_at(server.url, prefix=prefix)
    for _ in range(2):
        assert not (await storage.watch(Told())).watching
    assert warnings_in(caplog) == ["changes in Redis cannot be watched: the server has no CLIENT TRACKING as of Redis 6"]
    await storage.save_token("alice", {})
    await storage.aclose()


async def test_a_right_that_is_taken_away_ends_it_and_is_said(own_redis: Start, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    server = own_redis()
    storage = storage_at(server.url, prefix=prefix)
    told = Told()
    watch = await storage.watch(told)
    assert await told.next() is None
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-client|tracking")
        for each in listeners(server):
            client.execute_command("CLIENT", "KILL", "ID", each["id"])
    assert await told.next() is None
    await becomes(lambda: warnings_in(caplog))
    assert not watch.watching
    assert await storage.get_token("alice") is None
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "+@all")
    assert (await storage.watch(Told())).watching  # asked anew, it works anew
    assert not watch.watching
    await storage.aclose()


async def test_a_password_that_is_refused_may_be_right_later_and_shows_nowhere(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    with server.client() as client:
        client.config_set("requirepass", "CANARY-another")
        storage = storage_at(f"redis://:{PASSWORD}@{server.address}/0", prefix=prefix)
        told = Told()
        watch = await storage.watch(told)
        assert not watch.watching
        client.config_set("requirepass", PASSWORD)
    assert await told.next() is None
    assert watch.watching
    await storage.aclose()


async def test_a_server_that_a_script_keeps_busy_passes(own_redis: Start, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    server = own_redis(config="lua-time-limit 5\n")
    storage = storage_at(server.url, prefix=prefix)

    def occupy() -> None:
        with server.client() as client, suppress(exceptions.ResponseError):
            client.eval("while true do end", 0)

    script = threading.Thread(target=occupy)
    script.start()
    with server.client() as client:
        while await _is_free(client.ping):
            pass
        watch = await storage.watch(told := Told())
        assert not watch.watching
        client.script_kill()
    script.join()
    assert await told.next() is None
    assert watch.watching
    assert warnings_in(caplog) == []
    await storage.aclose()


async def _is_free(ping: Callable[[], object]) -> bool:
    try:
        await asyncio.to_thread(ping)
    except exceptions.ResponseError:
        return False
    return True


async def test_attempts_become_rarer_and_a_good_while_makes_up_for_it_p10(own_redis: Start, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_watch, "_FIRST_PAUSE", 1e-4)
    monkeypatch.setattr(redis_watch, "_LONGEST_PAUSE", 5e-3)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def sleeping(seconds: float) -> None:
        if sys._getframe(1).f_globals["__name__"] == redis_watch.__name__:  # pyright: ignore[reportPrivateUsage]
            pauses.append(seconds)
        await sleep(seconds)

    server = own_redis()
    server.kill()
    storage = storage_at(server.url, prefix=prefix, timeout=2.0)
    monkeypatch.setattr(asyncio, "sleep", sleeping)
    watch = await storage.watch(told := Told())
    await becomes(lambda: len(pauses) > 20)
    for number, pause in enumerate(pauses[:12]):
        longest = min(1e-4 * 2**number, 5e-3)
        assert longest / 2 <= pause <= longest
    server.start()
    assert await told.next() is None
    del pauses[:]
    await becomes(lambda: len(pauses) > 3)  # pings, for longer than it may be silent
    assert watch.watching
    del pauses[:]
    server.kill()
    assert await told.next() is None
    await becomes(lambda: pauses)
    assert pauses[0] <= 1e-4
    monkeypatch.undo()
    await storage.aclose()


@pytest.fixture
def own_sentinel(tmp_path: Path) -> Iterator[RedisSystem]:
    system = start_sentinel(tmp_path)
    yield system
    system.kill()


@pytest.mark.parametrize("fault", ["kill", "hang"])
async def test_after_a_failover_the_new_master_is_heard_p7w(own_sentinel: RedisSystem, prefix: str, fault: str) -> None:
    storage = storage_at(own_sentinel.url, prefix=prefix, timeout=1.0)
    told = Told()
    watch = await storage.watch(told)
    await becomes(lambda: watch.watching)
    master, replica, _ = own_sentinel.servers
    getattr(master, fault)()
    await becomes(lambda: not watch.watching)
    await becomes(lambda: watch.watching)  # there is a master again
    assert listeners(replica)
    other = storage_at(replica.url, prefix=prefix)
    await hears(told, other, "bob")
    assert told.all[:3] == [None] * 3
    await storage.aclose()
    await other.aclose()
