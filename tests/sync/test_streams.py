"""Iterators and context managers: begun, used and closed in one task, whoever calls, and however it ends."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from pauth import ConfigurationError, MemoryTokenStorage, PAuthError, Remedy, SyncTokenStorage
from pauth.sync import DeadlineExceeded, SyncContext, SyncIterator, _portal
from pauth.sync._streams import AHEAD, _Feed  # pyright: ignore[reportPrivateUsage]

T = TypeVar("T")


class Source:
    """An async generator that says which task it was begun, used and closed in."""

    def __init__(self, *items: Any, slow: bool = False) -> None:
        self.items = items
        self.slow = slow
        self.tasks: list[object] = []
        self.given = 0
        self.closed = False
        self.go_on = asyncio.Event()

    async def iterate(self) -> AsyncIterator[Any]:
        self.tasks.append(asyncio.current_task())
        try:
            for item in self.items:
                if self.slow:
                    await self.go_on.wait()
                    self.go_on.clear()
                self.given += 1
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            await asyncio.sleep(0)
            self.tasks.append(asyncio.current_task())
            self.closed = True

    def listing(self, deadline: float | None = 60.0) -> SyncIterator[Any]:
        return SyncIterator(self.iterate(), deadline)

    def check_closed(self) -> None:
        assert self.closed
        assert len(set(self.tasks)) == 1


def turn() -> None:
    """Let the loop turn."""
    SyncTokenStorage(MemoryTokenStorage()).count()


def in_loop(work: Any) -> None:
    _portal.current().soon(work)


@pytest.mark.parametrize("number", [0, 1, AHEAD - 1, AHEAD, AHEAD + 1, 3 * AHEAD])
def test_every_item_comes_once_and_in_order(number: int) -> None:
    source = Source(*range(number))
    listing = source.listing()
    assert list(listing) == list(range(number))
    source.check_closed()
    assert list(listing) == []
    listing.close()


def test_no_more_is_read_ahead_than_that() -> None:
    source = Source(*range(3 * AHEAD))
    with source.listing() as listing:
        assert next(listing) == 0
        turn()
        assert source.given == AHEAD
        assert [next(listing) for _ in range(AHEAD)] == list(range(1, AHEAD + 1))
        turn()
        assert source.given == 2 * AHEAD
    source.check_closed()


def test_an_item_is_given_as_soon_as_it_is_there() -> None:
    """Not when the next one is."""
    source = Source("first", "second", slow=True)
    with source.listing() as listing:
        in_loop(source.go_on.set)
        assert next(listing) == "first"
        assert source.given == 1
        in_loop(source.go_on.set)
        assert list(listing) == ["second"]


async def test_items_that_came_while_the_call_was_on_its_way_are_enough() -> None:
    feed = _Feed(Source().iterate())
    feed.items.append("first")
    feed._more.set()  # pyright: ignore[reportPrivateUsage]
    await feed.wait_for_more()  # without waiting
    assert list(feed.items) == ["first"]


def test_an_error_comes_after_what_came_before_it() -> None:
    source = Source(1, 2, LookupError("in the middle"), 3)
    listing = source.listing()
    assert [next(listing), next(listing)] == [1, 2]
    with pytest.raises(LookupError, match="in the middle"):
        next(listing)
    with pytest.raises(StopIteration):
        next(listing)
    source.check_closed()


@pytest.mark.parametrize("slow", [False, True])
def test_closing_in_the_middle_closes_the_source_in_its_own_task(slow: bool) -> None:
    source = Source(*range(2 * AHEAD), slow=slow)
    listing = source.listing()
    in_loop(source.go_on.set)
    next(listing)
    listing.close()
    source.check_closed()
    assert list(listing) == []
    listing.close()


def test_one_that_was_never_begun_is_closed_without_a_word() -> None:
    source = Source(1)
    source.listing().close()
    assert not source.tasks


def test_one_that_nobody_refers_to_is_closed() -> None:
    source = Source(*range(2 * AHEAD))
    listing = source.listing()
    next(listing)
    gone = weakref.ref(listing)
    del listing
    gc.collect()
    assert gone() is None
    while not source.closed:
        turn()
    source.check_closed()


def test_what_the_source_raises_when_it_is_closed_is_raised() -> None:
    async def iterate() -> AsyncIterator[int]:
        try:
            for number in range(2 * AHEAD):
                yield number
        finally:
            raise LookupError("on the way out")

    listing = SyncIterator(iterate(), 60.0)
    next(listing)
    with pytest.raises(LookupError, match="on the way out"):
        listing.close()
    listing.close()


def test_a_source_that_is_no_generator() -> None:
    class Countdown:
        def __init__(self) -> None:
            self.left = 3

        def __aiter__(self) -> Countdown:
            return self

        async def __anext__(self) -> int:
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return self.left

    assert list(SyncIterator(Countdown(), 60.0)) == [2, 1, 0]


def test_a_deadline_ends_the_call_and_not_the_listing() -> None:
    source = Source("late", slow=True)
    with source.listing(deadline=0.02) as listing:
        while not source.tasks:  # on a busy machine the time may be up before anything is begun
            with pytest.raises(DeadlineExceeded):
                next(listing)
        listing._deadline = 60.0  # pyright: ignore[reportPrivateUsage]
        in_loop(source.go_on.set)
        while not source.given:
            turn()
        assert list(listing) == ["late"]
    source.check_closed()


def test_a_cancellation_from_inside_is_an_error_to_try_again() -> None:
    listing = Source(1, asyncio.CancelledError(), 2).listing()
    assert next(listing) == 1
    with pytest.raises(PAuthError, match="cancelled from inside") as caught:
        next(listing)
    assert caught.value.remedy is Remedy.RETRY


# --- context managers


class Manager:
    """An async context manager that says which task it is in, and may swallow errors or raise its own."""

    def __init__(self, *, swallows: type[BaseException] = StopIteration, raises: BaseException | None = None) -> None:
        self.swallows = swallows
        self.raises = raises
        self.tasks: list[object] = []
        self.seen: BaseException | None = None

    @asynccontextmanager
    async def hold(self) -> AsyncGenerator[str, None]:
        self.tasks.append(asyncio.current_task())
        try:
            async with asyncio.timeout(60):  # which only its own task can leave
                yield "held"
        except BaseException as error:
            self.seen = error
            if not isinstance(error, self.swallows):
                raise
        finally:
            self.tasks.append(asyncio.current_task())
            if self.raises is not None:
                raise self.raises

    def context(self, deadline: float | None = 60.0) -> SyncContext[str]:
        return SyncContext(self.hold(), deadline)


def test_a_context_is_entered_and_left_in_one_task() -> None:
    manager = Manager()
    with manager.context() as value:
        assert value == "held"
        turn()
    assert len(manager.tasks) == 2
    assert len(set(manager.tasks)) == 1


def test_an_error_in_the_block_passes_through_as_it_is() -> None:
    manager, error = Manager(), LookupError("in the block")
    with pytest.raises(LookupError) as caught, manager.context():
        raise error
    assert caught.value is error is manager.seen


def test_a_manager_may_raise_the_blocks_error_itself() -> None:
    """It passes on as it is, from the line that raised it."""

    class Raising:
        async def __aenter__(self) -> None:
            pass

        async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
            assert error is not None
            raise error

    error = LookupError("in the block")
    with pytest.raises(LookupError) as caught, SyncContext(Raising(), 60.0):
        raise error
    assert caught.value is error
    assert caught.traceback[-1].name == "test_a_manager_may_raise_the_blocks_error_itself"


def test_an_error_may_be_swallowed() -> None:
    manager = Manager(swallows=LookupError)
    with manager.context():
        raise LookupError("in the block")
    assert isinstance(manager.seen, LookupError)


def test_an_error_of_the_managers_own_is_raised() -> None:
    with pytest.raises(LookupError, match="on the way out"), Manager(raises=LookupError("on the way out")).context():
        pass
    with pytest.raises(LookupError, match="on the way out") as caught, Manager(raises=LookupError("on the way out")).context():
        raise ZeroDivisionError
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_what_cannot_be_entered_says_why() -> None:
    @asynccontextmanager
    async def closed() -> AsyncGenerator[None, None]:
        raise ConfigurationError("it is closed")
        yield

    with pytest.raises(ConfigurationError, match="it is closed"), SyncContext(closed(), 60.0):
        pass


def test_one_that_is_entered_too_slowly_is_given_up() -> None:
    entering = left = False

    @asynccontextmanager
    async def slow() -> AsyncGenerator[None, None]:
        nonlocal entering, left
        entering = True
        try:
            await asyncio.Event().wait()
            yield
        finally:
            left = True

    while not entering:  # on a busy machine the time may be up before anything is begun
        with pytest.raises(DeadlineExceeded), SyncContext(slow(), 0.02):
            pass
    while not left:
        turn()


def test_a_context_that_nobody_refers_to_is_left() -> None:
    manager = Manager()
    context = manager.context()
    context.__enter__()
    del context
    gc.collect()
    while len(manager.tasks) < 2:
        turn()
    assert isinstance(manager.seen, asyncio.CancelledError)
    assert len(set(manager.tasks)) == 1


def test_a_context_is_left_once() -> None:
    manager = Manager()
    context = manager.context()
    context.__enter__()
    assert context.__exit__(None, None, None) is False
    assert context.__exit__(None, None, None) is False
    assert len(manager.tasks) == 2
