"""A private folder, held open: files are read, replaced and listed in it without ever following a link. Blocks; for worker threads.

A folder is opened once, and everything in it is reached from that descriptor (``openat`` and its kin), so that nobody who renames or swaps a
folder above leads us elsewhere (FS-3). Where a system has no such calls (Windows), paths are joined instead.

What these methods raise is :class:`OSError`, and :class:`~pauth.errors.RecordTampered` for what no pauth put there.
"""

# ruff: noqa: PTH100, PTH103, PTH112, PTH116, PTH118, PTH208 -- descriptors and strings, on the way of every operation; pathlib has no dir_fd
from __future__ import annotations

import errno
import os
import stat
import sys
import time
from contextlib import suppress
from typing import Final, NamedTuple

from pauth.errors import ConfigurationError, RecordTampered

__all__ = ["MAX_FILE_BYTES", "TEMPORARY", "Folder", "Found", "open_folder"]

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
"""The largest file that is read (FS-4); a larger one is none of ours."""

TEMPORARY: Final = ".tmp"
"""How the names of files end that are being written."""

_POSIX: Final = os.name == "posix"
_AT: Final = {os.open, os.mkdir, os.rename, os.stat, os.unlink} <= os.supports_dir_fd
_COMMON: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_READ: Final = os.O_RDONLY | _COMMON | getattr(os, "O_NONBLOCK", 0)  # a planted FIFO must not keep us waiting for its writer
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON
_LOCK: Final = os.O_RDWR | _COMMON | getattr(os, "O_NONBLOCK", 0)
_FOLDER: Final = os.O_RDONLY | _COMMON | getattr(os, "O_DIRECTORY", 0)
_NOT_A_PLAIN_FILE: Final = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR})  # EMLINK: what FreeBSD says of a link
_NOT_A_FOLDER: Final = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR})
_SHARING_ATTEMPTS: Final = 20


class Found(NamedTuple):
    """The whole content of a file, and which file that was."""

    data: memoryview
    identity: tuple[int, int]


class Folder:
    """An open folder that only its owner can enter."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: str, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def device(self) -> int:
        """The device the folder is on, as ``st_dev``."""
        return (os.stat(self._path) if self._descriptor is None else os.fstat(self._descriptor)).st_dev

    def read(self, name: str) -> Found | None:
        """What a file holds; ``None`` if there is none.

        :raises RecordTampered: not a plain file of our own with one name, or larger than :data:`MAX_FILE_BYTES`.
        """
        try:
            descriptor = os.open(self._at(name), _READ, dir_fd=self._descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _NOT_A_PLAIN_FILE:
                raise
            descriptor = None
        if descriptor is None:
            raise _planted()
        try:
            info = os.fstat(descriptor)
            _check_file(info)
            data = os.read(descriptor, info.st_size + 1)  # a plain file is read whole; it never grows, and a torn one fails its check
            return Found(memoryview(data), (info.st_dev, info.st_ino))
        finally:
            os.close(descriptor)

    def replace(self, name: str, data: bytes | memoryview) -> None:
        """Put ``data`` in the place of a file, durably: at every moment, also after a power failure, the old content or the new stands there."""
        temporary = f".{os.urandom(8).hex()}{TEMPORARY}"
        try:
            self._write(temporary, data)
            self._rename(temporary, name)
        except BaseException:
            with suppress(OSError):
                self._unlink(temporary)
            raise
        self.sync()

    def create(self, name: str) -> None:
        """Make an empty file, if it is not there, with mode 0600 whatever the umask."""
        with suppress(FileExistsError):
            self._write(name, b"")

    def remove(self, name: str, identity: tuple[int, int] | None = None) -> bool:
        """Delete a file; ``False`` if it is not there, or not the one of ``identity`` any more (FS-8). Not durable before :meth:`sync`."""
        try:
            if identity is not None:
                info = os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)
                if (info.st_dev, info.st_ino) != identity:
                    return False
            self._unlink(name)
        except FileNotFoundError:
            return False
        return True

    def names(self) -> list[str]:
        """The names of everything in the folder, in no order."""
        if self._descriptor is None:
            return os.listdir(self._path)
        # not the folder's own descriptor: its copies share one position, and two threads would read each other's halves
        descriptor = os.open(".", _FOLDER, dir_fd=self._descriptor)
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    def subfolder(self, name: str) -> Folder | None:
        """A folder in this one, which keeps others out of it too; ``None`` if there is none.

        :raises RecordTampered: it is not a folder.
        """
        if self._descriptor is None:
            path = os.path.join(self._path, name)
            return Folder(path, None) if os.path.isdir(path) else None
        try:
            return Folder(name, os.open(name, _FOLDER, dir_fd=self._descriptor))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _NOT_A_FOLDER:
                raise
        raise _planted()

    def make_subfolder(self, name: str) -> None:
        """Make a folder in this one, if it is not there, with mode 0700 whatever the umask."""
        with suppress(FileExistsError):
            _make(self._at(name), self._descriptor)

    def open_lock(self, name: str) -> int | None:
        """A descriptor of a lock file, for its caller to close; ``None`` if the file is not there."""
        try:
            return os.open(self._at(name), _LOCK, dir_fd=self._descriptor)
        except FileNotFoundError:
            return None

    def sync(self) -> None:
        """Return when the folder's own content, its names, is on the disk."""
        if self._descriptor is not None:
            _sync(self._descriptor)

    def _at(self, name: str) -> str:
        return os.path.join(self._path, name) if self._descriptor is None else name

    def _write(self, name: str, data: bytes | memoryview) -> None:
        descriptor = os.open(self._at(name), _CREATE, 0o600, dir_fd=self._descriptor)
        try:
            if _POSIX:  # pragma: no branch (other systems have no modes)
                os.fchmod(descriptor, 0o600)  # a umask can only take bits away, but it could take the owner's
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            _sync(descriptor)
        finally:
            os.close(descriptor)

    def _rename(self, old: str, new: str) -> None:
        attempts = 1 if _POSIX else _SHARING_ATTEMPTS
        while True:
            attempts -= 1
            try:
                os.replace(self._at(old), self._at(new), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
            except PermissionError:
                # Windows refuses while another process has the old file open, which is for a moment only (FS-7)
                if not attempts:
                    raise
                time.sleep(0.01)
            else:
                return

    def _unlink(self, name: str) -> None:
        os.unlink(self._at(name), dir_fd=self._descriptor)


def open_folder(path: str, *, what: str = "token folder") -> Folder:
    """The folder at ``path``, made with mode 0700 if it is not there (and what is missing above it too).

    :param what: what errors call it.
    :raises ConfigurationError: it is not a folder (a link to one is none), somebody else's, or others can enter it.
    """
    path = os.path.abspath(path)
    parent, name = os.path.split(path)
    if not _AT:
        os.makedirs(path, mode=0o700, exist_ok=True)  # pragma: no cover (Windows)
        return Folder(path, None)  # pragma: no cover (Windows)
    if parent != path and not os.path.isdir(parent):
        open_folder(parent, what=what).close()
    above = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # links above are the administrator's business
    try:
        return _opened(path, _open_or_make(name or ".", above), what)
    except OSError as error:
        if error.errno not in _NOT_A_FOLDER:
            raise
    finally:
        os.close(above)
    raise ConfigurationError(f"the {what}'s path is a link or a file; give the path of the folder itself")


def _open_or_make(name: str, above: int) -> int:
    with suppress(FileNotFoundError):
        return os.open(name, _FOLDER, dir_fd=above)
    with suppress(FileExistsError):  # another process was faster
        _make(name, above)
    return os.open(name, _FOLDER, dir_fd=above)


def _make(name: str, above: int | None) -> None:
    os.mkdir(name, 0o700, dir_fd=above)
    if stat.S_IMODE(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode) != 0o700:
        os.chmod(name, 0o700, dir_fd=above)  # the umask took the owner's bits; the folder is ours and new
    if above is not None:
        _sync(above)


def _opened(path: str, descriptor: int, what: str) -> Folder:
    info = os.fstat(descriptor)
    problem = ""
    if info.st_uid != os.geteuid():
        problem = "belongs to another user of this machine; run as that user, or give a folder of your own"
    elif info.st_mode & 0o077:
        problem = f"has mode {stat.S_IMODE(info.st_mode):04o}: other users of this machine can enter it; chmod 700 {path}"
    if problem:
        os.close(descriptor)
        raise ConfigurationError(f"the {what} {problem}")
    return Folder(path, descriptor)


def _check_file(info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise _planted()
    if _POSIX:  # pragma: no branch (other systems have no owners in stat)
        if info.st_uid != os.geteuid() or info.st_mode & 0o077:
            raise RecordTampered("a file in the token folder belongs to another user, or others can open it; pauth did not write it so")
        if info.st_nlink > 1:
            raise RecordTampered("a file in the token folder has a second name somewhere (a hard link); pauth did not make it")
    if info.st_size > MAX_FILE_BYTES:
        raise RecordTampered(f"a file in the token folder is larger than {MAX_FILE_BYTES} bytes; pauth did not write it")


def _planted() -> RecordTampered:
    return RecordTampered("a file in the token folder is a link, a folder, a pipe or a device; pauth did not make it")


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl  # pragma: no cover (macOS)

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # pragma: no cover (macOS, where fsync stops at the drive's cache)
    else:
        os.fsync(descriptor)
