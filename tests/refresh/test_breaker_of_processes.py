"""P10: a server that is down is asked by one caller of all processes now and then, and by nobody else; valid tokens are served meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pauth.errors import ConfigurationError, PAuthError, ProviderUnavailable, ReauthorizationRequired, StorageUnavailable, TokenError
from pauth.events import BreakerClosed, BreakerOpened, RefreshFailed, ServedStale
from pauth.refresh.coordinator import RefreshCoordinator
from pauth.storage import RecordKey
from tests.refresh.faulty import FaultyStorage, Hold
from tests.refresh.kit import LIFETIME, NAMESPACE, STALE, landed, until
from tests.refresh.rotating import Rotating, failing

USERS = [RecordKey(NAMESPACE, f"user-{number}") for number in range(20)]
DOWN = ProviderUnavailable("down", status=503)


@pytest.fixture
async def expired(rotating: Rotating, faulty: FaultyStorage) -> Rotating:
    """Twenty users, whose tokens have expired."""
    rotating.forgiving = True
    process = rotating.elsewhere(faulty)
    for user in USERS:
        await process.login(user, rotating.issue())
    rotating.clock.advance(LIFETIME)
    rotating.events.clear()
    return rotating


async def error_of(process: RefreshCoordinator, user: RecordKey) -> PAuthError:
    with pytest.raises(PAuthError) as caught:
        await process.get(user)
    return caught.value


async def open_it(rotating: Rotating, process: RefreshCoordinator, first: int = 0, error: PAuthError = DOWN) -> None:
    for user in USERS[first : first + 5]:
        rotating.script.append(failing(error))
        assert (await error_of(process, user)).message == error.message


async def test_p10_after_five_users_a_sixth_is_not_sent(expired: Rotating, faulty: FaultyStorage) -> None:
    process = expired.elsewhere(faulty)
    await open_it(expired, process)
    (event,) = expired.told(BreakerOpened)
    assert (event.endpoint, event.seconds, event.namespace) == ("https://acme.example", 5.0, NAMESPACE)
    for user in USERS[5:]:
        error = await error_of(process, user)
        assert isinstance(error, ProviderUnavailable)
        assert (error.request_sent, error.retry_after) == (False, 5.0)
    assert len(expired.sent) == 5
    assert len(expired.told(RefreshFailed)) == 5  # who was not sent has not failed
    expired.clock.advance(5)
    assert await process.get(USERS[6]) == expired.last
    (closed,) = expired.told(BreakerClosed)
    assert (closed.endpoint, closed.seconds, closed.namespace) == ("https://acme.example", 5.0, NAMESPACE)
    for user in USERS[7:]:
        await process.get(user)


async def test_p10_valid_tokens_are_served_meanwhile_and_nothing_is_begun_for_them(
    rotating: Rotating, faulty: FaultyStorage, caplog: pytest.LogCaptureFixture
) -> None:
    rotating.forgiving = True
    process = rotating.elsewhere(faulty)
    for user in USERS[:5]:
        await process.login(user, rotating.issue())
    rotating.clock.advance(LIFETIME - STALE)
    await process.login(USERS[9], token := rotating.issue())
    rotating.clock.advance(STALE)
    await open_it(rotating, process)
    caplog.clear()
    assert await process.get(USERS[9]) == token
    for _ in range(5):
        assert process.cached.get(USERS[9].user_id) == token  # nobody looks again before the next probe
        await landed(process)
        rotating.clock.advance(1)
    assert process.cached.get(USERS[9].user_id) is None
    (served,) = rotating.told(ServedStale)
    assert (served.why, served.user_id, served.expires_at) == ("breaker_open", USERS[9].user_id, token.expires_at)
    assert "refresh failed" not in caplog.text
    assert len(rotating.sent) == 5
    assert await process.get(USERS[9]) == token  # the probe
    await landed(process)
    assert len(rotating.sent) == 6
    assert len(rotating.told(BreakerClosed)) == 1


async def test_p10_why_a_stale_token_was_served_while_another_process_probes(rotating: Rotating, faulty: FaultyStorage) -> None:
    rotating.forgiving = True
    here, there = rotating.elsewhere(faulty), rotating.elsewhere(faulty)
    for user in USERS[:10]:
        await here.login(user, rotating.issue())
    rotating.clock.advance(LIFETIME - STALE)
    await here.login(USERS[19], rotating.issue())
    rotating.clock.advance(STALE)
    await open_it(rotating, here)
    await open_it(rotating, there, first=5)
    rotating.clock.advance(5)
    probing = Hold()
    rotating.script.append(probing.wait)
    asking = asyncio.create_task(there.get(USERS[6]))
    await probing.arrived.wait()
    rotating.events.clear()
    await here.get(USERS[19])
    await landed(here)
    probing.released.set()
    await asyncio.gather(asking, return_exceptions=True)
    assert [event.why for event in rotating.told(ServedStale)] == ["breaker_open"]


@pytest.mark.parametrize("error", [ProviderUnavailable("cut off"), ProviderUnavailable("no way there", request_sent=False)])
async def test_p10_lost_answers_and_lost_ways_open_it_too(expired: Rotating, faulty: FaultyStorage, error: PAuthError) -> None:
    process = expired.elsewhere(faulty)
    await open_it(expired, process, error=error)
    assert len(expired.told(BreakerOpened)) == 1


@pytest.mark.parametrize("error", [TokenError("no", error="invalid_client", status=401), ConfigurationError("no endpoint")])
async def test_p10_refusals_do_not_open_it(expired: Rotating, faulty: FaultyStorage, error: PAuthError) -> None:
    process = expired.elsewhere(faulty)
    for user in USERS[:10]:
        expired.script.append(failing(error))
        await error_of(process, user)
    assert not expired.told(BreakerOpened)
    assert await process.get(USERS[10]) == expired.last


async def test_p10_one_endpoint_does_not_close_another(expired: Rotating, faulty: FaultyStorage) -> None:
    """P9: clients of other servers on the same store go on."""
    here = expired.coordinator(faulty)
    other = expired.coordinator(faulty, endpoint="https://other.example/token")
    same = expired.coordinator(faulty, events=here.events)
    await open_it(expired, here)
    assert isinstance(await error_of(same, USERS[6]), ProviderUnavailable)
    assert await other.get(USERS[7]) == expired.last
    assert len(expired.sent) == 6


async def test_p10_one_probe_in_a_process(expired: Rotating, faulty: FaultyStorage) -> None:
    process = expired.elsewhere(faulty)
    await open_it(expired, process)
    expired.clock.advance(5)
    hold = Hold()
    expired.script.append(hold.wait)
    probe = asyncio.create_task(process.get(USERS[5]))
    await hold.arrived.wait()
    for user in USERS[6:10]:
        error = await error_of(process, user)
        assert (error.retry_after, len(expired.sent)) == (5.0, 6)
    hold.released.set()
    await probe
    assert await process.get(USERS[6]) == expired.last


async def test_p10_one_probe_of_all_processes(expired: Rotating, faulty: FaultyStorage) -> None:
    """By a lease of its own; when it succeeds the others may ask at once, when it fails not before the next one is due."""
    processes = [expired.elsewhere(faulty) for _ in range(3)]
    for number, process in enumerate(processes):
        await open_it(expired, process, 5 * number)
    expired.clock.advance(5)
    sent = len(expired.sent)
    hold = Hold()

    async def fail() -> None:
        await hold.wait()
        raise DOWN

    expired.script.append(fail)
    probe = asyncio.create_task(error_of(processes[0], USERS[15]))
    await hold.arrived.wait()
    for process in processes[1:]:
        error = await error_of(process, USERS[16])
        assert isinstance(error, ProviderUnavailable)
        assert not error.request_sent
    hold.released.set()
    await probe
    for process in processes:
        await error_of(process, USERS[16])
    assert len(expired.sent) == sent + 1
    expired.clock.advance(5)  # the first one has to wait for twice as long
    assert await processes[1].get(USERS[16]) == expired.last
    assert await processes[2].get(USERS[17]) == expired.last
    await error_of(processes[0], USERS[18])
    expired.clock.advance(5)
    assert await processes[0].get(USERS[18]) == expired.last


async def test_p10_the_first_token_of_another_process_lets_all_ask_again(expired: Rotating, faulty: FaultyStorage) -> None:
    """Not only after the pause of one's own: whoever finds a new token in the store knows that the server answers."""
    here, there = expired.elsewhere(faulty), expired.elsewhere(faulty)
    await open_it(expired, here)
    expired.clock.advance(1)
    assert await there.get(USERS[6]) == expired.last
    assert (await error_of(here, USERS[7])).retry_after == 4.0
    assert await here.refresh(USERS[6], if_version="an older one") == expired.last  # it finds it
    sent = len(expired.sent)
    assert await here.refresh(USERS[6]) == expired.last
    assert await here.get(USERS[7]) == expired.last
    assert len(expired.sent) == sent + 2
    assert len(expired.told(BreakerClosed)) == 1


async def test_p11_a_token_from_the_future_is_no_sign_that_the_server_answers(expired: Rotating, faulty: FaultyStorage) -> None:
    here = expired.elsewhere(faulty)
    expired.clock.set_wall_time(expired.clock.time() + 86_400)
    await here.login(USERS[7], expired.issue())
    expired.clock.set_wall_time(expired.clock.time() - 86_400)
    await open_it(expired, here)
    expired.clock.advance(1)
    with pytest.raises(ProviderUnavailable, match="several times in a row"):
        await here.refresh(USERS[7])
    assert not expired.told(BreakerClosed)


@pytest.mark.parametrize("step", ["lease", "prepare", "record"])
async def test_p10_a_probe_that_did_not_come_to_ask_is_not_the_last(expired: Rotating, faulty: FaultyStorage, step: str) -> None:
    """Nothing was learnt of the server: neither is the breaker closed, nor does it wait for this probe for ever."""
    broken = [True]

    async def prepare(token: Any) -> Any:
        if step == "prepare" and broken:
            raise ConfigurationError("no client authentication")
        return await expired.prepare(token)

    process = expired.elsewhere(faulty, prepare=prepare)
    broken.clear()
    await open_it(expired, process)
    broken.append(True)
    expired.clock.advance(5)

    async def fail(_: str) -> None:
        raise StorageUnavailable("gone")

    async def work(_: str) -> None: ...

    if step != "prepare":
        faulty.lease_faults.extend([fail] if step == "lease" else [work, fail])
    error = await error_of(process, USERS[5])
    assert type(error) is (ConfigurationError if step == "prepare" else StorageUnavailable)
    assert len(expired.sent) == 5
    assert not expired.told(BreakerClosed)
    broken.clear()
    hold = Hold()  # at once: the lease of the probe is free again
    expired.script.append(hold.wait)
    probe = asyncio.create_task(process.get(USERS[6]))
    await hold.arrived.wait()
    assert isinstance(await error_of(process, USERS[7]), ProviderUnavailable)
    hold.released.set()
    await probe
    assert len(expired.told(BreakerClosed)) == 1


async def test_p10_a_cancelled_probe_is_not_the_last(expired: Rotating, faulty: FaultyStorage) -> None:
    """Its flight was cut off by the end of its event loop, while it waited for the lease on its record."""
    process = expired.elsewhere(faulty)
    await open_it(expired, process)
    expired.clock.advance(5)
    await faulty.take_lease(USERS[5], "somebody", ttl=60)
    probe = asyncio.create_task(process.get(USERS[5]))
    await until(lambda: expired.clock.sleepers)
    for flight in tuple(process._begun):  # pyright: ignore[reportPrivateUsage]
        flight.task.cancel()
    with pytest.raises(ProviderUnavailable):
        await probe
    assert await process.get(USERS[6]) == expired.last


async def test_p10_a_probe_that_is_refused_has_been_answered(expired: Rotating, faulty: FaultyStorage) -> None:
    """By a server that works: other processes need not wait for the probe's lease to run out."""
    here, there = expired.elsewhere(faulty), expired.elsewhere(faulty)
    await open_it(expired, here)
    await open_it(expired, there, 5)
    expired.clock.advance(5)
    expired.script.append(failing(ReauthorizationRequired("the refresh token was used before", reason="invalid_grant")))
    assert isinstance(await error_of(here, USERS[10]), ReauthorizationRequired)
    assert len(expired.told(BreakerClosed)) == 1
    assert await there.get(USERS[11]) == expired.last


async def test_p10_metadata_that_cannot_be_had_opens_it(expired: Rotating, faulty: FaultyStorage) -> None:
    """The refresh is not even prepared: no refresh token leaves, and this process leaves the user alone for a second."""
    asked: list[Any] = []

    async def prepare(token: Any) -> Any:
        asked.append(token)
        raise ProviderUnavailable("no metadata", status=503, retry_after=20 if len(asked) == 1 else None)

    process = expired.elsewhere(faulty, prepare=prepare)
    for number, user in enumerate(USERS[:5]):
        assert (await error_of(process, user)).message == "no metadata"
        error = await error_of(process, user)
        assert isinstance(error, ProviderUnavailable)
        assert error.retry_after == (20 if number == 0 else 1.0)
    assert (await error_of(process, USERS[5])).retry_after == 5.0
    assert len(asked) == 5
    assert [event.failure for event in expired.told(RefreshFailed)] == ["transient"] * 5
    assert len(expired.told(BreakerOpened)) == 1
    assert not expired.sent


async def test_p10_many_users_at_a_server_that_is_down_for_a_minute(rotating: Rotating, faulty: FaultyStorage) -> None:
    """K8: five requests open it, then a probe after 5, 10, 20 … seconds; and all users have a token as soon as it answers."""
    rotating.forgiving = True
    users = [RecordKey(NAMESPACE, f"user-{number}") for number in range(8)]
    processes = [rotating.elsewhere(faulty) for _ in range(3)]
    for user in users:
        await processes[0].login(user, rotating.issue())
    rotating.clock.advance(LIFETIME)
    rotating.script.extend([failing(DOWN)] * 1000)
    for _ in range(30):
        asking = [process.get(user) for process in processes for user in users]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(answer, ProviderUnavailable) for answer in answers)
        rotating.clock.advance(2)
    assert len(rotating.sent) <= 3 * (5 + 4)  # each process finds out by itself, with up to five at once
    rotating.script.clear()
    answers = []
    for _ in range(35):
        answers = await asyncio.gather(*(process.get(user) for process in processes for user in users), return_exceptions=True)
        rotating.clock.advance(2)
    assert not [answer for answer in answers if isinstance(answer, BaseException)]
