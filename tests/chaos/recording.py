"""How a process writes its history: around the calls of the client, its refresh requests, and its storage. Tokens are written down as hashes."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, cast
from urllib.parse import parse_qs

from pauth.core.wire import HTTPRequest, HTTPResponse
from pauth.errors import PAuthError
from pauth.refresh.stored import NO_ATTEMPTS, read_grant
from pauth.storage import Record, RecordKey
from pauth.testing import token_hash
from pauth.transport import Transport

__all__ = ["Recorder", "usage", "watch_storage", "watch_transport"]

Around: TypeAlias = Callable[[Callable[[], Awaitable[Record | None]], bool], Awaitable[Record | None]]


class Recorder:
    """Appends to the history of one process. Each line is a system call of its own: what was written is there, however the process ends.

    :param kept: keep the lines in memory until :meth:`flush`, in a process that nobody kills: the tests' own may not write files in a coroutine.
    """

    def __init__(self, file: Path, process: str, *, kept: bool = False) -> None:
        self.process = process
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self._last = 0
        self._kept: list[str] | None = [] if kept else None

    def close(self) -> None:
        self.flush()
        os.close(self._descriptor)

    def flush(self) -> None:
        """Write what was kept."""
        if self._kept:
            os.write(self._descriptor, "".join(self._kept).encode())
            self._kept.clear()

    def line(self, kind: str, **members: Any) -> None:
        text = json.dumps({"e": kind, "t": time.monotonic(), **members}, separators=(",", ":")) + "\n"
        if self._kept is None:
            os.write(self._descriptor, text.encode())
        else:
            self._kept.append(text)

    def begin(self, kind: str, **members: Any) -> int:
        """Write down that something begins. The number is for :meth:`end`."""
        with self._lock:
            self._last += 1
            number = self._last
        self.line(kind, id=number, process=self.process, t0=time.monotonic(), **members)
        return number

    def end(self, kind: str, number: int, **members: Any) -> None:
        self.line(kind, id=number, **{name: value for name, value in members.items() if value is not None})

    async def call(self, op: str, user: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do ``work``, a call of the client's API that gives a token, and give that or the error it raised."""
        number = self.begin("invoke", op=op, user=user)
        try:
            token = await work()
        except asyncio.CancelledError:
            self.end("return", number, error="Cancelled")
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the checkers judge it
            self.end("return", number, error=type(error).__name__, reason=getattr(error, "reason", None))
            return error
        self.end("return", number, at=token_hash(token.access_token.reveal()))
        return token

    def usage(self, label: str, *, own_tasks: int) -> tuple[int, int, int]:
        """Write down what this process holds now, and give it."""
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        held = fds, tasks, threads = usage(own_tasks)
        self.line("usage", process=self.process, label=label, fds=fds, tasks=tasks, threads=threads, memory=resident)
        return held


def usage(own_tasks: int) -> tuple[int, int, int]:
    """Open files, tasks and threads of this process, but for ``own_tasks`` of the harness's own.

    A pool of pauth's, which starts threads when it needs them, up to a number, counts as one.
    """
    threads = [thread.name for thread in threading.enumerate()]
    pools = {name.rstrip("0123456789") for name in threads if name.startswith("pauth-")}
    single = [name for name in threads if not name.startswith("pauth-")]
    return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks()) - own_tasks, len(pools) + len(single)


def _hash(tokens: Mapping[str, Any], name: str) -> str | None:
    value = tokens.get(name)
    return token_hash(value) if isinstance(value, str) else None


def watch_storage(storage: Any, recorder: Recorder, *, around: Around | None = None) -> None:
    """Write down every read and write of records of ``storage``.

    :param around: is given each write, to be awaited, and whether it is the commit of a new token; what it gives is the write's outcome.
    """
    load, replace = storage.load, storage.replace
    latest: dict[RecordKey, str | None] = {}

    async def watched_load(key: RecordKey) -> Record | None:
        t0 = time.monotonic()
        record: Record | None = await load(key)
        if record is not None:
            at = latest[key] = _hash(record.tokens, "access_token")
            recorder.line("load", process=recorder.process, user=key.user_id, t0=t0, t1=time.monotonic(), version=record.version, at=at)
        return record

    async def watched_replace(key: RecordKey, tokens: Mapping[str, Any], *, expected_version: int | None, **options: Any) -> Record | None:
        at = _hash(tokens, "access_token")
        grant = read_grant(tokens)
        under_way = grant.attempts if grant.attempts.under_way else NO_ATTEMPTS
        more = {"ended": grant.ended, "intent": under_way.attempt_id, "retry_of": under_way.retry_of}
        told = {name: value for name, value in more.items() if value is not None}
        rt = _hash(tokens, "refresh_token")
        number = recorder.begin("write", user=key.user_id, at=at, rt=rt, expected=expected_version, **told)

        async def write() -> Record | None:
            done: Record | None = await replace(key, tokens, expected_version=expected_version, **options)
            return done

        try:
            record = await (write() if around is None else around(write, latest.get(key) not in (None, at)))
        except BaseException as error:
            recorder.end("wrote", number, failed=type(error).__name__)
            raise
        if record is not None:
            latest[key] = at
        recorder.end("wrote", number, version=None if record is None else record.version)
        return record

    storage.load, storage.replace = watched_load, watched_replace


_FIELDS: Final = ("grant_type", "refresh_token")


def watch_transport(recorder: Recorder) -> None:
    """Write down every refresh request that a client of this process sends, and how it ended."""
    original = Transport.send

    async def send(self: Transport, request: HTTPRequest, **options: Any) -> HTTPResponse:
        form = parse_qs((request.body or b"").decode("utf-8", "replace")) if request.method == "POST" else {}
        grant_type, refresh_token = ((form.get(name) or [""])[0] for name in _FIELDS)
        if grant_type != "refresh_token":
            return await original(self, request, **options)
        number = recorder.begin("send", rt=token_hash(refresh_token))
        try:
            response = await original(self, request, **options)
        except PAuthError as error:
            outcome = "ambiguous" if getattr(error, "request_sent", True) else "unsent"
            recorder.end("sent", number, outcome=outcome)
            raise
        except BaseException:
            recorder.end("sent", number, outcome="ambiguous")
            raise
        recorder.end("sent", number, **_answer(response))
        return response

    Transport.send = send  # type: ignore[method-assign]


def _answer(response: HTTPResponse) -> dict[str, Any]:
    try:
        document: Any = json.loads(response.body)
    except ValueError:
        document = None
    members = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    token, error = members.get("access_token"), members.get("error")
    if response.status == 200:
        whole = isinstance(token, str)
        return {"outcome": "ok" if whole else "ambiguous", "status": 200, "at": token_hash(str(token)) if whole else None}
    return {"outcome": "refused", "status": response.status, "error": error if isinstance(error, str) else None}
