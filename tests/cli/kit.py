"""What the tests of the command line share: a home of its own, a server in a thread, a browser, and two ways to run a command."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import aiohttp
from click.testing import CliRunner
from yarl import URL

from pauth.cli.app import app
from pauth.cli.settings import LOGINS
from pauth.storage import CoordinatedTokenStorage, EncryptedFileStorage, RecordKey
from pauth.testing import AuthorizationServer

ROOT: Final = Path(__file__).parents[2]
FAKE_BROWSER: Final = Path(__file__).with_name("fake_browser.py")
CLIENT_ID: Final = "cli-client"
CLIENT_SECRET: Final = "CANARY-client-secret"

T = TypeVar("T")


class ServerThread:
    """The double, in a thread of its own: a command has its own event loop, and ends."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._ready = threading.Event()
        self._end: asyncio.Event
        self.loop: asyncio.AbstractEventLoop
        self.server: AuthorizationServer
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="double")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _serve(self) -> None:
        self.loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with AuthorizationServer(**self._options) as self.server:
            self._ready.set()
            await self._end.wait()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives, run where the server runs."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """What is on standard error with ``--json``."""
        members: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return members


@dataclass
class Home:
    """A user's home, with nothing of anybody's in it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def tokens(self) -> Path:
        return self.folder / "data" / "pauth" / "tokens"

    @property
    def key_file(self) -> Path:
        return self.folder / "config" / "pauth" / "encryption.key"

    @property
    def config_file(self) -> Path:
        return self.folder / "config" / "pauth" / "pauth.toml"

    def configure(self, text: str) -> Path:
        """Write ``pauth.toml``."""
        self.config_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.config_file.write_text(text, encoding="utf-8")
        self.config_file.chmod(0o600)
        return self.config_file

    def run(self, *arguments: str, input: str | None = None) -> Done:  # noqa: A002
        """Run a command in this process, without a terminal; the canary reads what it prints."""
        split: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner.__init__).parameters else {}  # click before 8.2
        result = CliRunner(**split).invoke(app, arguments, input=input, prog_name="pauth")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        environment = {**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
        return [sys.executable, "-W", "error", "-m", "pauth.cli", *arguments], environment

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        command, environment = self.command(*arguments)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, text=True, env=environment, cwd=self.folder, **{**pipes, **options})

    def process(self, *arguments: str, input: str = "") -> Done:  # noqa: A002
        """Run a command as a process of its own. The canary does not see what it prints."""
        process = self.start(*arguments)
        out, err = process.communicate(input)
        return Done(process.returncode, out, err)

    def storage(self) -> EncryptedFileStorage:
        """The command line's own storage. Not to be called in an event loop."""
        return EncryptedFileStorage(self.tokens, key_file=self.key_file)

    def stored(self, work: Callable[[CoordinatedTokenStorage], Coroutine[Any, Any, T]]) -> T:
        """Do something with the command line's own storage."""
        storage = self.storage()

        async def session() -> T:
            try:
                return await work(storage)
            finally:
                await storage.aclose()

        return asyncio.run(session())

    def change(self, user: str = "work", **members: Any) -> None:
        """Change members of the tokens that are stored for a user; ``None`` takes one out."""

        async def change(storage: CoordinatedTokenStorage) -> None:
            (listed,) = [item for item in (await storage.list_users()).items if item.key.user_id == user and item.key.namespace != LOGINS]
            record = await storage.load(listed.key)
            assert record is not None
            changed = {name: value for name, value in {**record.tokens, **members}.items() if value is not None}
            await storage.replace(listed.key, changed, expected_version=record.version, expires_at=changed.get("expires_at"))

        self.stored(change)

    def login_file(self, name: str) -> Path:
        """The file of what is kept of a login, to damage; its name does not tell."""
        files = {file: file.read_bytes() for file in self.tokens.rglob("*.token")}

        async def rewrite(storage: CoordinatedTokenStorage) -> None:
            record = await storage.load(RecordKey(LOGINS, name))
            assert record is not None
            await storage.replace(record.key, record.tokens, expected_version=record.version)

        self.stored(rewrite)
        (changed,) = [file for file, content in files.items() if file.read_bytes() != content]
        return changed

    def expire(self, user: str = "work") -> None:
        """Let the stored access token have expired an hour ago."""
        self.change(user, issued_at=time.time() - 7200, expires_at=time.time() - 3600)


def address(process: subprocess.Popen[str]) -> str:
    """The address that a login shows on standard error."""
    assert process.stderr is not None
    lines: list[str] = []
    while line := process.stderr.readline():
        lines.append(line.strip())
        if lines[-1].startswith("http"):
            return lines[-1]
    raise AssertionError(f"no address was shown: {lines}")


async def visit(authorization_url: str, user: str = "alice", *, deny: bool = False) -> tuple[int, str]:
    """What a browser does: the login at the server, and the way back. Gives what the listener answered."""
    from pauth.testing import authorize

    callback = await authorize(authorization_url, user=user, deny=deny)
    async with aiohttp.ClientSession() as browser, browser.get(URL(callback, encoded=True)) as response:
        return response.status, await response.text()


class Browser:
    """Stands in for :func:`pauth.cli.browser.open_browser`: a user who logs in at once, in a thread."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.opened: list[str] = []
        self.pages: list[tuple[int, str]] = []
        self._threads: list[threading.Thread] = []

    def __call__(self, url: str) -> bool:
        self.opened.append(url)
        thread = threading.Thread(target=self._visit, args=(url,))
        self._threads.append(thread)
        thread.start()
        return True

    def _visit(self, url: str) -> None:
        self.pages.append(asyncio.run(visit(url, **self.options)))

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
