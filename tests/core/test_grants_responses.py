"""Good answers of the token endpoint, and answers that are not good enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pauth.core.quirks import Quirks
from pauth.core.token import MAX_TOKEN, Token
from pauth.errors import MalformedResponse, PAuthError
from pauth.secret import Secret
from tests.core.grant_samples import GOOD, ISSUER, NOW, OLD, REQUESTED_AT, TOKEN_ENDPOINT, answer, read
from tests.support.canary import leaks_in_error


def refused(response: Any, match: str, **arguments: Any) -> MalformedResponse:
    with pytest.raises(MalformedResponse, match=match) as caught:
        read(response, **arguments)
    assert list(leaks_in_error(caught.value)) == []
    return caught.value


def test_a_whole_answer() -> None:
    body = {**GOOD, "refresh_token": "CANARY-r", "id_token": "CANARY-i", "scope": "a c", "refresh_token_expires_in": 7200, "unknown": "CANARY-x"}
    assert read(answer(body), requested_scope=("a", "b")) == Token(
        access_token=Secret("CANARY-new-access"),
        token_type="Bearer",
        refresh_token=Secret("CANARY-r"),
        id_token=Secret("CANARY-i"),
        scope=("a", "c"),
        scope_assumed=False,
        issued_at=REQUESTED_AT,
        expires_at=REQUESTED_AT + 3600,
        refresh_token_expires_at=REQUESTED_AT + 7200,
        issuer=ISSUER,
        token_endpoint=TOKEN_ENDPOINT,
    )


def test_te11_expiry_counts_from_the_request_not_from_the_answer() -> None:
    token = read(answer({**GOOD, "expires_in": 3600}), now=NOW + 1000)
    assert token.issued_at == REQUESTED_AT
    assert token.expires_at == REQUESTED_AT + 3600


def test_te12_unknown_members_are_ignored() -> None:
    token = read(answer({**GOOD, "webhook": {"token": "CANARY-webhook"}}))
    assert token.extra == {}
    assert "CANARY" not in repr(token)


def test_quirk_kept_members() -> None:
    quirks = Quirks(kept_members=(("team",), ("user", "id"), ("missing", "x"), ("null",)))
    token = read(answer({**GOOD, "team": {"id": "T1"}, "user": {"id": "U1", "token": "CANARY-user"}, "missing": "text", "null": None}), quirks=quirks)
    assert token.extra == {"team": {"id": "T1"}, "user.id": "U1"}
    refreshed = read(answer({**GOOD, "team": {"id": "T2"}}), quirks=quirks, previous=token)
    assert refreshed.extra == {"team": {"id": "T2"}, "user.id": "U1"}


# --- TE-4


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"])
def test_te4_json_types(content_type: str) -> None:
    assert read(answer(GOOD, content_type=content_type)).access_token == Secret("CANARY-new-access")


@pytest.mark.parametrize("content_type", ["text/html", "text/plain", "text/json", "", "application/x-www-form-urlencoded"])
def test_te4_another_type_is_refused_whatever_it_holds(content_type: str) -> None:
    assert refused(answer(GOOD, content_type=content_type), "content type is not JSON").status == 200


def test_te4_forms_only_where_the_record_says_so() -> None:
    form = answer("access_token=CANARY-a&token_type=bearer&expires_in=60", content_type="application/x-www-form-urlencoded")
    token = read(form, quirks=Quirks(form_responses=True))
    assert (token.access_token, token.expires_at) == (Secret("CANARY-a"), REQUESTED_AT + 60)
    refused(
        answer("access_token=CANARY-a&access_token=CANARY-b", content_type="application/x-www-form-urlencoded"),
        "twice",
        quirks=Quirks(form_responses=True),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"CANARY"',
        b'{"access_token": "CANARY-a", "access_token": "CANARY-b", "token_type": "Bearer"}',
        b'{"access_token": "CANARY-\\ud800", "token_type": "Bearer"}',
        b'\xef\xbb\xbf{"access_token": "CANARY-a", "token_type": "Bearer"}',
        b'{"access_token": "CANARY-a", "token_type": "Bearer", "expires_in": NaN}',
    ],
)
def test_px_a_body_that_is_not_strict_json(body: bytes) -> None:
    refused(answer(body), "cannot be read")


# --- TE-6


@pytest.mark.parametrize(
    "value", [None, "", 42, True, ["CANARY"], {"CANARY": 1}, "CANARY a", "CANARY\r\nX-Injected: y", "CANARY\0", "CANARYé", "x" * (MAX_TOKEN + 1)]
)
def test_te6_rq6_an_access_token_that_is_none(value: object) -> None:
    refused(answer({**GOOD, "access_token": value}), "no access_token")


def test_te6_no_access_token() -> None:
    refused(answer({"token_type": "Bearer"}), "no access_token")
    refused(answer({}), "no access_token")


@pytest.mark.parametrize(("value", "usual"), [("bearer", "Bearer"), ("BEARER", "Bearer"), ("dpop", "DPoP")])
def test_te6_token_type_in_any_case(value: str, usual: str) -> None:
    assert read(answer({**GOOD, "token_type": value})).token_type == usual


@pytest.mark.parametrize("value", ["mac", "N_A", "", 42, ["Bearer"], {"Bearer": 1}])
def test_te6_an_unknown_token_type_is_unusable(value: object) -> None:
    refused(answer({**GOOD, "token_type": value}), "token_type")
    refused(answer({**GOOD, "token_type": value}), "token_type", previous=OLD)
    refused(answer({**GOOD, "token_type": value}), "token_type", quirks=Quirks(default_token_type="Bearer"))


def test_te6_a_missing_token_type() -> None:
    missing = answer({"access_token": "CANARY-a"})
    refused(missing, "token_type")
    assert read(missing, quirks=Quirks(default_token_type="Bearer")).token_type == "Bearer"


def test_te6_p4_a_refresh_that_omits_the_type_has_not_changed_it() -> None:
    token = read(answer({"access_token": "CANARY-a", "refresh_token": "CANARY-r"}), previous=replace(OLD, token_type="DPoP"))
    assert (token.token_type, token.refresh_token) == ("DPoP", Secret("CANARY-r"))


def test_quirk_token_type_aliases_tell_tokens_apart() -> None:
    quirks = Quirks(token_type_aliases=("bot",))
    assert read(answer({**GOOD, "token_type": "bot"}), quirks=quirks).token_type == "Bearer"
    refused(answer({**GOOD, "token_type": "user"}), "token_type", quirks=quirks)


def test_quirk_token_paths_are_tried_in_order() -> None:
    quirks = Quirks(token_paths=(("inner", "token"), ()))
    both = {**GOOD, "inner": {"token": {**GOOD, "access_token": "CANARY-inner", "scope": "in"}}, "scope": "out"}
    token = read(answer(both), quirks=quirks)
    assert (token.access_token, token.scope) == (Secret("CANARY-inner"), ("in",))
    assert read(answer({**GOOD, "inner": {"token": "CANARY-text"}}), quirks=quirks).access_token == Secret("CANARY-new-access")
    refused(answer({"inner": {}}), "no access_token", quirks=quirks)


# --- TE-9


@pytest.mark.parametrize(
    ("value", "granted"),
    [
        ("a", ("a",)),
        ("b a", ("b", "a")),
        ("a c", ("a", "c")),
        ("", ()),
        ("  a  ", ("a",)),
        ("a,b", ("a,b",)),
        (["a", "b c"], ("a", "b", "c")),
        ([], ()),
    ],
)
def test_te9_scopes_are_kept_as_granted(value: object, granted: tuple[str, ...]) -> None:
    for previous in (None, OLD):
        token = read(answer({**GOOD, "scope": value}), requested_scope=("a", "b"), previous=previous)
        assert (token.scope, token.scope_assumed) == (granted, False)
        assert token.has_scope(*granted)
        assert not token.has_scope("never granted")


@pytest.mark.parametrize("body", [{}, {"scope": None}, {"scope": 5}, {"scope": ["a", 5]}, {"scope": {"a": 1}}])
def test_te9_scopes_that_are_not_named_are_assumed_and_never_counted_on(body: dict[str, Any]) -> None:
    token = read(answer({**GOOD, **body}), requested_scope=("a", "b"))
    assert (token.scope, token.scope_assumed) == (("a", "b"), True)
    assert not token.has_scope("a")


def test_te9_comma_scopes_where_the_record_says_so() -> None:
    token = read(answer({**GOOD, "scope": "a,b, c d"}), quirks=Quirks(response_scope_separators=" ,"))
    assert token.scope == ("a", "b", "c", "d")


def test_te9_a_refresh_without_scope_keeps_what_was_granted() -> None:
    token = read(answer(GOOD), previous=OLD)
    assert (token.scope, token.scope_assumed) == (("a", "b"), False)
    token = read(answer(GOOD), previous=replace(OLD, scope_assumed=True))
    assert (token.scope, token.scope_assumed) == (("a", "b"), True)
    token = read(answer(GOOD), previous=OLD, requested_scope=("a",))
    assert (token.scope, token.scope_assumed) == (("a",), True)


# --- TE-10


@pytest.mark.parametrize("value", [None, "", "soon", -1, 1.5, True, "３６００", 10**15, {"s": 1}])
def test_te10_an_odd_lifetime_is_unknown_and_no_error(value: object) -> None:
    assert read(answer({**GOOD, "expires_in": value})).expires_at is None


def test_te10_a_missing_lifetime_is_unknown() -> None:
    assert read(answer({"access_token": "CANARY-a", "token_type": "Bearer"})).expires_at is None


def test_te10_zero() -> None:
    assert read(answer({**GOOD, "expires_in": 0})).expires_at == REQUESTED_AT
    assert read(answer({**GOOD, "expires_in": 0}), quirks=Quirks(zero_lifetime_is_forever=True)).expires_at is None


# --- TE-13


def test_te13_a_refresh_without_refresh_token_keeps_the_old_one_and_what_belongs_to_it() -> None:
    token = read(answer(GOOD), previous=OLD)
    assert token.refresh_token == OLD.refresh_token
    assert token.refresh_token_expires_at == OLD.refresh_token_expires_at
    assert token.id_token == OLD.id_token
    assert token.subject == "alice"
    assert token.extra == {"kept": 1}
    assert (token.issued_at, token.expires_at) == (REQUESTED_AT, REQUESTED_AT + 3600)


def test_te13_a_new_refresh_token_replaces_the_old_one() -> None:
    token = read(answer({**GOOD, "refresh_token": "CANARY-r", "id_token": "CANARY-i"}), previous=OLD)
    assert (token.refresh_token, token.id_token) == (Secret("CANARY-r"), Secret("CANARY-i"))
    assert token.refresh_token_expires_at is None  # the old one's expiry says nothing about it


def test_te13_the_same_refresh_token_again_keeps_its_expiry() -> None:
    token = read(answer({**GOOD, "refresh_token": "CANARY-old-refresh"}), previous=OLD)
    assert (token.refresh_token, token.refresh_token_expires_at) == (OLD.refresh_token, OLD.refresh_token_expires_at)


@pytest.mark.parametrize("body", [{}, {"refresh_token": "CANARY-r"}])
def test_te13_a_stated_refresh_lifetime_counts(body: dict[str, str]) -> None:
    token = read(answer({**GOOD, **body, "refresh_token_expires_in": 60}), previous=OLD)
    assert token.refresh_token_expires_at == REQUESTED_AT + 60


def test_te13_a_refresh_lifetime_under_another_name_or_without_sense() -> None:
    quirks = Quirks(refresh_lifetime_members=("odd", "refresh_expires_in"))
    assert read(answer({**GOOD, "odd": "x", "refresh_expires_in": "60"}), quirks=quirks).refresh_token_expires_at == REQUESTED_AT + 60
    assert read(answer({**GOOD, "refresh_token_expires_in": 60}), quirks=quirks).refresh_token_expires_at is None


@pytest.mark.parametrize("value", [None, "", 42, True, ["CANARY"], "CANARY r", "CANARY\n"])
def test_te13_a_refresh_token_that_is_none_counts_as_missing(value: object) -> None:
    assert read(answer({**GOOD, "refresh_token": value}), previous=OLD).refresh_token == OLD.refresh_token
    assert read(answer({**GOOD, "refresh_token": value})).refresh_token is None


@pytest.mark.parametrize("value", [None, "", 42, {"sub": "alice"}, "CANARY i"])
def test_te13_an_id_token_that_is_none_counts_as_missing(value: object) -> None:
    assert read(answer({**GOOD, "id_token": value}), previous=OLD).id_token == OLD.id_token
    assert read(answer({**GOOD, "id_token": value})).id_token is None


# --- everything at once

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["access_token", "token_type", "expires_in", "refresh_token", "id_token", "scope", "refresh_token_expires_in", "error", "x"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(st.dictionaries(NAMES, JSON), st.sampled_from([200, 201, 204, 302, 400, 401, 429, 500]), st.booleans())
def test_px_any_answer_is_a_token_or_an_error_of_ours(body: dict[str, Any], status: int, refreshing: bool) -> None:
    try:
        token = read(answer({**GOOD, **body}, status), previous=OLD if refreshing else None)
    except PAuthError:
        return
    assert token.access_token
