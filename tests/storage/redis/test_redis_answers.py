"""A server, or something between, that gives answers of the wrong kind: an error, never "no token" (RD-7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pauth.errors import StorageUnavailable, UnsupportedRecord
from pauth.storage.driver import Delete
from pauth.storage.identity import row_id
from pauth.storage.redis import scripts
from pauth.storage.redis.driver import RedisDriver
from pauth.storage.redis.links import Address, Command, Maker
from tests.storage.redis.kit import put

ALICE, BOB = row_id("", "alice"), row_id("", "bob")


class WrongLinks:
    """Gives one answer to everything."""

    one_server = True
    timeout = 1.0
    moves_within: float | None = None

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def run(self, commands: Sequence[tuple[int, Command]]) -> list[Any]:
        return [self.answer for _ in commands]

    async def ask(self, command: Command) -> list[Any]:
        return []

    async def servers(self) -> Mapping[Address | None, Maker]:
        return {}

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("answer", [7.5, "text", [b"one"], [1, 2, 3], {b"a": b"b"}], ids=repr)
async def test_answers_of_the_wrong_kind_are_errors_rd_7(answer: Any) -> None:
    driver = RedisDriver(lambda: WrongLinks(answer))
    for answers in (
        await driver.get_many([ALICE]),
        await driver.get_many([ALICE, BOB]),
        await driver.put_many([put("alice"), put("bob")]),
        await driver.delete_many([Delete(ALICE, None, 0), Delete(BOB, None, 0)]),
    ):
        assert [type(each) for each in answers] == [UnsupportedRecord] * len(answers)
    for operation in (
        driver.take_pending(ALICE, now=0),
        driver.take_lease(ALICE, b"one", 5),
        driver.extend_lease(ALICE, b"one", 5),
        driver.release_lease(ALICE, b"one"),
    ):
        with pytest.raises(UnsupportedRecord):
            await operation
    await driver.aclose()


@pytest.mark.parametrize("answer", [b"text", 7, None, StorageUnavailable("out of reach")], ids=repr)
async def test_a_listing_of_the_wrong_kind_is_an_error_rd_7(answer: Any) -> None:
    kind = StorageUnavailable if isinstance(answer, Exception) else UnsupportedRecord
    driver = RedisDriver(lambda: WrongLinks(answer))
    with pytest.raises(kind):
        await driver.list_users(None, after=b"", limit=5)
    with pytest.raises(kind):
        await driver.list_expiring(before=5, after=(-(2**63), b""), limit=5)

    class ListsButDoesNotTell(WrongLinks):
        async def run(self, commands: Sequence[tuple[int, Command]]) -> list[Any]:
            return [b"u" + ALICE if command[1] == scripts.RANGE else answer for _, command in commands]

    with pytest.raises(kind):
        await RedisDriver(lambda: ListsButDoesNotTell(answer)).list_users(None, after=b"", limit=5)


async def test_a_version_that_is_none_is_an_error() -> None:
    driver = RedisDriver(lambda: WrongLinks([1.5]))
    assert isinstance((await driver.put_many([put("alice")]))[0], UnsupportedRecord)
    assert isinstance((await driver.delete_many([Delete(ALICE, None, 0)]))[0], UnsupportedRecord)
