"""A folder of sealed files for what a store did not take. (What a refresh does with it is tested in tests/refresh.)"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

import pytest

from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable
from pauth.storage import journal as module
from pauth.storage.journal import SpillJournal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "not" / "yet" / "there"


async def test_what_is_written_is_read_by_another_process_until_it_is_removed(folder: Path) -> None:
    ours, theirs = SpillJournal(folder, "store1"), SpillJournal(os.fspath(folder), "store1")
    names = [ours.name_of(f"attempt{number}") for number in range(3)]
    for number, name in enumerate(names):
        await ours.write(name, b"sealed %d" % number)
    assert await theirs.read() == {name: b"sealed %d" % number for number, name in enumerate(names)}
    assert await theirs.read_one(names[1]) == b"sealed 1"
    await theirs.remove(names[1])
    assert await ours.read_one(names[1]) is None
    assert set(await ours.read()) == {names[0], names[2]}


async def test_writing_again_replaces_it(folder: Path) -> None:
    journal = SpillJournal(folder, "store1")
    name = journal.name_of("attempt1")
    for data in (b"old" * 1000, b"new", b""):
        await journal.write(name, data)
        assert await journal.read() == {name: data}
    assert [each.name for each in folder.iterdir()] == [f"{name}.unsaved"]  # no temporary file is left


async def test_a_name_says_which_store_and_which_attempt(folder: Path) -> None:
    assert SpillJournal(folder, "store1").name_of("0123abcd") == "store1-0123abcd"
    assert repr(SpillJournal(folder, "store1")) == "<SpillJournal>"


async def test_stores_share_a_folder_and_do_not_see_each_others_files(folder: Path) -> None:
    one, two, longer = (SpillJournal(folder, store) for store in ("store1", "store2", "store10"))
    await one.write(one.name_of("a"), b"one")
    await longer.write(longer.name_of("a"), b"longer")
    assert await one.read() == {"store1-a": b"one"}
    assert await two.read() == {}
    assert await longer.read() == {"store10-a": b"longer"}


async def test_without_a_folder_there_is_nothing_and_none_is_made(folder: Path) -> None:
    journal = SpillJournal(folder, "store1")
    assert await journal.read() == {}
    assert await journal.read_one(journal.name_of("a")) is None
    assert not folder.exists()


async def test_removing_what_is_gone_is_no_error(folder: Path) -> None:
    journal = SpillJournal(folder, "store1")
    await journal.remove(journal.name_of("a"))
    await journal.write(journal.name_of("b"), b"x")
    await journal.remove(journal.name_of("a"))
    assert set(await journal.read()) == {"store1-b"}


async def test_fs_2_folder_and_files_are_private_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        journal = SpillJournal(folder, "store1")
        await journal.write(journal.name_of("a"), b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "store1-a.unsaved").stat().st_mode) == 0o600


async def test_p19_the_journal_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_FILES", 3)
    journal = SpillJournal(folder, "store1")
    for name in "abc":
        await journal.write(journal.name_of(name), b"x")
    with pytest.raises(StorageUnavailable, match="has 3 files"):
        await journal.write(journal.name_of("d"), b"x")
    assert len(await journal.read()) == 3
    await journal.remove(journal.name_of("a"))
    await journal.write(journal.name_of("d"), b"x")


async def test_files_that_no_pauth_wrote_are_passed_over(folder: Path, tmp_path: Path) -> None:
    journal = SpillJournal(folder, "store1")
    await journal.write(journal.name_of("good"), b"good")
    secret = tmp_path / "secret"
    secret.write_bytes(b"somebody else's")
    (folder / "store1-link.unsaved").symlink_to(secret)
    (folder / "store1-folder.unsaved").mkdir()
    (folder / "store1-open.unsaved").write_bytes(b"open")
    (folder / "store1-open.unsaved").chmod(0o666)
    (folder / "store1-half.tmp").write_bytes(b"a name of another kind")
    assert await journal.read() == {"store1-good": b"good"}
    for name in ("link", "folder", "open"):
        assert await journal.read_one(journal.name_of(name)) is None


@pytest.mark.parametrize("what", ["a file", "a link", "open to others"])
async def test_fs_3_a_folder_that_is_not_ours_alone_is_refused(tmp_path: Path, what: str) -> None:
    place = tmp_path / "journal"
    if what == "a file":
        place.write_bytes(b"")
    else:
        (tmp_path / "real").mkdir(0o755)
        (tmp_path / "real").chmod(0o755)
        place.symlink_to(tmp_path / "real") if what == "a link" else (tmp_path / "real").rename(place)
    journal = SpillJournal(place, "store1")
    with pytest.raises(ConfigurationError, match="folder of the journal"):
        await journal.write(journal.name_of("a"), b"x")
    if what != "a file":
        for reading in (journal.read(), journal.read_one(journal.name_of("a"))):
            with pytest.raises(ConfigurationError, match="folder of the journal"):
                await reading


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
async def test_p12_an_error_of_the_disk_is_said_without_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    journal = SpillJournal(folder, "store1")
    await journal.write(journal.name_of("a"), b"old")

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code), "CANARY-path")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(StorageUnavailable, match=re.escape(os.strerror(code))) as caught:
            await journal.write(journal.name_of("a"), b"new")
    error: PAuthError = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert await journal.read() == {"store1-a": b"old"}  # what was there is whole
    assert len(list(folder.iterdir())) == 1


async def test_a_disk_that_cannot_be_read_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SpillJournal(folder, "store1")
    await journal.write(journal.name_of("a"), b"x")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "CANARY-path")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        await journal.read()
