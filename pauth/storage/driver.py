"""What a driver does: moves rows of bytes, in batches. Keys, JSON, encryption and waiting together are done above it.

A driver never sees a user's tokens: ``data`` is what the codec made. It never decides what an error means for a user either, but it raises only
pauth's errors, with no row, key or URL in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["Delete", "Driver", "ExpiringRow", "KeepsSecret", "Lease", "Put", "Row", "UserRow"]


class Row(NamedTuple):
    """A stored record. Times are milliseconds since the Unix epoch."""

    version: int
    stored_at: int
    expires_at: int | None
    """When its access token expires; an index for who refreshes ahead. Rows are never dropped for it."""

    lineage: bytes | None
    """Fingerprint (16 bytes) of the refresh token in it, made by the coordinator; opaque here."""

    data: memoryview


class Put(NamedTuple):
    """One write. It is done only if both conditions hold for what is stored now."""

    row_id: bytes
    """32 bytes: the hash of namespace and user id that the row is found by."""

    namespace: bytes
    user_id: bytes
    expected_version: int | None
    """The version that must be stored; 0: none must be; ``None``: whatever is."""

    expected_lineage: bytes | None
    """The lineage that must be stored; ``None``: whatever is."""

    stored_at: int
    expires_at: int | None
    lineage: bytes | None
    key_id: bytes | None
    """Id of the key ``data`` is encrypted with, kept beside it so that a key change finds what is left to do; ``None`` for plaintext."""

    data: memoryview


class Delete(NamedTuple):
    """One deletion, done only if ``expected_version`` (where given) is stored."""

    row_id: bytes
    expected_version: int | None
    now: int


class UserRow(NamedTuple):
    """One record in a listing."""

    row_id: bytes
    namespace: bytes
    user_id: bytes
    version: int
    key_id: bytes | None


class ExpiringRow(NamedTuple):
    """One record whose access token expires, in a listing ordered by (expires_at, row_id)."""

    expires_at: int
    row_id: bytes
    namespace: bytes
    user_id: bytes
    version: int


class Lease(NamedTuple):
    """A lease that was taken: nobody else holds it until it runs out on the server's clock."""

    fence: int
    """Higher than that of every earlier holder of the same row, also after expiry, release, and deletion of the record."""

    remaining_ms: int
    """How long it runs from the moment the server answered."""


class Driver(Protocol):
    """Each method is one round trip. Batches hold every row at most once; an item's own failure stands in the answer in its place.

    A batch that failed as a whole because of one of its items is tried again by the driver, item by item. Otherwise the driver raises
    :class:`~pauth.errors.StorageUnavailable` for a whole batch that did not get through, whether or not it was applied.

    A deleted record leaves its version behind for a day, so that versions go on from there. Methods are called from several event loops;
    a driver opens what it needs on first use, and gives up by itself on a server that does not answer. Nobody cancels a call but an event
    loop that ends.
    """

    @property
    def store_id(self) -> tuple[str, ...] | None:
        """What names the store itself, without a secret: two drivers with equal ids are on one store. ``None`` if that cannot be told."""
        ...

    @property
    def checks_owners(self) -> bool:
        """Whether what its listings say of owners has been authenticated. Else it is compared with the row's id above the driver."""
        ...

    @property
    def lanes(self) -> int:
        """How many batches may be under way at once, in one event loop."""
        ...

    async def get_many(self, row_ids: Sequence[bytes]) -> Sequence[Row | Exception | None]:
        """The rows, in this order; ``None`` where there is none."""
        ...

    async def put_many(self, puts: Sequence[Put]) -> Sequence[int | Exception | None]:
        """The version each was written as: one more than the last this row ever had, deleted or not; ``None`` where a condition failed."""
        ...

    async def delete_many(self, deletes: Sequence[Delete]) -> Sequence[bool | Exception]:
        """Whether each was deleted."""
        ...

    async def rewrite_many(self, puts: Sequence[Put]) -> Sequence[bool | Exception]:
        """Put other bytes in the place of each record's, under another key id, if ``expected_version`` (always given) is what is stored.

        Version, times and lineage stay as they are, so that nobody notices: who has read the record may still replace it. ``False`` where another
        version is stored, or none; nothing is done there.
        """
        ...

    async def put_pending(self, row_id: bytes, data: memoryview, *, expires_at: int, now: int) -> None:
        """Replaces one of the same name. A store that does not expire rows by itself collects here, now and then."""
        ...

    async def take_pending(self, row_id: bytes, *, now: int) -> memoryview | None:
        """Remove it and give it to exactly one of all who ask; ``None`` if there is none or it has expired."""
        ...

    async def take_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> Lease | None:
        """``None`` if another owner holds it. Who holds it still gets it again: with the same fence, for ``ttl_ms`` from now."""
        ...

    async def extend_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> bool:
        """It runs for ``ttl_ms`` from now; ``False`` (and nothing done) if it is not the owner's any more, because it ran out for example."""
        ...

    async def release_lease(self, row_id: bytes, owner: bytes) -> bool:
        """Let it go; ``False`` (and nothing done) if it is not the owner's any more."""
        ...

    async def list_users(self, namespace: bytes | None, *, after: bytes, limit: int) -> Sequence[UserRow]:
        """Records with ``row_id`` above ``after`` (``b""`` at first), in that order; of one namespace, or (``None``) of all.

        A record that cannot be read stops no listing. It is listed if it can be told whose it is, so that who goes on to read it hears of it;
        otherwise it is left out, and counted by :meth:`count` of all namespaces if it is there to be counted.

        :raises UnknownEncryptionKey: whose a record is cannot be told because this process lacks its key; a listing without it would look
            complete.
        """
        ...

    async def list_expiring(self, *, before: int, after: tuple[int, bytes], limit: int) -> Sequence[ExpiringRow]:
        """Records that expire before ``before``, above ``after`` in the order (expires_at, row_id), in that order.

        :param after: ``(-2**63, b"")`` at first.
        """
        ...

    async def count(self, namespace: bytes | None) -> int:
        """How many records there are, of one namespace or (``None``) of all."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and threads, of every event loop. Called once, when nothing is under way in this one."""
        ...


@runtime_checkable
class KeepsSecret(Protocol):
    """A driver that keeps a secret of its own in the store, encrypted as the records are."""

    async def renew_secret(self) -> None:
        """Encrypt it with the newest key."""
        ...
