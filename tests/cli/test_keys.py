"""Where the encryption keys of the command line are: environment, keyring, key file; and what is made when."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import keyring
import pytest

from pauth.cli import keys as keys_module
from pauth.cli import os_keyring
from pauth.cli.keys import ENVIRONMENT, SYSTEM_KEYRING, KeyPlace, key_place, made_keys, read_keys, save_keys
from pauth.cli.settings import LOGINS, Config, load_config
from pauth.errors import ConfigurationError, StorageUnavailable
from pauth.secret import Secret
from pauth.storage import EncryptedFileStorage, EncryptionKey, FernetKey, Keyring, RecordKey
from pauth.storage.files.keyfile import keyring_from_file, write_key_file
from tests.cli import fake_keyring
from tests.cli.kit import Home
from tests.storage.kit import KEY, OTHER_KEY


@pytest.fixture(autouse=True)
def empty(home: Home) -> None:
    fake_keyring.Good.kept.clear()


def use(backend: Any) -> None:
    keyring.set_keyring(backend())


@pytest.fixture(autouse=True)
def no_keyring(empty: None) -> Any:
    from keyring.backends import null

    use(null.Keyring)
    yield
    use(null.Keyring)


def kept() -> str | None:
    return fake_keyring.Good.kept.get(("pauth", "encryption-key"))


def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    use(fake_keyring.Good)
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEYS", f"{KEY.to_string().reveal()},{OTHER_KEY.to_string().reveal()}")
    assert key_place(Config()) is ENVIRONMENT
    found = read_keys(ENVIRONMENT)
    assert found is not None
    assert [key.key_id for key in found.keys if isinstance(key, EncryptionKey)] == [KEY.key_id, OTHER_KEY.key_id]
    assert made_keys(Config(), store_exists=True).primary.key_id == KEY.key_id
    assert (kept(), home.key_file.exists()) == (None, False)
    with pytest.raises(ConfigurationError, match="change PAUTH_ENCRYPTION_KEYS there"):
        save_keys(ENVIRONMENT, found)


def test_a_keyring_where_there_is_one(home: Home) -> None:
    use(fake_keyring.Good)
    assert key_place(Config()) is SYSTEM_KEYRING
    assert read_keys(SYSTEM_KEYRING) is None
    made = made_keys(Config(), store_exists=False)
    assert kept() == made.primary.to_string().reveal()
    assert made_keys(Config(), store_exists=True).primary.key_id == made.primary.key_id
    assert not home.key_file.exists()


def test_else_a_key_file_of_the_files_storages_own(home: Home) -> None:
    made = made_keys(Config(), store_exists=False)
    assert keyring_from_file(home.key_file).primary.key_id == made.primary.key_id
    assert key_place(Config()).path == str(home.key_file)


def test_a_key_file_that_another_program_makes_later_is_not_the_key(home: Home) -> None:
    """A program with a token folder of its own makes a key file, in the place where the command line would look for one."""
    use(fake_keyring.Good)
    made = made_keys(Config(), store_exists=False)
    other = keyring_from_file(home.key_file)
    assert made_keys(Config(), store_exists=True).primary.key_id == made.primary.key_id != other.primary.key_id
    save_keys(key_place(Config()), Keyring([KEY]))
    assert (kept(), keyring_from_file(home.key_file).primary.key_id) == (KEY.to_string().reveal(), other.primary.key_id)
    fake_keyring.Good.kept.clear()  # and where there is none in the keyring after all, the file's counts
    assert made_keys(Config(), store_exists=True).primary.key_id == other.primary.key_id


def test_a_key_file_that_is_there_goes_before_a_keyring_that_comes_later(home: Home) -> None:
    """What is encrypted is encrypted with it."""
    made = made_keys(Config(), store_exists=False)
    use(fake_keyring.Good)
    assert made_keys(Config(), store_exists=False).primary.key_id == made.primary.key_id
    assert kept() is None


def test_no_new_key_is_made_for_a_store_that_has_one() -> None:
    """Logged in over the network, where the desktop's keyring is not: a second key would open nothing."""
    for backend in (None, fake_keyring.Good):
        if backend is not None:
            use(backend)
        with pytest.raises(ConfigurationError, match=r"encryption\.key and in the system keyring and is not there; put the key file back"):
            made_keys(Config(), store_exists=True)
    assert kept() is None


def test_what_pauth_toml_says(home: Home) -> None:
    use(fake_keyring.Good)
    path = home.configure('key = "file"')
    made = made_keys(load_config(), store_exists=False)
    assert (kept(), keyring_from_file(home.key_file).primary.key_id) == (None, made.primary.key_id)
    path.write_text('key = "keyring"')
    assert made_keys(load_config(), store_exists=False).primary.key_id != made.primary.key_id
    assert kept() is not None
    path.write_text('key_file = "mine/key"')
    config = load_config()
    made_keys(config, store_exists=False)
    assert key_place(config).path == str(path.parent / "mine" / "key")
    assert (path.parent / "mine" / "key").exists()


def test_a_keyring_that_protects_nothing_is_not_used_unasked(home: Home) -> None:
    for backend in (fake_keyring.Plaintext, fake_keyring.Chain):
        use(backend)
        made_keys(Config(), store_exists=False)
        assert (kept(), home.key_file.exists()) == (None, True)
        home.key_file.unlink()
    home.configure('key = "keyring"')
    made_keys(load_config(), store_exists=False)
    assert kept() is not None


def test_a_locked_keyring(home: Home) -> None:
    """Its own text is not repeated, and nothing is made in its place."""
    use(fake_keyring.Locked)
    for store_exists in (True, False):
        with pytest.raises(StorageUnavailable, match=r"did not give it \(KeyringLocked\); unlock it"):
            made_keys(Config(), store_exists=store_exists)
    assert not home.key_file.exists()
    assert os_keyring.available()


def test_a_keyring_that_forgets() -> None:
    use(fake_keyring.Forgetful)
    with pytest.raises(StorageUnavailable, match="did not keep the encryption key"):
        made_keys(Config(), store_exists=False)


def test_no_keyring_though_one_is_wanted(home: Home) -> None:
    home.configure('key = "keyring"')
    with pytest.raises(ConfigurationError, match='no keyring to keep the encryption key in; use key = "file"'):
        made_keys(load_config(), store_exists=False)


def test_the_keyring_library_is_not_installed(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert not os_keyring.available()
    made_keys(Config(), store_exists=False)
    assert home.key_file.exists()


def test_a_backend_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("CANARY")

    monkeypatch.setattr(keyring, "get_keyring", fails)
    assert not os_keyring.available()
    with pytest.raises(StorageUnavailable, match="RuntimeError"):
        os_keyring.get()


def test_two_processes_that_start_at_once_agree_on_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one was faster: its key is found when the lock is held."""
    use(fake_keyring.Good)
    answers = iter([None, KEY.to_string()])
    monkeypatch.setattr(os_keyring, "get", lambda: next(answers))
    assert made_keys(Config(), store_exists=False).primary.key_id == KEY.key_id
    assert kept() is None


@pytest.mark.parametrize("place", [SYSTEM_KEYRING, "file"])
def test_keys_are_saved_in_order(home: Home, place: Any) -> None:
    use(fake_keyring.Good)
    where = KeyPlace("a file", str(home.folder / "keys" / "key")) if place == "file" else place
    save_keys(where, Keyring([KEY, OTHER_KEY]))
    found = read_keys(where)
    assert found is not None
    assert [key.key_id for key in found.keys if isinstance(key, EncryptionKey)] == [KEY.key_id, OTHER_KEY.key_id]
    with pytest.raises(ConfigurationError, match="Fernet key"):
        save_keys(where, Keyring([KEY, FernetKey(b"x" * 32)]))


def test_a_key_file_that_cannot_be_written(home: Home) -> None:
    folder = home.folder / "open"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(ConfigurationError, match="has mode 0755"):
        write_key_file(folder / "key", [Secret("CANARY")])
    (home.folder / "private" / "key").mkdir(parents=True, mode=0o700)
    (home.folder / "private").chmod(0o700)
    with pytest.raises(StorageUnavailable, match="the token folder failed"):
        write_key_file(home.folder / "private" / "key", [Secret("x")])


def test_processes_share_the_key_in_the_keyring(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command line with it, the quick way too."""
    file = home.folder / "keyring"
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "tests.cli.fake_keyring.InFile")
    monkeypatch.setenv("FAKE_KEYRING_FILE", str(file))
    assert home.process("storage", "bench", "--seconds", "0.01").code == 0
    made = file.read_text()
    done = home.process("storage", "rotate-keys", "--json")
    assert (done.code, done.json["key_place"], done.json["complete"]) == (0, "the system keyring", True)
    new, old = file.read_text().split(",")
    assert (old, new != made, home.key_file.exists()) == (made, True, False)
    assert home.process("storage", "rotate-keys", "--drop-unused").code == 0
    assert (file.read_text(), home.process("storage", "check").code) == (new, 0)
    key = EncryptionKey.from_string(new)
    login = {"provider": "https://as.example", "client_id": "x", "namespace": "n"}
    now = time.time()
    tokens = {"access_token": "not-secret", "issued_at": now, "expires_at": now + 3600}

    async def fill() -> None:
        storage = EncryptedFileStorage(home.tokens, key)
        await storage.replace(RecordKey(LOGINS, "work"), login, expected_version=None)
        await storage.replace(RecordKey("n", "work"), tokens, expected_version=None)
        await storage.aclose()

    asyncio.run(fill())
    assert home.process("token", "work").out == "not-secret\n"
    file.unlink()
    done = home.process("token", "work")
    assert (done.code, "is not there" in done.err) == (3, True)


def test_a_place_reads_as_people_write_it() -> None:
    assert [place.name for place in (ENVIRONMENT, SYSTEM_KEYRING)] == ["the environment", "the system keyring"]
    assert keys_module.read_keys(KeyPlace("nowhere", "/no/such/file")) is None
