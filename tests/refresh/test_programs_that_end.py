"""P4: a program ends, or is interrupted, while the answer with the rotated token is on the way: ``asyncio.run`` waits, and it is stored."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pauth import EncryptionKey
from pauth.testing import AuthorizationServer, Client, faults
from tests.refresh.ending_program import client_of
from tests.refresh.kit import CALLBACK, is_hash_of
from tests.support.canary_plugin import Canary

ROOT = Path(__file__).parents[2]
KINDS = ("sqlite", "files", "a class of one's own")

pytestmark = pytest.mark.plaintext_files  # the user's own class keeps JSON


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer(rotation="RSF", secret_marker="CANARY-") as made:
        yield made


@pytest.fixture
def registered(server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch) -> Client:
    client = server.register_client(redirect_uris=[CALLBACK])
    monkeypatch.setenv("TEST_CLIENT_SECRET", client.client_secret or "")
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", EncryptionKey.generate().to_string().reveal())
    return client


async def _program(*arguments: str | Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.refresh.ending_program",
        *(os.fspath(each) for each in arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _end(program: asyncio.subprocess.Process, how: str) -> None:
    """Let the main coroutine return, and wait until it has."""
    assert program.stdin is not None
    assert program.stdout is not None
    if how == "interrupted":
        program.send_signal(signal.SIGINT)
    else:
        program.stdin.write(b"\n")
        assert await program.stdout.readline() == b"main has returned\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["returned", "interrupted"])
async def test_p4_a_refresh_is_waited_for(
    server: AuthorizationServer, registered: Client, tmp_path: Path, kind: str, how: str, canary: Canary
) -> None:
    async with client_of(kind, server.issuer, registered.client_id, tmp_path) as client:
        url = await client.get_authorization_url(user_id="alice")
        await client.handle_callback(await server.authorize(url, user="alice"))
    hold = server.script("token", faults.hold(applied=True))
    program = await _program("refresh", kind, server.issuer, registered.client_id, tmp_path)
    await hold.arrived.wait()
    await _end(program, how)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(program.wait(), 0.05)  # it does not end before it has the answer
    hold.release()
    _, errors = await program.communicate()
    canary.check(errors, "standard error of the program")
    assert (program.returncode == 0) == (how == "returned")
    (refresh,) = server.ledger.select(endpoint="token", grant_type="refresh_token")
    async with client_of(kind, server.issuer, registered.client_id, tmp_path) as client:
        token = await client.get_token("alice")
        assert is_hash_of(refresh.access_token_out, token.access_token)
        assert is_hash_of(refresh.refresh_token_out, token.refresh_token)
        assert await client.refresh("alice") != token
    assert not server.family_revoked("alice")


@pytest.mark.parametrize("kind", KINDS)
async def test_p4_a_login_is_waited_for(server: AuthorizationServer, registered: Client, tmp_path: Path, kind: str, canary: Canary) -> None:
    """Its code is spent: without the tokens the user would have to log in again."""
    async with client_of(kind, server.issuer, registered.client_id, tmp_path) as client:
        callback = await server.authorize(await client.get_authorization_url(user_id="alice"), user="alice")
    hold = server.script("token", faults.hold(applied=True))
    program = await _program("login", kind, server.issuer, registered.client_id, tmp_path, callback)
    await hold.arrived.wait()
    await _end(program, "returned")
    hold.release()
    _, errors = await program.communicate()
    canary.check(errors, "standard error of the program")
    assert program.returncode == 0
    (exchange,) = server.ledger.select(endpoint="token", grant_type="authorization_code")
    async with client_of(kind, server.issuer, registered.client_id, tmp_path) as client:
        token = await client.get_token("alice")
        assert is_hash_of(exchange.access_token_out, token.access_token)


async def test_a_program_does_not_wait_for_what_it_has_not_sent(server: AuthorizationServer, registered: Client, tmp_path: Path) -> None:
    """It hangs at the metadata: nothing can be lost, so it ends at once."""
    async with client_of("sqlite", server.issuer, registered.client_id, tmp_path) as client:
        url = await client.get_authorization_url(user_id="alice")
        await client.handle_callback(await server.authorize(url, user="alice"))
    hold = server.script("metadata", faults.hold())
    program = await _program("refresh", "sqlite", server.issuer, registered.client_id, tmp_path)
    await hold.arrived.wait()
    await _end(program, "returned")
    await program.communicate()
    assert program.returncode == 0
    assert not server.ledger.select(endpoint="token", grant_type="refresh_token")
    hold.release()
    async with client_of("sqlite", server.issuer, registered.client_id, tmp_path) as client:
        await client.refresh("alice")
