"""NA-9: what others wrote, on a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pauth.core.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 'quoted' \\ \"so\"", "plain text, 'quoted' \\ \"so\""),
        ("Zoë, Ωmega, 東京, עברית", "Zoë, Ωmega, 東京, עברית"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;ZXZpbA==", ""),
        ("\x9d0;title\x9cafter", "after"),
        ("\x1bP1$r\x1b\\x", "x"),
        ("\x1b(0box\x1bc", "box"),
        ("\x1b", ""),
        ("bell\x07 back\x08space null\x00", "bell backspace null"),
        ("one\r\ntwo\nthree\tfour", "one two three four"),
        ("over\rwritten", "over written"),
        ("abc\u202ecba\u2066x\u2069", "abccbax"),
        ("zero\u200bwidth\u200d\ufeff", "zerowidth"),
        ("tag\U000e0041", "tag"),
        ("line\u2028para\u2029", "linepara"),
        ("lone\ud800", "lone"),
        ("", ""),
    ],
)
def test_na9_nothing_is_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(codec=None), max_size=50))
def test_na9_no_control_of_any_kind_is_left(text: str) -> None:
    shown = printable(text)
    assert {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"} == set()
    assert printable(shown) == shown
