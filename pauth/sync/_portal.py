"""The event loop behind the sync face: one in a process, in a thread of its own, started by the first call that has to wait.

A call hands its coroutine to that loop and waits for the outcome. What it must not cost anybody:

- Who is interrupted (Ctrl-C, a signal handler that raises) or has waited to the deadline cancels their own call. A refresh under way is a flight of
  its own (:mod:`pauth.refresh.flight`), which no caller can cancel.
- A forked child has no such thread, and must not touch what the parent's loop is doing: it starts a loop of its own when it needs one, and each face
  makes anew what is behind it (:mod:`pauth.sync._face`). While a process forks, the loop rests between two of its steps, so that the child inherits
  no lock that nobody will release and no structure that is half changed.
- When the program ends, what is under way is finished and connections are closed, in bounded time.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable

from pauth.errors import ConfigurationError, DeadlineExceeded, PAuthError, Remedy
from pauth.sync._executor import LastingExecutor

__all__ = ["BlockingCallWarning", "Closer", "Portal", "building", "close_later", "current", "current_for", "ending", "on_exit", "on_fork", "usable"]

_log: Final = logging.getLogger("pauth.sync")

T = TypeVar("T")

_LOOK_EVERY: Final = 1.0
"""Seconds for which a thread waits without looking up: sometimes, and on Windows always, Ctrl-C is only noticed then."""

_EXIT_PATIENCE: Final = 30.0
"""Seconds that the end of the program waits for refreshes under way, and for connections to close. Ctrl-C ends it at once."""

_REST_PATIENCE: Final = 1.0
"""Seconds that a fork waits for the loop to come to rest; more than any step of ours takes, but what a user's code does there nobody knows."""

_FOLDER: Final = str(Path(__file__).parent)

_ENDING: Final = "the program is ending, and pauth with it; make the call before the main module's last line"


class BlockingCallWarning(RuntimeWarning):
    """A call of the sync face was made where an event loop is running, which stands still until the call is over."""


@runtime_checkable
class Closer(Protocol):
    """What is closed at the end of the program."""

    async def aclose(self) -> None:
        """Close it."""
        ...


class _Call(Generic[T]):
    """One coroutine on its way through the loop."""

    __slots__ = ("_answered", "_begun", "_coroutine", "_task", "outcome")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[None] | None = None
        self._begun = False
        self._answered = threading.Lock()
        self._answered.acquire()  # released once, by the loop
        self.outcome: T | _Failure

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin it. In the loop, in a copy of the caller's context."""
        if sys.version_info >= (3, 12):
            self._task = asyncio.Task(self._run(), loop=loop, eager_start=True)  # without waiting for the loop's next turn
        else:  # pragma: no cover (Python 3.11)
            self._task = loop.create_task(self._run())

    def cancel(self) -> None:
        """Give it up. In the loop, or where there is none any more."""
        if not self._begun:
            self._coroutine.close()
        if self._task is not None:
            self._task.cancel()

    def wait(self, deadline: float | None) -> bool:
        """Whether the outcome came within ``deadline`` seconds. In the caller's thread."""
        until = math.inf if deadline is None else time.monotonic() + deadline
        while not self._answered.acquire(timeout=max(0.0, min(until - time.monotonic(), _LOOK_EVERY))):
            if time.monotonic() >= until:
                return False
        return True

    async def _run(self) -> None:
        self._begun = True
        try:
            self.outcome = await self._coroutine
        except asyncio.CancelledError:
            self.outcome = _Failure(PAuthError("the call was cancelled from inside; try again", remedy=Remedy.RETRY))
        except BaseException as error:  # noqa: BLE001  # the caller's to handle; in the loop, SystemExit would end it
            self.outcome = _Failure(error)
        self._answered.release()


class _Failure:
    """An error that a call ended with; one that is the answer, as those of batches are, stands by itself."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Portal:
    """The loop, and the thread it runs in.

    :raises ConfigurationError: no thread can be started.
    """

    def __init__(self) -> None:
        self._loop = _new_loop()
        self._loop.set_default_executor(LastingExecutor())
        self._thread = threading.Thread(target=self._run, name="pauth-sync", daemon=True)
        self._background: set[asyncio.Task[None]] = set()
        self._hosts: set[asyncio.Task[Any]] = set()
        self._rested: threading.Event | None = None
        self._inherited: list[object] = []
        started = False
        with suppress(RuntimeError):
            self._thread.start()
            started = True
        if not started:
            self._loop.close()
            raise ConfigurationError("no thread can be started for pauth's event loop: the program is ending, or the system has no more threads")

    def call(self, coroutine: Coroutine[Any, Any, T], deadline: float | None) -> T:
        """What ``coroutine`` gives or raises, run in the loop.

        :param deadline: seconds to wait for it; ``None``: as long as it takes.
        :raises DeadlineExceeded: it took longer. It was cancelled.
        :raises ConfigurationError: this is the loop's own thread, which would wait for itself; or the program is ending.
        """
        call = _Call(coroutine)
        try:
            self._check_caller()
            self._loop.call_soon_threadsafe(call.start, self._loop)
            in_time = call.wait(deadline)
        except BaseException:
            self._give_up(call)
            raise
        if not in_time:
            self._give_up(call)
            del call, coroutine
            raise DeadlineExceeded(f"no answer within {deadline:g} seconds; what was begun may still be completed: try again")
        outcome = call.outcome
        del call, coroutine
        if not isinstance(outcome, _Failure):
            return outcome
        try:
            raise outcome.error
        finally:
            del outcome  # or this frame and the traceback would keep each other alive

    def soon(self, callback: Callable[..., object], *arguments: object) -> None:
        """Run a callback in the loop, without waiting for it; not at all if the loop has ended, or is the parent process's."""
        with suppress(RuntimeError):
            if self is _portal:
                self._loop.call_soon_threadsafe(callback, *arguments)

    def host(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine beside the calls, until it ends or the program does. In the loop."""
        task = self._loop.create_task(coroutine)
        self._hosts.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._hosts.discard)
        return task

    def close_later(self, closer: Closer) -> None:
        """Close what nobody refers to any more. In the loop."""
        task = self._loop.create_task(_close(closer))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _run(self) -> None:
        # In a forked child this frame is still there, with nobody to run it, and so is all that it refers to: what the child inherits is never
        # finalized there. A finalizer would say goodbye to servers in the parent's name, on the parent's connections.
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _check_caller(self) -> None:
        if threading.get_ident() == self._thread.ident:
            raise ConfigurationError(
                "a blocking call from pauth's own event loop would wait for itself; code that pauth calls there (a storage of your own, a callback) "
                "must use the async API"
            )
        if _ended:
            raise ConfigurationError(_ENDING)
        with suppress(RuntimeError):
            # gevent's greenlets share a thread and its running loop, which may be this one; the caller's greenlet is another, as was just seen.
            if asyncio.get_running_loop() is not self._loop:
                _warn()

    def _give_up(self, call: _Call[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(call.cancel)
        except RuntimeError:  # the loop has ended, and all its tasks
            call.cancel()

    # --- a fork

    def rest(self) -> None:
        """Bring the loop to rest between two steps, or wait in vain for a second."""
        if threading.get_ident() == self._thread.ident or not self._thread.is_alive():
            return
        resting, self._rested = threading.Event(), threading.Event()
        self.soon(_rest, resting, self._rested)
        resting.wait(_REST_PATIENCE)

    def go_on(self) -> None:
        """Let it run again."""
        if self._rested is not None:
            self._rested.set()
            self._rested = None

    def keep(self, inherited: Sequence[object]) -> None:
        """In a forked child: keep what belongs to the parent from being finalized."""
        self._inherited.extend(inherited)

    # --- the end

    def end(self, closers: Sequence[Sequence[Closer]]) -> None:
        """Close everything and stop.

        :param closers: one group after the other.
        """
        self.soon(lambda: self._background.add(self._loop.create_task(self._wind_up(closers))))
        until = time.monotonic() + _EXIT_PATIENCE
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(_LOOK_EVERY)  # a Ctrl-C that comes just before it waits is only noticed afterwards

    async def _wind_up(self, closers: Sequence[Sequence[Closer]]) -> None:
        try:
            async with asyncio.timeout(_EXIT_PATIENCE * 0.9):
                for group in closers:
                    await asyncio.gather(*(_close(closer) for closer in group))
                own = asyncio.current_task()
                await asyncio.gather(*(task for task in self._background if task is not own))
        except TimeoutError:
            _log.warning("what was under way at the end of the program took longer than %g seconds", _EXIT_PATIENCE * 0.9)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            done, _ = await asyncio.wait(left, timeout=_EXIT_PATIENCE * 0.05)
            for task in done:
                if not task.cancelled():
                    task.exception()  # asyncio would log it as "never retrieved"
        await self._loop.shutdown_asyncgens()
        self._loop.stop()


def _new_loop() -> asyncio.AbstractEventLoop:
    """One of asyncio's own, whatever the program's policy is."""
    if sys.platform == "win32":  # pragma: no cover (Windows)
        return asyncio.ProactorEventLoop()
    return asyncio.SelectorEventLoop()


async def _close(closer: Closer) -> None:
    try:
        await closer.aclose()
    except Exception as error:  # noqa: BLE001  # a user's storage may raise anything, and the others have to be closed too
        _log.warning("%s could not be closed (%s)", type(closer).__name__, type(error).__name__)


def _rest(resting: threading.Event, rested: threading.Event) -> None:
    resting.set()
    rested.wait()


def _warn() -> None:
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_FOLDER):  # the first line that is not ours
        frame, level = frame.f_back, level + 1
    warnings.warn(
        "this blocking call of pauth stops the event loop that runs in this thread until it is over; await OAuth2Client instead. "
        "In a notebook that is what you want: warnings.simplefilter('ignore', pauth.sync.BlockingCallWarning)",
        BlockingCallWarning,
        stacklevel=level,
    )


# --- the process's portal

building: Final = threading.RLock()
"""Held while a portal or what is behind a face is made, so that no fork comes in the middle of it."""

_portal: Portal | None = None
_ended = False
_fork_hooks: list[Callable[[], Sequence[object]]] = []
_exit_hooks: list[Callable[[], Sequence[Sequence[Closer]]]] = []


def current() -> Portal:
    """This process's portal.

    :raises ConfigurationError: the program is ending, and there is none.
    """
    portal = _portal
    return _started() if portal is None else portal


def _started() -> Portal:
    global _portal  # noqa: PLW0603
    with building:
        if _portal is None:
            if _ended:
                raise ConfigurationError(_ENDING)
            _portal = Portal()
            _end_with_worker()
        return _portal


def current_for(coroutine: Coroutine[Any, Any, object]) -> Portal:
    """This process's portal, to run a coroutine in, which is closed if there is none."""
    try:
        return current()
    except ConfigurationError:
        coroutine.close()
        raise


def usable(portal: Portal | None) -> bool:
    """Whether a portal is this process's, and the program is not ending."""
    return portal is not None and portal is _portal and not _ended


def ending() -> bool:
    """Whether the program is ending, and everything is closed."""
    return _ended


def close_later(closer: Closer) -> None:
    """Close what nobody refers to any more, if there is a loop it can have been used in. Takes no lock: called by a finalizer, anywhere."""
    if _portal is not None:
        _portal.soon(_portal.close_later, closer)


def on_fork(hook: Callable[[], Sequence[object]]) -> None:
    """Call ``hook`` in forked children; it gives what they must not use, nor finalize."""
    _fork_hooks.append(hook)


def on_exit(hook: Callable[[], Sequence[Sequence[Closer]]]) -> None:
    """Call ``hook`` at the end of the program; it gives what is to be closed, in groups, one after the other."""
    _exit_hooks.append(hook)


def _before_fork() -> None:
    building.acquire()
    if _portal is not None:
        _portal.rest()


def _after_fork_in_parent() -> None:
    if _portal is not None:
        _portal.go_on()
    building.release()


def _after_fork_in_child() -> None:
    global _portal  # noqa: PLW0603
    inherited = [each for hook in _fork_hooks for each in hook()]
    if _portal is not None:
        _portal.keep(inherited)
        _portal = None
    building.release()


def _at_exit() -> None:
    global _ended  # noqa: PLW0603
    _ended = True
    closers = [group for hook in _exit_hooks for group in hook()]
    if _portal is not None:
        with suppress(KeyboardInterrupt):  # who is asked to end at once does
            _portal.end(closers)


def _end_with_worker() -> None:
    """A worker process of multiprocessing ends without asking ``atexit``."""
    if "multiprocessing.util" in sys.modules and sys.modules["multiprocessing"].parent_process() is not None:
        sys.modules["multiprocessing.util"].Finalize(None, _at_exit, exitpriority=100)


# As early as this module is imported: what the program itself registered later is called before.
atexit.register(_at_exit)

if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows has no forks)
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
