"""How an attempt ended, where the store did not take it: this process knows all the same, and others find it out."""

from __future__ import annotations

import pytest

from pauth.errors import ProviderUnavailable, ReauthorizationRequired, StorageUnavailable, UntrustedServer
from pauth.events import AmbiguousRefresh, TokenRefreshed
from pauth.refresh import shared
from pauth.refresh.policy import RefreshPolicy
from pauth.refresh.stored import Attempts
from tests.refresh.faulty import FaultyStorage, refuse
from tests.refresh.kit import KEY, attempts_of, stored
from tests.refresh.rotating import Rotating, failing


async def test_p2_an_answer_that_could_not_be_noted_is_not_taken_for_a_lost_one(rotating: Rotating, faulty: FaultyStorage) -> None:
    """The server said 503, and the store did not take the note: here nobody waits, and nothing is counted as sent without an answer."""
    await rotating.stored_expired(faulty)
    process = rotating.elsewhere(faulty, RefreshPolicy(ambiguous_retries=0))
    for _ in range(3):
        rotating.script.append(failing(ProviderUnavailable("down", status=503)))
        faulty.note_faults.append(refuse)
        with pytest.raises(ProviderUnavailable) as caught:
            await process.get(KEY)
        assert caught.value.status == 503
        assert (await attempts_of(faulty)).under_way
        with pytest.raises(ProviderUnavailable, match="tried again in"):
            await process.get(KEY)
        rotating.clock.advance(5)
    before = rotating.clock.monotonic()
    assert await process.get(KEY) == rotating.last
    assert rotating.clock.monotonic() == before
    assert len(rotating.sent) == 4
    assert not rotating.told(AmbiguousRefresh)
    assert rotating.told(TokenRefreshed)[0].retry_of is None


async def test_p8_a_refusal_that_could_not_be_marked_is_asked_for_again(rotating: Rotating, faulty: FaultyStorage) -> None:
    """And is then marked as what it is."""
    await rotating.stored_expired(faulty)
    rotating.last = None  # whatever is sent is refused
    process = rotating.elsewhere(faulty)
    faulty.faults.append(refuse)
    with pytest.raises(StorageUnavailable):
        await process.get(KEY)
    with pytest.raises(ReauthorizationRequired) as caught:
        await process.get(KEY)
    assert caught.value.reason == "invalid_grant"
    assert len(rotating.sent) == 2
    assert not rotating.told(AmbiguousRefresh)
    grant = await stored(faulty)
    assert grant is not None
    assert grant.ended == "invalid_grant"


@pytest.mark.parametrize("status", [500, 502])
async def test_p8_a_refusal_after_a_5xx_is_called_ambiguous(rotating: Rotating, faulty: FaultyStorage, status: int) -> None:
    """The server may have rotated before it failed."""
    await rotating.stored_expired(faulty)
    rotating.after.append(failing(ProviderUnavailable("broken", status=status)))
    process = rotating.elsewhere(faulty)
    with pytest.raises(ProviderUnavailable):
        await process.get(KEY)
    rotating.clock.advance(1)
    with pytest.raises(ReauthorizationRequired) as caught:
        await process.get(KEY)
    assert caught.value.reason == "ambiguous_rotation"
    assert len(rotating.sent) == 2


async def test_p2_a_token_whose_answer_must_not_be_used_is_not_sent_again_and_again(rotating: Rotating, faulty: FaultyStorage) -> None:
    """TE-14: an ID token of another user. The server has rotated all the same: once more at most, and then the user has to log in."""
    await rotating.stored_expired(faulty)
    process = rotating.elsewhere(faulty)
    rotating.forgiving = True
    unusable = failing(UntrustedServer("a refresh gave an ID token of another user", status=200))
    rotating.after.extend([unusable, unusable])
    for _ in range(2):
        with pytest.raises(UntrustedServer):
            await process.get(KEY)
        rotating.clock.advance(120)
    with pytest.raises(ReauthorizationRequired) as caught:
        await process.get(KEY)
    assert caught.value.reason == "ambiguous_rotation"
    assert len(rotating.sent) == 2


async def test_p19_what_is_known_of_attempts_is_bounded(rotating: Rotating, faulty: FaultyStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten: then it counts as one that nobody has ended."""
    monkeypatch.setattr(shared, "_MAX_NOTES", 2)
    known = shared.Shared()
    attempts = {name: Attempts(attempt_id=name, failures=1) for name in "abc"}
    for name, each in attempts.items():
        known.note_outcome(name, each)
    assert list(known.outcomes) == ["b", "c"]
    under_way = {name: Attempts(attempt_id=name, under_way=True) for name in "abc"}
    assert known.settled(under_way["a"]) == under_way["a"]
    assert known.settled(under_way["b"]) == attempts["b"]
    ended = Attempts(attempt_id="b", failures=7)
    assert known.settled(ended) == ended  # the record says itself how it ended
    nameless = Attempts(under_way=True)
    assert known.settled(nameless) == nameless
