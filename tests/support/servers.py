"""Real authorization servers, as fixtures: oidc-provider (node) and django-oauth-toolkit.

Both come from package registries by name, run as whoever runs the tests, on a free loopback port, and end with the test run, however it ends. A
server that cannot be had fails the run with the line that installs it. A test that uses one is marked ``servers``; with xdist all users of a server
run on one worker, so that it is started once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import pytest

from pauth import DeviceLogin
from pauth.testing import AuthorizationServer
from tests.support import browser, npm
from tests.support.npm import ServerMissing

__all__ = ["RealServer", "RegisteredClient", "ServerMissing", "django_provider", "double", "oidc_provider"]

_SOURCE: Final = Path(__file__).parents[1] / "servers"
_START_TIMEOUT: Final = 120.0
_DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_NATIVE: Final = "oidc-provider-native"
_REDIRECT_URI: Final = "https://app.example/callback"  # nobody is there: the browser stops before it


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """One of the clients a server knows."""

    client_id: str
    client_secret: str | None
    auth_method: str


@dataclass(frozen=True, slots=True)
class RealServer:
    """A running authorization server."""

    name: str
    issuer: str
    redirect_uri: str
    basic: RegisteredClient
    post: RegisteredClient
    public: RegisteredClient
    log: Path | None
    login_url: str | None = None
    double: AuthorizationServer | None = None
    native: str = ""
    """The id of a public client that comes back to ``http://127.0.0.1/callback`` on any port, at a server that has one."""

    async def authorize(self, url: str, user: str) -> str:
        """Log in as ``user`` at the authorization URL, consent, and give the callback URL. Any name is a user."""
        if self.double is not None:
            return await self.double.authorize(url, user=user)
        return await browser.log_in(url, user=user, redirect_uri=self.redirect_uri, login_url=self.login_url)

    async def decide_device(self, login: DeviceLogin, user: str, *, deny: bool = False) -> None:
        """Open the page of a device login, confirm the code and log in as ``user``; or say no."""
        if self.double is not None:
            self.double.decide_device(login.user_code, user=user, deny=deny)
        else:
            assert login.verification_uri_complete is not None
            await browser.decide_device(login.verification_uri_complete, user=user, deny=deny)


def _clients(server: str) -> tuple[RegisteredClient, RegisteredClient, RegisteredClient]:
    return (
        # What form-encoding must touch (RFC 6749 section 2.3.1) is in the secret.
        RegisteredClient(f"{server}-basic", f"CANARY-{server}:basic+secret%20 with/odd&characters", "client_secret_basic"),
        RegisteredClient(f"{server}-post", f"CANARY-{server}:post+secret%20 with/odd&characters", "client_secret_post"),
        RegisteredClient(f"{server}-public", None, "none"),
    )


@contextmanager
def _running(
    name: str, command: list[str], *, folder: Path, cwd: Path, clients: list[dict[str, Any]], environment: Mapping[str, str] = MappingProxyType({})
) -> Generator[tuple[int, Path]]:
    """Run a server until the block ends; gives its port and its log file."""
    ready, log = folder / "ready", folder / "log"
    environment = {**os.environ, "PAUTH_READY_FILE": str(ready), "PAUTH_CLIENTS": json.dumps(clients), **environment}
    with log.open("wb") as output:
        # The server ends when its standard input does: whichever way this process ends, the pipe closes.
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)
    assert process.stdin is not None
    try:
        deadline = time.monotonic() + _START_TIMEOUT
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerMissing(f"{name} did not start (exit status {process.poll()}); its log:\n{_tail(log)}")
            time.sleep(0.02)
        yield int(ready.read_text()), log
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-4000:]


@contextmanager
def running_oidc_provider(folder: Path, *, access_token_lifetime: int = 3600) -> Generator[RealServer]:
    """oidc-provider: PKCE required, ``iss`` in callbacks, rotation at every refresh, reuse revokes the grant, discovery, userinfo, revocation.

    :param access_token_lifetime: seconds.
    """
    basic, post, public = _clients("oidc-provider")
    registered: list[dict[str, Any]] = [
        {
            "client_id": client.client_id,
            "token_endpoint_auth_method": client.auth_method,
            "redirect_uris": [_REDIRECT_URI],
            "grant_types": ["authorization_code", "refresh_token", _DEVICE_GRANT] + (["client_credentials"] if client.client_secret else []),
            **({"client_secret": client.client_secret} if client.client_secret else {}),
        }
        for client in (basic, post, public)
    ]
    registered.append(
        {
            "client_id": _NATIVE,
            "application_type": "native",
            "token_endpoint_auth_method": "none",
            "redirect_uris": ["http://127.0.0.1/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
        }
    )
    command = [str(npm.node()), str(_SOURCE / "oidc_provider" / "server.mjs")]
    cwd, environment = npm.installed(_SOURCE / "oidc_provider"), {"PAUTH_ACCESS_TTL": str(access_token_lifetime)}
    with _running("oidc-provider", command, folder=folder, cwd=cwd, clients=registered, environment=environment) as (port, log):
        yield RealServer("oidc-provider", f"http://127.0.0.1:{port}", _REDIRECT_URI, basic, post, public, log, native=_NATIVE)


@pytest.fixture(scope="session")
def oidc_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """See :func:`running_oidc_provider`."""
    with running_oidc_provider(tmp_path_factory.mktemp("oidc_provider")) as server:
        yield server


@pytest.fixture(scope="session")
def django_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """django-oauth-toolkit: PKCE required, no ``iss``, rotation that kills the old access token at once, errors without description."""
    if importlib.util.find_spec("oauth2_provider") is None:
        raise ServerMissing("django-oauth-toolkit is not installed; install it with: pip install django-oauth-toolkit 'oauthlib<4'")
    basic, post, public = _clients("django")
    registered: list[dict[str, Any]] = [
        {
            "name": client.client_id,
            "client_id": client.client_id,
            "client_secret": client.client_secret or "",
            "client_type": "confidential" if client.client_secret else "public",
            "redirect_uris": _REDIRECT_URI,
        }
        for client in (basic, post, public)
    ]
    folder = tmp_path_factory.mktemp("django")
    with _running("django-oauth-toolkit", [sys.executable, str(_SOURCE / "django_app.py")], folder=folder, cwd=folder, clients=registered) as (
        port,
        log,
    ):
        base = f"http://127.0.0.1:{port}"
        yield RealServer("django-oauth-toolkit", f"{base}/o", _REDIRECT_URI, basic, post, public, log, login_url=f"{base}/login")


@pytest.fixture
async def double() -> AsyncIterator[RealServer]:
    """pauth's own server in the shape of the real ones, so that one suite holds for all. Each of its tokens and codes is a canary."""
    basic, post, public = _clients("double")
    async with AuthorizationServer(secret_marker="CANARY-") as server:
        for client, method in ((basic, "client_secret_basic"), (post, "client_secret_post"), (public, "none")):
            server.register_client(client.client_id, client.client_secret, redirect_uris=[_REDIRECT_URI], auth_method=cast("Any", method))
        yield RealServer("double", server.issuer, _REDIRECT_URI, basic, post, public, log=None, double=server)


_FIXTURES: Final = ("oidc_provider", "django_provider")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        wanted = [*getattr(item, "fixturenames", ()), *getattr(getattr(item, "callspec", None), "params", {}).values()]
        for fixture in _FIXTURES:
            if fixture in wanted:
                item.add_marker("servers")
                item.add_marker(pytest.mark.xdist_group(fixture))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for fixture in _FIXTURES:
            server = getattr(item, "funcargs", {}).get(fixture)
            if isinstance(server, RealServer) and server.log is not None:
                report.sections.append((f"log of {server.name}", _tail(server.log)))
    return report
