"""One call: where it runs, what it refuses, what it gives and what it raises."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import pickle
import threading
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pauth import (
    ConfigurationError,
    MemoryTokenStorage,
    OAuth2Client,
    PAuthError,
    ReauthorizationRequired,
    Remedy,
    SyncOAuth2Client,
    SyncTokenStorage,
)
from pauth.sync import BlockingCallWarning, DeadlineExceeded, _portal, copy_storage
from tests.storage.kit import DictStorage
from tests.sync.kit import CLIENT_SECRET, LIFETIME, Town, make_storage


class Calling(DictStorage):
    """A user's class that does something in pauth's loop when it is read."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__()
        self.act = act

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        return self.act()  # type: ignore[no-any-return]


def one_token() -> SyncTokenStorage:
    storage = SyncTokenStorage(MemoryTokenStorage())
    storage.save_token("alice", {"n": 1})
    return storage


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pauth-sync"]


# --- where


def test_all_run_in_one_daemon_thread() -> None:
    seen: set[int] = set()

    def act() -> None:
        seen.add(threading.get_ident())

    storages = [SyncTokenStorage(Calling(act)) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        for call in [pool.submit(storages[number % 4].get_token, "alice") for number in range(64)]:
            call.result()
    (thread,) = threads()
    assert seen == {thread.ident}
    assert thread.daemon


def test_a_call_sees_the_context_of_its_caller() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    storage = SyncTokenStorage(Calling(lambda: {"seen": variable.get()}))
    variable.set("the caller's")
    assert storage.get_token("alice") == {"seen": "the caller's"}


def test_in_a_running_loop_it_works_and_warns_where_the_call_is() -> None:
    """P15: in a notebook, for example. The loop stands still, but the call has one of its own."""
    storage = SyncTokenStorage(MemoryTokenStorage())

    async def main() -> dict[str, Any] | None:
        with pytest.warns(BlockingCallWarning, match="await OAuth2Client instead") as warned:  # noqa: PT031  # from three places
            storage.save_token("alice", {"n": 1})
            list(storage.iter_users())
            copy_storage(storage, MemoryTokenStorage())
        assert {warning.filename for warning in warned} == {__file__}
        assert len({warning.lineno for warning in warned}) == 3
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BlockingCallWarning)
            return storage.get_token("alice")

    assert asyncio.run(main()) == {"n": 1}


def test_where_warnings_are_errors_nothing_is_left_behind() -> None:
    async def main() -> None:
        with pytest.raises(BlockingCallWarning):
            SyncTokenStorage(MemoryTokenStorage()).save_token("alice", {"n": 1})

    asyncio.run(main())
    gc.collect()  # a coroutine that nobody awaited would warn, and warnings are errors here


def test_in_its_own_loop_it_is_refused() -> None:
    """P15: it would wait for itself."""
    storage = SyncTokenStorage(Calling(lambda: other.get_token("bob")))
    other = SyncTokenStorage(MemoryTokenStorage())
    with pytest.raises(ConfigurationError, match="would wait for itself"):
        storage.get_token("alice")
    with pytest.raises(ConfigurationError, match="must use the async API"):
        copy_storage(one_token(), MemoryTokenStorage(), on_progress=lambda _: other.count())
    assert other.get_token("bob") is None


# --- what comes of it


def test_a_traceback_is_short_and_leads_to_the_cause(town: Town) -> None:
    client = town.client()
    with pytest.raises(ReauthorizationRequired) as caught:
        client.get_token("nobody")
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [Path(frame.filename).name for frame in frames[:6]] == [
        "test_portal.py",
        "_client.py",
        "_face.py",
        "_portal.py",
        "_portal.py",
        "client.py",
    ]
    assert frames[-1].name == "read"
    assert not [frame for frame in frames if "asyncio" in frame.filename or "concurrent" in frame.filename]
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_an_error_does_not_keep_itself_alive(town: Town) -> None:
    """No frame of the call refers to the error that refers to the frame."""
    client = town.client()
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ReauthorizationRequired) as caught:
            client.get_token("nobody")
        local = [
            name for frame, _ in traceback.walk_tb(caught.value.__traceback__) for name, value in frame.f_locals.items() if value is caught.value
        ]
        assert local == []
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_would_end_a_loop_reaches_the_caller_only(error: BaseException) -> None:
    def act() -> None:
        raise error

    storage = one_token()
    with pytest.raises(type(error)):
        copy_storage(storage, MemoryTokenStorage(), on_progress=lambda _: act())
    assert storage.get_token("alice") == {"n": 1}


def test_a_cancellation_from_inside_is_an_error_to_try_again() -> None:
    def act(_: object) -> None:
        raise asyncio.CancelledError

    with pytest.raises(PAuthError, match="was cancelled from inside; try again") as caught:
        copy_storage(one_token(), MemoryTokenStorage(), on_progress=act)
    assert caught.value.remedy is Remedy.RETRY
    assert caught.value.__context__ is None


# --- deadlines


def test_p9_a_call_gives_up_at_its_deadline_and_the_refresh_goes_on(town: Town) -> None:
    storage = MemoryTokenStorage(clock=town.clock)
    patient, hasty = town.client(storage), town.client(storage, deadline=0.05)
    town.log_in(patient)
    with town.held() as refresh:
        while not refresh.has_arrived:  # on a busy machine the time may be up before anything is begun
            with pytest.raises(
                DeadlineExceeded, match=r"^no answer within 0\.05 seconds; what was begun may still be completed: try again$"
            ) as caught:
                hasty.refresh("alice")
            assert caught.value.retryable
            assert caught.value.__context__ is None
        refresh.release()
        token = patient.refresh("alice")  # waits for the same one
    assert town.refreshes() == 1
    assert patient.get_token("alice").access_token == token.access_token
    assert not town.server.family_revoked("alice")


def test_without_a_deadline_it_waits_as_long_as_it_takes(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the caller looks up."""
    monkeypatch.setattr(_portal, "_LOOK_EVERY", 0.001)
    client = town.client(deadline=None)
    town.log_in(client)
    with town.held() as refresh:

        def release() -> None:
            refresh.arrived()
            refresh.release()

        releasing = threading.Thread(target=release)
        releasing.start()
        assert client.refresh("alice").subject == "alice"
        releasing.join()


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), "60"])
def test_a_deadline_is_a_positive_number_or_none(deadline: Any) -> None:
    with pytest.raises(ConfigurationError, match="the deadline must be a positive number of seconds, or None"):
        SyncTokenStorage(MemoryTokenStorage(), deadline=deadline)
    with pytest.raises(ConfigurationError, match="the deadline must be"):
        SyncOAuth2Client("github", "id", deadline=deadline)


# --- many threads


@pytest.mark.parametrize("kind", ["memory", "sqlite", "three methods", "blocking"])
def test_p1_p15_thirty_two_threads_make_one_refresh(town: Town, tmp_path: Path, kind: str) -> None:
    face = SyncTokenStorage(make_storage(kind, tmp_path, town.clock), clock=town.clock)
    town.stack.callback(face.close)
    client = town.client(face)
    town.log_in(client)
    town.clock.advance(LIFETIME)
    together = threading.Barrier(32)

    def ask(_: int) -> str:
        together.wait()
        return client.get_token("alice").access_token.reveal()

    with ThreadPoolExecutor(32) as pool:
        assert len(set(pool.map(ask, range(32)))) == 1
    assert town.refreshes() == 1


def test_p15_threads_and_event_loops_of_the_programs_own_make_one_refresh_together(town: Town) -> None:
    storage = MemoryTokenStorage(clock=town.clock)
    client = town.client(storage)
    town.log_in(client)
    town.clock.advance(LIFETIME)
    together = threading.Barrier(10)

    def in_a_loop() -> None:
        async def main() -> None:
            async with OAuth2Client(town.server.issuer, "client-1", CLIENT_SECRET, token_storage=storage, clock=town.clock) as mine:
                await asyncio.to_thread(together.wait)
                await asyncio.gather(*(mine.get_token("alice") for _ in range(10)))

        asyncio.run(main())

    def in_a_thread() -> None:
        together.wait()
        client.get_token("alice")

    with ThreadPoolExecutor(10) as pool:
        for done in [*(pool.submit(in_a_loop) for _ in range(2)), *(pool.submit(in_a_thread) for _ in range(8))]:
            done.result()
    assert town.refreshes() == 1


# --- forks, as far as they can be looked at from inside; the rest is in test_forks.py


def test_p15_the_loop_does_not_wait_for_itself_when_a_callback_forks() -> None:
    done = threading.Event()

    def as_a_fork_does() -> None:
        portal = _portal.current()
        portal.rest()
        portal.go_on()
        done.set()

    _portal.current().soon(as_a_fork_does)
    done.wait()
    assert one_token().get_token("alice") == {"n": 1}


def test_p15_of_two_threads_that_need_a_loop_or_a_storage_one_makes_it() -> None:
    """Who comes second finds it made when it is their turn."""
    face, portal = SyncTokenStorage("memory://"), _portal.current()
    assert face._made_again() is face._async  # pyright: ignore[reportPrivateUsage]
    assert _portal._started() is portal  # pyright: ignore[reportPrivateUsage]


# --- life


def test_where_no_thread_can_be_started_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ConfigurationError, match="no thread can be started for pauth's event loop"):
            _portal.Portal()


def test_what_cannot_be_closed_is_told_and_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    closed = threading.Event()

    class Broken:
        async def aclose(self) -> None:
            raise LookupError("CANARY-detail")

    class Whole:
        async def aclose(self) -> None:
            closed.set()

    _portal.close_later(Broken())
    _portal.close_later(Whole())
    closed.wait()
    assert [record.getMessage() for record in caplog.records if record.name == "pauth.sync"] == ["Broken could not be closed (LookupError)"]


def test_a_client_that_nobody_refers_to_is_closed(town: Town) -> None:
    client = town.client()
    town.stack.pop_all()
    town.log_in(client)
    inner = client._async  # pyright: ignore[reportPrivateUsage]
    del client
    gc.collect()
    while not inner._closed:  # pyright: ignore[reportPrivateUsage]
        SyncTokenStorage(MemoryTokenStorage()).count()  # let the loop turn


def test_a_storage_that_was_given_outlives_its_face() -> None:
    behind = MemoryTokenStorage()
    face = SyncTokenStorage(behind)
    face.save_token("alice", {"n": 1})
    del face
    gc.collect()
    assert SyncTokenStorage(behind).get_token("alice") == {"n": 1}


def test_after_closing_and_closing_again(town: Town) -> None:
    with town.client() as client:
        town.log_in(client)
    client.close()
    with pytest.raises(ConfigurationError, match="this client is closed; make a new one"):
        client.get_token("alice")


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_is_not_copied_sh_5(how: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="a SyncOAuth2Client cannot be pickled or copied; make one in each process"):
        how(SyncOAuth2Client("github", "id", "CANARY-secret"))


def test_a_constructor_that_fails_leaves_nothing_sh_5() -> None:
    with pytest.raises(ConfigurationError):
        SyncOAuth2Client("github", "", CLIENT_SECRET, token_storage="memory://CANARY", proxy="CANARY-proxy")
    gc.collect()


def test_what_a_constructor_was_given_does_not_show_sh_5() -> None:
    client = SyncOAuth2Client("github", "id", CLIENT_SECRET, proxy="http://user:CANARY@proxy.example")
    for value in vars(client).values():
        assert "CANARY" not in repr(value)
        for cell in getattr(value, "__closure__", None) or ():
            assert "CANARY" not in repr(cell.cell_contents)
