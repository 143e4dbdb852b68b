"""What waits together goes together: batches, order, bounds, failures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pauth.errors import ConfigurationError, StorageUnavailable, TokenStorageError
from pauth.storage.coalesce import Coalescer
from tests.storage.coalesce_kit import HeldDriver, delete, get_row, put, turns


def sent(driver: HeldDriver) -> list[tuple[str, int]]:
    return [(name, len(items)) for name, items in driver.batches]


def start(*operations: Any) -> list[asyncio.Task[Any]]:
    return [asyncio.ensure_future(operation) for operation in operations]


async def test_a_lone_operation_goes_at_once() -> None:
    driver = HeldDriver()
    (caller,) = start(Coalescer(driver, timeout=60).get(get_row("alice")))
    await turns(2)
    assert sent(driver) == [("get", 1)]
    await driver.let_go()
    assert await caller is None


async def test_what_waits_goes_as_one_batch_of_a_kind() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60)
    callers = start(rows.get(get_row("first")), *(rows.put(put(f"p{n}")) for n in range(10)), *(rows.get(get_row(f"g{n}")) for n in range(10)))
    callers += start(rows.delete(delete("d")), rows.put(put("p10")))
    await turns()
    assert sent(driver) == [("get", 1)]
    for _ in range(3):
        await driver.let_go()
    assert sent(driver) == [("get", 1), ("put", 11), ("get", 10), ("delete", 1)]
    await driver.let_go()
    assert [await caller for caller in callers] == [None, *[1] * 10, *[None] * 10, False, 1]


async def test_callers_who_come_back_go_together() -> None:
    driver = HeldDriver(held=False)
    rows = Coalescer(driver, timeout=60)

    async def caller(number: int) -> None:
        for _ in range(3):
            await rows.put(put(str(number)))

    await asyncio.gather(*(caller(number) for number in range(50)))
    assert sum(count for _, count in sent(driver)) == 150
    assert len(driver.batches) <= 6


async def test_operations_on_a_row_keep_their_order_across_kinds_and_lanes() -> None:
    driver = HeldDriver(lanes=3)
    rows = Coalescer(driver, timeout=60)
    callers = start(
        rows.put(put("alice", b"1")),
        rows.get(get_row("alice")),
        rows.get(get_row("alice")),
        rows.put(put("alice", b"2")),
        rows.delete(delete("alice")),
        rows.get(get_row("alice")),
        rows.get(get_row("bob")),
    )
    await turns()
    assert sent(driver) == [("put", 1), ("get", 1)]  # bob's need not wait
    while driver.waiting:
        await driver.let_go()
    assert sent(driver) == [("put", 1), ("get", 1), ("get", 1), ("put", 1), ("delete", 1), ("get", 1)]
    answers = [await caller for caller in callers]
    assert [answers[0], answers[3:]] == [1, [2, True, None, None]]
    assert answers[1] == answers[2] is not None


async def test_a_read_under_way_is_not_joined() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60)
    callers = start(rows.get(get_row("alice")))
    await turns()
    callers += start(rows.get(get_row("alice")))
    await turns()
    await driver.let_go()
    await driver.let_go()
    assert sent(driver) == [("get", 1), ("get", 1)]
    assert [await caller for caller in callers] == [None, None]


async def test_batches_are_bounded_in_items_and_bytes_p19() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60, max_items=4, max_bytes=100)
    callers = start(rows.get(get_row("x")), *(rows.get(get_row(f"g{n}")) for n in range(6)))
    callers += start(*(rows.put(put(f"p{size}", b"x" * size)) for size in (60, 40, 1, 500, 30)))
    await turns()
    while driver.waiting:
        await driver.let_go()
    assert sent(driver) == [("get", 1), ("get", 4), ("get", 2), ("put", 2), ("put", 1), ("put", 1), ("put", 1)]
    assert len(await asyncio.gather(*callers)) == 12


async def test_of_one_item_at_most_each_goes_alone() -> None:
    driver = HeldDriver(held=False)
    rows = Coalescer(driver, timeout=60, max_items=1)
    await rows.put_many([put(str(number)) for number in range(5)])
    assert sent(driver) == [("put", 1)] * 5


async def test_one_bad_item_fails_alone() -> None:
    driver = HeldDriver(held=False)
    driver.bad = {get_row("bad")}
    rows = Coalescer(driver, timeout=60)
    good, bad, none = await rows.put_many([put("good"), put("bad"), put("none", expected_version=5)])
    assert (good, none) == (1, None)
    assert type(bad) is TokenStorageError
    assert str(bad) == "the token storage's driver raised ValueError"
    with pytest.raises(TokenStorageError, match="ValueError") as caught:
        await rows.put(put("bad"))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("failure", [StorageUnavailable("cut"), OSError("CANARY"), ConfigurationError("wrong")])
async def test_a_batch_that_fails_fails_each_with_an_error_of_its_own(failure: Exception) -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60)
    callers = start(*(rows.get(get_row(str(number))) for number in range(4)))
    await turns()
    await driver.let_go()
    await driver.let_go(failure=failure)
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    errors = outcomes[1:]
    assert outcomes[0] is None
    assert {type(error) for error in errors} == {TokenStorageError if isinstance(failure, OSError) else type(failure)}
    assert len({id(error) for error in (*errors, failure)}) == 4
    assert all("CANARY" not in str(error) for error in errors)
    driver.held = False
    assert await rows.get(get_row("0")) is None


async def test_a_driver_that_miscounts_is_found_out() -> None:
    driver = HeldDriver(held=False)
    driver.short = True
    with pytest.raises(TokenStorageError, match="0 answers for 1 rows"):
        await Coalescer(driver, timeout=60).get(get_row("alice"))


async def test_a_cancelled_caller_affects_no_other_p14() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60)
    callers = start(rows.put(put("sent")), rows.put(put("left")), rows.put(put("stays")), rows.get(get_row("shared")), rows.get(get_row("shared")))
    callers += start(rows.put(put("left", b"later")), rows.get(get_row("alone")))
    await turns()
    for number in (0, 1, 3, 6):
        callers[number].cancel()
    await turns()
    while driver.waiting:
        await driver.let_go()
    assert [[item.user_id for item in items] if name == "put" else len(items) for name, items in driver.batches] == [
        [b"sent"],
        [b"stays", b"left"],
        1,
    ]
    assert [await callers[number] for number in (2, 4, 5)] == [1, None, 1]
    assert all(callers[number].cancelled() for number in (0, 1, 3, 6))
    assert get_row("sent") in driver.rows  # it was under way, and went on


async def test_a_shared_read_that_nobody_waits_for_is_not_sent() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60)
    callers = start(rows.get(get_row("x")), rows.get(get_row("shared")), rows.get(get_row("shared")))
    await turns()
    for caller in callers[1:]:
        caller.cancel()
    await turns()
    await driver.let_go()
    assert sent(driver) == [("get", 1)]
    await rows.drain(patience=60)


async def test_a_driver_that_does_not_answer_is_given_up_on_p9() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=0.01)
    callers = start(rows.get(get_row("stuck")), rows.put(put("waits")), rows.get(get_row("stuck")))
    for outcome in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(outcome, StorageUnavailable)
        assert outcome.retryable
        assert "did not answer within 0.01 seconds" in str(outcome)
    await driver.let_go()
    assert sent(driver) == [("get", 1)]  # what was not sent in time never is
    driver.held = False
    assert await rows.put(put("waits")) == 1


async def test_each_waits_for_its_own_deadline_p9() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=0.03)
    (first,) = start(rows.get(get_row("a")))
    await asyncio.sleep(0.02)
    (second,) = start(rows.get(get_row("b")))
    await asyncio.wait([first])
    assert not second.done()
    with pytest.raises(StorageUnavailable):
        await second
    await driver.let_go()


async def test_the_queue_is_bounded_and_who_comes_late_waits_p19() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60, max_waiting=3)
    callers = start(*(rows.put(put(str(number))) for number in range(7)))
    await turns()
    await driver.let_go()
    assert sent(driver) == [("put", 1), ("put", 3)]  # a place became free before the batch went
    callers[4].cancel()
    while driver.waiting:
        await driver.let_go()
    assert [await callers[number] for number in (0, 1, 2, 3, 5, 6)] == [1] * 6
    assert max(count for _, count in sent(driver)) <= 3
    assert get_row("4") not in driver.rows
    await rows.drain(patience=60)


async def test_waiting_for_a_place_has_the_same_deadline_p9() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=0.02, max_waiting=1)
    outcomes = await asyncio.gather(*start(*(rows.put(put(str(number))) for number in range(3))), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageUnavailable] * 3
    many = await rows.get_many([get_row("a"), get_row("b")])
    assert [type(outcome) for outcome in many] == [StorageUnavailable] * 2
    await driver.let_go()
    driver.held = False
    assert await rows.get_many([get_row("a"), get_row("b")]) == [None, None]


async def test_who_got_a_place_and_then_no_answer_is_given_up_on_p9() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=0.05, max_waiting=1)
    callers = start(rows.get(get_row("a")), rows.get(get_row("b")))
    await turns()
    await driver.let_go()
    assert await callers[0] is None
    with pytest.raises(StorageUnavailable):
        await callers[1]
    await driver.let_go()


async def test_a_place_given_to_who_leaves_in_the_same_moment_goes_on() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60, max_waiting=1)
    callers = start(*(rows.put(put(str(number))) for number in range(3)))
    await turns()
    driver.waiting.pop().set_result(None)
    while not rows._here()._newcomers[0].done():  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0)
        if len(rows._here()._newcomers) == 1:  # pyright: ignore[reportPrivateUsage]
            break
    callers[1].cancel()
    await turns()
    await driver.let_go()
    assert await callers[2] == 1
    assert get_row("1") not in driver.rows
    await rows.drain(patience=60)


async def test_a_caller_of_many_who_leaves_takes_back_what_was_not_sent_p14() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60)
    (many,) = start(rows.put_many([put(str(number)) for number in range(5)]))
    await turns()
    many.cancel()
    await turns()
    await driver.let_go()
    assert len(driver.rows) == 1
    await rows.drain(patience=60)


async def test_draining_waits_but_not_for_ever() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60)
    await rows.drain(patience=60)
    callers = start(rows.get(get_row("a")), rows.get(get_row("b")))
    await turns()
    await rows.drain(patience=0.01)
    drains = start(rows.drain(patience=60), rows.drain(patience=60))
    await turns()
    await driver.let_go()
    assert not drains[0].done()
    await driver.let_go()
    await asyncio.gather(*drains)
    assert all(caller.done() for caller in callers)


def test_each_event_loop_has_its_queue_p15() -> None:
    driver = HeldDriver(held=False)
    rows = Coalescer(driver, timeout=60)
    for number in range(3):
        assert asyncio.run(rows.put(put("alice"))) == number + 1
    assert len(rows._queues) == 1  # pyright: ignore[reportPrivateUsage]


def test_an_event_loop_that_ends_takes_its_batches_with_it_p15() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60)

    async def abandon() -> None:
        start(rows.put(put("a")), rows.put(put("b")))
        await turns()

    asyncio.run(abandon())
    driver.held = False
    driver.waiting.clear()
    assert asyncio.run(rows.put(put("a"))) == 1


async def test_an_operation_cancelled_from_inside_is_unavailable() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60)
    (caller,) = start(rows.get(get_row("a")))
    await turns()
    driver.waiting.pop().cancel()
    with pytest.raises(StorageUnavailable, match="cancelled from inside"):
        await caller
    driver.held = False
    assert await rows.get(get_row("a")) is None


async def test_without_eager_tasks_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 11))
    assert await Coalescer(HeldDriver(held=False), timeout=60).put(put("a")) == 1


async def test_the_deadline_of_a_caller_who_left_concerns_nobody_p14() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=0.01)
    leaving = asyncio.create_task(rows.get(get_row("alice")))
    await turns()
    leaving.cancel()
    with pytest.raises(StorageUnavailable):
        await rows.get(get_row("bob"))
    assert leaving.cancelled()
    await driver.let_go()


async def test_a_place_is_not_given_to_who_has_just_left_p14() -> None:
    driver = HeldDriver()
    rows = Coalescer(driver, timeout=60, max_waiting=1)
    first = asyncio.create_task(rows.get(get_row("alice")))
    await turns()
    leaving, staying = asyncio.create_task(rows.get(get_row("bob"))), asyncio.create_task(rows.get(get_row("carol")))
    await turns()
    leaving.cancel()
    queue = rows._here()  # pyright: ignore[reportPrivateUsage]
    queue._max_waiting = 2  # pyright: ignore[reportPrivateUsage]
    queue._admit()  # pyright: ignore[reportPrivateUsage]  # a place becomes free in the same moment
    await turns()
    await driver.let_go()
    await driver.let_go()
    assert [await first, await staying] == [None, None]
    assert leaving.cancelled()
