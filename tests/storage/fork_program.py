"""A process that forks with a SQLite storage open: ``python -m tests.storage.fork_program FILE``.

The child writes before and after everybody else has closed the file, and another process has come and gone.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from pauth.storage import DatabaseTokenStorage, EncryptionKey

OUTSIDER = (
    "import sqlite3, sys; file = sqlite3.connect(sys.argv[1]); print(file.execute('SELECT count(*) FROM pauth_tokens').fetchone()[0]); file.close()"
)


def main(file: str) -> None:
    storage = DatabaseTokenStorage(f"sqlite:///{file}", encryption_key=EncryptionKey.generate())
    closed, close = os.pipe()
    written, write = os.pipe()
    with asyncio.Runner() as parent:
        parent.run(storage.save_token("parent", {"n": 1}))
        child = os.fork()
        if child == 0:
            asyncio.run(in_child(storage, closed, write))
            os._exit(0)
        os.read(written, 1)
        parent.run(storage.save_token("parent, after the fork", {"n": 1}))
        parent.run(storage.aclose())
    outsider(file)
    os.write(close, b"!")
    os.waitpid(child, 0)
    outsider(file)


async def in_child(storage: DatabaseTokenStorage, closed: int, write: int) -> None:
    await storage.save_token("child", {"n": 1})
    os.write(write, b"!")
    await asyncio.to_thread(os.read, closed, 1)
    await storage.save_token("child, when it is alone", {"n": 1})


def outsider(file: str) -> None:
    """Print how many records another process sees; it opens the file, and closes it as the last one perhaps."""
    subprocess.run([sys.executable, "-c", OUTSIDER, file], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
