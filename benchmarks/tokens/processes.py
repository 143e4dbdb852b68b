"""Processes of a benchmark: each is told what to do in one line of JSON, says when it is ready, goes when it is told to, and answers in a line."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.contender import Missing

__all__ = ["Crew", "crew", "listen", "say"]

_ROOT = Path(__file__).parents[2]


class Crew:
    """Some processes that do the same."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes

    async def go(self, **told: Any) -> list[dict[str, Any]]:
        """Tell all of them, in the same moment, and wait for their answers."""
        line = json.dumps(told).encode() + b"\n"
        for process in self._processes:
            assert process.stdin is not None  # noqa: S101  # for type checkers
            process.stdin.write(line)
        return await self.answers()

    async def answers(self) -> list[dict[str, Any]]:
        """A line of each.

        :raises Missing: one has ended instead.
        """
        found: list[dict[str, Any]] = []
        for process in self._processes:
            assert process.stdout is not None  # noqa: S101  # for type checkers
            line = await process.stdout.readline()
            if not line:
                raise Missing("a process of the benchmark ended early; what it said is above")
            found.append(json.loads(line))
        missing = next((each["missing"] for each in found if "missing" in each), None)
        if missing is not None:
            raise Missing(missing)
        return found


@asynccontextmanager
async def crew(number: int, told: Mapping[str, Any]) -> AsyncGenerator[Crew]:
    """So many processes of :mod:`benchmarks.tokens.worker`, ready to go. They end with the block.

    :raises Missing: what they need is not installed.
    """
    command = [sys.executable, "-m", "benchmarks.tokens.worker"]
    processes = [await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, cwd=_ROOT, limit=1 << 20) for _ in range(number)]
    made = Crew(processes)
    try:
        await made.go(**told)
        yield made
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
        for process in processes:
            await process.wait()


async def listen() -> dict[str, Any]:
    """The next line that this process is told; ends it if there are no more."""
    line = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        raise SystemExit(0)
    told: dict[str, Any] = json.loads(line)
    return told


def say(**answer: Any) -> None:
    """Answer in one line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
