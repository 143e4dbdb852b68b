"""The harness's side of the processes: it has them begun, tells them what to do, kills, stops and continues them, and knows when they ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

__all__ = ["Fleet", "Process"]

_ROOT: Final = Path(__file__).parents[2]
_LINE: Final = 1 << 20


class Process:
    """One worker that is connected."""

    def __init__(self, name: str, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.name = name
        self.pid = pid
        self.died: float | None = None
        """When its end was noticed: monotonic seconds."""
        self._reader, self._writer = reader, writer
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._last = 0
        self.over = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        with suppress(ConnectionError):
            while line := await self._reader.readline():
                answer = json.loads(line)
                self._answers.pop(answer["id"]).set_result(answer["result"])
        self.died = time.monotonic()
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_result(None)
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        self.over.set()

    def begin(self, do: str, **members: Any) -> asyncio.Future[Any]:
        """Tell it to do something; the future gives its answer, or ``None`` if it ended before it answered."""
        self._last += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.died is not None:
            answer.set_result(None)
            return answer
        self._answers[self._last] = answer
        self._writer.write(json.dumps({"id": self._last, "do": do, **members}).encode() + b"\n")
        return answer

    @property
    def last(self) -> int:
        """The number of the newest command."""
        return self._last

    async def ask(self, do: str, **members: Any) -> Any:
        """Tell it to do something, and give its answer; ``None`` if it ended before it answered."""
        return await self.begin(do, **members)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Nothing happens to a process that has ended: its connection is gone before its number is used again."""
        if self.died is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def stopped(self) -> bool:
        """Whether it stands still, by SIGSTOP."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] in {"T", "t"}
        return False


class Fleet:
    """All processes of any number of runs, forked of one. To be used with ``async with``."""

    def __init__(self) -> None:
        # Coverage would follow into every worker; what is killed saves nothing.
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        self.processes: list[Process] = []
        self._expected: dict[str, asyncio.Future[Process]] = {}
        self._server: asyncio.Server
        self._zygote: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=_LINE)
        self.port = self._server.sockets[0].getsockname()[1]
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "tests.chaos.zygote"]
        self._zygote = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, env=self._environment, stdin=pipe, stdout=pipe)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        await self._zygote.wait()
        await self._reading
        for process in self.processes:
            await process.over.wait()
        self._server.close()
        await self._server.wait_closed()

    async def _read(self) -> None:
        """What the zygote says: a worker that ends before it has connected is a fault of the harness, and must not be waited for."""
        assert self._zygote.stdout is not None
        begun: dict[int, str] = {}
        while line := await self._zygote.stdout.readline():
            event = json.loads(line)
            if "began" in event:
                begun[event["pid"]] = event["began"]
                continue
            expected = self._expected.pop(begun.pop(event["ended"]), None)
            if expected is not None and not expected.done():
                expected.set_exception(RuntimeError(f"a worker ended with status {event['status']} before it had begun; see its log"))
        for expected in self._expected.values():
            if not expected.done():
                expected.set_exception(RuntimeError("the zygote has ended"))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = json.loads(await reader.readline())
        process = Process(hello["name"], hello["pid"], reader, writer)
        self.processes.append(process)
        self._expected.pop(hello["name"]).set_result(process)

    async def begin(self, config: dict[str, Any]) -> list[Process]:
        """Begin a process of this configuration; the workers it forks, if it is a prefork server."""
        names = [f"{config['name']}.{number}" for number in range(config.get("prefork", 0))] or [config["name"]]
        expected = [self._expected.setdefault(name, asyncio.get_running_loop().create_future()) for name in names]
        # if the parent ends early none of them will come
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps({**config, "port": self.port}).encode() + b"\n")
        return await asyncio.gather(*expected)
