"""The parent of all workers: it has imported everything, and forks one whenever it is told to: ``python -m tests.chaos.zygote``.

Lines on standard input are configurations, each with the environment variables of its process. On standard output it says which process began, and
which ended and how. When its input ends it kills what is left. A worker that outlived it would be killed by the kernel.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import sys
from contextlib import suppress
from typing import Any, Final

from tests.chaos import worker

_PRELOADED: Final = (
    "asyncmy",
    "asyncpg",
    "pauth.storage.files",
    "pauth.storage.redis",
    "pauth.storage.sql.mysql",
    "pauth.storage.sql.postgres",
    "pauth.storage.sql.sqlite",
    "redis.asyncio",
)


def _say(**members: Any) -> None:
    os.write(1, f"{json.dumps(members)}\n".encode())


def _begin(config: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        worker.die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(config["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 256)
        os.environ.update(config["environment"])
        code = worker.prefork(config) if config.get("prefork") else worker.main(config)
    except BaseException as error:  # noqa: BLE001  # the end of the process is near, and its log says why
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return 0


def main() -> None:
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, _awake)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(wake, selectors.EVENT_READ)
    children: set[int] = set()
    rest = b""
    open_input = True
    while open_input:
        for key, _ in selector.select():
            data = os.read(key.fd, 1 << 16)
            if key.fd == wake:
                _reap(children)
                continue
            open_input = bool(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                config = json.loads(line)
                child = _begin(config)
                children.add(child)
                _say(began=config["name"], pid=child)
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _awake(number: int, frame: object) -> None:
    """The wakeup descriptor says it already."""


def _reap(children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        children.discard(pid)
        _say(ended=pid, status=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
