"""One record read without an event loop: the same answers as the storage's own, and nothing made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pauth.errors import ConfigurationError, RecordTampered, TokenStorageError, UnknownEncryptionKey, UnsupportedRecord
from pauth.storage import EncryptionKey, RecordKey, reencrypt
from pauth.storage.files import EncryptedFileStorage
from pauth.storage.files.reading import TokenReader
from pauth.storage.keys import Keyring
from tests.storage.files.kit import ALICE, BOB, files, open_root, token_files
from tests.storage.kit import KEY, OTHER_KEY, TOKENS


def filled(folder: Path) -> Path:
    async def fill() -> None:
        storage = files(folder)
        await storage.replace(ALICE, TOKENS, expected_version=0)
        await storage.replace(ALICE, {**TOKENS, "newer": True}, expected_version=1)
        await storage.aclose()

    asyncio.run(fill())
    return folder / "tokens"


def read(folder: Path, key: RecordKey = ALICE, *keys: EncryptionKey) -> object:
    reader = TokenReader(str(folder), Keyring(keys or [KEY]))
    try:
        return reader.get(key)
    finally:
        reader.close()


def test_the_newest_version_and_nobody_elses(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    assert read(folder) == {**TOKENS, "newer": True}
    assert read(folder, BOB) is None
    assert read(folder, RecordKey("provider-b", "alice")) is None


def test_after_a_key_change(tmp_path: Path) -> None:
    folder = filled(tmp_path)

    async def rotate() -> None:
        storage = EncryptedFileStorage(folder, [OTHER_KEY, KEY])
        await reencrypt(storage)
        await storage.aclose()

    asyncio.run(rotate())
    assert read(folder, ALICE, OTHER_KEY) == {**TOKENS, "newer": True}
    assert read(folder, ALICE, KEY, OTHER_KEY) == {**TOKENS, "newer": True}
    with pytest.raises(UnknownEncryptionKey):
        read(folder)


def test_a_deleted_record(tmp_path: Path) -> None:
    folder = filled(tmp_path)

    async def delete() -> None:
        storage = files(tmp_path)
        await storage.remove(ALICE)
        await storage.aclose()

    asyncio.run(delete())
    assert read(folder) is None


def test_no_folder_and_none_of_ours(tmp_path: Path) -> None:
    with pytest.raises(TokenStorageError, match="No such file"):
        read(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "empty").mkdir(mode=0o700)
    with pytest.raises(RecordTampered, match="has no file 'folder'"):
        read(tmp_path / "empty")
    (tmp_path / "empty").chmod(0o755)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        read(tmp_path / "empty")


def test_vc2_a_record_that_was_changed_or_moved(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    (file,) = token_files(folder)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RecordTampered):
        read(folder)
    root = open_root(folder)
    from pauth.storage.identity import row_id

    name = root.name(row_id(BOB.namespace, BOB.user_id))
    root.close()
    (folder / name[:2]).mkdir(mode=0o700, exist_ok=True)
    moved = folder / name[:2] / f"{name}.token"
    moved.write_bytes(content)
    moved.chmod(0o600)
    with pytest.raises(RecordTampered):
        read(folder, BOB)


def test_p18_a_folder_of_a_newer_version(tmp_path: Path) -> None:
    folder = filled(tmp_path)
    from pauth.storage.codec import Codec, RecordKind

    sealed = Codec(Keyring([KEY])).encode(RecordKind.FOLDER, "folder", 0, {"layout": 2, "secret": "00"})
    (folder / "folder").write_bytes(sealed)
    with pytest.raises(UnsupportedRecord, match="layout 2"):
        read(folder)


def test_names_of_the_package_are_loaded_when_used() -> None:
    from pauth.storage import files as package

    with pytest.raises(AttributeError, match="has no attribute 'EncryptedFilesStorage'"):
        _ = package.EncryptedFilesStorage  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
