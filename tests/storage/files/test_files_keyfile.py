"""Where the key comes from when none is given."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable
from pauth.storage import EncryptionKey
from pauth.storage.files import EncryptedFileStorage
from pauth.storage.files.keyfile import default_key_file, keyring_from_file
from tests.storage.files.kit import ROOT
from tests.storage.kit import KEY, OTHER_KEY, TOKENS


@pytest.fixture(autouse=True)
def no_key_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PAUTH_ENCRYPTION_KEY", raising=False)
    monkeypatch.delenv("PAUTH_ENCRYPTION_KEYS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def text(*keys: EncryptionKey) -> str:
    return "\n".join(key.to_string().reveal() for key in keys)


def write_private(path: Path, content: str) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o600)
    return path


def test_the_key_file_stands_in_the_configuration_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_key_file() == tmp_path / "config" / "pauth" / "encryption.key"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_key_file() == tmp_path / ".config" / "pauth" / "encryption.key"


def made(folder: Path, **options: object) -> EncryptedFileStorage:
    return EncryptedFileStorage(folder / "tokens", **options)  # type: ignore[arg-type]


def test_a_key_is_made_once_and_the_next_process_reads(tmp_path: Path) -> None:
    import asyncio

    async def save() -> None:
        async with aclosing(storage) as opened:
            await opened.save_token("alice", TOKENS)

    async def read() -> dict[str, object] | None:
        async with aclosing(again) as opened:
            return await opened.get_token("alice")

    storage = made(tmp_path)
    asyncio.run(save())
    again = made(tmp_path)
    assert asyncio.run(read()) == TOKENS
    path = default_key_file()
    assert path.stat().st_mode & 0o7777 == 0o600
    assert path.parent.stat().st_mode & 0o7777 == 0o700
    assert not list((tmp_path / "tokens").rglob("*.key"))


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    program = """
import sys
from pauth.storage.files.keyfile import keyring_from_file
print("ready", flush=True)
sys.stdin.readline()
print(keyring_from_file(sys.argv[1]).primary.key_id.hex())
"""
    command = [sys.executable, "-c", program, str(tmp_path / "keys" / "the.key")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert len({process.communicate()[0] for process in processes}) == 1


def test_keys_in_a_file_are_rotated(tmp_path: Path) -> None:
    path = write_private(tmp_path / "keys" / "key", text(OTHER_KEY, KEY) + "\n\n")
    keyring = keyring_from_file(path)
    assert keyring.primary.key_id == OTHER_KEY.key_id
    assert keyring.find(KEY.key_id) is not None


@pytest.mark.parametrize("content", [b"", b"\n", b"changeme\n", b"\xff" * 32, b"\x00" * 32])
def test_a_file_without_a_usable_key_is_refused_vc_4(tmp_path: Path, content: bytes) -> None:
    path = write_private(tmp_path / "keys" / "key", "")
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="the key file holds no key that can be used") as caught:
        keyring_from_file(path)
    assert str(path) in str(caught.value)
    assert caught.value.__context__ is None
    assert path.read_bytes() == content


@pytest.mark.parametrize("problem", ["readable by all", "a link", "second name", "open folder", "folder"])
def test_a_key_file_others_can_reach_is_refused(tmp_path: Path, problem: str) -> None:
    path = write_private(tmp_path / "keys" / "key", text(KEY))
    match problem:
        case "readable by all":
            path.chmod(0o644)
        case "a link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case "second name":
            os.link(path, tmp_path / "second")
        case "open folder":
            path.parent.chmod(0o755)
        case _:
            path.unlink()
            path.mkdir(0o700)
    with pytest.raises(ConfigurationError) as caught:
        made(tmp_path, key_file=path)
    assert caught.value.__context__ is None
    if problem == "readable by all":
        assert f"chmod 600 it ({path})" in str(caught.value)


def test_a_key_file_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "CANARY-text")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageUnavailable) as caught:
        keyring_from_file(tmp_path / "keys" / "key")
    assert caught.value.__context__ is None
    monkeypatch.undo()
    assert not (tmp_path / "keys" / "key").exists()


def test_a_configured_key_comes_before_the_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", text(KEY))
    made(tmp_path)
    made(tmp_path, key=KEY)
    made(tmp_path, encryption_key=[KEY])
    assert not default_key_file().exists()


@pytest.mark.parametrize(
    "options",
    [
        {"key": KEY, "encryption_key": KEY},
        {"key": KEY, "key_file": "key"},
        {"key": KEY, "insecure_plaintext": True},
        {"key_file": "key", "insecure_plaintext": True},
        {"key": "changeme"},
        {"key": KEY, "timeout": 0},
    ],
)
def test_options_that_contradict_or_make_no_sense(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(PAuthError):
        made(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_key_files_folder_and_not_the_tokens_fs_2(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(ConfigurationError, match="the key file's folder has mode 0755") as caught:
        EncryptedFileStorage(tmp_path / "tokens", key_file=tmp_path / "open" / "key")
    assert str(caught.value).endswith(f"chmod 700 {tmp_path / 'open'}")
    (tmp_path / "private").mkdir(0o700)
    (tmp_path / "private" / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="the key file cannot be used: it is a link") as caught:
        EncryptedFileStorage(tmp_path / "tokens", key_file=tmp_path / "private" / "key")
    assert str(tmp_path / "private" / "key") in str(caught.value)


def test_a_folder_without_a_name_is_not_the_current_one() -> None:
    with pytest.raises(ConfigurationError, match="has no name"):
        EncryptedFileStorage("", EncryptionKey.generate())
