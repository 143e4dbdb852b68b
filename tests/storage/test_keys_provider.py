"""Data keys wrapped by a key management service: async, with a deadline, failing closed (VC-8)."""

from __future__ import annotations

import asyncio
import base64
import os
from contextlib import aclosing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from pauth.errors import ConfigurationError, PAuthError, StorageUnavailable
from pauth.storage import FernetKey, KeyProvider, Keyring, keyring_from_provider, new_wrapped_key
from tests.storage.kit import KEY, OTHER_KEY, database
from tests.support.canary import leaks_in_error


class Service:
    """A key management service in memory."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self._master = Fernet(Fernet.generate_key())
        self.failure = failure
        self.asked = 0

    async def wrap(self, data_key: bytes) -> bytes:
        return self._answer(self._master.encrypt(data_key))

    async def unwrap(self, wrapped_key: bytes) -> bytes:
        return self._answer(self._master.decrypt(wrapped_key))

    def _answer(self, answer: bytes) -> bytes:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return answer


async def test_a_wrapped_key_opens_the_store_of_yesterday_vc_8(tmp_path: Path) -> None:
    service = Service()
    assert isinstance(service, KeyProvider)
    wrapped = await new_wrapped_key(service)
    async with aclosing(database(tmp_path, keys=await keyring_from_provider(service, wrapped))) as storage:
        await storage.save_token("alice", {"t": "CANARY-token"})
    asked = service.asked
    async with aclosing(database(tmp_path, keys=await keyring_from_provider(service, [wrapped]))) as storage:
        assert await storage.get_token("alice") == {"t": "CANARY-token"}
        await storage.save_token("bob", {"t": "CANARY-token"})
    assert service.asked == asked + 1  # once at the start, not at each operation


async def test_several_wrapped_keys_and_older_ones_vc_5() -> None:
    service = Service()
    wrapped = [await new_wrapped_key(service) for _ in range(2)]
    fernet = FernetKey(b"CANARY-fernet".ljust(32, b"="))
    ring = await keyring_from_provider(service, wrapped, older_keys=[KEY, OTHER_KEY.to_string(), fernet])
    first, second = [(await keyring_from_provider(service, text)).primary.key_id for text in wrapped]
    assert ring.primary.key_id == first != second
    assert all(ring.find(key_id) for key_id in (second, KEY.key_id, OTHER_KEY.key_id))
    assert ring.fernet_keys == (fernet,)
    for older in (fernet, Keyring([KEY, fernet])):
        assert (await keyring_from_provider(service, wrapped[0], older_keys=older)).fernet_keys == (fernet,)
    with pytest.raises(ConfigurationError, match="43 characters"):
        await keyring_from_provider(service, wrapped, older_keys=["CANARY-no-key"])


@pytest.mark.parametrize("failure", [RuntimeError("CANARY-data-key"), OSError("CANARY"), TimeoutError("CANARY")])
async def test_a_service_that_fails_is_unavailable_and_asked_again_vc_8(failure: Exception) -> None:
    service = Service()
    wrapped = await new_wrapped_key(service)
    service.failure = failure
    for ask in (lambda: new_wrapped_key(service), lambda: keyring_from_provider(service, wrapped)):
        with pytest.raises(StorageUnavailable) as caught:
            await ask()
        assert caught.value.retryable
        assert not list(leaks_in_error(caught.value))
        assert caught.value.__context__ is None
    service.failure = None
    assert isinstance(await keyring_from_provider(service, wrapped), Keyring)


async def test_an_error_of_pauths_is_passed_on() -> None:
    with pytest.raises(PAuthError, match="no such role") as caught:
        await new_wrapped_key(Service(ConfigurationError("no such role")))
    assert type(caught.value) is ConfigurationError


async def test_a_service_that_hangs_is_given_up_vc_8() -> None:
    class Hanging(Service):
        async def unwrap(self, wrapped_key: bytes) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

    with pytest.raises(StorageUnavailable, match=r"within 0\.01 seconds"):
        await keyring_from_provider(Hanging(), base64.urlsafe_b64encode(b"wrapped").decode(), timeout=0.01)


async def test_who_is_cancelled_while_the_service_thinks_is_cancelled() -> None:
    asked = asyncio.Event()

    class Slow(Service):
        async def wrap(self, data_key: bytes) -> bytes:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    task = asyncio.create_task(new_wrapped_key(Slow()))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Identity(Service):
    async def wrap(self, data_key: bytes) -> bytes:
        return b"<" + data_key + b">"


class Text(Service):
    async def wrap(self, data_key: bytes) -> bytes:
        return "text"  # type: ignore[return-value]  # as a careless user's would


class Forgetful(Service):
    async def unwrap(self, wrapped_key: bytes) -> bytes:
        return os.urandom(32)


class Wrong(Service):
    async def unwrap(self, wrapped_key: bytes) -> bytes:
        return b"CANARY, and no key"


@pytest.mark.parametrize(
    ("provider", "words"),
    [(Identity(), "encrypted bytes"), (Text(), "encrypted bytes"), (Forgetful(), "does not give"), (Wrong(), "32 random bytes")],
)
async def test_a_provider_that_does_not_keep_its_promise_is_found_before_anything_is_stored(provider: KeyProvider, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        await new_wrapped_key(provider)
    assert not list(leaks_in_error(caught.value))


@pytest.mark.parametrize(("wrapped", "words"), [([], "at least one"), ("", "at least one"), ("not base64!", "base64url"), ([" "], "32 random bytes")])
async def test_what_is_no_wrapped_key_is_refused(wrapped: str | list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        await keyring_from_provider(Wrong(), wrapped)
