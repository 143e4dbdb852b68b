"""Re-encryption in place on Redis (VC-5): version, times, lineage, expiry and index stay."""

from __future__ import annotations

from contextlib import aclosing

from pauth.storage import Record, RecordKey, RedisTokenStorage, reencrypt
from pauth.storage.base import Write
from tests.storage.kit import KEY, OTHER_KEY
from tests.storage.redis.kit import put
from tests.support.redis_servers import RedisServer


async def test_a_store_in_redis_is_reencrypted_p16(valkey: RedisServer, prefix: str) -> None:
    keys = [RecordKey("n", f"user-{number}") for number in range(20)]
    async with aclosing(RedisTokenStorage(valkey.url, encryption_key=KEY, prefix=prefix, retention=1000)) as storage:
        await storage.put_many([Write(key, {"t": "CANARY-token"}, 0, 5000.0, None, b"of sixteen bytes", 1234.5) for key in keys])
    async with aclosing(RedisTokenStorage(valkey.url, encryption_key=[OTHER_KEY, KEY], prefix=prefix)) as storage:
        report = await reencrypt(storage, batch=7)
        assert (report.rewritten, report.complete) == (20, True)
        driver = storage._driver  # pyright: ignore[reportPrivateUsage]
        assert await driver.rewrite_many([put("nobody", expected_version=1)]) == [False]
    client = valkey.client()
    assert all(client.pttl(name) > 0 for name in client.scan_iter(f"{prefix}:*:r:*"))
    async with aclosing(RedisTokenStorage(valkey.url, encryption_key=OTHER_KEY, prefix=prefix)) as storage:
        for record in await storage.get_many(keys):
            assert isinstance(record, Record)
            assert (record.version, record.stored_at, record.expires_at, record.lineage) == (1, 1234.5, 5000.0, b"of sixteen bytes")
        assert len((await storage.list_expiring(6000.0)).items) == 20
