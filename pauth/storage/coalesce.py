"""Operations that wait at the same time go out as one batch.

What is waiting when a lane of the driver becomes free is sent together; an operation that comes while a lane is free is sent at once, alone. So
a single caller waits for nobody, and the more callers there are, the more each round trip carries.

What keeps it right: only what is not yet sent is joined, so a read never misses one's own write. Operations on one row run one after the other,
in the order they came, whatever the kind and the lane. Writes are never merged; reads of one row that wait together share one.
"""

from __future__ import annotations

import asyncio
import copy
import sys
import threading
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from pauth.errors import PAuthError, StorageUnavailable, TokenStorageError
from pauth.storage.driver import Delete, Driver, Put, Row

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_ITEMS", "MAX_WAITING", "Coalescer"]

MAX_BATCH_ITEMS: Final = 256
MAX_BATCH_BYTES: Final = 1 << 20
"""Of the records written by one batch. A single larger one goes alone."""

MAX_WAITING: Final = 10_000
"""Operations that wait or are under way in one event loop. Whoever comes then waits for a place first (P19)."""

_GET: Final = 0
_PUT: Final = 1
_DELETE: Final = 2


class Coalescer:
    """Sends single operations to a driver in batches of one kind.

    A caller who is cancelled, or waits longer than the timeout, leaves all others alone. If its operation was not yet sent, it never will be.

    :param timeout: seconds an operation may take, waiting included.
    :param max_items: the largest batch; 1 sends each operation by itself.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        timeout: float,
        max_items: int = MAX_BATCH_ITEMS,
        max_bytes: int = MAX_BATCH_BYTES,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._driver = driver
        self.timeout = timeout
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_waiting = max_waiting
        self._queues: dict[asyncio.AbstractEventLoop, _Queue] = {}
        self._mutex = threading.Lock()

    async def get(self, row_id: bytes) -> Row | None:
        """The row; ``None`` if there is none.

        :raises StorageUnavailable: no answer in time.
        """
        queue = self._here()
        return cast("Row | None", await (queue.add(_GET, row_id, row_id, 0) if queue.has_room else await queue.add_later(_GET, row_id, row_id, 0)))

    async def put(self, put: Put) -> int | None:
        """The version it was written as; ``None`` if a condition failed."""
        return cast("int | None", await (await self._enqueue(_PUT, put)))

    async def delete(self, delete: Delete) -> bool:
        """Whether a row was deleted."""
        return cast("bool", await (await self._enqueue(_DELETE, delete)))

    async def get_many(self, row_ids: Sequence[bytes]) -> list[Row | PAuthError | None]:
        """The rows, or why one could not be read."""
        return await self._many(_GET, row_ids)

    async def put_many(self, puts: Sequence[Put]) -> list[int | PAuthError | None]:
        """What :meth:`put` gives, or raises, for each. Several for one row are done in their order."""
        return await self._many(_PUT, puts)

    async def delete_many(self, deletes: Sequence[Delete]) -> list[bool | PAuthError]:
        """What :meth:`delete` gives, or raises, for each."""
        return await self._many(_DELETE, deletes)

    async def drain(self, *, patience: float) -> None:
        """Wait until what this event loop has under way is done, but no longer than ``patience`` seconds."""
        await self._here().drain(patience)

    async def _many(self, kind: int, items: Sequence[Any]) -> list[Any]:
        futures: list[asyncio.Future[Any]] = []
        deadline = asyncio.get_running_loop().time() + self.timeout  # of all of them for their places, not of each after the other
        try:
            for item in items:
                try:
                    future = await self._enqueue(kind, item, deadline)
                except PAuthError as error:  # there was no room in time
                    future = asyncio.get_running_loop().create_future()
                    future.set_exception(_fresh(error))
                futures.append(future)
            if futures:
                await asyncio.wait(futures)
        finally:
            for future in futures:  # those not done, if the caller left
                future.cancel()
        return [future.exception() or future.result() for future in futures]

    async def _enqueue(self, kind: int, item: Any, deadline: float | None = None) -> asyncio.Future[Any]:
        queue = self._here()
        row_id = item if kind == _GET else item.row_id
        size = len(item.data) if kind == _PUT else 0
        return queue.add(kind, row_id, item, size) if queue.has_room else await queue.add_later(kind, row_id, item, size, deadline)

    def _here(self) -> _Queue:
        loop = asyncio.get_running_loop()
        return self._queues.get(loop) or self._open(loop)

    def _open(self, loop: asyncio.AbstractEventLoop) -> _Queue:
        with self._mutex:
            for other in tuple(self._queues):
                if other.is_closed():
                    del self._queues[other]
            queue = self._queues[loop] = _Queue(self._driver, self.timeout, self._max_items, self._max_bytes, self._max_waiting)
        return queue


class _Operation:
    __slots__ = ("deadline", "following", "future", "item", "kind", "number", "row_id", "sent", "sharers", "size", "timer")

    def __init__(self, kind: int, row_id: bytes, item: Any, size: int, number: int, deadline: float, future: asyncio.Future[Any]) -> None:
        self.kind = kind
        self.row_id = row_id
        self.item = item
        self.size = size
        self.number = number
        self.deadline = deadline
        self.future = future
        self.sent = False
        self.sharers: list[_Operation] | None = None
        self.following: _Operation | None = None  # the next one on this row
        self.timer: asyncio.TimerHandle | None = None

    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return not self.future.done() or any(not sharer.future.done() for sharer in self.sharers or ())


class _Queue:
    """The operations of one event loop, and only touched from there."""

    def __init__(self, driver: Driver, timeout: float, max_items: int, max_bytes: int, max_waiting: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._driver = driver
        self._timeout = timeout
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_waiting = max_waiting
        self._ready: tuple[deque[_Operation], ...] = (deque(), deque(), deque())  # by kind; at most one operation of a row is in them, or sent
        self._last_of_row: dict[bytes, _Operation] = {}
        self._waited_for: dict[_Operation, None] = {}  # by deadline, the earliest first
        self._newcomers: deque[asyncio.Future[None]] = deque()  # who waits for a place
        self._admitted = 0  # who got one and has not taken it yet: nobody may overtake them
        self._count = 0
        self._number = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._busy_lanes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    @property
    def has_room(self) -> bool:
        return self._count < self._max_waiting and not self._newcomers and not self._admitted

    def add(self, kind: int, row_id: bytes, item: Any, size: int) -> asyncio.Future[Any]:
        self._count += 1
        operation = self._operation(kind, row_id, item, size, self._loop.time() + self._timeout)
        self._waited_for[operation] = None
        if self._timer is None:
            self._timer = self._loop.call_at(operation.deadline, self._give_up_on_the_late)
        self._join(operation)
        return operation.future

    async def add_later(self, kind: int, row_id: bytes, item: Any, size: int, deadline: float | None = None) -> asyncio.Future[Any]:
        """Add it once there is a place. The time spent waiting for one counts."""
        deadline = self._loop.time() + self._timeout if deadline is None else deadline
        turn: asyncio.Future[None] = self._loop.create_future()
        self._newcomers.append(turn)
        self._admit()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await turn
        except asyncio.CancelledError:
            self._step_back(turn)
            raise
        if turn.cancelled():
            self._step_back(turn)
            raise self._late()
        self._admitted -= 1
        operation = self._operation(kind, row_id, item, size, deadline)
        operation.timer = self._loop.call_at(deadline, self._give_up_on, operation)
        self._join(operation)
        return operation.future

    async def drain(self, patience: float) -> None:
        if self._count:
            if self._emptied is None:
                self._emptied = self._loop.create_future()
            await asyncio.wait((self._emptied,), timeout=patience)

    def _operation(self, kind: int, row_id: bytes, item: Any, size: int, deadline: float) -> _Operation:
        self._number += 1
        return _Operation(kind, row_id, item, size, self._number, deadline, self._loop.create_future())

    def _join(self, operation: _Operation) -> None:
        last = self._last_of_row.get(operation.row_id)
        if last is not None and last.kind == operation.kind == _GET and not last.sent:
            if last.sharers is None:
                last.sharers = []
            last.sharers.append(operation)
            return
        self._last_of_row[operation.row_id] = operation
        if last is not None:
            last.following = operation
            return
        self._ready[operation.kind].append(operation)
        self._pump()

    def _pump(self) -> None:
        while self._busy_lanes < self._driver.lanes:
            batch = self._next_batch()
            if not batch:
                return
            self._busy_lanes += 1
            task = _start(self._send(batch), self._loop)
            self._under_way.add(task)  # an event loop keeps only weak references to its tasks
            task.add_done_callback(self._under_way.discard)

    def _next_batch(self) -> list[_Operation]:
        batch: list[_Operation] = []
        while not batch:
            ready = [queue for queue in self._ready if queue]
            if not ready:
                break
            queue = min(ready, key=_age)
            size = 0
            while queue and len(batch) < self._max_items:
                operation = queue[0]
                if batch and size + operation.size > self._max_bytes:
                    break
                queue.popleft()
                if operation.future.done() and not operation.wanted():
                    self._finish(operation, None)
                    continue
                operation.sent = True
                size += operation.size
                batch.append(operation)
        return batch

    async def _send(self, batch: list[_Operation]) -> None:
        answers: Sequence[Any] = ()
        failure: PAuthError | None = None
        try:
            answers = await self._perform(batch)
            if len(answers) != len(batch):
                failure = TokenStorageError(f"the token storage's driver gave {len(answers)} answers for {len(batch)} rows")
        except Exception as error:  # noqa: BLE001  # whatever it is, each caller has to hear of it
            failure = _fresh(error)
        except BaseException:
            failure = StorageUnavailable("the token storage's operation was cancelled from inside")
            raise
        finally:
            for operation, answer in zip(batch, answers if failure is None else [failure] * len(batch), strict=True):
                self._finish(operation, answer)
            # not yet: the callers just answered run first, and what they ask for next goes into one batch
            self._loop.call_soon(self._lane_is_free)

    async def _perform(self, batch: list[_Operation]) -> Sequence[Any]:
        items = [operation.item for operation in batch]
        kind = batch[0].kind
        if kind == _GET:
            return await self._driver.get_many(items)
        return await (self._driver.put_many(items) if kind == _PUT else self._driver.delete_many(items))

    def _lane_is_free(self) -> None:
        self._busy_lanes -= 1
        self._pump()

    def _finish(self, operation: _Operation, answer: Any) -> None:
        following = operation.following
        if following is None:
            del self._last_of_row[operation.row_id]
        else:
            self._ready[following.kind].append(following)
        self._answer(operation, answer)
        if operation.sharers is not None:
            for sharer in operation.sharers:
                self._answer(sharer, answer)

    def _answer(self, operation: _Operation, answer: Any) -> None:
        self._waited_for.pop(operation, None)
        if operation.timer is not None:
            operation.timer.cancel()
        future = operation.future
        if not future.done():
            if isinstance(answer, Exception):
                future.set_exception(_fresh(answer))
            else:
                future.set_result(answer)
        self._leave()

    def _leave(self) -> None:
        """Give a place back."""
        self._count -= 1
        if self._newcomers:
            self._admit()
        if not self._count and self._emptied is not None:
            self._emptied.set_result(None)
            self._emptied = None

    def _admit(self) -> None:
        while self._newcomers and self._count < self._max_waiting:
            turn = self._newcomers.popleft()
            if not turn.done():
                self._count += 1
                self._admitted += 1
                turn.set_result(None)

    def _step_back(self, turn: asyncio.Future[None]) -> None:
        if turn.cancelled():
            with suppress(ValueError):  # passed over meanwhile
                self._newcomers.remove(turn)
        else:  # the place was given in the same moment
            self._admitted -= 1
            self._leave()

    def _give_up_on_the_late(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waited_for:
            operation = next(iter(self._waited_for))
            if operation.deadline > now:
                self._timer = self._loop.call_at(operation.deadline, self._give_up_on_the_late)
                return
            del self._waited_for[operation]
            self._give_up_on(operation)

    def _give_up_on(self, operation: _Operation) -> None:
        if not operation.future.done():
            operation.future.set_exception(self._late())

    def _late(self) -> StorageUnavailable:
        return StorageUnavailable(f"the token storage did not answer within {self._timeout:g} seconds; what it was asked to do may still happen")


def _start(operation: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    if sys.version_info >= (3, 12):
        return asyncio.Task(operation, loop=loop, eager_start=True)  # without waiting for the loop's next turn
    return loop.create_task(operation)


def _age(queue: deque[_Operation]) -> int:
    return queue[0].number


def _fresh(error: Exception) -> PAuthError:
    """An error of its own for each caller: without the traceback and context of the driver, whose frames hold rows."""
    if isinstance(error, PAuthError):
        return copy.copy(error)
    return TokenStorageError(f"the token storage's driver raised {type(error).__name__}")
