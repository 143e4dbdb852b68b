"""What the file driver does to one row, under the lock of its shard. Blocks; for worker threads."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

from pauth.errors import RecordTampered, RecordUnreadable, TokenStorageError, UnsupportedRecord
from pauth.storage.codec import Codec, RecordKind, key_id_of
from pauth.storage.driver import Delete, ExpiringRow, Lease, Put, Row, UserRow
from pauth.storage.files.folder import Folder
from pauth.storage.files.format import Content, claimed_owner, pack, peek, unpack
from pauth.storage.files.leases import LeaseClock, LeaseTable
from pauth.storage.files.root import GONE, LOGIN, TOKEN, TokenFolder
from pauth.storage.identity import row_id as row_id_of

__all__ = ["Records"]

_LEASES = "leases"
_NOT_AT_ALL = Content(0, 0)
_log = logging.getLogger("pauth.storage")


class Records:
    """Rows in an open folder.

    :param codec: seals namespace and user id, which are in no file's name and in clear nowhere.
    """

    def __init__(self, folder: TokenFolder, codec: Codec, clock: LeaseClock) -> None:
        self._folder = folder
        self._codec = codec
        self._clock = clock

    def close(self) -> None:
        """Let go of the folder."""
        self._folder.close()

    def forget_holders(self) -> None:
        """See :meth:`.TokenFolder.forget_holders`."""
        self._folder.forget_holders()

    def get(self, row_id: bytes) -> Row | None:
        """See :meth:`.Driver.get_many`. Takes no lock: what stands at a name is always whole."""
        name = self._folder.name(row_id)
        shard = self._folder.shard(name)
        if shard is None:
            return None
        try:
            content = self._folder.read(shard, name + TOKEN)
        finally:
            shard.close()
        return None if content is None else Row(content.version, content.stored_at, content.expires_at, content.lineage, content.data)

    def put(self, put: Put) -> int | None:
        """See :meth:`.Driver.put_many`."""
        name = self._folder.name(put.row_id)
        with self._folder.locked(name, now=put.stored_at) as shard:
            conditional = bool(put.expected_version) or put.expected_lineage is not None
            found = self._current(shard, name, trust=conditional, now=put.stored_at)
            if found is None:
                if conditional:
                    return None
                found = self._last_deleted(shard, name, now=put.stored_at)
            elif put.expected_version not in (None, found.version) or put.expected_lineage not in (None, found.lineage):
                return None
            version = found.version + 1
            owner = self._sealed_owner(name, found, put)
            self._write(shard, name + TOKEN, Content(version, put.stored_at, put.expires_at, put.lineage, put.key_id, owner, put.data))
            return version

    def rewrite(self, put: Put) -> bool:
        """See :meth:`.Driver.rewrite_many`."""
        name = self._folder.name(put.row_id)
        with self._folder.locked(name, now=None) as shard:
            found = self._current(shard, name, trust=True, now=put.stored_at)
            if found is None or found.version != put.expected_version:
                return False
            self._write(shard, name + TOKEN, found._replace(key_id=put.key_id, owner=self._sealed_owner(name, found, put), data=put.data))
            return True

    def delete(self, delete: Delete) -> bool:
        """See :meth:`.Driver.delete_many`."""
        name = self._folder.name(delete.row_id)
        with self._folder.locked(name, now=delete.now) as shard:
            found = self._current(shard, name, trust=delete.expected_version is not None, now=delete.now)
            if found is None or delete.expected_version not in (None, found.version):
                return False
            self._write(shard, name + GONE, Content(found.version, delete.now))
            shard.remove(name + TOKEN)
            shard.sync()
            return True

    def put_pending(self, row_id: bytes, data: memoryview, expires_at: int, now: int) -> None:
        """See :meth:`.Driver.put_pending`."""
        name = self._folder.name(row_id)
        with self._folder.locked(name, now=now) as shard:
            self._write(shard, name + LOGIN, Content(0, now, expires_at, data=data))

    def take_pending(self, row_id: bytes, now: int) -> memoryview | None:
        """See :meth:`.Driver.take_pending`. Whoever removes the name has it, were it two at once."""
        name = self._folder.name(row_id)
        with self._folder.locked(name, now=now) as shard:
            content = self._folder.read(shard, name + LOGIN)
            if content is None or not shard.remove(name + LOGIN):
                return None
            shard.sync()
            return None if content.expires_at is None or content.expires_at <= now else content.data

    def take_lease(self, row_id: bytes, owner: bytes, ttl: int) -> Lease | None:
        """See :meth:`.Driver.take_lease`."""
        name = self._folder.name(row_id)
        with self._folder.locked(name, now=None) as shard:
            table = self._leases(shard, name)
            fence = table.take(bytes.fromhex(name), owner, ttl, self._clock)
            if fence is None:
                return None
            self._write_leases(shard, name, table)
            return Lease(fence, ttl)

    def extend_lease(self, row_id: bytes, owner: bytes, ttl: int) -> bool:
        """See :meth:`.Driver.extend_lease`."""
        name = self._folder.name(row_id)
        with self._folder.locked(name, now=None) as shard:
            table = self._leases(shard, name)
            extended = table.extend(bytes.fromhex(name), owner, ttl, self._clock)
            if extended:
                self._write_leases(shard, name, table)
            return extended

    def release_lease(self, row_id: bytes, owner: bytes) -> bool:
        """See :meth:`.Driver.release_lease`."""
        name = self._folder.name(row_id)
        with self._folder.locked(name, now=None) as shard:
            table = self._leases(shard, name)
            released = table.release(bytes.fromhex(name), owner)
            if released:
                self._write_leases(shard, name, table)
            return released

    def list_users(self, namespace: bytes | None, after: bytes, limit: int) -> list[UserRow]:
        """See :meth:`.Driver.list_users`. In place of the row id, which a name does not give away, stands the name."""
        rows: list[UserRow] = []
        broken: set[str] = set()
        for row in self._users(after.hex(), broken):
            if namespace in (None, row.namespace):
                rows.append(row)
                if len(rows) == limit:
                    break
        _tell(broken)
        return rows

    def list_expiring(self, before: int, after: tuple[int, bytes], limit: int) -> list[ExpiringRow]:
        """See :meth:`.Driver.list_expiring`. Names stand for row ids here too. A record that cannot be read expires for nobody."""
        rows: list[ExpiringRow] = []
        broken: set[str] = set()
        missing = limit
        while missing:
            found = heapq.nsmallest(missing, self._expiring(before, after, broken), key=_position)
            for expires_at, name, content in found:
                try:
                    owner = self._owner(name.hex(), content.owner)
                except RecordUnreadable:
                    broken.add(name.hex())
                else:
                    rows.append(ExpiringRow(expires_at, name, owner.namespace, owner.user_id, content.version))
            if len(found) < missing:
                break
            after = found[-1][:2]
            missing = limit - len(rows)
        _tell(broken)
        return rows

    def renew_secret(self) -> None:
        """See :meth:`.KeepsSecret.renew_secret`."""
        self._folder.renew_secret(self._codec)

    def count(self, namespace: bytes | None) -> int:
        """See :meth:`.Driver.count`. Of all namespaces, everything counts; of one, what :meth:`list_users` lists."""
        if namespace is None:
            return sum(1 for _ in self._folder.walk(""))
        broken: set[str] = set()
        number = sum(1 for row in self._users("", broken) if row.namespace == namespace)
        _tell(broken)
        return number

    def _users(self, after: str, broken: set[str]) -> Iterator[UserRow]:
        for shard, name in self._folder.walk(after):
            try:
                found = shard.read(name + TOKEN)
                row = None if found is None else self._user_row(name, found.data)
            except (RecordTampered, UnsupportedRecord):
                broken.add(name)
                continue
            if row is not None:
                yield row

    def _user_row(self, name: str, raw: memoryview) -> UserRow:
        """Whose a record is.

        :raises UnknownEncryptionKey: the record is whole, but this process lacks the key: it cannot list what is there.
        """
        with suppress(RecordTampered, UnsupportedRecord):
            content = unpack(raw, name=name + TOKEN, tag_key=self._folder.tag_key)
            owner = self._owner(name, content.owner)
            return UserRow(bytes.fromhex(name), owner.namespace, owner.user_id, content.version, content.key_id)
        # the tokens are lost, but whose they were is sealed by itself: who copies or re-encrypts the store hears of this one by its user's name
        with suppress(TokenStorageError, LookupError, TypeError, ValueError):
            owner = self._owner(name, claimed_owner(raw))
            if self._folder.name(row_id_of(owner.namespace.decode("utf-8", "surrogatepass"), owner.user_id.decode())) == name:
                return UserRow(bytes.fromhex(name), owner.namespace, owner.user_id, peek(raw)[0], None)
        raise RecordTampered("a file in the token folder is broken, and whose tokens were in it cannot be told")

    def _expiring(self, before: int, after: tuple[int, bytes], broken: set[str]) -> Iterator[tuple[int, bytes, Content]]:
        for shard, name in self._folder.walk(""):
            try:
                found = shard.read(name + TOKEN)
                if found is None or (expires_at := peek(found.data)[1]) is None or expires_at >= before:
                    continue
                if (expires_at, bytes.fromhex(name)) > after:
                    yield expires_at, bytes.fromhex(name), unpack(found.data, name=name + TOKEN, tag_key=self._folder.tag_key)
            except RecordUnreadable:
                broken.add(name)

    def _current(self, shard: Folder, name: str, *, trust: bool, now: int) -> Content | None:
        """The record as it is stored.

        :param trust: it has to be readable. Otherwise it is about to be overwritten or deleted whatever it is, and all that matters is a version
            that nobody has seen: no lower than what it claims, and than the seconds since 1970.
        """
        found = shard.read(name + TOKEN)
        if found is None:
            return None
        try:
            return unpack(found.data, name=name + TOKEN, tag_key=self._folder.tag_key)
        except RecordTampered:
            if trust:
                raise
        claimed = peek(found.data)[0]
        return Content(max(1, now // 1000, claimed if claimed < 2**48 else 0), 0)

    def _last_deleted(self, shard: Folder, name: str, *, now: int) -> Content:
        try:
            return self._folder.read(shard, name + GONE) or _NOT_AT_ALL
        except RecordTampered:
            return Content(now // 1000, 0)  # as above: the version is lost, one beyond it will do

    def _sealed_owner(self, name: str, found: Content, put: Put) -> memoryview:
        if found.owner and key_id_of(found.owner) == put.key_id:
            return found.owner  # what is sealed with the current key stays: the row is of the same user
        return memoryview(self._codec.encode(RecordKind.OWNER, name, 0, {"namespace": put.namespace.hex(), "user_id": put.user_id.hex()}))

    def _write(self, shard: Folder, file: str, content: Content) -> None:
        shard.replace(file, pack(content, name=file, tag_key=self._folder.tag_key))

    def _leases(self, shard: Folder, name: str) -> LeaseTable:
        found = shard.read(_LEASES)
        if found is None:
            return LeaseTable()
        table = LeaseTable.parse(unpack(found.data, name=f"{name[:2]}/{_LEASES}", tag_key=self._folder.tag_key).data)
        table.drop_expired(self._clock)
        return table

    def _write_leases(self, shard: Folder, name: str, table: LeaseTable) -> None:
        content = Content(0, self._clock.wall(), data=memoryview(table.dump()))
        shard.replace(_LEASES, pack(content, name=f"{name[:2]}/{_LEASES}", tag_key=self._folder.tag_key))

    def _owner(self, name: str, sealed: memoryview) -> _Owner:
        owner = self._codec.decode(RecordKind.OWNER, name, 0, sealed)
        return _Owner(bytes.fromhex(owner["namespace"]), bytes.fromhex(owner["user_id"]))


class _Owner(NamedTuple):
    namespace: bytes
    user_id: bytes


def _position(row: tuple[int, bytes, Content]) -> tuple[int, bytes]:
    return row[:2]


def _tell(broken: Collection[str]) -> None:
    if broken:
        _log.warning(
            "records in the token folder that cannot be read: %d; a listing leaves them out; restore them from a backup, or let their users log in",
            len(broken),
        )
