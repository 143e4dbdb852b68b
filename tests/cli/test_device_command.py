"""`pauth login --device` (RFC 8628): what is shown, what is opened, and how it ends; at the double and at oidc-provider."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from yarl import URL

from pauth.testing import faults
from tests.cli.kit import CLIENT_ID, CLIENT_SECRET, Browser, Home, ServerThread, address
from tests.support import browser as mini_browser
from tests.support.canary_plugin import Canary
from tests.support.servers import RealServer


def shown(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The address and the code that a login shows."""
    assert process.stderr is not None
    lines: list[str] = []
    while len(lines) < 3 and (line := process.stderr.readline()):
        lines += line.split()[:1] if line.startswith("  ") else [line] if line.strip() else []
    assert len(lines) == 3, lines
    return lines[1], lines[2]


@pytest.fixture(autouse=True)
def secret(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", CLIENT_SECRET)


def test_dv3_a_login_on_another_device(home: Home, double: ServerThread, browser: Browser, canary: Canary) -> None:
    """No browser is opened unasked, and nothing is listened on."""
    process = home.start("login", double.server.issuer, "--client-id", CLIENT_ID, "--device", "--scope", "openid")
    uri, code = shown(process)
    assert uri == f"{double.server.issuer}/device"
    assert re.fullmatch("[A-Z]{4}-[A-Z]{4}", code)
    double.server.decide_device(code, user="bob")
    out, err = process.communicate()
    canary.check(out + err, "output of pauth login --device")
    assert (process.returncode, "as bob" in out) == (0, True), err
    assert home.run("show", "--json").json["subject"] == "bob"


def test_dv3_the_browser_is_opened_on_request(home: Home, double: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the code in the address, and the code shown all the same."""
    opened: list[str] = []

    def open_browser(url: str) -> bool:
        opened.append(url)
        double.server.decide_device(url.rpartition("=")[2], deny=True)
        return True

    monkeypatch.setattr("pauth.cli.login.open_browser", open_browser)
    done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--device", "--browser")
    (url,) = opened
    assert url.startswith(f"{double.server.issuer}/device?user_code=")
    assert url.rpartition("=")[2] in done.err
    assert (done.code, "refused by the user" in done.err) == (4, True)


def test_dv3_na9_a_hostile_server_paints_nothing(home: Home, double: ServerThread) -> None:
    hostile = {"user_code": "\x1b[2JWDJB\u202e-MJHT\x07", "expires_in": 1}
    double.server.script("device_authorization", faults.override(**hostile))
    done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--device")
    assert done.code == 4
    assert "  WDJB-MJHT" in done.err.splitlines()
    assert not set(done.err) & {"\x1b", "\x07", "\u202e"}
    double.server.script("device_authorization", faults.override(verification_uri="https://as.example/\x1b[2J"))
    done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--device")
    assert (done.code, "nobody is sent there" in done.err, "\x1b" in done.err) == (3, True, False)


def test_a_provider_without_it(home: Home, double: ServerThread) -> None:
    double.server.script("metadata", faults.omit("device_authorization_endpoint"))
    done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--device")
    assert (done.code, "has no device authorization endpoint" in done.err) == (3, True)


def test_ctrl_c(home: Home, double: ServerThread) -> None:
    process = home.start("login", double.server.issuer, "--client-id", CLIENT_ID, "--device")
    shown(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err.strip()) == (130, "Interrupted.")


def test_at_oidc_provider(home: Home, oidc_provider: RealServer, monkeypatch: pytest.MonkeyPatch, canary: Canary) -> None:
    """A real server, and everything after the login: show, refresh, revoke."""
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    client = oidc_provider.public.client_id
    process = home.start("login", oidc_provider.issuer, "--name", "op", "--client-id", client, "--public", "--device", "--scope", "openid")
    uri, code = shown(process)
    asyncio.run(mini_browser.decide_device(f"{uri}?user_code={code}", user="alice"))
    out, err = process.communicate()
    canary.check(out + err, "output of pauth login --device")
    assert (process.returncode, "as alice" in out) == (0, True), err
    assert home.run("doctor", "op").code == 0
    assert home.run("refresh", "op").code == 0
    assert home.run("show", "op", "--json").json["subject"] == "alice"
    assert home.run("logout", "op").code == 0
    assert home.run("list", "--json").json == []


def test_the_loopback_login_at_oidc_provider(home: Home, oidc_provider: RealServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8252 section 7.3: the server lets a native application come back to any port."""
    monkeypatch.delenv("PAUTH_CLIENT_SECRET")
    process = home.start("login", oidc_provider.issuer, "--client-id", oidc_provider.native, "--public", "--no-browser", "--scope", "openid")
    url = address(process)

    back: str = parse_qs(urlsplit(url).query)["redirect_uri"][0]

    async def visit() -> int:
        callback = await mini_browser.log_in(url, user="alice", redirect_uri=back)
        async with aiohttp.ClientSession() as session, session.get(URL(callback, encoded=True)) as response:
            return response.status

    assert asyncio.run(visit()) == 200
    out, err = process.communicate()
    assert (process.returncode, "as alice" in out) == (0, True), err


def test_the_user_has_as_long_as_the_command_line_says(home: Home, double: ServerThread) -> None:
    done = home.run("login", double.server.issuer, "--client-id", CLIENT_ID, "--device", "--timeout", "1")
    assert (done.code, "enter the code there within 1 s:" in done.err) == (4, True)
    assert done.err.splitlines()[-1] == "Error: nobody entered the code within 1 seconds; start the login again"
