"""Which login a command means, and what of earlier logins still counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pauth.cli.logins import KnownLogin
from pauth.cli.settings import load_config
from pauth.cli.target import Said, client_of, preset_named, settled, user_of
from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage import MemoryTokenStorage
from tests.cli.kit import Home

KNOWN = KnownLogin(
    name="work",
    provider="https://as.example",
    client_id="one",
    namespace="n",
    client_secret=Secret("CANARY-kept"),
    client_auth="client_secret_post",
    scopes=("a",),
    redirect_uri="http://127.0.0.1/kept",
    ca_file="/kept.pem",
    timeout=5.0,
)


def settle(known: KnownLogin | None = KNOWN, said: Said | None = None) -> KnownLogin:
    return settled("work", load_config(), known, said)


def test_what_was_kept_is_enough(home: Home) -> None:
    assert settle() == KNOWN


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.configure(
        """
[profiles.work]
client_id = "one"
client_secret_file = "secret"
client_auth = "client_secret_basic"
scopes = ["b"]
redirect_uri = "http://127.0.0.1/file"
ca_file = "/file.pem"
timeout = 6
"""
    )
    (home.config_file.parent / "secret").write_text("the file's")
    found = settle()
    assert found == replace(
        KNOWN,
        client_secret=Secret("the file's"),
        client_auth="client_secret_basic",
        scopes=("b",),
        redirect_uri="http://127.0.0.1/file",
        ca_file="/file.pem",
        timeout=6,
    )
    for name, value in (
        ("CLIENT_SECRET", "CANARY-env"),
        ("CLIENT_AUTH", "none"),
        ("SCOPES", "c d"),
        ("REDIRECT_URI", "http://x"),
        ("CA_FILE", "/env.pem"),
    ):
        monkeypatch.setenv(f"PAUTH_{name}", value)
    found = settle()
    assert found == replace(
        KNOWN, client_secret=Secret("CANARY-env"), client_auth="none", scopes=("c", "d"), redirect_uri="http://x", ca_file="/env.pem", timeout=6
    )
    said = Said(client_secret=Secret("CANARY-said"), client_auth="x", scopes=("e",), redirect_uri="http://y", ca_file="/said.pem")
    assert settle(said=said) == replace(
        KNOWN, client_secret=Secret("CANARY-said"), client_auth="x", scopes=("e",), redirect_uri="http://y", ca_file="/said.pem", timeout=6
    )
    assert settle(said=Said(public=True)).client_secret is None


@pytest.mark.parametrize("said", [Said(client_id="two"), Said(provider="https://other.example")])
def test_nothing_of_another_client_or_provider_counts(home: Home, said: Said) -> None:
    """The secret least of all: it would be sent there."""
    found = settle(said=said)
    assert (found.client_secret, found.client_auth, found.scopes, found.redirect_uri, found.ca_file, found.timeout, found.namespace) == (
        None,
        None,
        None,
        None,
        None,
        None,
        "",
    )


def test_a_public_profile_has_no_secret_unless_it_is_said(home: Home) -> None:
    home.configure("[profiles.work]\npublic = true")
    assert settle().client_secret is None
    assert settle(said=Said(client_secret=Secret("CANARY"))).client_secret is not None


def test_the_client_of_the_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_CLIENT_ID", "two")
    assert (settle().client_id, settle(None).provider) == ("two", "work")
    monkeypatch.delenv("PAUTH_CLIENT_ID")
    assert settle(None).client_id == ""


def test_whose_tokens(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.configure('[profiles.home]\nuser = "file"')
    config = load_config()
    assert (user_of(config, "Work", None), user_of(config, "home", None), user_of(config, "home", "said")) == ("work", "file", "said")
    monkeypatch.setenv("PAUTH_USER", "env")
    assert user_of(config, "home", None) == "env"


def test_presets_by_name() -> None:
    found = preset_named("GitHub")
    assert found is not None
    assert (found.name, preset_named("https://github.com"), preset_named("nobody")) == ("github", None, None)


async def test_a_proxy_is_taken_from_the_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_PROXY", "no proxy CANARY")
    login = replace(KNOWN, provider="github", ca_file=None)
    with pytest.raises(ConfigurationError, match="the proxy must be the URL of an HTTP proxy"):
        async with client_of(login, MemoryTokenStorage()):
            pass
    monkeypatch.setenv("PAUTH_PROXY", "http://proxy.example:3128")
    async with client_of(login, MemoryTokenStorage()) as client:
        assert client.namespace == '["https://github.com/login/oauth", "one"]'
