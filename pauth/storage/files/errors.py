"""What a system call's error means for who keeps tokens in files."""

from __future__ import annotations

import errno
import os
from typing import Final

from pauth.errors import PAuthError, StorageUnavailable, TokenStorageError

__all__ = ["error_for"]

_STAYS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR})
_HINTS: Final = {
    errno.ENOSPC: "; what was stored is unharmed",
    errno.EDQUOT: "; what was stored is unharmed",
    errno.EFBIG: "; what was stored is unharmed",
    errno.EACCES: "; look at the permissions of the folder and of what is in it",
    errno.EPERM: "; look at the permissions of the folder and of what is in it",
    errno.EROFS: "; mount it writable",
}


def error_for(error: OSError) -> PAuthError:
    """What to raise in place of a system call's error. To be raised outside the handler."""
    number = error.errno or 0
    message = f"the token folder failed: {os.strerror(number)}{_HINTS.get(number, '')}"
    return TokenStorageError(message) if number in _STAYS else StorageUnavailable(message)
