"""What the generated faces have in common: the async object behind each, how it is made, made again in a forked child, and closed."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, NoReturn, Self, TypeVar, cast

from pauth.clock import Clock
from pauth.errors import ConfigurationError, DeadlineExceeded, Remedy
from pauth.secret import Secret
from pauth.storage.adapters import coordinated
from pauth.storage.base import AsyncTokenStorage, BaseTokenStorage, CoordinatedTokenStorage
from pauth.storage.url import storage_from_url
from pauth.sync import _portal
from pauth.sync._streams import SyncContext, SyncIterator

__all__ = ["DEADLINE", "Face", "Hidden", "StorageFace", "behind", "behind_all", "wait"]

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
T = TypeVar("T")

DEADLINE: Final = 60.0
"""Seconds after which a call gives up."""


class Hidden(Generic[T]):
    """An argument that may be a secret, until what is behind a face is made of it (SH-5)."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value: Any = Secret(value) if isinstance(value, str) else value

    @property
    def value(self) -> T:
        """What was given."""
        return cast("T", self._value.reveal() if isinstance(self._value, Secret) else self._value)


class Face(Generic[A_co]):
    """The blocking face of an async object.

    :param make: makes that object: now, and again in a forked child.
    :param deadline: seconds after which a call gives up; ``None`` for never.
    :raises ConfigurationError: the deadline is no positive number.
    """

    closes_in_turn: ClassVar[int] = 1
    """What is used by others is closed after them, at the end of the program."""

    _inner: A_co | None = None  # here, for the finalizer of one whose constructor failed
    _owned = True

    def __init__(self, make: Callable[[], A_co], deadline: float | None) -> None:
        if deadline is not None and not (type(deadline) in {int, float} and deadline > 0):
            raise ConfigurationError("the deadline must be a positive number of seconds, or None")
        self._make = make
        self._deadline = deadline
        self._closed = False
        with _portal.building:
            self._inner = make()
            _faces.add(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled or copied; make one in each process")

    def __del__(self) -> None:
        if isinstance(self._inner, _portal.Closer) and self._owned and not self._closed:
            _portal.close_later(self._inner)

    @property
    def _async(self) -> A_co:
        """What is behind the face, of this process."""
        inner = self._inner
        return self._made_again() if inner is None else inner

    def _made_again(self) -> A_co:
        if self._closed:
            raise ConfigurationError("this was closed; make a new one")
        with _portal.building:
            if self._inner is None:
                self._inner = self._make()
            return self._inner

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return _portal.current_for(coroutine).call(coroutine, self._deadline)

    def _wait_out(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """For what ends by itself, and would be lost if it was given up before: a login on another device lasts as long as its code."""
        return wait(coroutine)

    def _wait_once(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """For what serves once: whoever gives up at the deadline must not be told to try the same again."""
        try:
            return self._wait(coroutine)
        except DeadlineExceeded as error:
            error.remedy = Remedy.LOG_IN_AGAIN
            error.message = (
                f"{error.message.partition(';')[0]}; this callback cannot be used again: what was begun may still be completed, or start again"
            )
            error.args = (error.message,)
            raise

    def _soon(self, call: Callable[[], object]) -> None:
        _portal.current().soon(call)

    def _iterate(self, source: AsyncIterator[T]) -> SyncIterator[T]:
        return SyncIterator(source, self._deadline)

    def _context(self, manager: AbstractAsyncContextManager[T, bool | None]) -> SyncContext[T]:
        return SyncContext(manager, self._deadline)

    def _enter(self) -> None:
        self._context_of = SyncContext(cast("AbstractAsyncContextManager[object, bool | None]", self._async), self._deadline)
        self._context_of.__enter__()

    def _leave(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        self._closed = True
        return self._context_of.__exit__(kind, error, trace)

    def _close(self) -> None:
        inner, self._closed = self._inner, True
        if isinstance(inner, _portal.Closer) and not _portal.ending():  # there is nothing yet in a forked child, nothing any more at the end
            self._wait(inner.aclose())

    def _ended(self) -> _portal.Closer | None:
        """At the end of the program: what is still to be closed, by who asks."""
        closed, self._closed = self._closed, True
        return self._inner if isinstance(self._inner, _portal.Closer) and not closed else None

    def _forked(self) -> object:
        """In a forked child: let go of what is the parent's, and give it."""
        inherited = (self._inner, self._make)
        self._inner = None
        return inherited


class StorageFace(Face[CoordinatedTokenStorage], BaseTokenStorage):
    """What is behind :class:`~pauth.sync.SyncTokenStorage`.

    :param storage: any storage, or its URL.
    :param clock: where one that is made now takes the time from: a URL's, or what a class of three methods is wrapped in.
    :param deadline: seconds after which a call gives up (:class:`~pauth.errors.DeadlineExceeded`); ``None`` for never.
    :raises ConfigurationError: no storage, or a URL that names none.
    """

    closes_in_turn = 2

    def __init__(self, storage: AsyncTokenStorage | BaseTokenStorage | str, *, clock: Clock | None = None, deadline: float | None = DEADLINE) -> None:
        hidden = Hidden(storage)
        self._owned = isinstance(storage, str)
        del storage  # SH-5: the URL may hold a password

        def make() -> CoordinatedTokenStorage:
            if isinstance(hidden.value, str):
                return storage_from_url(hidden.value, clock=clock)
            return coordinated(hidden.value, clock=clock)

        super().__init__(make, deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {type(self._inner).__name__}>"

    def __pauth_async__(self) -> CoordinatedTokenStorage:
        """The storage itself, for who needs one of an async kind (:func:`~pauth.storage.coordinated`)."""
        return self._async


def behind_all(faces: Iterable[Face[A]]) -> list[A]:
    """The async objects behind some faces."""
    return [behind(face) for face in faces]


def behind(face: Face[A]) -> A:
    """The async object behind a face, of this process."""
    return face._async  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives or raises, run in pauth's event loop, for as long as it takes."""
    return _portal.current_for(coroutine).call(coroutine, None)


_faces: Final[weakref.WeakSet[Face[Any]]] = weakref.WeakSet()


def _forked() -> Sequence[object]:
    return [face._forked() for face in tuple(_faces)]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _to_close() -> Sequence[Sequence[_portal.Closer]]:
    """Clients before the storages they use."""
    groups: dict[int, list[_portal.Closer]] = {}
    with _portal.building:
        for face in tuple(_faces):
            inner = face._ended()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if inner is not None:
                groups.setdefault(face.closes_in_turn, []).append(inner)
    return [groups[turn] for turn in sorted(groups)]


_portal.on_fork(_forked)
_portal.on_exit(_to_close)
