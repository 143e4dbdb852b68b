"""What the SQLite driver does on a connection, in that connection's thread. Plain functions that block.

A batch of writes is one transaction: one sync of the disk for all of them (SQ-5).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from pauth.storage.driver import Delete, ExpiringRow, Put, Row, UserRow
from pauth.storage.sql.sqlite_errors import concerns_one_row, error_for
from pauth.storage.sql.tables import RETIRED_FOR_MS

__all__ = [
    "collect",
    "count",
    "delete_many",
    "extend_lease",
    "get_many",
    "list_expiring",
    "list_users",
    "put_many",
    "put_pending",
    "release_lease",
    "rewrite_many",
    "take_lease",
    "take_pending",
]

T = TypeVar("T")

_LOAD_MANY: Final = {
    places: "SELECT id, version, stored_at, expires_at, lineage, CAST(record AS BLOB) FROM pauth_tokens "  # noqa: S608  # no outside text in it
    f"WHERE id IN ({', '.join('?' * places)}) AND record IS NOT NULL"
    for places in (1 << power for power in range(15))  # SQLite takes 32,766 parameters
}
_UPSERT: Final = """
INSERT INTO pauth_tokens (id, namespace, user_id, version, stored_at, expires_at, lineage, key_id, record) VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, version = version + 1, stored_at = excluded.stored_at, expires_at = excluded.expires_at,
lineage = excluded.lineage, key_id = excluded.key_id, record = excluded.record
"""
_PUT: Final = f"{_UPSERT} RETURNING version"
_PUT_IF_NONE: Final = f"{_UPSERT} WHERE record IS NULL RETURNING version"
_PUT_IF: Final = """
UPDATE pauth_tokens SET version = version + 1, stored_at = ?, expires_at = ?, lineage = ?, key_id = ?, record = ?
WHERE id = ? AND record IS NOT NULL AND version = coalesce(?, version) AND lineage IS coalesce(?, lineage) RETURNING version
"""
_REWRITE: Final = "UPDATE pauth_tokens SET key_id = ?, record = ? WHERE id = ? AND record IS NOT NULL AND version = ?"
_DELETE: Final = """
UPDATE pauth_tokens SET user_id = NULL, expires_at = NULL, lineage = NULL, key_id = NULL, record = NULL, stored_at = ?
WHERE id = ? AND record IS NOT NULL AND version = coalesce(?, version)
"""
_PUT_PENDING: Final = """
INSERT INTO pauth_pending (id, expires_at, record) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, record = excluded.record
"""
_TAKE_PENDING: Final = "DELETE FROM pauth_pending WHERE id = ? RETURNING expires_at, record"
# One that runs longer than it was taken for is from before a restart of the machine, when the clock began anew.
_RUNS: Final = "(owner IS NOT NULL AND until > :now AND until - :now <= ttl)"
_TAKE_LEASE: Final = f"""
INSERT INTO pauth_leases (id, owner, fence, ttl, until) VALUES (:id, :owner, :wall, :ttl, :now + :ttl)
ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, ttl = excluded.ttl, until = excluded.until,
fence = CASE WHEN {_RUNS} THEN fence ELSE max(fence + 1, excluded.fence) END
WHERE owner = excluded.owner OR NOT {_RUNS} RETURNING fence
"""  # noqa: S608  # no outside text in it
_EXTEND_LEASE: Final = f"UPDATE pauth_leases SET ttl = :ttl, until = :now + :ttl WHERE id = :id AND owner = :owner AND {_RUNS}"  # noqa: S608
_RELEASE_LEASE: Final = f"UPDATE pauth_leases SET owner = NULL WHERE id = :id AND owner = :owner AND {_RUNS}"  # noqa: S608
_COLLECT_LEASES: Final = f"DELETE FROM pauth_leases WHERE fence <= :before AND NOT {_RUNS}"  # noqa: S608
_COLLECT_PENDING: Final = "DELETE FROM pauth_pending WHERE expires_at <= ?"
_COLLECT_RETIRED: Final = "DELETE FROM pauth_tokens WHERE record IS NULL AND stored_at <= ?"
_LIST_USERS: Final = "SELECT id, namespace, user_id, version, key_id FROM pauth_tokens WHERE id > ? AND record IS NOT NULL ORDER BY id LIMIT ?"
_LIST_USERS_OF: Final = _LIST_USERS.replace("WHERE", "WHERE namespace = ? AND")
_LIST_EXPIRING: Final = """
SELECT expires_at, id, namespace, user_id, version FROM pauth_tokens WHERE expires_at < ? AND (expires_at, id) > (?, ?) AND record IS NOT NULL
ORDER BY expires_at, id LIMIT ?
"""
_COUNT: Final = "SELECT count(*) FROM pauth_tokens WHERE record IS NOT NULL"
_COUNT_OF: Final = f"{_COUNT} AND namespace = ?"


def get_many(connection: sqlite3.Connection, row_ids: Sequence[bytes]) -> list[Row | None]:
    """See :meth:`.Driver.get_many`."""
    # one statement for all: each call into SQLite gives the interpreter's lock away and waits for it again
    places = 1 << (len(row_ids) - 1).bit_length()  # few different statements, so that all stay prepared
    found = connection.execute(_LOAD_MANY[places], [*row_ids, *[row_ids[0]] * (places - len(row_ids))]).fetchall()
    rows = {row[0]: Row(row[1], row[2], row[3], row[4], memoryview(row[5])) for row in found}
    return [rows.get(row_id) for row_id in row_ids]


def put_many(connection: sqlite3.Connection, puts: Sequence[Put]) -> list[int | Exception | None]:
    """See :meth:`.Driver.put_many`."""
    return _each(connection, _put, puts)


def _put(connection: sqlite3.Connection, put: Put) -> int | None:
    row_id, namespace, user_id, version, lineage, *values = put
    if lineage is None and not version:
        found = connection.execute(_PUT if version is None else _PUT_IF_NONE, (row_id, namespace, user_id, *values)).fetchone()
    else:
        found = connection.execute(_PUT_IF, (*values, row_id, version, lineage)).fetchone()
    return None if found is None else found[0]


def rewrite_many(connection: sqlite3.Connection, puts: Sequence[Put]) -> list[bool | Exception]:
    """See :meth:`.Driver.rewrite_many`."""
    return _each(connection, _rewrite, puts)


def _rewrite(connection: sqlite3.Connection, put: Put) -> bool:
    return connection.execute(_REWRITE, (put.key_id, put.data, put.row_id, put.expected_version)).rowcount > 0


def delete_many(connection: sqlite3.Connection, deletes: Sequence[Delete]) -> list[bool | Exception]:
    """See :meth:`.Driver.delete_many`."""
    return _each(connection, _delete, deletes)


def _delete(connection: sqlite3.Connection, delete: Delete) -> bool:
    return connection.execute(_DELETE, (delete.now, delete.row_id, delete.expected_version)).rowcount > 0


def put_pending(connection: sqlite3.Connection, row_id: bytes, data: memoryview, expires_at: int) -> None:
    """See :meth:`.Driver.put_pending`."""
    _alone(connection, lambda: connection.execute(_PUT_PENDING, (row_id, expires_at, data)))


def take_pending(connection: sqlite3.Connection, row_id: bytes, now: int) -> memoryview | None:
    """See :meth:`.Driver.take_pending`."""
    found = _alone(connection, lambda: connection.execute(_TAKE_PENDING, (row_id,)).fetchone())
    return memoryview(found[1]) if found is not None and found[0] > now else None


def take_lease(connection: sqlite3.Connection, row_id: bytes, owner: bytes, ttl: int, clock: Callable[[], int], wall: int) -> int | None:
    """The fence; ``None`` if another owner holds it. See :meth:`.Driver.take_lease`.

    :param clock: the time of leases, in milliseconds. Asked once the lock is held: one from before would see another process's lease end
        later than any lease can.
    """
    parameters = {"id": row_id, "owner": owner, "ttl": ttl, "wall": wall}
    found = _alone(connection, lambda: connection.execute(_TAKE_LEASE, {**parameters, "now": clock()}).fetchone())
    return None if found is None else found[0]


def extend_lease(connection: sqlite3.Connection, row_id: bytes, owner: bytes, ttl: int, clock: Callable[[], int]) -> bool:
    """See :meth:`.Driver.extend_lease`."""
    parameters = {"id": row_id, "owner": owner, "ttl": ttl}
    return _alone(connection, lambda: connection.execute(_EXTEND_LEASE, {**parameters, "now": clock()}).rowcount > 0)


def release_lease(connection: sqlite3.Connection, row_id: bytes, owner: bytes, clock: Callable[[], int]) -> bool:
    """See :meth:`.Driver.release_lease`."""
    parameters = {"id": row_id, "owner": owner}
    return _alone(connection, lambda: connection.execute(_RELEASE_LEASE, {**parameters, "now": clock()}).rowcount > 0)


def collect(connection: sqlite3.Connection, wall: int, clock: Callable[[], int]) -> None:
    """Delete what is over: pending logins at once, versions of deleted records and fences of leases after a day.

    :param clock: the time of leases.
    """

    def work() -> None:
        connection.execute(_COLLECT_PENDING, (wall,))
        connection.execute(_COLLECT_RETIRED, (wall - RETIRED_FOR_MS,))
        connection.execute(_COLLECT_LEASES, {"before": wall - RETIRED_FOR_MS, "now": clock()})

    _alone(connection, work)


def list_users(connection: sqlite3.Connection, namespace: bytes | None, after: bytes, limit: int) -> list[UserRow]:
    """See :meth:`.Driver.list_users`."""
    cursor = connection.execute(_LIST_USERS, (after, limit)) if namespace is None else connection.execute(_LIST_USERS_OF, (namespace, after, limit))
    return [UserRow(*row) for row in cursor]


def list_expiring(connection: sqlite3.Connection, before: int, after: tuple[int, bytes], limit: int) -> list[ExpiringRow]:
    """See :meth:`.Driver.list_expiring`."""
    return [ExpiringRow(*row) for row in connection.execute(_LIST_EXPIRING, (before, *after, limit))]


def count(connection: sqlite3.Connection, namespace: bytes | None) -> int:
    """See :meth:`.Driver.count`."""
    cursor = connection.execute(_COUNT) if namespace is None else connection.execute(_COUNT_OF, (namespace,))
    found: int = cursor.fetchone()[0]
    return found


def _alone(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    """What ``work`` gives, in a transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcome = work()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends it by itself after some errors
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
    return outcome


def _each(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection, Any], T], items: Sequence[Any]) -> list[T | Exception]:
    """What ``work`` gives for each item, in one transaction; if one of them cannot be done, each in its own."""
    try:
        return _alone(connection, lambda: [work(connection, item) for item in items])
    except sqlite3.Error as error:
        if len(items) == 1 or not concerns_one_row(error):
            raise
    answers: list[T | Exception] = []
    for item in items:
        try:
            answers += _each(connection, work, (item,))
        except sqlite3.Error as error:
            answers.append(error_for(error))
    return answers
