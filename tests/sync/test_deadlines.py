"""How long a call waits, and what comes of one that was given up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pauth import ConfigurationError, InvalidStateError, MemoryTokenStorage, Remedy, SyncOAuth2Client, SyncTokenStorage
from pauth.sync import DeadlineExceeded, _portal
from pauth.testing.faults import hold
from tests.sync.kit import HeldRequest, Town, standing_loop


def test_p9_a_call_gives_up_at_its_deadline_and_the_refresh_goes_on(town: Town) -> None:
    storage = MemoryTokenStorage(clock=town.clock)
    patient, hasty = town.client(storage), town.client(storage, deadline=0.05)
    town.log_in(patient)
    with town.held() as refresh:
        while not refresh.has_arrived:  # on a busy machine the time may be up before anything is begun
            with pytest.raises(
                DeadlineExceeded, match=r"^no answer within 0\.05 seconds; what was begun may still be completed: try again$"
            ) as caught:
                hasty.refresh("alice")
            assert caught.value.retryable
            assert caught.value.__context__ is None
        refresh.release()
        token = patient.refresh("alice")  # waits for the same one
    assert town.refreshes() == 1
    assert patient.get_token("alice").access_token == token.access_token
    assert not town.server.family_revoked("alice")


def test_without_a_deadline_it_waits_as_long_as_it_takes(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the caller looks up."""
    monkeypatch.setattr(_portal, "_LOOK_EVERY", 0.001)
    client = town.client(deadline=None)
    town.log_in(client)
    with town.held() as refresh:

        def release() -> None:
            refresh.arrived()
            refresh.release()

        releasing = threading.Thread(target=release)
        releasing.start()
        assert client.refresh("alice").subject == "alice"
        releasing.join()


def test_a_login_on_another_device_has_no_deadline(town: Town) -> None:
    """DV-4: giving it up would end it, and people take longer than a deadline that suits the other calls."""
    storage = MemoryTokenStorage(clock=town.clock)
    patient, hasty = town.client(storage), town.client(storage, deadline=0.05)
    begun = patient.start_device_login(user_id="alice")
    with ThreadPoolExecutor(1) as pool:
        completing = pool.submit(hasty.complete_device_login, begun)
        while not completing.done() and not town.clock.sleepers:
            pass
        with standing_loop(), pytest.raises(DeadlineExceeded):  # so long ago has it begun, at least
            hasty.get_token("bob")
        town.server.decide_device(begun.user_code, user="alice")
        while not completing.done():
            if town.clock.sleepers:
                town.clock.advance(1)
        assert completing.result().user_id == "alice"
    assert patient.get_token("alice").subject == "alice"


def test_a_callback_that_was_given_up_is_not_to_be_tried_again(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """AX-3: it serves once. Its code was sent, so that the login is completed all the same (P9)."""
    storage = MemoryTokenStorage(clock=town.clock)
    patient, hasty = town.client(storage), town.client(storage)
    callback = town.callback(patient, user_id="alice")
    request = HeldRequest(town, hold())
    town.server.script("token", request.fault, when=lambda seen: seen.grant_type == "authorization_code")

    def too_late(*_: object) -> bool:
        request.arrived()
        return False

    with monkeypatch.context() as late:
        late.setattr(_portal._Call, "wait", too_late)  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(
            DeadlineExceeded, match=r"^no answer within 60 seconds; this callback cannot be used again: .*, or start again$"
        ) as caught:
            hasty.handle_callback(callback)
    assert caught.value.remedy is Remedy.LOG_IN_AGAIN
    assert caught.value.__context__ is None
    with pytest.raises(InvalidStateError):
        patient.handle_callback(callback)
    request.release()
    hasty.close()  # waits for the login
    assert patient.get_token("alice").subject == "alice"


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), "60"])
def test_a_deadline_is_a_positive_number_or_none(deadline: Any) -> None:
    with pytest.raises(ConfigurationError, match="the deadline must be a positive number of seconds, or None"):
        SyncTokenStorage(MemoryTokenStorage(), deadline=deadline)
    with pytest.raises(ConfigurationError, match="the deadline must be"):
        SyncOAuth2Client("github", "id", deadline=deadline)
