from __future__ import annotations

import copy
import hashlib
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.core.authorization import AuthorizationRequest, check_user, pending_id
from pauth.errors import InvalidStateError, UnsupportedRecord
from pauth.secret import Secret
from tests.core.authorization_kit import build

FULL = build(use_nonce=True, user_id="alice", iss_required=True, resource=["urn:x"])
LEAST = build(pkce=False, scope=[], issuer=None, redirect_uri=None, session_id=None)


@pytest.mark.parametrize("request_", [FULL, LEAST])
def test_ax4_a_request_survives_the_redirect_and_a_restart(request_: AuthorizationRequest) -> None:
    stored = json.loads(json.dumps(request_.to_dict()))
    assert AuthorizationRequest.from_dict(stored) == request_
    assert AuthorizationRequest.from_dict(stored | {"added_by_a_later_version": 1}) == request_


OPTIONAL = {"nonce", "code_verifier", "redirect_uri", "issuer", "user_id", "session_hash"}


@pytest.mark.parametrize("name", FULL.to_dict())
def test_p18_a_record_that_lacks_a_member_or_has_one_of_the_wrong_type_is_refused(name: str) -> None:
    stored = FULL.to_dict()
    wrong: list[Any] = [{"a": "b"}, [1], "CANARY-value" if not isinstance(stored[name], str) else 1]
    if name in OPTIONAL:
        assert getattr(AuthorizationRequest.from_dict({**stored, name: None}), name) is None
    else:
        wrong.append(None)
        with pytest.raises(UnsupportedRecord, match="start the login again"):
            AuthorizationRequest.from_dict({member: value for member, value in stored.items() if member != name})
    if isinstance(stored[name], float):
        wrong += [True, float("nan"), float("inf"), 10**400]
    if isinstance(stored[name], bool):
        wrong += [0]
    for value in wrong:
        with pytest.raises(UnsupportedRecord) as caught:
            AuthorizationRequest.from_dict({**stored, name: value})
        assert caught.value.__context__ is None


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.text(max_size=5) | st.integers(), max_size=3)


@given(st.dictionaries(st.sampled_from(list(FULL.to_dict())), VALUES), st.booleans())
def test_p18_any_dict_gives_a_request_or_unsupported_record(changes: dict[str, Any], whole: bool) -> None:
    data = FULL.to_dict() | changes if whole else changes
    try:
        request = AuthorizationRequest.from_dict(data)
    except UnsupportedRecord:
        return
    assert request.to_dict() == data


def test_sh1_sh4_a_request_prints_no_secret_and_does_not_pickle() -> None:
    for shown in (repr(FULL), str(FULL), f"{FULL}", f"{FULL!r}", repr([FULL])):
        assert "CANARY" not in shown
        assert FULL.state.reveal() not in shown
        assert "alice" not in shown
    assert repr(FULL) == "<AuthorizationRequest scope='openid email' pkce=True expires_at=1800000600>"
    assert not hasattr(FULL, "__dict__")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(FULL)
    assert copy.deepcopy(FULL) == FULL
    with pytest.raises(AttributeError):
        FULL.token_endpoint = "https://evil.example/token"  # type: ignore[misc]


def test_ax3_the_pending_record_is_named_by_a_hash_of_the_state() -> None:
    state = FULL.state.reveal()
    assert pending_id(state) == pending_id(FULL.state) == hashlib.sha256(state.encode()).hexdigest()


@pytest.mark.parametrize(
    "state",
    [
        None,
        "",
        "short",
        "a" * 21,
        "a" * 129,
        "x" * 1_000_000,
        "é" * 30,
        "a" * 42 + "\ud800",
        "a" * 30 + " ",
        "a" * 30 + "\n",
        "../" * 10,
        "%00" * 10,
        "\x00" * 30,
    ],
    ids=lambda state: repr(state)[:20],
)
def test_ax1_sh6_an_absurd_state_is_refused_cleanly(state: str | None) -> None:
    for given_ in (state, None if state is None else Secret(state)):
        with pytest.raises(InvalidStateError, match="start the login again") as caught:
            pending_id(given_)
        assert caught.value.__context__ is None


@given(st.text(max_size=140))
def test_ax1_any_state_gives_a_name_or_invalid_state(state: str) -> None:
    try:
        name = pending_id(state)
    except InvalidStateError:
        return
    assert len(name) == 64


def test_sh5_a_refused_state_is_not_shown() -> None:
    with pytest.raises(InvalidStateError):
        pending_id("CANARY state with spaces, long enough")


def test_ax6_the_user_named_at_the_start_is_the_one_at_the_end() -> None:
    anonymous = build()
    assert check_user(FULL, "alice") == "alice"
    assert check_user(FULL, None) == "alice"
    assert check_user(anonymous, "bob") == "bob"
    assert check_user(anonymous, None) is None
    for other in ("bob", "Alice", "alice ", ""):
        with pytest.raises(InvalidStateError, match="another user") as caught:
            check_user(FULL, other)
        assert "alice" not in str(caught.value)
