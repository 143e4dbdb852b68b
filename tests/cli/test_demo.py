"""`pauth demo`, the first thing a newcomer runs: it works, it notices when it does not, and it leaves nothing behind."""

from __future__ import annotations

import dataclasses
import functools
import gc
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pauth import DatabaseTokenStorage, Login, OAuth2Client, Secret, Token
from pauth.cli import demo
from pauth.cli.app import app
from pauth.storage import RecordKey
from pauth.testing import AuthorizationServer
from tests.support.canary_plugin import Canary

CHAPTERS = ["1. Alice logs in", "2. An hour later", "3. The program restarts", "4. She logs out", "All of it worked"]


@pytest.fixture(autouse=True)
def _tidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Temporary folders are made in ``tmp_path`` and must be gone; every token is marked; no thread stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "AuthorizationServer", functools.partial(AuthorizationServer, secret_marker="CANARY-"))
    monkeypatch.setenv("COLUMNS", "200")
    threads = set(threading.enumerate())
    yield
    assert list(tmp_path.iterdir()) == []
    gc.collect()  # an error may keep what has a thread
    more = set(threading.enumerate()) - threads
    for thread in more:
        thread.join(60)  # those on their way out
    assert [thread.name for thread in more if thread.is_alive()] == []


def run_demo(callers: int = 20) -> Result:
    return CliRunner().invoke(app, ["demo", "--callers", str(callers)])


def test_the_demo_tells_what_it_did() -> None:
    """The canary searches its output for tokens."""
    result = run_demo(50)
    assert (result.exit_code, result.exception) == (0, None)
    assert sorted(CHAPTERS, key=result.output.index) == CHAPTERS
    assert re.search(
        r"callers +50, over 10 clients on one storage *\n +refresh requests the server saw +1 *\n +callers that failed +0 *\n", result.output
    )
    assert "verified: alice" in result.output
    assert "refused (InvalidStateError)" in result.output
    assert "alice@example.com" in result.output


def test_the_demo_as_a_newcomer_runs_it(tmp_path: Path, canary: Canary) -> None:
    """A process of its own, a thousand callers, no terminal."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "200", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-m", "pauth.cli", "demo", "--callers", "1000"]
    result = subprocess.run(command, capture_output=True, env=environment, check=False)
    output = result.stdout.decode()
    canary.check(output, "output of pauth demo")
    assert (result.returncode, result.stderr) == (0, b"")
    assert re.search(r"callers +1,000, over 10 clients", output)
    assert re.search(r"refresh requests the server saw +1 *\n", output)


def test_the_demo_for_programs() -> None:
    split: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner.__init__).parameters else {}  # click before 8.2
    result = CliRunner(**split).invoke(app, ["demo", "--callers", "20", "--json"])
    assert (result.exit_code, result.exception) == (0, None)
    assert sorted(CHAPTERS, key=result.stderr.index) == CHAPTERS, "the story"
    seen = json.loads(result.stdout)
    assert 0 < seen.pop("refresh_seconds") <= seen.pop("seconds")
    assert seen == {
        "user": "alice",
        "second_callback": "InvalidStateError",
        "callers": 20,
        "clients": 10,
        "refreshes": 1,
        "failed_callers": 0,
        "status_after_restart": 200,
        "status_after_logout": 401,
    }


def test_a_broken_promise_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    client_of(Forgetful)(monkeypatch)
    result = CliRunner().invoke(app, ["demo", "--callers", "20", "--json"])
    error = json.loads(result.output.splitlines()[-1])["error"]
    assert (result.exit_code, error["type"]) == (1, "DemoFailed")


class Replaying(OAuth2Client):
    login: Login | None = None

    async def handle_callback(self, *args: Any, **options: Any) -> Login:
        self.login = self.login or await super().handle_callback(*args, **options)
        return self.login


class Eager(OAuth2Client):
    async def get_token(self, user_id: str) -> Token:
        await super().get_token(user_id)
        return await self.refresh(user_id)


class EagerLater(OAuth2Client):
    calls = itertools.count()

    async def get_token(self, user_id: str) -> Token:
        return await (self.refresh if next(self.calls) == 20 else super().get_token)(user_id)


class Inventive(OAuth2Client):
    numbers = itertools.count()

    async def get_token(self, user_id: str) -> Token:
        return dataclasses.replace(await super().get_token(user_id), access_token=Secret(f"CANARY-{next(self.numbers)}"))


class Forgetful(OAuth2Client):
    async def revoke(self, user_id: str) -> None:
        """Does not."""


class HalfHearted(OAuth2Client):
    async def revoke(self, user_id: str) -> None:
        storage = self._storage  # pyright: ignore[reportPrivateUsage]
        record = await storage.load(RecordKey(self.namespace, user_id))
        assert record is not None
        await super().revoke(user_id)
        await storage.replace(record.key, record.tokens, expected_version=None)


def client_of(kind: type[OAuth2Client]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(demo, "OAuth2Client", kind)


def readable_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(url: str, *, encryption_key: object, timeout: float, clock: Any) -> DatabaseTokenStorage:
        return DatabaseTokenStorage(url, insecure_plaintext=True, clock=clock)

    monkeypatch.setattr(demo, "DatabaseTokenStorage", make)


def lost_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def family_revoked(self: AuthorizationServer, user: str) -> bool:
        return True

    monkeypatch.setattr(AuthorizationServer, "family_revoked", family_revoked)


def broken_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(url: str, token: Token) -> int:
        return 500

    monkeypatch.setattr(demo, "_use", use)


BROKEN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a callback worked twice": client_of(Replaying),
    "a token can be read in the database file": readable_database,
    "2 refreshes were sent": client_of(Eager),
    "callers got different tokens": client_of(Inventive),
    "the session was lost": lost_session,
    "a valid stored token was refreshed": client_of(EagerLater),
    "the resource answered 500": broken_resource,
    "the API still accepted her token (200)": client_of(Forgetful),
    "a token was handed out after the logout": client_of(HalfHearted),
}


@pytest.mark.filterwarnings("ignore:insecure_plaintext")
@pytest.mark.parametrize("promise", BROKEN)
def test_a_broken_promise_is_noticed(promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 and the reason; and still nothing is left behind."""
    BROKEN[promise](monkeypatch)
    result = run_demo()
    assert result.exit_code == 1
    assert result.output.endswith(f"Error: the demo failed: {promise}\n")
    assert CHAPTERS[-1] not in result.output
