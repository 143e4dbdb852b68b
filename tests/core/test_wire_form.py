from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.core.wire import MAX_BODY, MAX_PAIRS, MAX_QUERY, encode_form, encode_query, parse_form, parse_query, read_pairs
from pauth.errors import ConfigurationError, MalformedResponse

SECRET = "CANARY-refresh-token-1"

Parser = Callable[[str], dict[str, str]]
PARSERS: list[Parser] = [parse_form, parse_query, lambda text: parse_form(text.encode("utf-8", "surrogatepass"))]


@pytest.mark.parametrize("parse", PARSERS)
def test_px4_pairs_are_decoded(parse: Parser) -> None:
    assert parse("access_token=a%2Bb+c&scope=&e=%C3%A9&f=g=h&flag") == {"access_token": "a+b c", "scope": "", "e": "é", "f": "g=h", "flag": ""}
    assert parse("") == {}
    assert parse("&a=1&&b=2&") == {"a": "1", "b": "2"}
    assert parse("a=1;b=2") == {"a": "1;b=2"}


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a=1&a=2", "twice"),
        ("a=1&%61=1", "twice"),
        ("a=%FF", "not valid UTF-8"),
        ("%C3=1", "not valid UTF-8"),
        ("a=%ED%A0%80", "not valid UTF-8"),
        ("a=\ud800", "not valid U"),
        ("\udfff=1", "not valid U"),
        ("&".join(f"a{n}=1" for n in range(MAX_PAIRS + 1)), "too many pairs"),
        ("&" * MAX_PAIRS, "too many pairs"),
    ],
)
def test_px4_hostile_forms_are_refused(parse: Parser, text: str, problem: str) -> None:
    with pytest.raises(MalformedResponse, match=problem) as caught:
        parse(text)
    assert caught.value.__context__ is None


def test_px4_sixty_four_pairs_are_accepted_and_a_million_refused() -> None:
    assert len(parse_form("&".join(f"a{n}=1" for n in range(MAX_PAIRS)))) == MAX_PAIRS
    with pytest.raises(MalformedResponse, match="too many pairs"):
        parse_form(b"a=1&" * (MAX_BODY // 4))
    with pytest.raises(MalformedResponse, match="too large"):
        parse_form(b"a=1&" * 1_000_000)


def test_px4_length_is_limited() -> None:
    assert parse_query("a=" + "x" * (MAX_QUERY - 2)) == {"a": "x" * (MAX_QUERY - 2)}
    with pytest.raises(MalformedResponse, match="too large"):
        parse_query("a=" + "x" * (MAX_QUERY - 1))
    with pytest.raises(MalformedResponse, match="too large"):
        parse_form("a=" + "x" * MAX_BODY)


def test_px4_decoded_pairs_obey_the_same_rules() -> None:
    assert read_pairs(iter([("a", "1"), ("b", "")])) == {"a": "1", "b": ""}
    for pairs, problem in [
        ([("a", "1"), ("a", "1")], "twice"),
        ([(f"a{n}", "") for n in range(MAX_PAIRS + 1)], "too many"),
        ([("a", "\ud800")], "not valid Unicode"),
        ([("\ud800", "a")], "not valid Unicode"),
        ([("a", "x" * MAX_BODY)], "too large"),
    ]:
        refused = read_pairs(pairs)
        assert isinstance(refused, str)
        assert problem in refused


@given(st.binary(max_size=200) | st.text(max_size=200) | st.text(alphabet="ab=&%C3A9+;\ud800", max_size=200))
def test_px4_nothing_but_malformed_response_escapes(text: bytes | str) -> None:
    parsers: list[Callable[[Any], dict[str, str]]] = [parse_form, parse_query]
    for parse in parsers:
        try:
            values = parse(text)
        except MalformedResponse as error:
            assert error.__context__ is None  # noqa: PT017
        else:
            for name, value in values.items():
                (name + value).encode("utf-8")


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=20), st.text(st.characters(codec="utf-8"), max_size=40), max_size=MAX_PAIRS))
def test_te2_what_is_encoded_is_read_back(values: dict[str, str]) -> None:
    pairs = list(values.items())
    body = encode_form(pairs)
    assert body.isascii()
    assert parse_form(body) == values
    assert parse_query(encode_query(pairs)) == values
    assert parse_qsl(body.decode(), keep_blank_values=True) == pairs


def test_te2_form_and_query_differ_only_in_the_space() -> None:
    assert encode_form([("a", "b c+d/~é"), ("a", "")]) == b"a=b+c%2Bd%2F~%C3%A9&a="
    assert encode_query([("a", "b c+d/~é"), ("a", "")]) == "a=b%20c%2Bd%2F~%C3%A9&a="


@pytest.mark.parametrize("encode", [encode_form, encode_query])
def test_sh9_what_cannot_be_encoded_is_a_configuration_error_without_the_value(encode: Callable[[list[tuple[str, str]]], object]) -> None:
    with pytest.raises(ConfigurationError, match="lone surrogate") as caught:
        encode([("client_secret", f"{SECRET}\udc80")])
    assert caught.value.__context__ is None


def test_sh5_a_refused_form_shows_nothing_of_itself() -> None:
    for text in (f"a={SECRET}&a={SECRET}", f"a={SECRET}%FF", f"{SECRET}={SECRET}\ud800"):
        for parse in PARSERS:
            with pytest.raises(MalformedResponse) as caught:
                parse(text)
            assert SECRET not in str(caught.value)
