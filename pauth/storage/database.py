"""Tokens in a SQL database, through SQLAlchemy. For now: SQLite."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from pauth.clock import Clock, SystemClock
from pauth.errors import ConfigurationError, TokenStorageError
from pauth.secret import Secret
from pauth.storage.base import Record, RecordKey
from pauth.storage.codec import Codec, RecordKind
from pauth.storage.detached import Detached
from pauth.storage.keys import Keyring, KeySource, conceal, keyring_from, keyring_from_environment
from pauth.storage.payload import check_moment, json_copy

_MISSING: Final = [name for name in ("sqlalchemy", "greenlet", "aiosqlite") if find_spec(name) is None]
if TYPE_CHECKING or not _MISSING:
    from sqlalchemy import URL, Executable
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import AsyncEngine

    from pauth.storage import sql
    from pauth.storage.engines import Engines, engines_for_engine
    from pauth.storage.sqlite import make_engine, parse_url, prepare_file

__all__ = ["DatabaseTokenStorage"]

_COLLECT_EVERY: Final = 60.0
_RETIRED_FOR_MS: Final = 86_400_000


class DatabaseTokenStorage:
    """Keeps tokens in a SQL database, encrypted with AES-256-GCM. Tables are made on first use.

    Usable from several event loops and threads (one connection each) and by several processes on one file. A caller who is cancelled leaves
    the storage as it was or as it was to become.

    ::

        storage = DatabaseTokenStorage("sqlite+aiosqlite:///tokens.db", encryption_key=os.environ["TOKEN_KEY"])

    :param url: ``sqlite+aiosqlite:///relative/path`` or ``sqlite+aiosqlite:////absolute/path``; or an engine of your own, which stays yours to
        configure and dispose, and serves one event loop.
    :param encryption_key: a key, or several of which the first encrypts; by default those in ``PAUTH_ENCRYPTION_KEY`` or ``PAUTH_ENCRYPTION_KEYS``.
    :param insecure_plaintext: store tokens readable to whoever gets at the file.
    :param namespace: where the three plain methods keep their records.
    :param timeout: seconds after which an operation gives up on the database.
    :param clock: where the time comes from.
    :raises ConfigurationError: no usable key, an unsupported URL, or SQLAlchemy is not installed.
    """

    def __init__(
        self,
        url: str | Secret | URL | AsyncEngine,
        *,
        encryption_key: KeySource | Keyring | None = None,
        insecure_plaintext: bool = False,
        namespace: str = "",
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        if _MISSING:
            raise ConfigurationError(f"DatabaseTokenStorage needs {_MISSING[0]}, which is not installed: pip install 'pauth[sql]'")
        # SH-5: before anything can fail, and a traceback show locals
        encryption_key = conceal(encryption_key)
        if isinstance(url, str):
            url = Secret(url)
        if insecure_plaintext:
            if encryption_key is not None:
                raise ConfigurationError("encryption_key and insecure_plaintext=True contradict each other; leave one out")
            warnings.warn("insecure_plaintext=True: tokens are stored readable to whoever gets at the database", stacklevel=2)
            keyring = None
        else:
            keyring = keyring_from(encryption_key) or keyring_from_environment()
        if timeout <= 0:
            raise ConfigurationError("timeout must be a positive number of seconds")
        self._engines, store_id = _engines(url, plaintext=insecure_plaintext, timeout=timeout)
        self.store_id: tuple[str, str] | None = store_id
        """What names the database itself: two objects with equal ids are one store, and refresh together. ``None`` for an engine of the user's."""
        self._codec = Codec(keyring)
        self._namespace = namespace
        self._timeout = timeout
        self._clock = SystemClock() if clock is None else clock
        self._operations = Detached()
        self._collect_at = 0.0
        self._closed = False

    def __repr__(self) -> str:
        return "<DatabaseTokenStorage>"

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        """Keep ``tokens`` for ``user_id``, replacing what was there. Synced to disk when it returns."""
        record = Record(RecordKey(self._namespace, user_id), json_copy(tokens), 0, self._clock.time())
        del tokens  # as above; a Record does not print what it holds
        await self._write(record, None)

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        """The tokens kept for ``user_id``; ``None`` for a user without any."""
        record = await self.load(RecordKey(self._namespace, user_id))
        return None if record is None else dict(record.tokens)

    async def delete_token(self, user_id: str) -> None:
        """Forget ``user_id``. No error if there is nothing to forget."""
        await self.remove(RecordKey(self._namespace, user_id))

    async def load(self, key: RecordKey) -> Record | None:
        """See :meth:`.CoordinatedTokenStorage.load`."""
        rows, _ = await self._execute(sql.LOAD, {"p_id": sql.row_id(key.namespace, key.user_id)})
        if not rows:
            return None
        version, stored_at, expires_at, data = rows[0]
        tokens = self._codec.decode(RecordKind.TOKENS, key, version, data)
        return Record(key, tokens, version, stored_at / 1000, _seconds(expires_at))

    async def replace(
        self, key: RecordKey, tokens: Mapping[str, Any], *, expected_version: int | None, expires_at: float | None = None
    ) -> Record | None:
        """See :meth:`.CoordinatedTokenStorage.replace`."""
        record = Record(key, json_copy(tokens), 0, self._clock.time(), expires_at)
        del tokens  # as above
        return await self._write(record, expected_version)

    async def remove(self, key: RecordKey, *, expected_version: int | None = None) -> bool:
        """See :meth:`.CoordinatedTokenStorage.remove`."""
        parameters = {"p_id": sql.row_id(key.namespace, key.user_id), "p_stored_at": self._now()}
        if expected_version is None:
            _, changed = await self._execute(sql.DELETE, parameters)
        else:
            _, changed = await self._execute(sql.DELETE_VERSION, {**parameters, "p_expected_version": expected_version})
        return changed > 0

    async def put_pending(self, pending_id: str, payload: Mapping[str, Any], *, expires_at: float) -> None:
        """See :meth:`.CoordinatedTokenStorage.put_pending`. Once a minute, expired ones are deleted here."""
        parameters = {
            "p_id": sql.row_id(pending_id),
            "p_expires_at": _milliseconds(expires_at),
            "p_record": memoryview(self._codec.encode(RecordKind.PENDING, pending_id, 0, payload)),
        }
        del payload
        await self._execute(sql.PUT_PENDING, parameters)
        if self._clock.monotonic() >= self._collect_at:
            self._collect_at = self._clock.monotonic() + _COLLECT_EVERY
            with suppress(TokenStorageError):  # the login is kept; the next minute's will collect
                await self._execute(sql.COLLECT_PENDING, {"p_before": self._now()})
                await self._execute(sql.COLLECT_RETIRED, {"p_before": self._now() - _RETIRED_FOR_MS})

    async def take_pending(self, pending_id: str) -> dict[str, Any] | None:
        """See :meth:`.CoordinatedTokenStorage.take_pending`."""
        rows, _ = await self._execute(sql.TAKE_PENDING, {"p_id": sql.row_id(pending_id)})
        if not rows:
            return None
        expires_at, data = rows[0]
        return None if expires_at <= self._now() else self._codec.decode(RecordKind.PENDING, pending_id, 0, data)

    async def aclose(self) -> None:
        """Finish what is under way on this event loop, then close the connections; an engine of the user's stays open."""
        if not self._closed:
            self._closed = True
            await self._operations.drain(patience=self._timeout)
            await self._operations.run(self._engines.close(), patience=self._timeout)

    async def _write(self, record: Record, expected_version: int | None) -> Record | None:
        # without a predecessor the version cannot be known, so it is not bound: a record may have been deleted here, and versions go on
        version = expected_version + 1 if expected_version else 0
        stored_at = _milliseconds(record.stored_at)
        expires_at = None if record.expires_at is None else _milliseconds(record.expires_at)
        parameters: dict[str, Any] = {
            "p_id": sql.row_id(record.key.namespace, record.key.user_id),
            "p_stored_at": stored_at,
            "p_expires_at": expires_at,
            "p_record": memoryview(self._codec.encode(RecordKind.TOKENS, record.key, version, record.tokens)),  # nor does this print
        }
        if expected_version:
            _, changed = await self._execute(sql.REPLACE, {**parameters, "p_expected_version": expected_version})
            if not changed:
                return None
        else:
            parameters["p_namespace"] = record.key.namespace.encode("utf-8", "surrogatepass")
            parameters["p_user_id"] = record.key.user_id.encode()
            rows, _ = await self._execute(sql.INSERT_OR_REPLACE if expected_version is None else sql.INSERT_IF_NONE, parameters)
            if not rows:
                return None
            version = rows[0][0]
        return dataclasses.replace(record, version=version, stored_at=stored_at / 1000, expires_at=_seconds(expires_at))

    def _now(self) -> int:
        return _milliseconds(self._clock.time())

    async def _execute(self, statement: Executable, parameters: Mapping[str, Any]) -> tuple[list[Any], int]:
        """The rows a statement gives and how many it changed. One statement is one transaction."""
        if self._closed:
            raise ConfigurationError("this token storage was closed")
        return await self._operations.run(self._perform(statement, parameters), patience=self._timeout)

    async def _perform(self, statement: Executable, parameters: Mapping[str, Any]) -> tuple[list[Any], int]:
        try:
            engine = await self._engines.get()
            async with engine.connect() as connection:
                result = await connection.execute(statement, parameters)
                return (list(result) if result.returns_rows else []), result.rowcount
        except SQLAlchemyError as error:
            failure = sql.error_for(error)
        raise failure  # out here, so that the database's error is not in its context


def _engines(url: Secret | URL | AsyncEngine, *, plaintext: bool, timeout: float) -> tuple[Engines, tuple[str, str] | None]:
    if isinstance(url, AsyncEngine):
        return engines_for_engine(url), None
    checked = parse_url(url)
    prepare = partial(prepare_file, checked.database or "", plaintext=plaintext, timeout=timeout / 2)
    return Engines(partial(make_engine, checked, timeout=timeout), prepare=prepare), ("sqlite", checked.database or "")


def _milliseconds(seconds: float) -> int:
    return round(check_moment(seconds) * 1000)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
