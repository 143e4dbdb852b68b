"""`pauth.toml`: what it says, where it may be, and who may write it."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from pauth.cli import places
from pauth.cli.settings import load_config, normal_name
from pauth.errors import ConfigurationError
from tests.cli.kit import Home

FULL = """
storage = "postgresql://user:CANARY-password@host/db"
default = "Work"
key = "file"
key_file = "keys/key"

[profiles.Work]
provider = "https://login.example.com"
client_id = "my-app"
client_secret_file = "~/secret"
client_auth = "client_secret_post"
scopes = ["openid", "email"]
redirect_uri = "http://127.0.0.1:8400/callback"
user = "alice"
ca_file = "/etc/ca.pem"
timeout = 30

[profiles.github]
client_secret_env = "GITHUB_SECRET"
public = false
"""


@pytest.mark.plaintext_files
def test_all_that_can_be_said(home: Home) -> None:
    path = home.configure(FULL)
    config = load_config()
    assert (config.path, config.default, config.key, config.key_file) == (str(path), "work", "file", str(path.parent / "keys/key"))
    assert config.storage is not None
    assert config.storage.reveal() == "postgresql://user:CANARY-password@host/db"
    work, github = config.profiles["work"], config.profiles["github"]
    assert (work.provider, work.client_id, work.client_auth, work.redirect_uri) == (
        "https://login.example.com",
        "my-app",
        "client_secret_post",
        "http://127.0.0.1:8400/callback",
    )
    assert (work.client_secret_file, work.ca_file) == (str(home.folder / "./secret"), "/etc/ca.pem")
    assert (work.scopes, work.user, work.timeout, work.public) == (("openid", "email"), "alice", 30, False)
    assert (github.provider, github.client_secret_env, github.scopes) == (None, "GITHUB_SECRET", None)


def test_there_need_be_none(home: Home) -> None:
    config = load_config()
    assert (config.path, config.storage, config.default, config.key, dict(config.profiles)) == (None, None, None, "auto", {})


def test_another_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.configure('default = "mine"')
    other = home.folder / "other.toml"
    other.write_text('default = "other"')
    assert load_config(str(other)).default == "other"
    monkeypatch.setenv("PAUTH_CONFIG", str(other))
    assert load_config().default == "other"


def test_the_folder_that_a_shell_is_in_says_nothing(home: Home) -> None:
    """Whoever wrote the repository one is in would say where secrets are sent."""
    (home.folder / "pauth.toml").write_text('default = "evil"')
    assert load_config().default is None


def test_a_file_that_was_named_has_to_be_there(home: Home) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no such file \(no-such\.toml\)"):
        load_config("no-such.toml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load_config(str(home.folder))


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_to(home: Home, mode: int) -> None:
    home.configure("").chmod(mode)
    with pytest.raises(ConfigurationError, match="others than you can write to it"):
        load_config()


def test_a_file_of_somebody_else(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.configure("")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if home.config_file.stat().st_uid == 0:
        assert load_config().path is not None, "the administrator's"
        os.chown(home.config_file, 54321, -1)
    with pytest.raises(ConfigurationError, match="others than you can write to it"):
        load_config()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\nstorage = \nx = 1", "is no TOML: .* line 2"),
        (b"storage = '\xff'", "is no TOML: it is not UTF-8"),
        ("x = " + "[" * 100_000, "is no TOML: it is nested too deeply"),
        ("#" * 1024 * 1024 + "\nstorage = 'redis://x'", "cannot be used: it is larger than 1 MiB"),
        ("stroage = 'x'", "at its top: unknown name 'stroage'; there are default, key, key_file, profiles, storage"),
        ("storage = 1", "storage must be a text that is not empty"),
        ("storage = ''", "storage must be a text that is not empty"),
        ("key = 'pocket'", "key must be one of auto, keyring, file"),
        ("profiles = 1", r"profiles are tables: \[profiles.NAME\]"),
        ("[profiles]\nx = 1", r"profiles are tables: \[profiles.NAME\]"),
        ("[profiles.x]\nclient_secret = 'CANARY'", r"in \[profiles.x\]: a client_secret does not belong into this file"),
        ("[profiles.x]\nclientid = 'x'", r"in \[profiles.x\]: unknown name 'clientid'"),
        ("[profiles.x]\nscopes = 'openid'", "scopes must be a list of texts"),
        ("[profiles.x]\nscopes = [1]", "scopes must be a list of texts"),
        ("[profiles.x]\npublic = 'yes'", "public must be true or false"),
        ("[profiles.x]\ntimeout = true", "timeout must be a number of seconds"),
        ("[profiles.x]\ntimeout = 0", "timeout must be a number of seconds"),
        ("[profiles.x]\ntimeout = '5'", "timeout must be a number of seconds"),
        ("[profiles.x]\ntimeout = nan", "timeout must be a number of seconds"),
        ("[profiles.x]\n[profiles.X]", "two profiles have one name"),
    ],
)
@pytest.mark.plaintext_files
def test_mistakes_are_named(home: Home, text: str | bytes, says: str) -> None:
    path = home.configure("")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match=says) as caught:
        load_config()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "normal"), [(" GitHub ", "github"), ("https://As.example/X/", "https://As.example/X"), ("https://as.example", "https://as.example")]
)
def test_names_in_the_form_they_are_kept_under(name: str, normal: str) -> None:
    assert normal_name(name) == normal


@pytest.mark.parametrize("value", ["/somewhere/else", "", " ", "relative"])
def test_the_folders_are_platformdirs_own(home: Home, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """They are found without it, since importing it takes long."""
    monkeypatch.setenv("XDG_DATA_HOME", value)
    monkeypatch.setenv("XDG_CONFIG_HOME", value.strip())
    if value != "relative":  # which the specification has ignored
        assert places.data_folder() == platformdirs.user_data_dir("pauth", appauthor=False)
        assert places.config_folder() == platformdirs.user_config_dir("pauth", appauthor=False)
    else:
        assert Path(places.data_folder()) == home.folder / ".local" / "share" / "pauth"
