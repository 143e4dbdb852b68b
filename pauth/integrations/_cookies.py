"""Cookies: read what browsers and attackers send, write what browsers keep well, and seal what is in them (WS-1, WS-2, WS-8)."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import re
from collections.abc import Iterable
from typing import Any, Final, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pauth.storage.keys import EncryptionKey, Keyring, KeySource, conceal, keyring_from, keyring_from_environment

__all__ = ["CookieSealer", "cookies_of", "set_cookie"]

_MAX_HEADER: Final = 32 * 1024
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SEALED: Final = re.compile(r"[A-Za-z0-9_-]{60,4096}")
_LABEL: Final = b"pauth web cookie 1"
_SALT_BYTES: Final = 24
_NONCE: Final = bytes(12)


def cookies_of(headers: Iterable[str]) -> dict[str, str]:
    """The cookies in the ``Cookie`` headers of a request. Whatever stands there, nothing is raised.

    Of a name that comes with two different values neither is taken: one of them was set by somebody else, and which one is not to be known.
    """
    text = ";".join(headers)
    cookies: dict[str, str] = {}
    doubtful: set[str] = set()
    for pair in text.split(";") if len(text) <= _MAX_HEADER else ():
        name, equals, value = pair.strip(" \t").partition("=")
        if equals and _NAME.fullmatch(name) and cookies.setdefault(name, value) != value:
            doubtful.add(name)
    return {name: value for name, value in cookies.items() if name not in doubtful}


def set_cookie(name: str, value: str, *, max_age: int, secure: bool, same_site: str = "Lax") -> str:
    """A ``Set-Cookie`` value: for the whole host and no other, out of reach of scripts; ``max_age`` 0 removes the cookie."""
    return f"{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite={same_site}" + ("; Secure" if secure else "")


class CookieSealer:
    """Turns JSON objects into text that nobody else can read, change or use for another purpose, and back.

    The text is base64url of ``salt (24) | AES-256-GCM ciphertext and tag``, under a key of its own: HMAC-SHA256 of label and salt, with the
    encryption key. A key used once needs no nonce, so one encryption key serves any number of cookies. The purpose is authenticated.

    :param encryption_key: as the storages take it; by default what is in ``PAUTH_ENCRYPTION_KEY`` or ``PAUTH_ENCRYPTION_KEYS``.
    :raises ConfigurationError: there is no key, or it is unusable.
    """

    __slots__ = ("_keys",)

    def __init__(self, encryption_key: KeySource | Keyring | None) -> None:
        encryption_key = conceal(encryption_key)
        keyring = keyring_from(encryption_key) or keyring_from_environment()
        self._keys = tuple(key.to_string() for key in keyring.keys if isinstance(key, EncryptionKey))

    def seal(self, purpose: str, payload: dict[str, Any]) -> str:
        """The text for ``payload``."""
        salt = os.urandom(_SALT_BYTES)
        text = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
        sealed = salt + self._cipher(0, salt).encrypt(_NONCE, text, purpose.encode("utf-8", "surrogatepass"))
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, purpose: str, text: str) -> dict[str, Any] | None:
        """What was sealed for ``purpose``; ``None`` if this is not it."""
        if not _SEALED.fullmatch(text):
            return None
        try:
            data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            return None
        for number in range(len(self._keys)):
            try:
                opened = self._cipher(number, data[:_SALT_BYTES]).decrypt(_NONCE, data[_SALT_BYTES:], purpose.encode("utf-8", "surrogatepass"))
            except InvalidTag:
                continue
            return cast("dict[str, Any]", json.loads(opened))
        return None

    def _cipher(self, number: int, salt: bytes) -> AESGCM:
        return AESGCM(hmac.digest(self._keys[number].reveal().encode(), _LABEL + salt, "sha256"))
