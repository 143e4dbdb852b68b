"""Data keys that a key management service (KMS) keeps wrapped (VC-8).

Only the service can unwrap them, and it says who may. It is asked once, before the storage is made, not at each operation: a storage that exists can
encrypt, and a service that is down stops a program that starts, not one that runs.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable
from pauth.storage.keys import EncryptionKey, Keyring, KeySource, conceal, keys_from

__all__ = ["KeyProvider", "keyring_from_provider", "new_wrapped_key"]

T = TypeVar("T")


@runtime_checkable
class KeyProvider(Protocol):
    """What pauth needs of a key management service: two calls, as users write them around its SDK.

    An SDK that blocks belongs in ``asyncio.to_thread``. What they raise is reported as :class:`~pauth.errors.StorageUnavailable`, by the name of its
    class only, unless it is one of pauth's errors.
    """

    async def wrap(self, data_key: bytes) -> bytes:
        """``data_key`` (32 bytes), encrypted by the service."""
        ...

    async def unwrap(self, wrapped_key: bytes) -> bytes:
        """What :meth:`wrap` was given."""
        ...


async def new_wrapped_key(provider: KeyProvider, *, timeout: float = 30.0) -> str:  # noqa: ASYNC109
    """A new random data key, wrapped: text for the settings, for :func:`keyring_from_provider`. The key itself is forgotten.

    :param timeout: seconds the service has for each call.
    :raises StorageUnavailable: the service did not answer, or refused.
    :raises ConfigurationError: what it wrapped does not unwrap to the same key.
    """
    key = EncryptionKey.generate()
    wrapped = await _ask(lambda: provider.wrap(_raw(key)), timeout)
    if not _is_ciphertext(wrapped, key):
        del wrapped  # SH-5: tracebacks that show locals
        raise ConfigurationError("the key provider's wrap() must give encrypted bytes")
    if (await _unwrap(provider, wrapped, timeout)).key_id != key.key_id:
        raise ConfigurationError("the key provider's unwrap() does not give what its wrap() was given")
    return base64.urlsafe_b64encode(wrapped).decode()


async def keyring_from_provider(
    provider: KeyProvider,
    wrapped_keys: str | Sequence[str],
    *,
    older_keys: KeySource | Keyring | None = None,
    timeout: float = 30.0,  # noqa: ASYNC109
) -> Keyring:
    """The keyring of wrapped data keys, for the ``encryption_key`` argument of any storage.

    :param wrapped_keys: what :func:`new_wrapped_key` gave, once or several times; the first encrypts.
    :param older_keys: keys that are not wrapped and only read, for a store that was encrypted without the service before.
    :param timeout: seconds the service has for each call.
    :raises StorageUnavailable: the service did not answer, or refused. Nothing is remembered: the next call asks again.
    :raises ConfigurationError: no wrapped key, one that is not what :func:`new_wrapped_key` gave, or the service unwrapped something else than a key.
    """
    older_keys = conceal(older_keys)  # SH-5: tracebacks that show locals
    older = keys_from(older_keys)
    texts = [wrapped_keys] if isinstance(wrapped_keys, str) else wrapped_keys
    if not texts or not all(texts):
        raise ConfigurationError("at least one wrapped key is needed; make one with: await new_wrapped_key(provider)")
    keys = [await _unwrap(provider, _decoded(text), timeout) for text in texts]
    return Keyring([*keys, *older])


async def _unwrap(provider: KeyProvider, wrapped: bytes, timeout: float) -> EncryptionKey:  # noqa: ASYNC109
    return EncryptionKey(await _ask(lambda: provider.unwrap(wrapped), timeout))


async def _ask(call: Callable[[], Awaitable[T]], timeout: float) -> T:  # noqa: ASYNC109
    try:
        async with asyncio.timeout(timeout):
            return await call()
    except PAuthError:
        raise
    except TimeoutError:
        failure = f"the key provider did not answer within {timeout:g} seconds"
    except Exception as error:  # noqa: BLE001  # whatever a user's code raises, its text and its locals may hold the key
        failure = f"the key provider raised {type(error).__name__}"
    raise StorageUnavailable(failure)


def _is_ciphertext(wrapped: object, key: EncryptionKey) -> bool:
    return isinstance(wrapped, bytes) and _raw(key) not in wrapped


def _raw(key: EncryptionKey) -> bytes:
    return base64.urlsafe_b64decode(key.to_string().reveal() + "=")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), altchars=b"-_", validate=True)
    except ValueError:
        pass
    raise ConfigurationError("a wrapped key is the text that new_wrapped_key() gave, in base64url")
