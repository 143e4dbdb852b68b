"""``async with stream.listen() as events``: a bounded queue, filled from any thread, read on one loop (P19)."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

from pauth.errors import ConfigurationError
from pauth.events import Event, EventStream, TokenRefreshed
from tests.events.kit import refreshed


def numbered(count: int, *, first: int = 0) -> list[TokenRefreshed]:
    return [refreshed(f"a-{number}") for number in range(first, first + count)]


def silent() -> EventStream:
    return EventStream(log=False)


async def test_events_are_read_in_their_order_until_the_listener_is_left() -> None:
    stream, events = silent(), numbered(3)
    stream.emit(refreshed("before"))
    async with stream.listen() as listener:
        for event in events:
            stream.emit(event)
        seen: list[Event] = [await anext(listener) for _ in events]
    assert seen == events
    assert listener.dropped == 0
    assert not stream.active
    stream.emit(refreshed("after"))
    with pytest.raises(StopAsyncIteration):
        await anext(listener)


async def test_a_reader_that_waits_is_woken() -> None:
    stream, (event, second) = silent(), numbered(2)
    async with stream.listen() as listener:
        for each in (event, second):
            reading = asyncio.ensure_future(anext(listener))
            await asyncio.sleep(0)
            assert not reading.done()
            stream.emit(each)
            assert await reading is each


async def test_leaving_lets_a_reader_in_another_task_finish_what_has_come() -> None:
    stream, events = silent(), numbered(2)
    seen: list[Event] = []

    async def read() -> None:
        async for event in listener:
            seen.append(event)
            await asyncio.sleep(0)

    async with stream.listen() as listener:
        reader = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        for event in events:
            stream.emit(event)
    await reader
    assert seen == events


async def test_leaving_ends_a_reader_that_waits() -> None:
    async with silent().listen() as listener:
        reading = asyncio.ensure_future(anext(listener, None))
        await asyncio.sleep(0)
    assert await reading is None


async def test_two_readers_share_the_events() -> None:
    stream, events = silent(), numbered(20)
    seen: list[Event] = []

    async def read() -> None:
        async for event in listener:
            seen.append(event)

    async with stream.listen() as listener:
        readers = [asyncio.ensure_future(read()) for _ in range(2)]
        for event in events:
            stream.emit(event)
            await asyncio.sleep(0)
        while len(seen) < len(events):
            await asyncio.sleep(0)
    await asyncio.gather(*readers)
    assert len(seen) == len(events)
    assert set(seen) == set(events)


async def test_p19_a_slow_reader_loses_the_oldest_and_is_told_how_many(caplog: pytest.LogCaptureFixture) -> None:
    stream, events = silent(), numbered(8)
    async with stream.listen(max_queue=3) as listener:
        for event in events:
            stream.emit(event)
        assert listener.dropped == 5
        assert [await anext(listener) for _ in range(3)] == events[-3:]
        stream.emit(events[0])
        assert await anext(listener) is events[0]
    assert listener.dropped == 5
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "too slow" in record.getMessage()


async def test_listeners_do_not_take_each_others_events() -> None:
    stream, events = silent(), numbered(2)
    async with stream.listen() as one, stream.listen(max_queue=1) as other:
        for event in events:
            stream.emit(event)
        assert [await anext(one), await anext(one), await anext(other)] == [*events, events[1]]


async def test_p15_threads_may_emit_to_a_listener() -> None:
    stream, threads, count = silent(), 4, 200
    seen: list[Event] = []

    def emit_all(number: int) -> None:
        for event in numbered(count, first=number * count):
            stream.emit(event)

    workers = [threading.Thread(target=emit_all, args=(number,)) for number in range(threads)]
    async with stream.listen(max_queue=threads * count) as listener:
        for worker in workers:
            worker.start()
        async for event in listener:
            seen.append(event)
            if len(seen) == threads * count:
                break
    for worker in workers:
        worker.join()
    assert len({event.attempt_id for event in seen if isinstance(event, TokenRefreshed)}) == threads * count
    for number in range(threads):
        own = numbered(count, first=number * count)
        assert [event for event in seen if event in set(own)] == own, "in the order in which the thread emitted them"


def test_p15_a_listener_whose_loop_was_closed_is_forgotten() -> None:
    stream = silent()

    async def enter() -> None:
        await stream.listen().__aenter__()

    asyncio.run(enter())
    assert stream.active
    stream.emit(refreshed())
    assert not stream.active


async def test_p15_a_forked_child_forgets_the_listeners_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, (event,) = silent(), numbered(1)
    async with stream.listen() as listener:
        reading = asyncio.ensure_future(anext(listener, None))
        await asyncio.sleep(0)
        with monkeypatch.context() as child:
            child.setattr("os.getpid", lambda: -1)
            stream.emit(event)
            assert not stream.active
    assert await reading is None, "it was neither queued nor was its reader, on the parent's loop, woken for it"


async def test_a_cancelled_reader_loses_nothing() -> None:
    stream, (event,) = silent(), numbered(1)
    async with stream.listen() as listener:
        reading = asyncio.ensure_future(anext(listener))
        await asyncio.sleep(0)
        reading.cancel()
        stream.emit(event)
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await anext(listener) is event


async def test_a_listener_is_read_only_inside_of_its_async_with() -> None:
    listener = silent().listen()
    with pytest.raises(ConfigurationError, match="async with"):
        await anext(listener)


async def test_a_listener_is_entered_once() -> None:
    listener = silent().listen()
    async with listener:
        with pytest.raises(ConfigurationError, match="once"):
            await listener.__aenter__()


async def test_a_listener_is_not_read_on_another_loop() -> None:
    stream = silent()
    async with stream.listen() as listener:

        def elsewhere() -> object:
            return asyncio.run(listener.__anext__())

        with pytest.raises(ConfigurationError, match="event loop that entered it"):
            await asyncio.to_thread(elsewhere)


@pytest.mark.parametrize("max_queue", [0, -1, 1.5, True, None, "7"])
def test_the_queue_has_a_bound(max_queue: Any) -> None:
    with pytest.raises(ConfigurationError, match="positive whole number"):
        silent().listen(max_queue=max_queue)
