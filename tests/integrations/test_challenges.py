from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.integrations._challenges import MAX_CHALLENGES, bearer_error


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        (['Bearer error="invalid_token"'], "invalid_token"),
        (['Bearer realm="api", error="invalid_token", error_description="expired, sorry"'], "invalid_token"),
        (["bEaReR realm=api,ERROR=invalid_token"], "invalid_token"),
        (['Bearer error = "invalid_token"'], "invalid_token"),
        (['DPoP algs="ES256", error="invalid_token"'], "invalid_token"),
        (['Basic realm="x", Bearer error="invalid_token"'], "invalid_token"),
        (['Basic realm="x"', 'Bearer error="invalid_token"'], "invalid_token"),
        (["Negotiate YWJj==", 'Bearer scope="a b", error="insufficient_scope"'], "insufficient_scope"),
        (['Negotiate YWJj, Bearer error="invalid_token"'], "invalid_token"),
        (['Bearer realm="first", Bearer error="invalid_token"'], "invalid_token"),
        ([',, Bearer , error="invalid_token"'], "invalid_token"),
        ([r'Bearer realm="a \"quoted\", error=\"no\"", error="invalid_token"'], "invalid_token"),
        ([r'Bearer error="invalid\_token"'], "invalid_token"),
        # no Bearer challenge says it
        ([], None),
        ([""], None),
        (["Bearer"], None),
        (['Bearer realm="api"'], None),
        (['error="invalid_token"'], None),
        (['Basic error="invalid_token"'], None),
        (['Basic realm="Bearer error=\\"invalid_token\\""'], None),
        (['Bearer realm="x", Basic error="invalid_token"'], None),
        (['Foo Bearer error="invalid_token"'], None),
        ([r'Bearer realm="a", error=\"no", error="invalid_token"'], None),
        (['Bearer error="invalid_token'], None),
        (["Bearer error="], None),
        (["Bearer error"], None),
        (["Bearer \x00 \udcff ="], None),
    ],
)
def test_what_is_said_of_the_token(headers: list[str], error: str | None) -> None:
    """RQ-5"""
    assert bearer_error(headers) == error


@pytest.mark.parametrize("piece", ["a", "a=", 'a="', '\\"', 'a="\\', "a ", " ", "=", ",", '"', "a,", 'Bearer error="'])
def test_a_long_header_is_not_read(piece: str) -> None:
    """RQ-5"""
    said = 'Bearer error="invalid_token", '
    room = MAX_CHALLENGES - len(said)
    assert bearer_error([piece * (1 << 20)]) is None
    assert bearer_error([said + "x" * (room + 1)]) is None
    assert bearer_error([said + (piece * room)[:room]]) == "invalid_token"
    assert bearer_error([(piece * room)[:room] + said]) in {None, "invalid_token", ""} or piece.startswith("Bearer")


@given(st.lists(st.text()))
def test_no_header_makes_it_raise(headers: list[str]) -> None:
    bearer_error(headers)


@given(
    st.lists(
        st.sampled_from(["Bearer", "Basic", " ", ",", "=", '"', "\\", "error", "invalid_token", 'error="invalid_token"', "realm=x"]), max_size=12
    )
)
def test_it_is_believed_only_of_a_bearer_challenge(pieces: list[str]) -> None:
    text = "".join(pieces)
    if bearer_error([text]) == "invalid_token":
        assert "Bearer" in text.partition("error")[0] or text.count("error") > 1
