"""P4: a rotated token that the store does not take waits in an encrypted journal on the disk, and reaches the store from there, whoever dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from pauth.core.token import Token, token_to_dict
from pauth.errors import ReauthorizationRequired, StorageUnavailable
from pauth.events import TokenRecovered, TokenUnsaved
from pauth.refresh import saving
from pauth.storage import MemoryTokenStorage, RecordKey
from pauth.storage.journal import SpillJournal
from tests.refresh.journal_kit import CRYPTO, Database, dies, files, spill
from tests.refresh.kit import KEY, passing, stored, stored_token, until
from tests.refresh.rotating import Rotating
from tests.support.canary_plugin import Canary

ROOT = Path(__file__).parents[2]


async def _nothing(_: Token) -> None: ...


# In this process


async def test_a_token_is_in_the_journal_as_soon_as_the_store_has_refused_it_once(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    """The process may be killed while it tries again."""
    coordinator = rotating.elsewhere(down, journal=tmp_path / "journal")
    await rotating.stored_expired(down)
    assert files(tmp_path) == []
    down.down = True
    asking = asyncio.create_task(coordinator.get(KEY))
    await until(lambda: rotating.clock.sleepers)
    (file,) = files(tmp_path)
    down.down = False
    rotating.clock.advance(1)
    assert await asking == rotating.last == await stored_token(down)
    assert files(tmp_path) == []
    assert not file.exists()
    assert not rotating.told(TokenUnsaved)  # it was never given up


async def test_what_the_journal_shows_to_others(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    """SH-1, FS-3: a private folder, private files, and neither tokens nor user ids in names or bytes. (The canary looks at them too.)"""
    await spill(rotating, down, tmp_path)
    (file,) = files(tmp_path)
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (unsaved,) = rotating.told(TokenUnsaved)
    assert unsaved.journaled
    assert unsaved.error == "StorageUnavailable"
    assert file.name.endswith(f"-{unsaved.attempt_id}.unsaved")
    assert b"alice" not in file.read_bytes() + file.name.encode()


async def test_one_file_for_each_token_however_often_the_store_refuses(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    coordinator = await spill(rotating, down, tmp_path)
    (file,) = files(tmp_path)
    before = file.stat().st_mtime_ns, file.stat().st_ino
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            await passing(rotating.clock, coordinator.get(KEY))
    assert files(tmp_path) == [file]
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before
    down.down = False
    assert await coordinator.get(KEY) == rotating.last
    await coordinator.drain()  # it may have been stored behind the scenes a moment ago, and the file be on its way out
    assert files(tmp_path) == []
    assert [event.source for event in rotating.told(TokenRecovered)] == ["memory"]


async def test_a_recovered_token_is_told_once_when_two_store_it(
    rotating: Rotating, down: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who tries behind the scenes has stored it, and is at the file in the journal, as a caller comes and finds it stored."""
    coordinator = await spill(rotating, down, tmp_path)
    at_it, go_on, remove = asyncio.Event(), asyncio.Event(), SpillJournal.remove

    async def slow(journal: SpillJournal, name: str) -> None:
        at_it.set()
        await go_on.wait()
        await remove(journal, name)

    monkeypatch.setattr(SpillJournal, "remove", slow)
    down.down = False
    rotating.clock.advance(60)
    await until(at_it.is_set)
    assert await stored_token(down) == rotating.last
    (unsaved,) = coordinator._shared.unsaved.values()  # pyright: ignore[reportPrivateUsage]
    assert await coordinator._waiting.offer(KEY, unsaved)  # pyright: ignore[reportPrivateUsage]
    go_on.set()
    await coordinator.drain()
    assert files(tmp_path) == []
    assert [event.source for event in rotating.told(TokenRecovered)] == ["memory"]


async def test_closing_leaves_it_in_the_journal(rotating: Rotating, down: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    coordinator = await spill(rotating, down, tmp_path)
    await coordinator.drain()
    assert len(files(tmp_path)) == 1
    assert "lost with this process" not in caplog.text


async def test_closing_a_storage_first_does_not_lose_it(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    """The storage then raises a ConfigurationError; sealing goes on."""
    coordinator = rotating.elsewhere(down, journal=tmp_path / "journal")
    await rotating.stored_expired(down)

    async def close() -> None:
        await down.aclose()

    rotating.after.append(close)
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, coordinator.get(KEY))
    assert len(files(tmp_path)) == 1
    await coordinator.drain()
    again = Database(tmp_path, rotating.clock, encryption_key=CRYPTO)
    assert await rotating.elsewhere(again, journal=tmp_path / "journal").get(KEY) == rotating.last
    assert len(rotating.sent) == 1
    await again.aclose()


@pytest.mark.parametrize("storage", ["memory", "plaintext", "a class of one's own", "no journal"])
async def test_without_encryption_there_is_no_journal(rotating: Rotating, tmp_path: Path, storage: str) -> None:
    """VC-7: what is not encrypted in the store is not to lie about on the disk either."""
    made: Any = MemoryTokenStorage(clock=rotating.clock)
    folder: Path | None = tmp_path / "journal"
    if storage == "plaintext":
        with pytest.warns(UserWarning, match="plaintext"):
            made = Database(tmp_path / "elsewhere", rotating.clock, insecure_plaintext=True)
        assert not made.sealed
    elif storage == "a class of one's own":

        class Own(MemoryTokenStorage):
            sealed = True  # and no way to seal

        made = Own(clock=rotating.clock)
    elif storage == "no journal":
        made, folder = Database(tmp_path, rotating.clock, encryption_key=CRYPTO), None
    coordinator = rotating.elsewhere(made, journal=folder)
    if storage != "plaintext":
        await rotating.stored_expired(made)
        real = made.replace

        async def refuse(*arguments: Any, **options: Any) -> Any:
            if "refresh_attempts" in arguments[1]:
                return await real(*arguments, **options)
            raise StorageUnavailable("gone")

        made.replace = refuse
        with pytest.raises(StorageUnavailable):
            await passing(rotating.clock, coordinator.get(KEY))
        assert [event.journaled for event in rotating.told(TokenUnsaved)] == [False]
    assert not coordinator._saver.has_journal  # pyright: ignore[reportPrivateUsage]
    assert files(tmp_path) == []
    await made.aclose()


# The next process


async def test_the_next_process_stores_it_and_asks_nobody(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    dies(await spill(rotating, down, tmp_path))
    down.down = False
    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    assert await process.get(KEY) == rotating.last == await stored_token(down)
    await process.drain()
    assert len(rotating.sent) == 1
    assert files(tmp_path) == []
    (recovered,) = rotating.told(TokenRecovered)
    assert recovered.source == "journal"
    assert recovered.attempt_id == rotating.told(TokenUnsaved)[0].attempt_id


async def test_whoever_asks_first_brings_back_everybodys_tokens(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    rotating.forgiving = True
    users = [type(KEY)(KEY.namespace, f"user-{number}") for number in range(5)]
    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    for user in users:
        await process.login(user, rotating.issue())
    rotating.clock.advance(3600)
    down.down = True
    tokens: dict[Any, Any] = {}
    for user in users:
        with pytest.raises(StorageUnavailable):
            await passing(rotating.clock, process.get(user))
        dies(process)
        tokens[user] = rotating.last
    assert len(files(tmp_path)) == 5
    down.down = False
    other = rotating.elsewhere(down, journal=tmp_path / "journal")
    await asyncio.gather(*(other.get(users[0]) for _ in range(3)))
    await other.drain()
    for user in users:
        assert await other.get(user) == tokens[user]
    assert files(tmp_path) == []
    assert len(rotating.sent) == 5


@pytest.mark.parametrize("writer", ["this version", "an earlier one"])
async def test_p18_what_a_newer_version_keeps_with_the_grant_is_kept_too(
    rotating: Rotating, down: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    if writer == "an earlier one":
        whole = saving._to_payload  # pyright: ignore[reportPrivateUsage]

        def as_before(key: RecordKey, unsaved: saving.Unsaved) -> dict[str, Any]:
            return {name: value for name, value in whole(key, unsaved).items() if name != "others"}

        monkeypatch.setattr(saving, "_to_payload", as_before)
    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    token = rotating.issue()
    await down.replace(KEY, token_to_dict(token) | {"sender_key": "CANARY-key"}, expected_version=0)
    down.down = True
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, process.refresh(KEY))
    dies(process)
    down.down = False
    other = rotating.elsewhere(down, journal=tmp_path / "journal")
    assert await other.get(KEY) == rotating.last
    await other.drain()
    record = await down.load(KEY)
    assert record is not None
    assert record.tokens.get("sender_key") == ("CANARY-key" if writer == "this version" else None)
    assert files(tmp_path) == []


async def test_of_two_event_loops_that_begin_at_once_one_reads_it(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    """The second one finds it read when it is its turn, and does not take up again what has been stored since."""
    dies(await spill(rotating, down, tmp_path))
    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, process.get(KEY))
    waiting = dict(process._shared.unsaved)  # pyright: ignore[reportPrivateUsage]
    process._shared.unsaved.clear()  # pyright: ignore[reportPrivateUsage]
    await process._replay()  # pyright: ignore[reportPrivateUsage]
    assert (len(waiting), process._shared.unsaved) == (1, {})  # pyright: ignore[reportPrivateUsage]
    await process.drain()


async def test_it_waits_on_if_the_store_is_still_down(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    dies(await spill(rotating, down, tmp_path))
    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    with pytest.raises(StorageUnavailable):
        await passing(rotating.clock, process.get(KEY))
    assert len(files(tmp_path)) == 1
    down.down = False
    assert await process.get(KEY) == rotating.last
    await process.drain()  # it may have been stored behind the scenes a moment ago, and the file be on its way out
    assert files(tmp_path) == []
    assert len(rotating.sent) == 1


async def test_a_process_beside_it_takes_it_from_the_journal(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    """Both on one machine: the one that has the token cannot store it, the lease runs out, and the other one would send the used token."""
    other = rotating.elsewhere(down, journal=tmp_path / "journal")
    with pytest.raises(ReauthorizationRequired):
        await other.get(KEY)  # it has read the journal, which was empty
    first = await spill(rotating, down, tmp_path)
    theirs = Database(tmp_path, rotating.clock, encryption_key=CRYPTO)
    other._storage = theirs  # pyright: ignore[reportPrivateUsage]
    beside = rotating.elsewhere(theirs, journal=tmp_path / "journal")
    beside._shared.replayed = True  # pyright: ignore[reportPrivateUsage]
    assert await passing(rotating.clock, beside.get(KEY)) == rotating.last == await stored_token(theirs)
    assert len(rotating.sent) == 1
    assert [event.source for event in rotating.told(TokenRecovered)] == ["journal"]
    down.down = False
    assert await passing(rotating.clock, first.get(KEY)) == rotating.last
    await first.drain()
    assert files(tmp_path) == []
    await theirs.aclose()


async def test_rv_3_a_token_in_the_journal_is_the_one_that_is_revoked(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    """The server's newest one, though the process was made for nothing but this."""
    dies(await spill(rotating, down, tmp_path))
    down.down = False
    revoked: list[Token] = []

    async def revoke(token: Token) -> None:
        revoked.append(token)

    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    await passing(rotating.clock, process.end(KEY, revoke))
    await process.drain()
    assert revoked == [rotating.last]
    assert await stored(down) is None
    assert files(tmp_path) == []


async def test_rv_3_who_logs_out_does_not_wait_for_the_lease_that_is_kept_for_a_waiting_token(
    rotating: Rotating, down: Database, tmp_path: Path
) -> None:
    """It is this process that has it."""
    process = await spill(rotating, down, tmp_path)
    dies(process)  # but for what is asked of it: nothing is stored behind the scenes
    down.down = False
    before, revoked = rotating.clock.monotonic(), list[Token]()

    async def revoke(token: Token) -> None:
        revoked.append(token)

    await process.end(KEY, revoke)
    await process.drain()
    assert revoked == [rotating.last]
    assert rotating.clock.monotonic() == before
    assert await stored(down) is None
    assert files(tmp_path) == []


async def test_p6_a_login_since_then_stands(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    dies(await spill(rotating, down, tmp_path))
    down.down = False
    login = rotating.issue()
    await rotating.elsewhere(down).login(KEY, login)
    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    assert await process.get(KEY) == login
    await process.drain()
    assert await stored_token(down) == login
    assert files(tmp_path) == []
    assert not rotating.told(TokenRecovered)


async def test_p6_a_revocation_since_then_stands(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    dies(await spill(rotating, down, tmp_path))
    down.down = False
    await passing(rotating.clock, rotating.elsewhere(down).end(KEY, _nothing))
    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    with pytest.raises(ReauthorizationRequired):
        await process.get(KEY)
    await process.drain()
    assert await stored(down) is None
    assert files(tmp_path) == []


async def test_two_processes_that_find_it_at_once(rotating: Rotating, down: Database, tmp_path: Path) -> None:
    dies(await spill(rotating, down, tmp_path))
    down.down = False
    processes = [rotating.elsewhere(down, journal=tmp_path / "journal") for _ in range(4)]
    tokens = await passing(rotating.clock, asyncio.gather(*(process.get(KEY) for process in processes for _ in range(3))))
    assert tokens == [rotating.last] * 12
    assert len(rotating.sent) == 1
    for process in processes:
        await process.drain()
    assert files(tmp_path) == []


# Processes that are killed


async def _run(what: str, folder: Path, now: float) -> tuple[int | None, dict[str, Any]]:
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT), "PAUTH_ENCRYPTION_KEY": CRYPTO.to_string().reveal()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.refresh.journal_program", what, folder, str(now), env=environment, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode, json.loads(output)


@pytest.mark.parametrize("what", ["recover", "revoke"])
async def test_p4_p5_a_token_of_a_process_that_was_killed_while_the_store_was_down(tmp_path: Path, what: str, canary: Canary) -> None:
    code, spilled = await _run("spill", tmp_path, 1_767_225_600.0)
    assert code == -signal.SIGKILL
    (file,) = (each for each in files(tmp_path) if each.suffix == ".unsaved")
    code, found = await _run(what, tmp_path, spilled["now"] + 30)
    assert code == 0
    assert not file.exists()
    if what == "recover":
        assert found["version"] == spilled["version"]
        assert ["token_recovered", "journal"] in found["told"]
        code, found = await _run(what, tmp_path, spilled["now"] + 60)
        assert (code, found["version"], found["told"]) == (0, spilled["version"], [])
    else:
        assert found["revoked"] == [spilled["version"]]
        assert ["token_revoked", None] in found["told"]
    canary.check(json.dumps(found), "output of the program")
