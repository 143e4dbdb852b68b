"""What the PostgreSQL driver asks. Numbered parameters: both libraries send them apart from the text (SQ-4)."""

from __future__ import annotations

from typing import Final

__all__ = [
    "COLLECT",
    "COUNT",
    "COUNT_OF",
    "ERASE",
    "EXTEND_LEASE",
    "LIST_EXPIRING",
    "LIST_USERS",
    "LIST_USERS_OF",
    "LOAD",
    "LOAD_ONE",
    "PUT_PENDING",
    "RELEASE_LEASE",
    "REWRITE",
    "TAKE_LEASE",
    "TAKE_PENDING",
    "UPDATE",
    "UPSERT",
    "UPSERT_IF_NONE",
]

# ruff: noqa: S608  # no outside text in any of them

_COLUMNS: Final = "SELECT id, version, stored_at, expires_at, lineage, record FROM pauth_tokens"
LOAD_ONE: Final = f"{_COLUMNS} WHERE id = $1 AND record IS NOT NULL"
LOAD: Final = f"{_COLUMNS} WHERE id = ANY($1::bytea[]) AND record IS NOT NULL"

_GIVEN: Final = """
unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[])
AS given (id, namespace, user_id, expected_version, expected_lineage, stored_at, expires_at, lineage, key_id, record)
"""
"""The columns of :class:`.Put`."""

UPSERT: Final = f"""
INSERT INTO pauth_tokens AS kept (id, namespace, user_id, version, stored_at, expires_at, lineage, key_id, record)
SELECT id, namespace, user_id, 1, stored_at, expires_at, lineage, key_id, record FROM {_GIVEN} ORDER BY id
ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, version = kept.version + 1, stored_at = excluded.stored_at,
expires_at = excluded.expires_at, lineage = excluded.lineage, key_id = excluded.key_id, record = excluded.record
RETURNING id, version
"""
UPSERT_IF_NONE: Final = UPSERT.replace("RETURNING", "WHERE kept.record IS NULL RETURNING")
UPDATE: Final = f"""
UPDATE pauth_tokens AS kept SET version = kept.version + 1, stored_at = given.stored_at, expires_at = given.expires_at, lineage = given.lineage,
key_id = given.key_id, record = given.record FROM {_GIVEN}
WHERE kept.id = given.id AND kept.record IS NOT NULL AND kept.version = coalesce(given.expected_version, kept.version)
AND (given.expected_lineage IS NULL OR kept.lineage = given.expected_lineage)
RETURNING kept.id, kept.version
"""
REWRITE: Final = """
UPDATE pauth_tokens AS kept SET key_id = given.key_id, record = given.record
FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[]) AS given (id, version, key_id, record)
WHERE kept.id = given.id AND kept.record IS NOT NULL AND kept.version = given.version
RETURNING kept.id
"""
ERASE: Final = """
UPDATE pauth_tokens AS kept SET user_id = NULL, expires_at = NULL, lineage = NULL, key_id = NULL, record = NULL, stored_at = given.now
FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS given (id, expected_version, now)
WHERE kept.id = given.id AND kept.record IS NOT NULL AND kept.version = coalesce(given.expected_version, kept.version)
RETURNING kept.id
"""

PUT_PENDING: Final = """
INSERT INTO pauth_pending (id, expires_at, record) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, record = excluded.record
"""
TAKE_PENDING: Final = "DELETE FROM pauth_pending WHERE id = $1 RETURNING expires_at, record"

_NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
# When it is a holder's turn the time it came with may have passed; then a lease is thought to run a little longer than it does.
_RUNS: Final = "(kept.owner IS NOT NULL AND kept.until > excluded.fence)"
TAKE_LEASE: Final = f"""
INSERT INTO pauth_leases AS kept (id, owner, fence, ttl, until) SELECT $1::bytea, $2::bytea, now, $3::bigint, now + $3::bigint
FROM (SELECT {_NOW} AS now) AS clock ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, ttl = excluded.ttl, until = excluded.until,
fence = CASE WHEN {_RUNS} THEN kept.fence ELSE greatest(kept.fence + 1, excluded.fence) END
WHERE kept.owner = excluded.owner OR NOT {_RUNS} RETURNING fence, greatest(until - {_NOW}, 0)
"""
_IS_THE_OWNERS: Final = f"id = $1::bytea AND owner = $2::bytea AND until > {_NOW}"
EXTEND_LEASE: Final = f"UPDATE pauth_leases SET ttl = $3::bigint, until = {_NOW} + $3::bigint WHERE {_IS_THE_OWNERS} RETURNING 1"
RELEASE_LEASE: Final = f"UPDATE pauth_leases SET owner = NULL WHERE {_IS_THE_OWNERS} RETURNING 1"

COLLECT: Final = (
    "DELETE FROM pauth_pending WHERE expires_at <= $1::bigint",
    "DELETE FROM pauth_tokens WHERE record IS NULL AND stored_at <= $1::bigint - 86400000",
    f"DELETE FROM pauth_leases WHERE (owner IS NULL OR until <= {_NOW}) AND greatest(fence, until) <= least($1::bigint, {_NOW}) - 86400000",
)

LIST_USERS: Final = (
    "SELECT id, namespace, user_id, version, key_id FROM pauth_tokens WHERE id > $1 AND record IS NOT NULL ORDER BY id LIMIT $2::bigint"
)
LIST_USERS_OF: Final = LIST_USERS.replace("WHERE", "WHERE namespace = $3 AND")
LIST_EXPIRING: Final = """
SELECT expires_at, id, namespace, user_id, version FROM pauth_tokens
WHERE expires_at < $1::bigint AND (expires_at, id) > ($2::bigint, $3::bytea) AND record IS NOT NULL ORDER BY expires_at, id LIMIT $4::bigint
"""
COUNT: Final = "SELECT count(*) FROM pauth_tokens WHERE record IS NOT NULL"
COUNT_OF: Final = f"{COUNT} AND namespace = $1"
