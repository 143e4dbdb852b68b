"""Passwords, ACL users with minimal rights, TLS (RD-6)."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import re
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis import exceptions

from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable, TokenStorageError, UnsupportedRecord
from pauth.storage import RecordKey
from pauth.storage.identity import row_id
from pauth.storage.redis.errors import COMMANDS, error_for, error_of_row
from tests.storage.redis.kit import driver_at, put, storage_at
from tests.support.canary import leaks_in_error
from tests.support.proxy import Proxy
from tests.support.redis_servers import RedisServer

PASSWORD = "CANARY-redis-password"
Start = Callable[..., RedisServer]


async def refused(operation: Any) -> str:
    """The message of the error an operation ends with, which must be one of the configuration."""
    with pytest.raises(ConfigurationError) as caught:
        await operation
    assert not list(leaks_in_error(caught.value))
    assert caught.value.__context__ is None
    return str(caught.value)


async def test_a_password_is_used_and_a_wrong_one_said_rd_6(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    with server.client() as client:
        client.config_set("requirepass", PASSWORD)
    right = storage_at(f"redis://:{PASSWORD}@{server.address}/0", prefix=prefix)
    await right.save_token("alice", {"n": 1})
    assert await right.get_token("alice") == {"n": 1}
    for userinfo in ("", ":CANARY-wrong@", "user:CANARY-wrong@"):
        wrong = storage_at(f"redis://{userinfo}{server.address}/0", prefix=prefix)
        assert "password" in await refused(wrong.get_token("alice"))
        assert "password" in await refused(wrong.list_users())
        await wrong.aclose()
    await right.aclose()


async def test_a_user_with_minimal_rights_does_everything_rd_6(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "pauth", "on", f">{PASSWORD}", f"~{prefix}:*", "-@all", *COMMANDS.split())
    storage = storage_at(f"redis://pauth:{PASSWORD}@{server.address}/0", prefix=prefix, retention=86_400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that CONFIG is forbidden is nothing to be told
        key = (await storage.list_users()).items or None
        assert key is None
        for user in ("alice", "bob"):
            await storage.save_token(user, {"of": user})
        assert await storage.get_token("alice") == {"of": "alice"}
        listed = (await storage.list_users()).items[0].key
        assert [bool(found) for found in await storage.get_many([listed, type(listed)("", "nobody")])] == [True, False]
        await storage.replace(listed, {"n": 2}, expected_version=1, expires_at=5)
        assert len((await storage.list_expiring(9)).items) == 1
        await storage.put_pending("login", {"n": 1}, expires_at=4e9)
        assert await storage.take_pending("login") == {"n": 1}
        await storage.put_pending("late", {"n": 1}, expires_at=0)
        assert await storage.take_lease(listed, "one", ttl=5)
        assert await storage.extend_lease(listed, "one", ttl=5)
        assert await storage.release_lease(listed, "one")
        await storage.remove(listed)
        assert await storage.count() == 1
    await storage.aclose()


@pytest.mark.parametrize("missing", COMMANDS.split())
async def test_each_right_is_needed_and_its_lack_said(own_redis: Start, prefix: str, missing: str) -> None:
    """The list in COMMANDS is no longer than it has to be."""
    server = own_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "pauth", "on", f">{PASSWORD}", f"~{prefix}:*", "-@all", *COMMANDS.split(), f"-{missing[1:]}")
    storage = storage_at(f"redis://pauth:{PASSWORD}@{server.address}/0", prefix=prefix, retention=86_400)
    errors: list[PAuthError] = []

    async def ask(operation: Any) -> None:
        try:
            await operation
        except PAuthError as error:
            errors.append(error)

    alice, bob, carol = (RecordKey("", user) for user in ("alice", "bob", "carol"))
    for operation in (
        storage.save_token("alice", {}),
        storage.replace(alice, {}, expected_version=None, expires_at=5),
        storage.replace(alice, {}, expected_version=None, expires_at=6),
        storage.get_token("alice"),
        storage.get_many([alice, bob, carol]),
        storage.take_lease(alice, "one", ttl=5),
        storage.extend_lease(alice, "one", ttl=5),
        storage.release_lease(alice, "one"),
        storage.put_pending("login", {}, expires_at=4e9),
        storage.put_pending("login", {}, expires_at=0),
        storage.take_pending("login"),
        storage.list_users(),
        storage.delete_token("alice"),
    ):
        await ask(operation)
    assert errors
    for error in errors:
        assert isinstance(error, ConfigurationError), str(error)
        assert "may not do" in str(error)
        assert not list(leaks_in_error(error))
    await storage.aclose()


async def test_keys_out_of_bounds_are_forbidden(own_redis: Start, prefix: str) -> None:
    server = own_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "pauth", "on", f">{PASSWORD}", "~other:*", "+@all")
    storage = storage_at(f"redis://pauth:{PASSWORD}@{server.address}/0", prefix=prefix)
    assert "may not do" in await refused(storage.get_token("alice"))
    assert "may not do" in await refused(storage.save_token("alice", {}))
    await storage.aclose()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis")])
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
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return public, private


async def test_tls_is_checked_rd_6(valkey: RedisServer, prefix: str, tmp_path: Path) -> None:
    public, private = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(public, private)
    async with Proxy(valkey.port, tls=context) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}/0"
        trusting = driver_at(f"{url}?ssl_ca_certs={public}", prefix=prefix)
        assert await trusting.put_many([put("alice")]) == [1]
        assert (await trusting.get_many([row_id("", "alice")]))[0] is not None
        strict = storage_at(url, prefix=prefix)
        assert "not trusted" in await refused(strict.get_token("alice"))
        plain = storage_at(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, timeout=5)
        with pytest.raises(StorageUnavailable):
            await plain.get_token("alice")
        await trusting.aclose()
        await strict.aclose()
        await plain.aclose()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (exceptions.BusyLoadingError("CANARY"), StorageUnavailable, "LOADING"),
        (exceptions.MasterDownError("CANARY"), StorageUnavailable, "MASTERDOWN"),
        (exceptions.OutOfMemoryError("CANARY"), StorageUnavailable, "OOM"),
        (exceptions.ResponseError("BUSY CANARY"), StorageUnavailable, "BUSY"),
        (exceptions.ResponseError("-MISCONF CANARY"), StorageUnavailable, "MISCONF"),
        (exceptions.ResponseError("WRONGTYPE CANARY"), UnsupportedRecord, "does not hold"),
        (exceptions.ResponseError("NOAUTH CANARY"), ConfigurationError, "password"),
        (exceptions.ResponseError("DB index is out of range"), ConfigurationError, "has no database of the number"),
        (exceptions.ResponseError("unknown command CANARY"), TokenStorageError, r"\(ERR\)"),
        (exceptions.TimeoutError("CANARY"), StorageUnavailable, "7 seconds"),
        (exceptions.ConnectionError("CANARY"), StorageUnavailable, "ConnectionError"),
        (KeyError("CANARY"), StorageUnavailable, "KeyError"),
        (StorageUnavailable("as it is"), StorageUnavailable, "as it is"),
    ],
)
def test_what_redis_py_raises_is_named_and_not_quoted_p20(error: Exception, kind: type[PAuthError], text: str) -> None:
    made = error_for(error, timeout=7)
    assert type(made) is kind
    assert re.search(text, str(made))
    assert not list(leaks_in_error(made))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"!@user_script: 7: -OOM command not allowed", StorageUnavailable),
        (b"!WRONGTYPE CANARY", UnsupportedRecord),
        (b"!FOREIGN", UnsupportedRecord),
        (b"!ERR ACL failure in script: CANARY", ConfigurationError),
        (b"!The user executing the script can't run this command or subcommand", ConfigurationError),
        (b"!anything \xff", TokenStorageError),
    ],
)
def test_what_a_script_says_of_a_row_is_named_and_not_quoted_p20(answer: bytes, kind: type[PAuthError]) -> None:
    assert type(error_of_row(answer)) is kind
    assert not list(leaks_in_error(error_of_row(answer)))
