"""The system's keyring (Secret Service, macOS Keychain, Windows Credential Locker), for the one thing pauth keeps there: its encryption keys.

Importing :mod:`keyring` takes a tenth of a second and asking it may ask the user to unlock it, so it is done only where the key is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, cast

from pauth.errors import ConfigurationError, StorageUnavailable
from pauth.secret import Secret

__all__ = ["available", "get", "put"]

T = TypeVar("T")

_SERVICE: Final = "pauth"
_ENTRY: Final = "encryption-key"
_PROTECTING: Final = 1.0
"""The priority from which on, by keyring's own measure, a backend protects what is in it; below are plaintext files."""


class _Backend(Protocol):
    """What pauth asks of a keyring."""

    priority: float

    def get_password(self, service: str, username: str) -> str | None:
        """What is kept."""
        ...

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep something."""
        ...


def available() -> bool:
    """Whether there is a keyring that a key may be put into without being told to. Blocks."""
    try:
        backend = _backend()
    except (ConfigurationError, StorageUnavailable):
        return False
    return backend is not None and _priority(backend) >= _PROTECTING


def get() -> Secret | None:
    """What is kept; ``None`` if there is nothing, or no keyring at all. Blocks.

    :raises StorageUnavailable: the keyring is locked, or does not answer.
    """
    backend = _backend()
    if backend is None:
        return None
    return _asked(lambda: _hidden(backend.get_password(_SERVICE, _ENTRY)))


def put(text: Secret) -> None:
    """Keep ``text`` in place of what is kept. Blocks.

    :raises ConfigurationError: there is no keyring.
    :raises StorageUnavailable: the keyring is locked, or does not answer.
    """
    backend = _backend()
    if backend is None:
        raise ConfigurationError('this machine has no keyring to keep the encryption key in; use key = "file" in pauth.toml')
    _asked(lambda: backend.set_password(_SERVICE, _ENTRY, text.reveal()))
    if get() != text:
        raise StorageUnavailable('the system keyring did not keep the encryption key; use key = "file" in pauth.toml')


def _backend() -> _Backend | None:
    """The backend that is configured or found; ``None`` if all there is keeps nothing."""
    try:
        import keyring
    except ModuleNotFoundError:
        return None
    found = _asked(lambda: cast("_Backend", keyring.get_keyring()))
    return None if type(found).__module__ in {"keyring.backends.fail", "keyring.backends.null"} else found


def _priority(backend: _Backend) -> float:
    """How good it is; of a chain of several, how good the first is, which is the one that keys are put into."""
    chained: Any = getattr(backend, "backends", None)
    return float(chained[0].priority if chained else backend.priority)


def _asked(question: Callable[[], T]) -> T:
    try:
        return question()
    except Exception as error:  # noqa: BLE001  # each backend has errors of its own; their text may hold anything
        failure = type(error).__name__
    raise StorageUnavailable(
        f"the system keyring, where the encryption key is kept, did not give it ({failure}); unlock it, or set PAUTH_ENCRYPTION_KEY"
    )


def _hidden(text: str | None) -> Secret | None:
    return None if text is None else Secret(text)
