"""Token dicts of Authlib and requests-oauthlib, as the two really give them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.importers import FoundToken, Problem, Tokens, from_authlib, from_requests_oauthlib
from tests.importers.kit import NOW, check_hostile, found, members, only, reason, said, vector


def test_every_dict_of_authlib_is_read() -> None:
    tokens = found(from_authlib(vector("authlib")["tokens"]))
    assert said(tokens["openid"]) == {
        "access_token": "CANARY-al-access-1",
        "token_type": "Bearer",
        "refresh_token": "CANARY-al-refresh-1",
        "id_token": vector("authlib")["tokens"]["openid"]["id_token"],
        "scope": "openid profile email",
        "scope_assumed": False,
        "issued_at": NOW,
        "expires_at": NOW + 3600,
    }
    assert said(tokens["no expiry, comma scopes"]) == {
        "access_token": "CANARY-al-access-2",
        "token_type": "Bearer",
        "scope": "repo user",
        "scope_assumed": False,
        "issued_at": 0.0,
    }
    rotating = tokens["refresh token expires"]
    assert (rotating.issued_at, rotating.expires_at, rotating.refresh_token_expires_at) == (NOW, NOW + 28_800, NOW + 15_897_600)
    assert rotating.scope == ()
    refreshed = tokens["refreshed, refresh token carried over"]
    assert refreshed.refresh_token is not None
    assert refreshed.refresh_token.reveal() == "CANARY-al-refresh-4"
    assert refreshed.access_token.reveal() == "CANARY-al-access-5"
    registry = tokens["registry with userinfo"]
    assert registry.subject == "CANARY-subject"
    assert tokens["openid"].subject is None


def test_every_dict_of_requests_oauthlib_is_read() -> None:
    tokens = found(from_requests_oauthlib(vector("requests-oauthlib")["tokens"]))
    assert {name: (token.scope, token.issued_at, token.expires_at) for name, token in tokens.items()} == {
        "scopes as a list": (("openid", "profile"), NOW, NOW + 3600),
        "no expiry": (("repo",), 0.0, None),
        "expires_in as text": ((), NOW, NOW + 7200),
        "refreshed": ((), NOW, NOW + 3600),
    }
    assert {token.token_type for token in tokens.values()} == {"Bearer"}
    assert [token.refresh_token.reveal() for token in tokens.values() if token.refresh_token is not None] == [
        "CANARY-ro-refresh-1",
        "CANARY-ro-refresh-3",
        "CANARY-ro-refresh-3",
    ]


@pytest.mark.parametrize("form", ["mapping", "pairs", "JSON", "bytes"])
def test_all_forms_of_a_source_say_the_same(form: str) -> None:
    tokens: dict[str, Any] = vector("authlib")["tokens"]
    forms: dict[str, Tokens] = {
        "mapping": tokens,
        "pairs": ((name, token) for name, token in tokens.items()),
        "JSON": {name: json.dumps(token) for name, token in tokens.items()},
        "bytes": [(name, json.dumps(token).encode()) for name, token in tokens.items()],
    }
    assert found(from_authlib(forms[form])) == found(from_authlib(tokens))


def test_ids_of_a_database_become_text() -> None:
    assert list(found(from_authlib([(9_007_199_254_740_993, {"access_token": "CANARY"})]))) == ["9007199254740993"]  # PX-6


def test_members_are_kept_that_are_asked_for() -> None:
    token = {"access_token": "CANARY", "instance_url": "https://eu1.example", "team": {"id": "T1"}, "nothing": None, "other": 1}
    kept = only(from_authlib({"alice": token}, keep=["instance_url", "team", "nothing", "absent"])).extra
    assert dict(kept) == {"instance_url": "https://eu1.example", "team": {"id": "T1"}}
    assert dict(only(from_requests_oauthlib({"alice": token}, keep=["other"])).extra) == {"other": 1}
    assert dict(only(from_authlib({"alice": token})).extra) == {}


@pytest.mark.parametrize("value", [object(), float("nan"), [10**5000], {"x": b"CANARY"}, {1, 2}], ids=["object", "nan", "huge", "bytes", "set"])
def test_a_member_to_keep_that_is_not_json_is_a_problem(value: object) -> None:
    assert reason(from_authlib({"alice": {"access_token": "CANARY", "team": value}}, keep=["team"])) == "one of the members to keep is not JSON"


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ({}, "neither an access token nor a refresh token"),
        ({"access_token": "", "refresh_token": ""}, "neither an access token nor a refresh token"),
        ({"access_token": None}, "neither an access token nor a refresh token"),
        ({"access_token": "CANARY with spaces"}, "access token is no text, or has characters"),
        ({"access_token": ["CANARY"]}, "access token is no text"),
        ({"access_token": "CANARY\n"}, "access token"),
        ({"access_token": "CANARY", "refresh_token": "CANARY\r\nX: y"}, "refresh token is no text, or has characters"),
        ({"access_token": "CANARY", "refresh_token": 7}, "refresh token is no text"),
        ({"access_token": "CANARY", "token_type": "mac"}, "neither Bearer nor DPoP"),
        ({"access_token": "CANARY", "token_type": 1}, "neither Bearer nor DPoP"),
        ("CANARY", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", "no JSON object"),
        (b"\xff\xfe\x00CANARY", "not JSON"),
        ('{"access_token": ' + "1" * 5000 + "}", "not JSON"),
        (["CANARY"], "no JSON object"),
        (None, "no JSON object"),
    ],
)
def test_what_cannot_be_used_is_a_problem_with_its_reason(token: Any, why: str) -> None:
    entries = list(from_authlib([("alice", token), ("bob", {"access_token": "CANARY-2"})]))
    problem, fine = entries
    assert isinstance(problem, Problem)
    assert isinstance(fine, FoundToken)
    assert why in problem.reason
    assert (problem.where, problem.user_id, fine.where, fine.user_id) == ("entry 1", "alice", "entry 2", "bob")
    assert "CANARY" not in f"{entries!r}"
    assert "alice" not in f"{entries!r}"


@pytest.mark.parametrize("whose", ["", None, True, 1.5, b"alice", "\ud800", "x" * 1025, 10**400, ("alice",)])
def test_nobody_is_a_problem(whose: Any) -> None:
    assert "user id" in reason(from_authlib([(whose, {"access_token": "CANARY"})]))


@pytest.mark.parametrize("item", ["CANARY-alice", ("alice",), ("alice", {}, {}), 7, None])
def test_what_is_no_pair_is_a_problem(item: Any) -> None:
    assert "no pair" in reason(from_authlib([item]))


@pytest.mark.parametrize("token", ["CANARY", b"CANARY", {"access_token": "CANARY"}, {"refresh_token": "CANARY"}])
def test_one_token_alone_is_nobodys(token: Any) -> None:
    assert "say whose it is" in reason(from_authlib(token))


def test_a_refresh_token_alone_is_refreshed_at_the_first_call() -> None:
    token = only(from_authlib({"alice": {"refresh_token": "CANARY-refresh", "expires_at": NOW + 3600}}))
    assert token.is_expired(1.0)  # in 1970 already
    assert token.access_token.reveal() == "imported-without-access-token"


@pytest.mark.parametrize("expires_at", [NOW, str(int(NOW)), f"{NOW:.1f}"])
def test_expiry_in_numbers_or_digits(expires_at: Any) -> None:
    assert only(from_authlib({"alice": {"access_token": "CANARY", "expires_at": expires_at}})).expires_at == NOW


@pytest.mark.parametrize(
    "expires_at", ["soon", "1e9", "-1", -1, True, float("nan"), float("inf"), 10**30, "٣", "1.2.3", ".", "", [NOW], "9" * 40, "2027-01-15"]
)
def test_an_expiry_that_is_none_is_unknown(expires_at: Any) -> None:
    token = only(from_authlib({"alice": {"access_token": "CANARY", "expires_at": expires_at, "expires_in": 3600}}))
    assert (token.expires_at, token.issued_at) == (None, 0.0)


def test_an_expiry_before_its_lifetime_is_issued_at_the_epoch() -> None:
    token = only(from_authlib({"alice": {"access_token": "CANARY", "expires_at": 60, "expires_in": 3600}}))
    assert (token.issued_at, token.expires_at) == (0.0, 60.0)


@pytest.mark.parametrize("name", ["refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"])
def test_the_lifetime_of_a_refresh_token_under_its_names(name: str) -> None:
    token: dict[str, Any] = {"access_token": "CANARY", "refresh_token": "CANARY-2", "expires_at": NOW, "expires_in": 60, name: 600}
    assert only(from_authlib({"alice": token})).refresh_token_expires_at == NOW - 60 + 600
    assert only(from_authlib({"alice": {**token, "refresh_token_expires_at": NOW + 1}})).refresh_token_expires_at == NOW + 1
    assert only(from_authlib({"alice": {**token, name: 0}})).refresh_token_expires_at is None
    del token["expires_in"]
    assert only(from_authlib({"alice": token})).refresh_token_expires_at is None  # since when is not known


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("a b", ("a", "b")),
        ("a,b", ("a", "b")),
        (" a,b ", ("a", "b")),
        ("a,b c", ("a,b", "c")),
        (["a b", 1, "c"], ("a", "b", "c")),
        (("a",), ("a",)),
        ({"a"}, ("a",)),
        (None, ()),
        (7, ()),
        ({"a": 1}, ()),
    ],
)
def test_scopes_in_text_and_lists(scope: Any, scopes: tuple[str, ...]) -> None:
    assert only(from_authlib({"alice": {"access_token": "CANARY", "scope": scope}})).scope == scopes


@pytest.mark.parametrize("userinfo", [None, "CANARY", [], {"sub": 7}, {"sub": ""}, {}])
def test_a_userinfo_without_a_subject_names_nobody(userinfo: Any) -> None:
    assert only(from_authlib({"alice": {"access_token": "CANARY", "userinfo": userinfo}})).subject is None


_TOKENS = members("access_token", "refresh_token", "token_type", "id_token", "expires_at", "expires_in", "scope", "userinfo", "refresh_expires_in")


@given(st.lists(st.tuples(st.text(max_size=3) | st.integers(), _TOKENS) | _TOKENS, max_size=4))
def test_hostile_dicts(tokens: list[Any]) -> None:
    assert len(check_hostile(from_authlib(tokens, keep=["scope", "more"]))) == len(tokens)
