"""What google-auth keeps of a user."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth import Providers
from pauth.core.token import was_issued_by
from pauth.importers import from_google_auth
from tests.importers.kit import NOW, check_hostile, found, members, only, reason, said, vector

CREDENTIALS: dict[str, Any] = vector("google-auth")["credentials"]
WHOLE: dict[str, Any] = CREDENTIALS["to_json"]


def test_every_form_of_google_auth_is_read() -> None:
    tokens = found(from_google_auth(CREDENTIALS, client_id="client-1"))
    assert said(tokens["to_json"]) == {
        "access_token": "CANARY-ga-access-1",
        "token_type": "Bearer",
        "refresh_token": "CANARY-ga-refresh-1",
        "scope": "openid https://www.googleapis.com/auth/userinfo.email",
        "scope_assumed": True,
        "issued_at": 0.0,
        "expires_at": NOW + 3599,
        "token_endpoint": "https://oauth2.googleapis.com/token",
    }
    assert tokens["read and written again"] == tokens["to_json"]
    old = tokens["an old token_uri, microseconds"]
    assert old.expires_at == datetime(2027, 1, 15, 8, 0, 0, 123456, tzinfo=UTC).timestamp()
    for name in ("stripped of the access token", "application default credentials"):
        assert tokens[name].is_expired(1.0)
        assert tokens[name].refresh_token is not None


def test_every_one_of_them_is_of_the_preset() -> None:
    metadata = Providers.GOOGLE.metadata
    assert not isinstance(metadata, str)
    assert metadata.token_endpoint is not None
    for token in found(from_google_auth(CREDENTIALS)).values():
        assert was_issued_by(token, token_endpoint=metadata.token_endpoint, issuer=metadata.issuer)


def test_scopes_that_were_only_asked_for_are_not_taken_for_granted() -> None:  # TE-9
    assert not only(from_google_auth({"alice": WHOLE})).has_scope("openid")


def test_the_refresh_token_of_another_endpoint_is_not_for_google() -> None:  # MD-4
    token = only(from_google_auth({"alice": {**WHOLE, "token_uri": "https://sts.example/token"}}))
    assert not was_issued_by(token, token_endpoint="https://oauth2.googleapis.com/token", issuer=None)


@pytest.mark.parametrize("token_uri", [None, "", "https://www.googleapis.com/oauth2/v4/token", "https://accounts.google.com/o/oauth2/token"])
def test_addresses_that_google_has_left(token_uri: str | None) -> None:
    assert only(from_google_auth({"alice": {**WHOLE, "token_uri": token_uri}})).token_endpoint == "https://oauth2.googleapis.com/token"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "no https URL"),
        ({"token_uri": "https://"}, "no https URL"),
        ({"token_uri": "https://[CANARY"}, "no https URL"),
        ({"token_uri": 7}, "no https URL"),
        ({"type": "service_account"}, "service account"),
        ({"type": None}, "service account"),
        ({"client_id": "client-2"}, "another client_id"),
        ({"client_id": None}, "another client_id"),
        ({"token": None, "refresh_token": None}, "neither"),
        ({"token": "CANARY token"}, "access token"),
    ],
)
def test_what_cannot_be_used_is_a_problem_with_its_reason(changes: dict[str, Any], why: str) -> None:
    assert why in reason(from_google_auth({"alice": {**WHOLE, **changes}}, client_id="client-1"))


@pytest.mark.parametrize(
    ("expiry", "expires_at"),
    [
        ("2027-01-15T08:59:59", NOW + 3599),
        ("2027-01-15T09:59:59+01:00", NOW + 3599),
        (datetime(2027, 1, 15, 8, 59, 59, tzinfo=UTC), NOW + 3599),
        ("0001-01-01T00:00:00+14:00", None),
        ("1969-12-31T23:59:59Z", None),
        ("CANARY", None),
        (1_800_000_000, None),
        (None, None),
    ],
)
def test_expiry(expiry: object, expires_at: float | None) -> None:
    assert only(from_google_auth({"alice": {**WHOLE, "expiry": expiry}})).expires_at == expires_at


@given(st.dictionaries(st.text(max_size=3), members(*WHOLE, "type", "id_token"), max_size=3))
def test_hostile_credentials(credentials: dict[str, Any]) -> None:
    assert len(check_hostile(from_google_auth(credentials))) == len(credentials)
