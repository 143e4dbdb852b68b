"""A token as a JSON object and back: what pauth writes, and what other libraries have left in a store."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pauth.core.token import Token, token_from_dict, token_to_dict
from pauth.errors import RecordUnreadable, UnsupportedRecord
from pauth.secret import Secret
from tests.support.canary import leaks_in_error

FULL = Token(
    access_token=Secret("CANARY-access"),
    token_type="DPoP",
    refresh_token=Secret("CANARY-refresh"),
    id_token=Secret("CANARY-id"),
    scope=("a", "b"),
    scope_assumed=True,
    issued_at=1_800_000_000.25,
    expires_at=1_800_003_600.25,
    refresh_token_expires_at=1_900_000_000.0,
    issuer="https://as.example",
    token_endpoint="https://as.example/token",
    subject="alice",
    extra=MappingProxyType({"team": {"id": "T1"}}),
)
BARE = Token(access_token=Secret("CANARY-access"))


def test_what_is_written() -> None:
    assert token_to_dict(FULL) == {
        "access_token": "CANARY-access",
        "token_type": "DPoP",
        "refresh_token": "CANARY-refresh",
        "id_token": "CANARY-id",
        "scope": "a b",
        "scope_assumed": True,
        "issued_at": 1_800_000_000.25,
        "expires_at": 1_800_003_600.25,
        "refresh_token_expires_at": 1_900_000_000.0,
        "issuer": "https://as.example",
        "token_endpoint": "https://as.example/token",
        "subject": "alice",
        "extra": {"team": {"id": "T1"}},
    }


def test_members_without_a_value_are_left_out() -> None:
    assert token_to_dict(BARE) == {"access_token": "CANARY-access", "token_type": "Bearer", "scope": "", "scope_assumed": False, "issued_at": 0.0}


@pytest.mark.parametrize("token", [FULL, BARE], ids=["full", "bare"])
def test_what_is_written_comes_back(token: Token) -> None:
    assert token_from_dict(json.loads(json.dumps(token_to_dict(token)))) == token


def test_writing_does_not_share_the_extra_mapping() -> None:
    written = token_to_dict(FULL)
    written["extra"]["team2"] = "x"
    assert "team2" not in FULL.extra


def test_reading_does_not_share_the_stored_object() -> None:
    stored: dict[str, Any] = {"access_token": "CANARY-a", "extra": {"k": 1}}
    token = token_from_dict(stored)
    stored["extra"]["k"] = 2
    assert token.extra == {"k": 1}


def test_a_dict_of_another_library_is_read() -> None:
    token = token_from_dict(
        {
            "access_token": "CANARY-a",
            "token_type": "bearer",
            "refresh_token": "CANARY-r",
            "expires_in": 3600,
            "expires_at": 1_800_003_600,
            "scope": ["openid", "email"],
            "userinfo": {"sub": "alice"},
            "id_token": {"sub": "decoded already"},
        }
    )
    assert token.token_type == "Bearer"
    assert token.refresh_token == Secret("CANARY-r")
    assert token.expires_at == 1_800_003_600.0
    assert token.scope == ("openid", "email")
    assert token.id_token is None
    assert token.extra == {}


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (1_800_000_000, 1_800_000_000.0),
        (1_800_000_000.5, 1_800_000_000.5),
        ("1800000000", 1_800_000_000.0),
        ("1800000000.123456", 1_800_000_000.123456),
        (0, 0.0),
        (None, None),
        (True, None),
        (-1, None),
        (1_800_000_000_000, None),  # milliseconds
        (10**400, None),
        (float("nan"), None),
        (float("inf"), None),
        ("nan", None),
        ("1e9", None),
        ("１８", None),
        ("9" * 400, None),
        ("2026-11-01T00:00:00Z", None),
        ([1], None),
    ],
)
def test_te10_stored_times(stored: object, read: float | None) -> None:
    token = token_from_dict({"access_token": "CANARY-a", "expires_at": stored, "refresh_token_expires_at": stored, "issued_at": stored})
    assert (token.expires_at, token.refresh_token_expires_at, token.issued_at) == (read, read, read or 0.0)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("a b", ("a", "b")),
        ("a  b\n", ("a", "b")),
        ("", ()),
        (["a", "b"], ("a", "b")),
        (("a",), ("a",)),
        (["a", 1, ""], ("a",)),
        (None, ()),
        (5, ()),
        ({}, ()),
    ],
)
def test_te9_stored_scopes(stored: object, read: tuple[str, ...]) -> None:
    assert token_from_dict({"access_token": "CANARY-a", "scope": stored}).scope == read


@pytest.mark.parametrize("name", ["issuer", "token_endpoint", "subject"])
@pytest.mark.parametrize(("stored", "read"), [("x", "x"), ("", None), (5, None), (None, None)])
def test_stored_texts(name: str, stored: object, read: str | None) -> None:
    assert getattr(token_from_dict({"access_token": "CANARY-a", name: stored}), name) == read


@pytest.mark.parametrize("extra", [None, [], "text", {}])
def test_an_extra_that_is_none(extra: object) -> None:
    assert token_from_dict({"access_token": "CANARY-a", "extra": extra}).extra == {}


def test_an_empty_refresh_token_is_none() -> None:
    assert token_from_dict({"access_token": "CANARY-a", "refresh_token": ""}).refresh_token is None


@pytest.mark.parametrize("assumed", [False, "true", 1, None])
def test_only_true_means_that_the_scope_was_assumed(assumed: object) -> None:
    assert token_from_dict({"access_token": "CANARY-a", "scope_assumed": assumed}).scope_assumed is False


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ({}, "access_token"),
        ({"access_token": ""}, "access_token"),
        ({"access_token": None, "refresh_token": "CANARY-r"}, "access_token"),
        ({"access_token": 5}, "access_token"),
        ({"access_token": "CANARY-a\r\nX: y"}, "access_token"),
        ({"token": "CANARY-somebody's own format"}, "access_token"),
        ({"access_token": "CANARY-a", "refresh_token": 5}, "refresh_token"),
        ({"access_token": "CANARY-a", "refresh_token": ["CANARY-r"]}, "refresh_token"),
        ({"access_token": "CANARY-a", "refresh_token": "CANARY r"}, "refresh_token"),
        ({"access_token": "CANARY-a", "token_type": "mac"}, "token_type"),
        ({"access_token": "CANARY-a", "token_type": None}, "token_type"),
        ({"access_token": "CANARY-a", "token_type": 5}, "token_type"),
    ],
)
def test_an_object_without_usable_tokens(stored: dict[str, Any], told: str) -> None:
    """A refresh token is never dropped in silence: the record is kept, and the error says what is wrong with it."""
    with pytest.raises(UnsupportedRecord, match=told) as caught:
        token_from_dict(stored)
    assert isinstance(caught.value, RecordUnreadable)
    assert not caught.value.retryable
    assert list(leaks_in_error(caught.value)) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.sampled_from([*token_to_dict(FULL), "unknown"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(st.dictionaries(MEMBERS, JSON))
def test_any_object_is_a_token_or_unsupported(stored: dict[str, Any]) -> None:
    try:
        token = token_from_dict({"access_token": "CANARY-a", **stored})
    except UnsupportedRecord:
        return
    assert token_from_dict(token_to_dict(token)) == token
