"""The folder of :mod:`pauth.storage.files` as a whole: its secret, its 256 shards, their locks, and the sweeping of what nobody needs any more.

::

    folder              layout version and a random secret, encrypted with the storage's keys
    lock                held while something is made in here
    00/ ... ff/         the shards, by the first byte of a name
        lock            held by whoever changes something in the shard
        leases          see pauth.storage.files.leases
        NAME.token      a record
        NAME.gone       the version of a deleted record, kept for a day
        NAME.login      a pending login
        .RANDOM.tmp     being written; a leftover if nobody holds the lock

What the names are made of stands in :mod:`pauth.storage.files.manifest`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final

from pauth.errors import ConfigurationError, RecordTampered, RecordUnreadable
from pauth.storage.codec import Codec, RecordKind, key_id_of
from pauth.storage.files.errors import error_for
from pauth.storage.files.folder import TEMPORARY, Folder, open_folder
from pauth.storage.files.format import Content, unpack
from pauth.storage.files.locks import locked
from pauth.storage.files.manifest import MANIFEST, TOKEN, Names, fresh_manifest, secret_in
from pauth.storage.files.network import network_file_system

__all__ = ["GONE", "LOGIN", "TOKEN", "TokenFolder", "error_for"]

GONE: Final = ".gone"
LOGIN: Final = ".login"

_LOCK: Final = "lock"
_SHARD: Final = re.compile("[0-9a-f]{2}")
_SHARDS: Final = tuple(f"{number:02x}" for number in range(256))
_SWEEP_EVERY: Final = 300.0
_GONE_FOR_MS: Final = 86_400_000
_LOST: Final = f"the token folder has lost its file {MANIFEST!r}, without which nothing in it is found; restore it from a backup"


class TokenFolder:
    """The open folder. Its methods block; they may be called from several threads at once.

    :param codec: seals the folder's secret.
    :param patience: seconds to wait for a lock.
    :raises ConfigurationError: the path is not a private folder of ours, or on a network and ``allow_network`` is not set.
    :raises RecordUnreadable: the folder was made with another key, or by a newer pauth.
    """

    def __init__(self, path: str, codec: Codec, *, patience: float, allow_network: bool) -> None:
        self._patience = patience
        self._sweep_at: dict[str, float] = {}
        self.forget_holders()
        self._folder = open_folder(path)
        try:
            kind = None if allow_network else network_file_system(self._folder.device())
            if kind is not None:
                raise ConfigurationError(
                    f"the token folder is on a network file system ({kind}), where locks and durable writes cannot be relied on; "
                    "use a local disk or a database, or pass allow_network_file_system=True"
                )
            secret = self._secret(codec)
        except BaseException:
            self._folder.close()
            raise
        self._names = Names(secret)
        self.tag_key: bytes = self._names.tag_key

    def close(self) -> None:
        """Let go of the folder."""
        self._folder.close()

    def forget_holders(self) -> None:
        """Take no lock for held by a thread of this process: in a forked child, which has none of those threads."""
        self._gates: Mapping[str, threading.Lock] = {name: threading.Lock() for name in ("", *_SHARDS)}

    def name(self, row_id: bytes) -> str:
        """What the files of a row are called, without their ending."""
        return self._names.name(row_id)

    def shard(self, name: str) -> Folder | None:
        """The shard of a name, open for the caller to close; ``None`` if nothing was ever written there."""
        return self._folder.subfolder(name[:2])

    def read(self, shard: Folder, file: str) -> Content | None:
        """What a file in a shard says; ``None`` if there is none.

        :raises RecordUnreadable: it is not as it was written, or of a newer format.
        """
        found = shard.read(file)
        return None if found is None else unpack(found.data, name=file, tag_key=self.tag_key)

    @contextmanager
    def locked(self, name: str, *, now: int | None) -> Generator[Folder]:
        """The shard of a name, with its lock held; it is made if it is not there.

        :param now: by the storage's clock, in milliseconds; what expired before is swept out now and then. ``None``: not by this call.
        """
        shard = self._ready_shard(name[:2])
        try:
            with self._holding(shard, name[:2]):
                if now is not None:
                    self._sweep(shard, name[:2], now)
                yield shard
        finally:
            shard.close()

    def walk(self, after: str) -> Iterator[tuple[Folder, str]]:
        """All records above a name, in the order of names; each that exists all the while once, and those that come or go perhaps.

        A shard is read under its lock: some file systems lose sight of a name that is replaced while they are read.
        """
        for place in _SHARDS[int(after[:2] or "0", 16) :]:
            shard = self.shard(place)
            if shard is None:
                continue
            try:
                with self._holding(shard, place):
                    names = shard.names()
                records = sorted(file.removesuffix(TOKEN) for file in names if file.endswith(TOKEN))
                yield from ((shard, name) for name in records if name > after)
            finally:
                shard.close()

    def _ready_shard(self, name: str) -> Folder:
        while (shard := self._folder.subfolder(name)) is None:
            with self._root_locked():
                self._folder.make_subfolder(name)
        return shard

    def _holding(self, shard: Folder, name: str) -> AbstractContextManager[None]:
        return locked(lambda: shard.open_lock(_LOCK), patience=self._patience, make=lambda: self._make_lock(shard), gate=self._gates[name])

    def _make_lock(self, shard: Folder) -> None:
        with self._root_locked():
            shard.create(_LOCK)
            shard.sync()

    def _root_locked(self) -> AbstractContextManager[None]:
        return locked(lambda: self._folder.open_lock(_LOCK), patience=self._patience, make=lambda: self._folder.create(_LOCK), gate=self._gates[""])

    def _sweep(self, shard: Folder, name: str, now: int) -> None:
        if time.monotonic() < self._sweep_at.get(name, 0.0):
            return
        self._sweep_at[name] = time.monotonic() + _SWEEP_EVERY
        for file in shard.names():
            if file.endswith(TEMPORARY):
                shard.remove(file)  # its writer held this lock, and does not any more
            elif file.endswith((GONE, LOGIN)):
                self._sweep_file(shard, file, now)

    def _sweep_file(self, shard: Folder, file: str, now: int) -> None:
        with suppress(RecordUnreadable):  # what is not ours is not ours to delete
            found = shard.read(file)
            if found is not None and self._over_at(found.data, file) <= now:
                shard.remove(file, found.identity)

    def _over_at(self, data: memoryview, file: str) -> int:
        content = unpack(data, name=file, tag_key=self.tag_key)
        return content.stored_at + _GONE_FOR_MS if content.expires_at is None else content.expires_at

    def _secret(self, codec: Codec) -> bytes:
        fresh = fresh_manifest()
        sealed = codec.encode(RecordKind.FOLDER, MANIFEST, 0, fresh)
        found = self._folder.read(MANIFEST)
        if found is not None and key_id_of(found.data) == key_id_of(sealed):
            return secret_in(codec.decode(RecordKind.FOLDER, MANIFEST, 0, found.data))
        with self._root_locked():
            self._sweep(self._folder, "", 0)
            if self._folder.read(MANIFEST) is None:  # another process may have made it meanwhile
                self._check_empty()
                self._folder.replace(MANIFEST, sealed)
                return secret_in(fresh)
            return self._renewed(codec)

    def renew_secret(self, codec: Codec) -> None:
        """Encrypt the folder's secret with the newest key. Who opens it does, too; but one who had an older key in front may have come since."""
        with self._root_locked():
            self._renewed(codec)

    def _renewed(self, codec: Codec) -> bytes:
        found = self._folder.read(MANIFEST)
        if found is None:
            raise RecordTampered(_LOST)
        manifest = codec.decode(RecordKind.FOLDER, MANIFEST, 0, found.data)
        self._folder.replace(MANIFEST, codec.encode(RecordKind.FOLDER, MANIFEST, 0, manifest))
        return secret_in(manifest)

    def _check_empty(self) -> None:
        names = {*self._folder.names()} - {_LOCK, "lost+found"}
        if any(_SHARD.fullmatch(name) for name in names):
            raise RecordTampered(_LOST)
        if names:
            raise ConfigurationError("the token folder holds other things than tokens; give a folder of its own")
