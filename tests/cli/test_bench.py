"""`pauth storage bench`: it measures, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import click
import pytest

from pauth.cli.bench import measure_storage
from pauth.cli.common import unless_ended
from pauth.errors import TokenStorageError
from pauth.storage import EncryptedFileStorage, MemoryTokenStorage
from tests.cli.kit import Home
from tests.storage.kit import KEY


def test_bench_measures_and_leaves_nothing(home: Home) -> None:
    done = home.run("storage", "bench", "--seconds", "0.01", "--tasks", "1", "--tasks", "3", "--json")
    assert done.code == 0
    assert done.json["storage"] == str(home.tokens)
    lines = done.json["results"]
    assert [(line["operation"], line["tasks"]) for line in lines] == [("save", 1), ("get", 1), ("save", 3), ("get", 3)]
    for line in lines:
        assert 0 < line["p50"] <= line["p95"] <= line["p99"]
        assert line["calls"] >= line["tasks"]
        assert line["per_second"] > 0
    assert home.run("storage", "check", "--json").json["records"] == 0


def test_bench_for_people(home: Home) -> None:
    done = home.run("storage", "bench", "--seconds", "0.01")
    heading, columns, *lines = done.out.splitlines()
    assert heading == f"{home.tokens}: latency in milliseconds"
    assert columns.split() == ["OPERATION", "AT", "ONCE", "P50", "P95", "P99", "PER", "SECOND", "CALLS"]
    assert [line.split()[:2] for line in lines] == [["save", "1"], ["get", "1"], ["save", "64"], ["get", "64"]]


def test_bench_of_another_storage(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", KEY.to_string().reveal())
    done = home.run("storage", "bench", "--storage", "sqlite:///bench.db", "--seconds", "0.01", "--json")
    assert (done.code, done.json["storage"]) == (0, "sqlite:///bench.db")


def test_bench_of_a_storage_that_fails_says_so_and_cleans_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise TokenStorageError("the disk is full")

    monkeypatch.setattr(EncryptedFileStorage, "load", fails)
    done = home.run("storage", "bench", "--seconds", "0.01", "--json")
    assert (done.code, done.error["message"]) == (3, "the disk is full")
    assert home.run("storage", "check", "--json").json["records"] == 0


async def test_bench_as_a_function() -> None:
    storage = MemoryTokenStorage()
    lines = await measure_storage(storage, seconds=0.001, tasks=[2])
    assert [(line.operation, line.tasks) for line in lines] == [("save", 2), ("get", 2)]
    assert await storage.count() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_bench_that_is_ended_cleans_up(home: Home, number: int) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup, and what they start would ignore SIGHUP as they do
    try:
        process = home.start("storage", "bench", "--seconds", "600")
    finally:
        signal.signal(number, before)
    while len(list(home.tokens.rglob("*.token"))) < 64:
        assert process.poll() is None
        time.sleep(0.01)  # another process makes them, and tells nobody
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "Interrupted.\n")
    assert home.run("storage", "check", "--json").json["records"] == 0


def test_a_signal_that_is_ignored_stays_ignored(home: Home) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert home.run("storage", "bench", "--seconds", "0.01").code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Closing:
    """Something that closes, and may get a signal while it does."""

    def __init__(self, *signals: int) -> None:
        self._signals = signals
        self.is_closed = False

    async def close(self) -> None:
        for number in self._signals:
            os.kill(os.getpid(), number)
            for _ in range(5):
                await asyncio.sleep(0)
        self.is_closed = True


async def test_work_that_is_ended_by_a_signal_or_by_its_caller() -> None:
    begun, cleaned = asyncio.Event(), list[str]()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # a second one does not end the cleaning
            for _ in range(5):
                await asyncio.sleep(0)
            cleaned.append("cleaned")

    for times in (1, 2):  # in one event loop
        begun.clear()
        closing = Closing()
        task = asyncio.create_task(unless_ended(work(), closing.close))
        await begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(click.Abort):
            await task
        assert (cleaned, closing.is_closed) == (["cleaned"] * times, True)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "nothing hears it any more"
    closing = Closing()
    task = asyncio.create_task(unless_ended(asyncio.sleep(3600), closing.close))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (closing.is_closed, signal.getsignal(signal.SIGTERM)) == (True, signal.SIG_DFL)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_signal_while_it_closes_lets_it_close(times: int) -> None:
    async def work() -> str:
        return "measured"

    closing = Closing(*[signal.SIGTERM] * times)
    with pytest.raises(click.Abort):
        await unless_ended(work(), closing.close)
    assert (closing.is_closed, signal.getsignal(signal.SIGTERM)) == (True, signal.SIG_DFL)
    assert await unless_ended(work(), Closing().close) == "measured"


def test_bench_that_is_ended_while_its_storage_closes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    close, closed = EncryptedFileStorage.aclose, list[bool]()

    async def ended(storage: EncryptedFileStorage) -> None:
        await Closing(signal.SIGTERM).close()
        await close(storage)
        closed.append(True)

    monkeypatch.setattr(EncryptedFileStorage, "aclose", ended)
    done = home.run("storage", "bench", "--seconds", "0.01")
    assert (done.code, done.out, "Interrupted." in done.err, closed) == (130, "", True, [True])


async def test_bench_deletes_what_one_that_was_killed_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not what belongs to one that runs."""
    storage = MemoryTokenStorage()
    delete = storage.delete_many

    async def nothing(keys: object) -> list[Any]:
        return []

    monkeypatch.setattr(storage, "delete_many", nothing)
    monkeypatch.setattr("pauth.cli.bench._OVERDUE", -10.0)
    await measure_storage(storage, seconds=0.001, tasks=[1])
    monkeypatch.setattr("pauth.cli.bench._OVERDUE", 1000.0)
    await measure_storage(storage, seconds=0.001, tasks=[1])
    assert await storage.count() == 128
    monkeypatch.setattr(storage, "delete_many", delete)
    await measure_storage(storage, seconds=0.001, tasks=[1])
    assert await storage.count() == 64
