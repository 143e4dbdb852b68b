"""`pauth doctor`: it finds what is wrong, says what to do about it, and sends no secret to anybody."""

from __future__ import annotations

import asyncio
import email.utils
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import web

from pauth.cli import checks
from pauth.storage import EncryptedFileStorage
from pauth.testing import faults
from tests.cli.kit import CLIENT_ID, Home, ServerThread
from tests.transport.authority import Authority


class Site:
    """An authorization server that has nothing but metadata and a clock."""

    def __init__(self, context: ssl.SSLContext | None = None, *, skew: float = 0.0, date: str | None = None, **metadata: Any) -> None:
        self._context = context
        self._skew = skew
        self._date = date
        self._metadata = metadata
        self._ready, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.issuer = ""
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    async def _answer(self, request: web.Request) -> web.Response:
        self.seen.append((request.method, request.path_qs, dict(request.headers)))
        date = email.utils.formatdate(time.time() + self._skew, usegmt=True) if self._date is None else self._date
        if request.path == "/token":
            return web.json_response({"error": "invalid_request"}, status=400, headers={"Date": date})
        members = {
            "issuer": self.issuer,
            "token_endpoint": f"{self.issuer}/token",
            "authorization_endpoint": f"{self.issuer}/authorize",
            **self._metadata,
        }
        return web.json_response({name: value for name, value in members.items() if value is not None})

    async def _serve(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._context).start()
        self.issuer = f"http{'s' if self._context else ''}://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await asyncio.to_thread(self._end.wait)
        await runner.cleanup()


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


def examine(home: Home, issuer: str, *arguments: str, client_id: str = CLIENT_ID, more: str = "") -> dict[str, dict[str, str]]:
    """What is found about one login, by topic."""
    home.configure(f'[profiles.work]\nprovider = "{issuer}"\nclient_id = "{client_id}"\n{more}')
    done = home.run("doctor", "work", "--json", *arguments)
    found = done.json
    topics: dict[str, dict[str, str]] = {finding["topic"]: finding for finding in [*found["findings"].get("work", []), *found["findings"]["here"]]}
    problems = sum(finding["status"] == "problem" for finding in topics.values())
    assert (found["problems"], done.code) == (problems, 1 if problems else 0)
    return topics


def test_nothing_is_there_yet(home: Home) -> None:
    done = home.run("doctor")
    assert (done.code, done.out.splitlines()[-1]) == (0, "Nothing is wrong.")
    assert "nothing is stored yet in" in done.out
    assert not home.tokens.exists()


def test_everything_is_well(home: Home, work: ServerThread) -> None:
    before = len(work.server.ledger)
    done = home.run("doctor", "--json")
    assert (done.code, done.json["problems"]) == (0, 0)
    findings = done.json["findings"]
    assert {finding["topic"]: finding["status"] for finding in findings["work"]} == {
        "discovery": "ok",
        "client": "ok",
        "device grant": "ok",
        "clock": "ok",
        "TLS": "note",
        "redirect URI": "ok",
        "tokens": "ok",
    }
    assert {finding["topic"] for finding in findings["here"]} == {"configuration", "key", "browser", "store"}
    entries = list(work.server.ledger)[before:]
    assert {(entry.endpoint, entry.client_id) for entry in entries} == {("metadata", None), ("token", None)}, "nobody is told who asks"
    assert home.run("storage", "check", "--json").json["records"] == 2, "what was written is gone"
    text = home.run("doctor").out
    assert text.count("✓") == 9
    assert "the access token of user 'work' is valid" in text


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
@pytest.mark.plaintext_files
def test_a_secret_that_everybody_can_read(home: Home, site: Site, mode: int) -> None:
    secret = home.folder / "secret"
    secret.write_text("CANARY-secret")
    path = home.configure("").parent
    for file in (secret, path / "pauth.toml"):
        file.chmod(mode)
    found = examine(home, site.issuer, more=f'client_secret_file = "{secret}"\n')
    readable = mode == 0o644
    assert ("client secret" in found) is readable
    if readable:
        assert (found["client secret"]["status"], found["client secret"]["advice"]) == ("note", f"chmod o-r {secret}")
    secret.unlink()
    assert "cannot be read" in examine(home, site.issuer, more=f'client_secret_file = "{secret}"\n')["login"]["text"]


@pytest.mark.parametrize(("password", "notes"), [("", 0), (":CANARY-password", 1)])
@pytest.mark.plaintext_files
def test_a_password_that_everybody_can_read(home: Home, password: str, notes: int) -> None:
    path = home.configure(f'storage = "postgresql://me{password}@127.0.0.1:1/x"\n')
    path.chmod(0o644)
    done = home.run("doctor", "--json")
    found = [finding for finding in done.json["findings"]["here"] if finding["status"] == "note" and finding["topic"] == "configuration"]
    assert [finding["text"] for finding in found] == [f"everybody on this machine can read {path}, which holds the password of the storage"] * notes
    path.chmod(0o600)
    assert "chmod o-r" not in home.run("doctor", "--json").out


def test_a_login_may_have_any_name(home: Home, site: Site) -> None:
    """Nothing that is found takes the place of anything else."""
    home.configure("".join(f'[profiles.{name}]\nprovider = "{site.issuer}"\nclient_id = "x"\n' for name in ("here", "store", "work")))
    assert home.run("storage", "bench", "--seconds", "0.01").code == 0, "which makes the storage"
    found = home.run("doctor", "--json").json["findings"]
    topics = {where: [finding["topic"] for finding in findings] for where, findings in found.items()}
    assert list(topics) == ["here", "store", "work"]
    assert topics["store"] == topics["work"]
    assert topics["here"] == ["configuration", "key", "browser", "store", *topics["work"]]


def test_a_server_that_is_not_there(home: Home) -> None:
    with Site() as gone:
        pass
    topics = examine(home, gone.issuer)
    assert "could not connect" in topics["provider"]["text"]
    assert "check the provider's URL" in topics["provider"]["advice"]
    assert {"redirect URI", "tokens"} <= topics.keys(), "the rest is looked at all the same"


def test_another_issuer_in_the_metadata(home: Home) -> None:
    with Site(issuer="https://other.example") as site:
        assert "names another issuer" in examine(home, site.issuer)["provider"]["text"]


@pytest.mark.parametrize(("skew", "status"), [(0, "ok"), (90, "note"), (-90, "note"), (4000, "problem"), (-4000, "problem")])
def test_the_clock(home: Home, skew: float, status: str) -> None:
    with Site(skew=skew) as site:
        finding = examine(home, site.issuer)["clock"]
    assert finding["status"] == status
    if status != "ok":
        assert ("behind" if skew > 0 else "ahead of") in finding["text"]
        assert "NTP" in finding["advice"]


@pytest.mark.parametrize("date", ["yesterday", ""])
def test_a_server_that_does_not_tell_the_time(home: Home, date: str) -> None:
    with Site(date=date) as site:
        assert examine(home, site.issuer)["clock"]["text"] == "the server does not tell the time"


def test_no_secret_and_no_name_is_sent(home: Home, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", "CANARY-secret")
    examine(home, site.issuer)
    assert {method for method, _, _ in site.seen} == {"GET"}
    assert all("Authorization" not in headers and "?" not in path for _, path, headers in site.seen)


@pytest.mark.parametrize(
    ("supported", "secret", "status", "says"),
    [
        (None, True, "ok", "with a secret"),
        (None, False, "ok", "public, without a secret"),
        (["client_secret_basic"], False, "problem", "does not let clients authenticate by none"),
        (["none"], False, "ok", "public"),
    ],
)
def test_the_client(home: Home, supported: Any, secret: bool, status: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if secret:
        monkeypatch.setenv("PAUTH_CLIENT_SECRET", "CANARY-secret")
    with Site(token_endpoint_auth_methods_supported=supported) as site:
        finding = examine(home, site.issuer)["client"]
    assert (finding["status"], says in finding["text"]) == (status, True)


def test_the_clients_authentication(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_CLIENT_SECRET", "CANARY-secret")
    with Site(token_endpoint_auth_methods_supported=["client_secret_post"]) as site:
        finding = examine(home, site.issuer, more='client_auth = "client_secret_basic_raw"')["client"]
    assert (finding["status"], finding["advice"]) == ("problem", "use --client-auth with one of client_secret_post")


def test_a_preset_whose_applications_have_a_secret(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_network(*_: object) -> Any:
        return checks.Finding("clock", "ok", "")

    monkeypatch.setattr(checks, "_check_clock", no_network)
    monkeypatch.setattr(checks, "_check_tls", no_network)
    topics = examine(home, "github")
    assert topics["discovery"]["text"] == "GitHub is a preset; its endpoints are known"
    assert (topics["client"]["status"], topics["client"]["advice"]) == ("note", "log in again with it, if so")
    assert topics["device grant"]["text"] == "offered"
    assert "PKCE" not in examine(home, "linkedin")


def test_a_server_without_pkce(home: Home) -> None:
    with Site(code_challenge_methods_supported=["plain"]) as site:
        topics = examine(home, site.issuer)
    assert (topics["PKCE"]["status"], topics["device grant"]["text"]) == ("problem", "not offered: no pauth login --device")


def test_the_redirect_uri(home: Home, site: Site) -> None:
    port = int(site.issuer.rpartition(":")[2])
    taken = examine(home, site.issuer, more=f'redirect_uri = "http://127.0.0.1:{port}/callback"')["redirect URI"]
    assert (taken["status"], f"port {port} of 127.0.0.1 is taken" in taken["text"]) == ("problem", True)
    with Site() as other:
        free = int(other.issuer.rpartition(":")[2])
    found = examine(home, site.issuer, more=f'redirect_uri = "http://127.0.0.1:{free}/callback"')["redirect URI"]
    assert (found["status"], "has to be registered exactly so" in found["text"]) == ("ok", True)
    assert "on any free port" in examine(home, site.issuer)["redirect URI"]["text"]


def test_tls(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    ca_file = home.folder / "ca.pem"
    ca_file.write_text(authority.pem())
    with Site(authority.server("127.0.0.1")) as site:
        unknown = examine(home, site.issuer)["provider"]
        assert "the certificate of 127.0.0.1 is not valid" in unknown["text"]
        assert "--ca-file for a private CA" in unknown["advice"]
        soon = examine(home, site.issuer, more=f'ca_file = "{ca_file}"')["TLS"]
        assert (soon["status"], soon["advice"]) == ("note", "the provider has to renew it in time")
        assert soon["text"].startswith("TLSv1.3, the certificate of 127.0.0.1 is valid for 1 more days")
        monkeypatch.setattr(checks, "_CERTIFICATE_ENDS", 0.0)
        assert examine(home, site.issuer, more=f'ca_file = "{ca_file}"')["TLS"]["status"] == "ok"
    ca_file.write_text("no certificate")
    assert "it holds no certificate in PEM form" in examine(home, site.issuer, more=f'ca_file = "{ca_file}"')["login"]["text"]
    ca_file.unlink()
    assert "No such file or directory" in examine(home, site.issuer, more=f'ca_file = "{ca_file}"')["login"]["text"]


async def test_tls_of_a_server_that_speaks_none(home: Home) -> None:
    check = checks._check_tls  # pyright: ignore[reportPrivateUsage]
    with Site() as site:
        finding = await check(site.issuer.replace("http:", "https:"), ssl.create_default_context())
    assert (finding.status, finding.text.startswith("no TLS connection to 127.0.0.1 (")) == ("problem", True)


async def test_tls_through_a_proxy_is_the_proxys(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_PROXY", "http://proxy.example:3128")
    check = checks._check_tls  # pyright: ignore[reportPrivateUsage]
    assert (await check("https://as.example/token", ssl.create_default_context())).text == "verified, through the proxy"


def test_the_tokens(home: Home, work: ServerThread) -> None:
    def tokens() -> dict[str, str]:
        (finding,) = [each for each in home.run("doctor", "work", "--json").json["findings"]["work"] if each["topic"] == "tokens"]
        return dict(finding)

    home.expire()
    assert tokens()["text"] == "the access token of user 'work' has expired, and is refreshed when it is asked for"
    home.change(refresh_token=None)
    assert (tokens()["status"], "gave no refresh token" in tokens()["text"]) == ("problem", True)
    home.change(grant_ended="invalid_grant")
    assert tokens()["text"] == "the grant of user 'work' has ended (invalid_grant)"
    home.change(access_token="not one")
    assert (tokens()["status"], tokens()["advice"]) == ("problem", "if nobody can mend the record, log in again")
    done = home.run("doctor", "work", "--user", "nobody", "--json")
    assert "none are stored for user 'nobody'" in done.out


def test_a_store_that_cannot_be_used(home: Home, work: ServerThread) -> None:
    home.tokens.chmod(0o755)
    done = home.run("doctor", "--json")
    (store,) = [finding for finding in done.json["findings"]["here"] if finding["topic"] == "store"]
    assert (done.code, store["status"], "chmod 700 " in store["text"], "work" in done.json["findings"]) == (1, "problem", True, False)


def test_a_store_that_forgets(home: Home, work: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(EncryptedFileStorage, "load", nothing)
    done = home.run("doctor", "work")
    assert (done.code, "did not give back what was written to it" in done.out) == (1, True)


def test_a_key_that_is_lost(home: Home, work: ServerThread) -> None:
    home.key_file.unlink()
    done = home.run("doctor")
    assert done.code == 1
    assert "there is none yet" not in done.out
    assert f"the encryption key of the stored tokens was looked for in {home.key_file} and in the system keyring and is not there" in done.out
    assert done.out.splitlines()[-1] == "1 problem."


def test_nothing_is_made_for_looking(home: Home) -> None:
    """Before the first login: what is configured is looked at, and neither a key nor a store is there afterwards."""
    done = home.run("doctor", "github", "--json")
    assert done.json["findings"]["github"][0]["text"] == "no client id is known"
    with Site() as site:
        home.configure(f'[profiles.work]\nprovider = "{site.issuer}"\nclient_id = "{CLIENT_ID}"\npublic = true\n')
        done = home.run("doctor", "--json")
    here, work = done.json["findings"]["here"], done.json["findings"]["work"]
    assert [finding["text"] for finding in here if finding["topic"] == "store"] == [f"nothing is stored yet in {home.tokens}"]
    assert {finding["topic"]: finding["status"] for finding in work}["discovery"] == "ok"
    assert not home.tokens.exists()
    assert not home.key_file.exists()


def test_a_name_that_is_none(home: Home) -> None:
    done = home.run("doctor", "gitbub")
    assert (done.code, "there is no preset for a provider named 'gitbub'" in done.out) == (1, True)


def test_a_key_that_is_none(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", "CANARY-passphrase")
    done = home.run("doctor")
    assert (done.code, "an encryption key is 32 random bytes" in done.out) == (1, True)


def test_a_profile_without_a_client(home: Home) -> None:
    home.configure('[profiles.work]\nprovider = "https://as.example"\n')
    done = home.run("doctor", "work")
    assert (done.code, "no client id is known → pauth login work --client-id …" in done.out) == (1, True)


def test_a_profile_with_a_provider_that_is_none(home: Home) -> None:
    assert "there is no preset for a provider named 'gitbub'" in examine(home, "gitbub")["login"]["text"]


def test_a_browser(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "true")
    assert "would be opened with true" in home.run("doctor").out


def test_a_server_that_fails_halfway(home: Home, work: ServerThread) -> None:
    work.server.script("token", faults.drop_before(), times=None)
    done = home.run("doctor", "work", "--json")
    topics = {finding["topic"]: finding for finding in done.json["findings"]["work"]}
    assert (done.code, topics["discovery"]["status"], topics["provider"]["status"]) == (1, "ok", "problem")
