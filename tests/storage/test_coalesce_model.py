"""The coalescer against a model: any operations, cancellations, failures, in any order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule

from pauth.errors import StorageUnavailable
from pauth.storage.coalesce import Coalescer
from tests.storage.coalesce_kit import HeldDriver, delete, get_row, put, turns


@dataclass
class Call:
    kind: str
    row: str
    item: Any
    caller: asyncio.Future[Any]
    cancelled: bool = False


class CoalescerMachine(RuleBasedStateMachine):
    """HeldDriver itself refuses a row twice in a batch, a row in two batches at once, and more batches than lanes."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.loop = self.runner.get_loop()
        self.all: list[Call] = []
        self.number = 0

    @initialize(lanes=st.integers(1, 3), max_items=st.integers(1, 4), max_waiting=st.integers(1, 8))
    def make(self, lanes: int, max_items: int, max_waiting: int) -> None:
        self.driver = HeldDriver(lanes=lanes)
        self.rows = Coalescer(self.driver, timeout=600, max_items=max_items, max_bytes=30, max_waiting=max_waiting)
        self.max_items = max_items

    @rule(target=calls, kinds=st.lists(st.tuples(st.sampled_from(["get", "put", "delete"]), st.sampled_from("abc")), min_size=1, max_size=5))
    def ask(self, kinds: list[tuple[str, str]]) -> Any:
        made = [self._call(kind, row) for kind, row in kinds]
        self.all += made
        self._run()
        return multiple(*made)

    def _call(self, kind: str, row: str) -> Call:
        if kind == "get":
            item: Any = get_row(row)
            operation: Any = self.rows.get(item)
        elif kind == "put":
            self.number += 1
            item = put(row, f"write {self.number}".encode())
            operation = self.rows.put(item)
        else:
            item = delete(row)
            operation = self.rows.delete(item)
        return Call(kind, row, item, asyncio.ensure_future(operation, loop=self.loop))

    @rule(call=calls)
    def cancel(self, call: Call) -> None:
        if not call.caller.done():
            call.cancelled = True
            call.caller.cancel()
        self._run()

    @rule(call=calls, number=st.integers(0, 2))
    def cancel_as_it_is_answered(self, call: Call, number: int) -> None:
        if number < len(self.driver.waiting):
            self.driver.waiting.pop(number).set_result(None)
        self.cancel(call)

    @rule(number=st.integers(0, 2), fail=st.booleans())
    def answer(self, number: int, fail: bool) -> None:  # hypothesis passes names
        if number < len(self.driver.waiting):
            self.driver.waiting.pop(number).set_result(StorageUnavailable("cut") if fail else None)
        self._run()

    def _run(self) -> None:
        self.runner.run(turns(8))

    def teardown(self) -> None:
        while getattr(self, "driver", None) is not None and self.driver.waiting:
            self.driver.waiting.pop(0).set_result(None)
            self._run()
        if self.all:
            self.check()
            self.runner.run(self.rows.drain(patience=1))
            queue = self.runner.run(self._queue())
            assert (queue._count, queue._last_of_row, queue._waited_for) == (0, {}, {})
        self.runner.close()

    async def _queue(self) -> Any:
        return self.rows._here()  # pyright: ignore[reportPrivateUsage]

    def check(self) -> None:
        assert all(call.caller.done() for call in self.all), "somebody was never answered"
        assert max(len(items) for _, items in self.driver.batches) <= self.max_items if self.driver.batches else True
        sent = {id(item) for _, items in self.driver.batches for item in items if not isinstance(item, bytes)}
        stored: dict[str, tuple[int, bytes] | None] = {}
        versions: dict[str, int] = {}
        for call in self.all:
            outcome = None if call.caller.cancelled() else call.caller.exception() or call.caller.result()
            if call.caller.cancelled():
                assert call.cancelled, "a caller nobody cancelled"
            elif not isinstance(outcome, Exception) and call.kind != "get":
                assert id(call.item) in sent
            self.follow(call, outcome, sent, stored, versions)

    def follow(self, call: Call, outcome: Any, sent: set[int], stored: dict[str, tuple[int, bytes] | None], versions: dict[str, int]) -> None:
        """The rows as they have to be after this call, the calls on one row being done in the order they were made."""
        row, before = call.row, stored.get(call.row)
        applied = (
            any(entry.tobytes() == call.item.data.tobytes() for entry in self.driver.written)
            if call.kind == "put"
            else id(call.item) in self.driver.erased
        )
        if call.kind == "get":
            if not call.caller.cancelled() and not isinstance(outcome, Exception):
                assert (None if outcome is None else (outcome.version, outcome.data.tobytes())) == before
        elif applied and call.kind == "put":
            versions[row] = versions.get(row, 0) + 1
            stored[row] = (versions[row], call.item.data.tobytes())
            assert call.caller.cancelled() or outcome == versions[row]
        elif applied:
            stored[row] = None
            assert call.caller.cancelled() or outcome is (before is not None)
        else:
            assert call.caller.cancelled() or isinstance(outcome, StorageUnavailable)


@pytest.fixture(autouse=True)
def no_finalizers() -> Generator[None, None, None]:
    """Hypothesis looks up the source of the machine, and the parser of CPython 3.11 fails if a finalizer runs meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


TestCoalescerModel = CoalescerMachine.TestCase
TestCoalescerModel.settings = settings(max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
