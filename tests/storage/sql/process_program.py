"""What one of several processes does in the tests: ``python -m tests.storage.sql.process_program URL PROCESSES``.

They are forked of one that has imported everything, and start at the same moment. One alone writes until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from pauth.storage import DatabaseTokenStorage, EncryptionKey, RecordKey

# not of the tests' kit, which takes longer to import than all else here
KEY = EncryptionKey(bytes(range(0, 256, 8))[:-1] + b"\xff")
ALICE, COUNTER = RecordKey("", "alice"), RecordKey("", "counter")


def say(text: object) -> None:
    os.write(1, f"{text}\n".encode())  # whole lines, whoever else writes


async def compete(url: str, name: str) -> None:
    storage = DatabaseTokenStorage(url, encryption_key=KEY)
    # the tables are not there yet, and made by all at once
    made: Any = await storage.replace(ALICE, {"by": name}, expected_version=0)
    lease = await storage.take_lease(ALICE, name, ttl=60)
    for _ in range(5):
        while True:
            record = await storage.load(COUNTER)
            version, count = (record.version, record.tokens["n"]) if record else (0, 0)
            if await storage.replace(COUNTER, {"n": count + 1}, expected_version=version) is not None:
                break
    # rows in common, in another order each: nobody may wait for another in a circle
    users = [f"user-{number}" for number in range(30)]
    for turn in range(3):
        users = users[7 * turn % 30 :] + users[: 7 * turn % 30]
        await asyncio.gather(*(storage.save_token(user, {"by": name}) for user in users))
    say(f"{int(made is not None)} {int(lease is not None)}")
    await storage.aclose()


async def write(url: str) -> None:
    storage = DatabaseTokenStorage(url, encryption_key=KEY)
    number = 0
    while True:
        number += 1
        await asyncio.gather(*(storage.save_token(user, {"n": number, "large": "x" * 20_000}) for user in ("alice", "bob")))
        say(number)


def run(url: str, processes: int) -> None:
    wait, go = os.pipe()
    children: list[int] = []
    for index in range(processes):
        child = os.fork()
        if not child:
            os.close(go)
            os.read(wait, 1)
            asyncio.run(compete(url, f"process-{index}"))
            os._exit(0)
        children.append(child)
    os.close(go)
    sys.exit(max(os.waitpid(child, 0)[1] for child in children) and 1)


if __name__ == "__main__":
    if sys.argv[2] == "1":
        asyncio.run(write(sys.argv[1]))
    else:
        run(sys.argv[1], int(sys.argv[2]))
