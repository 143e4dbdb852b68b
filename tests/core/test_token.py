"""The Token record and the arithmetic of its expiry."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pauth.core.token import (
    MAX_LIFETIME,
    MAX_TOKEN,
    Token,
    is_token_text,
    known_token_type,
    parse_lifetime,
    token_from_dict,
    token_to_dict,
    was_issued_by,
)
from pauth.secret import Secret

NOW = 1_800_000_000.0


def token(**members: Any) -> Token:
    return Token(access_token=Secret("CANARY-access"), **members)


# --- TE-10


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3600, 3600.0),
        (3600.0, 3600.0),
        ("3600", 3600.0),
        ("03600", 3600.0),
        (0, 0.0),
        ("0", 0.0),
        (0.0, 0.0),
        (-0.0, 0.0),
        (MAX_LIFETIME, float(MAX_LIFETIME)),
        (MAX_LIFETIME + 1, None),
        (str(MAX_LIFETIME + 1), None),
        (-1, None),
        ("-1", None),
        ("+1", None),
        (1.5, None),
        ("1.5", None),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (1e300, None),
        (10**400, None),
        ("9" * 5000, None),
        (True, None),
        (False, None),
        ("３６００", None),  # full-width digits, which int() reads
        ("٣٦٠٠", None),
        ("3_600", None),
        (" 3600", None),
        ("3600\n", None),
        ("", None),
        ("NaN", None),
        ("never", None),
        (None, None),
        ([3600], None),
        ({"seconds": 3600}, None),
    ],
)
def test_te10_lifetime(value: object, seconds: float | None) -> None:
    assert parse_lifetime(value) == seconds


def test_te10_zero_may_mean_forever() -> None:
    assert parse_lifetime(0, zero_is_forever=True) is None
    assert parse_lifetime("0", zero_is_forever=True) is None
    assert parse_lifetime(1, zero_is_forever=True) == 1.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(JSON, st.booleans())
def test_te10_any_json_value_gives_seconds_or_nothing(value: object, zero_is_forever: bool) -> None:
    seconds = parse_lifetime(value, zero_is_forever=zero_is_forever)
    assert seconds is None or (type(seconds) is float and 0 <= seconds <= MAX_LIFETIME)


# --- TE-6


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        ("a", True),
        ('ya29.a0~_-/+=|:!"\\', True),
        ("x" * MAX_TOKEN, True),
        ("x" * (MAX_TOKEN + 1), False),
        ("", False),
        ("two words", False),
        ("line\r\nX-Injected: y", False),
        ("nul\0", False),
        ("del\x7f", False),
        ("tök", False),
        ("\ud800", False),
        (None, False),
        (42, False),
        (b"bytes", False),
    ],
)
def test_te6_rq6_what_can_be_a_token(value: object, usable: bool) -> None:
    assert is_token_text(value) is usable


@pytest.mark.parametrize(
    ("value", "known"),
    [
        ("Bearer", "Bearer"),
        ("bearer", "Bearer"),
        ("BEARER", "Bearer"),
        ("dpop", "DPoP"),
        ("DPoP", "DPoP"),
        ("mac", None),
        ("N_A", None),
        ("", None),
        ("bearer ", None),
        (42, None),
        (None, None),
    ],
)
def test_te6_token_types(value: object, known: str | None) -> None:
    assert known_token_type(value) == known


# --- expiry and scope


def test_te11_expiry_arithmetic() -> None:
    fresh = token(expires_at=NOW + 60)
    assert fresh.expires_in(NOW) == 60
    assert fresh.expires_in(NOW + 61) == -1
    assert not fresh.is_expired(NOW)
    assert not fresh.is_expired(NOW + 59.9)
    assert fresh.is_expired(NOW + 60)
    assert not fresh.is_expired(NOW, margin=59.9)
    assert fresh.is_expired(NOW, margin=60)


def test_te10_unknown_expiry_is_neither_expired_nor_forever() -> None:
    unknown = token()
    assert unknown.expires_in(NOW) is None
    assert not unknown.is_expired(NOW)


def test_te9_assumed_scopes_are_not_granted() -> None:
    named = token(scope=("a", "b"))
    assert named.has_scope("a")
    assert named.has_scope("a", "b")
    assert named.has_scope()
    assert not named.has_scope("a", "c")
    assert not token(scope=("a", "b"), scope_assumed=True).has_scope("a")
    assert not token(scope=()).has_scope("a")


def test_rq1_the_token_is_presented_in_the_header() -> None:
    assert token().auth_headers() == {"Authorization": "Bearer CANARY-access"}
    assert token(token_type="DPoP").auth_headers() == {"Authorization": "DPoP CANARY-access"}


# --- SH-3, SH-4, TE-12


def test_sh3_a_token_does_not_print() -> None:
    secretive = token(
        refresh_token=Secret("CANARY-refresh"), id_token=Secret("CANARY-id"), scope=("a", "b"), expires_at=NOW, extra={"webhook": "CANARY-extra"}
    )
    for shown in (repr(secretive), str(secretive), f"{secretive}", "%s" % (secretive,), json.dumps([secretive], default=str)):  # noqa: UP031
        assert "CANARY" not in shown
    assert repr(secretive) == "<Token type=Bearer scope='a b' expires_at=1800000000 refreshable=True>"
    assert repr(token()) == "<Token type=Bearer scope='' expires_at=unknown refreshable=False>"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_sh4_a_token_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(token(), protocol)


def test_sh4_a_token_is_frozen() -> None:
    with pytest.raises(AttributeError):
        token().token_type = "DPoP"  # type: ignore[misc]
    assert not hasattr(token(), "__dict__")


# --- MD-4


@pytest.mark.parametrize(
    ("issued", "asked", "same"),
    [
        ((None, None), ("https://as.example/token", "https://as.example"), True),
        (("https://as.example/token", None), ("https://as.example/token", None), True),
        (("https://as.example/token", "https://as.example"), ("https://as.example/token", "https://as.example"), True),
        (("https://as.example/v1/token", "https://as.example"), ("https://as.example/v2/token", "https://as.example"), True),
        (("https://AS.example/token", None), ("https://as.example/v2/token", None), True),
        (("https://as.example/token", None), ("https://as.example/token", "https://as.example"), True),
        (("https://as.example/token", "https://as.example"), ("https://as.example/token", None), True),
        (("https://as.example/token", "https://as.example"), ("https://evil.example/token", "https://as.example"), False),
        (("https://as.example/token", "https://as.example"), ("https://as.example/token", "https://as.example/"), False),
        (("https://as.example/t1/token", "https://as.example/t1"), ("https://as.example/t2/token", "https://as.example/t2"), False),
        (("https://as.example/token", None), ("http://as.example/token", None), False),
        (("https://as.example/token", None), ("https://as.example:8443/token", None), False),
        (("https://as.example/token", None), ("https://as.example.evil/token", None), False),
        (("https://[broken", None), ("https://as.example/token", None), False),
        ((None, "https://as.example"), ("https://as.example/token", "https://evil.example"), False),
    ],
)
def test_md4_which_server_a_token_came_from(issued: tuple[str | None, str | None], asked: tuple[str, str | None], same: bool) -> None:
    stored = token(token_endpoint=issued[0], issuer=issued[1])
    assert was_issued_by(stored, token_endpoint=asked[0], issuer=asked[1]) is same


# --- The version


def test_a_version_names_the_token_and_tells_nothing_of_it() -> None:
    version = token(refresh_token=Secret("CANARY-refresh")).version
    assert len(version) == 32
    assert set(version) <= set("0123456789abcdef")
    assert "CANARY" not in version


def test_a_version_is_the_same_in_every_process() -> None:
    """Written down from another one: programs compare versions that came over the wire from other machines, and other releases."""
    assert token(refresh_token=Secret("CANARY-refresh")).version == "ab0397f9ec102fc07c60bf3ce0bdaf4a"


def test_a_version_follows_from_the_secrets_alone() -> None:
    """What is read back from a store, or was written by another library, is the same token."""
    original = token(refresh_token=Secret("CANARY-refresh"), scope=("a",), expires_at=NOW, subject="alice", extra={"x": 1})
    assert token_from_dict(token_to_dict(original)).version == original.version
    assert token_from_dict({"access_token": "CANARY-access", "refresh_token": "CANARY-refresh"}).version == original.version


def test_different_tokens_have_different_versions() -> None:
    """Also where only the refresh token is new, and where their texts run into each other."""
    texts: list[tuple[str, str | None]] = [
        ("CANARY-1", None),
        ("CANARY-2", None),
        ("CANARY-1", "CANARY-2"),
        ("CANARY-1", "CANARY-3"),
        ("CANARY-2", "CANARY-1"),
        ("CANARY-1CANARY", "-2"),
        ("CANARY-1CANARY-2", None),
        ("\ud800", None),
    ]
    versions = [Token(Secret(access), refresh_token=None if refresh is None else Secret(refresh)).version for access, refresh in texts]
    assert len(set(versions)) == len(texts)
