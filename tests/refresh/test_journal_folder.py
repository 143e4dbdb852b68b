"""What may lie in the journal's folder that is of no use: nothing of it is believed (FS-3), and nothing else fails for it (P12)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pauth import EncryptionKey
from pauth.events import TokenRecovered, TokenUnsaved
from pauth.storage import journal as journal_module
from pauth.storage.files.folder import Folder
from tests.refresh.journal_kit import Database, dies, files, spill
from tests.refresh.kit import KEY, passing, stored_token
from tests.refresh.rotating import Rotating
from tests.support.canary_plugin import Canary


async def test_p16_under_another_key_it_stays_there_and_is_not_an_obstacle(
    rotating: Rotating, down: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dies(await spill(rotating, down, tmp_path))
    before = files(tmp_path)[0].read_bytes()
    other = Database(tmp_path / "other", rotating.clock, encryption_key=EncryptionKey.generate())
    other.store_id = down.store_id  # the same store, opened with another key
    (tmp_path / "other").mkdir()
    token = rotating.issue()
    process = rotating.elsewhere(other, journal=tmp_path / "journal")
    await process.login(KEY, token)
    assert await process.get(KEY) == token
    assert "UnknownEncryptionKey" in caplog.text
    assert files(tmp_path)[0].read_bytes() == before
    await other.aclose()


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "renamed", "of another store", "not ours"])
async def test_a_file_that_cannot_be_read_stays_there_and_the_others_are_read(
    rotating: Rotating, down: Database, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    dies(await spill(rotating, down, tmp_path))
    (good,) = files(tmp_path)
    store = good.name.partition("-")[0]
    bad, data = good.with_name(f"{store}-{'0' * 16}.unsaved"), good.read_bytes()
    if damage == "of another store":
        bad = good.with_name(f"{'f' * 16}-{'0' * 16}.unsaved")
    elif damage == "not ours":
        bad = good.with_name("notes.txt")
    contents = {"empty": b"", "cut": data[:-1], "changed": data[:-1] + bytes([data[-1] ^ 1]), "not ours": b"remember the milk"}
    bad.touch(0o600)
    bad.write_bytes(contents.get(damage, data))
    down.down = False
    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    assert await process.get(KEY) == rotating.last
    await process.drain()
    assert files(tmp_path) == [bad]
    assert ("cannot be read" in caplog.text) == (damage not in {"of another store", "not ours"})


def _plant(file: Path, what: str, elsewhere: Path) -> None:
    """Put something else in the place of a file of the journal, whose content lies elsewhere."""
    elsewhere.touch(0o600)
    elsewhere.write_bytes(file.read_bytes())
    file.unlink()
    if what == "symbolic link":
        file.symlink_to(elsewhere)
    elif what == "hard link":
        os.link(elsewhere, file)
    elif what == "pipe":
        os.mkfifo(file, 0o600)
    elif what == "folder":
        file.mkdir(0o700)
    else:
        file.touch(0o600)
        file.write_bytes(elsewhere.read_bytes())
        file.chmod(0o644)


@pytest.mark.parametrize("what", ["symbolic link", "hard link", "pipe", "folder", "open to all"])
async def test_fs_3_what_somebody_planted_is_passed_over(
    rotating: Rotating, down: Database, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Even with the right content: nothing that pauth does not write itself is read. The session then takes its usual way."""
    dies(await spill(rotating, down, tmp_path))
    (file,) = files(tmp_path)
    _plant(file, what, tmp_path / "elsewhere")
    down.down = False
    rotating.forgiving = True
    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    await passing(rotating.clock, process.get(KEY))
    assert len(rotating.sent) == 2
    assert not rotating.told(TokenRecovered)
    assert file.is_symlink() or file.exists()
    assert "is passed over: a file in the token folder" in caplog.text  # it may be ours, with the permissions of a backup
    await process.drain()


@pytest.mark.parametrize("folder", ["a file", "a link", "open to all"])
async def test_fs_3_a_folder_that_is_not_ours_alone_is_no_journal(
    rotating: Rotating, down: Database, tmp_path: Path, folder: str, caplog: pytest.LogCaptureFixture, canary: Canary
) -> None:
    """It is neither written nor read; the token waits in memory, and nothing else fails for it."""
    place = tmp_path / "journal"
    if folder == "a file":
        place.touch()
    elif folder == "a link":
        (tmp_path / "real").mkdir(0o700)
        place.symlink_to(tmp_path / "real")
    else:
        place.mkdir()
        place.chmod(0o755)
    coordinator = await spill(rotating, down, tmp_path)
    assert [event.journaled for event in rotating.told(TokenUnsaved)] == [False]
    assert "could not be written to the journal either" in caplog.text
    if folder != "a file":
        assert "journal of unsaved tokens cannot be read" in caplog.text
        assert list(place.iterdir()) == []
    canary.check(caplog.text, "log")
    down.down = False
    assert await passing(rotating.clock, coordinator.get(KEY)) == rotating.last
    await coordinator.drain()
    assert len(rotating.sent) == 1


@pytest.mark.parametrize("problem", ["full", "no space"])
async def test_p12_a_journal_that_takes_nothing_more(
    rotating: Rotating, down: Database, tmp_path: Path, problem: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if problem == "full":
        monkeypatch.setattr(journal_module, "_MAX_FILES", 0)
    else:
        import errno

        def no_space(*_: object) -> int:
            raise OSError(errno.ENOSPC, "CANARY-path")

        monkeypatch.setattr(Folder, "replace", no_space)
    coordinator = await spill(rotating, down, tmp_path)
    assert [event.journaled for event in rotating.told(TokenUnsaved)] == [False]
    assert ("has 0 files" if problem == "full" else "No space left on device") in caplog.text
    with caplog.at_level("ERROR"):
        await coordinator.drain()
    assert "it is lost with this process" in caplog.text
    down.down = False
    assert await passing(rotating.clock, coordinator.get(KEY)) == rotating.last  # but this one goes on


async def test_a_file_that_cannot_be_removed_is_found_out_to_be_old(
    rotating: Rotating, down: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator = await spill(rotating, down, tmp_path)
    dies(coordinator)
    down.down = False
    with monkeypatch.context() as patch:

        def fail(*_: object) -> bool:
            raise PermissionError(1, "CANARY-path")

        patch.setattr(Folder, "remove", fail)
        assert await passing(rotating.clock, coordinator.get(KEY)) == rotating.last
    assert "could not be removed" in caplog.text
    assert len(files(tmp_path)) == 1
    rotating.clock.advance(3600)
    newer = await coordinator.get(KEY)
    process = rotating.elsewhere(down, journal=tmp_path / "journal")
    assert await process.get(KEY) == newer
    await process.drain()
    assert files(tmp_path) == []
    assert await stored_token(down) == newer
