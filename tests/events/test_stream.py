"""Subscribing and emitting: in order, in the emitter's thread, and never to the emitter's harm."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import logging
import pickle
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from pauth.errors import ConfigurationError
from pauth.events import BreakerOpened, Event, EventStream, TokenRefreshed
from tests.events.kit import SAMPLES, USER_ID, refreshed
from tests.support.canary import excerpt

EVENT = refreshed()


def silent() -> EventStream:
    return EventStream(log=False)


def test_handlers_are_called_in_order_here_and_now() -> None:
    stream, seen = silent(), list[tuple[str, Event, int]]()
    stream.subscribe(lambda event: seen.append(("first", event, threading.get_ident())))
    stream.subscribe(lambda event: seen.append(("second", event, threading.get_ident())))
    stream.emit(EVENT)
    here = threading.get_ident()
    assert seen == [("first", EVENT, here), ("second", EVENT, here)]
    assert seen[0][1] is EVENT


def test_a_stream_nobody_listens_to_is_not_active() -> None:
    stream = silent()
    assert not stream.active
    assert not stream.wants(TokenRefreshed)
    stream.emit(EVENT)
    unsubscribe = stream.subscribe(print)
    assert stream.active
    assert stream.wants(TokenRefreshed)
    unsubscribe()
    assert not stream.active


def test_the_log_wants_what_its_level_lets_through(caplog: pytest.LogCaptureFixture) -> None:
    stream = EventStream()
    assert stream.active
    caplog.set_level(logging.WARNING, "pauth.events")
    assert (stream.wants(TokenRefreshed), stream.wants(BreakerOpened)) == (False, True)
    stream.subscribe(lambda event: None)
    assert stream.wants(TokenRefreshed)


def test_unsubscribing_twice_does_nothing_more_and_takes_one_subscription_only() -> None:
    stream, seen = silent(), list[Event]()
    one, other = stream.subscribe(seen.append), stream.subscribe(seen.append)
    stream.emit(EVENT)
    assert len(seen) == 2
    one()
    one()
    stream.emit(EVENT)
    assert len(seen) == 3
    other()
    stream.emit(EVENT)
    assert len(seen) == 3


def test_a_handler_may_unsubscribe_itself_and_others_while_an_event_is_told(caplog: pytest.LogCaptureFixture) -> None:
    stream, seen = silent(), list[str]()
    stops: list[Callable[[], None]] = []

    def first(event: Event) -> None:
        seen.append("first")
        for stop in stops:
            stop()

    stops.append(stream.subscribe(first))
    stops.append(stream.subscribe(lambda event: seen.append("second")))
    stream.subscribe(lambda event: seen.append("third"))
    stream.emit(EVENT)
    assert seen == ["first", "third"], "after its unsubscribe a handler is not called any more, not even with the event under way"
    stream.emit(EVENT)
    assert seen == ["first", "third", "third"]
    assert caplog.records == []


def test_who_subscribes_within_a_handler_hears_of_the_next_event() -> None:
    stream, seen = silent(), list[Event]()
    stop = stream.subscribe(lambda event: (stream.subscribe(seen.append), stop())[1])
    stream.emit(EVENT)
    assert seen == []
    stream.emit(EVENT)
    assert seen == [EVENT]


def test_a_handler_may_emit() -> None:
    stream, seen = silent(), list[str]()

    def handler(event: Event) -> None:
        seen.append(event.kind)
        if isinstance(event, TokenRefreshed):
            stream.emit(SAMPLES["lease_lost"])

    stream.subscribe(handler)
    stream.emit(EVENT)
    assert seen == ["token_refreshed", "lease_lost"]


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, RecursionError, StopIteration, BaseExceptionGroup])
def test_p4_a_failing_handler_harms_nobody_and_is_logged_by_its_class_only(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """SH-1: an exception of a handler may hold anything."""
    stream, seen = silent(), list[Event]()

    def fails(event: Event) -> None:
        raise error("CANARY-token", [ValueError("CANARY")]) if issubclass(error, BaseExceptionGroup) else error("CANARY-token")

    stream.subscribe(fails)
    stream.subscribe(seen.append)
    stream.emit(EVENT)
    assert seen == [EVENT]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    name = "ExceptionGroup" if error is BaseExceptionGroup else error.__name__  # a group of Exceptions is made one itself
    assert record.getMessage() == f"an event handler failed ({name}) at token_refreshed; the event is lost to it"
    assert record.exc_info is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_who_interrupts_the_program_is_heard(error: type[BaseException]) -> None:
    stream = silent()

    def interrupted(event: Event) -> None:
        raise error

    stream.subscribe(interrupted)
    with pytest.raises(error):
        stream.emit(EVENT)


async def coroutine(event: Event) -> None:
    """Would never be awaited."""


class Callee:
    async def __call__(self, event: Event) -> None:
        """Would never be awaited."""


@pytest.mark.parametrize("handler", [coroutine, functools.partial(coroutine), Callee(), Callee().__call__])
def test_a_coroutine_function_is_refused_as_a_handler(handler: Any) -> None:
    stream = silent()
    with pytest.raises(ConfigurationError, match=r"listen\(\)"):
        stream.subscribe(handler)
    assert not stream.active


@pytest.mark.parametrize("handler", [None, "print", 7])
def test_what_cannot_be_called_is_refused_as_a_handler(handler: Any) -> None:
    with pytest.raises(ConfigurationError, match="function of one argument"):
        silent().subscribe(handler)


def test_p15_threads_subscribe_emit_and_unsubscribe_at_once() -> None:
    """Nobody's subscription is lost, and each handler hears each event that is emitted while it is subscribed, once."""
    stream, threads, rounds = silent(), 8, 300
    heard: list[list[Event]] = [[] for _ in range(threads)]
    everywhere: list[Event] = []
    stream.subscribe(everywhere.append)  # list.append is atomic
    begin = threading.Barrier(threads)

    def work(number: int) -> None:
        own = refreshed(f"of thread {number}")
        begin.wait()
        for _ in range(rounds):
            unsubscribe = stream.subscribe(lambda event: heard[number].append(event) if event is own else None)
            stream.emit(own)
            unsubscribe()
            stream.emit(own)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [len(each) for each in heard] == [rounds] * threads
    assert len(everywhere) == 2 * rounds * threads
    assert repr(stream) == "<EventStream handlers=1>"


def test_p15_a_finalizer_may_unsubscribe_while_a_subscription_is_being_made() -> None:
    """The collector runs wherever memory is allocated, also while the stream's lock is held."""
    stream = silent()

    class Owner:
        pass

    owner = Owner()
    weakref.finalize(owner, stream.subscribe(print))
    with stream._lock:  # pyright: ignore[reportPrivateUsage]
        del owner
        gc.collect()
    assert not stream.active


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_sh4_a_stream_cannot_be_pickled_or_copied(protocol: int) -> None:
    stream = EventStream(fingerprint_key=b"CANARY-fingerprint-key")
    with pytest.raises(TypeError, match="fingerprint_key") as caught:
        pickle.dumps(stream, protocol)
    assert excerpt(repr(caught.value)) is None
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy(stream)
    assert excerpt(repr(stream)) is None


def test_sh5_a_refused_key_shows_nowhere() -> None:
    with pytest.raises(ConfigurationError, match="at least 16") as caught:
        EventStream(fingerprint_key=b"CANARY-short")
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    inside = "".join(str(frame.locals) for frame in shown.stack if "pauth" in frame.filename and "tests" not in frame.filename)
    assert "fingerprint" in "".join(shown.format())
    assert excerpt(inside) is None


def test_the_user_id_reaches_handlers() -> None:
    stream, seen = silent(), list[str]()
    stream.subscribe(lambda event: seen.append(event.user_id) if isinstance(event, TokenRefreshed) else None)
    stream.emit(EVENT)
    assert seen == [USER_ID]
