"""P4, P14: whoever asked for a login to be completed may go away at any moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pauth import InvalidStateError, ReauthorizationRequired
from tests.client.kit import STORAGES, bench_at, suspending


@pytest.mark.parametrize("kind", STORAGES)
async def test_a_caller_cancelled_at_every_suspension_loses_nothing(tmp_path: Path, kind: str) -> None:
    """AX-12: the tokens are stored all the same, or nothing was sent; the code is never sent twice."""
    outcomes: list[str] = []
    while "completed" not in outcomes:
        folder = tmp_path / str(len(outcomes))
        folder.mkdir(mode=0o700)
        async with bench_at(folder) as bench:
            storage = bench.storage(kind)
            client = bench.client(token_storage=storage)
            callback = await bench.callback(client)

            def cancel(number: int, at: int = len(outcomes)) -> None:
                task = asyncio.current_task()
                if number == at and task is not None:
                    task.cancel()

            try:
                await asyncio.create_task(_drive(suspending(client.handle_callback(callback), cancel)))
                outcomes.append("completed")
            except asyncio.CancelledError:
                outcomes.append("cancelled")
            await client.aclose()
            restarted = bench.client(token_storage=storage)
            with pytest.raises(InvalidStateError):
                await restarted.handle_callback(callback)
            if bench.exchanges():
                assert (await restarted.refresh("alice")).access_token is not None
            else:
                with pytest.raises(ReauthorizationRequired):
                    await restarted.get_token("alice")
                outcomes[-1] += ", nothing sent"
            assert bench.exchanges() <= 1
            assert not bench.server.family_revoked("alice")
    assert "cancelled" in outcomes


async def _drive(call: object) -> None:
    await call  # type: ignore[misc]
