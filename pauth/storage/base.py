"""What a token storage is: the three methods users write, and the richer protocol the built-in drivers give.

The storage room knows keys, bytes, versions and times. It knows nothing of OAuth: ``tokens`` is a JSON object to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Protocol, TypeVar, runtime_checkable

from pauth.errors import TokenStorageError
from pauth.storage.record_key import MAX_USER_ID_BYTES, RecordKey, check_user_id

__all__ = [
    "MAX_USER_ID_BYTES",
    "AsyncTokenStorage",
    "BaseTokenStorage",
    "CoordinatedTokenStorage",
    "Expiring",
    "Lease",
    "Listed",
    "Page",
    "Record",
    "RecordKey",
    "Watch",
    "WatchableTokenStorage",
    "Write",
    "check_user_id",
]

T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class AsyncTokenStorage(Protocol):
    """A place to keep tokens, as users write one: three coroutines.

    What is saved is what comes back, equal, whatever JSON it holds.
    """

    async def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        """Keep ``tokens`` for ``user_id``, replacing what was there. Return when it is stored, not before."""
        ...

    async def get_token(self, user_id: str) -> dict[str, Any] | None:
        """The tokens kept for ``user_id``; ``None`` for a user without any."""
        ...

    async def delete_token(self, user_id: str) -> None:
        """Forget ``user_id``. No error if there is nothing to forget."""
        ...


class BaseTokenStorage(ABC):
    """A place to keep tokens, for classes whose code blocks (files, DB-API drivers, a vendor's SDK).

    pauth calls the three methods in worker threads, never on the event loop, and several at once: an instance must be usable from more than one
    thread. Writes of one user never run beside each other, but a read may run beside a write: it has to see the old tokens or the new ones.
    The class gets plain user ids, so each client needs an instance of its own.
    """

    @abstractmethod
    def save_token(self, user_id: str, tokens: dict[str, Any]) -> None:
        """Keep ``tokens`` for ``user_id``, replacing what was there. Return when it is stored, not before."""

    @abstractmethod
    def get_token(self, user_id: str) -> dict[str, Any] | None:
        """The tokens kept for ``user_id``; ``None`` for a user without any."""

    @abstractmethod
    def delete_token(self, user_id: str) -> None:
        """Forget ``user_id``. No error if there is nothing to forget."""


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """One stored record, as it was at one moment. Its ``tokens`` must not be changed."""

    key: RecordKey
    tokens: Mapping[str, Any]
    version: int
    """1 for the first write of a key, then one more at each write."""

    stored_at: float
    """When this version was written: seconds since the Unix epoch."""

    expires_at: float | None = None
    """When the access token in it expires (seconds since the Unix epoch), for whoever wants to refresh in time; not when the record goes."""

    lineage: bytes | None = None
    """A fingerprint (16 bytes) of the refresh token in it, made by who wrote it: what a successor has to name as its predecessor."""

    key_id: str | None = None
    """The id of the key it is encrypted with, in hexadecimal; ``None`` for plaintext."""

    def __repr__(self) -> str:
        # user ids may be personal data and tokens are secrets: neither is shown
        return f"<Record version={self.version} stored_at={self.stored_at:.0f}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Record cannot be pickled: its tokens would leave the store unencrypted")


@dataclass(frozen=True, slots=True, repr=False)
class Write:
    """One write of a batch: the arguments of :meth:`CoordinatedTokenStorage.replace`."""

    key: RecordKey
    tokens: Mapping[str, Any]
    expected_version: int | None = None
    expires_at: float | None = None
    expected_lineage: bytes | None = None
    lineage: bytes | None = None
    stored_at: float | None = None
    """The :attr:`Record.stored_at` to keep, for who carries a record from one storage to another; ``None`` for now."""

    def __repr__(self) -> str:
        return f"<Write expected_version={self.expected_version}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Write cannot be pickled: its tokens would leave the program unencrypted")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to be the only one who works on a record, for a while. Advisory: what is written is guarded by version and lineage."""

    fence: int
    """A number higher than that of every earlier holder of a lease on this record."""

    remaining: float
    """Seconds it runs from the moment the caller has it, at least: the round trip is taken off."""


@dataclass(frozen=True, slots=True, repr=False)
class Listed:
    """One record of a listing."""

    key: RecordKey
    version: int
    key_id: str | None
    """See :attr:`Record.key_id`."""

    def __repr__(self) -> str:
        return f"<Listed version={self.version}>"


@dataclass(frozen=True, slots=True, repr=False)
class Expiring:
    """One record whose access token expires."""

    key: RecordKey
    version: int
    expires_at: float
    """Seconds since the Unix epoch."""

    def __repr__(self) -> str:
        return f"<Expiring version={self.version} expires_at={self.expires_at:.0f}>"


@dataclass(frozen=True, slots=True)
class Page(Generic[T_co]):
    """Some of a listing, and where it goes on."""

    items: Sequence[T_co]
    next_cursor: str | None
    """What to give for the next page; ``None`` after the last one. Opaque."""


@runtime_checkable
class CoordinatedTokenStorage(AsyncTokenStorage, Protocol):
    """What the built-in drivers give beyond the three methods.

    These are versions, compare-and-set, batches, one-time pending logins, leases and listings. Each operation is one round trip. All raise
    :class:`~pauth.errors.StorageUnavailable` when the store does not answer and :class:`~pauth.errors.RecordUnreadable` for a record that is
    there but cannot be read.
    """

    async def load(self, key: RecordKey) -> Record | None:
        """The newest version of a record; ``None`` if there is none."""
        ...

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
        """Write a record if what is stored is what is expected, atomically.

        :param expected_version: the version that must be stored now; 0 for "there must be none"; ``None`` to write whatever is stored.
        :param expires_at: see :attr:`Record.expires_at`.
        :param expected_lineage: the :attr:`Record.lineage` that must be stored now, so that a successor is written over its predecessor only;
            ``None`` to write whatever is stored.
        :param lineage: see :attr:`Record.lineage`.
        :returns: the record as written, its version one higher than the last; ``None`` if something else is stored (nothing is written).
        """
        ...

    async def remove(self, key: RecordKey, *, expected_version: int | None = None) -> bool:
        """Delete a record, only if the stored version is ``expected_version`` where one is given.

        :returns: whether a record was deleted.
        """
        ...

    async def get_many(self, keys: Sequence[RecordKey]) -> list[Record | TokenStorageError | None]:
        """What :meth:`load` gives, or raises, for each key."""
        ...

    async def put_many(self, writes: Sequence[Write]) -> list[Record | TokenStorageError | None]:
        """What :meth:`replace` gives, or raises, for each. Each write is atomic, all together are not. Several for one key keep their order."""
        ...

    async def delete_many(self, keys: Sequence[RecordKey]) -> list[bool | TokenStorageError]:
        """What :meth:`remove` gives, or raises, for each key."""
        ...

    async def put_pending(self, pending_id: str, payload: Mapping[str, Any], *, expires_at: float) -> None:
        """Keep a pending login until ``expires_at`` (seconds since the Unix epoch).

        :param pending_id: an unguessable name that holds no secret (a hash of ``state``).
        """
        ...

    async def take_pending(self, pending_id: str) -> dict[str, Any] | None:
        """Remove a pending login and give what was kept; ``None`` if it is unknown, taken already, or expired.

        Of any number of concurrent takers, in any number of processes, exactly one gets the payload.
        """
        ...

    async def take_lease(self, key: RecordKey, owner: str, *, ttl: float) -> Lease | None:
        """Take the lease on a record, which need not exist. Time is the server's, or a clock all processes of this machine share.

        :param owner: an unguessable name of who takes it. Who holds it still gets it again, with the same fence and a new ``ttl``.
        :param ttl: seconds after which it ends by itself.
        :returns: ``None`` if another owner holds it.
        """
        ...

    async def extend_lease(self, key: RecordKey, owner: str, *, ttl: float) -> bool:
        """Let the lease run for ``ttl`` seconds from now.

        :returns: ``False`` if it is not ``owner``'s any more, because it ran out for example; then nothing is done.
        """
        ...

    async def release_lease(self, key: RecordKey, owner: str) -> bool:
        """Give the lease back.

        :returns: ``False`` if it is not ``owner``'s any more; then nothing is done.
        """
        ...

    async def list_users(self, namespace: str | None = None, *, cursor: str | None = None, limit: int = 1000) -> Page[Listed]:
        """The records of one namespace, or (``None``) of all, in no order that means anything.

        While records change, each that exists from the first page to the last is listed exactly once.

        :param cursor: :attr:`Page.next_cursor` of the page before.
        :param limit: how many at most, up to 10,000. A page may have fewer.
        """
        ...

    async def list_expiring(self, before: float, *, cursor: str | None = None, limit: int = 1000) -> Page[Expiring]:
        """The records whose access tokens expire before a moment (seconds since the Unix epoch), the earliest first.

        One that is written during the listing is listed as it was, as it is, or both.
        """
        ...

    async def count(self, namespace: str | None = None) -> int:
        """How many records there are, in one namespace or (``None``) in all."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and threads. The storage cannot be used afterwards; a second call does nothing."""
        ...


class Watch(Protocol):
    """Changes are told, until it is stopped. See :meth:`WatchableTokenStorage.watch`."""

    @property
    def watching(self) -> bool:
        """Whether changes are told at this moment: the store was heard from within the last ten seconds. For any thread, and any number of times."""
        ...

    async def stop(self) -> None:
        """Tell nothing any more, from now on. A second call does nothing."""
        ...


@runtime_checkable
class WatchableTokenStorage(Protocol):
    """What a storage gives beside :class:`CoordinatedTokenStorage` if it hears of changes made elsewhere, by other processes too."""

    async def watch(self, changed: Callable[[bytes | None], None]) -> Watch:
        """Have each change of a record told, until the watch is stopped, the storage closed or this event loop ended.

        A change is told soon after it was made, not before its writer goes on: who has begun to read a record when its change is told may still
        be given the old one.

        :param changed: called on this event loop, with :func:`row_id(namespace, user_id) <.row_id>` (32 bytes) of a record that anybody has written
            or deleted; and with ``None`` where changes may have been missed, so that all one knows may be out of date: when the watch begins,
            when the store is lost, when it is found again. It must not block, and what it raises is only logged.
        :returns: once changes are told, or are known not to be for now. A store that can never tell gives a watch that is never ``watching``.
        :raises ConfigurationError: the storage was closed.
        """
        ...
