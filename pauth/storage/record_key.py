"""What a record is known by. Apart from the protocols of :mod:`pauth.storage.base`, which nobody needs who only reads one record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pauth.errors import ConfigurationError, InvalidUserId

__all__ = ["MAX_USER_ID_BYTES", "RecordKey", "check_user_id"]

MAX_NAMESPACE: Final = 512
"""The longest namespace, in characters. Database indexes have room for it, and for three bytes a character."""

MAX_USER_ID_BYTES: Final = 1024
"""The longest user id, in bytes of UTF-8."""


def check_user_id(user_id: str) -> str:
    """Give back ``user_id`` if a record can be kept under it.

    User ids are opaque and case-sensitive; nothing is normalised, so two ids that look alike are two users.

    :raises InvalidUserId: not a ``str``, empty, longer than :data:`MAX_USER_ID_BYTES`, or not encodable as UTF-8.
    """
    if not isinstance(user_id, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a type checker
        raise InvalidUserId(f"a user id must be a str, not {type(user_id).__name__}; convert numbers with str()")
    if user_id.isascii() and 0 < len(user_id) <= MAX_USER_ID_BYTES:
        return user_id  # nearly all of them, and the check stands before every operation
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


@dataclass(frozen=True, slots=True)
class RecordKey:
    """The identity of a record: whose tokens, and of which provider and client."""

    namespace: str
    """The provider's and client's identity; ``""`` for records saved through the three plain methods."""

    user_id: str = field(repr=False)  # it may be personal data

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        if type(self.namespace) is not str or len(self.namespace) > MAX_NAMESPACE:
            raise ConfigurationError(f"a namespace must be a str of at most {MAX_NAMESPACE} characters")
