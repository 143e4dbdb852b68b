"""Listings by page: complete while records change, at any size."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.storage import RecordKey
from pauth.storage.base import Write
from pauth.storage.codec import Codec, RecordKind
from pauth.storage.files import EncryptedFileStorage
from pauth.storage.files.format import Content, pack
from pauth.storage.files.root import TOKEN
from pauth.storage.identity import row_id
from pauth.storage.keys import Keyring
from tests.storage.files.kit import files, open_root, token_files
from tests.storage.kit import KEY


def fill(folder: Path, users: int) -> None:
    """Records of ``users`` users as the storage would have written them, without waiting for the disk each time."""
    codec = Codec(Keyring([KEY]))
    root = open_root(folder)
    for number in range(256):
        (folder / f"{number:02x}").mkdir(0o700, exist_ok=True)
    for number in range(users):
        user_id, namespace = f"user {number}", f"space {number % 2}"
        name = root.name(row_id(namespace, user_id))
        owner = codec.encode(RecordKind.OWNER, name, 0, {"namespace": namespace.encode().hex(), "user_id": user_id.encode().hex()})
        content = Content(1, 0, 1_000 * number, None, KEY.key_id, memoryview(owner), memoryview(b"tokens"))
        descriptor = os.open(folder / name[:2] / f"{name}{TOKEN}", os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(descriptor, pack(content, name=name + TOKEN, tag_key=root.tag_key))
        os.close(descriptor)
    root.close()


async def test_thousands_of_users_by_page_while_they_change(memory_folder: Path) -> None:
    """4,000, because a run has no time for more; ``PAUTH_TEST_USERS=100000`` for as many as the storage is made for."""
    users = int(os.environ.get("PAUTH_TEST_USERS", "4000"))
    staying = users * 9 // 10
    await asyncio.to_thread(fill, memory_folder / "tokens", users)
    async with aclosing(EncryptedFileStorage(memory_folder / "tokens", KEY, timeout=600)) as storage:
        done = asyncio.Event()

        async def change() -> int:
            """Users in the last tenth come and go; those before are saved again."""
            changes = 0
            while not done.is_set():
                key = RecordKey(f"space {changes % 2}", f"user {changes * 7 % staying // 2 * 2 + changes % 2}")
                assert await storage.replace(key, {"n": "again"}, expected_version=None) is not None
                going = users - 1 - changes % (users - staying)
                await storage.remove(RecordKey(f"space {going % 2}", f"user {going}"))
                await storage.replace(RecordKey("space 2", f"newcomer {changes}"), {}, expected_version=0)
                changes += 1
            return changes

        changing = asyncio.create_task(change())
        seen: Counter[RecordKey] = Counter()
        cursor = None
        while True:
            page = await storage.list_users(cursor=cursor, limit=users // 20)
            seen.update(listed.key for listed in page.items)
            cursor = page.next_cursor
            if cursor is None:
                break
        done.set()
        assert await changing > 0
        assert max(seen.values()) == 1
        assert {RecordKey(f"space {number % 2}", f"user {number}") for number in range(staying)} <= seen.keys()
        assert staying <= await storage.count() <= users + changing.result()


@pytest.mark.parametrize("limit", [1, 7, 300, 301])
async def test_pages_of_any_size_hold_everything_once(tmp_path: Path, limit: int) -> None:
    await asyncio.to_thread(fill, tmp_path / "tokens", 300)
    async with aclosing(files(tmp_path)) as storage:
        for namespace in (None, "space 1", "nobody's"):
            keys: list[RecordKey] = []
            cursor = None
            while True:
                page = await storage.list_users(namespace, cursor=cursor, limit=limit)
                keys += [listed.key for listed in page.items]
                if (cursor := page.next_cursor) is None:
                    break
            expected = {RecordKey(f"space {number % 2}", f"user {number}") for number in range(300)}
            assert len(keys) == len(set(keys)) == await storage.count(namespace)
            assert set(keys) == {key for key in expected if namespace in (None, key.namespace)}


@pytest.mark.parametrize("limit", [1, 7, 200])
async def test_what_expires_is_listed_in_order(tmp_path: Path, limit: int) -> None:
    async with aclosing(files(tmp_path)) as storage:
        await storage.put_many([Write(RecordKey("a", f"{number}"), {}, 0, float(number // 3)) for number in range(60)])
        await storage.save_token("never", {})
        found: list[tuple[float, str]] = []
        cursor = None
        while True:
            page = await storage.list_expiring(15.0, cursor=cursor, limit=limit)
            found += [(expiring.expires_at, expiring.key.user_id) for expiring in page.items]
            if (cursor := page.next_cursor) is None:
                break
    assert [moment for moment, _ in found] == [float(number // 3) for number in range(45)]
    assert len({user_id for _, user_id in found}) == 45


async def test_records_that_go_between_finding_and_reading_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(fill, tmp_path / "tokens", 20)
    gone = token_files(tmp_path)[4]
    async with aclosing(files(tmp_path)) as storage:
        names = os.listdir

        def names_then_delete(path: int) -> list[str]:
            found = names(path)
            if gone.name in found:
                gone.unlink(missing_ok=True)
                return [*found, gone.name] if gone.name not in found else found
            return found

        monkeypatch.setattr(os, "listdir", names_then_delete)
        content = gone.read_bytes()
        for listing in (storage.list_users(), storage.list_expiring(1e9)):
            gone.write_bytes(content)
            gone.chmod(0o600)
            assert len((await listing).items) == 19
        gone.write_bytes(content)
        gone.chmod(0o600)
        assert await storage.count("space 0") + await storage.count("space 1") == 19
