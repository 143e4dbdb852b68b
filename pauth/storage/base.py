"""What a token storage is: the three methods users write, and the richer protocol the built-in drivers give.

The storage room knows keys, bytes, versions and times. It knows nothing of OAuth: ``tokens`` is a JSON object to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol, runtime_checkable

from pauth.errors import InvalidUserId

__all__ = [
    "MAX_USER_ID_BYTES",
    "AsyncTokenStorage",
    "BaseTokenStorage",
    "CoordinatedTokenStorage",
    "Record",
    "RecordKey",
    "check_user_id",
]

MAX_USER_ID_BYTES: Final = 1024
"""The longest user id, in bytes of UTF-8."""


def check_user_id(user_id: str) -> str:
    """Give back ``user_id`` if a record can be kept under it.

    User ids are opaque and case-sensitive; nothing is normalised, so two ids that look alike are two users.

    :raises InvalidUserId: not a ``str``, empty, longer than :data:`MAX_USER_ID_BYTES`, or not encodable as UTF-8.
    """
    if not isinstance(user_id, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a type checker
        raise InvalidUserId(f"a user id must be a str, not {type(user_id).__name__}; convert numbers with str()")
    if not user_id:
        raise InvalidUserId("a user id must not be empty")
    try:
        length = len(user_id.encode())
    except UnicodeEncodeError:
        length = -1
    if length < 0:
        raise InvalidUserId("a user id must be encodable as UTF-8; it holds a lone surrogate")
    if length > MAX_USER_ID_BYTES:
        raise InvalidUserId(f"a user id must be at most {MAX_USER_ID_BYTES} bytes of UTF-8, not {length}")
    return user_id


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


@dataclass(frozen=True, slots=True)
class RecordKey:
    """The identity of a record: whose tokens, and of which provider and client."""

    namespace: str
    """The provider's and client's identity; ``""`` for records saved through the three plain methods."""

    user_id: str = field(repr=False)  # it may be personal data

    def __post_init__(self) -> None:
        check_user_id(self.user_id)


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

    def __repr__(self) -> str:
        # user ids may be personal data and tokens are secrets: neither is shown
        return f"<Record version={self.version} stored_at={self.stored_at:.0f}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Record cannot be pickled: its tokens would leave the store unencrypted")


@runtime_checkable
class CoordinatedTokenStorage(AsyncTokenStorage, Protocol):
    """What the built-in drivers give beyond the three methods: versions, compare-and-set and one-time pending logins.

    Each operation is one round trip. All raise :class:`~pauth.errors.StorageUnavailable` when the store does not answer and
    :class:`~pauth.errors.RecordUnreadable` for a record that is there but cannot be read.
    """

    async def load(self, key: RecordKey) -> Record | None:
        """The newest version of a record; ``None`` if there is none."""
        ...

    async def replace(
        self, key: RecordKey, tokens: Mapping[str, Any], *, expected_version: int | None, expires_at: float | None = None
    ) -> Record | None:
        """Write a record if the stored version is ``expected_version``, atomically.

        :param expected_version: the version that must be stored now; 0 for "there must be none"; ``None`` to write whatever is stored.
        :param expires_at: see :attr:`Record.expires_at`.
        :returns: the record as written, its version one higher than the last; ``None`` if another version is stored (nothing is written).
        """
        ...

    async def remove(self, key: RecordKey, *, expected_version: int | None = None) -> bool:
        """Delete a record, only if the stored version is ``expected_version`` where one is given.

        :returns: whether a record was deleted.
        """
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

    async def aclose(self) -> None:
        """Let go of connections and threads. The storage cannot be used afterwards; a second call does nothing."""
        ...
