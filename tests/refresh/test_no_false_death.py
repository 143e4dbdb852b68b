"""P8: only ``invalid_grant`` for the refresh token that is still on record marks a grant dead, and nothing is deleted by an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pauth.core.token import Token, token_to_dict
from pauth.errors import (
    MalformedResponse,
    PAuthError,
    ProviderUnavailable,
    ReauthorizationRequired,
    Remedy,
    StorageUnavailable,
    TokenError,
    UnsupportedRecord,
)
from pauth.storage import EncryptionKey, MemoryTokenStorage, RecordKey
from pauth.testing import faults
from tests.refresh.faulty import FaultyStorage, refuse
from tests.refresh.kit import KEY, STALE, Storage, World, database, landed, passing, stored, stored_token, world
from tests.refresh.rotating import Rotating, foreign

_DEAD = faults.status(400, {"error": "invalid_grant"})


async def test_p8_a_dead_grant_is_marked_kept_and_not_asked_about_again(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client, strict.client(storage) as other:
        token = await strict.log_in(client)
        strict.expire()
        strict.server.revoke_user("alice")
        for asker in (client, other):
            for ask in (asker.get_token, asker.refresh):
                with pytest.raises(ReauthorizationRequired) as caught:
                    await ask("alice")
                assert caught.value.reason == "invalid_grant"
                assert len(strict.refreshes) == 1
        grant = await stored(storage)
        assert grant is not None
        assert grant.token == token  # nothing was deleted
        assert grant.ended == "invalid_grant"

        again = await strict.log_in(client)  # the way out
        assert await other.get_token("alice") == again
    assert len(strict.refreshes) == 1


async def test_p8_a_dead_grant_is_told_as_soon_as_it_is_known(strict: World, storage: Storage) -> None:
    """In the last tenth of its life a token is served and refreshed behind the scenes; after the refusal it is not served any more."""
    async with strict.client(storage) as client:
        token = await strict.log_in(client)
        strict.clock.advance(STALE)
        strict.server.script("token", _DEAD)
        assert await client.get_token("alice") == token
        await landed(client)
        for _ in range(2):
            assert client.get_token_nowait("alice") is None
            with pytest.raises(ReauthorizationRequired) as caught:
                await client.get_token("alice")
            assert caught.value.reason == "invalid_grant"
    assert len(strict.refreshes) == 1


@pytest.mark.parametrize("fresh", [True, False])
async def test_p8_a_record_that_another_process_replaced_is_adopted(strict: World, tmp_path: Path, *, fresh: bool) -> None:
    """The loser of a race gets ``invalid_grant`` for the token it sent; the winner's is on record, and is refreshed in turn if it has expired."""
    key = EncryptionKey.generate()
    ours, theirs = database(tmp_path, strict.clock, key), database(tmp_path, strict.clock, key)
    theirs.store_id = None  # so it does not share what the storages of one process share
    async with strict.client(ours) as client, strict.client(theirs) as other:
        await strict.log_in(client)
        strict.expire()
        hold = strict.server.script("token", faults.hold(then=_DEAD))
        losing = asyncio.create_task(client.get_token("alice"))
        await hold.arrived.wait()
        winner = await passing(strict.clock, other.get_token("alice"))  # when the loser's lease is over
        if not fresh:
            strict.expire()
        hold.release()
        token = await losing
        assert (token == winner) == fresh
        assert await stored_token(theirs) == token
        assert await other.get_token("alice") == token
    assert not strict.server.family_revoked("alice")
    await ours.aclose()
    await theirs.aclose()


async def test_p8_what_another_process_stores_in_the_last_moment_is_adopted(rotating: Rotating, faulty: FaultyStorage) -> None:
    """Between the answer and the mark: the mark names its predecessor, so it does not overwrite."""
    coordinator = rotating.coordinator(faulty)
    old = await rotating.stored_expired(faulty)
    rotating.last = None  # whatever is sent is refused
    newer = foreign(rotating.issue(), "theirs")

    async def replaced_before(write: Any) -> Any:
        await MemoryTokenStorage.replace(faulty, KEY, token_to_dict(newer), expected_version=2)
        return await write()

    rotating.last = None
    faulty.faults.append(replaced_before)
    assert await coordinator.get(KEY) == newer
    assert rotating.sent == [old.refresh_token]
    assert await stored_token(faulty) == newer


async def test_p8_a_mark_that_cannot_be_stored_is_no_verdict(strict: World) -> None:
    """Without the store nobody knows whether the refused token is still the one on record."""
    storage = FaultyStorage(strict.clock)
    async with strict.client(storage) as client:
        await strict.log_in(client)
        strict.expire()
        strict.server.script("token", _DEAD)
        storage.faults.append(refuse)
        with pytest.raises(StorageUnavailable):
            await client.get_token("alice")
        assert (await client.get_token("alice")).access_token


_APPLIED: list[Any] = [faults.cut(0), faults.cut(60), faults.cut(-5)]
_REFUSED: list[Any] = [
    faults.status(500),
    faults.status(502, "<html>Bad Gateway</html>"),
    faults.status(503, {"error": "temporarily_unavailable"}, {"Retry-After": "30"}),
    faults.status(504, {"error": "invalid_grant"}),
    faults.rate_limited(None),
    faults.rate_limited(30),
    faults.rate_limited("Wed, 21 Oct 2015 07:28:00 GMT"),
    faults.status(400, {"error": "temporarily_unavailable"}),
    faults.status(408),
    faults.drop_before(),
    faults.body("<html>please wait</html>", content_type="text/html"),
    faults.body("<html>no</html>", content_type="text/html", status=400),
    faults.body("{", status=200),
    faults.body("[]", status=400),
    faults.body('{"error": {"code": 7}}', status=400),
    faults.body("", status=400, content_type=None),
    faults.body("{}", status=200),
    faults.body('{"access_token": "", "token_type": "Bearer"}', status=200),
    faults.body('{"access_token": "CANARY-at", "token_type": "mac"}', status=200),
    faults.status(302, "", {"Location": "https://elsewhere.example/"}),
    faults.status(401, {"error": "invalid_client"}),
    faults.status(400, {"error": "unauthorized_client"}),
    faults.status(400, {"error": "invalid_request", "error_description": "invalid_grant"}),
    faults.status(400, {"error": "invalid_scope"}),
    faults.status(403, {"error": "something_new"}),
]


@pytest.mark.parametrize("fault", _APPLIED + _REFUSED)
async def test_p8_any_other_failure_leaves_the_grant_alone(fault: Any) -> None:
    """5xx, 429, cut and malformed answers, refusals of the client: an error while the token has expired, and the record as it was."""
    async with world(rotation="RO") as lenient:  # a server that lets a cut answer be asked for again
        storage = MemoryTokenStorage(clock=lenient.clock)
        async with lenient.client(storage) as client:
            token = await lenient.log_in(client)
            lenient.expire()
            lenient.server.script("token", fault)
            with pytest.raises(PAuthError) as caught:
                await client.get_token("alice")
            assert isinstance(caught.value, ProviderUnavailable | MalformedResponse | TokenError)
            assert await stored_token(storage) == token
            with pytest.raises(PAuthError) as resting:
                await client.get_token("alice")
            assert isinstance(resting.value, TokenError if isinstance(caught.value, TokenError) else ProviderUnavailable)
            assert resting.value.error == (caught.value.error if isinstance(caught.value, TokenError) else None)
            assert resting.value.remedy is (caught.value.remedy if isinstance(caught.value, TokenError) else Remedy.RETRY)
            assert resting.value.retry_after
            assert len(lenient.refreshes) == 1
            lenient.clock.advance(resting.value.retry_after)
            assert await client.get_token("alice") != token
        assert len(lenient.refreshes) == 2


@pytest.mark.parametrize("fault", [fault for fault in _REFUSED if fault.label != "drop_before"])
async def test_a_failure_costs_nothing_while_the_token_is_valid(fault: Any) -> None:
    async with world() as strict:
        storage = MemoryTokenStorage(clock=strict.clock)
        async with strict.client(storage) as client:
            token = await strict.log_in(client)
            strict.clock.advance(3600 - 60)
            strict.server.script("token", fault)
            for _ in range(3):
                assert await client.get_token("alice") == token
                await landed(client)
            assert len(strict.refreshes) == 1
            assert await stored_token(storage) == token


async def test_p8_a_timeout_leaves_the_grant_alone(strict: World, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = strict.server.script("token", faults.hold(then=faults.status(503)), when=lambda seen: seen.grant_type == "refresh_token")

    @asynccontextmanager
    async def time_is_up_when_it_has_arrived(_: float) -> AsyncGenerator[None, None]:
        async with asyncio.timeout(None) as limit:

            async def expire() -> None:
                await hold.arrived.wait()
                limit.reschedule(asyncio.get_running_loop().time())

            expiring = asyncio.create_task(expire())
            yield
        await expiring

    async with strict.client(storage) as client, strict.client(storage) as patient:
        token = await strict.log_in(patient)
        strict.expire()
        with monkeypatch.context() as patch:
            patch.setattr("pauth.transport._time_limit", time_is_up_when_it_has_arrived)
            with pytest.raises(ProviderUnavailable, match="did not answer within") as caught:
                await client.get_token("alice")
        assert caught.value.retryable
        hold.release()
        assert await stored_token(storage) == token
        strict.clock.advance(40)  # its one retry is not wasted on a short outage
        assert (await patient.get_token("alice")).access_token != token.access_token


async def test_p8_a_client_set_up_for_another_server_does_not_kill_the_grant(strict: World, storage: Storage) -> None:
    """MD-4: the token is not sent to the wrong server, and that is nobody's verdict about the grant."""
    async with world() as elsewhere, strict.client(storage) as client, elsewhere.client(storage, clock=strict.clock) as wrong:
        token = await strict.log_in(client)
        strict.expire()
        with pytest.raises(ReauthorizationRequired) as caught:
            await wrong.get_token("alice")
        assert caught.value.reason == "issuer_changed"
        assert not elsewhere.refreshes
        assert await stored_token(storage) == token
        strict.clock.advance(1)
        assert await client.get_token("alice") != token


@pytest.mark.parametrize("explicit", [False, True])
async def test_p8_a_token_without_a_refresh_token_ends_without_a_mark(rotating: Rotating, faulty: FaultyStorage, *, explicit: bool) -> None:
    coordinator = rotating.coordinator(faulty)
    members = token_to_dict(rotating.issue())
    del members["refresh_token"]
    await faulty.replace(KEY, members, expected_version=0)
    ask: Callable[[RecordKey], Awaitable[Token]] = coordinator.refresh
    if not explicit:
        ask = coordinator.get
        rotating.clock.advance(3589)
        assert (await ask(KEY)).refresh_token is None  # nearly expired is valid, and there is nothing to refresh it with
        rotating.clock.advance(11)
    with pytest.raises(ReauthorizationRequired) as caught:
        await ask(KEY)
    assert caught.value.reason == "no_refresh_token"
    assert not rotating.sent
    grant = await stored(faulty)
    assert grant is not None
    assert grant.ended is None


async def test_nobody_has_logged_in(strict: World, storage: Storage) -> None:
    async with strict.client(storage) as client:
        for ask in (client.get_token, client.refresh):
            with pytest.raises(ReauthorizationRequired) as caught:
                await ask("alice")
            assert caught.value.reason == "not_logged_in"
        await client.revoke("alice")  # and there is nothing to revoke
    assert len(strict.server.ledger) == 0


async def test_p18_a_record_that_holds_no_token_is_never_taken_for_a_missing_one(rotating: Rotating) -> None:
    storage = MemoryTokenStorage(clock=rotating.clock)
    await storage.replace(KEY, {"color": "blue"}, expected_version=0)
    coordinator = rotating.coordinator(storage)
    with pytest.raises(UnsupportedRecord):
        await coordinator.get(KEY)
    with pytest.raises(UnsupportedRecord):
        await coordinator.end(KEY, rotating)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert await storage.load(KEY) is not None
    await coordinator.login(KEY, rotating.issue())  # the way out
    assert await coordinator.get(KEY) == rotating.last
