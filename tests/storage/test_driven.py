"""The coordinated protocol over a driver: what it adds, whatever the driver is."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from pauth.errors import ConfigurationError, RecordTampered, StorageUnavailable, TokenStorageError, UnsupportedRecord
from pauth.storage import Record, RecordKey
from pauth.storage.arguments import expiring_cursor
from pauth.storage.base import Expiring, Listed, Write
from pauth.storage.driven import DrivenTokenStorage
from pauth.storage.driver import Lease, UserRow
from pauth.storage.keys import Keyring
from pauth.testing.clock import ManualClock
from tests.storage.coalesce_kit import HeldDriver, get_row, turns
from tests.storage.kit import KEY, TOKENS
from tests.support.canary import leaks_in_error

ALICE = RecordKey("", "alice")


def storage_on(driver: HeldDriver, **options: Any) -> DrivenTokenStorage:
    return DrivenTokenStorage(driver, keyring=Keyring([KEY]), **options)


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_timeout_is_positive(timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        storage_on(HeldDriver(), timeout=timeout)


async def test_a_drivers_mistake_shows_nothing_but_its_class_p20() -> None:
    async with aclosing(storage_on(HeldDriver())) as storage:
        with pytest.raises(TokenStorageError, match=r"^the token storage's driver raised OSError$") as caught:
            await storage.put_pending("login", {}, expires_at=2e9)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_a_driver_that_does_not_answer_is_given_up_on_p9() -> None:
    storage = storage_on(HeldDriver(), timeout=0.01)
    with pytest.raises(StorageUnavailable, match=r"did not answer within 0\.01 seconds"):
        await storage.take_pending("login")
    await storage.aclose()


async def test_the_round_trip_is_taken_off_a_lease() -> None:
    clock = ManualClock()

    class Slow(HeldDriver):
        async def take_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> Lease | None:
            clock.advance(4)
            return Lease(3, ttl_ms)

    async with aclosing(storage_on(Slow(), clock=clock)) as storage:
        lease = await storage.take_lease(ALICE, "one", ttl=10)
        assert lease is not None
        assert (lease.fence, lease.remaining) == (3, 6.0)
        late = await storage.take_lease(ALICE, "one", ttl=1)
        assert late is not None
        assert late.remaining == 0.0


OPERATIONS: list[Callable[[DrivenTokenStorage], Coroutine[Any, Any, object]]] = [
    lambda storage: storage.save_token("alice", {}),
    lambda storage: storage.get_token("alice"),
    lambda storage: storage.delete_token("alice"),
    lambda storage: storage.load(ALICE),
    lambda storage: storage.replace(ALICE, {}, expected_version=None),
    lambda storage: storage.remove(ALICE),
    lambda storage: storage.get_many([ALICE]),
    lambda storage: storage.put_many([Write(ALICE, {})]),
    lambda storage: storage.delete_many([ALICE]),
    lambda storage: storage.put_pending("login", {}, expires_at=2e9),
    lambda storage: storage.take_pending("login"),
    lambda storage: storage.take_lease(ALICE, "one", ttl=1),
    lambda storage: storage.extend_lease(ALICE, "one", ttl=1),
    lambda storage: storage.release_lease(ALICE, "one"),
    lambda storage: storage.list_users(),
    lambda storage: storage.list_expiring(1.0),
    lambda storage: storage.count(),
]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_after_closing_nothing_works(operation: Callable[[DrivenTokenStorage], Coroutine[Any, Any, object]]) -> None:
    driver = HeldDriver(held=False)
    storage = storage_on(driver)
    await storage.aclose()
    await storage.aclose()
    assert driver.closed == 1
    with pytest.raises(ConfigurationError, match="was closed"):
        await operation(storage)
    assert driver.batches == []


async def test_closing_waits_for_what_is_under_way() -> None:
    driver = HeldDriver()
    storage = storage_on(driver)
    writer = asyncio.ensure_future(storage.save_token("alice", TOKENS))
    await turns()
    closing = asyncio.ensure_future(storage.aclose())
    await turns()
    assert driver.closed == 0
    await driver.let_go()
    await asyncio.gather(writer, closing)
    assert driver.closed == 1


async def test_an_unreadable_record_fails_alone_in_a_batch() -> None:
    driver = HeldDriver(held=False)
    async with aclosing(storage_on(driver)) as storage:
        keys = [RecordKey("", user) for user in ("alice", "bob", "carol", "dave")]
        await storage.put_many([Write(key, TOKENS) for key in keys[:3]])
        driver.rows[get_row("alice")] = driver.rows[get_row("bob")]
        driver.rows[get_row("carol")] = driver.rows[get_row("carol")]._replace(data=memoryview(b"another program's"))
        alice, bob, carol, dave = await storage.get_many(keys)
        assert isinstance(alice, RecordTampered)
        assert isinstance(carol, UnsupportedRecord)
        assert not isinstance(bob, Exception)
        assert bob is not None
        assert bob.tokens == TOKENS
        assert bob.key_id == KEY.key_id.hex()
        assert dave is None


async def test_what_concerns_the_whole_storage_is_raised_from_a_batch() -> None:
    class Misconfigured(HeldDriver):
        async def get_many(self, row_ids: object) -> Any:
            raise ConfigurationError("wrong password")

    async with aclosing(storage_on(Misconfigured())) as storage:
        with pytest.raises(ConfigurationError, match="wrong password"):
            await storage.get_many([ALICE])


async def test_coalescing_can_be_switched_off() -> None:
    for coalesce, batches in ((True, 2), (False, 10)):
        driver = HeldDriver(held=False)
        async with aclosing(storage_on(driver, coalesce=coalesce)) as storage:
            await asyncio.gather(*(storage.save_token(str(number), {}) for number in range(10)))
        assert len(driver.batches) == batches


async def test_a_cursor_cut_short_is_refused() -> None:
    async with aclosing(storage_on(HeldDriver())) as storage:
        with pytest.raises(ConfigurationError, match="cursor"):
            await storage.list_expiring(1.0, cursor=expiring_cursor(5, b"")[:4])
        assert (await storage.list_expiring(1.0, cursor=expiring_cursor(5, b"x" * 32))).items == []


@pytest.mark.plaintext_files
async def test_plaintext_has_no_key() -> None:
    driver = HeldDriver(held=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        storage = DrivenTokenStorage(driver, keyring=None)
    written = await storage.replace(ALICE, {"a": 1}, expected_version=0)
    assert written is not None
    assert written.key_id is None
    assert driver.batches[0][1][0].key_id is None
    assert await storage.load(ALICE) == written
    await storage.aclose()


def test_no_user_shows_in_what_listings_and_batches_are_made_of_sh_1() -> None:
    key = RecordKey("", "user-77")
    for each in (Listed(key, 1, None), Expiring(key, 1, 5.0), Write(key, TOKENS)):
        assert "user-77" not in repr(each)
        assert "CANARY" not in repr(each)


@pytest.mark.parametrize("version", [-1, -2, 2**53, 2**63, 2**64, True, 1.0, "1"])
async def test_a_version_that_is_none_reaches_no_driver_and_no_neighbour(version: Any) -> None:
    driver = HeldDriver(held=False)
    async with aclosing(storage_on(driver)) as storage:
        for operation in (storage.replace(ALICE, {}, expected_version=version), storage.remove(ALICE, expected_version=version)):
            with pytest.raises(ConfigurationError, match="expected_version"):
                await operation
    assert driver.batches == []


@pytest.mark.parametrize("timeout", [float("inf"), 86_401, True, "3", 10**400])
def test_a_timeout_has_an_end_p9(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        storage_on(HeldDriver(), timeout=timeout)


async def test_what_cannot_be_stored_shows_in_no_traceback_sh_5() -> None:
    async with aclosing(storage_on(HeldDriver(held=False))) as storage:
        secret = {"access_token": "CANARY-at", "x": (1,)}
        for operation in (
            storage.save_token("alice", secret),
            storage.replace(ALICE, secret, expected_version=None),
            storage.put_pending("login", secret, expires_at=2e9),
            storage.put_pending("login", secret, expires_at=float("nan")),
        ):
            with pytest.raises(TokenStorageError) as caught:
                await operation
            assert not list(leaks_in_error(caught.value))
            assert caught.value.__context__ is None


async def test_who_is_cancelled_while_closing_leaves_it_going() -> None:
    driver = HeldDriver()
    storage = storage_on(driver)
    saving = asyncio.create_task(storage.save_token("alice", {}))
    await turns()
    first = asyncio.create_task(storage.aclose())
    await turns()
    first.cancel()
    second = asyncio.create_task(storage.aclose())
    await turns()
    assert not second.done()
    await driver.let_go()
    await saving
    await second
    assert first.cancelled()
    assert driver.closed == 1


def test_closing_from_another_event_loop_waits_for_nothing() -> None:
    driver = HeldDriver(held=False)
    storage = storage_on(driver)
    asyncio.run(storage.aclose())
    asyncio.run(storage.aclose())
    assert driver.closed == 1


async def test_a_batch_waits_for_its_places_no_longer_than_one_timeout_p9() -> None:
    driver = HeldDriver()
    storage = storage_on(driver, timeout=0.05)
    storage._rows._max_waiting = 2  # pyright: ignore[reportPrivateUsage]
    began = asyncio.get_running_loop().time()
    answers = await storage.get_many([RecordKey("", f"user-{number}") for number in range(200)])
    assert all(isinstance(answer, StorageUnavailable) for answer in answers)
    assert asyncio.get_running_loop().time() - began < 200 * 0.05 / 4
    await driver.let_go()
    await storage.aclose()


async def test_a_re_encryption_goes_in_batches_of_bounded_size() -> None:
    driver = HeldDriver(held=False)
    sizes: list[int] = []

    async def rewrite_many(puts: Any) -> list[bool]:
        sizes.append(sum(len(put.data) for put in puts))
        return [True] * len(puts)

    driver.rewrite_many = rewrite_many  # type: ignore[method-assign]
    async with aclosing(storage_on(driver)) as storage:
        records = [Record(RecordKey("", f"user-{number}"), {"access_token": "x" * 200_000}, 1, 0.0) for number in range(12)]
        records.append(Record(RecordKey("", "large"), {"access_token": "x" * 3_000_000}, 1, 0.0))
        assert await storage.reencrypt_many(records) == [True] * 13
    assert len(sizes) == 4
    assert max(sizes[:3]) <= 1 << 20


async def test_a_row_that_is_not_its_owners_is_left_out_of_listings_and_told_vc_2(caplog: pytest.LogCaptureFixture) -> None:
    class Mangled(HeldDriver):
        async def list_users(self, namespace: bytes | None, *, after: bytes, limit: int) -> list[UserRow]:
            owners = [b"alice", b"bob", b"\xff", b""]
            return [UserRow(get_row("alice"), b"", owner, 1, None) for owner in owners]

    async with aclosing(storage_on(Mangled())) as storage:
        page = await storage.list_users()
    assert [item.key.user_id for item in page.items] == ["alice"]
    assert "not listed: 3" in caplog.text
