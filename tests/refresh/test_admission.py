"""P20: whoever asks while a failure rests is told what it was, here and in other processes, and is never told more than is known."""

from __future__ import annotations

from typing import Any

import pytest

from pauth.errors import (
    ConfigurationError,
    MalformedResponse,
    PAuthError,
    ProviderUnavailable,
    ReauthorizationRequired,
    Remedy,
    StorageUnavailable,
    TokenError,
)
from tests.refresh.faulty import FaultyStorage, refuse
from tests.refresh.kit import KEY
from tests.refresh.rotating import Rotating, failing


@pytest.mark.parametrize(
    ("error", "again", "code", "remedy"),
    [
        (ProviderUnavailable("down", status=503), ProviderUnavailable, None, Remedy.RETRY),
        (ProviderUnavailable("cut off"), ProviderUnavailable, None, Remedy.RETRY),
        (MalformedResponse("no JSON", status=200), ProviderUnavailable, None, Remedy.RETRY),
        (MalformedResponse("no JSON", status=400), ProviderUnavailable, None, Remedy.RETRY),
        (TokenError("no", error="invalid_client", status=401), TokenError, "invalid_client", Remedy.FIX_CONFIGURATION),
        (ReauthorizationRequired("see him", reason="login_required", error="login_required"), ReauthorizationRequired, None, Remedy.LOG_IN_AGAIN),
    ],
)
async def test_a_failure_that_the_record_knows_of(
    rotating: Rotating, faulty: FaultyStorage, error: PAuthError, again: type[PAuthError], code: str | None, remedy: Remedy
) -> None:
    await rotating.stored_expired(faulty)
    here, there = rotating.elsewhere(faulty), rotating.elsewhere(faulty)
    rotating.script.append(failing(error))
    with pytest.raises(type(error)):
        await here.get(KEY)
    for asker in (here, there):
        for ask in (asker.get, asker.refresh, asker.keep_fresh):
            with pytest.raises(PAuthError) as caught:
                await ask(KEY)
            found: Any = caught.value
            assert type(found) is again
            assert (found.error, found.remedy) == (code, remedy)
            if isinstance(found, ReauthorizationRequired):
                assert found.reason == "login_required"
            else:
                assert found.retry_after
            if isinstance(found, ProviderUnavailable):
                assert not found.request_sent
    assert len(rotating.sent) == 1


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (ConfigurationError("no client authentication"), 1.0),
        (ProviderUnavailable("no metadata", status=503, retry_after=20), 20.0),
        (ProviderUnavailable("no metadata", status=503, retry_after=86_400), 3600.0),
        (ProviderUnavailable("no metadata", status=503, retry_after=0.1), 1.0),
        (ReauthorizationRequired("another server", reason="issuer_changed"), 1.0),
    ],
)
async def test_a_failure_before_the_attempt_rests_in_this_process(
    rotating: Rotating, faulty: FaultyStorage, error: PAuthError, seconds: float
) -> None:
    """The record knows nothing of it, and others are not kept from trying."""
    await rotating.stored_expired(faulty)
    asked: list[object] = []

    async def prepare(token: Any) -> Any:
        asked.append(token)
        if len(asked) == 1:
            raise error
        return await rotating.prepare(token)

    here = rotating.elsewhere(faulty, prepare=prepare)
    with pytest.raises(type(error)) as first:
        await here.get(KEY)
    rotating.clock.advance(seconds - 0.1)
    with pytest.raises(type(error)) as second:
        await here.get(KEY)
    assert second.value is not first.value
    assert second.value.retry_after == pytest.approx(0.1)
    assert str(second.value) == f"{error.message} (it is tried again in 0.1 seconds)"
    assert len(asked) == 1
    rotating.clock.advance(0.1)
    assert await here.get(KEY) == rotating.last


async def test_a_store_that_failed_before_the_attempt_rests_too(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    here, there = rotating.elsewhere(faulty), rotating.elsewhere(faulty)
    faulty.intent_faults.append(refuse)
    for _ in range(3):
        with pytest.raises(StorageUnavailable):
            await here.get(KEY)
    assert await there.get(KEY) == rotating.last
    assert await here.get(KEY) == rotating.last  # it rests for that token, not for its successor


async def test_a_new_login_ends_the_rest_of_this_process(rotating: Rotating, faulty: FaultyStorage) -> None:
    await rotating.stored_expired(faulty)
    failures = [True]

    async def prepare(token: Any) -> Any:
        if failures.pop() if failures else False:
            raise ProviderUnavailable("no metadata", status=503, retry_after=1000)
        return await rotating.prepare(token)

    coordinator = rotating.coordinator(faulty, prepare=prepare)
    with pytest.raises(ProviderUnavailable):
        await coordinator.get(KEY)
    await coordinator.login(KEY, rotating.issue())
    assert await coordinator.refresh(KEY) == rotating.last
