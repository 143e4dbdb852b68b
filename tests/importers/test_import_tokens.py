"""What readers have found, into storages: nothing overwritten, nothing lost, and pauth works on with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pauth import MemoryTokenStorage, OAuth2Client, ReauthorizationRequired, Token
from pauth.core.token import token_to_dict
from pauth.errors import ConfigurationError, RecordUnreadable, StorageUnavailable, TokenStorageError
from pauth.importers import (
    Entry,
    FoundToken,
    ImportReport,
    Problem,
    Skipped,
    from_authlib,
    from_google_auth,
    from_mcp,
    from_msal,
    from_requests_oauthlib,
    import_tokens,
)
from pauth.secret import Secret
from pauth.storage import RecordKey
from pauth.storage.url import storage_from_url
from pauth.testing import ManualClock
from tests.client.kit import STORAGES, Bench, bench_at
from tests.importers.kit import vector
from tests.storage.kit import DictStorage, database

NAMESPACE = "of the client"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_at(tmp_path, rotation="RSF") as bench:
        yield bench


def entry(user: str, text: str = "CANARY-imported", number: int = 1) -> FoundToken:
    return FoundToken(f"entry {number}", user, Token(Secret(text), refresh_token=Secret("CANARY-refresh"), expires_at=2e9))


def counts(report: ImportReport) -> tuple[int, int, int, int, int]:
    return len(report.written), len(report.same), len(report.kept), len(report.problems), len(report.skipped)


async def stored(storage: Any, user: str) -> dict[str, Any] | None:
    record = await storage.load(RecordKey(NAMESPACE, user))
    return None if record is None else dict(record.tokens)


async def test_tokens_are_stored_as_the_refresh_room_reads_them(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        report = await import_tokens(from_authlib(vector("authlib")["tokens"]), storage, namespace=NAMESPACE)
        assert (report.found, counts(report)) == (5, (5, 0, 0, 0, 0))
        for found in from_authlib(vector("authlib")["tokens"]):
            assert isinstance(found, FoundToken)
            record = await storage.load(RecordKey(NAMESPACE, found.user_id))
            assert record is not None
            assert (dict(record.tokens), record.expires_at, record.version) == (token_to_dict(found.token), found.token.expires_at, 1)
        assert await storage.count() == 5


async def test_a_dry_run_reports_and_writes_nothing(tmp_path: Path) -> None:
    async with aclosing(database(tmp_path)) as storage:
        await import_tokens([entry("here"), entry("other", "CANARY-other")], storage, namespace=NAMESPACE)
        source: list[Entry] = [entry("here"), entry("other"), entry("new"), Problem("entry 4", "no"), Skipped("entry 5", "no")]
        report = await import_tokens(source, storage, namespace=NAMESPACE, dry_run=True)
        assert (report.dry_run, report.found) == (True, 3)
        assert (report.written, report.same, report.kept) == (("new",), ("here",), ("other",))
        assert (report.problems, report.skipped) == ((Problem("entry 4", "no"),), (Skipped("entry 5", "no"),))
        assert await storage.count() == 2
        would = await import_tokens(source, storage, namespace=NAMESPACE, dry_run=True, overwrite=True)
        assert (would.written, would.same, would.kept) == (("other", "new"), ("here",), ())
        did = await import_tokens(source, storage, namespace=NAMESPACE, overwrite=True)
        assert replace(did, dry_run=True) == would
        assert (await stored(storage, "other") or {})["access_token"] == "CANARY-imported"


async def test_a_report_shows_neither_users_nor_secrets() -> None:
    source: list[Entry] = [entry("alice"), Problem("entry 2", "it is not JSON", "bob"), Skipped("entry 3", "of another", "carol")]
    report = await import_tokens(source, MemoryTokenStorage(), namespace=NAMESPACE)
    shown = f"{report!r} {report} {source!r}"
    assert not any(word in shown for word in ("alice", "bob", "carol", "CANARY"))
    assert str(report) == "tokens found: 1, written: 1, there already: 0, kept as they were: 0, problems: 1, left out on purpose: 1"
    assert "would be written" in str(replace(report, dry_run=True))


async def test_what_is_there_is_left_unless_told() -> None:
    storage = MemoryTokenStorage()
    key = RecordKey(NAMESPACE, "alice")
    await storage.replace(key, {"access_token": "CANARY-newer"}, expected_version=0)
    report = await import_tokens([entry("alice")], storage, namespace=NAMESPACE)
    assert report.kept == ("alice",)
    assert await stored(storage, "alice") == {"access_token": "CANARY-newer"}
    assert (await import_tokens([entry("alice")], storage, namespace=NAMESPACE, overwrite=True)).written == ("alice",)
    assert (await stored(storage, "alice") or {})["access_token"] == "CANARY-imported"


@pytest.mark.parametrize("overwrite", [True, False])
async def test_what_is_written_meanwhile_is_newer_and_stays(*, overwrite: bool) -> None:
    """Between the look and the write a program that runs already refreshes, or a user logs in."""

    class Busy(MemoryTokenStorage):
        async def put_many(self, writes: Any) -> Any:
            await super().replace(RecordKey(NAMESPACE, "alice"), {"access_token": "CANARY-newest"}, expected_version=None)
            return await super().put_many(writes)

    storage = Busy()
    if overwrite:
        await storage.replace(RecordKey(NAMESPACE, "alice"), {"access_token": "CANARY-newer"}, expected_version=0)
    report = await import_tokens([entry("alice"), entry("bob")], storage, namespace=NAMESPACE, overwrite=overwrite)
    assert (report.kept, report.written) == (("alice",), ("bob",))
    assert await stored(storage, "alice") == {"access_token": "CANARY-newest"}


async def test_an_import_that_is_run_again_finds_its_work_done() -> None:
    storage = MemoryTokenStorage()
    source = list(from_msal(vector("msal")["caches"]["a day later"], client_id="client-1"))
    first = await import_tokens(source, storage, namespace=NAMESPACE)
    again = await import_tokens(source, storage, namespace=NAMESPACE, overwrite=True)
    assert (again.same, again.written) == (first.written, ())
    assert [item.version for item in (await storage.list_users()).items] == [1, 1]


async def test_of_a_user_who_comes_twice_the_second_is_a_problem() -> None:
    storage = MemoryTokenStorage()
    report = await import_tokens([entry("alice"), entry("alice", "CANARY-second", 2)], storage, namespace=NAMESPACE, overwrite=True, batch=1)
    assert (report.found, counts(report)) == (2, (1, 0, 0, 1, 0))
    assert (report.problems[0].where, report.problems[0].user_id) == ("entry 2", "alice")
    assert (await stored(storage, "alice") or {})["access_token"] == "CANARY-imported"


@pytest.mark.parametrize("user", ["", "x" * 1025, "\ud800"])
async def test_a_user_id_of_a_users_own_entry_that_cannot_be_one(user: str) -> None:
    report = await import_tokens([entry(user), entry("bob")], MemoryTokenStorage(), namespace=NAMESPACE)
    assert (report.written, len(report.problems)) == (("bob",), 1)
    assert "user id" in report.problems[0].reason


async def test_batches_and_progress() -> None:
    storage, done = MemoryTokenStorage(), list[int]()
    sizes: list[int] = []

    class Counting(MemoryTokenStorage):
        async def put_many(self, writes: Any) -> Any:
            sizes.append(len(writes))
            return await storage.put_many(writes)

    async def source() -> AsyncIterator[Entry]:
        for number in range(7):
            await asyncio.sleep(0)
            yield entry(f"user {number}") if number != 2 else Problem("entry 3", "no")

    report = await import_tokens(source(), Counting(), namespace=NAMESPACE, batch=3, on_progress=done.append)
    assert counts(report) == (6, 0, 0, 1, 0)
    assert (sizes, done) == ([3, 3], [4, 7, 7])
    assert await storage.count(NAMESPACE) == 6


async def test_a_source_is_closed_however_the_import_ends() -> None:
    closed: list[str] = []

    async def source() -> AsyncIterator[Entry]:
        try:
            yield entry("alice")
            yield entry("bob")
        finally:
            closed.append("source")

    class Down(MemoryTokenStorage):
        async def get_many(self, keys: Any) -> Any:
            raise StorageUnavailable("it is down")

    with pytest.raises(StorageUnavailable):
        await import_tokens(source(), Down(), namespace=NAMESPACE, batch=1)
    assert closed == ["source"]


async def test_any_asynchronous_iterable_is_a_source() -> None:
    class Source:
        def __aiter__(self) -> AsyncIterator[Entry]:
            return self.entries()

        async def entries(self) -> AsyncIterator[Entry]:
            yield entry("alice")

    assert (await import_tokens(Source(), MemoryTokenStorage(), namespace=NAMESPACE)).written == ("alice",)


async def test_an_empty_source_writes_nothing() -> None:
    done = list[int]()
    assert counts(await import_tokens([], MemoryTokenStorage(), namespace=NAMESPACE, on_progress=done.append)) == (0, 0, 0, 0, 0)
    assert done == [0]


async def test_a_record_that_cannot_be_read_is_a_problem_and_stays() -> None:
    class Unreadable(MemoryTokenStorage):
        async def get_many(self, keys: Any) -> Any:
            return [RecordUnreadable("it is damaged") if key.user_id == "alice" else None for key in keys]

    for overwrite in (False, True):
        report = await import_tokens([entry("alice"), entry("bob")], Unreadable(), namespace=NAMESPACE, overwrite=overwrite)
        assert report.problems == (Problem("entry 1", "it is damaged", "alice"),)
        assert report.written == ("bob",)


async def test_a_token_that_the_store_refuses_is_a_problem() -> None:
    class Full(MemoryTokenStorage):
        async def put_many(self, writes: Any) -> Any:
            return [
                TokenStorageError("it is too large")
                if write.key.user_id == "alice"
                else await self.replace(write.key, write.tokens, expected_version=0)
                for write in writes
            ]

    report = await import_tokens([entry("alice"), entry("bob")], Full(), namespace=NAMESPACE)
    assert (report.written, report.problems) == (("bob",), (Problem("entry 1", "it is too large", "alice"),))


@pytest.mark.parametrize("where", ["get_many", "put_many"])
async def test_a_storage_that_does_not_answer_ends_it(where: str) -> None:
    class Down(MemoryTokenStorage):
        pass

    async def fail(self: object, items: Any) -> list[TokenStorageError]:
        return [StorageUnavailable("it is down") for _ in items]

    setattr(Down, where, fail)
    with pytest.raises(StorageUnavailable, match="it is down"):
        await import_tokens([entry("alice")], Down(), namespace=NAMESPACE)


async def test_arguments_are_checked_before_anything_is_read() -> None:
    def source() -> Any:
        raise AssertionError("it was read")
        yield

    for namespace, batch in (("x" * 513, 1), (NAMESPACE, 0), (NAMESPACE, 10_001)):
        with pytest.raises(ConfigurationError):
            await import_tokens(source(), MemoryTokenStorage(), namespace=namespace, batch=batch)


async def test_a_users_own_class(bench: Bench) -> None:
    storage = DictStorage()
    client = bench.client(token_storage=storage)
    report = await import_tokens(from_authlib(vector("authlib")["tokens"]), storage, namespace=client.namespace)
    assert counts(report) == (5, 0, 0, 0, 0)
    assert storage.saved["openid"]["access_token"] == "CANARY-al-access-1"
    assert counts(await import_tokens(from_authlib(vector("authlib")["tokens"]), storage, namespace=client.namespace)) == (0, 5, 0, 0, 0)


# --- and pauth works on with it


async def granted(bench: Bench) -> Token:
    """A token of the server's, obtained elsewhere."""
    return (await bench.log_in(bench.client(token_storage=MemoryTokenStorage(clock=bench.clock)))).token


def text(secret: Secret | None) -> str:
    assert secret is not None
    return secret.reveal()


def as_library_keeps_it(library: str, token: Token, server: str) -> Any:
    access, refresh, expires_at = text(token.access_token), text(token.refresh_token), token.expires_at or 0.0
    if library == "google-auth":
        server = server.replace("http:", "https:")  # as every token_uri is; of another origin than the server's, so it is taken off below
        return from_google_auth(
            {"alice": json.dumps({"token": access, "refresh_token": refresh, "token_uri": server, "expiry": "2020-01-01T00:00:00Z"})}
        )
    if library == "mcp":
        return from_mcp(
            {"alice": json.dumps({"access_token": access, "token_type": "Bearer", "expires_in": 3600, "refresh_token": refresh})}, saved_at=1.0
        )
    if library == "msal":
        ids = {"home_account_id": "alice", "environment": "login.microsoftonline.com", "client_id": "client-1"}
        return from_msal({"RefreshToken": {"x": {**ids, "secret": refresh}}}, client_id="client-1")
    members = {"access_token": access, "refresh_token": refresh, "expires_in": 3600, "expires_at": expires_at, "token_type": "bearer"}
    return from_authlib({"alice": members}) if library == "authlib" else from_requests_oauthlib({"alice": members})


@pytest.mark.parametrize("library", ["authlib", "requests-oauthlib", "google-auth", "msal", "mcp"])
@pytest.mark.parametrize("kind", STORAGES)
async def test_an_imported_token_is_refreshed_once_and_handed_out(bench: Bench, library: str, kind: str) -> None:
    old = await granted(bench)
    storage = bench.storage(kind)
    client = bench.client(token_storage=storage)
    entries = list(as_library_keeps_it(library, old, bench.server.token_endpoint))
    bench.clock.advance(3601)
    if library in ("msal", "google-auth"):  # whose tokens are Microsoft's and Google's; here another server stands in for them
        entries = [replace(found, token=replace(found.token, token_endpoint=None)) for found in entries if isinstance(found, FoundToken)]
    report = await import_tokens(entries, storage, namespace=client.namespace)
    assert counts(report) == (1, 0, 0, 0, 0)
    tokens = await asyncio.gather(*(client.get_token("alice") for _ in range(20)))
    assert len({token.access_token for token in tokens}) == 1
    assert tokens[0].access_token != old.access_token
    assert bench.refreshes() == 1
    assert (await client.get_user_info("alice")).subject == "alice"
    again = await import_tokens(entries, storage, namespace=client.namespace)
    assert again.kept == ("alice",)  # what it was refreshed to is newer
    assert await client.get_token("alice") == tokens[0]


async def test_an_imported_token_that_is_valid_is_handed_out_as_it_is(bench: Bench) -> None:
    old = await granted(bench)
    client = bench.client(token_storage=(storage := MemoryTokenStorage(clock=bench.clock)))
    await import_tokens(as_library_keeps_it("authlib", old, ""), storage, namespace=client.namespace)
    assert (await client.get_token("alice")).access_token == old.access_token
    assert bench.refreshes() == 0


async def test_a_refresh_token_goes_to_no_server_but_its_own(bench: Bench) -> None:  # MD-4
    old = await granted(bench)
    client = bench.client(token_storage=(storage := MemoryTokenStorage(clock=bench.clock)))
    await import_tokens(as_library_keeps_it("msal", old, ""), storage, namespace=client.namespace)
    with pytest.raises(ReauthorizationRequired) as caught:
        await client.get_token("alice")
    assert caught.value.reason == "issuer_changed"
    assert bench.refreshes() == 0


async def test_the_namespace_is_the_clients(bench: Bench) -> None:
    old = await granted(bench)
    client = bench.client(token_storage=(storage := MemoryTokenStorage(clock=bench.clock)))
    await import_tokens(as_library_keeps_it("authlib", old, ""), storage, namespace="another's")
    with pytest.raises(ReauthorizationRequired) as caught:
        await client.get_token("alice")
    assert caught.value.reason == "not_logged_in"


async def test_a_url_of_a_storage_is_opened_by_who_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way of the guide: a file of tokens, a storage URL, a client."""
    from pauth import EncryptionKey

    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", EncryptionKey.generate().to_string().reveal())
    url = f"sqlite:///{tmp_path / 'tokens.db'}"
    client = OAuth2Client(
        "github", "client-1", "CANARY-secret", "https://app.example/callback", token_storage=url, clock=ManualClock(1_800_000_100.0)
    )
    async with client, aclosing(storage_from_url(url)) as storage:
        await import_tokens(from_authlib(vector("authlib")["tokens"]), storage, namespace=client.namespace)
        assert (await client.get_token("openid")).access_token.reveal() == "CANARY-al-access-1"
