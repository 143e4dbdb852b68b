"""What the file storage does beyond the contract: names, secrets on the disk, options, keys, deletion, sweeping, event loops."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.errors import ConfigurationError, RecordTampered, StorageUnavailable, TokenStorageError, UnknownEncryptionKey, UnsupportedRecord
from pauth.storage import RecordKey, reencrypt
from pauth.storage.base import Write
from pauth.storage.codec import Codec, RecordKind
from pauth.storage.files import EncryptedFileStorage
from pauth.storage.keys import Keyring
from pauth.testing.clock import ManualClock
from tests.storage.files.kit import ALICE, BOB, files, found, leftovers, token_files
from tests.storage.kit import CONFUSABLE_IDS, KEY, OTHER_KEY, TOKENS, plain


async def test_names_carry_no_text_of_a_user_fs_1(tmp_path: Path) -> None:
    ids = {*CONFUSABLE_IDS, "CON", "nul", "alice.", "a:stream", "ü" * 500}
    async with aclosing(files(tmp_path)) as storage:
        await storage.put_many([Write(RecordKey("space", user_id), {"n": 1}) for user_id in ids])
        assert await storage.count("space") == len(ids)
    names = [path.name for path in (tmp_path / "tokens").rglob("*")]
    assert all(re.fullmatch(r"[0-9a-f]{64}\.token|[0-9a-f]{2}|lock|folder", name) for name in names)
    assert len({name.lower() for name in names if name.endswith(".token")}) == len(ids)


async def test_neither_tokens_nor_users_are_readable_on_the_disk_sh_1(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.replace(RecordKey("the-namespace", "user-77"), TOKENS, expected_version=0)
        await storage.put_pending("login", {"code_verifier": "CANARY-verifier"}, expires_at=4e9)
        await storage.take_lease(RecordKey("the-namespace", "user-77"), "owner", ttl=5)
        content = b"".join(path.read_bytes() for path in found(tmp_path, "*") if path.is_file())
    hidden = (b"the-namespace", b"user-77", b"the-namespace".hex().encode(), b"user-77".hex().encode(), b"CANARY")
    assert [text for text in hidden if text in content] == []


async def test_names_differ_between_folders_fs_1(tmp_path: Path) -> None:
    """Who has only the disk cannot find out whether somebody is a user: names are keyed."""
    for folder in ("one", "two"):
        async with aclosing(files(tmp_path / folder)) as storage:
            await storage.save_token("alice", {"a": 1})
    assert len({path.name for path in token_files(tmp_path)}) == 2


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
async def test_modes_whatever_the_umask_fs_2(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        async with aclosing(EncryptedFileStorage(tmp_path / "a" / "b", KEY)) as storage:
            await storage.save_token("alice", {"a": 1})
            await storage.put_pending("login", {}, expires_at=4e9)
            await storage.take_lease(ALICE, "owner", ttl=5)
            await storage.delete_token("alice")
            await storage.save_token("alice", {"a": 1})
            modes = {(path.is_dir(), path.stat().st_mode & 0o7777) for path in (tmp_path / "a").rglob("*")}
    finally:
        os.umask(before)
    assert modes == {(True, 0o700), (False, 0o600)}


async def test_what_is_deleted_leaves_its_version_for_a_day(tmp_path: Path) -> None:
    clock = ManualClock()
    async with aclosing(files(tmp_path, clock=clock)) as storage:
        for _ in range(3):
            await storage.replace(ALICE, TOKENS, expected_version=None)
        assert await storage.remove(ALICE)
        assert token_files(tmp_path) == []
        (gone,) = found(tmp_path, "*.gone")
        assert gone.stat().st_size < 100
        assert await storage.list_users() is not None
        assert await storage.count() == 0
    clock.advance(86_399)
    async with aclosing(files(tmp_path, clock=clock)) as storage:
        record = await storage.replace(ALICE, {"n": 4}, expected_version=0)
        assert record is not None
        assert record.version == 4
        await storage.remove(ALICE)
    clock.advance(86_400)
    async with aclosing(files(tmp_path, clock=clock)) as storage:  # each sweeps a shard when it first writes there
        record = await storage.replace(ALICE, {"n": 1}, expected_version=0)
        assert record is not None
        assert record.version == 1
    assert found(tmp_path, "*.gone") == []


async def test_expired_logins_and_leftovers_are_swept_fs_4(tmp_path: Path) -> None:
    clock = ManualClock()
    async with aclosing(files(tmp_path, clock=clock)) as storage:
        await storage.put_pending("login", {"n": 1}, expires_at=clock.time() + 600)
        await storage.put_pending("login", {"n": 2}, expires_at=clock.time() + 600)
    (login,) = found(tmp_path, "*.login")
    leftover = login.with_name(".0123456789abcdef.tmp")
    leftover.touch()
    damaged = login.with_name("f" * 64 + ".gone")
    damaged.write_bytes(b"nobody knows")
    damaged.chmod(0o600)
    clock.advance(599)
    async with aclosing(files(tmp_path, clock=clock)) as storage:
        assert await storage.take_pending("login") == {"n": 2}
        await storage.put_pending("login", {"n": 3}, expires_at=clock.time() + 1)
        assert leftovers(tmp_path) == []
        leftover.touch()
        clock.advance(1)
        assert await storage.take_pending("login") is None
        await storage.put_pending("login", {"n": 4}, expires_at=clock.time() + 1)
        assert leftovers(tmp_path) == [leftover]  # not at every write
    clock.advance(1)
    async with aclosing(files(tmp_path, clock=clock)) as storage:
        assert await storage.take_pending("login") is None
    assert found(tmp_path, "*.login") == []
    assert damaged.exists()  # not pauth's to delete


async def test_another_key_reads_nothing_vc_6(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.save_token("alice", TOKENS)
    async with aclosing(files(tmp_path, key=OTHER_KEY)) as storage:
        for _ in range(2):
            with pytest.raises(UnknownEncryptionKey):
                await storage.get_token("alice")
        with pytest.raises(UnknownEncryptionKey):
            await storage.save_token("alice", {"a": 1})
        with pytest.raises(UnknownEncryptionKey):
            await storage.list_users()
    with pytest.warns(UserWarning, match="insecure_plaintext"):
        unencrypted = EncryptedFileStorage(tmp_path / "tokens", insecure_plaintext=True)
    async with aclosing(unencrypted) as storage:
        with pytest.raises(UnknownEncryptionKey):
            await storage.get_token("alice")


@pytest.mark.plaintext_files
async def test_a_plaintext_folder_is_not_trusted_by_an_encrypted_storage_vc_6(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="insecure_plaintext"):
        unencrypted = EncryptedFileStorage(tmp_path / "tokens", insecure_plaintext=True)
    async with aclosing(unencrypted) as storage:
        await storage.save_token("alice", TOKENS)
    async with aclosing(files(tmp_path)) as storage:
        with pytest.raises(RecordTampered, match="plaintext"):
            await storage.get_token("alice")


async def test_keys_are_rotated_and_the_old_one_can_go_p16(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.save_token("alice", TOKENS)
        await storage.save_token("bob", TOKENS)
        (old,) = {listed.key_id for listed in (await storage.list_users()).items}
    async with aclosing(files(tmp_path, key=[OTHER_KEY, KEY])) as storage:
        assert await storage.get_token("alice") == TOKENS
        await storage.save_token("alice", TOKENS)
        assert {listed.key_id for listed in (await storage.list_users()).items} == {old, OTHER_KEY.key_id.hex()}
    async with aclosing(files(tmp_path, key=[OTHER_KEY])) as storage:
        assert await storage.get_token("alice") == TOKENS
        with pytest.raises(UnknownEncryptionKey):
            await storage.get_token("bob")


async def test_a_folder_of_a_newer_layout_is_refused_p18(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    folder.mkdir(mode=0o700)
    manifest = folder / "folder"
    manifest.write_bytes(Codec(Keyring([KEY])).encode(RecordKind.FOLDER, "folder", 0, {"layout": 2}))
    manifest.chmod(0o600)
    async with aclosing(files(tmp_path)) as storage:
        with pytest.raises(UnsupportedRecord, match="layout 2"):
            await storage.get_token("alice")


async def test_a_folder_that_lost_its_secret_is_not_started_anew(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.save_token("alice", {"a": 1})
        (tmp_path / "tokens" / "folder").unlink()
        with pytest.raises(RecordTampered, match="restore it from a backup"):
            await reencrypt(storage)
    async with aclosing(files(tmp_path)) as storage:
        with pytest.raises(RecordTampered, match="restore it from a backup"):
            await storage.save_token("alice", {"a": 1})


async def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir(mode=0o700)
    (tmp_path / "tokens" / "thesis.txt").touch()
    async with aclosing(files(tmp_path)) as storage:
        with pytest.raises(ConfigurationError, match="a folder of its own"):
            await storage.save_token("alice", {"a": 1})


async def test_too_large_a_record_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.save_token("alice", {"a": 1})
        with pytest.raises(TokenStorageError, match="at most 8388608 bytes"):
            await storage.save_token("alice", {"a": "x" * 8_388_608})
        assert await storage.get_token("alice") == {"a": 1}


async def test_of_a_batch_each_fails_alone(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        keys = [RecordKey("", f"user {number}") for number in range(40)]
        written = await storage.put_many([Write(key, {"n": number}, 0) for number, key in enumerate(keys)])
        assert [getattr(record, "version", None) for record in written] == [1] * 40
        broken = token_files(tmp_path)[7]
        broken.write_bytes(b"")
        read = await storage.get_many(keys)
        assert [type(record) for record in read].count(RecordTampered) == 1
        bad = next(number for number, record in enumerate(read) if isinstance(record, RecordTampered))
        again = await storage.put_many([Write(key, {"n": -number}, 1) for number, key in enumerate(keys)])
        assert [number for number, record in enumerate(again) if isinstance(record, RecordTampered)] == [bad]
        deleted = await storage.delete_many([*keys, ALICE])
        assert deleted == [True] * 40 + [False]


async def test_lineage_guards_a_write(tmp_path: Path) -> None:
    one, two = b"1" * 16, b"2" * 16
    async with aclosing(files(tmp_path)) as storage:
        assert await storage.replace(ALICE, {"n": 1}, expected_version=None, expected_lineage=one) is None
        await storage.replace(ALICE, {"n": 1}, expected_version=0, lineage=one)
        assert await storage.replace(ALICE, {"n": 2}, expected_version=None, expected_lineage=two) is None
        assert await storage.replace(ALICE, {"n": 2}, expected_version=1, expected_lineage=one, lineage=two) is not None
        record = await storage.load(ALICE)
        assert record is not None
        assert (plain(record), record.lineage, record.version) == ({"n": 2}, two, 2)


async def test_threads_with_loops_of_their_own_share_a_storage_p15(tmp_path: Path) -> None:
    storage = files(tmp_path)

    async def count_up() -> None:
        won = 0
        while won < 10:
            record = await storage.load(ALICE)
            version, count = (record.version, record.tokens["count"]) if record else (0, 0)
            won += await storage.replace(ALICE, {"count": count + 1}, expected_version=version) is not None

    threads = [threading.Thread(target=lambda: asyncio.run(count_up())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    record = await storage.load(ALICE)
    await storage.aclose()
    assert record is not None
    assert (record.version, record.tokens["count"]) == (40, 40)


async def test_a_folder_deleted_in_use_is_an_error_not_a_new_folder(tmp_path: Path) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.save_token("alice", {"a": 1})
        for path in sorted((tmp_path / "tokens").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "tokens").rmdir()
        with pytest.raises(StorageUnavailable):
            await storage.save_token("bob", {"a": 1})
        assert await storage.load(BOB) is None
    assert not (tmp_path / "tokens").exists()


async def test_concurrent_first_operations_agree_on_one_folder(tmp_path: Path) -> None:
    storages = [files(tmp_path) for _ in range(6)]
    await asyncio.gather(*(storage.save_token(f"user {number}", {"n": number}) for number, storage in enumerate(storages)))
    for storage in storages:
        assert await storage.count() == 6
        await storage.aclose()
