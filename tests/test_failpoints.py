"""Failpoints: named places in a refresh at which tests disturb it, and at which nothing happens otherwise."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from pauth import failpoints
from pauth.errors import ProviderUnavailable
from pauth.failpoints import NAMES, arm, failpoint
from tests.refresh.faulty import FaultyStorage
from tests.refresh.kit import World, world


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm(None)


@pytest.fixture
async def strict() -> AsyncIterator[World]:
    async with world() as made:
        yield made


def test_nothing_happens_at_a_failpoint_that_nobody_armed() -> None:
    for name in NAMES:
        failpoint(name)


def test_an_armed_one_calls_its_hook_until_it_is_disarmed() -> None:
    reached: list[str] = []
    arm(reached.append)
    failpoint("before_send")
    arm(None)
    failpoint("before_lease")
    assert reached == ["before_send"]


def test_no_setting_arms_them() -> None:
    """A kill switch in the environment would be one for everybody who can set it."""
    assert "environ" not in inspect.getsource(failpoints)
    assert failpoints._hook is None  # pyright: ignore[reportPrivateUsage]
    assert not [name for name in os.environ if name.startswith("PAUTH_FP")]


async def test_a_refresh_reaches_them_all_in_their_order(strict: World) -> None:
    async with strict.client(FaultyStorage(strict.clock)) as client:
        await strict.log_in(client)
        strict.expire()
        reached: list[str] = []
        arm(reached.append)
        await client.get_token("alice")
    assert tuple(reached) == NAMES


async def test_what_stands_in_the_store_and_at_the_server_at_each_of_them(strict: World) -> None:
    """What a process that is killed there leaves behind."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        old = await strict.log_in(client)
        strict.expire()
        seen: dict[str, tuple[bool, bool, bool, bool]] = {}

        def look(name: str) -> None:
            entry = storage._entries["acme", "alice"]  # pyright: ignore[reportPrivateUsage]
            leased = storage._leases._held.get(("acme", "alice"))  # pyright: ignore[reportPrivateUsage]
            held = leased is not None and leased[2] > strict.clock.monotonic()
            intent = "refresh_attempts" in entry.tokens
            new = entry.tokens["access_token"] != old.access_token.reveal()
            seen[name] = (held, intent, bool(strict.refreshes), new)

        arm(look)
        await client.get_token("alice")
    nothing, leased, announced = (False, False, False, False), (True, False, False, False), (True, True, False, False)
    assert [seen[name] for name in ("before_lease", "after_lease", "after_intent", "before_send", "mid_send", "after_send")] == [
        nothing,
        leased,
        announced,
        announced,
        announced,
        announced,  # written; the server is about to read it
    ]
    assert [seen[name] for name in ("mid_response", "after_response", "before_commit")] == [(True, True, True, False)] * 3
    assert [seen[name] for name in ("after_commit", "before_release")] == [(True, False, True, True)] * 2


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_raised_at_a_failpoint_reaches_the_caller_and_the_next_call_works(name: str) -> None:
    """With a server that takes a token again, whatever came of it."""
    async with world(rotation="RO") as lenient, lenient.client(FaultyStorage(lenient.clock), timeout=1) as client:
        await lenient.log_in(client)
        lenient.expire()

        def fail(reached: str) -> None:
            if reached == name:
                arm(None)
                raise ProviderUnavailable("disturbed", request_sent=False)

        arm(fail)
        with pytest.raises(ProviderUnavailable, match="disturbed"):
            await client.get_token("alice")
        lenient.clock.advance(60)
        assert (await client.get_token("alice")).expires_in(lenient.clock.time())
