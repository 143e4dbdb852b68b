"""SyncOAuth2Client: a login, a token, a refresh and a logout, from code that cannot await."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pauth import InvalidStateError, Login, ReauthorizationRequired, RefreshPolicy, Secret, SyncOAuth2Client, SyncTokenStorage, Token, UserInfo
from pauth.errors import InvalidUserId
from pauth.sync import DeadlineExceeded
from pauth.testing import faults
from tests.client.kit import query_of
from tests.sync.kit import CALLBACK, LIFETIME, STORAGES, Town, make_storage, standing_loop

SESSION = "CANARY-browser-session"


@pytest.mark.parametrize("kind", STORAGES)
def test_a_session_from_login_to_logout(town: Town, tmp_path: Path, kind: str) -> None:
    with SyncTokenStorage(make_storage(kind, tmp_path, town.clock), clock=town.clock) as storage, town.client(storage) as client:
        login = client.handle_callback(town.callback(client, session_id=SESSION), session_id=SESSION)
        assert isinstance(login, Login)
        assert login.user_id == "alice"
        token = client.get_token("alice")
        assert isinstance(token, Token)
        assert token.access_token == login.token.access_token
        town.clock.advance(LIFETIME)
        newer = client.get_token("alice")
        assert newer.access_token != token.access_token
        assert client.refresh("alice").access_token != newer.access_token
        assert town.refreshes() == 2
        info = client.get_user_info("alice")
        assert isinstance(info, UserInfo)
        assert info.subject == "alice"
        client.revoke("alice")
        assert town.server.family_revoked("alice")
        with pytest.raises(ReauthorizationRequired) as caught:
            client.get_token("alice")
        assert caught.value.reason == "not_logged_in"


def test_a_token_in_memory_is_given_without_a_hop(town: Town) -> None:
    """While pauth's loop stands still: nothing is asked of it."""
    client = town.client(deadline=0.05)
    with town.client(client.token_storage) as patient:
        token = town.log_in(patient).token
        assert patient.get_token("alice") == token  # from here on it is in the memory of this process
        with standing_loop():
            assert client.get_token("alice").access_token == token.access_token
            assert client.get_token_nowait("bob") is None
            with pytest.raises(DeadlineExceeded):  # this one would have to wait
                client.get_token("bob")


def test_a_token_of_no_user_is_asked_of_nobody(town: Town) -> None:
    with pytest.raises(InvalidUserId):
        town.client().get_token("")


def test_a_refused_token_is_refreshed_once(town: Town) -> None:
    """Of two callers that were refused with the same one."""
    client = town.client()
    refused = town.log_in(client).token
    newer = client.refresh("alice", if_version=refused.version)
    assert client.refresh("alice", if_version=refused.version).access_token == newer.access_token
    assert town.refreshes() == 1


def test_events_are_heard(town: Town) -> None:
    client = town.client()
    heard: list[str] = []
    stop = client.events.subscribe(lambda event: heard.append(event.kind))
    town.log_in(client)
    stop()
    assert heard


def test_a_callback_that_was_parsed_already(town: Town) -> None:
    client = town.client()
    answer = query_of(town.callback(client))
    token = client.exchange_code(Secret(answer["code"]), answer["state"], iss=answer.get("iss"))
    assert client.get_token("alice").access_token == token.access_token


def test_a_callback_in_another_browser(town: Town) -> None:
    client = town.client()
    callback = town.callback(client, session_id=SESSION)
    with pytest.raises(InvalidStateError):
        client.handle_callback(callback, session_id="CANARY-another-browser")


def test_a_token_for_the_program_itself(town: Town) -> None:
    token = town.client().get_client_token(scope=["openid"])
    assert token.refresh_token is None


def test_a_login_on_another_device(town: Town) -> None:
    client = town.client()
    begun = client.start_device_login(user_id="the user's id here")
    town.server.decide_device(begun.user_code, user="alice")
    with ThreadPoolExecutor(1) as pool:
        completing = pool.submit(client.complete_device_login, begun)
        while not completing.done():
            if town.clock.sleepers:
                town.clock.advance(1)
        login = completing.result()
    assert (login.user_id, login.token.subject) == ("the user's id here", "alice")
    assert client.get_token("the user's id here") == login.token


def test_a_token_is_kept_fresh_for_nobody_in_particular(town: Town) -> None:
    client = town.client()
    town.log_in(client)
    assert client.keep_fresh("alice") is False
    assert client.keep_fresh("alice", within=LIFETIME) is False  # a tenth of its lifetime ahead at most
    town.clock.advance(LIFETIME - 20)
    assert client.keep_fresh("alice") is True
    assert town.refreshes() == 1


def test_what_does_not_wait_is_passed_on(town: Town) -> None:
    policy = RefreshPolicy(hard_margin=20)
    client = town.client(namespace="a namespace of its own", refresh_policy=policy)
    assert client.namespace == "a namespace of its own"
    assert client.endpoint == town.server.issuer
    assert client.redirect_uri == CALLBACK
    assert client.refresh_policy == policy


def test_a_server_that_fails_in_passing_costs_nothing(town: Town) -> None:
    client = town.client()
    town.log_in(client)
    town.clock.advance(LIFETIME - 20)  # it is time to refresh, and the token is still valid
    town.server.script("token", faults.status(503))
    assert client.get_token("alice").subject == "alice"


def test_storages_by_url(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.storage.kit import KEY

    monkeypatch.setenv("PAUTH_ENCRYPTION_KEY", KEY.to_string().reveal())
    url = f"sqlite:///{tmp_path / 'tokens.db'}"
    with town.client(url) as client:
        town.log_in(client)
    with town.client(url, pending_storage="memory://") as another:
        assert another.get_token("alice").subject == "alice"


def test_providers_by_name() -> None:
    with SyncOAuth2Client("github", "id", "CANARY-secret", "https://app.example/callback") as client:
        assert client.get_authorization_url(user_id="alice").startswith("https://github.com/login/oauth/authorize?")
