"""TLS to PostgreSQL, and that nothing of asyncpg's blocks the event loop while it connects."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pauth.errors import ConfigurationError, StorageUnavailable
from pauth.storage.sql.postgres_tls import tls_attempts
from tests.storage.sql.kit import at, by, storage_at
from tests.support.canary import leaks_in_error
from tests.support.proxy import Proxy
from tests.support.sql_servers import PostgresServer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own, and none of libpq's variables."""
    for name in ("PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".postgresql").mkdir()
    return tmp_path


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "postgres")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    public.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return public, private


async def test_tls_is_checked(postgres: PostgresServer, certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["postgresql"])
    context.load_cert_chain(*certificate)
    async with Proxy(postgres.port, tls=context) as proxy:
        url = at(by("asyncpg", postgres.account()), proxy.port) + "?direct_tls=true&ssl="
        for mode in (f"verify-full&sslrootcert={certificate[0]}", "require"):
            async with aclosing(storage_at(url + mode)) as storage:
                await storage.save_token("alice", {"n": 1})
                assert await storage.get_token("alice") == {"n": 1}
        async with aclosing(storage_at(f"{url}verify-full&sslrootcert=system")) as storage:
            with pytest.raises(ConfigurationError, match="not trusted") as caught:
                await storage.get_token("alice")
            assert not list(leaks_in_error(caught.value))
        await asyncio.sleep(0)


async def test_a_server_without_tls_is_preferred_but_not_where_tls_is_required(postgres: PostgresServer) -> None:
    url = by("asyncpg", postgres.account())
    for mode in ("disable", "allow", "prefer"):
        async with aclosing(storage_at(f"{url}?sslmode={mode}")) as storage:
            await storage.save_token("alice", {"mode": mode})
    async with aclosing(storage_at(f"{url}?sslmode=require")) as storage:
        with pytest.raises(StorageUnavailable):
            await storage.get_token("alice")


async def test_asyncpg_looks_for_no_file_on_the_event_loop(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = by("asyncpg", postgres.account())
    without_password = url.replace(":CANARY-password", "")
    with blockbuster_ctx(scanned_modules=["pauth"]) as detector:  # without what is allowed elsewhere
        for function in detector.functions.values():
            function.can_block_in("<frozen importlib._bootstrap>", "_find_and_load")
        async with aclosing(storage_at(url)) as storage:
            await storage.save_token("alice", {"n": 1})
        async with aclosing(storage_at(without_password)) as storage:
            with pytest.raises(ConfigurationError, match="password in the URL is not accepted"):
                await storage.get_token("alice")
        monkeypatch.setenv("PGPASSWORD", "CANARY-password")
        async with aclosing(storage_at(without_password)) as storage:
            assert await storage.get_token("alice") == {"n": 1}


def test_which_certificates_count(home: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def attempts(**options: str) -> list[Any]:
        return [
            (attempt.verify_mode, attempt.check_hostname) if isinstance(attempt, ssl.SSLContext) else attempt for attempt in tls_attempts(options)
        ]

    unchecked = (ssl.CERT_NONE, False)
    assert attempts() == [unchecked, False]
    assert attempts(sslmode="allow") == [False, unchecked]
    assert attempts(sslmode="require") == [unchecked]
    for mode in ("verify-ca", "verify-full"):
        with pytest.raises(ConfigurationError, match="authority to trust"):
            tls_attempts({"sslmode": mode})
    usual = home / ".postgresql"
    usual.joinpath("root.crt").write_bytes(certificate[0].read_bytes())
    assert attempts(sslmode="require") == [(ssl.CERT_REQUIRED, False)]
    assert attempts(sslmode="verify-full") == [(ssl.CERT_REQUIRED, True)]
    monkeypatch.setenv("PGSSLMODE", "verify-ca")
    assert attempts() == [(ssl.CERT_REQUIRED, False)]
    usual.joinpath("root.crl").write_bytes(certificate[0].read_bytes())
    (context,) = tls_attempts({})
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_CHAIN
    assert attempts(sslcert=str(certificate[0]), sslkey=str(certificate[1])) == [(ssl.CERT_REQUIRED, False)]
    for options in ({"sslcert": str(certificate[0])}, {"sslrootcert": str(home / "nowhere")}):
        with pytest.raises(ConfigurationError, match="cannot be used") as caught:
            tls_attempts(options)
        assert caught.value.__context__ is None


@pytest.mark.parametrize("query", ["ssl=verify", "sslmode=x", "passfile=/x"])
def test_unusable_options(query: str) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no such sslmode|has no option"):
        storage_at(f"postgresql+asyncpg://u@h/d?{query}")
