"""Keys for encryption at rest.

A keyring encrypts with its first key and decrypts with any, so keys are rotated by putting a new one in front.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Final, NoReturn, TypeAlias

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pauth.errors import ConfigurationError
from pauth.secret import Secret
from pauth.storage.fernet import FERNET_PREFIX, FernetKey
from pauth.storage.keys_passphrase import DEFAULT_N, DEFAULT_P, DEFAULT_R, derive_key
from pauth.storage.keys_text import KEY_BYTES, decode_key, is_key

__all__ = ["EncryptionKey", "KeySource", "Keyring", "conceal", "key_from", "keyring_from", "keyring_from_environment", "keys_from"]

_KEY_ID_LABEL: Final = b"pauth encryption key id"
_HOW_TO_MAKE_ONE: Final = 'make one with: python -c "from pauth.storage import EncryptionKey; print(EncryptionKey.generate().to_string().reveal())"'


class EncryptionKey:
    """A 256-bit key (VC-4). It does not print and cannot be pickled."""

    __slots__ = ("_key", "cipher", "key_id")

    cipher: AESGCM
    """AES-256-GCM under this key, set up once."""

    key_id: bytes
    """8 bytes derived from the key; stored beside what it encrypted, and not secret."""

    def __init__(self, key: bytes) -> None:
        """A key from its bytes.

        :param key: 32 random bytes.
        :raises ConfigurationError: not 32 bytes, or not random.
        """
        problem = _problem(key)
        if problem:
            del key  # SH-5: tracebacks that show locals
            raise ConfigurationError(problem)
        self._key = key
        self.cipher = AESGCM(key)
        self.key_id = hmac.digest(key, _KEY_ID_LABEL, "sha256")[:8]

    @classmethod
    def generate(cls) -> EncryptionKey:
        """A new random key. Keep :meth:`to_string` of it where secrets are kept: without it, what is stored is lost."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def from_string(cls, text: str | Secret) -> EncryptionKey:
        """The key that :meth:`to_string` wrote: 32 bytes as base64url (43 characters; padding may be there).

        :raises ConfigurationError: anything else, a passphrase or hexadecimal digits among it.
        """
        key = decode_key(text.reveal() if isinstance(text, Secret) else text)
        problem = _problem(key)
        if key is None or problem:
            del key, text
            raise ConfigurationError(problem)
        return cls(key)

    @classmethod
    def from_passphrase(cls, passphrase: str | Secret, *, salt: bytes, n: int = DEFAULT_N, r: int = DEFAULT_R, p: int = DEFAULT_P) -> EncryptionKey:
        """The key that scrypt (RFC 7914) makes of a passphrase. Blocks for half a second, with ``128 * n * r`` bytes of memory (128 MiB).

        Do it once, when the program starts; in a coroutine with ``await asyncio.to_thread(EncryptionKey.from_passphrase, …)``. A random key is
        stronger and costs nothing: prefer :meth:`generate` wherever a key can be kept at all.

        :param passphrase: at least 16 characters, 8 of them different. What it is taken for is its UTF-8, as it stands.
        :param salt: at least 16 random bytes (``os.urandom(16)``), made once for each store and kept with its settings; it is not secret. The
            same passphrase, salt, n, r and p give the same key, for ever: these defaults do not change.
        :param n: cost, a power of two. ``n * r * p`` has to be at least 655,360 (as OWASP recommends), ``128 * n * r`` at most 1 GiB.
        :param r: block size, from 8 to 32.
        :param p: from 1 to 16; more of it costs time, but no memory.
        :raises ConfigurationError: too weak, or not possible.
        """
        hidden = passphrase if isinstance(passphrase, Secret) else Secret(passphrase)
        del passphrase  # SH-5: tracebacks that show locals
        return cls(derive_key(hidden, salt=salt, n=n, r=r, p=p))

    def to_string(self) -> Secret:
        """The key as text for :meth:`from_string`."""
        return Secret(base64.urlsafe_b64encode(self._key).rstrip(b"=").decode())

    def __repr__(self) -> str:
        return f"<EncryptionKey id={self.key_id.hex()}>"

    def __deepcopy__(self, memo: object) -> EncryptionKey:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an EncryptionKey cannot be pickled; configure each process from its environment")


def _problem(key: object) -> str:
    """Why this is no key; ``""`` for a key. So regular a one that chance would not make it in any lifetime is none."""
    if not isinstance(key, bytes) or not is_key(key):
        return f"an encryption key is {KEY_BYTES} random bytes, as text 43 characters of base64url; {_HOW_TO_MAKE_ONE}"
    steps = {(after - before) % 256 for before, after in itertools.pairwise(key)}
    if len(steps) == 1 or len(set(key)) < 12 or all(0x20 <= byte < 0x7F for byte in key):
        return f"this encryption key is not random but text or a pattern; {_HOW_TO_MAKE_ONE}"
    return ""


KeySource: TypeAlias = str | Secret | EncryptionKey | FernetKey | Sequence[str | Secret | EncryptionKey | FernetKey]
"""One key or several, the first of them the one that encrypts. Text is :meth:`EncryptionKey.to_string`'s, or ``"fernet:"`` and a Fernet key."""


class Keyring:
    """Keys in order: the first encrypts, all decrypt (VC-5)."""

    __slots__ = ("_by_id", "fernet_keys", "keys", "primary")

    primary: EncryptionKey
    """The key that encrypts."""

    keys: tuple[EncryptionKey | FernetKey, ...]
    """All of them."""

    fernet_keys: tuple[FernetKey, ...]
    """The keys of records that are Fernet tokens."""

    def __init__(self, keys: Iterable[EncryptionKey | FernetKey]) -> None:
        """:raises ConfigurationError: no key at all, or a Fernet key in front."""
        in_order = tuple(keys)
        if not in_order:
            raise ConfigurationError(f"at least one encryption key is needed; {_HOW_TO_MAKE_ONE}")
        first = in_order[0]
        if isinstance(first, FernetKey):
            raise ConfigurationError(f"a Fernet key only reads what was written before; put a key of pauth's in front of it: {_HOW_TO_MAKE_ONE}")
        self.primary = first
        self.keys = in_order
        self._by_id = {key.key_id: key for key in in_order if isinstance(key, EncryptionKey)}
        self.fernet_keys = tuple(key for key in in_order if isinstance(key, FernetKey))

    def find(self, key_id: bytes) -> EncryptionKey | None:
        """The key with this id, if it is on the ring."""
        return self._by_id.get(key_id)

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._by_id) + len(self.fernet_keys)}, encrypting with {self.primary.key_id.hex()}>"


def conceal(source: KeySource | Keyring | None) -> KeySource | Keyring | None:
    """The same, with each text in a :class:`Secret`: the first thing to do with an argument, before anything can fail (SH-5)."""
    if isinstance(source, str):
        return Secret(source)
    if isinstance(source, Sequence):
        return [Secret(key) if isinstance(key, str) else key for key in source]
    return source


def keyring_from(source: KeySource | Keyring | None) -> Keyring | None:
    """The keyring a user's ``encryption_key`` argument means; ``None`` for ``None``.

    :raises ConfigurationError: a key is unusable, or the sequence is empty.
    """
    source = conceal(source)
    return source if source is None or isinstance(source, Keyring) else Keyring(keys_from(source))


def keys_from(source: KeySource | Keyring | None) -> Sequence[EncryptionKey | FernetKey]:
    """The keys, in order; none for ``None``.

    :raises ConfigurationError: one is unusable.
    """
    source = conceal(source)
    if source is None or isinstance(source, Keyring):
        return () if source is None else source.keys
    return [key_from(key) for key in (source if isinstance(source, Sequence) else (source,))]


def key_from(source: str | Secret | EncryptionKey | FernetKey) -> EncryptionKey | FernetKey:
    """A key, or the key a text means.

    :raises ConfigurationError: it is unusable.
    """
    if isinstance(source, EncryptionKey | FernetKey):
        return source
    text = source if isinstance(source, Secret) else Secret(source)
    del source
    return FernetKey.from_string(text) if text.reveal().strip().startswith(FERNET_PREFIX) else EncryptionKey.from_string(text)


def keyring_from_environment() -> Keyring:
    """The keyring in ``PAUTH_ENCRYPTION_KEY``, or in ``PAUTH_ENCRYPTION_KEYS`` (comma separated, the first encrypts).

    :raises ConfigurationError: neither is set, both are, or a key is unusable. ``fernet:`` and a Fernet key stand for a key to read with.
    """
    single, several = _variable("PAUTH_ENCRYPTION_KEY"), _variable("PAUTH_ENCRYPTION_KEYS")
    if single and several:
        raise ConfigurationError("set PAUTH_ENCRYPTION_KEY or PAUTH_ENCRYPTION_KEYS, not both")
    texts = [Secret(text) for text in several.reveal().split(",") if text.strip()] if several else [single] if single else []
    if not texts:
        raise ConfigurationError(
            "tokens are encrypted at rest and no key is configured: pass encryption_key=, or set PAUTH_ENCRYPTION_KEY; " + _HOW_TO_MAKE_ONE
        )
    return Keyring(key_from(text) for text in texts)


def _variable(name: str) -> Secret | None:
    value = os.environ.get(name)
    return Secret(value) if value else None
