"""What stands in the rows, and what is refused (SQ-1, SQ-7, P18, VC-2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pauth.errors import ConfigurationError, PAuthError, TokenStorageError
from pauth.storage import DatabaseTokenStorage, RecordKey
from pauth.storage.driver import Delete
from pauth.storage.identity import row_id
from tests.storage.sql.kit import by, driver_at, put, storage_at
from tests.support.sql_servers import MariadbServer, PostgresServer, SqlServer

Ask = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(params=["asyncpg", "psycopg", "asyncmy", "aiomysql"])
def server(request: pytest.FixtureRequest) -> SqlServer:
    found: SqlServer = request.getfixturevalue("postgres" if request.param in ("asyncpg", "psycopg") else "mariadb")
    return found


@pytest.fixture
def url(server: SqlServer, request: pytest.FixtureRequest) -> str:
    return by(request.node.callspec.params["server"], server.account())


@pytest.fixture
def ask(server: SqlServer, url: str) -> Ask:
    """Behind the storage's back, where its tables are."""
    place = url.split("//")[1].split(":", maxsplit=1)[0]
    first = f"SET search_path = {place}" if isinstance(server, PostgresServer) else f"USE {place}"
    return lambda *statements: server.ask(first, *statements)


@pytest.fixture
async def storage(url: str) -> AsyncIterator[DatabaseTokenStorage]:
    found = storage_at(url)
    yield found
    await found.aclose()


async def test_large_records_come_back_whole_sq_7(storage: DatabaseTokenStorage) -> None:
    for size in (65_535, 65_536, 1 << 20):
        await storage.save_token("alice", {"access_token": "x" * size})
        assert await storage.get_token("alice") == {"access_token": "x" * size}


async def test_a_newer_schema_is_refused_p18(storage: DatabaseTokenStorage, url: str, ask: Ask) -> None:
    await storage.save_token("alice", {"n": 1})
    ask("UPDATE pauth_schema SET version = 2")
    newer = storage_at(url)
    with pytest.raises(ConfigurationError, match="schema version 2, this version of pauth reads 1"):
        await newer.get_token("alice")
    await newer.aclose()
    assert await storage.get_token("alice") == {"n": 1}  # it looked when it connected first


async def test_tables_that_are_half_made_are_completed(storage: DatabaseTokenStorage, url: str, ask: Ask) -> None:
    await storage.save_token("alice", {"n": 1})
    ask("DELETE FROM pauth_schema", "DROP TABLE pauth_leases")
    again = storage_at(url)
    assert await again.take_lease(RecordKey("", "alice"), "one", ttl=1) is not None
    assert await again.get_token("alice") == {"n": 1}
    await again.aclose()


async def test_a_missing_table_is_no_missing_token(storage: DatabaseTokenStorage, ask: Ask) -> None:
    await storage.save_token("alice", {"n": 1})
    ask("DROP TABLE pauth_tokens")
    with pytest.raises(ConfigurationError, match="table is missing"):
        await storage.get_token("alice")


async def test_swapped_rows_are_noticed_vc_2(storage: DatabaseTokenStorage, server: SqlServer, ask: Ask) -> None:
    await storage.save_token("alice", {"of": "alice"})
    await storage.save_token("bob", {"of": "bob"})
    rows = [row_id("", user).hex() for user in ("alice", "bob")]
    literal = "decode('{}', 'hex')" if isinstance(server, PostgresServer) else "x'{}'"
    ((alices,),) = ask(f"SELECT record FROM pauth_tokens WHERE id = {literal.format(rows[0])}")
    ask(f"UPDATE pauth_tokens SET record = {literal.format(bytes(alices).hex())} WHERE id = {literal.format(rows[1])}")
    assert await storage.get_token("alice") == {"of": "alice"}
    with pytest.raises(TokenStorageError):
        await storage.get_token("bob")


async def test_one_bad_row_fails_alone(storage: DatabaseTokenStorage, url: str) -> None:
    driver = driver_at(url)
    bad = put("bad", stored_at=2**70)
    outcomes = await driver.put_many([put("alice"), bad, put("bob"), put("carol", expected_version=5), put("dave", expected_version=0)])
    assert outcomes[0] == outcomes[2] == outcomes[4] == 1
    assert isinstance(outcomes[1], PAuthError)
    assert outcomes[3] is None
    await driver.aclose()


async def test_what_is_over_is_collected_and_fences_rise_all_the_same(url: str, ask: Ask) -> None:
    driver = driver_at(url)
    day = 86_400_000
    row = row_id("", "alice")
    lease = await driver.take_lease(row, b"one", 60_000)
    assert lease is not None
    await driver.release_lease(row, b"one")
    ask(f"UPDATE pauth_leases SET fence = {lease.fence - 2 * day}, until = {lease.fence - 2 * day}")
    await driver.put_many([put("alice"), put("bob")])
    await driver.delete_many([Delete(row, None, 1_000)])
    await driver.put_pending(b"p" * 32, memoryview(b"CANARY-1"), expires_at=1_000, now=500)  # collects, and finds nothing
    await driver.put_pending(b"q" * 32, memoryview(b"CANARY-2"), expires_at=lease.fence + day, now=lease.fence)
    assert ask("SELECT count(*) FROM pauth_pending") == [(1,)]
    assert ask("SELECT count(*) FROM pauth_tokens") == [(1,)]
    assert ask("SELECT count(*) FROM pauth_leases") == [(0,)]
    again = await driver.take_lease(row, b"two", 60_000)
    assert again is not None
    assert again.fence >= lease.fence
    await driver.aclose()


@pytest.mark.parametrize("server", ["asyncpg", "asyncmy"], indirect=True)
async def test_100_000_users_are_listed_by_page_while_they_change(url: str, server: SqlServer, ask: Ask) -> None:
    total = 100_000
    driver = driver_at(url)
    await driver.count(None)
    columns = "id, namespace, user_id, version, stored_at, expires_at, record"
    if isinstance(server, PostgresServer):
        rows_made = f"sha256(n::text::bytea), '', n::text::bytea, 1, 1, n, 'x' FROM generate_series(1, {total}) AS n"
    else:
        digits = "(" + " UNION ALL ".join(f"SELECT {digit} AS d" for digit in range(10)) + ")"
        numbers = ", ".join(f"{digits} AS d{place}" for place in range(5))
        number = "(1 + " + " + ".join(f"d{place}.d * {10**place}" for place in range(5)) + ")"
        rows_made = f"UNHEX(SHA2(n, 256)), '', n, 1, 1, n, 'x' FROM (SELECT {number} AS n FROM {numbers}) AS numbers"
    await asyncio.to_thread(ask, f"INSERT INTO pauth_tokens ({columns}) SELECT {rows_made}")
    stop = False

    async def change() -> None:
        """Some come, some change, some go."""
        number = 0
        while not stop:
            number += 2
            await driver.put_many([put(f"new-{number}"), put(f"new-{number + 1}", expires_at=number), put(f"new-{number - 1}")])
            await driver.delete_many([Delete(row_id("", f"new-{number - 2}"), None, 1_000)])
            await asyncio.sleep(0)

    changing = asyncio.create_task(change())
    seen: list[bytes] = []
    after = b""
    while rows := await driver.list_users(b"", after=after, limit=10_000):
        seen += [row.user_id for row in rows if not row.user_id.startswith(b"new")]
        after = rows[-1].row_id
    assert sorted(map(int, seen)) == list(range(1, total + 1))
    moments: list[int] = []
    position = (-(2**63), b"")
    while due := await driver.list_expiring(before=total, after=position, limit=10_000):
        moments += [row.expires_at for row in due if not row.user_id.startswith(b"new")]
        position = (due[-1].expires_at, due[-1].row_id)
    assert moments == list(range(1, total))
    stop = True
    await changing
    await driver.aclose()


async def test_a_record_larger_than_a_packet_is_refused_by_itself(mariadb: MariadbServer) -> None:
    for library in ("asyncmy", "aiomysql"):
        driver = driver_at(by(library, mariadb.account()))
        small, large = await driver.put_many([put("alice"), put("bob", data=memoryview(bytes(9 << 20)))])
        assert small == 1
        assert isinstance(large, TokenStorageError)
        assert "max_allowed_packet" in str(large)
        await driver.aclose()
