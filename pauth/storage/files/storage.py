"""Tokens in encrypted files, one for each user, on a local disk.

What a save acknowledges has been synced, file and folder; what a reader finds is a whole record, old or new (FS-4). The folder's layout is
described in :mod:`pauth.storage.files.root`, a file's in :mod:`pauth.storage.files.format`.

Nothing on the disk tells who a record is of: its name is a keyed hash, and namespace and user id stand, for the sake of listings, in the file
itself, encrypted like the tokens but apart from them, so that a listing decrypts no token. Version, times and lineage are readable, and
authenticated.

Threads and processes of one machine, forked ones too, exclude each other by ``flock`` on one lock file for each of 256 shards. Readers take
no lock: they see a write from its rename on, a moment before the writer hears that it is durable.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from pauth.clock import Clock
from pauth.errors import ConfigurationError, PAuthError
from pauth.storage.arguments import absolute_path
from pauth.storage.codec import Codec
from pauth.storage.driven import DrivenTokenStorage, chosen_keyring
from pauth.storage.driver import Delete, ExpiringRow, Lease, Put, Row, UserRow
from pauth.storage.files.keyfile import default_key_file, keyring_from_file
from pauth.storage.files.leases import LeaseClock, MachineClock
from pauth.storage.files.records import Records
from pauth.storage.files.root import TokenFolder, error_for
from pauth.storage.keys import Keyring, KeySource, conceal
from pauth.storage.threads import Threads

__all__ = ["EncryptedFileStorage", "FileDriver"]

A = TypeVar("A")
T = TypeVar("T")

_THREADS: Final = 16
"""They wait for the disk, which takes many waits as one."""


class FileDriver:
    """Rows as files in a folder. Each operation, or batch of reads, is one hop to a thread of the driver's own.

    A batch of writes is spread over the threads: what makes a write slow is waiting for the disk, and disks and journals take several
    waits as one.

    :param directory: made with mode 0700 if it is not there. Opened at the first operation.
    :param keyring: what seals namespace and user id; ``None`` leaves them readable, as the tokens are then.
    :param timeout: seconds; half of it is how long a lock is waited for.
    :param allow_network_file_system: use the folder even if it is on a network.
    :param clock: what leases run on.
    """

    checks_owners = True
    """See :attr:`.Driver.checks_owners`."""

    lanes = 4

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keyring: Keyring | None,
        timeout: float = 30.0,
        allow_network_file_system: bool = False,
        clock: LeaseClock | None = None,
    ) -> None:
        self._path = absolute_path(directory)
        self.store_id: tuple[str, ...] | None = ("files", self._path)
        self._codec = Codec(keyring)
        self._patience = timeout / 2
        self._allow_network = allow_network_file_system
        self._clock: LeaseClock = MachineClock() if clock is None else clock
        self._records: Records | None = None
        self._start()

    async def get_many(self, row_ids: Sequence[bytes]) -> Sequence[Row | Exception | None]:
        """See :meth:`.Driver.get_many`."""
        return await self._hop(lambda records: [_outcome(records.get, row_id) for row_id in row_ids])

    async def put_many(self, puts: Sequence[Put]) -> Sequence[int | Exception | None]:
        """See :meth:`.Driver.put_many`."""
        return await self._spread(Records.put, puts)

    async def delete_many(self, deletes: Sequence[Delete]) -> Sequence[bool | Exception]:
        """See :meth:`.Driver.delete_many`."""
        return await self._spread(Records.delete, deletes)

    async def rewrite_many(self, puts: Sequence[Put]) -> Sequence[bool | Exception]:
        """See :meth:`.Driver.rewrite_many`."""
        return await self._spread(Records.rewrite, puts)

    async def put_pending(self, row_id: bytes, data: memoryview, *, expires_at: int, now: int) -> None:
        """See :meth:`.Driver.put_pending`."""
        await self._hop(lambda records: records.put_pending(row_id, data, expires_at, now))

    async def take_pending(self, row_id: bytes, *, now: int) -> memoryview | None:
        """See :meth:`.Driver.take_pending`."""
        return await self._hop(lambda records: records.take_pending(row_id, now))

    async def take_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> Lease | None:
        """See :meth:`.Driver.take_lease`."""
        return await self._hop(lambda records: records.take_lease(row_id, owner, ttl_ms))

    async def extend_lease(self, row_id: bytes, owner: bytes, ttl_ms: int) -> bool:
        """See :meth:`.Driver.extend_lease`."""
        return await self._hop(lambda records: records.extend_lease(row_id, owner, ttl_ms))

    async def release_lease(self, row_id: bytes, owner: bytes) -> bool:
        """See :meth:`.Driver.release_lease`."""
        return await self._hop(lambda records: records.release_lease(row_id, owner))

    async def list_users(self, namespace: bytes | None, *, after: bytes, limit: int) -> Sequence[UserRow]:
        """See :meth:`.Driver.list_users`."""
        return await self._hop(lambda records: records.list_users(namespace, after, limit))

    async def list_expiring(self, *, before: int, after: tuple[int, bytes], limit: int) -> Sequence[ExpiringRow]:
        """See :meth:`.Driver.list_expiring`. Every record's file is looked into."""
        return await self._hop(lambda records: records.list_expiring(before, after, limit))

    async def count(self, namespace: bytes | None) -> int:
        """See :meth:`.Driver.count`."""
        return await self._hop(lambda records: records.count(namespace))

    async def renew_secret(self) -> None:
        """See :meth:`.KeepsSecret.renew_secret`."""
        await self._hop(Records.renew_secret)

    async def aclose(self) -> None:
        """Wait for what is under way, end the threads and let go of the folder."""
        await asyncio.to_thread(self._close)

    async def _spread(self, work: Callable[[Records, A], T], items: Sequence[A]) -> list[T | PAuthError]:
        def one(item: A) -> T | PAuthError:
            return _outcome(work, self._records or self._open(), item)

        if len(items) == 1:
            return [await self._ready_threads().run(lambda: _outcome(one, items[0]))]
        return await self._ready_threads().share(lambda item: _outcome(one, item), items)

    async def _hop(self, work: Callable[[Records], T]) -> T:
        outcome: T | PAuthError = await self._ready_threads().run(lambda: _outcome(self._perform, work))
        if isinstance(outcome, PAuthError):
            raise outcome
        return outcome

    def _ready_threads(self) -> Threads:
        if self._process != os.getpid():
            self._start()  # threads and locks stayed in the parent
            if self._records is not None:
                self._records.forget_holders()
        return self._threads

    def _perform(self, work: Callable[[Records], T]) -> T:
        return work(self._records or self._open())

    def _open(self) -> Records:
        with self._mutex:
            if self._records is None:
                folder = TokenFolder(self._path, self._codec, patience=self._patience, allow_network=self._allow_network)
                self._records = Records(folder, self._codec, self._clock)
            return self._records

    def _start(self) -> None:
        self._process = os.getpid()
        self._mutex = threading.Lock()
        self._threads = Threads(_THREADS, "pauth-files")

    def _close(self) -> None:
        self._threads.close()
        if self._records is not None:
            self._records.close()
            self._records = None


class EncryptedFileStorage(DrivenTokenStorage):
    """Keeps tokens in files of a folder, encrypted with AES-256-GCM.

    Usable from several event loops and threads, and by several processes of one machine on one folder. A caller who is cancelled leaves the
    storage as it was or as it was to become. Where no key is given or configured, making one reads the key file: make the storage before the event
    loop runs, or in a worker thread. A thousand users or a hundred thousand make no difference to a save or a get; a listing looks
    into every file.

    ::

        storage = EncryptedFileStorage("tokens")

    :param directory: a folder for nothing else, on a local disk; made with mode 0700 if it is not there.
    :param key: a key, or several of which the first encrypts. By default those in ``PAUTH_ENCRYPTION_KEY`` or ``PAUTH_ENCRYPTION_KEYS``, and
        where neither is set, those of the key file.
    :param key_file: where the key file is, instead of ``pauth/encryption.key`` in the user's configuration folder; made with a new key if it is
        not there. Whoever has it and the folder has the tokens: keep it out of the folder, and out of the folder's backups.
    :param encryption_key: the same as ``key``, by the name it has in other storages.
    :param insecure_plaintext: store tokens readable to whoever gets at the files.
    :param namespace: where the three plain methods keep their records.
    :param timeout: seconds after which an operation gives up; half of it is how long another process's lock is waited for.
    :param clock: where the time comes from. Leases run on the machine's time since boot, whatever the clock.
    :param coalesce: send what waits at the same time as one batch.
    :param allow_network_file_system: use the folder even if it is on a network, where locks and durable writes depend on the server (FS-6).
    :raises ConfigurationError: no usable key, options that contradict each other, or a key file that others can read.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        key: KeySource | Keyring | None = None,
        *,
        key_file: str | os.PathLike[str] | None = None,
        encryption_key: KeySource | Keyring | None = None,
        insecure_plaintext: bool = False,
        namespace: str = "",
        timeout: float = 30.0,
        clock: Clock | None = None,
        coalesce: bool = True,
        allow_network_file_system: bool = False,
    ) -> None:
        if not os.fspath(directory):
            raise ConfigurationError("the token folder has no name; an environment variable that is not set, perhaps?")
        key, encryption_key = conceal(key), conceal(encryption_key)  # SH-5: before anything can fail, and a traceback show locals
        if sum(source is not None for source in (key, encryption_key, key_file)) > 1:
            raise ConfigurationError("give the key once: as key=, as encryption_key=, or in key_file=")
        key = encryption_key if key is None else key
        if insecure_plaintext and key_file is not None:
            raise ConfigurationError("key_file and insecure_plaintext=True contradict each other; leave one out")
        if insecure_plaintext or (key_file is None and _configured(key)):
            keyring = chosen_keyring(key, insecure_plaintext=insecure_plaintext)
        else:
            keyring = keyring_from_file(default_key_file() if key_file is None else key_file)
        super().__init__(
            FileDriver(directory, keyring=keyring, timeout=timeout, allow_network_file_system=allow_network_file_system),
            keyring=keyring,
            namespace=namespace,
            timeout=timeout,
            clock=clock,
            coalesce=coalesce,
        )


def _configured(key: KeySource | Keyring | None) -> bool:
    return key is not None or any(os.environ.get(name) for name in ("PAUTH_ENCRYPTION_KEY", "PAUTH_ENCRYPTION_KEYS"))


def _outcome(work: Callable[..., T], *arguments: object) -> T | PAuthError:
    """What ``work`` gives, or the error to raise: never the system's own, whose frames and names stay in the thread."""
    try:
        return work(*arguments)
    except PAuthError as error:
        return error
    except OSError as error:
        return error_for(error)
