"""A process of its own, for the tests of the journal: it gets a token that the store does not take and is killed, or it comes after one that was.

``python -m tests.refresh.journal_program spill|recover|revoke FOLDER TIME``; the key is in ``PAUTH_ENCRYPTION_KEY``. Prints what it found, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from pauth.core.token import Token
from pauth.events import Event
from pauth.refresh.attempt import Exchange
from pauth.testing import ManualClock
from tests.refresh.journal_kit import Database, files
from tests.refresh.kit import KEY
from tests.refresh.rotating import Rotating


async def _send_nothing(_: float) -> NoReturn:
    raise AssertionError("nothing is to be sent here")


async def _prepare_nothing(_: Token) -> Exchange:
    return _send_nothing


async def main(what: str, folder: Path, now: float) -> None:
    clock = ManualClock(now)
    storage, rotating = Database(folder, clock), Rotating(clock)
    told: list[Event] = rotating.events
    if what == "spill":
        coordinator = rotating.coordinator(storage, journal=folder / "journal")
        await rotating.stored_expired(storage)
        storage.down = True
        asking = asyncio.create_task(coordinator.get(KEY))
        while not any(file.suffix == ".unsaved" for file in files(folder)):  # not one that is still being written
            await asyncio.sleep(0.001)
        assert rotating.last is not None
        print(json.dumps({"now": clock.time(), "version": rotating.last.version}), flush=True)
        assert not asking.done()
        os.kill(os.getpid(), signal.SIGKILL)
    coordinator = rotating.coordinator(storage, journal=folder / "journal", prepare=_prepare_nothing)
    revoked: list[str] = []

    async def revoke(token: Token) -> None:
        revoked.append(token.version)

    version = None
    if what == "revoke":
        await coordinator.end(KEY, revoke)
    else:
        version = (await coordinator.get(KEY)).version
    await coordinator.drain()
    print(json.dumps({"version": version, "revoked": revoked, "told": [[event.kind, event.to_dict().get("source")] for event in told]}))
    await storage.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
