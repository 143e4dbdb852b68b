"""An operation runs to its end, whatever becomes of its caller."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from pauth.errors import RecordTampered, StorageUnavailable
from pauth.storage.detached import Detached


@asynccontextmanager
async def unanswered() -> AsyncGenerator[asyncio.Future[str], None]:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    yield future
    future.cancel()


async def test_it_gives_the_result() -> None:
    assert await Detached().run(asyncio.sleep(0, "done")) == "done"


async def test_a_cancelled_caller_leaves_the_operation_running_p14() -> None:
    operations = Detached()
    release = asyncio.Event()
    done: list[str] = []

    async def operation() -> None:
        await release.wait()
        done.append("written")

    caller = asyncio.create_task(operations.run(operation()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gc.collect()  # nobody but Detached holds the operation now
    assert done == []
    release.set()
    await operations.drain(patience=60)
    assert done == ["written"]


async def test_an_error_reaches_the_caller() -> None:
    async def fail() -> None:
        raise RecordTampered("somebody was first")

    with pytest.raises(RecordTampered):
        await Detached().run(fail())


async def test_the_error_of_an_operation_nobody_waits_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    operations = Detached()
    release = asyncio.Event()

    async def fail() -> None:
        await release.wait()
        raise RecordTampered("somebody was first")

    caller = asyncio.create_task(operations.run(fail()))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    release.set()
    await operations.drain(patience=60)
    await asyncio.sleep(0)
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelname == "ERROR"] == []


async def test_a_late_operation_is_reported_and_goes_on_p9() -> None:
    operations = Detached()
    release = asyncio.Event()
    done: list[str] = []

    async def operation() -> None:
        await release.wait()
        done.append("written")

    with pytest.raises(StorageUnavailable, match="within 0 seconds") as caught:
        await operations.run(operation(), patience=0)
    assert caught.value.retryable
    release.set()
    await operations.drain(patience=60)
    assert done == ["written"]


async def test_a_cancellation_from_inside_is_an_error_not_a_cancellation() -> None:
    async with unanswered() as future:
        caller = asyncio.create_task(Detached().run(_await(future)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(StorageUnavailable, match="cancelled from inside"):
            await caller


async def _await(future: asyncio.Future[str]) -> str:
    return await future


async def test_draining_is_bounded_and_keeps_to_its_event_loop_p15() -> None:
    operations = Detached()
    await operations.drain(patience=0)
    async with unanswered() as future:
        caller = asyncio.create_task(operations.run(_await(future)))
        await asyncio.sleep(0)
        await operations.drain(patience=0)
        await asyncio.to_thread(asyncio.run, operations.drain(patience=60))  # another loop has nothing to wait for
        assert not caller.done()
    await asyncio.wait([caller])
    assert isinstance(caller.exception(), StorageUnavailable)
