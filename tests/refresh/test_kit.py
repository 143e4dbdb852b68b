"""What these tests wait with: what never comes is a failure, not a hang."""

from __future__ import annotations

import asyncio

import pytest

from pauth.testing import ManualClock
from tests.refresh import kit
from tests.refresh.kit import passing, until


async def test_a_condition_that_never_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "TURNS", 100)
    with pytest.raises(AssertionError, match="has not come in 100 turns"):
        await until(lambda: False)


async def test_work_that_waits_for_nothing(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    monkeypatch.setattr(kit, "TURNS", 100)
    with pytest.raises(AssertionError, match="has not come in 100 turns"):
        await passing(clock, asyncio.Event().wait())


async def test_work_that_sleeps_again_and_again(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    monkeypatch.setattr(kit, "PAUSES", 100)

    async def never_end() -> None:
        while True:
            await clock.sleep(1)

    with pytest.raises(AssertionError, match="has not come in 100 turns"):
        await passing(clock, never_end())
