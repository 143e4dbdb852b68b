"""A key from a passphrase, by scrypt only (VC-4)."""

from __future__ import annotations

import hashlib
from typing import Final

from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage.keys_text import KEY_BYTES

__all__ = ["DEFAULT_N", "DEFAULT_P", "DEFAULT_R", "derive_key"]

DEFAULT_N: Final = 2**17
DEFAULT_R: Final = 8
DEFAULT_P: Final = 1

_MIN_CHARACTERS: Final = 16
_MIN_DIFFERENT: Final = 8
_MIN_SALT: Final = 16
_MIN_WORK: Final = 2**14 * 8 * 5
_MAX_MEMORY: Final = 2**30


def derive_key(passphrase: Secret, *, salt: bytes, n: int, r: int, p: int) -> bytes:
    """32 bytes; see :meth:`.EncryptionKey.from_passphrase`.

    :raises ConfigurationError: passphrase, salt or cost is too weak, or the cost impossible.
    """
    problem = _problem_with_text(passphrase) or _problem_with_salt(salt) or _problem_with_cost(n, r, p)
    if problem:
        raise ConfigurationError(problem)
    try:
        # OpenSSL's limit counts a little more than 128 * n * r
        return hashlib.scrypt(passphrase.reveal().encode(), salt=salt, n=n, r=r, p=p, maxmem=128 * r * (n + p + 8), dklen=KEY_BYTES)
    except (MemoryError, ValueError):
        pass
    raise ConfigurationError(f"scrypt with n={n}, r={r}, p={p} is not possible on this machine: it takes {128 * n * r >> 20} MiB of memory")


def _problem_with_text(passphrase: Secret) -> str:
    text = passphrase.reveal()
    weak = len(text) < _MIN_CHARACTERS or len(set(text)) < _MIN_DIFFERENT
    encodable = text.isascii() or text.encode("utf-8", "replace") == text.encode("utf-8", "surrogatepass")
    del text  # SH-5: tracebacks that show locals
    if weak:
        return f"a passphrase for encryption needs at least {_MIN_CHARACTERS} characters, {_MIN_DIFFERENT} of them different: six random words"
    return "" if encodable else "a passphrase must be encodable as UTF-8; this one holds a lone surrogate"


def _problem_with_salt(salt: object) -> str:
    if isinstance(salt, bytes) and len(salt) >= _MIN_SALT and len(set(salt)) >= _MIN_SALT // 2:
        return ""
    return f"the salt of a passphrase is at least {_MIN_SALT} random bytes: make it once with os.urandom({_MIN_SALT}) and keep it with the settings"


def _problem_with_cost(n: int, r: int, p: int) -> str:
    if not (n > 1 and n & (n - 1) == 0 and 8 <= r <= 32 and 1 <= p <= 16):
        return "scrypt needs an n that is a power of two, r from 8 to 32, and p from 1 to 16"
    if n * r * p < _MIN_WORK:
        return f"scrypt with n * r * p below {_MIN_WORK} is too weak; leave n, r and p out for a sound choice"
    return "" if 128 * n * r <= _MAX_MEMORY else "scrypt with 128 * n * r above 1 GiB of memory is refused; raise p instead"
