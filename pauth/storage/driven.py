"""The coordinated protocol on top of a driver: the public storages derive from this and only build their driver.

Here keys become row ids, tokens become encrypted bytes, and operations that wait together become batches.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

from pauth.clock import Clock, SystemClock
from pauth.errors import ConfigurationError, PAuthError, TokenStorageError
from pauth.storage.arguments import (
    check_limit,
    check_lineage,
    check_timeout,
    check_version,
    expiring_cursor,
    milliseconds,
    owner_bytes,
    position_of_expiring,
    position_of_user,
    ttl_milliseconds,
    user_cursor,
)
from pauth.storage.base import Expiring, Lease, Listed, Page, Record, RecordKey, Write
from pauth.storage.coalesce import MAX_BATCH_BYTES, MAX_BATCH_ITEMS, Coalescer
from pauth.storage.codec import Codec, RecordKind, key_id_of
from pauth.storage.detached import Detached
from pauth.storage.driver import Delete, Driver, ExpiringRow, KeepsSecret, Put, Row, UserRow
from pauth.storage.identity import row_id
from pauth.storage.keys import Keyring, KeySource, keyring_from, keyring_from_environment
from pauth.storage.payload import json_copy

__all__ = ["DrivenTokenStorage", "chosen_keyring"]

T = TypeVar("T")

_log: Final = logging.getLogger("pauth.storage")


def chosen_keyring(encryption_key: KeySource | Keyring | None, *, insecure_plaintext: bool) -> Keyring | None:
    """The keyring that a storage's options mean; ``None`` for plaintext. To be called from its constructor, with :func:`.conceal`-ed keys.

    :raises ConfigurationError: no usable key, or options that contradict each other.
    """
    if not insecure_plaintext:
        return keyring_from(encryption_key) or keyring_from_environment()
    if encryption_key is not None:
        raise ConfigurationError("encryption_key and insecure_plaintext=True contradict each other; leave one out")
    warnings.warn("insecure_plaintext=True: tokens are stored readable to whoever gets at the store", stacklevel=3)
    return None


class DrivenTokenStorage:
    """A coordinated token storage that keeps its rows through a :class:`.Driver`.

    Usable from several event loops and threads. A caller who is cancelled leaves the storage as it was or as it was to become.

    :param driver: where rows go. It is closed with the storage.
    :param keyring: ``None`` stores plaintext.
    :param namespace: where the three plain methods keep their records.
    :param timeout: seconds after which an operation gives up on the driver.
    :param clock: where the time comes from.
    :param coalesce: send what waits at the same time as one batch.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        keyring: Keyring | None,
        namespace: str = "",
        timeout: float = 30.0,
        clock: Clock | None = None,
        coalesce: bool = True,
    ) -> None:
        check_timeout(timeout)
        self.store_id: tuple[str, ...] | None = driver.store_id
        """What names the store itself: two objects with equal ids are one store, and refresh together. ``None`` if that cannot be told."""
        self._driver = driver
        self._codec = Codec(keyring)
        self._namespace = namespace
        self._timeout = timeout
        self._clock = SystemClock() if clock is None else clock
        self._rows = Coalescer(driver, timeout=timeout, max_items=MAX_BATCH_ITEMS if coalesce else 1)
        self._operations = Detached()
        self._closed = False
        self._closing: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        """Keep ``tokens`` for ``user_id``, replacing what was there. Stored when it returns."""
        write = Write(RecordKey(self._namespace, user_id), tokens)
        del tokens  # SH-5: where a traceback shows locals; neither a Write nor a Put prints what it holds
        await self._open_rows().put(self._put_of(write))

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        """The tokens kept for ``user_id``; ``None`` for a user without any."""
        key = RecordKey(self._namespace, user_id)
        row = await self._open_rows().get(row_id(key.namespace, key.user_id))
        return None if row is None else self._codec.decode(RecordKind.TOKENS, key, row.version, row.data)

    async def delete_token(self, user_id: str) -> None:
        """Forget ``user_id``. No error if there is nothing to forget."""
        await self.remove(RecordKey(self._namespace, user_id))

    async def load(self, key: RecordKey) -> Record | None:
        """See :meth:`.CoordinatedTokenStorage.load`."""
        row = await self._open_rows().get(row_id(key.namespace, key.user_id))
        return None if row is None else self._read(key, row)

    async def replace(
        self,
        key: RecordKey,
        tokens: Mapping[str, Any],
        *,
        expected_version: int | None,
        expires_at: float | None = None,
        expected_lineage: bytes | None = None,
        lineage: bytes | None = None,
    ) -> Record | None:
        """See :meth:`.CoordinatedTokenStorage.replace`."""
        write = Write(key, tokens, expected_version, expires_at, expected_lineage, lineage)
        del tokens  # as above
        put = self._put_of(write)
        write = replace(write, tokens=json_copy(write.tokens))  # the caller may go on with his own
        version = await self._open_rows().put(put)
        return None if version is None else _written(write, put, version)

    async def remove(self, key: RecordKey, *, expected_version: int | None = None) -> bool:
        """See :meth:`.CoordinatedTokenStorage.remove`."""
        return await self._open_rows().delete(Delete(row_id(key.namespace, key.user_id), check_version(expected_version), self._now()))

    async def get_many(self, keys: Sequence[RecordKey]) -> list[Record | TokenStorageError | None]:
        """See :meth:`.CoordinatedTokenStorage.get_many`."""
        rows = await self._open_rows().get_many([row_id(key.namespace, key.user_id) for key in keys])
        return [self._read_or_error(key, row) for key, row in zip(keys, rows, strict=True)]

    async def put_many(self, writes: Sequence[Write]) -> list[Record | TokenStorageError | None]:
        """See :meth:`.CoordinatedTokenStorage.put_many`."""
        answers: list[Record | TokenStorageError | None] = [None] * len(writes)
        prepared: list[tuple[int, Write, Put]] = []
        for number, write in enumerate(writes):
            try:
                prepared.append((number, write, self._put_of(write)))
            except TokenStorageError as error:  # it is not JSON: this one fails alone
                answers[number] = error
        versions = await self._open_rows().put_many([put for _, _, put in prepared])
        for (number, write, put), version in zip(prepared, versions, strict=True):
            outcome = _item(version)
            answers[number] = _written(write, put, outcome) if isinstance(outcome, int) else outcome
        return answers

    async def delete_many(self, keys: Sequence[RecordKey]) -> list[bool | TokenStorageError]:
        """See :meth:`.CoordinatedTokenStorage.delete_many`."""
        now = self._now()
        return [
            _item(answer) for answer in await self._open_rows().delete_many([Delete(row_id(key.namespace, key.user_id), None, now) for key in keys])
        ]

    @property
    def key_id(self) -> str | None:
        """The id of the key that encrypts what is written now, in hexadecimal; ``None`` for plaintext."""
        return self._codec.key_id

    async def reencrypt_many(self, records: Sequence[Record]) -> list[bool | TokenStorageError]:
        """Encrypt records with the key of :attr:`key_id`, where they still are as they were read. For :func:`.reencrypt`.

        Version, times and lineage stay: neither a cache nor a refresh that is under way notices.

        :returns: for each, whether it is done; ``False`` if it was changed or deleted since it was read.
        """
        answers: list[bool | TokenStorageError] = [False] * len(records)
        prepared: list[tuple[int, Put]] = []
        for number, each in enumerate(records):
            write = Write(each.key, each.tokens, each.version, each.expires_at, None, each.lineage, each.stored_at)
            try:
                prepared.append((number, self._put(write, each.version)))
            except TokenStorageError as error:  # it was written by another program, and is not JSON as pauth writes it
                answers[number] = error
        while prepared:
            batch = _first_batch(prepared)
            prepared = prepared[len(batch) :]
            rewritten = await self._ask(self._driver.rewrite_many([put for _, put in batch]))
            for (number, _), answer in zip(batch, rewritten, strict=True):
                answers[number] = _item(cast("bool | PAuthError", answer))
        return answers

    async def renew_secret(self) -> None:
        """Encrypt with the newest key what the store keeps for itself: part of :func:`.reencrypt`.

        :raises TokenStorageError: the store failed.
        """
        if isinstance(self._driver, KeepsSecret):
            await self._ask(self._driver.renew_secret())

    async def put_pending(self, pending_id: str, payload: Mapping[str, Any], *, expires_at: float) -> None:
        """See :meth:`.CoordinatedTokenStorage.put_pending`."""
        data = self._encoded(RecordKind.PENDING, pending_id, payload)
        del payload  # SH-5
        if isinstance(data, PAuthError):
            raise data
        await self._ask(self._driver.put_pending(row_id(pending_id), data, expires_at=milliseconds(expires_at), now=self._now()))

    async def take_pending(self, pending_id: str) -> dict[str, Any] | None:
        """See :meth:`.CoordinatedTokenStorage.take_pending`."""
        data = await self._ask(self._driver.take_pending(row_id(pending_id), now=self._now()))
        return None if data is None else self._codec.decode(RecordKind.PENDING, pending_id, 0, data)

    @property
    def sealed(self) -> bool:
        """Whether what :meth:`seal` gives is encrypted; ``False`` for plaintext."""
        return self._codec.key_id is not None

    def seal(self, name: str, payload: Mapping[str, Any]) -> bytes:
        """What cannot be stored now, as bytes to keep elsewhere for a while: encrypted as records are, and bound to ``name``.

        Neither this nor :meth:`unseal` asks the store, so both go on when it is out of reach or the storage is closed.

        :raises TokenStorageError: the payload is not JSON.
        :raises ConfigurationError: the key has encrypted as many records as one key may.
        """
        data = self._encoded(RecordKind.JOURNAL, name, payload)
        del payload  # SH-5
        if isinstance(data, PAuthError):
            raise data
        return bytes(data)

    def unseal(self, name: str, data: bytes | memoryview) -> dict[str, Any]:
        """The payload that :meth:`seal` was given under the same name, in this process or another with the key.

        :raises RecordTampered: changed, cut short or of another name; or plaintext where this storage encrypts.
        :raises UnknownEncryptionKey: encrypted, and its key is not configured.
        :raises UnsupportedRecord: of a newer pauth, or not of pauth.
        """
        data = memoryview(data)  # SH-5: plaintext would print
        return self._codec.decode(RecordKind.JOURNAL, name, 0, data)

    async def take_lease(self, key: RecordKey, owner: str, *, ttl: float) -> Lease | None:
        """See :meth:`.CoordinatedTokenStorage.take_lease`."""
        asked_at = self._clock.monotonic()
        lease = await self._ask(self._driver.take_lease(row_id(key.namespace, key.user_id), owner_bytes(owner), ttl_milliseconds(ttl)))
        if lease is None:
            return None
        # the server set it at some moment since: the earliest one is safe
        return Lease(lease.fence, max(0.0, lease.remaining_ms / 1000 - (self._clock.monotonic() - asked_at)))

    async def extend_lease(self, key: RecordKey, owner: str, *, ttl: float) -> bool:
        """See :meth:`.CoordinatedTokenStorage.extend_lease`."""
        return await self._ask(self._driver.extend_lease(row_id(key.namespace, key.user_id), owner_bytes(owner), ttl_milliseconds(ttl)))

    async def release_lease(self, key: RecordKey, owner: str) -> bool:
        """See :meth:`.CoordinatedTokenStorage.release_lease`."""
        return await self._ask(self._driver.release_lease(row_id(key.namespace, key.user_id), owner_bytes(owner)))

    async def list_users(self, namespace: str | None = None, *, cursor: str | None = None, limit: int = 1000) -> Page[Listed]:
        """See :meth:`.CoordinatedTokenStorage.list_users`."""
        after = position_of_user(cursor)
        rows = await self._ask(self._driver.list_users(_namespace_bytes(namespace), after=after, limit=check_limit(limit)))
        items = [
            Listed(key, row.version, None if row.key_id is None else row.key_id.hex())
            for key, row in ((self._key_of(row), row) for row in rows)
            if key is not None
        ]
        _tell_of_strangers(len(rows) - len(items))
        return Page(items, user_cursor(rows[-1].row_id) if len(rows) >= limit else None)

    async def list_expiring(self, before: float, *, cursor: str | None = None, limit: int = 1000) -> Page[Expiring]:
        """See :meth:`.CoordinatedTokenStorage.list_expiring`."""
        after = position_of_expiring(cursor)
        rows = await self._ask(self._driver.list_expiring(before=milliseconds(before), after=after, limit=check_limit(limit)))
        items = [Expiring(key, row.version, row.expires_at / 1000) for key, row in ((self._key_of(row), row) for row in rows) if key is not None]
        _tell_of_strangers(len(rows) - len(items))
        return Page(items, expiring_cursor(rows[-1].expires_at, rows[-1].row_id) if len(rows) >= limit else None)

    async def count(self, namespace: str | None = None) -> int:
        """See :meth:`.CoordinatedTokenStorage.count`."""
        return await self._ask(self._driver.count(_namespace_bytes(namespace)))

    async def aclose(self) -> None:
        """Finish what is under way on this event loop, then close the connections that are the storage's own."""
        if self._closing is None:
            self._closed = True
            self._closing = asyncio.ensure_future(self._close())  # a task of its own: who is cancelled here leaves it going
        if self._closing.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._rows.drain(patience=self._timeout)
        await self._operations.drain(patience=self._timeout)
        await self._operations.run(self._driver.aclose(), patience=self._timeout)

    def _open_rows(self) -> Coalescer:
        if self._closed:
            raise ConfigurationError("this token storage was closed")
        return self._rows

    async def _ask(self, operation: Coroutine[Any, Any, T]) -> T:
        """What the driver gives for an operation that goes by itself."""
        if self._closed:
            operation.close()
            raise ConfigurationError("this token storage was closed")
        try:
            return await self._operations.run(operation, patience=self._timeout)
        except PAuthError:
            raise
        except Exception as error:  # noqa: BLE001  # a driver's mistake, whose text may hold anything
            failure = TokenStorageError(f"the token storage's driver raised {type(error).__name__}")
        raise failure

    def _now(self) -> int:
        return milliseconds(self._clock.time())

    def _encoded(self, kind: RecordKind, name: str, payload: Mapping[str, Any]) -> memoryview | PAuthError:
        """The payload's bytes, or why there are none: for the caller to raise, once it has let go of the payload (SH-5)."""
        try:
            return memoryview(self._codec.encode(kind, name, 0, payload))
        except PAuthError as error:
            return error.with_traceback(None)

    def _put_of(self, write: Write) -> Put:
        check_version(write.expected_version)
        try:
            # without a predecessor the version cannot be known, so it is not bound: a record may have been deleted here, and versions go on
            return self._put(write, write.expected_version + 1 if write.expected_version else 0)
        except PAuthError as error:
            failure = error.with_traceback(None)  # SH-5: whose frames hold the tokens
        raise failure

    def _put(self, write: Write, bound_version: int) -> Put:
        key = write.key
        data = self._codec.encode(RecordKind.TOKENS, key, bound_version, write.tokens)
        return Put(
            row_id(key.namespace, key.user_id),
            key.namespace.encode("utf-8", "surrogatepass"),
            key.user_id.encode(),
            write.expected_version,
            check_lineage(write.expected_lineage),
            self._now() if write.stored_at is None else milliseconds(write.stored_at),
            None if write.expires_at is None else milliseconds(write.expires_at),
            check_lineage(write.lineage),
            key_id_of(data),
            memoryview(data),
        )

    def _key_of(self, row: UserRow | ExpiringRow) -> RecordKey | None:
        """Whose row it is; ``None`` if what stands beside the record is not what the row is found by: nobody could read it under that name."""
        with suppress(UnicodeDecodeError, ConfigurationError):
            key = RecordKey(row.namespace.decode("utf-8", "surrogatepass"), row.user_id.decode())
            if self._driver.checks_owners or row_id(key.namespace, key.user_id) == row.row_id:
                return key
        return None

    def _read(self, key: RecordKey, row: Row) -> Record:
        tokens = self._codec.decode(RecordKind.TOKENS, key, row.version, row.data)
        expires_at = None if row.expires_at is None else row.expires_at / 1000
        key_id = key_id_of(row.data)
        return Record(key, tokens, row.version, row.stored_at / 1000, expires_at, row.lineage, None if key_id is None else key_id.hex())

    def _read_or_error(self, key: RecordKey, row: Row | PAuthError | None) -> Record | TokenStorageError | None:
        found = _item(row)
        if found is None or isinstance(found, TokenStorageError):
            return found
        try:
            return self._read(key, found)
        except TokenStorageError as error:  # an unreadable record fails alone
            return error


def _item(answer: T | PAuthError) -> T | TokenStorageError:
    """An item's answer; what concerns the whole storage, as its configuration does, is raised."""
    if isinstance(answer, PAuthError) and not isinstance(answer, TokenStorageError):
        raise answer
    return answer


def _written(write: Write, put: Put, version: int) -> Record:
    expires_at = None if put.expires_at is None else put.expires_at / 1000
    key_id = None if put.key_id is None else put.key_id.hex()
    return Record(write.key, write.tokens, version, put.stored_at / 1000, expires_at, write.lineage, key_id)


def _tell_of_strangers(number: int) -> None:
    if number:
        _log.warning("records whose owner cannot be told, and which are therefore not listed: %d", number)


def _first_batch(prepared: Sequence[tuple[int, Put]]) -> Sequence[tuple[int, Put]]:
    """As many as go in one batch; at least one."""
    size = 0
    for number, (_, put) in enumerate(prepared[:MAX_BATCH_ITEMS]):
        size += len(put.data)
        if number and size > MAX_BATCH_BYTES:
            return prepared[:number]
    return prepared[:MAX_BATCH_ITEMS]


def _namespace_bytes(namespace: str | None) -> bytes | None:
    return None if namespace is None else namespace.encode("utf-8", "surrogatepass")
